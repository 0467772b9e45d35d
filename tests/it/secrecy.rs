//! Where a token is while the client's commands run: in no command line, in no
//! environment but that of the command it's for, in no file but the one that
//! was asked for, in no record; and no core would hold it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use crate::node::{ALICE, Daemon, generate_key, records, until};

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("HS256", "secrecy.key");
    Daemon::start("secrecy", "HS256", &key)
});

fn command(args: &[&str]) -> Command {
    let mut command = ALICE.runs("slurm-token");
    command
        .args(args)
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    command
}

/// What everybody's processes show, to root, at one moment.
struct Snapshot {
    /// By process: its arguments, its environment, and the regular files that
    /// it has open.
    processes: HashMap<u32, [Vec<u8>; 3]>,
}

impl Snapshot {
    fn take() -> Self {
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str()?.parse::<u32>().ok()
        });
        let processes = pids.map(|pid| {
            let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            (pid, [read("cmdline"), read("environ"), open_files(pid)])
        });
        Self {
            processes: processes.collect(),
        }
    }

    /// Which processes show the token, and in what.
    fn shows(&self, token: &str) -> Vec<(u32, &'static str)> {
        let (_, signature) = token.rsplit_once('.').unwrap();
        let holds = |bytes: &[u8]| {
            let mut windows = bytes.windows(signature.len());
            windows.any(|window| window == signature.as_bytes())
        };
        let mut shown: Vec<_> = self
            .processes
            .iter()
            .flat_map(|(pid, all)| {
                let names = ["arguments", "environment", "files"].into_iter();
                let showing = names.zip(all).filter(|(_, bytes)| holds(bytes));
                showing.map(|(name, _)| (*pid, name))
            })
            .collect();
        shown.sort_unstable();
        shown
    }
}

/// What is in the regular files that a process has open, programs left out.
fn open_files(pid: u32) -> Vec<u8> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let files = descriptors.filter_map(|entry| {
        let path = entry.ok()?.path();
        let seen = path.metadata().ok()?;
        (seen.is_file() && seen.len() < 1 << 20).then(|| fs::read(path).ok())?
    });
    files.flatten().collect()
}

/// Is a crash of the process without a trace: its memory is root's to open,
/// or a core of it would have no room.
fn leaves_no_core(pid: u32) -> bool {
    let memory = fs::metadata(format!("/proc/{pid}/mem")).unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let soft = limit.unwrap().split_whitespace().nth(4).unwrap();
    memory.uid() == 0 || ["0", "1"].contains(&soft)
}

/// A pipe that takes no byte more until it's read.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut filling = File::from(writer.try_clone().unwrap());
    // A pipe has room for 64 KiB, as long as nobody says otherwise.
    filling.write_all(&vec![b'.'; 65_536]).unwrap();
    (reader, writer)
}

/// Waits until the process waits for its reader.
fn writes(child: &Child) {
    let wchan = format!("/proc/{}/syscall", child.id());
    // write(2) to standard output.
    until("the write", || {
        fs::read_to_string(&wchan).is_ok_and(|call| call.starts_with("1 0x1 "))
    });
}

/// Looks around while a command is about to print, and yields what it prints.
fn while_printing(args: &[&str], input: &str) -> (Snapshot, String, bool) {
    let (reader, writer) = full_pipe();
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(writer)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    writes(&child);
    let snapshot = Snapshot::take();
    let quiet = leaves_no_core(child.id());
    let mut printed = String::new();
    File::from(reader).read_to_string(&mut printed).unwrap();
    assert!(child.wait().unwrap().success());
    let printed = printed.trim_start_matches('.').trim_end().to_owned();
    (snapshot, printed, quiet)
}

#[test]
fn while_a_token_is_printed_nothing_else_shows_it() {
    let (snapshot, token, quiet) = while_printing(&["--format=raw"], "");
    assert_eq!(snapshot.shows(&token), []);
    assert!(quiet);
}

#[test]
fn while_a_token_is_looked_into_nothing_shows_it() {
    let token = DAEMON.client(&ALICE, &["--format=raw"]);
    for args in [&["inspect", "-"][..], &["verify", "-"], &["refresh", "-"]] {
        let (snapshot, _, quiet) = while_printing(args, &token);
        assert_eq!(snapshot.shows(&token), [], "{args:?}");
        assert!(quiet, "{args:?}");
    }
}

#[test]
fn while_a_command_runs_its_environment_alone_shows_the_token() {
    let mut child = command(&["run", "sh", "-c", "echo $SLURM_JWT; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut token = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut token).unwrap();
    let snapshot = Snapshot::take();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        snapshot.shows(token.trim_end()),
        [(child.id(), "environment")]
    );
}

#[test]
fn while_a_file_is_kept_nothing_else_shows_the_token() {
    let file = Path::new("/var/home/alice/secrecy-kept");
    let mut child = command(&["keep", "--exec", "exec sleep 1000", "--file"])
        .arg(file)
        .spawn()
        .unwrap();
    let sleeps = || {
        Snapshot::take()
            .processes
            .values()
            .find(|[arguments, environment, _]| {
                let environment = String::from_utf8_lossy(environment);
                arguments == b"sleep\x001000\0" && environment.contains("secrecy-kept")
            })
            .is_some()
    };
    until("the command", sleeps);
    let snapshot = Snapshot::take();
    let quiet = leaves_no_core(child.id());
    let token = fs::read_to_string(file).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(snapshot.shows(token.trim_end()), []);
    assert!(quiet);
}

#[test]
fn while_curl_waits_for_an_answer_nothing_shows_the_token() {
    for verbose in [&[][..], &["-v"], &["--trace", "%"]] {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", server.local_addr().unwrap());
        let mut child = command(&[&["curl", "-sS"][..], verbose, &[&url]].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (connection, _) = server.accept().unwrap();
        let mut reader = BufReader::new(connection);
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            reader.read_line(&mut request).unwrap();
        }
        let snapshot = Snapshot::take();
        let curl = snapshot.processes.iter().filter(|(_, [arguments, ..])| {
            arguments.starts_with(b"curl\0") && String::from_utf8_lossy(arguments).contains(&url)
        });
        let curl: Vec<u32> = curl.map(|(pid, _)| *pid).collect();
        let quiet = leaves_no_core(curl[0]) && leaves_no_core(child.id());
        drop(reader);
        child.wait().unwrap();
        let line = request
            .lines()
            .find(|line| line.starts_with("X-SLURM-USER-TOKEN: "));
        let (_, token) = line.unwrap().split_once(": ").unwrap();
        assert_eq!(curl.len(), 1, "{verbose:?}");
        assert_eq!(snapshot.shows(token), [], "{verbose:?}");
        assert!(quiet, "{verbose:?}");
    }
}

#[test]
fn a_token_on_a_command_line_would_be_seen() {
    let token = DAEMON.client(&ALICE, &["--format=raw"]);
    let mut child = ALICE.runs("sleep");
    let mut child = child.args(["1000"]).env("LEAK", &token).spawn().unwrap();
    until("the program", || {
        Snapshot::take().shows(&token) == [(child.id(), "environment")]
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_stays_behind_is_only_what_was_asked_for() {
    let home = Path::new("/var/home/alice/secrecy-home");
    fs::create_dir(home).unwrap();
    std::os::unix::fs::chown(home, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    let file = home.join("kept");
    let mut tokens = vec![DAEMON.client(&ALICE, &["--format=raw"])];
    for args in [
        &["run", "true"][..],
        &["keep", "--once", "--file", file.to_str().unwrap()],
        &["curl", "-sv", "http://127.0.0.1:1/"],
    ] {
        let mut command = command(args);
        command
            .env("HOME", home)
            .current_dir(home)
            .output()
            .unwrap();
    }
    tokens.push(fs::read_to_string(&file).unwrap().trim_end().to_owned());
    let left: Vec<PathBuf> = fs::read_dir(home)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(left, [file]);
    for record in records(&DAEMON) {
        assert!(!record.contains("eyJ"), "{record}");
        for token in &tokens {
            let (_, signature) = token.rsplit_once('.').unwrap();
            assert!(!record.contains(signature), "{record}");
        }
    }
    assert!(!DAEMON.journal().contains("eyJ"));
}
