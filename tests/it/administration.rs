//! What administrators ask of the daemon, what users learn of themselves, and
//! who learns nothing.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::node::{
    ALICE, BOB, Daemon, edit_accounts, generate_key, install, records, stdout, until,
};
use crate::peer::code;

const ISSUE: &str = r#"{"v":1,"op":"issue","lifespan":600}"#;
const STATUS: &str = r#"{"v":1,"op":"status"}"#;
const SESSIONS: &str = r#"{"v":1,"op":"sessions"}"#;
/// The administrator and the service of tests/host/passwd.
const ADMIN: u32 = 2003;
const PORTAL: u32 = 500;
const DELEGATE: &str = "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\n";

fn daemon(name: &str, tables: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    Daemon::with(name, "HS256", &key, "", tables)
}

/// What `slurm-tokenctl ARGS --json` prints for root.
fn json(daemon: &Daemon, args: &[&str]) -> Value {
    let printed = daemon.tokenctl(&[args, &["--json"]].concat());
    serde_json::from_str(&stdout(printed)).unwrap()
}

/// The row of one user, as root sees it.
fn holder(daemon: &Daemon, name: &str) -> Value {
    let mut sessions = json(daemon, &["sessions", name]);
    let users = sessions["users"].as_array_mut().unwrap();
    assert_eq!(users.len(), 1, "{users:?}");
    users[0].take()
}

/// The only origin of a user, once its process was looked at.
fn origin(daemon: &Daemon, name: &str) -> Value {
    let origins = || holder(daemon, name)["origins"].clone();
    until("the process to be looked at", || {
        !origins().as_array().unwrap().is_empty()
    });
    let origins = origins();
    assert_eq!(origins.as_array().unwrap().len(), 1, "{origins}");
    origins[0].clone()
}

#[test]
fn root_and_the_members_of_the_admin_group_may_ask_and_others_may_not() {
    let daemon = daemon("admins", "");
    for request in [
        STATUS,
        r#"{"v":1,"op":"sessions","user":"bob"}"#,
        r#"{"v":1,"op":"metrics"}"#,
        r#"{"v":1,"op":"block","user":"bob"}"#,
        r#"{"v":1,"op":"unblock","user":"bob"}"#,
    ] {
        for uid in [ALICE.uid, PORTAL, 65_534] {
            let refused = daemon.ask_as(uid, request);
            assert_eq!(code(&refused), "not_allowed", "{uid}: {request}");
        }
        assert_eq!(code(&daemon.ask_as(100_000, request)), "unknown_user");
        assert_eq!(code(&daemon.ask_as(ADMIN, request)), "ok", "{request}");
        if request.contains("unblock") {
            daemon.ask_as(ADMIN, r#"{"v":1,"op":"block","user":"bob"}"#);
        }
        assert_eq!(code(&daemon.ask(request)), "ok", "{request}");
    }
}

#[test]
fn an_admin_group_that_is_not_there_makes_nobody_an_administrator_but_root() {
    let key = generate_key("HS256", "no-admins.key");
    let top = "admin_group = \"no-such-group\"";
    let daemon = Daemon::with("no-admins", "HS256", &key, top, "");
    assert_eq!(code(&daemon.ask_as(ADMIN, STATUS)), "not_allowed");
    assert_eq!(code(&daemon.ask(STATUS)), "ok");
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
}

#[test]
fn users_see_themselves_and_nobody_else() {
    let daemon = daemon("own-sessions", "");
    for uid in [ALICE.uid, BOB.uid] {
        daemon.ask_as(uid, ISSUE);
    }
    for request in [SESSIONS, r#"{"v":1,"op":"sessions","user":"alice"}"#] {
        let answer = daemon.ask_as(ALICE.uid, request);
        let users = answer["ok"]["users"].as_array().unwrap();
        assert_eq!(users.len(), 1, "{answer}");
        assert_eq!(users[0]["user"], "alice");
        assert_eq!(users[0]["live_tokens"], 1);
    }
    for other in ["bob", "2002", "root", ""] {
        let request = format!(r#"{{"v":1,"op":"sessions","user":"{other}"}}"#);
        let answer = daemon.ask_as(ALICE.uid, &request);
        assert_eq!(code(&answer), "not_allowed", "{other}");
    }
}

#[test]
fn sessions_tell_how_many_tokens_live_and_until_when() {
    let daemon = daemon("holders", DELEGATE);
    let first = daemon.ask_as(ALICE.uid, ISSUE);
    let longer = r#"{"v":1,"op":"issue","lifespan":900}"#;
    let last = daemon.ask_as(ALICE.uid, longer);
    daemon.ask_as(PORTAL, r#"{"v":1,"op":"issue","for":"alice"}"#);
    daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"issue","lifespan":0}"#);
    daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"issue","lifespan":1}"#);
    let alice = || holder(&daemon, "alice");
    until("the shortest token to expire", || {
        alice()["live_tokens"] == 3
    });
    let alice = alice();
    for (field, value) in [
        ("issued", 4),
        ("refused", 1),
        ("for_others", 0),
        ("uid", 2001),
    ] {
        assert_eq!(alice[field], value, "{field}: {alice}");
    }
    assert!(first["ok"]["expires_at"].as_u64() < last["ok"]["expires_at"].as_u64());
    // The service's lives for half an hour, longer than both.
    assert!(alice["latest_expiry"].as_u64() > last["ok"]["expires_at"].as_u64());
    let portal = holder(&daemon, "portal");
    assert_eq!(portal["for_others"], 1, "{portal}");
    assert_eq!(portal["live_tokens"], 0, "{portal}");
    let status = json(&daemon, &["status"]);
    assert_eq!(status["live_tokens"], 3, "{status}");
    assert_eq!(status["issued"], 4, "{status}");
}

#[test]
fn the_process_that_asked_is_told_with_its_pid_and_what_its_user_may_hide_is_not() {
    let daemon = daemon("origin", "");
    let mut peer = daemon.peer(ALICE.uid);
    for _ in 0..3 {
        peer.say(format!("{ISSUE}\n"));
        assert_eq!(peer.hear_code().as_deref(), Some("ok"));
    }
    let origin = origin(&daemon, "alice");
    assert_eq!(origin["pid"], std::process::id(), "{origin}");
    assert_eq!(origin["pinned"], true, "{origin}");
    // The daemon has no power over this process: that is the confinement.
    assert_eq!(origin["executable"], Value::Null, "{origin}");
    until("all tokens to be told", || {
        holder(&daemon, "alice")["origins"][0]["tokens"] == 3
    });
}

#[test]
fn a_terminal_is_told() {
    let daemon = daemon("terminal", "");
    let asks = asks_and_stays(&daemon);
    let mut session = ALICE
        .runs("script")
        .args(["--quiet", "--return", "--command", &asks, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the token", || holder_is_there(&daemon, "alice"));
    let origin = origin(&daemon, "alice");
    session.kill().unwrap();
    session.wait().unwrap();
    let terminal = origin["terminal"].as_str().unwrap_or_default();
    let number = terminal.strip_prefix("pts/").unwrap_or_default();
    assert!(number.parse::<u32>().is_ok(), "{origin}");
}

/// A shell's command that asks for a token, and whose process then stays to be
/// looked at as long as its input does.
fn asks_and_stays(daemon: &Daemon) -> String {
    let socket = daemon.socket().display();
    format!("(echo '{ISSUE}'; cat) | socat - UNIX-CONNECT:{socket}")
}

fn holder_is_there(daemon: &Daemon, name: &str) -> bool {
    let sessions = json(daemon, &["sessions", name]);
    !sessions["users"].as_array().unwrap().is_empty()
}

/// A hierarchy of cgroups such as Slurm makes with version 1.
#[test]
fn a_slurm_job_is_told() {
    let daemon = daemon("job", "");
    let at = "/run/cgroup-job";
    fs::create_dir(at).unwrap();
    let mount = [
        "-t",
        "cgroup",
        "-o",
        "none,name=slurm-tokend-test",
        "none",
        at,
    ];
    stdout(Command::new("mount").args(mount).output().unwrap());
    let job = format!("{at}/slurm/uid_2001/job_4711/step_0");
    fs::create_dir_all(&job).unwrap();
    let asks = format!(
        "echo $$ >{job}/cgroup.procs && exec setpriv --reuid alice --regid alice --init-groups \
         sh -c \"$0\""
    );
    let mut step = Command::new("sh")
        .args(["-c", &asks, &asks_and_stays(&daemon)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the token", || holder_is_there(&daemon, "alice"));
    let origin = origin(&daemon, "alice");
    step.kill().unwrap();
    step.wait().unwrap();
    until("the step's processes to end", || {
        fs::read_to_string(format!("{job}/cgroup.procs"))
            .unwrap()
            .is_empty()
    });
    for directory in [
        "slurm/uid_2001/job_4711/step_0",
        "slurm/uid_2001/job_4711",
        "slurm/uid_2001",
        "slurm",
    ] {
        fs::remove_dir(format!("{at}/{directory}")).unwrap();
    }
    stdout(Command::new("umount").arg(at).output().unwrap());
    assert_eq!(origin["place"], "job_4711", "{origin}");
}

/// Under our unit `/proc` hides other users' processes; cgroups list them.
#[test]
fn a_session_is_told_where_proc_hides_its_processes() {
    const SCRIPT: &str = "
        mount -t proc -o hidepid=2 proc /proc && mount --bind /run/cgroup-hidden /sys/fs/cgroup &&
        exec /usr/sbin/slurm-tokend";
    let session = "/run/cgroup-hidden/user.slice/user-2001.slice/session-7.scope";
    fs::create_dir_all(session).unwrap();
    fs::write(
        format!("{session}/cgroup.procs"),
        format!("1\n{}\n", std::process::id()),
    )
    .unwrap();
    let key = generate_key("HS256", "hidden.key");
    Daemon::configure("hidden", "HS256", &key, "", "");
    let runner = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        SCRIPT,
    ];
    let daemon = Daemon::spawn("hidden", Daemon::through("hidden", &runner));
    let mut alice = daemon.peer(ALICE.uid);
    alice.say(format!("{ISSUE}\n"));
    assert_eq!(alice.hear_code().as_deref(), Some("ok"));
    let origin = origin(&daemon, "alice");
    assert_eq!(origin["place"], "session-7.scope", "{origin}");
    assert_eq!(origin["terminal"], Value::Null, "{origin}");
}

#[test]
fn more_users_than_one_answer_holds_come_one_answer_after_the_other() {
    let first = 40_000;
    edit_accounts("passwd", |passwd| {
        let many = (0..500).map(|i| {
            let uid = first + i;
            format!("crowd{i}:x:{uid}:2010::/nonexistent:/bin/sh\n")
        });
        passwd.to_owned() + &many.collect::<String>()
    });
    let daemon = daemon("many-holders", "");
    for uid in first..first + 500 {
        assert_eq!(code(&daemon.ask_as(uid, ISSUE)), "ok");
    }
    let answer = daemon.ask(SESSIONS);
    assert!(
        answer["ok"]["more_after"].as_u64() > Some(40_000),
        "{answer}"
    );
    let sessions = json(&daemon, &["sessions"]);
    let uids: Vec<u64> = sessions["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["uid"].as_u64().unwrap())
        .collect();
    assert_eq!(uids, (40_000..40_500).collect::<Vec<u64>>());
}

#[test]
fn what_is_asked_is_recorded_done_or_refused() {
    let daemon = daemon("asked", "");
    daemon.ask_as(ADMIN, STATUS);
    daemon.ask_as(ALICE.uid, STATUS);
    daemon.ask_as(ADMIN, r#"{"v":1,"op":"sessions","user":"bob"}"#);
    until("the records", || records(&daemon).len() == 3);
    let records = records(&daemon);
    for (record, ends) in records.iter().zip([
        "op=status result=done uid=2003 user=admin pid=PID",
        "op=status result=refused uid=2001 user=alice pid=PID code=not_allowed",
        "op=sessions result=done uid=2003 user=admin pid=PID for=bob",
    ]) {
        let ends = ends.replace("PID", &std::process::id().to_string());
        assert!(record.ends_with(&ends), "{record}\n{ends}");
    }
}

#[test]
fn a_user_who_asks_for_sessions_all_the_time_is_told_to_wait() {
    let daemon = daemon(
        "asks-often",
        "[limits]\ntokens_per_minute = 60\nburst = 3\n",
    );
    for _ in 0..3 {
        assert_eq!(code(&daemon.ask_as(ALICE.uid, SESSIONS)), "ok");
    }
    let answer = daemon.ask_as(ALICE.uid, SESSIONS);
    assert_eq!(code(&answer), "rate_limited", "{answer}");
}

#[test]
fn unusual_behaviour_is_told_once_and_not_for_each_request() {
    let limits = "[limits]\ntokens_per_minute = 1000000\nburst = 1000000\n";
    let daemon = daemon("unusual", limits);
    let (mut alice, mut bob) = (daemon.peer(ALICE.uid), daemon.peer(BOB.uid));
    let refused = r#"{"v":1,"op":"issue","lifespan":"1y"}"#;
    for _ in 0..2000 {
        alice.say(format!("{ISSUE}\n"));
        alice.hear().unwrap();
        bob.say(format!("{refused}\n"));
        bob.hear().unwrap();
    }
    let journal = daemon.journal();
    let told = |name: &str| journal.matches(&format!("unusual: {name} ")).count();
    assert_eq!((told("alice"), told("bob")), (1, 1), "{journal}");
}

#[test]
fn the_daemon_of_a_configuration_is_asked_by_its_socket() {
    let daemon = daemon("by-configuration", "");
    let path = Daemon::configuration_of("by-configuration");
    let mut status = Command::new("slurm-tokenctl");
    status.args(["status", "--json", "--config"]).arg(&path);
    let status: Value = serde_json::from_str(&stdout(status.output().unwrap())).unwrap();
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["configuration"], path.to_str().unwrap());
}

#[test]
fn a_daemon_that_is_not_there_is_said_not_to_be() {
    install();
    let output = Command::new("slurm-tokenctl")
        .args(["status", "--socket", "/run/nobody/listens"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("slurm-tokenctl: /run/nobody/listens: "),
        "{told}"
    );
}
