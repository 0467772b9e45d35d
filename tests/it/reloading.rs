//! A hangup takes the new configuration and key whole, or keeps the old ones
//! and says why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::crowd::Crowd;
use crate::node::{ALICE, Daemon, generate_key, stdout, until};
use crate::peer::{Peer, code};

const ISSUE: &str = "{\"v\":1,\"op\":\"issue\"}\n";

/// A key that the daemon can still read when it has become its own user.
fn readable_key(algorithm: &str, file: &str) -> PathBuf {
    let key = generate_key(algorithm, file);
    own(&key, "slurm-tokend:");
    key
}

fn own(file: &Path, owner: &str) {
    stdout(Command::new("chown").arg(owner).arg(file).output().unwrap());
}

fn configure(name: &str, key: &Path, max_lifespan: &str) {
    let tables = format!("[token]\nmax_lifespan = \"{max_lifespan}\"\n");
    Daemon::configure(name, "HS256", key, "", &tables);
}

/// Reloads, and waits until the daemon has said how that went.
fn reload(daemon: &Daemon) -> String {
    let before = daemon.journal();
    daemon.signal(Signal::SIGHUP);
    let mut said = String::new();
    until("the daemon to reload", || {
        daemon.journal()[before.len()..].clone_into(&mut said);
        said.contains("ready: ") || said.contains("nothing was reloaded")
    });
    said
}

/// What alice's next token is signed with, and the longest that she may have.
fn in_force(daemon: &Daemon) -> (String, u64) {
    let mut alice = daemon.peer(ALICE.uid);
    alice.say(format!("{ISSUE}{{\"v\":1,\"op\":\"whoami\"}}\n"));
    let kid = alice.hear().unwrap()["ok"]["kid"].take();
    let max = alice.hear().unwrap()["ok"]["max_lifespan"].take();
    (kid.as_str().unwrap().to_owned(), max.as_u64().unwrap())
}

#[test]
fn a_hangup_takes_the_new_configuration_and_its_key() {
    let old = readable_key("HS256", "reload-old.key");
    let new = readable_key("HS256", "reload-new.key");
    configure("reload", &old, "1h");
    let daemon = Daemon::run("reload");
    assert_eq!(in_force(&daemon), ("reload-old".to_owned(), 3600));
    configure("reload", &new, "2h");
    let said = reload(&daemon);
    assert!(said.contains("reload-new"), "{said}");
    assert_eq!(in_force(&daemon), ("reload-new".to_owned(), 7200));
}

#[test]
fn a_connection_that_stays_open_is_served_by_the_new_configuration() {
    let old = readable_key("HS256", "reload-open-old.key");
    let new = readable_key("HS256", "reload-open-new.key");
    configure("reload-open", &old, "1h");
    let daemon = Daemon::run("reload-open");
    let mut alice = daemon.peer(ALICE.uid);
    for (key, kid) in [(&old, "reload-open-old"), (&new, "reload-open-new")] {
        configure("reload-open", key, "1h");
        reload(&daemon);
        alice.say(ISSUE);
        assert_eq!(alice.hear().unwrap()["ok"]["kid"], kid);
    }
}

#[test]
fn a_hangup_takes_a_new_key_from_the_same_file_and_publishes_it() {
    let key = readable_key("RS256", "reload-same.pem");
    let daemon = Daemon::start("reload-same", "RS256", &key);
    let (old, _) = in_force(&daemon);
    fs::rename(readable_key("RS256", "reload-same-next.pem"), &key).unwrap();
    reload(&daemon);
    let (new, _) = in_force(&daemon);
    assert_ne!(old, new);
    let jwks = daemon.jwks();
    let kids: Vec<&str> = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap())
        .collect();
    assert_eq!(kids, [new]);
}

#[test]
fn a_broken_configuration_keeps_the_old_one_and_is_told_by_line() {
    let key = readable_key("HS256", "reload-broken.key");
    configure("reload-broken", &key, "1h");
    let daemon = Daemon::run("reload-broken");
    let file = Daemon::configuration_of("reload-broken");
    configure("reload-broken", &key, "2h");
    let text = fs::read_to_string(&file).unwrap() + "[limits]\nburts = 7\n";
    fs::write(&file, &text).unwrap();
    let said = reload(&daemon);
    let line = text.lines().position(|l| l.starts_with("burts")).unwrap() + 1;
    let place = format!("{}:{line}: ", file.display());
    assert!(said.contains(&place) && said.contains("burst"), "{said}");
    assert_eq!(in_force(&daemon), ("reload-broken".to_owned(), 3600));
}

#[test]
fn a_broken_key_keeps_the_old_configuration_too() {
    let key = readable_key("HS256", "reload-short.key");
    configure("reload-short", &key, "1h");
    let daemon = Daemon::run("reload-short");
    configure("reload-short", &key, "2h");
    fs::write(&key, "short").unwrap();
    let said = reload(&daemon);
    assert!(said.contains(key.to_str().unwrap()), "{said}");
    assert!(said.contains("nothing was reloaded"), "{said}");
    assert_eq!(in_force(&daemon).1, 3600);
}

#[test]
fn a_key_that_others_can_read_is_not_taken() {
    let old = readable_key("HS256", "reload-private.key");
    let new = readable_key("HS256", "reload-public.key");
    configure("reload-public", &old, "1h");
    let daemon = Daemon::run("reload-public");
    stdout(
        Command::new("chmod")
            .arg("0644")
            .arg(&new)
            .output()
            .unwrap(),
    );
    configure("reload-public", &new, "2h");
    let said = reload(&daemon);
    assert!(said.contains("chmod"), "{said}");
    assert_eq!(in_force(&daemon), ("reload-private".to_owned(), 3600));
}

#[test]
fn a_key_out_of_reach_stays_while_the_configuration_changes() {
    let key = generate_key("HS256", "reload-kept.key");
    own(&key, "root:");
    configure("reload-kept", &key, "1h");
    let daemon = Daemon::run("reload-kept");
    configure("reload-kept", &key, "2h");
    let said = reload(&daemon);
    assert!(said.contains("the key in use stays"), "{said}");
    assert_eq!(in_force(&daemon), ("reload-kept".to_owned(), 7200));
}

#[test]
fn another_key_out_of_reach_is_not_taken_and_neither_is_its_configuration() {
    let old = generate_key("HS256", "reload-near.key");
    let new = generate_key("HS256", "reload-far.key");
    configure("reload-far", &old, "1h");
    let daemon = Daemon::run("reload-far");
    configure("reload-far", &new, "2h");
    let said = reload(&daemon);
    assert!(said.contains("reload-far.key"), "{said}");
    assert_eq!(in_force(&daemon), ("reload-near".to_owned(), 3600));
}

#[test]
fn what_comes_into_force_at_a_restart_only_is_said() {
    let key = readable_key("HS256", "reload-socket.key");
    configure("reload-socket", &key, "1h");
    let daemon = Daemon::run("reload-socket");
    let file = Daemon::configuration_of("reload-socket");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("tokend.sock", "another.sock")).unwrap();
    let said = reload(&daemon);
    assert!(
        said.contains("socket: ") && said.contains("restart"),
        "{said}"
    );
    assert_eq!(in_force(&daemon).1, 3600);
}

/// alice's account was remembered without the names of her groups.
#[test]
fn identity_claims_are_complete_in_the_first_token_after_the_reload() {
    let key = readable_key("HS256", "reload-claims.key");
    Daemon::configure("reload-claims", "HS256", &key, "", "");
    let daemon = Daemon::run("reload-claims");
    let claims = || claims(&daemon.ask_as(ALICE.uid, ISSUE.trim_end()));
    assert_eq!(claims()["id"], Value::Null);
    let tables = "[token]\nidentity_claims = true\n";
    Daemon::configure("reload-claims", "HS256", &key, "", tables);
    reload(&daemon);
    assert_eq!(claims()["id"]["groups"]["hpcusers"], 2100);
}

fn claims(answer: &Value) -> Value {
    let token = answer["ok"]["token"].as_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[test]
fn reloads_under_load_lose_no_caller() {
    let keys = ["reload-even", "reload-odd"].map(|k| readable_key("HS256", &format!("{k}.key")));
    let limits = "[limits]\ntokens_per_minute = 10000000\nburst = 10000000\n";
    Daemon::configure("reload-load", "HS256", &keys[0], "", limits);
    let daemon = Daemon::run("reload-load");
    let crowd = Crowd::of(ALICE.uid, 16, daemon.socket());
    for round in 0..20 {
        Daemon::configure("reload-load", "HS256", &keys[round % 2], "", limits);
        reload(&daemon);
        crowd.is_served(50);
    }
    let tally = crowd.disperse();
    assert!(tally.lost.is_empty() && tally.refused == 0, "{tally:?}");
}

#[test]
fn hangups_without_number_are_all_survived() {
    let key = readable_key("HS256", "reload-often.key");
    configure("reload-often", &key, "1h");
    let mut daemon = Daemon::run("reload-often");
    for _ in 0..500 {
        daemon.signal(Signal::SIGHUP);
    }
    let mut alice: Peer = daemon.peer(ALICE.uid);
    alice.say(ISSUE);
    assert_eq!(code(&alice.hear().unwrap()), "ok");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
}
