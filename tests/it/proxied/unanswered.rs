//! What is no word about the token reaches the client with its own status, in
//! spite of nginx's `auth_request`.

use super::client::ask;
use super::nginx::Nginx;
use super::{bearer, daemon, door, door_of, slurm};
use crate::node::ALICE;
use crate::node::until;

#[test]
fn a_rate_that_is_used_up_is_told_with_the_time_to_wait() {
    let limits = "verifications_per_minute = 1\nverification_burst = 2\nproxies = [\"www-data\"]";
    let daemon = daemon("proxied-slow", "", limits);
    let token = daemon.client(&ALICE, &["--format", "raw"]);
    let nginx = Nginx::example(&door(&daemon), 8083, &[]);
    let mut refused = None;
    until("the rate to be used up", || {
        let reply = ask(&slurm(nginx.address(), "jobs"), &[], &[bearer(&token)]);
        let done = reply.status != 200;
        refused = done.then_some(reply);
        done
    });
    let refused = refused.unwrap();
    assert_eq!(refused.refusal(), (429, "rate_limited".into()));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

#[test]
fn a_daemon_that_is_not_there_lets_nobody_in() {
    let nginx = Nginx::example(&door_of("proxied-nowhere"), 8084, &[]);
    let reply = ask(&slurm(nginx.address(), "jobs"), &[], &[bearer("eyJ")]);
    assert_eq!(reply.refusal(), (503, "busy".into()));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
}

#[test]
fn a_header_that_is_too_long_is_refused_by_nginx_or_by_the_daemon() {
    let proxy = super::NGINX.address();
    for (length, status, code) in [
        (20_000, 400, "invalid_header"),
        (14_000, 401, "token_invalid"),
    ] {
        let reply = ask(&slurm(proxy, "jobs"), &[], &[bearer(&"e".repeat(length))]);
        assert_eq!(reply.refusal(), (status, code.into()), "{length}");
    }
    // Three that nginx takes, which are more than the daemon does.
    let long = "x".repeat(15_000);
    let headers: Vec<_> = (0..3).map(|n| format!("X-Long-{n}: {long}")).collect();
    let reply = ask(&slurm(proxy, "jobs"), &[], &headers);
    assert_eq!(reply.refusal(), (431, "request_too_large".into()));
}
