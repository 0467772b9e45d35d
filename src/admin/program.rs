//! Other programs: curl and Slurm's own, which may wait for somebody far away.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::report::Problem;

/// How long Slurm may take for one answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The most of an answer that is read, in bytes: slurmrestd describes itself
/// in half a megabyte.
const MOST: u64 = 16 * 1024 * 1024;

/// What came of it.
pub(super) struct Finished {
    pub(super) success: bool,
    pub(super) stdout: Vec<u8>,
    /// What it said on standard error.
    pub(super) words: String,
}

/// Runs a program to its end, for no longer than [`PATIENCE`] and a moment.
pub(super) fn run(mut command: Command, input: Option<&str>) -> Result<Finished, Problem> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |e: std::io::Error| {
        Problem::new(
            program.clone(),
            format!("this command can't be run: {e}"),
            "install it (curl for slurmrestd, Slurm's commands for slurm.conf)",
        )
    };
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let stdout = reader(child.stdout.take());
    let words = reader(child.stderr.take());
    let success = wait(&mut child).map_err(failed)?;
    let words = words.join().unwrap_or_default();
    Ok(Finished {
        success,
        stdout: stdout.join().unwrap_or_default(),
        words: String::from_utf8_lossy(&words).into_owned(),
    })
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What can't be read is missing in the words; the status decides.
            let _ = pipe.take(MOST).read_to_end(&mut bytes);
        }
        bytes
    })
}

fn wait(child: &mut Child) -> std::io::Result<bool> {
    let until = Instant::now() + PATIENCE + Duration::from_secs(5);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() >= until {
            child.kill()?;
            return Ok(child.wait()?.success());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
