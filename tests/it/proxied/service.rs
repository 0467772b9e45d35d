//! A second service, which is behind no proxy and verifies the same tokens
//! itself: with `PyJWT` and the public keys that the door serves to anybody.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command};
use std::sync::LazyLock;

use serde_json::json;

use super::client::{ask, ask_door};
use super::{DAEMON, bearer, door, token};
use crate::forge::{Forger, now};
use crate::node::{ALICE, BOB, User, generate_key, stdout, until};
use crate::slurm::RS256;

const SERVICE: &str = include_str!("../../interop/service.py");
const PORT: u16 = 8130;

/// The account that the service runs as.
const PORTAL: User = User {
    name: "portal",
    uid: 500,
};

static RUNNING: LazyLock<Child> = LazyLock::new(|| {
    let service = PORTAL
        .runs("/usr/bin/python3")
        .args(["-c", SERVICE])
        .arg(door(&DAEMON))
        .arg(PORT.to_string())
        .spawn()
        .unwrap();
    until("the service to listen", || {
        TcpStream::connect(("127.0.0.1", PORT)).is_ok()
    });
    service
});

/// What the service says to who brings this token.
fn says(token: &str) -> (u16, String) {
    LazyLock::force(&RUNNING);
    let reply = ask(&format!("http://127.0.0.1:{PORT}/"), &[], &[bearer(token)]);
    (reply.status, reply.body)
}

#[test]
fn it_knows_each_user_by_the_token_that_slurm_accepts() {
    for user in [ALICE, BOB] {
        let token = token(&user);
        assert_eq!(says(&token), (200, user.name.to_owned()));
        assert_eq!(RS256.bed.jobs(&token, user.name), 200);
    }
}

#[test]
fn it_refuses_what_is_not_good() {
    let good = token(&ALICE);
    let kid = crate::jwt::Jwt::read(&good).header["kid"].clone();
    let kid = kid.as_str().unwrap();
    let ours = Forger::Rsa(&RS256.key);
    let other = generate_key("RS256", "service-other.pem");
    let other = Forger::Rsa(&other);
    // The public key taken for a secret: the classic confusion of algorithms.
    let mut public = Command::new("slurm-tokenctl");
    let public = public.args(["key", "public"]).arg(&RS256.key).output();
    let public = stdout(public.unwrap());
    let past = json!({"iat": now() - 600, "nbf": now() - 600, "exp": now() - 1});
    for (token, error) in [
        (good.replacen(".eyJ", ".eyK", 1), "InvalidSignatureError"),
        (ours.token(kid, &past), "ExpiredSignatureError"),
        (
            ours.token(kid, &json!({"sun": null})),
            "MissingRequiredClaimError",
        ),
        (other.token(kid, &json!({})), "InvalidSignatureError"),
        (other.token("foreign", &json!({})), "InvalidKeyError"),
        (
            Forger::Hmac(public.as_bytes()).token(kid, &json!({})),
            "InvalidAlgorithmError",
        ),
        (
            Forger::Nobody.token(kid, &json!({})),
            "InvalidAlgorithmError",
        ),
    ] {
        assert_eq!(says(&token), (401, error.to_owned()));
    }
    assert_eq!(says(&ours.token(kid, &json!({}))).0, 200);
}

#[test]
fn it_holds_no_secret_and_can_reach_none() {
    LazyLock::force(&RUNNING);
    let jwks = ask_door(&PORTAL, &door(&DAEMON), "/.well-known/jwks.json", &[], &[]);
    assert_eq!(jwks.json(), DAEMON.jwks());
    for key in jwks.json()["keys"].as_array().unwrap() {
        for part in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(key.get(part).is_none(), "{key}");
        }
    }
    let key = RS256.key.to_str().unwrap();
    assert!(fs::read(key).is_ok());
    let tried = PORTAL.runs("cat").arg(key).output().unwrap();
    assert!(!tried.status.success());
}
