//! `/authenticate`: a token for whoever connected.

use super::{PORTAL, SLURM, WWW_DATA, ask, get, opened, token};
use crate::node::{ALICE, BOB, Daemon, generate_key, records, until};

const JSON: &str = "Content-Type: application/json";
const DELEGATE: &str = "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\n\
                        max_lifespan = \"10m\"\n";

fn daemon(name: &str, keys: &str, tables: &str) -> Daemon {
    let key = generate_key("HS256", &format!("http-{name}.key"));
    Daemon::with(name, "HS256", &key, "", &opened(name, keys, tables))
}

#[test]
fn a_user_gets_a_token_that_the_daemon_takes_for_theirs() {
    const NAME: &str = "http-own";
    let daemon = daemon(NAME, "", "");
    let answer = get(NAME, ALICE.uid, "POST /authenticate");
    let answered = answer.json();
    assert_eq!(answered["user"], "alice");
    for member in ["kid", "jti"] {
        assert!(answered[member].is_string(), "{answer:?}");
    }
    let ask = format!(r#"{{"v":1,"op":"verify","token":"{}"}}"#, answer.token());
    let verified = daemon.ask(&ask);
    assert_eq!(verified["ok"]["user"], "alice", "{verified}");
    assert_eq!(verified["ok"]["expires_at"], answered["expires_at"]);
    until("its record", || {
        let records = records(&daemon);
        let is_it = |record: &String| {
            record.contains("op=issue result=granted uid=2001 user=alice")
                && record.contains(" door=http sun=alice ")
        };
        records.iter().any(is_it)
    });
}

#[test]
fn the_lifespan_is_that_of_the_body_and_never_more_than_the_policy_gives() {
    const NAME: &str = "http-lifespan";
    let _daemon = daemon(NAME, "", "");
    let life = |body: &str| {
        let answer = ask(NAME, ALICE.uid, "POST /authenticate", &[JSON], body).json();
        answer["expires_at"].as_u64().unwrap()
    };
    let (short, long) = (life(r#"{"lifespan":60}"#), life(r#"{"lifespan":"2h"}"#));
    assert!((7100..=7140).contains(&(long - short)), "{short} {long}");
    let refused = ask(
        NAME,
        ALICE.uid,
        "POST /authenticate",
        &[JSON],
        r#"{"lifespan":"13h"}"#,
    );
    assert_eq!(refused.refusal(), (403, "lifespan_too_long".into()));
    assert_eq!(refused.json()["max_lifespan"], 43_200);
    let refused = ask(
        NAME,
        ALICE.uid,
        "POST /authenticate",
        &[JSON],
        r#"{"lifespan":"soon"}"#,
    );
    assert_eq!(refused.refusal(), (400, "bad_lifespan".into()));
}

#[test]
fn a_body_that_is_not_one_small_json_object_is_refused() {
    const NAME: &str = "http-bodies";
    let daemon = daemon(NAME, "", "");
    let post = |headers: &[&str], body: &str| {
        ask(NAME, ALICE.uid, "POST /authenticate", headers, body).refusal()
    };
    let malformed = (400, "malformed_request".to_owned());
    for body in [
        "[60]",
        "null",
        "60",
        "{",
        "{} {}",
        r#"{"lifespan":60,"lifespan":61}"#,
        r#"{"user":"bob"}"#,
        r#"{"for":5}"#,
        r#"{"lifespan":[1]}"#,
        "\u{1}",
    ] {
        assert_eq!(post(&[JSON], body), malformed, "{body}");
    }
    for header in [
        "Content-Type: text/plain",
        "X: y",
        "Content-Type: application/jsonx",
    ] {
        assert_eq!(post(&[header], "{}"), malformed, "{header}");
    }
    assert_eq!(post(&[JSON, JSON], "{}"), malformed);
    let long = format!("{{\"lifespan\":{}60}}", " ".repeat(16 * 1024));
    assert_eq!(post(&[JSON], &long), (413, "request_too_large".into()));
    let alices = token(&daemon, ALICE.uid, 60);
    for header in [
        super::bearer(&alices),
        format!("X-SLURM-USER-TOKEN: {alices}"),
    ] {
        assert_eq!(post(&[&header], ""), malformed, "{header}");
    }
    let charset = "content-type: Application/JSON; charset=utf-8";
    let answer = ask(NAME, ALICE.uid, "POST /authenticate", &[charset], "{}");
    answer.token();
    let queried = get(NAME, ALICE.uid, "POST /authenticate?lifespan=60");
    assert_eq!(queried.refusal(), malformed);
}

#[test]
fn what_was_passed_on_or_comes_from_a_web_page_gets_no_token() {
    const NAME: &str = "http-passed-on";
    let daemon = daemon(NAME, "", "");
    let alices = super::bearer(&token(&daemon, ALICE.uid, 600));
    for header in [
        "Forwarded: for=192.0.2.1",
        "forwarded: ",
        "Via: 1.1 proxy",
        "X-Forwarded-For: 192.0.2.1",
        "X-FORWARDED-ANYTHING: x",
        "X-Real-IP: 192.0.2.1",
        "Origin: https://portal.example.org",
        "Origin: null",
    ] {
        for (line, more) in [
            ("POST /authenticate", "X: y"),
            ("POST /authenticate/refresh", alices.as_str()),
        ] {
            let answer = ask(NAME, ALICE.uid, line, &[header, more], "");
            assert_eq!(answer.refusal(), (403, "not_allowed".into()), "{header}");
        }
        let verified = ask(NAME, ALICE.uid, "GET /verify", &[header, &alices], "");
        assert_eq!(verified.status, 200, "{header}");
    }
    until("the record of a refusal", || {
        let is_it = |record: &String| {
            record.contains("op=refresh result=refused uid=2001 user=alice")
                && record.contains(" door=http code=not_allowed")
        };
        records(&daemon).iter().any(is_it)
    });
}

#[test]
fn a_proxy_gets_nothing_but_verifications() {
    const NAME: &str = "http-proxies";
    let daemon = daemon(
        NAME,
        "proxies = [\"www-data\", \"bob\"]",
        "[policy]\nmin_uid = 0",
    );
    let alices = super::bearer(&token(&daemon, ALICE.uid, 600));
    let bobs = super::bearer(&token(&daemon, BOB.uid, 600));
    let refused = (403, "not_allowed".to_owned());
    for uid in [WWW_DATA, BOB.uid] {
        assert_eq!(get(NAME, uid, "POST /authenticate").refusal(), refused);
        let refresh = ask(NAME, uid, "POST /authenticate/refresh", &[&bobs], "");
        assert_eq!(refresh.refusal(), refused);
        assert_eq!(get(NAME, uid, "GET /metrics").refusal(), refused);
        assert_eq!(ask(NAME, uid, "GET /verify", &[&alices], "").status, 200);
        assert_eq!(get(NAME, uid, "GET /healthz").status, 200);
        assert_eq!(get(NAME, uid, "GET /.well-known/jwks.json").status, 200);
    }
    get(NAME, ALICE.uid, "POST /authenticate").token();
    // The main socket is another matter.
    assert_eq!(
        daemon.client(&BOB, &["--format", "raw"]).split('.').count(),
        3
    );
}

#[test]
fn while_a_proxy_cannot_be_found_nobody_gets_a_token() {
    const NAME: &str = "http-no-proxy";
    let daemon = daemon(NAME, "proxies = [\"www-data\", \"caddy-of-old\"]", "");
    let alices = super::bearer(&token(&daemon, ALICE.uid, 600));
    let refused = (403, "not_allowed".to_owned());
    for uid in [ALICE.uid, 0] {
        let answer = get(NAME, uid, "POST /authenticate");
        assert_eq!(answer.refusal(), refused);
        assert!(answer.body.contains("caddy-of-old"), "{answer:?}");
        let refresh = ask(NAME, uid, "POST /authenticate/refresh", &[&alices], "");
        assert_eq!(refresh.refusal(), refused);
        assert_eq!(get(NAME, uid, "GET /metrics").refusal(), refused);
    }
    assert_eq!(
        ask(NAME, WWW_DATA, "GET /verify", &[&alices], "").status,
        200
    );
}

#[test]
fn a_service_asks_for_others_here_only_where_its_rule_says_so() {
    for (name, http, expected) in [
        ("http-for-not", "", Err((403, "not_allowed".to_owned()))),
        ("http-for", "http = true\n", Ok(())),
    ] {
        let daemon = daemon(name, "", &format!("{DELEGATE}{http}"));
        let body = r#"{"for":"alice","lifespan":300}"#;
        let answer = ask(name, PORTAL, "POST /authenticate", &[JSON], body);
        let asked = if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.refusal())
        };
        assert_eq!(asked, expected);
        // By the main socket it may in both cases.
        let line = r#"{"v":1,"op":"issue","for":"alice","lifespan":300}"#;
        let at_main = daemon.ask_as(PORTAL, line);
        let delegated = at_main["ok"]["token"].as_str().unwrap();
        let header = super::bearer(delegated);
        let renewed = ask(name, PORTAL, "POST /authenticate/refresh", &[&header], "");
        let renewed = if renewed.status == 200 {
            Ok(())
        } else {
            Err(renewed.refusal())
        };
        assert_eq!(renewed, expected);
    }
}

#[test]
fn root_and_slurm_user_get_no_token_here_though_they_may_have_one() {
    const NAME: &str = "http-privileged";
    let key = generate_key("HS256", "http-privileged.key");
    let top = "allow_privileged = [\"root\", \"slurm\"]";
    let daemon = Daemon::with(NAME, "HS256", &key, top, &opened(NAME, "", ""));
    for uid in [0, SLURM] {
        let own = super::bearer(&token(&daemon, uid, 600));
        let refused = (403, "privileged_user".to_owned());
        assert_eq!(get(NAME, uid, "POST /authenticate").refusal(), refused);
        let refresh = ask(NAME, uid, "POST /authenticate/refresh", &[&own], "");
        assert_eq!(refresh.refusal(), refused);
    }
}

#[test]
fn a_reload_makes_an_account_a_proxy_and_tells_what_needs_a_restart() {
    const NAME: &str = "http-reload";
    let daemon = daemon(NAME, "", "");
    get(NAME, BOB.uid, "POST /authenticate").token();
    let key = "/etc/slurm/token-keys/http-http-reload.key";
    let tables = opened(NAME, "proxies = [\"bob\"]", "");
    let tables = tables.replace("http.sock", "elsewhere.sock");
    Daemon::configure(NAME, "HS256", std::path::Path::new(key), "", &tables);
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    until("the reload", || {
        daemon.journal().matches("ready: ").count() > 1
    });
    let refused = get(NAME, BOB.uid, "POST /authenticate");
    assert_eq!(refused.refusal(), (403, "not_allowed".into()));
    get(NAME, ALICE.uid, "POST /authenticate").token();
    let told = daemon.journal();
    assert!(told.contains("http.socket: the new value comes into force at a restart"));
}
