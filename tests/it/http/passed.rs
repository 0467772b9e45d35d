//! The sockets that systemd passes: the main one, and one named `http`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Guest, door_of, get};
use crate::node::{ALICE, Daemon, ended, generate_key, install, stop, until};
use crate::peer::{Peer, code};

const ISSUE: &str = "{\"v\":1,\"op\":\"issue\"}\n";

/// The daemon of a name, with sockets that are passed to it by these names.
struct Passed {
    child: Child,
    log: PathBuf,
}

impl Passed {
    fn start(name: &str, tables: &str, sockets: &[(&str, PathBuf)]) -> Self {
        install();
        let key = generate_key("HS256", &format!("{name}.key"));
        Daemon::configure(name, "HS256", &key, "", tables);
        let log = PathBuf::from(format!("/tmp/{name}.log"));
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        let set = Daemon::configuration_of(name).display().to_string();
        let mut activate = Command::new("systemd-socket-activate");
        for (_, path) in sockets {
            activate.arg(format!("--listen={}", path.display()));
        }
        let child = activate
            .arg(format!("--fdname={}", names.join(":")))
            .arg(format!("--setenv=SLURM_TOKEND_CONF={set}"))
            .arg("/usr/sbin/slurm-tokend")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        for (_, path) in sockets {
            until("the socket to be made", || path.exists());
            // As the socket unit's SocketMode= does.
            fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
        }
        // Somebody comes, and the daemon is started.
        UnixStream::connect(&sockets[0].1).unwrap();
        Self { child, log }
    }

    fn journal(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

#[test]
fn the_two_sockets_are_told_apart_by_their_names_in_any_order() {
    for (name, http_first) in [("http-passed", false), ("http-passed-first", true)] {
        let main = ("slurm-tokend.socket", Daemon::socket_of(name));
        let http = ("http", door_of(name));
        let sockets = if http_first {
            [http, main]
        } else {
            [main, http]
        };
        // No [http]: the socket alone opens the door.
        let passed = Passed::start(name, "", &sockets);
        let mut alice = Peer::of(ALICE.uid, &Daemon::socket_of(name)).unwrap();
        alice.say(ISSUE);
        assert_eq!(code(&alice.hear().unwrap()), "ok");
        get(name, ALICE.uid, "POST /authenticate").token();
        drop(passed);
        // They are systemd's: whoever comes now waits for the next daemon.
        assert!(door_of(name).exists() && Daemon::socket_of(name).exists());
    }
}

#[test]
fn a_door_that_is_configured_stays_shut_where_only_the_main_socket_is_passed() {
    const NAME: &str = "http-not-passed";
    let door = door_of(NAME);
    let tables = format!("[http]\nsocket = \"{}\"", door.display());
    let main = ("slurm-tokend.socket", Daemon::socket_of(NAME));
    let passed = Passed::start(NAME, &tables, &[main]);
    until("the daemon to be ready", || {
        passed.journal().contains("ready: ")
    });
    let told = passed.journal();
    assert!(
        told.contains("systemctl enable slurm-tokend-http.socket"),
        "{told}"
    );
    assert!(!door.exists());
}

#[test]
fn the_sockets_that_a_daemon_cannot_serve_by_are_told() {
    for (name, names, says) in [
        (
            "http-alone",
            vec!["http"],
            "passed the socket of the HTTP door alone",
        ),
        (
            "http-twice",
            vec!["http", "http"],
            "is not one listening Unix stream socket: 2 sockets",
        ),
        (
            "http-two-main",
            vec!["a", "b"],
            "is not one listening Unix stream socket: 2 sockets",
        ),
    ] {
        let at = |n: usize| Daemon::socket_of(name).with_file_name(format!("{n}.sock"));
        let sockets: Vec<_> = (0..).map(at).zip(&names).map(|(p, n)| (*n, p)).collect();
        let mut passed = Passed::start(name, "", &sockets);
        assert_eq!(ended(&mut passed.child).code(), Some(1));
        let told = passed.journal();
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn a_door_of_its_own_is_for_everybody_and_goes_with_the_daemon() {
    const NAME: &str = "http-own-door";
    let key = generate_key("HS256", "http-own-door.key");
    let daemon = Daemon::with(NAME, "HS256", &key, "", &super::opened(NAME, "", ""));
    let mode = fs::metadata(door_of(NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    let mut guest = Guest::of(NAME, ALICE.uid);
    guest.say("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(guest.hear().unwrap().status, 200);
    drop(daemon);
    assert!(UnixStream::connect(door_of(NAME)).is_err());
}

#[test]
fn without_table_and_socket_there_is_no_door() {
    const NAME: &str = "http-shut";
    let key = generate_key("HS256", "http-shut.key");
    let _daemon = Daemon::start(NAME, "HS256", &key);
    for door in [door_of(NAME), "/run/slurm-tokend/http.sock".into()] {
        assert!(!door.exists(), "{}", door.display());
    }
}
