//! A stop finishes what has begun at the HTTP door, too, and loses nobody.

use nix::sys::signal::Signal;

use super::{Guest, opened};
use crate::node::{ALICE, Daemon, generate_key};
use crate::stopping::assert_stops;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
const ISSUE: &str = "POST /authenticate HTTP/1.1\r\nHost: a\r\n\r\n";

fn daemon(name: &str, limits: &str) -> Daemon {
    let key = generate_key("RS256", &format!("{name}.pem"));
    let tables = format!("[limits]\n{limits}\n{}", opened(name, "", ""));
    Daemon::with(name, "RS256", &key, "", &tables)
}

/// The daemon is stopped while they connect, so that all of them wait for it
/// when it learns that it's to end.
#[test]
fn callers_that_wait_to_be_accepted_are_served_at_the_stop() {
    const NAME: &str = "http-stop-backlog";
    let daemon = daemon(NAME, "");
    daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"whoami"}"#);
    daemon.signal(Signal::SIGSTOP);
    let mut guests: Vec<Guest> = (0..50).map(|_| Guest::of(NAME, ALICE.uid)).collect();
    for guest in &mut guests {
        guest.say(ISSUE);
    }
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGCONT);
    for guest in &mut guests {
        guest.hear().expect("an answer").token();
        assert!(guest.hear().is_none());
    }
    assert_stops(daemon);
}

#[test]
fn a_request_on_an_idle_connection_is_served_when_it_came_before_the_stop() {
    const NAME: &str = "http-stop-idle";
    let daemon = daemon(NAME, "");
    let mut guests: Vec<Guest> = (0..20).map(|_| Guest::of(NAME, ALICE.uid)).collect();
    for guest in &mut guests {
        guest.say(HEALTH);
        assert_eq!(guest.hear().unwrap().status, 200);
    }
    daemon.signal(Signal::SIGSTOP);
    for guest in &mut guests[..10] {
        guest.say(ISSUE);
    }
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGCONT);
    for guest in &mut guests[..10] {
        guest.hear().expect("an answer").token();
        assert!(guest.hear().is_none());
    }
    for guest in &mut guests[10..] {
        assert!(guest.hear().is_none());
    }
    assert_stops(daemon);
}

#[test]
fn a_request_that_is_half_there_is_finished_and_the_last() {
    const NAME: &str = "http-stop-half";
    let daemon = daemon(NAME, "stop_timeout = \"1m\"\nrequest_timeout = \"1m\"");
    let mut half = Guest::of(NAME, ALICE.uid);
    let mut fresh = Guest::of(NAME, ALICE.uid);
    let mut idle = Guest::of(NAME, ALICE.uid);
    let (begin, end) = ISSUE.split_at(20);
    half.say(begin);
    idle.say(HEALTH);
    assert_eq!(idle.hear().unwrap().status, 200);
    daemon.signal(Signal::SIGTERM);
    // An idle connection that ends: the stop has begun.
    assert!(idle.hear().is_none());
    half.say(end);
    fresh.say(ISSUE);
    for guest in [&mut half, &mut fresh] {
        let answer = guest.hear().expect("an answer");
        answer.token();
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(guest.hear().is_none());
    }
    assert_stops(daemon);
}

#[test]
fn a_connection_that_never_asks_is_told_of_the_stop() {
    const NAME: &str = "http-stop-never";
    let daemon = daemon(NAME, "request_timeout = \"1s\"");
    let mut never = Guest::of(NAME, ALICE.uid);
    let mut idle = Guest::of(NAME, ALICE.uid);
    idle.say(HEALTH);
    assert_eq!(idle.hear().unwrap().status, 200);
    daemon.signal(Signal::SIGTERM);
    let told = never.hear().expect("a word");
    assert_eq!(told.refusal(), (503, "shutting_down".into()));
    assert!(never.hear().is_none());
    assert_stops(daemon);
}

#[test]
fn who_never_falls_silent_does_not_hold_up_the_stop() {
    const NAME: &str = "http-stop-chatter";
    let daemon = daemon(NAME, "stop_timeout = \"1m\"");
    let mut guest = Guest::of(NAME, ALICE.uid);
    guest.say(HEALTH);
    assert_eq!(guest.hear().unwrap().status, 200);
    daemon.signal(Signal::SIGTERM);
    while guest.peer.is_heard(HEALTH) {
        if guest.hear().is_none() {
            break;
        }
    }
    assert_stops(daemon);
}
