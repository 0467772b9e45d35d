//! The HTTP door has places of its own, and takes none of the main socket's.

use super::{ADMIN, Guest, WWW_DATA, bearer, get, opened, token};
use crate::node::{ALICE, BOB, Daemon, generate_key, until};
use crate::peer::code;

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

fn daemon(name: &str, keys: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    Daemon::with(name, "HS256", &key, "", &opened(name, keys, ""))
}

/// A connection that has been served and stays open.
fn seated(name: &str, uid: u32) -> Guest {
    let mut guest = Guest::of(name, uid);
    guest.say(HEALTH);
    assert_eq!(guest.hear().unwrap().status, 200);
    guest
}

#[test]
fn when_all_places_are_taken_here_the_main_socket_has_its_own() {
    const NAME: &str = "http-full";
    let daemon = daemon(NAME, "");
    for user in [&ALICE, &BOB] {
        daemon.ask_as(user.uid, r#"{"v":1,"op":"whoami"}"#);
    }
    let mut guests: Vec<Guest> = [ALICE.uid, BOB.uid]
        .iter()
        .flat_map(|uid| (0..256).map(|_| seated(NAME, *uid)))
        .collect();
    for uid in [ALICE.uid, BOB.uid, ADMIN, WWW_DATA] {
        let mut one_more = Guest::of(NAME, uid);
        let answer = one_more.hear().unwrap();
        assert_eq!(answer.refusal(), (503, "busy".into()));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(one_more.hear().is_none());
    }
    for user in [&ALICE, &BOB] {
        assert_eq!(
            code(&daemon.ask_as(user.uid, r#"{"v":1,"op":"issue"}"#)),
            "ok"
        );
    }
    guests.truncate(511);
    // The last of them has left once the daemon has seen it.
    until("a place to be free", || {
        let mut one = Guest::of(NAME, BOB.uid);
        one.say(HEALTH);
        one.hear().unwrap().status == 200
    });
}

#[test]
fn one_user_has_no_more_places_than_configured_and_others_have_theirs() {
    const NAME: &str = "http-per-user";
    let daemon = daemon(NAME, "connections_per_user = 2");
    daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"whoami"}"#);
    let seats = [seated(NAME, ALICE.uid), seated(NAME, ALICE.uid)];
    assert_eq!(
        get(NAME, ALICE.uid, "GET /healthz").refusal(),
        (503, "busy".into())
    );
    assert_eq!(get(NAME, BOB.uid, "GET /healthz").status, 200);
    drop(seats);
}

#[test]
fn uids_without_an_account_share_what_one_user_has() {
    const NAME: &str = "http-strangers";
    let daemon = daemon(NAME, "connections_per_user = 2");
    daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"whoami"}"#);
    let seats = [seated(NAME, 70_001), seated(NAME, 70_002)];
    assert_eq!(
        get(NAME, 70_003, "GET /healthz").refusal(),
        (503, "busy".into())
    );
    assert_eq!(get(NAME, ALICE.uid, "GET /healthz").status, 200);
    drop(seats);
}

#[test]
fn verifications_above_the_rate_are_refused_here_and_not_at_the_main_socket() {
    const NAME: &str = "http-too-fast";
    let daemon = daemon(NAME, "verifications_per_minute = 1\nverification_burst = 2");
    let alices = token(&daemon, ALICE.uid, 600);
    // Until it's known to have an account it pays as one of those without.
    get(NAME, BOB.uid, "POST /authenticate").token();
    let header = bearer(&alices);
    let verify = || super::ask(NAME, BOB.uid, "GET /verify", &[&header], "");
    assert_eq!([verify().status, verify().status], [200, 200]);
    let refused = verify();
    assert_eq!(refused.refusal(), (429, "rate_limited".into()));
    let seconds = refused.header("retry-after").unwrap();
    assert_eq!(refused.json()["retry_after"].to_string(), seconds);
    let line = format!(r#"{{"v":1,"op":"verify","token":"{alices}"}}"#);
    assert_eq!(code(&daemon.ask_as(BOB.uid, &line)), "ok");
}
