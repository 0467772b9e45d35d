//! Whom an administrator has blocked gets no token, whatever happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::audit::{self, Log, next_record};
use crate::node::{ALICE, BOB, Daemon, User, edit_accounts, generate_key, records, stdout, until};
use crate::peer::code;

const ISSUE: &str = r#"{"v":1,"op":"issue","lifespan":600}"#;
const WHOAMI: &str = r#"{"v":1,"op":"whoami"}"#;
const ADMIN: User = User {
    name: "admin",
    uid: 2003,
};
const PORTAL: u32 = 500;
const DELEGATE: &str = "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\n";

fn daemon(name: &str, tables: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    Daemon::with(name, "HS256", &key, "", tables)
}

fn file_of(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/lib/slurm-tokend-{name}/blocks.json"))
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The code that a user's request for a token is answered with.
fn code_for(daemon: &Daemon, uid: u32) -> String {
    code(&daemon.ask_as(uid, ISSUE)).to_owned()
}

#[test]
fn a_blocked_user_gets_no_token_and_others_do() {
    let daemon = daemon("blocked", "");
    let mut open = daemon.peer(ALICE.uid);
    open.say(format!("{ISSUE}\n"));
    assert_eq!(open.hear_code().as_deref(), Some("ok"));
    stdout(daemon.tokenctl(&["block", "alice"]));
    // At once, on a connection that was there before, too.
    open.say(format!("{ISSUE}\n"));
    assert_eq!(open.hear_code().as_deref(), Some("blocked"));
    assert_eq!(code_for(&daemon, ALICE.uid), "blocked");
    assert_eq!(code_for(&daemon, BOB.uid), "ok");
    let standing = daemon.ask_as(ALICE.uid, WHOAMI);
    assert_eq!(standing["ok"]["refusal"]["code"], "blocked", "{standing}");
    stdout(daemon.tokenctl(&["unblock", "alice"]));
    assert_eq!(code_for(&daemon, ALICE.uid), "ok");
}

/// The records of a daemon from here to that of a block, and it.
fn records_until_block(mut next: impl FnMut() -> String) -> Vec<String> {
    let mut all = Vec::new();
    while !all
        .last()
        .is_some_and(|record: &String| record.contains(": op=block "))
    {
        all.push(next());
    }
    all
}

#[test]
fn who_is_blocked_while_its_token_waits_for_the_log_gets_none_and_no_record_says_so() {
    let log = Log::of("blocked-log");
    let socket = log.bind();
    let daemon = log.daemon("blocked-log", "");
    audit::fill(&log);
    let mut alice = daemon.peer(ALICE.uid);
    let asks = thread::spawn(move || {
        loop {
            alice.say(format!("{ISSUE}\n"));
            let code = alice.hear_code().unwrap();
            // The log was full for longer than a token waits for it.
            if code != "audit_unavailable" {
                break code;
            }
        }
    });
    until("a token to wait", || {
        let metrics = daemon.ask(r#"{"v":1,"op":"metrics"}"#).to_string();
        !metrics.contains("slurm_tokend_audit_waits_total 0")
    });
    let mut root = daemon.peer(0);
    root.say("{\"v\":1,\"op\":\"block\",\"user\":\"alice\"}\n");
    until("the block", || {
        daemon.ask_as(ALICE.uid, WHOAMI)["ok"]["allowed"] == false
    });
    let records = records_until_block(|| next_record(&socket));
    assert_eq!(asks.join().unwrap(), "blocked");
    assert_eq!(root.hear_code().as_deref(), Some("ok"));
    let granted = records.iter().filter(|r| r.contains(" result=granted "));
    assert_eq!(granted.count(), 0, "{records:?}");
}

#[test]
fn who_is_blocked_while_its_token_waits_for_its_turn_gets_none() {
    let key = generate_key("RS256", "blocked-turn.pem");
    let limits = "[limits]\nburst = 10000\nconnections_per_user = 300\n";
    let daemon = Daemon::with("blocked-turn", "RS256", &key, "", limits);
    let mut alice: Vec<_> = (0..300).map(|_| daemon.peer(ALICE.uid)).collect();
    for peer in &mut alice {
        peer.say(format!("{ISSUE}\n"));
    }
    stdout(daemon.tokenctl(&["block", "alice"]));
    let codes: Vec<_> = alice
        .iter_mut()
        .map(|peer| peer.hear_code().unwrap())
        .collect();
    assert!(codes.iter().any(|code| code == "blocked"), "{codes:?}");
    assert!(codes.iter().all(|code| code == "ok" || code == "blocked"));
    // Whatever was granted was granted before the block.
    let is_granted = |record: &String| record.contains(" result=granted ");
    let granted = codes.iter().filter(|code| *code == "ok").count();
    until("the records", || {
        let records = records(&daemon);
        let is_blocked = records.iter().any(|record| record.contains(": op=block "));
        is_blocked && records.iter().filter(|r| is_granted(r)).count() == granted
    });
    let records = records(&daemon);
    let block = records
        .iter()
        .rposition(|r| r.contains(": op=block "))
        .unwrap();
    assert!(!records[block..].iter().any(is_granted), "{records:?}");
}

#[test]
fn no_service_gets_a_token_for_a_blocked_user_and_a_blocked_service_gets_none() {
    let daemon = daemon("blocked-service", DELEGATE);
    let portal = |user| {
        let request = format!(r#"{{"v":1,"op":"issue","for":"{user}"}}"#);
        code(&daemon.ask_as(PORTAL, &request)).to_owned()
    };
    assert_eq!((portal("alice"), portal("bob")), ("ok".into(), "ok".into()));
    stdout(daemon.tokenctl(&["block", "alice"]));
    assert_eq!(
        (portal("alice"), portal("bob")),
        ("blocked".into(), "ok".into())
    );
    let may_ask_for = || daemon.ask_as(PORTAL, WHOAMI)["ok"]["delegate_for_groups"].clone();
    assert_eq!(may_ask_for(), json!(["hpcusers"]));
    stdout(daemon.tokenctl(&["block", "portal"]));
    assert_eq!(portal("bob"), "blocked");
    assert_eq!(may_ask_for(), Value::Null);
}

#[test]
fn a_block_outlives_a_restart_and_a_reload_and_ends_by_unblock() {
    let first = daemon("outlives", "");
    let block = ["block", "alice", "--reason", "ticket 4711"];
    stdout(first.tokenctl(&block));
    first.signal(Signal::SIGHUP);
    until("the reload", || {
        first.journal().matches("ready: ").count() == 2
    });
    assert_eq!(code_for(&first, ALICE.uid), "blocked");
    drop(first);
    let second = Daemon::run("outlives");
    assert_eq!(code_for(&second, ALICE.uid), "blocked");
    let sessions = stdout(second.tokenctl(&["sessions", "alice"]));
    assert!(sessions.contains("ticket 4711"), "{sessions}");
    stdout(second.tokenctl(&["unblock", "alice"]));
    drop(second);
    let third = Daemon::run("outlives");
    assert_eq!(code_for(&third, ALICE.uid), "ok");
}

#[test]
fn a_block_outlives_a_daemon_that_is_killed() {
    let mut daemon = daemon("killed", "");
    stdout(daemon.tokenctl(&["block", "alice"]));
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    let daemon = Daemon::run("killed");
    assert_eq!(code_for(&daemon, ALICE.uid), "blocked");
}

#[test]
fn a_block_ends_by_itself_when_its_time_is_over() {
    let daemon = daemon("timed", "");
    stdout(daemon.tokenctl(&["block", "alice", "--for", "2"]));
    stdout(daemon.tokenctl(&["block", "bob", "--for", "1h"]));
    until("the block to end", || code_for(&daemon, ALICE.uid) == "ok");
    assert_eq!(code_for(&daemon, BOB.uid), "blocked");
}

#[test]
fn neither_another_name_nor_another_uid_ends_a_block() {
    let account = |name: &str, uid: u32| {
        edit_accounts("passwd", |passwd| {
            let others = passwd.lines().filter(|line| !line.contains(":changing:"));
            let others: String = others.flat_map(|line| [line, "\n"]).collect();
            format!("{others}{name}:x:{uid}:2010:changing:/nonexistent:/bin/sh\n")
        });
    };
    account("carol", 45_001);
    let limits = "[limits]\naccount_cache = \"1s\"\nburst = 10000\n";
    let daemon = daemon("renamed", limits);
    stdout(daemon.tokenctl(&["block", "carol"]));
    let sun = |uid| daemon.ask_as(uid, WHOAMI)["ok"]["user"].clone();
    account("carola", 45_001);
    until("the new name", || sun(45_001) == "carola");
    assert_eq!(code_for(&daemon, 45_001), "blocked");
    account("carol", 45_002);
    until("the new uid", || sun(45_002) == "carol");
    assert_eq!(code_for(&daemon, 45_002), "blocked");
    // Of neither there is an account any more; the old name lifts it.
    account("other", 45_003);
    stdout(daemon.tokenctl(&["unblock", "carol"]));
    let sessions = daemon.ask(r#"{"v":1,"op":"sessions","user":"carol"}"#);
    assert!(!sessions.to_string().contains("blocked"), "{sessions}");
}

#[test]
fn a_blocked_administrator_does_not_unblock_itself() {
    let daemon = daemon("blocked-admin", "");
    stdout(daemon.tokenctl(&["block", "admin"]));
    for request in [
        r#"{"v":1,"op":"unblock","user":"admin"}"#,
        r#"{"v":1,"op":"block","user":"alice"}"#,
        r#"{"v":1,"op":"sessions"}"#,
    ] {
        assert_eq!(code(&daemon.ask_as(ADMIN.uid, request)), "blocked");
    }
    // Root may be blocked, which keeps it from nothing but tokens.
    stdout(daemon.tokenctl(&["block", "root"]));
    stdout(daemon.tokenctl(&["unblock", "admin"]));
    let answer = daemon.ask_as(ADMIN.uid, r#"{"v":1,"op":"sessions"}"#);
    assert_eq!(code(&answer), "ok", "{answer}");
}

#[test]
fn who_is_to_be_blocked_must_have_an_account_and_who_is_to_be_unblocked_a_block() {
    let daemon = daemon("nobody-there", "");
    for name in [
        "nobody-there",
        "",
        "0",
        "a b",
        "alice\n",
        "../alice",
        "\u{202e}ecila",
    ] {
        let output = daemon.tokenctl(&["block", "--", name]);
        assert_eq!(output.status.code(), Some(1), "{name:?}");
        assert!(told(&output).contains("no account"), "{}", told(&output));
        assert!(told(&output).lines().count() == 2, "{}", told(&output));
    }
    let output = daemon.tokenctl(&["unblock", "alice"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("alice is not blocked"),
        "{}",
        told(&output)
    );
    assert!(!file_of("nobody-there").exists());
}

#[test]
fn what_lives_on_is_told_with_what_to_do_about_it() {
    let daemon = daemon("lives-on", "");
    let token = daemon.ask_as(ALICE.uid, ISSUE);
    let blocked = stdout(daemon.tokenctl(&["block", "alice", "--json"]));
    let blocked: Value = serde_json::from_str(&blocked).unwrap();
    assert_eq!(blocked["live_tokens"], 1, "{blocked}");
    assert_eq!(blocked["latest_expiry"], token["ok"]["expires_at"]);
    assert_eq!(blocked["kid"], token["ok"]["kid"]);
    let words = stdout(daemon.tokenctl(&["block", "alice"]));
    for told in ["this node only", "1 tokens live on", "the kid lives-on"] {
        assert!(words.contains(told), "{told}: {words}");
    }
}

#[test]
fn a_reason_makes_no_second_line_in_the_log() {
    let daemon = daemon("reason", "");
    let odd = "x\" code=ok <34>su: \u{e9}='\\";
    stdout(daemon.tokenctl(&["block", "alice", "--reason", odd]));
    until("the record", || records(&daemon).len() == 1);
    let record = records(&daemon).remove(0);
    let ends = r"for=alice until=- reason=x\x22\x20code\x3dok\x20<34>su:\x20\xc3\xa9\x3d\x27\x5c";
    assert!(record.ends_with(ends), "{record}");
    for bad in ["a\nb", "a\u{1b}[2J", &"x".repeat(201)] {
        let output = daemon.tokenctl(&["block", "bob", "--reason", bad]);
        assert_eq!(output.status.code(), Some(1), "{bad:?}");
    }
    assert_eq!(code_for(&daemon, BOB.uid), "ok");
    // The user isn't told what is known of it.
    let refused = daemon.ask_as(ALICE.uid, ISSUE);
    assert!(!refused.to_string().contains("su:"), "{refused}");
    let own = daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"sessions"}"#);
    assert!(!own.to_string().contains("su:"), "{own}");
}

/// Starts the daemon in vain; what it said.
fn refusal(name: &str, args: &[&str]) -> String {
    let output = Daemon::command(name)
        .args(args)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn blocks_that_cannot_be_read_stop_the_start_and_are_never_none() {
    let daemon = daemon("broken", "");
    stdout(daemon.tokenctl(&["block", "alice"]));
    drop(daemon);
    let file = file_of("broken");
    let good = fs::read_to_string(&file).unwrap();
    for bad in [
        "",
        "null",
        "{\"version\": 1}",
        &good[..good.len() / 2],
        &good.replace("\"version\": 1", "\"version\": 7"),
        &"x".repeat(5 * 1024 * 1024),
    ] {
        fs::write(&file, bad).unwrap();
        for args in [&[][..], &["--check"]] {
            let told = refusal("broken", args);
            assert!(told.contains(file.to_str().unwrap()), "{told}");
        }
    }
    fs::write(&file, good).unwrap();
    let daemon = Daemon::run("broken");
    assert_eq!(code_for(&daemon, ALICE.uid), "blocked");
}

/// A state directory on a disk that is full.
fn fill(directory: &Path) {
    let mut size = 1 << 20;
    let mut bytes = Vec::new();
    while size > 0 {
        let more = vec![b'x'; bytes.len() + size];
        if fs::write(directory.join("filler"), &more).is_ok() {
            bytes = more;
        } else {
            fs::write(directory.join("filler"), &bytes).unwrap();
            size /= 2;
        }
    }
}

#[test]
fn on_a_full_disk_who_is_to_be_blocked_is_and_who_is_to_be_let_in_is_not() {
    let key = generate_key("HS256", "full-disk.key");
    Daemon::configure("full-disk", "HS256", &key, "", "");
    let directory = Path::new("/var/lib/slurm-tokend-full-disk");
    fs::create_dir_all(directory).unwrap();
    let options = "size=256k,mode=0700,uid=501,gid=501";
    let mount = ["-t", "tmpfs", "-o", options, "none"];
    let mut command = Command::new("mount");
    stdout(command.args(mount).arg(directory).output().unwrap());
    let daemon = Daemon::run("full-disk");
    stdout(daemon.tokenctl(&["block", "bob"]));
    fill(directory);

    let output = daemon.tokenctl(&["block", "alice"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("is blocked until the daemon ends, and not beyond"));
    assert!(told(&output).contains("No space left"), "{}", told(&output));
    assert_eq!(code_for(&daemon, ALICE.uid), "blocked");

    let output = daemon.tokenctl(&["unblock", "bob"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("bob stays blocked"),
        "{}",
        told(&output)
    );
    assert_eq!(code_for(&daemon, BOB.uid), "blocked");

    // With room again the same command makes it last.
    fs::remove_file(directory.join("filler")).unwrap();
    stdout(daemon.tokenctl(&["block", "alice"]));
    drop(daemon);
    let daemon = Daemon::run("full-disk");
    for uid in [ALICE.uid, BOB.uid] {
        assert_eq!(code_for(&daemon, uid), "blocked");
    }
    drop(daemon);
    stdout(Command::new("umount").arg(directory).output().unwrap());
}

#[test]
fn without_a_log_a_user_is_blocked_and_nobody_is_let_in_again() {
    let key = generate_key("HS256", "unlogged.key");
    Daemon::configure("unlogged", "HS256", &key, "", "");
    let empty = Path::new("/run/unlogged");
    fs::create_dir(empty).unwrap();
    let command = Daemon::command_with("unlogged", &[(empty, "/dev")]);
    let daemon = Daemon::spawn("unlogged", command);
    stdout(daemon.tokenctl(&["block", "alice"]));
    let output = daemon.tokenctl(&["unblock", "alice"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("nobody was let in again"),
        "{}",
        told(&output)
    );
    assert_eq!(code_for(&daemon, ALICE.uid), "blocked");
    drop(daemon);
    let daemon = Daemon::run("unlogged");
    assert_eq!(code_for(&daemon, ALICE.uid), "blocked");
}

#[test]
fn two_blocks_at_once_are_both_kept() {
    let daemon = daemon("both", "");
    let blocks: Vec<_> = ["alice", "bob", "portal", "slurmrestd", "munge", "ali.ce"]
        .map(|user| {
            let line = format!(r#"{{"v":1,"op":"block","user":"{user}"}}"#);
            let mut peer = daemon.peer(0);
            thread::spawn(move || {
                peer.say(format!("{line}\n"));
                peer.hear_code()
            })
        })
        .into_iter()
        .collect();
    for block in blocks {
        assert_eq!(block.join().unwrap().as_deref(), Some("ok"));
    }
    drop(daemon);
    let daemon = Daemon::run("both");
    let status = daemon.ask(r#"{"v":1,"op":"status"}"#);
    assert_eq!(status["ok"]["blocked"], 6, "{status}");
}
