//! What the HTTP door shows: public keys, its health, and to administrators
//! what was counted.

use super::{ADMIN, WWW_DATA, ask, get, opened};
use crate::node::{ALICE, Daemon, generate_key};

const KEYS: &str = "/.well-known/jwks.json";

fn daemon(name: &str) -> Daemon {
    let key = generate_key("RS256", &format!("{name}.pem"));
    let keys = "proxies = [\"www-data\"]";
    Daemon::with(name, "RS256", &key, "", &opened(name, keys, ""))
}

#[test]
fn anybody_reads_the_public_keys_and_asks_whether_they_have_changed() {
    const NAME: &str = "http-jwks";
    let daemon = daemon(NAME);
    for uid in [ALICE.uid, WWW_DATA, 70_001] {
        let answer = get(NAME, uid, &format!("GET {KEYS}"));
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-type"),
            Some("application/jwk-set+json")
        );
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        let keys: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(keys, daemon.jwks());
        let tag = answer.header("etag").unwrap();
        let known = |value: &str| {
            let header = format!("If-None-Match: {value}");
            ask(NAME, uid, &format!("GET {KEYS}"), &[&header], "")
        };
        for value in [tag, "*", &format!("W/{tag}"), &format!("\"x\", {tag}")] {
            let answer = known(value);
            assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{value}");
            assert_eq!(answer.header("etag"), Some(tag));
        }
        for value in ["\"x\"", "", tag.trim_matches('"')] {
            assert_eq!(known(value).status, 200, "{value}");
        }
    }
    let other = get(NAME, ALICE.uid, &format!("GET {KEYS}"));
    generate_key("RS256", "http-jwks-2.pem");
    let _second = {
        let name = "http-jwks-2";
        let key = std::path::Path::new("/etc/slurm/token-keys/http-jwks-2.pem");
        let second = Daemon::with(name, "RS256", key, "", &opened(name, "", ""));
        let answer = get(name, ALICE.uid, &format!("GET {KEYS}"));
        assert_ne!(answer.header("etag"), other.header("etag"));
        second
    };
}

#[test]
fn its_health_is_shown_to_anybody_who_asks() {
    const NAME: &str = "http-health";
    let _daemon = daemon(NAME);
    for uid in [ALICE.uid, WWW_DATA, 70_001] {
        let answer = get(NAME, uid, "GET /healthz");
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (200, &"ok".into())
        );
        assert_eq!(answer.json()["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn counts_are_for_administrators_who_are_no_proxies() {
    const NAME: &str = "http-metrics";
    let daemon = daemon(NAME);
    for uid in [0, ADMIN] {
        let answer = get(NAME, uid, "GET /metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        let form = answer.header("content-type").unwrap();
        assert!(form.starts_with("application/openmetrics-text; version=1.0.0"));
        assert!(answer.body.ends_with("# EOF\n"));
        for line in [
            "slurm_tokend_refusals_total{code=\"insufficient_role\"} 0\n",
            "\nslurm_tokend_http_connections ",
            "slurm_tokend_http_connections_limit 512\n",
        ] {
            assert!(answer.body.contains(line), "{line}\n{}", answer.body);
        }
    }
    for uid in [ALICE.uid, WWW_DATA] {
        let answer = get(NAME, uid, "GET /metrics");
        assert_eq!(answer.refusal(), (403, "not_allowed".into()));
    }
    let stranger = get(NAME, 70_001, "GET /metrics");
    assert_eq!(stranger.refusal(), (403, "unknown_user".into()));
    drop(daemon);
}

#[test]
fn head_is_answered_as_get_without_a_body() {
    const NAME: &str = "http-head-method";
    let _daemon = daemon(NAME);
    for path in [KEYS, "/healthz", "/metrics", "/nothing"] {
        let mut guest = super::Guest::of(NAME, 0);
        let next = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        guest.say(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = guest.hear_head();
        let get = get(NAME, 0, &format!("GET {path}"));
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        // Nothing of a body came: what follows is the next answer.
        guest.say(next);
        assert_eq!(guest.hear().unwrap().json()["status"], "ok", "{path}");
    }
}
