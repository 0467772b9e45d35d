//! What `slurm-tokenctl token inspect` says of Slurm 22.05, Slurm 22.05 does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{HS256, RS256, Site};
use crate::node::run_with;

/// A token of these texts as they stand, signed by openssl with a site's key.
fn signed(site: &Site, header: &str, claims: &str) -> String {
    let input = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-binary"]);
    if site.key == RS256.key {
        openssl.arg("-sign").arg(&site.key);
    } else {
        let hex: Vec<_> = fs::read(&site.key)
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        openssl.args([
            "-mac",
            "HMAC",
            "-macopt",
            &format!("hexkey:{}", hex.concat()),
        ]);
    }
    let signature = run_with(&mut openssl, input.as_bytes()).1.stdout;
    assert!(!signature.is_empty());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What inspect says of a token.
fn said(token: &str) -> Value {
    let mut inspect = Command::new(env!("CARGO_BIN_EXE_slurm-tokenctl"));
    let (_, output) = run_with(
        inspect.args(["token", "inspect", "--json"]),
        token.as_bytes(),
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Are a site's Slurm and what inspect says of 22.05 of one mind, and of this.
fn check(site: &Site, token: &str, user: &str, accepts: bool) {
    let (said, seen) = (said(token), site.bed.jobs(token, user));
    let expected = if accepts {
        ("accepts", 200)
    } else {
        ("refuses", 500)
    };
    assert_eq!(
        (said["slurm_22_05"].as_str(), seen),
        (Some(expected.0), expected.1),
        "{said}"
    );
}

#[allow(clippy::disallowed_methods, reason = "slurmctld goes by the real time")]
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// An object with these members too, or instead; null removes one.
fn changed(mut object: Value, members: &Value) -> String {
    let map = object.as_object_mut().unwrap();
    map.extend(members.as_object().unwrap().clone());
    map.retain(|_, value| !value.is_null());
    object.to_string()
}

fn claims() -> Value {
    json!({"iat": now(), "exp": now() + 600, "sun": "alice"})
}

fn header(site: &Site) -> Value {
    let path: &Path = &site.key;
    if path == RS256.key {
        json!({"alg": "RS256", "typ": "JWT", "kid": site.daemon.jwks()["keys"][0]["kid"]})
    } else {
        json!({"alg": "HS256", "typ": "JWT"})
    }
}

#[test]
fn slurmctld_does_with_a_header_what_inspect_says() {
    for (site, changes, accepts) in [
        (&*HS256, json!({}), true),
        (&*HS256, json!({"kid": "whatever"}), true),
        (&*HS256, json!({"kid": 1}), true),
        (&*HS256, json!({"typ": null}), true),
        (&*HS256, json!({"typ": "jwt"}), true),
        (&*HS256, json!({"typ": "at+jwt"}), false),
        (&*HS256, json!({"typ": ""}), false),
        (&*HS256, json!({"typ": 1}), true),
        (&*HS256, json!({"alg": "hs256"}), true),
        (&*HS256, json!({"alg": "none"}), false),
        (&*HS256, json!({"alg": "HS512"}), false),
        (&*HS256, json!({"alg": null}), false),
        (&*HS256, json!({"crit": ["x"]}), true),
        (&*RS256, json!({}), true),
        (&*RS256, json!({"alg": "rs256"}), true),
        (&*RS256, json!({"kid": null}), false),
        (&*RS256, json!({"kid": 1}), false),
    ] {
        let token = signed(
            site,
            &changed(header(site), &changes),
            &claims().to_string(),
        );
        check(site, &token, "alice", accepts);
    }
}

#[test]
fn slurmctld_does_with_claims_what_inspect_says() {
    let site = &*HS256;
    let soon = now() + 600;
    for (changes, accepts) in [
        (json!({"exp": now() - 10}), false),
        (json!({"exp": -1}), false),
        (json!({"exp": null}), false),
        (json!({"exp": soon.to_string()}), false),
        (json!({"exp": 1.9e9}), false),
        (json!({"exp": soon * 1000}), true),
        (json!({"nbf": soon}), true),
        (json!({"iat": "x", "jti": 1, "aud": {}}), true),
        (json!({"sun": null}), false),
        (json!({"sun": null, "username": "alice"}), true),
        (json!({"sun": 1, "username": "alice"}), true),
        (json!({"sun": 1}), false),
        (json!({"sun": ""}), false),
        (json!({"username": "bob"}), true),
        (json!({"x": "y".repeat(52_000)}), true),
    ] {
        let token = signed(
            site,
            &header(site).to_string(),
            &changed(claims(), &changes),
        );
        check(site, &token, "alice", accepts);
    }
}

#[test]
fn slurmctld_takes_the_last_of_two_members_as_inspect_says() {
    let site = &*HS256;
    let soon = now() + 600;
    for (header, claims, accepts) in [
        (
            r#"{"alg":"none","alg":"HS256"}"#,
            format!(r#"{{"exp":{soon},"sun":"alice"}}"#),
            true,
        ),
        (
            r#"{"alg":"HS256"}"#,
            format!(r#"{{"exp":5,"sun":"alice","exp":{soon}}}"#),
            true,
        ),
        (
            r#"{"alg":"HS256"}"#,
            format!(r#"{{"exp":{soon},"sun":"alice","exp":5}}"#),
            false,
        ),
        (
            r#"{"alg":"HS256"}"#,
            format!(r#"{{"exp":{soon},"sun":"bob","sun":"alice"}}"#),
            true,
        ),
    ] {
        let token = signed(site, header, &claims);
        check(site, &token, "alice", accepts);
    }
}

#[test]
fn slurmctld_takes_a_numeric_name_for_root_as_inspect_says() {
    let site = &*HS256;
    for sun in ["0", "00", "+0", "-0", " 0"] {
        let claims = changed(claims(), &json!({ "sun": sun }));
        let token = signed(site, &header(site).to_string(), &claims);
        assert_eq!(said(&token)["uid"], 0, "{sun:?}");
        check(site, &token, "root", true);
    }
}

#[test]
fn slurmctld_refuses_what_inspect_calls_no_token() {
    let site = &*HS256;
    let good = signed(site, &header(site).to_string(), &claims().to_string());
    let (signed, _) = good.rsplit_once('.').unwrap();
    for token in [
        format!("Bearer {good}"),
        good.replacen('.', "=.", 1),
        good.replacen('.', " .", 1),
        format!("{good}.AAAA"),
        format!("{signed}."),
        signed.to_owned(),
    ] {
        check(site, &token, "alice", false);
    }
}
