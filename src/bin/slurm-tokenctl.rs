//! Makes, publishes and checks keys.

fn main() -> std::process::ExitCode {
    slurm_tokend::admin::main()
}
