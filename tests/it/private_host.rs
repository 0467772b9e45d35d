//! The private host, which the tests run on, leaves nothing on the machine.
//! Here the machine is a private host too: they nest.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PRIVATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/private");

fn private(script: &str) -> Command {
    let mut command = Command::new(PRIVATE);
    command.args(["sh", "-c", script]).stdin(Stdio::null());
    command
}

#[test]
fn what_is_written_on_the_private_host_is_not_kept() {
    let files = [
        "/etc/kept",
        "/etc/slurm/kept",
        "/usr/kept",
        "/var/kept",
        "/tmp/kept",
    ];
    let files = [&files[..], &["/run/kept", "/dev/kept", "/dev/shm/kept"]].concat();
    let status = private(&format!("touch {}", files.join(" ")))
        .status()
        .unwrap();
    assert!(status.success());
    for file in files {
        assert!(!Path::new(file).exists(), "{file} is still there");
    }
}

#[test]
fn what_runs_on_the_private_host_ends_with_its_command() {
    let status = private("setsid sleep 4711 & setsid sleep 4712 & exit 0")
        .status()
        .unwrap();
    assert!(status.success());
    assert!(!runs("4711") && !runs("4712"));
}

#[test]
fn what_runs_on_the_private_host_ends_when_it_is_killed() {
    let mut host = private("setsid sleep 4713 & wait").spawn().unwrap();
    until(|| runs("4713"));
    host.kill().unwrap();
    host.wait().unwrap();
    until(|| !runs("4713"));
}

#[test]
fn the_private_host_passes_the_exit_status_through() {
    assert_eq!(private("exit 77").status().unwrap().code(), Some(77));
}

/// Is there a process whose last argument is this.
fn runs(argument: &str) -> bool {
    let end = format!("\0{argument}\0");
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .any(|process| {
            fs::read(process.path().join("cmdline"))
                .is_ok_and(|line| line.ends_with(end.as_bytes()))
        })
}

fn until(reached: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !reached() {
        assert!(Instant::now() < deadline, "waited too long");
        thread::sleep(Duration::from_millis(20));
    }
}
