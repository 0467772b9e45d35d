//! Whatever is sent to the socket gets its code or a closed connection, and
//! others keep being served.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::sync::LazyLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::node::{ALICE, BOB, Daemon, generate_key, until};
use crate::peer::{Peer, code};

const PING: &str = "{\"v\":1,\"op\":\"ping\"}\n";
const ISSUE: &str = "{\"v\":1,\"op\":\"issue\"}\n";
/// The longest request, without its newline.
const MOST: usize = 16 * 1024;

/// One daemon for all who only send it something odd.
static DAEMON: LazyLock<Daemon> = LazyLock::new(|| daemon("hostile", ""));
/// One for those who keep it waiting.
static HASTY: LazyLock<Daemon> = LazyLock::new(|| daemon("hasty", SHORT_TIMES));

/// Not the shortest: tests must not come too late for them by accident.
const SHORT_TIMES: &str = "request_timeout = \"2s\"\nidle_timeout = \"3s\"\n";

fn daemon(name: &str, limits: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    let limits = format!("[limits]\ntokens_per_minute = 1000000\nburst = 1000000\n{limits}");
    Daemon::with(name, "HS256", &key, "", &limits)
}

fn issues_to(daemon: &Daemon, uid: u32) {
    let answer = daemon.ask_as(uid, ISSUE.trim_end());
    assert!(answer["ok"]["token"].is_string(), "{answer}");
}

/// What alice is told of a line, and that it cost her nothing but the line.
fn refusal_of(line: impl AsRef<[u8]>) -> (String, String) {
    let mut alice = DAEMON.peer(ALICE.uid);
    alice.say(line);
    alice.say("\n");
    let answer = alice.hear().expect("an answer");
    alice.say(PING);
    assert_eq!(alice.hear_code().as_deref(), Some("ok"), "after {answer}");
    let message = &answer["error"]["message"];
    (
        code(&answer).to_owned(),
        message.as_str().unwrap().to_owned(),
    )
}

fn assert_malformed(lines: &[&[u8]]) {
    for line in lines {
        let text = String::from_utf8_lossy(line);
        assert_eq!(refusal_of(line).0, "malformed_request", "{text}");
    }
}

#[test]
fn what_is_no_json_object_is_malformed() {
    assert_malformed(&[
        b"",
        b" ",
        b"hello",
        b"null",
        b"1",
        b"\"ping\"",
        b"{",
        b"}",
        b"{}",
        b"{\"v\":1,\"op\":\"ping\"",
        b"{\"v\":1,\"op\":\"ping\"}}",
        b"{\"v\":1,\"op\":\"ping\"} {\"v\":1,\"op\":\"ping\"}",
        b"{'v':1,'op':'ping'}",
        b"\xef\xbb\xbf{\"v\":1,\"op\":\"ping\"}",
        b"GET / HTTP/1.1\r",
    ]);
}

#[test]
fn a_list_of_a_requests_values_is_malformed() {
    assert_malformed(&[
        b"[1,\"ping\"]",
        b"[1,\"issue\",60]",
        b"[1,\"issue\",60,null]",
    ]);
}

#[test]
fn nuls_are_malformed() {
    assert_malformed(&[
        b"\0",
        b"\0{\"v\":1,\"op\":\"ping\"}",
        b"{\"v\":1,\"op\":\"pi\0ng\"}",
        b"{\"v\":1,\"op\":\"ping\"}\0",
    ]);
}

#[test]
fn invalid_utf8_is_malformed() {
    assert_malformed(&[
        b"\xff\xfe",
        b"{\"v\":1,\"op\":\"pi\xffng\"}",
        b"{\"v\":1,\"op\":\"issue\",\"for\":\"b\xc3ob\"}",
        b"{\"v\":1,\"op\":\"issue\",\"for\":\"\xed\xa0\x80\"}",
        b"{\"v\":1,\"op\":\"issue\",\"for\":\"\\ud800\"}",
    ]);
}

#[test]
fn deep_nesting_is_malformed() {
    let deep = |open: &str, close: &str, depth| open.repeat(depth) + "1" + &close.repeat(depth);
    for nested in [
        "[".repeat(MOST - 100),
        deep("[", "]", 8000),
        deep("{\"a\":", "}", 2000),
    ] {
        for line in [
            nested.clone(),
            format!("{{\"v\":1,\"op\":\"issue\",\"lifespan\":{nested}}}"),
            format!("{{\"v\":{nested},\"op\":\"issue\"}}"),
            format!("{{\"v\":1,\"op\":\"issue\",\"x\":{nested}}}"),
        ] {
            assert_eq!(refusal_of(&line).0, "malformed_request", "{}", &line[..60]);
        }
    }
}

#[test]
fn a_field_given_twice_is_malformed_and_named() {
    for (line, field) in [
        (r#"{"v":1,"v":1,"op":"ping"}"#, "`v`"),
        (r#"{"v":1,"op":"ping","op":"ping"}"#, "`op`"),
        (
            r#"{"v":1,"op":"issue","lifespan":60,"lifespan":600}"#,
            "`lifespan`",
        ),
        (r#"{"v":1,"op":"issue","for":"bob","for":"alice"}"#, "`for`"),
        (
            r#"{"v":1,"op":"issue","for":"bob","f\u006fr":"alice"}"#,
            "`for`",
        ),
    ] {
        let (code, message) = refusal_of(line);
        assert_eq!(code, "malformed_request", "{line}");
        assert!(message.contains(field), "{message}");
    }
}

#[test]
fn an_unknown_field_is_malformed_and_named() {
    for (line, field) in [
        (r#"{"v":1,"op":"issue","lifepan":60}"#, "lifepan"),
        (r#"{"v":1,"op":"issue","uid":0}"#, "uid"),
        (r#"{"v":1,"op":"ping","lifespan":60}"#, "lifespan"),
        (r#"{"v":1,"op":"whoami","for":"bob"}"#, "for"),
    ] {
        let (code, message) = refusal_of(line);
        assert_eq!(code, "malformed_request", "{line}");
        assert!(message.contains(field), "{message}");
    }
}

#[test]
fn a_field_of_the_wrong_type_is_malformed_and_named() {
    for (line, field) in [
        (r#"{"v":1,"op":7}"#, "\"op\""),
        (r#"{"v":1,"op":["ping"]}"#, "\"op\""),
        (r#"{"v":1,"op":"issue","lifespan":true}"#, "\"lifespan\""),
        (
            r#"{"v":1,"op":"issue","lifespan":{"s":60}}"#,
            "\"lifespan\"",
        ),
        (r#"{"v":1,"op":"issue","for":2002}"#, "\"for\""),
        (r#"{"v":1,"op":"issue","for":["bob"]}"#, "\"for\""),
    ] {
        let (code, message) = refusal_of(line);
        assert_eq!(code, "malformed_request", "{line}");
        assert!(message.contains(field), "{message}");
    }
}

#[test]
fn another_version_is_told_of_ours() {
    for version in ["0", "2", "1.0", "\"1\"", "-1", "4294967297", "[1]"] {
        let (code, message) = refusal_of(format!("{{\"v\":{version},\"op\":\"ping\",\"x\":1}}"));
        assert_eq!(code, "unsupported_version", "{version}");
        assert!(message.contains("version 1"), "{message}");
    }
}

#[test]
fn an_unknown_operation_is_named_and_the_known_ones_too() {
    let (code, message) = refusal_of(r#"{"v":1,"op":"sudo","x":1}"#);
    assert_eq!(code, "unknown_operation");
    assert!(message.contains("sudo"), "{message}");
}

#[test]
fn half_a_request_whose_peer_ends_is_malformed() {
    let mut alice = DAEMON.peer(ALICE.uid);
    alice.say("{\"v\":1,\"op\":\"is");
    alice.fall_silent();
    assert_eq!(alice.hear_code().as_deref(), Some("malformed_request"));
    assert_eq!(alice.hear(), None);
}

#[test]
fn half_a_request_is_answered_timeout_and_closed() {
    let mut alice = HASTY.peer(ALICE.uid);
    alice.say("{\"v\":1,\"op\":\"is");
    assert_eq!(alice.hear_code().as_deref(), Some("timeout"));
    assert_eq!(alice.hear(), None);
}

#[test]
fn half_a_request_after_a_whole_one_is_answered_timeout_and_closed() {
    let mut alice = HASTY.peer(ALICE.uid);
    alice.say(format!("{PING}{{\"v\":1"));
    assert_eq!(alice.hear_code().as_deref(), Some("ok"));
    assert_eq!(alice.hear_code().as_deref(), Some("timeout"));
    assert_eq!(alice.hear(), None);
}

#[test]
fn a_request_of_16_kib_is_served() {
    let mut alice = DAEMON.peer(ALICE.uid);
    for _ in 0..3 {
        alice.say(format!("{:MOST$}\n", PING.trim_end()));
        assert_eq!(alice.hear_code().as_deref(), Some("ok"));
    }
}

#[test]
fn one_byte_more_than_16_kib_is_too_large_and_ends_the_connection() {
    let mut alice = DAEMON.peer(ALICE.uid);
    alice.say(format!("{:1$}\n", PING.trim_end(), MOST + 1));
    assert_eq!(alice.hear_code().as_deref(), Some("request_too_large"));
    assert_eq!(alice.hear(), None);
}

#[test]
fn a_request_without_end_is_too_large_and_ends_the_connection() {
    let mut alice = DAEMON.peer(ALICE.uid);
    while alice.is_heard("x".repeat(4096)) {}
    assert_eq!(alice.hear_code().as_deref(), Some("request_too_large"));
    assert_eq!(alice.hear(), None);
}

#[test]
fn a_connection_that_never_asks_is_closed() {
    let mut alice = HASTY.peer(ALICE.uid);
    assert_eq!(alice.hear(), None);
}

#[test]
fn a_connection_that_asks_no_more_is_closed() {
    let mut alice = HASTY.peer(ALICE.uid);
    alice.say(PING);
    assert_eq!(alice.hear_code().as_deref(), Some("ok"));
    assert_eq!(alice.hear(), None);
}

/// Each byte comes long before the time for a request is over, and the request
/// has far more of them than that time.
#[test]
fn a_request_in_single_bytes_is_answered_timeout_and_closed() {
    let mut alice = HASTY.peer(ALICE.uid);
    alice.say("{");
    until("the daemon to end the request", || !alice.is_heard(" "));
    assert_eq!(alice.hear_code().as_deref(), Some("timeout"));
    assert_eq!(alice.hear(), None);
}

#[test]
fn a_thousand_idle_connections_keep_nobody_from_being_served() {
    let each = 250;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let daemon = daemon(
        "thousand",
        &format!("{SHORT_TIMES}connections_per_user = {each}\n"),
    );
    let mut idle = Vec::new();
    for uid in [ALICE.uid, 2003, 500, 2020] {
        daemon.ask_as(uid, r#"{"v":1,"op":"whoami"}"#);
        for _ in 0..each {
            idle.push(daemon.peer(uid));
        }
    }
    issues_to(&daemon, BOB.uid);
    for mut peer in idle {
        assert_eq!(peer.hear(), None);
    }
}

#[test]
fn a_peer_that_never_reads_is_ended_and_takes_no_memory() {
    let daemon = daemon("unread", SHORT_TIMES);
    issues_to(&daemon, ALICE.uid);
    let before = resident_kib(&daemon);
    let mut alice: Vec<Peer> = (0..50).map(|_| daemon.peer(ALICE.uid)).collect();
    for peer in &alice {
        fill(peer);
    }
    let grown = resident_kib(&daemon).saturating_sub(before);
    // Each has at most a request and an answer here.
    assert!(grown < 50 * 64, "{grown} KiB more");
    issues_to(&daemon, BOB.uid);
    for peer in &mut alice {
        until("the daemon to end it", || !peer.is_heard(PING));
    }
}

/// Sends requests until there is no room for more; reads nothing.
fn fill(peer: &Peer) {
    let requests = PING.repeat(1000);
    let mut stream = peer.stream();
    stream.set_nonblocking(true).unwrap();
    let mut patience = 100;
    while patience > 0 {
        match stream.write(requests.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                patience -= 1;
                std::thread::yield_now();
            }
            Err(_) => break,
            Ok(_) => {}
        }
    }
    stream.set_nonblocking(false).unwrap();
}

fn resident_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn peers_that_are_gone_before_their_answer_harm_nobody() {
    let daemon = daemon("gone", "connections_per_user = 1000\n");
    for _ in 0..500 {
        let mut alice = daemon.peer(ALICE.uid);
        alice.say(ISSUE);
    }
    issues_to(&daemon, ALICE.uid);
    issues_to(&daemon, BOB.uid);
}

/// Some of them are answered at once, some wait for a signature, some are
/// refused: on one connection none overtakes another.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let key = generate_key("RS256", "pipelined.pem");
    let daemon = Daemon::with("pipelined", "RS256", &key, "", "[limits]\nburst = 1000\n");
    let mut alice = daemon.peer(ALICE.uid);
    let mut requests = String::new();
    for number in 0..100 {
        let lifespan = 600 + number;
        for request in [
            format!(r#"{{"v":1,"op":"issue","lifespan":{lifespan}}}"#),
            format!(r#"{{"v":1,"op":"number-{number}"}}"#),
            r#"{"v":1,"op":"whoami"}"#.to_owned(),
            format!(r#"{{"v":1,"op":"issue","lifespan":"{number}x"}}"#),
        ] {
            requests.push_str(&request);
            requests.push('\n');
        }
    }
    alice.say(requests);
    alice.fall_silent();
    let mut first_end = None;
    for number in 0..100 {
        let granted = alice.hear().unwrap();
        let end = granted["ok"]["expires_at"].as_u64().unwrap();
        // The clock goes on meanwhile, and never back.
        assert!(end >= *first_end.get_or_insert(end) + number, "{granted}");
        for (field, part) in [
            ("/error/message", format!("number-{number}\"")),
            ("/ok/user", "alice".to_owned()),
            ("/error/message", format!("\"{number}x\"")),
        ] {
            let answer = alice.hear().unwrap();
            let text = answer.pointer(field).and_then(|text| text.as_str());
            assert!(
                text.is_some_and(|t| t.contains(&part)),
                "{number}: {answer}"
            );
        }
    }
    assert_eq!(alice.hear(), None);
}

#[test]
fn descriptors_that_a_peer_sends_are_not_kept() {
    let daemon = daemon("descriptors", "");
    issues_to(&daemon, ALICE.uid);
    let count = || {
        fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
            .unwrap()
            .count()
    };
    let before = count();
    let mut alice = daemon.peer(ALICE.uid);
    let null = fs::File::open("/dev/null").unwrap();
    for _ in 0..20 {
        let sent = [null.as_raw_fd(); 100];
        let message = [IoSlice::new(PING.as_bytes())];
        let rights = [ControlMessage::ScmRights(&sent)];
        let socket = alice.stream().as_raw_fd();
        sendmsg::<()>(socket, &message, &rights, MsgFlags::empty(), None).unwrap();
        assert_eq!(alice.hear_code().as_deref(), Some("ok"));
    }
    assert!(count() <= before + 1, "{} and {before} before", count());
}

/// A program with more rights may be made to write to it, as its standard
/// output; here root does.
#[test]
fn a_connection_speaks_for_who_made_it_whoever_writes_to_it() {
    let mut alices = DAEMON.peer(ALICE.uid);
    for op in [
        "status",
        "sessions\",\"user\":\"bob",
        "unblock\",\"user\":\"alice",
    ] {
        alices.say(format!("{{\"v\":1,\"op\":\"{op}\"}}\n"));
        assert_eq!(alices.hear_code().as_deref(), Some("not_allowed"), "{op}");
    }
    alices.say(ISSUE);
    assert_eq!(alices.hear().unwrap()["ok"]["user"], "alice");
}

/// The same bytes at each run: what fails can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % sides
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap()
    }
}

#[test]
fn random_bytes_get_answers_of_the_protocol_or_a_closed_connection() {
    let mut dice = Dice(0x5eed_0001);
    let mut codes = BTreeSet::new();
    for round in 0..400 {
        let mut bytes = match round % 3 {
            0 => (0..dice.roll(3000)).map(|_| dice.byte()).collect(),
            1 => "[{\"v\":1,}\\u0n".repeat(dice.roll(2000)).into_bytes(),
            _ => format!("{PING}{ISSUE}")
                .repeat(1 + dice.roll(10))
                .into_bytes(),
        };
        for _ in 0..dice.roll(5) {
            let place = dice.roll(bytes.len() + 1);
            bytes.insert(place, dice.byte());
        }
        let mut alice = DAEMON.peer(ALICE.uid);
        alice.say(&bytes);
        alice.fall_silent();
        while let Some(answer) = alice.hear() {
            assert_eq!(answer["v"], 1);
            codes.insert(code(&answer).to_owned());
        }
    }
    let expected = ["malformed_request", "ok", "request_too_large"];
    assert!(
        expected.iter().all(|code| codes.contains(*code)),
        "{codes:?}"
    );
    assert!(!codes.contains("internal"), "{codes:?}");
    issues_to(&DAEMON, BOB.uid);
}
