//! No request that comes through a proxy gets a token for the account that the
//! proxy runs as, nor for root or `SlurmUser`: however the proxy is set up, and
//! whatever the request says.

use std::path::Path;

use serde_json::json;

use super::client::{Reply, ask};
use super::nginx::Nginx;
use super::{DAEMON, NGINX, bearer, caddy, daemon, door, token};
use crate::forge::Forger;
use crate::node::{ALICE, Daemon};
use crate::slurm::RS256;

/// Ways to ask for a token: the path, and curl's options.
const WAYS: [(&str, &[&str]); 9] = [
    ("/authenticate", &["--request", "POST"]),
    ("/authenticate", &[]),
    ("/authenticate", &["--json", "{}"]),
    ("/authenticate", &["--json", r#"{"lifespan":"max"}"#]),
    ("/authenticate", &["--json", r#"{"for":"www-data"}"#]),
    ("/authenticate", &["--json", r#"{"for":"root"}"#]),
    ("/authenticate", &["--json", r#"{"for":"slurm"}"#]),
    ("/authenticate", &["--json", r#"{"for":"alice"}"#]),
    ("/authenticate/refresh", &["--request", "POST"]),
];

/// What a client might say of itself, beside its token.
const CLAIMED: [&[&str]; 4] = [
    &[],
    &["X-SLURM-USER-NAME: root"],
    &["X-SLURM-USER-NAME: www-data", "X-Remote-User: www-data"],
    &["Host: slurm-tokend", "Content-Type: application/json"],
];

/// An nginx that hands everything on, and whose workers run as that user.
fn passes_everything(user: &str, port: u16, door: &Path, told: &str) -> Nginx {
    let http = format!(
        "upstream door {{ server unix:{}; keepalive 8; }}
         server {{
             listen 127.0.0.1:{port};
             location / {{
                 proxy_pass http://door;
                 proxy_http_version 1.1;
                 proxy_set_header Connection \"\";
                 {told}
             }}
         }}",
        door.display()
    );
    Nginx::start(user, port, &http)
}

/// Asks in every way, with a token of alice's and without.
fn asks_in_every_way(proxy: &str, mut judge: impl FnMut(&str, &Reply)) {
    let alices = bearer(&token(&ALICE));
    for (path, options) in WAYS {
        for claimed in CLAIMED {
            for token in [None, Some(&alices)] {
                let headers: Vec<_> = claimed
                    .iter()
                    .map(|header| (*header).to_owned())
                    .chain(token.cloned())
                    .collect();
                let reply = ask(&format!("http://{proxy}{path}"), options, &headers);
                let what = format!("{path} {options:?} {claimed:?} {}", token.is_some());
                judge(&what, &reply);
            }
        }
    }
}

fn nobody_got_a_token(daemon: &Daemon, users: &[&str]) {
    let sessions = daemon.ask(r#"{"v":1,"op":"sessions"}"#)["ok"].take();
    for holder in sessions["users"].as_array().unwrap() {
        if users.contains(&holder["user"].as_str().unwrap()) {
            let tokens = (&holder["issued"], &holder["live_tokens"]);
            assert_eq!(tokens, (&0.into(), &0.into()), "{holder}");
        }
    }
}

#[test]
fn the_examples_hand_no_request_for_a_token_on() {
    for proxy in [NGINX.address(), caddy::PROXY.address()] {
        asks_in_every_way(proxy, |what, reply| {
            assert_eq!(reply.status, 404, "{what}: {reply:?}");
            assert!(!reply.has_token(), "{what}: {reply:?}");
        });
        let alices = bearer(&token(&ALICE));
        for path in [
            "//authenticate",
            "/slurm/../authenticate",
            "/slurm/%2e%2e/authenticate",
            "/slurm/..%2fauthenticate",
            "/slurm/v0.0.38/../../authenticate",
            "/authenticate%00/slurm/",
            "/verify",
            "/.slurm-tokend/anybody",
            "/.slurm-tokend/../authenticate",
            "/.slurm-tokend/anybody/../../authenticate",
        ] {
            let options = ["--request", "POST"];
            let reply = ask(
                &format!("http://{proxy}{path}"),
                &options,
                std::slice::from_ref(&alices),
            );
            assert!(!reply.has_token(), "{path}: {reply:?}");
        }
        // The target of a request as a forward proxy gets it.
        let url = "http://slurm-tokend/authenticate";
        let options = ["--request", "POST", "--proxy", proxy];
        let reply = ask(url, &options, &[alices]);
        assert!(!reply.has_token(), "{reply:?}");
    }
    nobody_got_a_token(&DAEMON, &["www-data", "caddy", "root", "slurm"]);
}

#[test]
fn a_proxy_that_hands_everything_on_gets_no_token_whoever_it_runs_as() {
    // Nothing but its being a proxy stands between www-data and a token.
    let tables = "proxies = [\"www-data\"]\n[policy]\nmin_uid = 0";
    let known = daemon("deputy-known", "", tables);
    // Not known as a proxy, and with all the rights that there are.
    let unknown = daemon(
        "deputy-unknown",
        "allow_privileged = [\"root\", \"slurm\"]",
        "",
    );
    for (port, (daemon, user)) in (8090..).zip([
        (&known, "www-data"),
        (&known, "root"),
        (&known, "slurm"),
        (&unknown, "www-data"),
        (&unknown, "root"),
        (&unknown, "slurm"),
    ]) {
        let nginx = passes_everything(user, port, &door(daemon), "");
        asks_in_every_way(nginx.address(), |what, reply| {
            assert!(
                (400..500).contains(&reply.status),
                "{user}: {what}: {reply:?}"
            );
            assert!(!reply.has_token(), "{user}: {what}: {reply:?}");
        });
    }
    for daemon in [&known, &unknown] {
        nobody_got_a_token(daemon, &["www-data", "root", "slurm"]);
    }
}

#[test]
fn a_proxy_of_a_users_own_gets_no_token_for_a_request_that_it_forwards() {
    let daemon = daemon("deputy-own", "", "");
    for (port, told) in (8100..).zip([
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_set_header X-Real-IP $remote_addr;",
        "proxy_set_header Forwarded \"for=$remote_addr\";",
        "proxy_set_header Via \"1.1 nginx\";",
    ]) {
        let nginx = passes_everything("alice", port, &door(&daemon), told);
        asks_in_every_way(nginx.address(), |what, reply| {
            assert_ne!(reply.status, 200, "{told}: {what}: {reply:?}");
            assert!(!reply.has_token(), "{told}: {what}: {reply:?}");
        });
    }
    nobody_got_a_token(&daemon, &["alice"]);
}

#[test]
fn caddy_gets_no_token_by_default_though_the_policy_would_give_it_one() {
    let daemon = daemon("deputy-caddy", "", "[policy]\nmin_uid = 0");
    let text = format!(
        "{{\nadmin off\n}}\nhttp://:8110 {{\nbind 127.0.0.1\nreverse_proxy unix/{}\n}}\n",
        door(&daemon).display()
    );
    let caddy = caddy::Caddy::start(8110, &text);
    asks_in_every_way(caddy.address(), |what, reply| {
        assert_ne!(reply.status, 200, "{what}: {reply:?}");
        assert!(!reply.has_token(), "{what}: {reply:?}");
    });
    nobody_got_a_token(&daemon, &["caddy", "root", "slurm"]);
}

#[test]
fn the_next_token_through_a_proxy_is_for_whom_the_old_one_speaks_or_nobody() {
    let change = (
        "auth_request     /.slurm-tokend/anybody;",
        "auth_request     /.slurm-tokend/refreshing;",
    );
    let nginx = Nginx::example(&door(&DAEMON), 8120, &[change]);
    let kid = crate::jwt::Jwt::read(&token(&ALICE)).header["kid"].clone();
    let now = crate::forge::now();
    // Genuine as to its signature, and more than half over.
    for sun in [
        "www-data",
        "caddy",
        "root",
        "slurm",
        "slurm-tokend",
        "toor",
        "33",
    ] {
        let claims = json!({"sun": sun, "iat": now - 500, "nbf": now - 500, "exp": now + 100});
        let old = Forger::Rsa(&RS256.key).token(kid.as_str().unwrap(), &claims);
        let url = super::slurm(nginx.address(), "jobs");
        let reply = ask(&url, &[], &[bearer(&old)]);
        assert_eq!(reply.header("x-slurm-refreshed-token"), None, "{sun}");
    }
}
