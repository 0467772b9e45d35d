//! Requests that are no requests, or more than one, or too long, or too slow.

use super::{Answer, Guest, WWW_DATA, ask, bearer, get, opened, token};
use crate::node::{ALICE, Daemon, generate_key, records, until};

fn daemon(name: &str, limits: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    let tables = format!("[limits]\n{limits}\n{}", opened(name, "", ""));
    Daemon::with(name, "HS256", &key, "", &tables)
}

/// The answer to these bytes, after which the connection ends.
fn last_answer(name: &str, request: impl AsRef<[u8]>) -> Answer {
    let mut guest = Guest::of(name, ALICE.uid);
    guest.say(request);
    let answer = guest.hear().expect("an answer");
    let more = guest.hear();
    assert!(more.is_none(), "{answer:?}, and then {more:?}");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    answer
}

#[test]
fn what_is_no_request_is_told_so_in_json() {
    const NAME: &str = "http-garbage";
    let daemon = daemon(NAME, "");
    for request in [
        "hello\r\n\r\n",
        "\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/3.0\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "{\"v\":1,\"op\":\"issue\"}\n\n",
        "POST /authenticate HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "POST /authenticate HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST /authenticate HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    ] {
        let answer = last_answer(NAME, request);
        assert_eq!(
            answer.refusal(),
            (400, "malformed_request".into()),
            "{request:?}"
        );
    }
    until("their record", || {
        let is_it = |record: &String| {
            record.contains("op=- result=refused uid=2001 user=alice")
                && record.contains(" door=http code=malformed_request")
        };
        records(&daemon).iter().any(is_it)
    });
}

#[test]
fn what_follows_a_request_of_http_1_0_and_is_none_is_told_so_once() {
    const NAME: &str = "http-old-garbage";
    let _daemon = daemon(NAME, "");
    let mut old = Guest::of(NAME, ALICE.uid);
    old.say("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(old.hear().unwrap().status, 200);
    old.say("hello\r\n\r\n");
    let refused = old.hear().expect("an answer");
    assert_eq!(refused.refusal(), (400, "malformed_request".into()));
    assert!(old.hear().is_none());
}

#[test]
fn a_request_whose_end_could_be_seen_in_two_places_is_refused_and_the_last() {
    const NAME: &str = "http-smuggled";
    let _daemon = daemon(NAME, "");
    let next = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Content-Length: 5, 5",
    ] {
        for line in ["POST /authenticate", "GET /verify", "GET /healthz"] {
            let request = format!("{line} HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n0\r\n\r\n{next}");
            let answer = last_answer(NAME, request);
            assert_eq!(
                answer.refusal(),
                (400, "malformed_request".into()),
                "{lengths}"
            );
        }
    }
}

#[test]
fn a_request_has_one_host_and_an_old_one_may_have_none() {
    const NAME: &str = "http-host";
    let _daemon = daemon(NAME, "");
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"] {
        let answer = last_answer(NAME, format!("GET /healthz HTTP/1.1\r\n{hosts}\r\n"));
        assert_eq!(
            answer.refusal(),
            (400, "malformed_request".into()),
            "{hosts}"
        );
    }
    let mut old = Guest::of(NAME, ALICE.uid);
    old.say("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(old.hear().unwrap().status, 200);
    old.say("GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(old.hear().unwrap().status, 200);
    assert!(old.hear().is_none());
}

#[test]
fn a_head_may_have_32_kib_and_not_much_more() {
    const NAME: &str = "http-heads";
    let _daemon = daemon(NAME, "");
    let with = |bytes: usize| format!("X: {}", "x".repeat(bytes));
    assert_eq!(
        ask(NAME, ALICE.uid, "GET /healthz", &[&with(31 * 1024)], "").status,
        200
    );
    let too_large = (431, "request_too_large".to_owned());
    let head = format!(
        "GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
        with(33 * 1024)
    );
    assert_eq!(last_answer(NAME, head).refusal(), too_large);
    let head = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "x".repeat(200 * 1024)
    );
    assert_eq!(last_answer(NAME, head).refusal(), too_large);
    let head = format!(
        "GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    assert_eq!(last_answer(NAME, head).refusal(), too_large);
}

#[test]
fn a_body_that_is_too_long_is_not_waited_for() {
    const NAME: &str = "http-long-body";
    let _daemon = daemon(NAME, "request_timeout = \"1m\"");
    let head = "POST /authenticate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                Content-Length: 99999999999\r\n\r\n{";
    let answer = last_answer(NAME, head);
    assert_eq!(answer.refusal(), (413, "request_too_large".into()));
}

#[test]
fn what_does_not_arrive_in_time_is_told_so() {
    const NAME: &str = "http-slow";
    let daemon = daemon(NAME, "request_timeout = \"1s\"");
    let timeout = (408, "timeout".to_owned());
    let body = "POST /authenticate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                Content-Length: 10\r\n\r\n{";
    for request in ["G", "GET /healthz HTTP/1.1\r\nHost: a\r\n", body] {
        assert_eq!(last_answer(NAME, request).refusal(), timeout, "{request:?}");
    }
    // Byte by byte it takes no longer.
    let mut slow = Guest::of(NAME, ALICE.uid);
    for byte in "GET /healthz HTTP/1.1\r\n".bytes() {
        slow.say([byte]);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(slow.hear().unwrap().refusal(), timeout);
    assert!(daemon.journal().lines().count() < 5, "{}", daemon.journal());
}

#[test]
fn half_a_request_at_the_end_is_told_so() {
    const NAME: &str = "http-half";
    let _daemon = daemon(NAME, "");
    for request in [
        "GET /heal",
        "GET /healthz HTTP/1.1\r\nHost: a\r\n",
        "POST /authenticate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let mut guest = Guest::of(NAME, ALICE.uid);
        guest.say(request);
        guest.peer.fall_silent();
        let answer = guest.hear().expect("an answer");
        assert_eq!(
            answer.refusal(),
            (400, "malformed_request".into()),
            "{request:?}"
        );
        assert!(guest.hear().is_none());
    }
}

#[test]
fn a_silent_connection_ends_without_a_word() {
    const NAME: &str = "http-silent";
    let _daemon = daemon(NAME, "idle_timeout = \"1s\"");
    let mut never = Guest::of(NAME, ALICE.uid);
    let mut once = Guest::of(NAME, ALICE.uid);
    once.say("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(once.hear().unwrap().status, 200);
    assert!(never.hear().is_none());
    assert!(once.hear().is_none());
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    const NAME: &str = "http-pipelined";
    let daemon = daemon(NAME, "");
    let alices = bearer(&token(&daemon, ALICE.uid, 600));
    let mut guest = Guest::of(NAME, WWW_DATA);
    let verify = format!("GET /verify HTTP/1.1\r\nHost: a\r\n{alices}\r\n\r\n");
    let other = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut request = [verify.as_str(), other].concat().repeat(20).into_bytes();
    for piece in request.chunks_mut(1000) {
        guest.say(piece);
    }
    for _ in 0..20 {
        let verified = guest.hear().unwrap();
        assert_eq!(
            verified.header("x-slurm-user-name"),
            Some("alice"),
            "{verified:?}"
        );
        assert_eq!(
            guest.hear().unwrap().refusal(),
            (404, "unknown_operation".into())
        );
    }
}

#[test]
fn a_peer_that_sends_no_more_still_gets_its_answer() {
    const NAME: &str = "http-half-closed";
    let _daemon = daemon(NAME, "");
    let mut guest = Guest::of(NAME, ALICE.uid);
    guest.say("POST /authenticate HTTP/1.1\r\nHost: a\r\n\r\n");
    guest.peer.fall_silent();
    guest.hear().expect("an answer").token();
    assert!(guest.hear().is_none());
}

#[test]
fn other_paths_and_methods_are_unknown() {
    const NAME: &str = "http-unknown";
    let _daemon = daemon(NAME, "");
    for line in [
        "GET /",
        "GET /verify/",
        "GET //verify",
        "GET /Verify",
        "GET /%76erify",
        "GET /authenticate/",
        "GET /verify;x",
        "OPTIONS *",
        "CONNECT verify:1",
    ] {
        let answer = get(NAME, ALICE.uid, line);
        assert_eq!(
            answer.refusal(),
            (404, "unknown_operation".into()),
            "{line}"
        );
    }
    for (line, allowed) in [
        ("GET /authenticate", "POST"),
        ("PUT /authenticate/refresh", "POST"),
        ("POST /healthz", "GET, HEAD"),
        ("DELETE /.well-known/jwks.json", "GET, HEAD"),
        ("post /metrics", "GET, HEAD"),
    ] {
        let answer = get(NAME, ALICE.uid, line);
        assert_eq!(
            answer.refusal(),
            (405, "unknown_operation".into()),
            "{line}"
        );
        assert_eq!(answer.header("allow"), Some(allowed), "{line}");
    }
}
