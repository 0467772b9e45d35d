//! Serves tokens on a Unix socket.

fn main() -> std::process::ExitCode {
    slurm_tokend::daemon::main()
}
