//! `/verify?refresh=1`: a token in the place of one of which less than half is
//! left, for a proxy that is a delegate.

use std::fs;

use serde_json::{Value, json};

use super::{Answer, PORTAL, WWW_DATA, ask, bearer, opened};
use crate::forge::{Forger, now};
use crate::node::{Daemon, generate_key, records, until};

const REFRESHED: &str = "x-slurm-refreshed-token";
const DAY: u64 = 24 * 3600;

/// The key of a daemon.
struct Key {
    kid: &'static str,
    secret: Vec<u8>,
}

impl Key {
    /// A token of these claims.
    fn token(&self, claims: &Value) -> String {
        Forger::Hmac(&self.secret).token(self.kid, claims)
    }
}

/// A daemon to whom www-data is a proxy and a delegate, and its key.
fn daemon(name: &'static str, delegate: &str) -> (Daemon, Key) {
    let key = generate_key("HS256", &format!("{name}.key"));
    let tables = format!(
        "[[policy.delegate]]\ncaller = \"www-data\"\nfor_groups = [\"hpcusers\"]\n\
         deny_groups = [\"workflow\"]\n{delegate}"
    );
    let tables = opened(name, "proxies = [\"www-data\"]", &tables);
    let daemon = Daemon::with(name, "HS256", &key, "", &tables);
    let secret = fs::read(&key).unwrap();
    (daemon, Key { kid: name, secret })
}

/// Claims of a token that began so long ago and ends so much later, in seconds.
fn claims(sun: &str, ago: u64, left: u64) -> Value {
    let begun = now() - ago;
    json!({"iat": begun, "nbf": begun, "exp": now() + left, "sun": sun, "jti": "old-one"})
}

fn verify(name: &str, uid: u32, token: &str) -> Answer {
    let answer = ask(name, uid, "GET /verify?refresh=1", &[&bearer(token)], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-slurm-user-token"), Some(token));
    answer
}

/// What a refreshed token says.
fn refreshed(daemon: &Daemon, answer: &Answer) -> Option<Value> {
    let token = answer.header(REFRESHED)?;
    let verified = daemon.ask(&format!(r#"{{"v":1,"op":"verify","token":"{token}"}}"#));
    let claims = verified["ok"]["claims"].clone();
    assert!(claims.is_object(), "{verified}");
    Some(claims)
}

#[test]
fn a_token_past_its_half_is_renewed_as_one_that_the_delegate_got() {
    const NAME: &str = "http-renew";
    let (daemon, key) = daemon(NAME, "http = true\n");
    let old = claims("alice", 400, 200);
    let answer = verify(NAME, WWW_DATA, &key.token(&old));
    // The answer is what the old one says.
    assert_eq!(answer.json()["claims"]["jti"], "old-one");
    let new = refreshed(&daemon, &answer).expect("a new token");
    assert_eq!(new["sun"], "alice");
    assert_eq!(new["act"], json!({"sub": "www-data"}));
    assert_eq!(new["auth_time"], old["iat"]);
    let life = new["exp"].as_u64().unwrap() - new["iat"].as_u64().unwrap();
    assert_eq!(life, 600);
    // And once more, the delegate's own one.
    let mut again = claims("alice", 400, 200);
    again["act"] = json!({"sub": "www-data"});
    again["auth_time"] = json!(now() - DAY);
    let answer = verify(NAME, WWW_DATA, &key.token(&again));
    let new = refreshed(&daemon, &answer).expect("a new token");
    assert_eq!(new["auth_time"], again["auth_time"]);
    until("its record", || {
        let is_it = |record: &String| {
            record.contains("op=refresh result=granted uid=33 user=www-data")
                && record.contains(" door=http for=alice sun=alice lifespan=600 ")
                && record.contains(" replaces=old-one")
        };
        records(&daemon).iter().any(is_it)
    });
    let sessions = daemon.ask(r#"{"v":1,"op":"sessions","user":"alice"}"#);
    let alice = &sessions["ok"]["users"][0];
    assert_eq!(alice["live_tokens"], 2, "{sessions}");
}

#[test]
fn the_delegates_cap_holds_and_a_new_one_lasts_longer_than_the_old() {
    const NAME: &str = "http-renew-cap";
    let (daemon, key) = daemon(NAME, "http = true\nmax_lifespan = \"10m\"\n");
    // An hour of two is left: ten minutes would be less.
    let long = key.token(&claims("alice", 4000, 3200));
    assert_eq!(verify(NAME, WWW_DATA, &long).header(REFRESHED), None);
    let near = key.token(&claims("alice", 6800, 400));
    let new = refreshed(&daemon, &verify(NAME, WWW_DATA, &near)).expect("a new token");
    let life = new["exp"].as_u64().unwrap() - new["iat"].as_u64().unwrap();
    assert_eq!(life, 600);
}

#[test]
fn where_there_can_be_no_new_token_the_answer_is_the_same_without() {
    const NAME: &str = "http-renew-not";
    let (daemon, key) = daemon(NAME, "http = true\n");
    let mut over = claims("alice", 400, 200);
    over["auth_time"] = json!(now() - 7 * DAY);
    let mut of_another = claims("alice", 400, 200);
    of_another["act"] = json!({"sub": "portal"});
    let mut timeless = claims("alice", 400, 200);
    timeless["iat"] = Value::Null;
    let mut foreign = claims("alice", 400, 200);
    foreign["uid"] = json!(2002);
    for (why, claims) in [
        ("more than half is left", claims("alice", 200, 400)),
        ("bob is in a group that is denied", claims("bob", 400, 200)),
        (
            "nobody gets a token for an administrator",
            claims("admin", 400, 200),
        ),
        ("there is no such account", claims("nobody-here", 400, 200)),
        ("the proxy's own", claims("www-data", 400, 200)),
        ("its session is over", over),
        ("another service got it", of_another),
        ("it doesn't say when it began", timeless),
        ("its uid is somebody else's", foreign),
    ] {
        let answer = verify(NAME, WWW_DATA, &key.token(&claims));
        assert_eq!(answer.header(REFRESHED), None, "{why}");
    }
    let alices = key.token(&claims("alice", 400, 200));
    // Others are no delegates, and nobody asked.
    for uid in [PORTAL, 2001, 0, 70_001] {
        assert_eq!(verify(NAME, uid, &alices).header(REFRESHED), None, "{uid}");
    }
    for line in ["GET /verify", "GET /verify?refresh=0"] {
        let answer = ask(NAME, WWW_DATA, line, &[&bearer(&alices)], "");
        assert_eq!((answer.status, answer.header(REFRESHED)), (200, None));
    }
    let records = records(&daemon);
    assert!(
        !records.iter().any(|r| r.contains("result=granted")),
        "{records:?}"
    );
}

#[test]
fn a_delegate_without_leave_for_http_has_none_renewed() {
    const NAME: &str = "http-renew-no-leave";
    let (_daemon, key) = daemon(NAME, "");
    let alices = key.token(&claims("alice", 400, 200));
    assert_eq!(verify(NAME, WWW_DATA, &alices).header(REFRESHED), None);
}

#[test]
fn a_delegate_above_its_rate_has_the_token_verified_all_the_same() {
    const NAME: &str = "http-renew-fast";
    let rate = "http = true\ntokens_per_minute = 1\nburst = 1\n";
    let (daemon, key) = daemon(NAME, rate);
    let alices = key.token(&claims("alice", 400, 200));
    assert!(verify(NAME, WWW_DATA, &alices).header(REFRESHED).is_some());
    assert_eq!(verify(NAME, WWW_DATA, &alices).header(REFRESHED), None);
    until("the record of it", || {
        let is_it = |record: &String| {
            record.contains("op=refresh result=refused uid=33 user=www-data")
                && record.contains(" door=http for=alice code=rate_limited")
        };
        records(&daemon).iter().any(is_it)
    });
}

#[test]
fn a_blocked_delegate_has_none_renewed() {
    const NAME: &str = "http-renew-blocked";
    let (daemon, key) = daemon(NAME, "http = true\n");
    let alices = key.token(&claims("alice", 400, 200));
    daemon.ask(r#"{"v":1,"op":"block","user":"www-data"}"#);
    assert_eq!(verify(NAME, WWW_DATA, &alices).header(REFRESHED), None);
    daemon.ask(r#"{"v":1,"op":"unblock","user":"www-data"}"#);
    assert!(verify(NAME, WWW_DATA, &alices).header(REFRESHED).is_some());
    daemon.ask(r#"{"v":1,"op":"block","user":"alice"}"#);
    let answer = ask(
        NAME,
        WWW_DATA,
        "GET /verify?refresh=1",
        &[&bearer(&alices)],
        "",
    );
    assert_eq!(answer.refusal(), (403, "blocked".into()));
}
