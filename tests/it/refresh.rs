//! A token for a token: for its own user or the service that got it, by the
//! policy as it is now, within one session.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::forge::{Forger, now};
use crate::jwt::Jwt;
use crate::node::{ALICE, BOB, Daemon, build_jwks, generate_key, publish, records, until};
use crate::peer::code;

const PORTAL: u32 = 500;
/// Another service of the private host.
const OTHER_PORTAL: u32 = 502;
const DAY: u64 = 24 * 3600;

const DELEGATES: &str = "\
    [[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\nmax_lifespan = \"10m\"\n\
    [[policy.delegate]]\ncaller = \"slurmrestd\"\nfor_groups = [\"hpcusers\"]\n";

/// A daemon that signs with HS256, and its key, whose kid is `refresh`.
struct Node {
    daemon: Daemon,
    secret: Vec<u8>,
}

static NODE: LazyLock<Node> = LazyLock::new(|| {
    let key = generate_key("HS256", "refresh.key");
    Node {
        daemon: Daemon::with("refresh", "HS256", &key, "", DELEGATES),
        secret: fs::read(&key).unwrap(),
    }
});

impl Node {
    /// A token of the daemon's key that says what no daemon of ours would.
    fn forged(&self, changes: &Value) -> String {
        Forger::Hmac(&self.secret).token("refresh", changes)
    }
}

fn issue(daemon: &Daemon, uid: u32, fields: &Value) -> String {
    let mut line = json!({"v": 1, "op": "issue"});
    for (name, value) in fields.as_object().unwrap() {
        line[name] = value.clone();
    }
    let answer = daemon.ask_as(uid, &line.to_string());
    answer["ok"]["token"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

fn refresh(daemon: &Daemon, uid: u32, token: &str) -> Value {
    let line = json!({"v": 1, "op": "refresh", "token": token});
    daemon.ask_as(uid, &line.to_string())
}

/// The claims of the token in an answer.
#[track_caller]
fn given(answer: &Value) -> Value {
    let token = answer["ok"]["token"].as_str();
    Jwt::read(token.unwrap_or_else(|| panic!("{answer}"))).claims
}

fn seconds(claims: &Value, name: &str) -> u64 {
    claims[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name}: {claims}"))
}

#[test]
fn a_token_is_refreshed_for_its_user_with_the_same_length_of_life() {
    let Node { daemon, .. } = &*NODE;
    let first = issue(daemon, ALICE.uid, &json!({"lifespan": 1234}));
    let old = Jwt::read(&first).claims;
    let second = refresh(daemon, ALICE.uid, &first);
    assert_eq!(second["ok"]["user"], json!("alice"), "{second}");
    let new = given(&second);
    assert_eq!(seconds(&new, "exp") - seconds(&new, "iat"), 1234);
    assert!(seconds(&new, "iat") >= seconds(&old, "iat"));
    assert_ne!(new["jti"], old["jti"]);
    assert_eq!(new["sun"], json!("alice"));
    assert_eq!(new["act"], Value::Null);
    // From here on the session's begin stays.
    assert_eq!(old["auth_time"], Value::Null);
    assert_eq!(new["auth_time"], old["iat"]);
    let third = given(&refresh(
        daemon,
        ALICE.uid,
        second["ok"]["token"].as_str().unwrap(),
    ));
    assert_eq!(third["auth_time"], old["iat"]);
}

#[test]
fn with_rs256_too_a_token_is_refreshed() {
    let key = generate_key("RS256", "refresh.pem");
    let daemon = Daemon::start("refresh-rs", "RS256", &key);
    let token = issue(&daemon, BOB.uid, &json!({}));
    let answer = refresh(&daemon, BOB.uid, &token);
    let new = Jwt::read(answer["ok"]["token"].as_str().unwrap());
    assert!(new.is_signed_by_rsa(&key));
    assert_eq!(new.claims["sun"], json!("bob"));
}

#[test]
fn the_record_names_the_token_in_whose_place_another_came() {
    let Node { daemon, .. } = &*NODE;
    let first = issue(daemon, PORTAL, &json!({"for": "alice"}));
    let old = Jwt::read(&first).claims["jti"].as_str().unwrap().to_owned();
    let answer = refresh(daemon, PORTAL, &first);
    assert_eq!(code(&answer), "ok");
    let record = format!("replaces={old}");
    until("the record", || records(daemon).concat().contains(&record));
    let all = records(daemon);
    let line = all.iter().find(|line| line.contains(&record)).unwrap();
    for part in [
        "op=refresh result=granted uid=500 user=portal",
        "for=alice sun=alice",
    ] {
        assert!(line.contains(part), "{line}");
    }
    let new = answer["ok"]["jti"].as_str().unwrap();
    assert!(line.contains(&format!("jti={new}")), "{line}");
}

// Whose it is.

#[test]
fn a_service_refreshes_what_it_got_for_somebody_and_is_named_again() {
    let Node { daemon, .. } = &*NODE;
    let first = issue(daemon, PORTAL, &json!({"for": "alice", "lifespan": 60}));
    let new = given(&refresh(daemon, PORTAL, &first));
    assert_eq!(
        (&new["sun"], &new["act"]),
        (&json!("alice"), &json!({"sub": "portal"}))
    );
    assert_eq!(seconds(&new, "exp") - seconds(&new, "iat"), 60);
}

#[test]
fn nobody_refreshes_anybody_elses_token() {
    let Node { daemon, .. } = &*NODE;
    let alices = issue(daemon, ALICE.uid, &json!({}));
    let portals = issue(daemon, PORTAL, &json!({"for": "alice"}));
    for (uid, token, whose) in [
        (BOB.uid, &alices, "another user's"),
        (PORTAL, &alices, "the user's own, by its service"),
        (0, &alices, "anybody's, by root"),
        (ALICE.uid, &portals, "a service's, by its subject"),
        (OTHER_PORTAL, &portals, "a service's, by another"),
        (BOB.uid, &portals, "a service's, by another user"),
    ] {
        let answer = refresh(daemon, uid, token);
        assert_eq!(code(&answer), "not_your_token", "{whose}: {answer}");
    }
}

#[test]
fn a_caller_without_an_account_refreshes_nothing() {
    let Node { daemon, .. } = &*NODE;
    let token = issue(daemon, ALICE.uid, &json!({}));
    assert_eq!(code(&refresh(daemon, 4242, &token)), "unknown_user");
}

// What it says.

#[test]
fn only_a_valid_token_is_refreshed() {
    let Node { daemon, .. } = &*NODE;
    let stranger = Forger::Hmac(&[9; 32]).token("refresh", &json!({}));
    let unsigned = Forger::Nobody.token("refresh", &json!({}));
    for (token, expected) in [
        (stranger, "token_invalid"),
        (unsigned, "token_invalid"),
        ("x".to_owned(), "token_invalid"),
        (String::new(), "authorization_header_missing"),
        (NODE.forged(&json!({"exp": now() - 1})), "token_expired"),
        (NODE.forged(&json!({"nbf": now() + 300})), "token_invalid"),
        (NODE.forged(&json!({"sun": "root"})), "privileged_user"),
    ] {
        let answer = refresh(daemon, ALICE.uid, &token);
        assert_eq!(code(&answer), expected, "{answer}");
    }
    let missing = daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"refresh"}"#);
    assert_eq!(code(&missing), "authorization_header_missing");
}

#[test]
fn a_session_ends_whatever_a_token_says_of_its_begin() {
    let Node { daemon, .. } = &*NODE;
    let of = |auth_time: u64| {
        NODE.forged(&json!({"iat": now() - 10, "exp": now() + 590, "auth_time": auth_time}))
    };
    let late = refresh(daemon, ALICE.uid, &of(now() - 7 * DAY + 900));
    assert_eq!(
        given(&late)["auth_time"].as_u64().unwrap() / DAY,
        (now() - 7 * DAY + 900) / DAY
    );
    let over = refresh(daemon, ALICE.uid, &of(now() - 7 * DAY + 300));
    assert_eq!(code(&over), "lifespan_too_long", "{over}");
    let left = over["error"]["max_lifespan"].as_u64().unwrap();
    assert!((290..=300).contains(&left), "{over}");
    // Later than the token itself: from another node's key, or a thief's.
    for auth_time in [now() + 3600, now() - 5] {
        let answer = refresh(daemon, ALICE.uid, &of(auth_time));
        assert_eq!(code(&answer), "token_invalid", "{answer}");
    }
    let without = NODE.forged(&json!({"iat": null}));
    assert_eq!(code(&refresh(daemon, ALICE.uid, &without)), "token_invalid");
}

#[test]
fn refreshing_again_and_again_leads_no_further_than_the_session() {
    let key = generate_key("HS256", "session.key");
    let daemon = Daemon::with("session", "HS256", &key, "", "[token]\nmax_session = 5\n");
    let mut token = issue(&daemon, ALICE.uid, &json!({"lifespan": 3}));
    let end = seconds(&Jwt::read(&token).claims, "iat") + 5;
    loop {
        let answer = refresh(&daemon, ALICE.uid, &token);
        let Some(next) = answer["ok"]["token"].as_str() else {
            // The latter only where this test was held up.
            let ends = ["lifespan_too_long", "token_expired"];
            assert!(ends.contains(&code(&answer)), "{answer}");
            break;
        };
        assert!(answer["ok"]["expires_at"].as_u64() <= Some(end), "{answer}");
        next.clone_into(&mut token);
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn the_policy_is_asked_again() {
    let key = generate_key("HS256", "refresh-again.key");
    let configure = |tables: &str| Daemon::configure("refresh-again", "HS256", &key, "", tables);
    configure(DELEGATES);
    let daemon = Daemon::run("refresh-again");
    let alices = issue(&daemon, ALICE.uid, &json!({"lifespan": "2h"}));
    let bobs = issue(&daemon, BOB.uid, &json!({}));
    let portals = issue(&daemon, PORTAL, &json!({"for": "alice"}));
    configure("[token]\nmax_lifespan = \"1h\"\n[policy]\ndeny_users = [\"bob\"]\n");
    daemon.signal(Signal::SIGHUP);
    until("the new policy", || {
        code(&refresh(&daemon, BOB.uid, &bobs)) == "not_allowed"
    });
    let longer = refresh(&daemon, ALICE.uid, &alices);
    assert_eq!(code(&longer), "lifespan_too_long", "{longer}");
    assert_eq!(longer["error"]["max_lifespan"], json!(3600));
    assert_eq!(code(&refresh(&daemon, PORTAL, &portals)), "not_allowed");
}

// Keys of others.

#[test]
fn a_token_of_another_node_is_refreshed_by_this_ones_key() {
    let [own, other] = ["node-own.pem", "node-other.pem"].map(|file| generate_key("RS256", file));
    publish(&build_jwks(&[&own, &other]), "nodes.json");
    let verify = "[[verify]]\njwks = \"/etc/slurm/nodes.json\"\n";
    let daemon = Daemon::with("node-own", "RS256", &own, "", verify);
    let theirs = Daemon::start("node-other", "RS256", &other);
    let token = issue(&theirs, ALICE.uid, &json!({}));
    let answer = refresh(&daemon, ALICE.uid, &token);
    let new = Jwt::read(
        answer["ok"]["token"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}")),
    );
    assert!(new.is_signed_by_rsa(&own));
    // The other node does not know ours.
    let back = refresh(&theirs, ALICE.uid, answer["ok"]["token"].as_str().unwrap());
    assert_eq!(code(&back), "token_invalid");
}

// Rates.

#[test]
fn a_service_pays_for_others_tokens_from_a_rate_of_its_own() {
    let key: PathBuf = generate_key("HS256", "delegate-rate.key");
    let tables = "[policy]\nmin_uid = 500\n\
        [[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\n\
        tokens_per_minute = 1\nburst = 2\n\
        [limits]\ntokens_per_minute = 1\nburst = 1\n";
    let daemon = Daemon::with("delegate-rate", "HS256", &key, "", tables);
    let token = issue(&daemon, PORTAL, &json!({"for": "alice"}));
    assert_eq!(code(&refresh(&daemon, PORTAL, &token)), "ok");
    for line in [
        r#"{"v":1,"op":"issue","for":"bob"}"#.to_owned(),
        json!({"v": 1, "op": "refresh", "token": token}).to_string(),
    ] {
        let answer = daemon.ask_as(PORTAL, &line);
        assert_eq!(code(&answer), "rate_limited", "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("more than 1 tokens for others a minute"),
            "{answer}"
        );
        assert!(
            answer["error"]["retry_after"].as_u64() > Some(0),
            "{answer}"
        );
    }
    // Its own tokens, and those that its users ask for themselves, are apart.
    issue(&daemon, PORTAL, &json!({}));
    issue(&daemon, ALICE.uid, &json!({}));
    let own = daemon.ask_as(PORTAL, r#"{"v":1,"op":"issue"}"#);
    assert_eq!(code(&own), "rate_limited");
}
