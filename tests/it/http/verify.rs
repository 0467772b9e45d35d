//! `/verify`: forward authentication.

use super::{WWW_DATA, ask, bearer, get, opened, token};
use crate::node::{ALICE, BOB, Daemon, generate_key};

fn daemon(name: &str, tables: &str) -> Daemon {
    let key = generate_key("HS256", &format!("{name}.key"));
    let keys = "proxies = [\"www-data\"]";
    Daemon::with(name, "HS256", &key, "", &opened(name, keys, tables))
}

#[test]
fn a_valid_token_is_answered_with_what_a_proxy_passes_on() {
    const NAME: &str = "http-valid";
    let daemon = daemon(NAME, "[token]\nissuer = \"https://login1.example.org\"");
    let alices = token(&daemon, ALICE.uid, 600);
    let claims = &daemon.ask(&format!(r#"{{"v":1,"op":"verify","token":"{alices}"}}"#))["ok"];
    for header in [
        bearer(&alices),
        format!("authorization: bEARER   {alices}"),
        format!("X-Slurm-User-Token: {alices}"),
    ] {
        for method in [
            "GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND",
        ] {
            let answer = ask(NAME, WWW_DATA, &format!("{method} /verify"), &[&header], "");
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(&answer.json(), claims);
            assert_eq!(answer.header("x-slurm-user-name"), Some("alice"));
            assert_eq!(answer.header("x-slurm-user-token"), Some(alices.as_str()));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("x-slurm-claim-act"), None);
            for claim in ["exp", "iat", "nbf", "jti", "iss"] {
                let expected = claims["claims"][claim].to_string();
                let header = answer.header(&format!("x-slurm-claim-{claim}"));
                assert_eq!(header, Some(expected.trim_matches('"')), "{claim}");
            }
        }
    }
    let named = "X-SLURM-USER-NAME: alice";
    let answer = ask(
        NAME,
        WWW_DATA,
        "GET /verify",
        &[&bearer(&alices), named],
        "",
    );
    assert_eq!(answer.status, 200);
}

#[test]
fn every_other_header_is_refused_with_its_code_and_a_challenge() {
    const NAME: &str = "http-invalid";
    let daemon = daemon(NAME, "");
    let alices = token(&daemon, ALICE.uid, 600);
    let bobs = token(&daemon, BOB.uid, 600);
    let own = bearer(&alices);
    let second = format!("X-SLURM-USER-TOKEN: {alices}");
    let others = format!("X-SLURM-USER-TOKEN: {bobs}");
    let forged = format!("{}x", bearer(&alices));
    let two = format!("{own} {bobs}");
    let basic = "Authorization: Basic YTpi";
    let name = "X-SLURM-USER-NAME: alice";
    let invalid = "invalid_header";
    for (headers, code, error) in [
        (vec![], "authorization_header_missing", None),
        (
            vec!["Authorization: "],
            "authorization_header_missing",
            None,
        ),
        (vec![basic], invalid, Some("invalid_request")),
        (
            vec!["Authorization: Bearer"],
            invalid,
            Some("invalid_request"),
        ),
        (vec![two.as_str()], invalid, Some("invalid_request")),
        (vec![&own, &own], invalid, Some("invalid_request")),
        (vec![&own, &second], invalid, Some("invalid_request")),
        (vec![&own, &others], invalid, Some("invalid_request")),
        (vec![&own, basic], invalid, Some("invalid_request")),
        (vec![&second, &second], invalid, Some("invalid_request")),
        (
            vec![&own, "X-SLURM-USER-NAME: bob"],
            invalid,
            Some("invalid_request"),
        ),
        (
            vec![&own, "X-SLURM-USER-NAME: Alice"],
            invalid,
            Some("invalid_request"),
        ),
        (vec![&own, name, name], invalid, Some("invalid_request")),
        (
            vec![&own, "X-SLURM-USER-NAME: \u{fc}"],
            invalid,
            Some("invalid_request"),
        ),
        (
            vec![forged.as_str()],
            "token_invalid",
            Some("invalid_token"),
        ),
    ] {
        let answer = ask(NAME, WWW_DATA, "GET /verify", &headers, "");
        assert_eq!(answer.refusal(), (401, code.into()), "{headers:?}");
        let challenge = answer.header("www-authenticate").unwrap();
        let expected = match error {
            None => "Bearer realm=\"slurm\"".to_owned(),
            Some(error) => {
                format!("Bearer realm=\"slurm\", error=\"{error}\", error_description=\"")
            }
        };
        assert!(challenge.starts_with(&expected), "{challenge}");
        assert_eq!(error.is_none(), challenge == expected, "{challenge}");
        assert_eq!(answer.header("x-slurm-user-name"), None);
    }
}

#[test]
fn an_expired_token_is_told_from_an_invalid_one() {
    const NAME: &str = "http-expired";
    let daemon = daemon(NAME, "");
    let short = bearer(&token(&daemon, ALICE.uid, 1));
    crate::node::until("the token to expire", || {
        ask(NAME, WWW_DATA, "GET /verify", &[&short], "").status == 401
    });
    let answer = ask(NAME, WWW_DATA, "GET /verify", &[&short], "");
    assert_eq!(answer.refusal(), (401, "token_expired".into()));
    assert!(
        answer
            .header("www-authenticate")
            .unwrap()
            .contains("error=\"invalid_token\"")
    );
}

#[test]
fn a_query_that_is_not_understood_is_refused_before_the_token() {
    const NAME: &str = "http-query";
    let _daemon = daemon(NAME, "");
    for query in ["group=", "role=x", "refresh=2", "refresh=1&refresh=1"] {
        let answer = get(NAME, WWW_DATA, &format!("GET /verify?{query}"));
        assert_eq!(
            answer.refusal(),
            (400, "malformed_request".into()),
            "{query}"
        );
    }
}
