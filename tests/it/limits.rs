//! How much one user, all users, and the machine may take, and that nobody
//! else pays for it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use serde_json::Value;

use crate::node::{ALICE, BOB, Daemon, generate_key, records, stdout, until};
use crate::peer::{Peer, code};

const PING: &str = "{\"v\":1,\"op\":\"ping\"}\n";
const ISSUE: &str = r#"{"v":1,"op":"issue"}"#;
const WHOAMI: &str = "{\"v\":1,\"op\":\"whoami\"}\n";

fn daemon(name: &str, limits: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    Daemon::with(name, "HS256", &key, "", &format!("[limits]\n{limits}"))
}

/// A connection that has had an answer and stays open.
fn seated(daemon: &Daemon, uid: u32) -> Peer {
    let mut peer = daemon.peer(uid);
    peer.say(WHOAMI);
    assert_ne!(peer.hear_code().as_deref(), Some("busy"));
    peer
}

fn assert_busy(answer: &Value) {
    assert_eq!(code(answer), "busy", "{answer}");
    assert!(
        answer["error"]["retry_after"].as_u64() > Some(0),
        "{answer}"
    );
}

#[test]
fn a_user_has_no_more_connections_than_configured() {
    let daemon = daemon("per-user", "connections_per_user = 3");
    let mut seats: Vec<Peer> = (0..3).map(|_| seated(&daemon, ALICE.uid)).collect();
    let mut one_more = daemon.peer(ALICE.uid);
    assert_busy(&one_more.hear().unwrap());
    assert_eq!(one_more.hear(), None);
    for seat in &mut seats {
        seat.say(PING);
        assert_eq!(seat.hear_code().as_deref(), Some("ok"));
    }
}

#[test]
fn one_users_connections_leave_another_its_own() {
    let daemon = daemon("others-own", "connections_per_user = 3");
    let seats: Vec<Peer> = (0..3).map(|_| seated(&daemon, ALICE.uid)).collect();
    assert_eq!(code(&daemon.ask_as(BOB.uid, ISSUE)), "ok");
    drop(seats);
}

#[test]
fn a_connection_waits_for_another_that_ends_at_once() {
    let daemon = daemon("seats", "connections_per_user = 3");
    let mut seats: Vec<Peer> = (0..3).map(|_| seated(&daemon, ALICE.uid)).collect();
    for _ in 0..20 {
        let mut next = daemon.peer(ALICE.uid);
        next.say(PING);
        seats.remove(0);
        assert_eq!(next.hear_code().as_deref(), Some("ok"));
        seats.push(next);
    }
}

#[test]
fn connections_in_all_are_no_more_than_configured() {
    let daemon = daemon("in-all", "connections = 4\nconnections_per_user = 4");
    let _alice = [seated(&daemon, ALICE.uid), seated(&daemon, ALICE.uid)];
    let bob = [seated(&daemon, BOB.uid), seated(&daemon, BOB.uid)];
    assert_busy(&daemon.peer(2003).hear().unwrap());
    drop(bob);
    until("the daemon to see that bob has gone", || {
        code(&daemon.ask_as(2003, PING.trim_end())) == "ok"
    });
}

#[test]
fn uids_without_an_account_share_one_quota_of_connections() {
    let daemon = daemon("strangers", "connections_per_user = 3");
    let _strangers: Vec<Peer> = (0..3).map(|i| seated(&daemon, 100_000 + i)).collect();
    assert_busy(&daemon.ask_as(200_000, ISSUE));
}

/// The daemon has never heard of alice: to tell her from a stranger it has to
/// let her in first.
#[test]
fn strangers_keep_no_user_out() {
    let daemon = daemon("kept-in", "connections_per_user = 3");
    let _strangers: Vec<Peer> = (0..3).map(|i| seated(&daemon, 100_000 + i)).collect();
    let answer = daemon.ask_as(ALICE.uid, ISSUE);
    assert_eq!(code(&answer), "ok", "{answer}");
}

#[test]
fn a_uid_without_an_account_gets_no_token() {
    let daemon = daemon("stranger", "");
    let answer = daemon.ask_as(100_000, ISSUE);
    assert_eq!(code(&answer), "unknown_user");
}

#[test]
fn a_burst_is_served_and_one_more_is_rate_limited_until_it_has_waited() {
    let daemon = daemon("rate", "tokens_per_minute = 60\nburst = 3");
    let mut alice = daemon.peer(ALICE.uid);
    let refused = loop {
        alice.say(format!("{ISSUE}\n"));
        let answer = alice.hear().unwrap();
        if code(&answer) != "ok" {
            break answer;
        }
    };
    assert_eq!(code(&refused), "rate_limited");
    let wait = refused["error"]["retry_after"].as_u64().unwrap();
    assert!((1..=60).contains(&wait), "{refused}");
    thread::sleep(Duration::from_secs(wait));
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
}

#[test]
fn one_users_rate_leaves_another_its_own() {
    let daemon = daemon("others-rate", "tokens_per_minute = 1\nburst = 1");
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "rate_limited");
    assert_eq!(code(&daemon.ask_as(BOB.uid, ISSUE)), "ok");
}

#[test]
fn requests_that_ask_for_no_token_have_no_rate() {
    let daemon = daemon("no-rate", "tokens_per_minute = 1\nburst = 1");
    let mut alice = daemon.peer(ALICE.uid);
    for request in [WHOAMI, PING, "{\"v\":1,\"op\":\"jwks\"}\n"].repeat(20) {
        alice.say(request);
        assert_eq!(alice.hear_code().as_deref(), Some("ok"), "{request}");
    }
}

/// The number of refusals that a daemon's records stand for.
fn refusals_recorded(daemon: &Daemon, code: &str) -> u32 {
    let records = records(daemon);
    let of_code = format!(" code={code}");
    let lines = records.iter().filter(|record| record.contains(&of_code));
    lines
        .map(|record| match record.split_once(" suppressed=") {
            Some((_, number)) => 1 + number.parse::<u32>().unwrap(),
            None => 1,
        })
        .sum()
}

#[test]
fn a_flood_of_refusals_is_recorded_in_few_lines_that_stand_for_all() {
    let daemon = daemon("flood", "tokens_per_minute = 1\nburst = 1");
    let mut alice = daemon.peer(ALICE.uid);
    alice.say(format!("{ISSUE}\n").repeat(500));
    for _ in 0..500 {
        alice.hear().unwrap();
    }
    until("all refusals to be recorded", || {
        refusals_recorded(&daemon, "rate_limited") == 499
    });
    assert!(records(&daemon).len() < 100, "{:?}", records(&daemon));
}

/// What one person with a range in /etc/subuid can do: each request comes from
/// another uid.
#[test]
fn the_uids_of_a_user_namespace_share_one_rate_and_leave_few_records() {
    const UIDS: u32 = 300;
    let daemon = daemon("subuids", "");
    let verify = r#"{"v":1,"op":"verify","token":"x"}"#;
    let mut refused = 0;
    for uid in 100_000..100_000 + UIDS {
        let mut peer = daemon.peer(uid);
        peer.say(format!("{ISSUE}\n{verify}\n"));
        assert_eq!(peer.hear_code().as_deref(), Some("unknown_user"));
        refused += u32::from(peer.hear_code().as_deref() == Some("rate_limited"));
    }
    assert!(refused > UIDS / 2, "only {refused} were above the rate");
    // A user's rate is none of theirs.
    let answer = daemon.ask_as(ALICE.uid, verify);
    assert_eq!(code(&answer), "token_invalid", "{answer}");
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
    until("all refusals to be recorded", || {
        ["unknown_user", "rate_limited", "token_invalid"]
            .map(|code| refusals_recorded(&daemon, code))
            .iter()
            .sum::<u32>()
            == 2 * UIDS + 1
    });
    let lines = records(&daemon).len();
    assert!(lines < 150, "{lines}");
}

#[test]
fn a_flood_of_refusals_is_recorded_even_if_the_daemon_ends() {
    let mut daemon = daemon("flood-end", "tokens_per_minute = 1\nburst = 1");
    let mut alice = daemon.peer(ALICE.uid);
    alice.say("{}\n".repeat(500));
    for _ in 0..500 {
        assert_eq!(alice.hear_code().as_deref(), Some("malformed_request"));
    }
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(daemon.wait().success());
    until("all refusals to be recorded", || {
        refusals_recorded(&daemon, "malformed_request") == 500
    });
}

#[test]
fn a_connection_without_a_place_is_recorded() {
    let daemon = daemon("no-place", "connections_per_user = 1");
    let _seat = seated(&daemon, ALICE.uid);
    assert_busy(&daemon.peer(ALICE.uid).hear().unwrap());
    until("the refusal to be recorded", || {
        refusals_recorded(&daemon, "busy") == 1
    });
}

/// Lets the daemon open so many files more. Its own user may limit it; root
/// in a container may not.
pub fn spare_descriptors(daemon: &Daemon, spare: usize) {
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let taken: BTreeSet<usize> = open
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|number| number.parse().unwrap())
        .collect();
    // What it has open need not have the lowest numbers.
    let free = (0..).filter(|number| !taken.contains(number));
    let limit = free.take(spare).last().unwrap() + 1;
    let mut prlimit = Command::new("setpriv");
    prlimit.args(["--reuid", "slurm-tokend", "--regid", "slurm-tokend"]);
    prlimit.args(["--clear-groups", "prlimit"]);
    prlimit.arg(format!("--pid={}", daemon.pid()));
    prlimit.arg(format!("--nofile={limit}:"));
    stdout(prlimit.output().unwrap());
}

/// The seconds of processor time that the daemon has used.
fn processor_seconds(daemon: &Daemon) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().unwrap())
        .sum();
    #[allow(clippy::cast_precision_loss, reason = "it's 100")]
    let per_second = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap() as f64;
    ticks / per_second
}

#[test]
fn without_a_free_descriptor_accepting_pauses_and_goes_on_with_one() {
    let mut daemon = daemon("emfile", "connections_per_user = 100");
    drop(seated(&daemon, ALICE.uid));
    spare_descriptors(&daemon, 5);
    let mut served = Vec::new();
    let mut waiting = loop {
        let mut peer = daemon.peer(ALICE.uid);
        peer.say(PING);
        if peer.is_answered_within(Duration::from_millis(300)) {
            served.push(peer);
        } else {
            break peer;
        }
    };
    until("the daemon to say so", || {
        daemon.journal().contains("accepting pauses")
    });
    let before = processor_seconds(&daemon);
    thread::sleep(Duration::from_secs(1));
    let used = processor_seconds(&daemon) - before;
    assert!(used < 0.5, "{used} s of processor time in 1 s");

    // Those who are in are served on.
    for peer in &mut served {
        peer.hear().unwrap();
        peer.say(PING);
        assert_eq!(peer.hear_code().as_deref(), Some("ok"));
    }
    drop(served);
    assert_eq!(waiting.hear_code().as_deref(), Some("ok"));
    assert!(daemon.runs());
}

#[test]
fn callers_that_waited_for_a_descriptor_are_served_when_the_limit_is_raised() {
    let daemon = daemon("emfile-raised", "connections_per_user = 100");
    drop(seated(&daemon, ALICE.uid));
    spare_descriptors(&daemon, 2);
    let mut peers: Vec<Peer> = (0..20).map(|_| daemon.peer(ALICE.uid)).collect();
    for peer in &mut peers {
        peer.say(PING);
    }
    until("the daemon to say so", || {
        daemon.journal().contains("accepting pauses")
    });
    spare_descriptors(&daemon, 100);
    for peer in &mut peers {
        assert_eq!(peer.hear_code().as_deref(), Some("ok"));
    }
}
