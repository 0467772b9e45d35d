//! Gets a token for its user.

fn main() -> std::process::ExitCode {
    slurm_tokend::client::main()
}
