//! Whoever does not bring one good token is told why, and never reaches Slurm.

use std::sync::LazyLock;

use serde_json::json;

use super::client::ask;
use super::{DAEMON, NGINX, bearer, slurm, submit, token};
use crate::forge::Forger;
use crate::node::{ALICE, BOB, generate_key, stdout, until};
use crate::slurm::RS256;

/// A token of alice's that has expired.
static EXPIRED: LazyLock<String> = LazyLock::new(|| {
    let token = DAEMON.client(&ALICE, &["lifespan=1", "--format", "raw"]);
    until("the token to expire", || {
        DAEMON.ask(&json!({"v": 1, "op": "verify", "token": token}).to_string())["error"]["code"]
            == "token_expired"
    });
    token
});

/// What alice might bring, with the status and the code that it's refused with.
/// `repeated` is the status where the same header comes twice: some proxies
/// look at that themselves.
fn bad_requests(repeated: u16) -> Vec<(Vec<String>, u16, &'static str)> {
    let good = token(&ALICE);
    let bobs = token(&BOB);
    let kid = crate::jwt::Jwt::read(&good).header["kid"].clone();
    let kid = kid.as_str().unwrap();
    let other = generate_key("RS256", &format!("foreign-{repeated}.pem"));
    let other = Forger::Rsa(&other);

    let invalid_header = [
        vec!["Authorization: Basic YWxpY2U6eA==".into()],
        vec!["Authorization: Bearer".into()],
        vec![format!("Authorization: {good}")],
        vec![bearer(&format!("{good} {good}"))],
        vec![bearer(&format!("{good}, Bearer {good}"))],
        vec![bearer(&good), format!("X-SLURM-USER-TOKEN: {bobs}")],
        vec![format!("X-SLURM-USER-TOKEN: {good}"); 2],
        vec![bearer(&good), "X-SLURM-USER-NAME: bob".into()],
        vec![bearer(&good), "X-SLURM-USER-NAME: root".into()],
        vec![
            bearer(&good),
            "X-SLURM-USER-NAME: alice".into(),
            "x-slurm-user-name: bob".into(),
        ],
    ];
    let repeated_header = [
        vec![bearer(&good), bearer(&good)],
        vec![bearer(&good), bearer(&bobs)],
    ];
    let token_invalid = [
        "nonsense".into(),
        good.replacen(".eyJ", ".eyK", 1),
        good.rsplit_once('.').unwrap().0.to_owned(),
        Forger::Nobody.token(kid, &json!({})),
        other.token(kid, &json!({})),
        other.token("foreign", &json!({})),
    ];
    let mut all = vec![
        (vec![], 401, "authorization_header_missing"),
        (vec![bearer(&EXPIRED)], 401, "token_expired"),
    ];
    all.extend(invalid_header.map(|headers| (headers, 401, "invalid_header")));
    all.extend(repeated_header.map(|headers| (headers, repeated, "invalid_header")));
    all.extend(token_invalid.map(|token| (vec![bearer(&token)], 401, "token_invalid")));
    all
}

/// Each of them is refused.
pub fn each_is_refused(proxy: &str, repeated: u16) {
    for (headers, status, code) in bad_requests(repeated) {
        let reply = ask(&slurm(proxy, "jobs"), &[], &headers);
        assert_eq!(
            reply.refusal(),
            (status, code.into()),
            "{headers:?}: {reply:?}"
        );
        if status == 401 {
            let challenge = reply.header("www-authenticate").unwrap();
            assert!(
                challenge.starts_with("Bearer realm=\"slurm\""),
                "{challenge}"
            );
            // RFC 6750 section 3.1: who brings nothing is told of no error.
            let error = !challenge.contains("error=");
            assert_eq!(error, code == "authorization_header_missing", "{challenge}");
        }
        let submitted = submit(proxy, &ALICE, &headers);
        let outcome = (submitted.status, submitted.json["job_id"].as_u64());
        assert_eq!(outcome, (status, None), "{headers:?}");
    }
}

#[test]
fn nginx_refuses_each_bad_request_with_its_code() {
    each_is_refused(NGINX.address(), 400);
}

#[test]
fn a_blocked_users_token_opens_nothing() {
    // Somebody of whom no other test here knows.
    let issued = DAEMON.ask_as(2020, r#"{"v":1,"op":"issue"}"#);
    let token = bearer(issued["ok"]["token"].as_str().unwrap());
    let status = || {
        let reply = ask(
            &slurm(NGINX.address(), "jobs"),
            &[],
            std::slice::from_ref(&token),
        );
        reply.refusal()
    };
    assert_eq!(status(), (200, String::new()));
    stdout(DAEMON.tokenctl(&["block", "ali.ce"]));
    assert_eq!(status(), (403, "blocked".into()));
    stdout(DAEMON.tokenctl(&["unblock", "ali.ce"]));
    assert_eq!(status().0, 200);
}

#[test]
fn a_token_for_root_or_slurm_opens_nothing_though_its_key_is_known() {
    let kid = crate::jwt::Jwt::read(&token(&ALICE)).header["kid"].clone();
    for sun in ["root", "slurm", "0", "64030"] {
        let stolen = Forger::Rsa(&RS256.key).token(kid.as_str().unwrap(), &json!({"sun": sun}));
        let reply = ask(&slurm(NGINX.address(), "jobs"), &[], &[bearer(&stolen)]);
        assert_eq!(reply.refusal(), (403, "privileged_user".into()), "{sun}");
    }
}

#[test]
fn nginx_writes_no_token_down() {
    let good = token(&ALICE);
    let url = slurm(NGINX.address(), "jobs");
    ask(&url, &[], &[bearer(&good)]);
    ask(&url, &[], &[bearer(&good), bearer(&good)]);
    ask(
        &url,
        &[],
        &[bearer(&good), format!("X-SLURM-USER-TOKEN: {good}")],
    );
    let log = NGINX.log();
    assert!(log.contains("/jobs"), "{log}");
    assert!(!log.contains("eyJ"), "{log}");
}
