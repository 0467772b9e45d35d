//! Caddy, with its example: the same in short.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use super::client::ask;
use super::nginx::written;
use super::{DAEMON, bearer, door, role, slurm, token};
use crate::node::{ALICE, stop, until};
use crate::slurm::RS256;

const EXAMPLE: &str = include_str!("../../../etc/Caddyfile");

/// Caddy with the example.
pub static PROXY: LazyLock<Caddy> = LazyLock::new(|| {
    let slurmrestd = RS256.bed.url().strip_prefix("http://").unwrap();
    let places = [
        ("/run/slurm-tokend/http.sock", door(&DAEMON)),
        ("127.0.0.1:6820", slurmrestd.into()),
        ("http://:8080", "http://:8081".into()),
    ];
    let places = places
        .each_ref()
        .map(|(from, to)| (*from, to.to_str().unwrap()));
    Caddy::start(8081, &written(EXAMPLE, &places))
});

/// A running Caddy; it's told to stop when dropped.
pub struct Caddy {
    child: Child,
    address: String,
}

impl Caddy {
    /// A Caddy that listens on that port, with this Caddyfile.
    pub fn start(port: u16, text: &str) -> Self {
        let place = PathBuf::from(format!("/tmp/caddy-{port}"));
        fs::create_dir(&place).unwrap();
        fs::write(place.join("Caddyfile"), text).unwrap();
        let log = place.join("log");
        let child = Command::new("setpriv")
            .args(["--reuid", "caddy", "--regid", "caddy", "--clear-groups"])
            .args(["caddy", "run", "--config"])
            .arg(place.join("Caddyfile"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut caddy = Self {
            child,
            address: format!("127.0.0.1:{port}"),
        };
        until("Caddy to listen", || {
            if let Some(status) = caddy.child.try_wait().unwrap() {
                panic!("Caddy ended, {status}: {}", super::text_of(&log));
            }
            TcpStream::connect(&caddy.address).is_ok()
        });
        caddy
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

#[test]
fn by_caddy_a_job_runs_as_who_brings_the_token() {
    super::a_job_runs_as_who_brings_the_token(PROXY.address());
}

#[test]
fn caddy_refuses_each_bad_request_with_its_code() {
    super::bad::each_is_refused(PROXY.address(), 401);
}

#[test]
fn by_caddy_a_location_opens_for_the_members_of_its_group_only() {
    role::opens_for_members_only(PROXY.address());
}

#[test]
fn by_caddy_no_other_spelling_of_the_location_opens_it() {
    role::opens_by_no_other_spelling(PROXY.address());
}

#[test]
fn a_refusal_reaches_caddys_client_as_the_daemon_wrote_it() {
    let reply = ask(&slurm(PROXY.address(), "jobs"), &[], &[]);
    assert_eq!(
        reply.header("www-authenticate"),
        Some("Bearer realm=\"slurm\"")
    );
    for text in ["message", "help"] {
        assert!(reply.json()[text].is_string(), "{reply:?}");
    }
    let reply = ask(
        &slurm(PROXY.address(), "diag"),
        &[],
        &[bearer(&token(&ALICE))],
    );
    let challenge = reply.header("www-authenticate").unwrap();
    assert!(challenge.contains("insufficient_scope"), "{challenge}");
}

#[test]
fn nobody_can_change_what_the_example_of_caddy_does() {
    LazyLock::force(&PROXY);
    assert!(TcpStream::connect("127.0.0.1:2019").is_err());
}
