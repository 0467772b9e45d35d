//! The state directory, and what the daemon records in it: until when tokens
//! of its key may live.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::clock::settable;
use crate::node::{ALICE, Daemon, generate_key, records, stdout, until};
use crate::peer::code;

const ISSUE: &str = r#"{"v":1,"op":"issue"}"#;
const DAEMON: u32 = 501;
const HOUR: u64 = 3600;

static KEY: LazyLock<PathBuf> = LazyLock::new(|| generate_key("HS256", "state.key"));

fn directory(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/lib/slurm-tokend-{name}"))
}

fn record(name: &str) -> PathBuf {
    directory(name).join("expiry-state.json")
}

/// The latest `exp` that is on record.
fn latest(name: &str) -> u64 {
    let text = fs::read_to_string(record(name)).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["kid"], "state");
    record["latest_exp"].as_u64().unwrap()
}

#[allow(clippy::disallowed_methods, reason = "this is the rim")]
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn configure(name: &str, tables: &str) {
    Daemon::configure(name, "HS256", &KEY, "", tables);
}

fn mode(path: &Path) -> (u32, u32) {
    let there = fs::metadata(path).unwrap();
    (there.uid(), there.mode() & 0o7777)
}

/// Starts the daemon in vain; what it said.
fn refusal(name: &str) -> String {
    let output = Daemon::command(name)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!Daemon::socket_of(name).exists());
    String::from_utf8(output.stderr).unwrap()
}

fn reload(daemon: &Daemon) {
    let before = daemon.journal().len();
    daemon.signal(Signal::SIGHUP);
    until("the daemon to reload", || {
        daemon.journal()[before..].contains("ready: ")
    });
}

#[test]
fn a_daemon_started_as_root_makes_the_directory_for_its_user_alone() {
    configure("state-made", "");
    let _daemon = Daemon::run("state-made");
    assert_eq!(mode(&directory("state-made")), (DAEMON, 0o700));
    assert_eq!(mode(&record("state-made")), (DAEMON, 0o600));
}

#[test]
fn before_the_first_token_leaves_its_latest_exp_is_on_record() {
    configure(
        "state-first",
        "[token]\nmax_lifespan = \"1h\"\n[[policy.rule]]\nusers = [\"bob\"]\nmax_lifespan = \"7d\"\n",
    );
    let started = now();
    let _daemon = Daemon::run("state-first");
    assert!(latest("state-first") >= started + 7 * 24 * HOUR);
}

#[test]
fn a_record_that_reaches_far_enough_is_not_written_again() {
    configure("state-kept", "");
    drop(Daemon::run("state-kept"));
    let first = fs::metadata(record("state-kept")).unwrap().ino();
    drop(Daemon::run("state-kept"));
    assert_eq!(fs::metadata(record("state-kept")).unwrap().ino(), first);
}

#[test]
fn a_reload_raises_the_record_and_never_lowers_it() {
    configure("state-reload", "[token]\nmax_lifespan = \"1h\"\n");
    let daemon = Daemon::run("state-reload");
    let least = now() + 48 * HOUR;
    configure("state-reload", "[token]\nmax_lifespan = \"48h\"\n");
    reload(&daemon);
    let raised = latest("state-reload");
    assert!(raised >= least);
    configure(
        "state-reload",
        "[token]\nmax_lifespan = \"1m\"\ndefault_lifespan = \"1m\"\n",
    );
    reload(&daemon);
    assert_eq!(latest("state-reload"), raised);
}

#[test]
fn a_directory_of_another_user_is_given_to_the_daemon_by_the_command_that_is_told() {
    configure("state-owner", "");
    fs::create_dir(directory("state-owner")).unwrap();
    let told = refusal("state-owner");
    assert!(
        told.contains("belongs to uid 0, and the daemon runs as uid 501"),
        "{told}"
    );
    let command = told.trim_end().split("; ").last().unwrap().to_owned();
    stdout(Command::new("sh").args(["-ec", &command]).output().unwrap());
    Daemon::run("state-owner");
}

#[test]
fn a_directory_that_others_write_to_is_mended_by_the_command_that_is_told() {
    configure("state-open", "");
    let directory = directory("state-open");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(DAEMON), None).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o757)).unwrap();
    let told = refusal("state-open");
    let command = told.trim_end().split("; ").last().unwrap().to_owned();
    assert!(command.contains("chmod"), "{told}");
    stdout(Command::new("sh").args(["-ec", &command]).output().unwrap());
    Daemon::run("state-open");
}

#[test]
fn a_directory_that_cannot_be_made_is_told_before_anything_listens() {
    configure("state-nowhere", "");
    let configuration = Daemon::configuration_of("state-nowhere");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("/var/lib/", "/var/nowhere/")).unwrap();
    let told = refusal("state-nowhere");
    assert!(
        told.contains("/var/nowhere: ") && told.contains("install -d"),
        "{told}"
    );
}

#[test]
fn a_check_makes_nothing() {
    configure("state-check", "");
    let checked = Daemon::command("state-check").arg("--check").output();
    assert!(checked.unwrap().status.success());
    assert!(!directory("state-check").exists());
}

#[test]
fn a_broken_record_is_set_aside_and_the_daemon_goes_on() {
    configure("state-broken", "");
    drop(Daemon::run("state-broken"));
    fs::write(record("state-broken"), "{\"v\":1,").unwrap();
    let _daemon = Daemon::run("state-broken");
    assert!(latest("state-broken") > now());
    let aside = directory("state-broken").join("expiry-state.broken");
    assert_eq!(fs::read(aside).unwrap(), b"{\"v\":1,");
}

/// A daemon whose clock can be set.
fn start_with_clock(name: &str, clock: &Path) -> Daemon {
    let mut command = Daemon::command(name);
    command.envs(settable(clock));
    Daemon::spawn(name, command)
}

#[test]
fn when_the_clock_jumps_ahead_the_record_is_raised_before_a_token_leaves() {
    configure("state-jump", "");
    let clock = Path::new("/tmp/state-jump.clock");
    let daemon = start_with_clock("state-jump", clock);
    let before = latest("state-jump");
    fs::write(clock, "+30d").unwrap();
    let answer = daemon.ask_as(ALICE.uid, ISSUE);
    let exp = answer["ok"]["expires_at"].as_u64().unwrap();
    assert!(exp > before, "{exp} {before}");
    assert!(latest("state-jump") >= exp);
}

#[test]
fn a_token_that_would_outlive_a_record_that_cannot_be_written_does_not_leave() {
    configure("state-full", "");
    let clock = Path::new("/tmp/state-full.clock");
    let daemon = start_with_clock("state-full", clock);
    chown(directory("state-full"), Some(0), None).unwrap();
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
    fs::write(clock, "+30d").unwrap();
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "internal");
    until("the record of the refusal", || {
        records(&daemon).iter().any(|r| r.contains("code=internal"))
    });
    assert!(
        daemon
            .journal()
            .contains("tokens are refused that would outlive")
    );
    chown(directory("state-full"), Some(DAEMON), None).unwrap();
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
}

#[test]
fn an_ordinary_user_serves_with_a_directory_of_its_own() {
    let home = Path::new("/var/home/alice/tokend");
    fs::create_dir_all(home).unwrap();
    chown(home, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    fs::copy(&*KEY, home.join("state.key")).unwrap();
    chown(home.join("state.key"), Some(ALICE.uid), None).unwrap();
    let socket = home.join("socket");
    let text = format!(
        "socket = {socket:?}\nstate_dir = {:?}\n[signing]\nkey = {:?}\nalgorithm = \"HS256\"\n\
         [audit]\nsink = \"stderr\"\n",
        home.join("state"),
        home.join("state.key")
    );
    fs::write(home.join("tokend.toml"), text).unwrap();
    let mut command = ALICE.runs("/usr/sbin/slurm-tokend");
    command.arg("--config").arg(home.join("tokend.toml"));
    let mut daemon = command.stderr(Stdio::null()).spawn().unwrap();
    until("the daemon to listen", || socket.exists());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert_eq!(
        mode(&home.join("state/expiry-state.json")),
        (ALICE.uid, 0o600)
    );
}
