//! A directory service that hangs delays those who need it, for a bounded
//! time, and nobody else.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::node::{ALICE, BOB, Daemon, generate_key, stdout, until};
use crate::peer::{Peer, code};

const ISSUE: &str = r#"{"v":1,"op":"issue"}"#;
const PING: &str = r#"{"v":1,"op":"ping"}"#;
/// The first of the service's thousand users, who is called far0.
const FAR: u32 = 70_000;
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/host/nss_hang.c");

/// Where the service's module is, built once.
static MODULE: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = PathBuf::from("/run/nss-hang");
    fs::create_dir(&directory).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]);
    cc.arg(directory.join("libnss_hang.so.2")).arg(SOURCE);
    stdout(cc.output().unwrap());
    directory
});

/// The service as one daemon sees it. It answers until it's told to hang.
struct Service {
    directory: PathBuf,
}

impl Service {
    /// A daemon that asks this service after the files.
    fn and_daemon(name: &str, limits: &str) -> (Self, Daemon) {
        Self::and_daemon_with(name, limits, "")
    }

    fn and_daemon_with(name: &str, limits: &str, tables: &str) -> (Self, Daemon) {
        let directory = MODULE.join(name);
        fs::create_dir(&directory).unwrap();
        let calls = directory.join("calls");
        File::create(&calls).unwrap();
        fs::set_permissions(&calls, Permissions::from_mode(0o666)).unwrap();
        let switch = directory.join("nsswitch.conf");
        fs::write(&switch, "passwd: files hang\ngroup: files\n").unwrap();

        let key = generate_key("HS256", &format!("{name}.key"));
        // What hangs still hangs when a test ends.
        let tables = format!("[limits]\nstop_timeout = \"1s\"\n{limits}\n{tables}");
        Daemon::configure(name, "HS256", &key, "", &tables);
        let places = [(switch.as_path(), "/etc/nsswitch.conf")];
        let mut command = Daemon::command_with(name, &places);
        command.env("LD_LIBRARY_PATH", &*MODULE);
        command.env("NSS_HANG", &directory);
        (Self { directory }, Daemon::spawn(name, command))
    }

    fn hang(&self) {
        File::create(self.directory.join("hang")).unwrap();
    }

    fn answer_again(&self) {
        fs::remove_file(self.directory.join("hang")).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.directory.join("calls")).unwrap();
        calls.lines().map(ToOwned::to_owned).collect()
    }

    fn is_asked(&self, call: &str) {
        until("the service to be asked", || {
            self.calls().iter().any(|c| c == call)
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.directory.join("hang"));
    }
}

/// A peer of that uid that asks for a token.
fn asking(daemon: &Daemon, uid: u32) -> Peer {
    let mut peer = daemon.peer(uid);
    peer.say(format!("{ISSUE}\n"));
    peer
}

fn is_served(daemon: &Daemon, uid: u32) {
    let answer = daemon.ask_as(uid, ISSUE);
    assert_eq!(code(&answer), "ok", "{uid}: {answer}");
}

#[test]
fn an_account_of_the_service_gets_a_token() {
    let (_service, daemon) = Service::and_daemon("far", "");
    let answer = daemon.ask_as(FAR + 7, ISSUE);
    assert_eq!(answer["ok"]["user"], "far7", "{answer}");
}

/// With a time that no test waits for: whoever is served didn't wait for it.
#[test]
fn accounts_in_files_are_served_while_others_hang() {
    let (service, daemon) = Service::and_daemon("near", "lookup_timeout = \"1m\"");
    service.hang();
    let hung = asking(&daemon, FAR);
    service.is_asked(&format!("uid {FAR}"));
    is_served(&daemon, ALICE.uid);
    is_served(&daemon, BOB.uid);
    assert!(!hung.is_answered_within(Duration::ZERO));
}

#[test]
fn a_caller_whose_account_hangs_is_told_busy() {
    let (service, daemon) = Service::and_daemon("busy", "lookup_timeout = \"1s\"");
    service.hang();
    let answer = daemon.ask_as(FAR, ISSUE);
    assert_eq!(code(&answer), "busy", "{answer}");
    assert!(
        answer["error"]["retry_after"].as_u64() > Some(0),
        "{answer}"
    );
}

#[test]
fn requests_that_need_no_account_are_answered_while_it_hangs() {
    let (service, daemon) = Service::and_daemon("no-account", "lookup_timeout = \"1m\"");
    service.hang();
    let mut far = daemon.peer(FAR);
    far.say(format!("{PING}\n{{\"v\":1,\"op\":\"jwks\"}}\n"));
    for _ in 0..2 {
        assert_eq!(far.hear_code().as_deref(), Some("ok"));
    }
}

#[test]
fn many_callers_of_one_uid_cause_one_look_up() {
    let limits = "lookup_timeout = \"1m\"\nconnections_per_user = 100";
    let (service, daemon) = Service::and_daemon("one", limits);
    service.hang();
    let mut callers: Vec<Peer> = (0..50).map(|_| asking(&daemon, FAR)).collect();
    service.is_asked(&format!("uid {FAR}"));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(service.calls(), [format!("uid {FAR}")]);
    service.answer_again();
    for caller in &mut callers {
        assert_eq!(caller.hear_code().as_deref(), Some("ok"));
    }
}

#[test]
fn an_account_that_was_found_is_remembered_while_the_service_hangs() {
    let (service, daemon) = Service::and_daemon("remembered", "lookup_timeout = \"1m\"");
    is_served(&daemon, FAR);
    service.hang();
    is_served(&daemon, FAR);
}

#[test]
fn a_service_that_answers_again_is_believed_again() {
    let (service, daemon) = Service::and_daemon("again", "lookup_timeout = \"1s\"");
    service.hang();
    assert_eq!(code(&daemon.ask_as(FAR, ISSUE)), "busy");
    assert_eq!(code(&daemon.ask_as(100_000, ISSUE)), "busy");
    service.answer_again();
    is_served(&daemon, FAR);
    assert_eq!(code(&daemon.ask_as(100_000, ISSUE)), "unknown_user");
}

/// Uids without an account hang in every look-up that they can get. bob's
/// account has been forgotten meanwhile.
#[test]
fn strangers_that_hang_leave_look_ups_to_users() {
    let limits = "lookups = 4\nlookup_timeout = \"1m\"\naccount_cache = \"1s\"\n\
                  connections_per_user = 100";
    let (service, daemon) = Service::and_daemon("hang-left", limits);
    is_served(&daemon, BOB.uid);
    service.hang();
    let strangers: Vec<Peer> = (0..20).map(|i| asking(&daemon, 100_000 + i)).collect();
    until("strangers to hang", || {
        service
            .calls()
            .iter()
            .filter(|c| c.starts_with("uid 1000"))
            .count()
            >= 2
    });
    thread::sleep(Duration::from_millis(1200));
    is_served(&daemon, BOB.uid);
    drop(strangers);
}

#[test]
fn nobody_but_a_delegate_makes_us_look_up_a_name() {
    let delegate = "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\n";
    let (service, daemon) = Service::and_daemon_with("names", "", delegate);
    let request = |name: &str| format!(r#"{{"v":1,"op":"issue","for":"{name}"}}"#);
    let answer = daemon.ask_as(ALICE.uid, &request("far1"));
    assert_eq!(code(&answer), "not_allowed", "{answer}");
    assert!(service.calls().is_empty(), "{:?}", service.calls());
    // The service's account portal is in the files; far1 is not.
    daemon.ask_as(500, &request("far1"));
    service.is_asked("name far1");
}

#[test]
fn the_daemon_stops_though_the_service_hangs() {
    let (service, mut daemon) = Service::and_daemon("stops", "lookup_timeout = \"1m\"");
    service.hang();
    let hung: Vec<Peer> = (0..5).map(|i| asking(&daemon, FAR + i)).collect();
    service.is_asked(&format!("uid {}", FAR + 4));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
    drop(hung);
}

/// The new configuration names a `SlurmUser` whom only the service can know.
#[test]
fn the_daemon_stops_though_a_reload_hangs() {
    let (service, mut daemon) = Service::and_daemon("stops-reload", "");
    let file = Daemon::configuration_of("stops-reload");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("slurm_user = \"far1\"\n{text}")).unwrap();
    service.hang();
    daemon.signal(Signal::SIGHUP);
    service.is_asked("name far1");
    is_served(&daemon, ALICE.uid);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait().success());
}

/// Every thread that looks up accounts hangs.
#[test]
fn a_reload_needs_no_look_up_thread() {
    let (service, daemon) = Service::and_daemon("reloads", "lookups = 2\nlookup_timeout = \"1m\"");
    service.hang();
    let _hung: Vec<Peer> = (0..10).map(|i| asking(&daemon, FAR + i)).collect();
    until("strangers to hang", || !service.calls().is_empty());
    let before = daemon.journal().matches("ready: ").count();
    daemon.signal(Signal::SIGHUP);
    until("the daemon to reload", || {
        daemon.journal().matches("ready: ").count() > before
    });
}

#[test]
fn root_learns_how_the_daemon_is_while_the_service_hangs_and_others_wait() {
    let (service, daemon) = Service::and_daemon("hung-root", "lookup_timeout = \"1s\"");
    // From now on the service is asked before the files.
    let switch = service.directory.join("nsswitch.conf");
    fs::write(switch, "passwd: hang files\ngroup: files\n").unwrap();
    service.hang();
    let mut alice = daemon.peer(ALICE.uid);
    alice.say(format!("{ISSUE}\n"));
    until("the look-up to wait", || {
        let status = daemon.ask(r#"{"v":1,"op":"status"}"#);
        assert_eq!(code(&status), "ok", "{status}");
        status["ok"]["lookups"].as_u64() > Some(0)
    });
    let metrics = daemon.ask(r#"{"v":1,"op":"metrics"}"#);
    assert_eq!(code(&metrics), "ok", "{metrics}");
    assert_eq!(alice.hear_code().as_deref(), Some("busy"));
}
