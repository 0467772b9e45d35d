//! Proxies in front of the real slurmrestd, as the examples in etc/ set them up:
//! nginx as www-data and Caddy as caddy let in who brings a good token, as that
//! user, and nobody else.
//!
//! The daemon here signs with the key of the site for RS256, so its tokens are
//! good for the Slurm there.

mod bad;
mod caddy;
mod client;
mod deputy;
mod nginx;
mod role;
mod service;
mod unanswered;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use self::client::ask;
use self::nginx::Nginx;
use crate::node::{ALICE, BOB, Daemon, User, until};
use crate::slurm::RS256;
use crate::slurm::bed::Answer;

/// Both proxies are known as such; nginx may also ask for the next token of
/// those who come through it.
const TABLES: &str = r#"
    proxies = ["www-data", "caddy"]
    [[policy.delegate]]
    caller = "www-data"
    for_groups = ["hpcusers"]
    http = true
"#;

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| daemon("proxied", "", TABLES));

/// nginx with the example as it stands.
static NGINX: LazyLock<Nginx> = LazyLock::new(|| Nginx::example(&door(&DAEMON), 8080, &[]));

/// A daemon with a door, whose tokens the real Slurm accepts. `tables` begins
/// in the table of the door.
fn daemon(name: &str, top: &str, tables: &str) -> Daemon {
    let socket = door_of(name);
    let tables = format!("[http]\nsocket = \"{}\"\n{tables}", socket.display());
    Daemon::with(name, "RS256", &RS256.key, top, &tables)
}

/// Where the daemon of this name answers HTTP.
fn door_of(name: &str) -> PathBuf {
    Daemon::socket_of(name).with_file_name("http.sock")
}

fn door(daemon: &Daemon) -> PathBuf {
    daemon.socket().with_file_name("http.sock")
}

/// A token that the user got from the daemon.
fn token(user: &User) -> String {
    DAEMON.client(user, &["--format", "raw"])
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// A path of slurmrestd's, on a proxy that listens here.
fn slurm(proxy: &str, path: &str) -> String {
    format!("http://{proxy}/slurm/{}/{path}", RS256.bed.api())
}

/// Submits a job that tells who it runs as.
fn submit(proxy: &str, user: &User, headers: &[String]) -> Answer {
    let home = format!("/var/home/{}", user.name);
    let job = serde_json::json!({
        "script": "#!/bin/sh\nid -un\n",
        "job": {
            "name": "proxied",
            "current_working_directory": home,
            "standard_output": format!("{home}/%j.out"),
            "environment": {"PATH": "/usr/bin:/bin"},
        },
    });
    let url = slurm(proxy, "job/submit");
    let job = job.to_string();
    let data = ["--data-raw", &job, "-H", "Content-Type: application/json"];
    let reply = ask(&url, &data, headers);
    Answer {
        status: reply.status,
        json: reply.json(),
    }
}

fn a_job_runs_as_who_brings_the_token(proxy: &str) {
    for user in [ALICE, BOB] {
        let submitted = submit(proxy, &user, &[bearer(&token(&user))]);
        let job = RS256.bed.finish(&submitted, user.name);
        assert_eq!((job.output.trim(), job.owner), (user.name, user.uid));
    }
}

#[test]
fn without_a_proxy_slurmrestd_refuses_a_bearer_token_and_one_without_a_name() {
    let token = token(&ALICE);
    for header in [bearer(&token), format!("X-SLURM-USER-TOKEN: {token}")] {
        let url = format!("{}/slurm/{}/jobs", RS256.bed.url(), RS256.bed.api());
        assert_eq!(ask(&url, &[], &[header]).status, 401);
    }
}

#[test]
fn by_nginx_a_job_runs_as_who_brings_the_token() {
    a_job_runs_as_who_brings_the_token(NGINX.address());
}

#[test]
fn the_token_may_come_in_slurms_own_header_and_with_the_name_that_it_has() {
    let token = token(&ALICE);
    let url = slurm(NGINX.address(), "jobs");
    for headers in [
        vec![format!("x-slurm-user-token: {token}")],
        vec![format!("authorization: bEARER {token}")],
        vec![bearer(&token), "X-SLURM-USER-NAME: alice".into()],
    ] {
        let reply = ask(&url, &[], &headers);
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.json()["jobs"].is_array());
    }
}

#[test]
fn a_token_that_is_more_than_half_over_brings_the_next_one() {
    let refreshing = "auth_request     /.slurm-tokend/refreshing;";
    let change = ("auth_request     /.slurm-tokend/anybody;", refreshing);
    let nginx = Nginx::example(&door(&DAEMON), 8082, &[change]);
    let url = slurm(nginx.address(), "jobs");

    let young = ask(&url, &[], &[bearer(&token(&ALICE))]);
    assert_eq!(young.status, 200);
    assert_eq!(young.header("x-slurm-refreshed-token"), None);

    let old = DAEMON.client(&ALICE, &["lifespan=20", "--format", "raw"]);
    let mut next = None;
    until("the next token", || {
        let reply = ask(&url, &[], &[bearer(&old)]);
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        next = reply.header("x-slurm-refreshed-token").map(str::to_owned);
        next.is_some()
    });
    let next = next.unwrap();
    let claims = crate::jwt::Jwt::read(&next).claims;
    assert_eq!(claims["sun"], "alice");
    assert_eq!(claims["act"]["sub"], "www-data");
    assert_eq!(ask(&url, &[], &[bearer(&next)]).status, 200);
}

#[test]
fn what_the_client_says_of_itself_reaches_slurmrestd_from_nobody_but_the_daemon() {
    // Bob's name beside alice's token, in every place and spelling that a proxy
    // or slurmrestd might take for another header.
    let (alices, bobs) = (token(&ALICE), token(&BOB));
    for smuggled in [
        vec!["X_SLURM_USER_NAME: bob".into()],
        vec!["X-SLURM-USER-NAME : bob".into()],
        vec!["X-Slurm-User-Name;: bob".into()],
        vec![format!("X_SLURM_USER_TOKEN: {bobs}")],
        vec!["Connection: X-SLURM-USER-NAME, X-SLURM-USER-TOKEN".into()],
        vec!["Connection: close, Authorization".into()],
        vec![format!("Cookie: X-SLURM-USER-TOKEN={bobs}")],
    ] {
        for proxy in [NGINX.address(), caddy::PROXY.address()] {
            let headers = [vec![bearer(&alices)], smuggled.clone()].concat();
            let submitted = submit(proxy, &ALICE, &headers);
            if submitted.status == 200 {
                let job = RS256.bed.finish(&submitted, "alice");
                assert_eq!((job.output.trim(), job.owner), ("alice", ALICE.uid));
            } else {
                assert_eq!(submitted.json["job_id"], Value::Null, "{smuggled:?}");
            }
        }
    }
}

fn text_of(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
