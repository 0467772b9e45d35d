//! A stop finishes what has begun, within bounds, and loses nobody.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::crowd::Crowd;
use crate::limits::spare_descriptors;
use crate::node::{ALICE, BOB, Daemon, generate_key, until};
use crate::peer::{Peer, code};

const PING: &str = "{\"v\":1,\"op\":\"ping\"}\n";
const ISSUE: &str = "{\"v\":1,\"op\":\"issue\"}\n";
/// What the daemon says when the time for its stop is over.
const UNFINISHED: &str = "unfinished";
/// Times so long that a stop which depends on them is seen.
const LONG_TIMES: &str = "stop_timeout = \"1m\"\nrequest_timeout = \"1m\"\n";

fn configure(name: &str, limits: &str) {
    let key = generate_key("HS256", &format!("{name}.key"));
    let limits = format!("[limits]\ntokens_per_minute = 10000000\nburst = 10000000\n{limits}");
    Daemon::configure(name, "HS256", &key, "", &limits);
}

fn daemon(name: &str, limits: &str) -> Daemon {
    configure(name, limits);
    Daemon::run(name)
}

/// The daemon ends well, with nothing unfinished.
pub fn assert_stops(mut daemon: Daemon) {
    assert!(daemon.wait().success(), "{}", daemon.journal());
    assert!(
        !daemon.journal().contains(UNFINISHED),
        "{}",
        daemon.journal()
    );
}

#[test]
fn a_stop_under_load_loses_no_caller() {
    configure("stop-load", "");
    for _ in 0..5 {
        let daemon = Daemon::run("stop-load");
        let crowd = Crowd::of(ALICE.uid, 16, daemon.socket());
        crowd.is_served(300);
        daemon.signal(Signal::SIGTERM);
        let tally = crowd.wait();
        assert!(tally.lost.is_empty(), "{tally:?}");
        assert_eq!(tally.refused, 16);
        assert_stops(daemon);
    }
}

/// The daemon is stopped while they connect, so that all of them wait for it
/// when it learns that it's to end.
#[test]
fn callers_that_wait_to_be_accepted_are_served_at_the_stop() {
    let daemon = daemon("stop-backlog", "connections_per_user = 200");
    daemon.ask_as(ALICE.uid, ISSUE.trim_end());
    daemon.signal(Signal::SIGSTOP);
    let mut peers: Vec<Peer> = (0..200).map(|_| daemon.peer(ALICE.uid)).collect();
    for peer in &mut peers {
        peer.say(ISSUE);
    }
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGCONT);
    for peer in &mut peers {
        assert_eq!(peer.hear_code().as_deref(), Some("ok"));
    }
    assert_stops(daemon);
}

#[test]
fn a_request_on_an_idle_connection_is_served_when_it_came_before_the_stop() {
    let daemon = daemon("stop-idle-request", "");
    let mut peers: Vec<Peer> = (0..20).map(|_| daemon.peer(ALICE.uid)).collect();
    for peer in &mut peers {
        peer.say(PING);
        assert_eq!(peer.hear_code().as_deref(), Some("ok"));
    }
    daemon.signal(Signal::SIGSTOP);
    for peer in &mut peers {
        peer.say(ISSUE.repeat(3));
    }
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGCONT);
    for peer in &mut peers {
        for _ in 0..3 {
            assert_eq!(peer.hear_code().as_deref(), Some("ok"));
        }
        assert_eq!(peer.hear(), None);
    }
    assert_stops(daemon);
}

#[test]
fn a_connection_that_has_not_asked_yet_is_served_at_the_stop() {
    let daemon = daemon("stop-before-first", LONG_TIMES);
    let mut alice = daemon.peer(ALICE.uid);
    let mut bob = daemon.peer(BOB.uid);
    bob.say(PING);
    assert_eq!(bob.hear_code().as_deref(), Some("ok"));
    daemon.signal(Signal::SIGTERM);
    // An idle connection that ends: the stop has begun.
    assert_eq!(bob.hear(), None);
    alice.say(ISSUE);
    assert_eq!(alice.hear_code().as_deref(), Some("ok"));
    assert_eq!(alice.hear(), None);
    assert_stops(daemon);
}

#[test]
fn a_connection_that_never_asks_is_told_of_the_stop() {
    let daemon = daemon(
        "stop-never-asks",
        "stop_timeout = \"1m\"\nrequest_timeout = \"1s\"",
    );
    let mut alice = daemon.peer(ALICE.uid);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(alice.hear_code().as_deref(), Some("shutting_down"));
    assert_eq!(alice.hear(), None);
    assert_stops(daemon);
}

#[test]
fn half_a_request_is_finished_at_the_stop() {
    let daemon = daemon("stop-half", LONG_TIMES);
    let mut alice = daemon.peer(ALICE.uid);
    let mut bob = daemon.peer(BOB.uid);
    alice.say(format!("{PING}{}", &ISSUE[..10]));
    bob.say(PING);
    for peer in [&mut alice, &mut bob] {
        assert_eq!(peer.hear_code().as_deref(), Some("ok"));
    }
    daemon.signal(Signal::SIGTERM);
    assert_eq!(bob.hear(), None);
    alice.say(&ISSUE[10..]);
    assert_eq!(alice.hear_code().as_deref(), Some("ok"));
    assert_eq!(alice.hear(), None);
    assert_stops(daemon);
}

#[test]
fn a_peer_that_never_finishes_holds_up_the_stop_for_a_bounded_time() {
    let limits = "stop_timeout = \"1s\"\nrequest_timeout = \"1m\"";
    let mut daemon = daemon("stop-bounded", limits);
    let mut alice = daemon.peer(ALICE.uid);
    alice.say(format!("{PING}{}", &ISSUE[..10]));
    assert_eq!(alice.hear_code().as_deref(), Some("ok"));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    assert!(
        daemon.journal().contains(UNFINISHED),
        "{}",
        daemon.journal()
    );
}

/// Each of its writes ends with a whole request, and the next comes at once:
/// it's neither idle nor in the middle of one for long.
#[test]
fn a_peer_that_never_falls_silent_does_not_hold_up_the_stop() {
    let daemon = daemon("stop-flood", LONG_TIMES);
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let mut alice = daemon.peer(ALICE.uid);
            let reading = alice.stream().try_clone().unwrap();
            let reader = thread::spawn(move || io::copy(&mut &reading, &mut io::sink()));
            thread::spawn(move || {
                let requests = format!("{:31}\n", PING.trim_end()).repeat(128);
                while alice.is_heard(&requests) {}
                let _ = reader.join().unwrap();
            })
        })
        .collect();
    until("the flood to come", || processor_is_used(&daemon));
    daemon.signal(Signal::SIGTERM);
    assert_stops(daemon);
    for flood in floods {
        flood.join().unwrap();
    }
}

fn processor_is_used(daemon: &Daemon) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let user = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(11);
    user.unwrap().parse::<u64>().unwrap() > 10
}

/// Those who are idle have all descriptors, and a signature takes none.
#[test]
fn a_stop_without_a_free_descriptor_serves_those_who_wait() {
    let daemon = daemon("stop-emfile", "");
    let mut idle: Vec<Peer> = (0..10).map(|_| daemon.peer(ALICE.uid)).collect();
    for peer in &mut idle {
        peer.say(ISSUE);
        assert_eq!(peer.hear_code().as_deref(), Some("ok"));
    }
    spare_descriptors(&daemon, 1);
    let mut waiting: Vec<Peer> = (0..20).map(|_| daemon.peer(ALICE.uid)).collect();
    for peer in &mut waiting {
        peer.say(ISSUE);
    }
    until("the daemon to have no descriptor left", || {
        daemon.journal().contains("accepting pauses")
    });
    daemon.signal(Signal::SIGTERM);
    for peer in &mut waiting {
        assert_eq!(peer.hear_code().as_deref(), Some("ok"));
    }
    assert_stops(daemon);
}

#[test]
fn an_interrupt_from_the_terminal_is_a_stop() {
    let daemon = daemon("stop-interrupt", "");
    daemon.signal(Signal::SIGINT);
    assert_stops(daemon);
}

/// What a service manager does: it holds the socket that `systemd-socket-activate`
/// made, and starts the daemon anew whenever it has ended.
const MANAGER: &str = r#"
    unset LISTEN_PID
    while :; do
        sh -c 'export LISTEN_PID=$$; exec /usr/sbin/slurm-tokend' &
        echo $! >"$1.new" && mv "$1.new" "$1"
        wait $! || exit 1
    done
"#;

struct Activated {
    manager: Child,
    pid_file: String,
}

impl Activated {
    fn start(name: &str) -> Self {
        configure(name, "");
        let socket = Daemon::socket_of(name);
        let pid_file = format!("/run/{name}.pid");
        let mut activate = Command::new("systemd-socket-activate");
        let set = format!(
            "--setenv=SLURM_TOKEND_CONF={}",
            Daemon::configuration_of(name).display()
        );
        let manager = activate
            .arg(format!("--listen={}", socket.display()))
            .arg(set)
            .args(["sh", "-c", MANAGER, "manager", &pid_file])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(format!("/tmp/{name}.log")).unwrap())
            .spawn()
            .unwrap();
        until("the socket to be made", || {
            UnixStream::connect(&socket).is_ok()
        });
        // As the socket unit's SocketMode= does.
        fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
        Self { manager, pid_file }
    }

    /// The pid of the daemon that runs now.
    fn daemon(&self) -> i32 {
        until("the daemon to be started", || {
            Path::new(&self.pid_file).exists()
        });
        let pid = fs::read_to_string(&self.pid_file).unwrap();
        pid.trim().parse().unwrap()
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let daemon = self.daemon();
        let _ = self.manager.kill();
        let _ = self.manager.wait();
        let _ = kill(Pid::from_raw(daemon), Signal::SIGTERM);
    }
}

#[test]
fn a_restart_loses_no_caller_when_systemd_holds_the_socket() {
    let activated = Activated::start("activated");
    let socket = Daemon::socket_of("activated");
    let crowd = Crowd::of(ALICE.uid, 16, &socket);
    for _ in 0..5 {
        let daemon = activated.daemon();
        crowd.is_served(100);
        kill(Pid::from_raw(daemon), Signal::SIGTERM).unwrap();
        until("the next daemon to be started", || {
            activated.daemon() != daemon
        });
    }
    crowd.is_served(100);
    let tally = crowd.disperse();
    assert!(tally.lost.is_empty() && tally.refused == 0, "{tally:?}");
    assert!(socket.exists());
}

#[test]
fn a_daemon_that_is_passed_a_socket_leaves_it_to_the_next() {
    let activated = Activated::start("left");
    let socket = Daemon::socket_of("left");
    let ask = || {
        let mut alice = Peer::of(ALICE.uid, &socket).unwrap();
        alice.say(ISSUE);
        alice.hear().map(|answer| code(&answer).to_owned())
    };
    assert_eq!(ask().as_deref(), Some("ok"));
    let daemon = activated.daemon();
    kill(Pid::from_raw(daemon), Signal::SIGTERM).unwrap();
    until("the next daemon to be started", || {
        activated.daemon() != daemon
    });
    assert_eq!(ask().as_deref(), Some("ok"));
}
