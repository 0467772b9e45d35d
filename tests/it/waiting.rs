//! `--wait`: asking again, when it's worth it and for as long as one likes.

use std::process::{Child, Command, Output, Stdio};

use crate::node::{ALICE, Daemon, User, generate_key, stdout};

const PORTAL: User = User {
    name: "portal",
    uid: 500,
};

fn client(name: &str, user: &User, args: &[&str]) -> Command {
    let mut client = user.runs("slurm-token");
    client
        .args(args)
        .env("SLURM_TOKEND_SOCKET", Daemon::socket_of(name))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    client
}

fn end(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

/// A daemon that gives each user one token at once, and then one every second.
fn slow(name: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    let limits = "[limits]\ntokens_per_minute = 60\nburst = 1";
    Daemon::with(name, "HS256", &key, "", limits)
}

#[test]
fn who_asks_too_often_gets_the_token_when_the_daemon_said() {
    let name = "waiting-rate";
    let _daemon = slow(name);
    // More at once than the daemon gives: each of them waits for its turn.
    let children: Vec<_> = (0..4)
        .map(|_| client(name, &ALICE, &["--wait"]).spawn().unwrap())
        .collect();
    for child in children {
        assert!(stdout(end(child)).starts_with("SLURM_JWT=eyJ"));
    }
    let refused = client(name, &ALICE, &[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(4), "nobody had to wait");
}

#[test]
fn a_daemon_that_is_away_is_waited_for() {
    let name = "waiting-away";
    let key = generate_key("HS256", "waiting-away.key");
    Daemon::configure(name, "HS256", &key, "", "");
    let patient = client(name, &ALICE, &["--wait=2m"]).spawn().unwrap();
    let impatient = client(name, &ALICE, &[]).output().unwrap();
    assert_eq!(impatient.status.code(), Some(3));
    let _daemon = Daemon::run(name);
    assert!(stdout(end(patient)).starts_with("SLURM_JWT=eyJ"));
}

#[test]
fn nobody_waits_longer_than_they_said() {
    let name = "waiting-bound";
    Daemon::configure(
        name,
        "HS256",
        &generate_key("HS256", "waiting-bound.key"),
        "",
        "",
    );
    let output = client(name, &ALICE, &["--wait=2s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn what_waiting_does_not_change_is_not_waited_for() {
    let name = "waiting-refused";
    let key = generate_key("HS256", "waiting-refused.key");
    let _daemon = Daemon::start(name, "HS256", &key);
    // A wait would end only with the test.
    let output = client(name, &PORTAL, &["--wait=365d"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}
