//! Each decision is one line of the system's log, and without it there is no
//! token.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;

use nix::unistd::pipe;
use serde_json::Value;

use crate::node::{ALICE, BOB, Daemon, generate_key, records, until};
use crate::peer::code;

const ISSUE: &str = r#"{"v":1,"op":"issue","lifespan":600}"#;
const PING: &str = r#"{"v":1,"op":"ping"}"#;
/// The service of tests/host/passwd, and whom it may ask for.
const PORTAL: u32 = 500;
const DELEGATE: &str = "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\n";

fn daemon(name: &str, tables: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    Daemon::with(name, "HS256", &key, "", tables)
}

/// The only record of a daemon, once it's there.
fn record(daemon: &Daemon) -> String {
    until("a record", || !records(daemon).is_empty());
    let mut all = records(daemon);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// A field of a record.
fn field<'a>(record: &'a str, name: &str) -> Option<&'a str> {
    let fields = record.split_once("]: ").unwrap().1;
    let values = fields
        .split(' ')
        .map(|field| field.split_once('=').unwrap());
    let mut found = values.filter(|(field, _)| *field == name).map(|(_, v)| v);
    let value = found.next();
    assert_eq!(found.next(), None, "{name} twice: {record}");
    value
}

#[test]
fn a_grant_is_recorded_with_all_that_tells_the_token() {
    let daemon = daemon("audit-grant", "");
    let answer = daemon.ask_as(ALICE.uid, ISSUE);
    let granted = &answer["ok"];
    let record = record(&daemon);
    // authpriv.info (RFC 3164 section 4.1.1: 10 * 8 + 6).
    let start = format!("<86>slurm-tokend[{}]: ", daemon.pid());
    assert!(record.starts_with(&start), "{record}");
    let own_pid = std::process::id().to_string();
    let uid = ALICE.uid.to_string();
    let exp = granted["expires_at"].to_string();
    for (name, value) in [
        ("op", "issue"),
        ("result", "granted"),
        ("uid", &uid),
        ("user", "alice"),
        ("pid", &own_pid),
        ("sun", "alice"),
        ("lifespan", "600"),
        ("exp", &exp),
        ("kid", granted["kid"].as_str().unwrap()),
        ("jti", granted["jti"].as_str().unwrap()),
        ("rule", "default"),
    ] {
        assert_eq!(field(&record, name), Some(value), "{name}: {record}");
    }
}

#[test]
fn a_grant_to_a_service_is_recorded_with_both_names() {
    let daemon = daemon("audit-delegate", DELEGATE);
    let answer = daemon.ask_as(PORTAL, r#"{"v":1,"op":"issue","for":"bob"}"#);
    assert_eq!(code(&answer), "ok", "{answer}");
    let record = record(&daemon);
    for (name, value) in [("user", "portal"), ("for", "bob"), ("sun", "bob")] {
        assert_eq!(field(&record, name), Some(value), "{name}: {record}");
    }
}

#[test]
fn a_refusal_is_recorded_with_its_code() {
    let daemon = daemon("audit-refusal", "");
    daemon.ask_as(
        ALICE.uid,
        r#"{"v":1,"op":"issue","for":"bob","lifespan":"2h"}"#,
    );
    let record = record(&daemon);
    // authpriv.notice.
    let start = format!("<85>slurm-tokend[{}]: ", daemon.pid());
    assert!(record.starts_with(&start), "{record}");
    let uid = ALICE.uid.to_string();
    for (name, value) in [
        ("op", "issue"),
        ("result", "refused"),
        ("uid", uid.as_str()),
        ("user", "alice"),
        ("for", "bob"),
        ("lifespan", "2h"),
        ("code", "not_allowed"),
    ] {
        assert_eq!(field(&record, name), Some(value), "{name}: {record}");
    }
    assert_eq!(field(&record, "jti"), None);
}

#[test]
fn a_refusal_of_a_name_is_recorded_with_its_caller() {
    let daemon = daemon("audit-name", DELEGATE);
    daemon.ask_as(PORTAL, r#"{"v":1,"op":"issue","for":"0"}"#);
    let record = record(&daemon);
    for (name, value) in [
        ("user", "portal"),
        ("for", "0"),
        ("code", "privileged_user"),
    ] {
        assert_eq!(field(&record, name), Some(value), "{name}: {record}");
    }
}

#[test]
fn a_refusal_of_a_uid_without_an_account_is_recorded() {
    let daemon = daemon("audit-stranger", "");
    daemon.ask_as(100_000, ISSUE);
    let record = record(&daemon);
    assert_eq!(field(&record, "uid"), Some("100000"));
    assert_eq!(field(&record, "user"), None);
    assert_eq!(field(&record, "code"), Some("unknown_user"));
}

#[test]
fn a_request_that_cannot_be_read_is_recorded() {
    let daemon = daemon("audit-unread", "");
    daemon.ask_as(ALICE.uid, "hello");
    let record = record(&daemon);
    assert_eq!(field(&record, "op"), Some("-"));
    assert_eq!(field(&record, "code"), Some("malformed_request"));
}

#[test]
fn bytes_from_outside_are_escaped_and_make_no_second_line() {
    let daemon = daemon("audit-escape", DELEGATE);
    let odd = r#"bob\n<34>su: root \u001b[2J\u0000\u00e9\"'=\\x"#;
    for (number, request) in [
        format!(r#"{{"v":1,"op":"issue","for":"{odd}"}}"#),
        format!(r#"{{"v":1,"op":"issue","lifespan":"{odd}"}}"#),
        format!(r#"{{"v":1,"op":"issue","for":"{}"}}"#, "x".repeat(5000)),
    ]
    .into_iter()
    .enumerate()
    {
        daemon.ask_as(PORTAL, &request);
        until("the record", || records(&daemon).len() == number + 1);
    }
    let records = records(&daemon);
    for record in &records {
        assert!(
            record.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
            "{record:?}"
        );
        assert!(!record.contains(['"', '\'']), "{record}");
        assert!(record.len() < 512, "{record}");
        // Each field reads back: nothing from outside looks like one of ours.
        assert_eq!(field(record, "op"), Some("issue"));
        assert_eq!(field(record, "result"), Some("refused"));
    }
    assert_eq!(
        field(&records[0], "for"),
        Some(r"bob\x0a<34>su:\x20root\x20\x1b[2J\x00\xc3\xa9\x22\x27\x3d\x5cx")
    );
}

#[test]
fn no_token_is_in_a_record_or_in_the_journal() {
    let daemon = daemon("audit-secret", DELEGATE);
    let answer = daemon.ask_as(ALICE.uid, ISSUE);
    let token = answer["ok"]["token"].as_str().unwrap();
    // It comes back by mistake in each place that a request has.
    for request in [
        format!(r#"{{"v":1,"op":"{token}"}}"#),
        format!(r#"{{"v":1,"op":"issue","{token}":1}}"#),
        format!(r#"{{"v":1,"op":"issue","for":"{token}"}}"#),
        format!(r#"{{"v":1,"op":"issue","lifespan":"{token}"}}"#),
        token.to_owned(),
    ] {
        daemon.ask_as(PORTAL, &request);
    }
    until("all records", || records(&daemon).len() == 6);
    let signature = token.rsplit_once('.').unwrap().1;
    let told = records(&daemon).concat() + &daemon.journal();
    assert!(!told.contains(token) && !told.contains(signature), "{told}");
}

/// A system log of one daemon's own, which can be full, gone, and made again.
pub struct Log {
    directory: PathBuf,
}

impl Log {
    pub fn of(name: &str) -> Self {
        let directory = PathBuf::from(format!("/run/log-{name}"));
        fs::create_dir(&directory).unwrap();
        Self { directory }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Binds it, whatever was there.
    pub fn bind(&self) -> UnixDatagram {
        let _ = fs::remove_file(self.path());
        let socket = UnixDatagram::bind(self.path()).unwrap();
        fs::set_permissions(self.path(), Permissions::from_mode(0o666)).unwrap();
        socket
    }

    /// A daemon for which this is `/dev/log`.
    pub fn daemon(&self, name: &str, tables: &str) -> Daemon {
        let key = generate_key("HS256", &format!("{name}.key"));
        Daemon::configure(name, "HS256", &key, "", tables);
        let command = Daemon::command_with(name, &[(&self.directory, "/dev")]);
        Daemon::spawn(name, command)
    }
}

/// Sends to a log until it takes no more.
pub fn fill(log: &Log) {
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    loop {
        match filler.send_to(b"<14>filler", log.path()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads a log until a record of that daemon comes.
pub fn next_record(log: &UnixDatagram) -> String {
    let mut record = [0; 8192];
    loop {
        let size = log.recv(&mut record).unwrap();
        let text = String::from_utf8_lossy(&record[..size]).into_owned();
        if text.contains("slurm-tokend[") {
            return text;
        }
    }
}

pub fn assert_unrecorded(answer: &Value) {
    assert_eq!(code(answer), "audit_unavailable", "{answer}");
    assert!(!answer.to_string().contains("eyJ"), "{answer}");
}

#[test]
fn without_a_log_there_is_no_token_and_the_start_says_so() {
    let daemon = Log::of("absent").daemon("absent", "");
    assert!(
        daemon.journal().contains("/dev/log"),
        "{}",
        daemon.journal()
    );
    assert_unrecorded(&daemon.ask_as(ALICE.uid, ISSUE));
    assert_eq!(code(&daemon.ask_as(ALICE.uid, PING)), "ok");
}

#[test]
fn without_a_log_there_are_tokens_where_the_record_is_not_required() {
    let daemon = Log::of("optional").daemon("optional", "[audit]\nrequired = false\n");
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
    assert!(
        daemon.journal().contains("record was lost"),
        "{}",
        daemon.journal()
    );
}

#[test]
fn a_full_log_refuses_the_token_after_a_while_and_holds_nobody_else() {
    let log = Log::of("full");
    let _unread = log.bind();
    let daemon = log.daemon("full", "");
    // Both are known: what follows waits for the log and nothing else.
    for uid in [ALICE.uid, BOB.uid] {
        daemon.ask_as(uid, r#"{"v":1,"op":"whoami"}"#);
    }
    fill(&log);
    let mut waiting: Vec<_> = (0..20).map(|_| daemon.peer(ALICE.uid)).collect();
    for peer in &mut waiting {
        peer.say(format!("{ISSUE}\n"));
    }
    for _ in 0..20 {
        assert_eq!(code(&daemon.ask_as(BOB.uid, PING)), "ok");
    }
    for peer in &mut waiting {
        assert_unrecorded(&peer.hear().unwrap());
    }
}

#[test]
fn a_full_log_gives_tokens_where_the_record_is_not_required() {
    let log = Log::of("full-optional");
    let _unread = log.bind();
    let daemon = log.daemon("full-optional", "[audit]\nrequired = false\n");
    fill(&log);
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
}

#[test]
fn a_log_that_is_read_again_in_time_lets_the_tokens_go() {
    let log = Log::of("read-again");
    let socket = log.bind();
    let daemon = log.daemon("read-again", "");
    fill(&log);
    let mut waiting: Vec<_> = (0..20).map(|_| daemon.peer(ALICE.uid)).collect();
    for peer in &mut waiting {
        peer.say(format!("{ISSUE}\n"));
    }
    let reader = thread::spawn(move || (0..20).map(|_| next_record(&socket)).collect());
    let mut jtis = Vec::new();
    for peer in &mut waiting {
        let answer = peer.hear().unwrap();
        assert_eq!(code(&answer), "ok", "{answer}");
        jtis.push(answer["ok"]["jti"].as_str().unwrap().to_owned());
    }
    let records: Vec<String> = reader.join().unwrap();
    for jti in jtis {
        assert!(
            records
                .iter()
                .any(|record| field(record, "jti") == Some(&jti))
        );
    }
}

#[test]
fn a_log_that_is_made_anew_is_found_again() {
    let log = Log::of("anew");
    let first = log.bind();
    let daemon = log.daemon("anew", "");
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
    next_record(&first);
    drop(first);
    assert_unrecorded(&daemon.ask_as(ALICE.uid, ISSUE));
    fs::remove_file(log.path()).unwrap();
    assert_unrecorded(&daemon.ask_as(ALICE.uid, ISSUE));
    let second = log.bind();
    let answer = daemon.ask_as(ALICE.uid, ISSUE);
    assert_eq!(code(&answer), "ok");
    assert_eq!(
        field(&next_record(&second), "jti"),
        answer["ok"]["jti"].as_str()
    );
}

/// The old log's socket is still there, and nobody will ever read it.
#[test]
fn a_log_that_another_has_replaced_is_left() {
    let log = Log::of("replaced");
    let first = log.bind();
    let daemon = log.daemon("replaced", "");
    assert_eq!(code(&daemon.ask_as(ALICE.uid, ISSUE)), "ok");
    fill(&log);
    let second = log.bind();
    let answer = daemon.ask_as(ALICE.uid, ISSUE);
    assert_eq!(code(&answer), "ok", "{answer}");
    assert_eq!(
        field(&next_record(&second), "jti"),
        answer["ok"]["jti"].as_str()
    );
    drop(first);
}

#[test]
fn records_go_to_standard_error_where_that_is_configured() {
    let daemon = daemon("audit-stderr", "[audit]\nsink = \"stderr\"\n");
    let answer = daemon.ask_as(ALICE.uid, ISSUE);
    let jti = answer["ok"]["jti"].as_str().unwrap();
    assert!(
        daemon.journal().contains(&format!("jti={jti}")),
        "{}",
        daemon.journal()
    );
    assert!(records(&daemon).is_empty());
}

/// Nobody reads the pipe that standard error leads to.
#[test]
fn a_journal_that_hangs_refuses_tokens_and_holds_nobody_else() {
    let key = generate_key("HS256", "hung-journal.key");
    let tables =
        "[audit]\nsink = \"stderr\"\n[limits]\ntokens_per_minute = 100000\nburst = 10000\n";
    Daemon::configure("hung-journal", "HS256", &key, "", tables);
    let (_unread, journal) = pipe().unwrap();
    let socket = Daemon::socket_of("hung-journal");
    let mut process = Daemon::command("hung-journal")
        .stderr(journal)
        .spawn()
        .unwrap();
    until("the daemon to listen", || Path::new(&socket).exists());
    let mut alice = crate::peer::Peer::of(ALICE.uid, &socket).unwrap();
    let refused = loop {
        alice.say(format!("{ISSUE}\n"));
        let answer = alice.hear().unwrap();
        if code(&answer) != "ok" {
            break answer;
        }
    };
    assert_unrecorded(&refused);
    let mut bob = crate::peer::Peer::of(BOB.uid, &socket).unwrap();
    bob.say(format!("{PING}\n").repeat(100));
    for _ in 0..100 {
        assert_eq!(bob.hear_code().as_deref(), Some("ok"));
    }
    process.kill().unwrap();
    process.wait().unwrap();
}
