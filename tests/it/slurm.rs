//! Real Slurm judges the tokens that real users get from the real daemon.
//!
//! Each algorithm has a site of its own: a daemon that was started as root with
//! a configuration in /etc/slurm, and a Slurm that knows its key and no other.
//! So a token that is accepted was signed by that algorithm and that key.

pub mod bed;
mod delegation;
mod inspect;
mod lint;
mod rotation;

use std::path::PathBuf;
use std::process::Output;
use std::sync::LazyLock;

use serde_json::Value;

use self::bed::Bed;
use crate::node::{ALICE, BOB, Daemon, User, build_jwks, generate_key, publish, until};

/// A daemon, and a Slurm that knows its key.
pub struct Site {
    pub key: PathBuf,
    pub daemon: Daemon,
    pub bed: Bed,
}

pub static RS256: LazyLock<Site> = LazyLock::new(|| {
    let key = generate_key("RS256", "rs256.pem");
    let daemon = Daemon::start("rs256", "RS256", &key);
    let jwks = publish(&daemon.jwks(), "rs256.json");
    Site {
        key,
        daemon,
        bed: Bed::up(None, Some(&jwks)),
    }
});

pub static HS256: LazyLock<Site> = LazyLock::new(|| {
    let key = generate_key("HS256", "hs256.key");
    let daemon = Daemon::start("hs256", "HS256", &key);
    let bed = Bed::up(Some(&key), None);
    Site { key, daemon, bed }
});

impl Site {
    fn token(&self, user: &User) -> String {
        self.daemon.client(user, &["--format", "raw"])
    }

    /// The user runs a script by sh, with the commands of this site.
    fn shell(&self, user: &User, script: &str) -> Output {
        let mut sh = user.runs("sh");
        sh.args(["-c", script])
            .env("SLURM_TOKEND_SOCKET", self.daemon.socket())
            .env("SLURM_CONF", self.bed.users_conf());
        sh.output().unwrap()
    }
}

#[test]
fn with_rs256_each_user_calls_slurmrestd_as_themselves() {
    each_user_calls_slurmrestd(&RS256);
}

#[test]
fn with_hs256_each_user_calls_slurmrestd_as_themselves() {
    each_user_calls_slurmrestd(&HS256);
}

fn each_user_calls_slurmrestd(site: &Site) {
    for user in [ALICE, BOB] {
        assert_eq!(
            site.bed.jobs(&site.token(&user), user.name),
            200,
            "{}",
            user.name
        );
    }
}

#[test]
fn with_rs256_a_job_runs_as_the_user_who_submits_it() {
    a_job_runs_as_its_user(&RS256);
}

#[test]
fn with_hs256_a_job_runs_as_the_user_who_submits_it() {
    a_job_runs_as_its_user(&HS256);
}

fn a_job_runs_as_its_user(site: &Site) {
    for user in [ALICE, BOB] {
        let submitted = site.bed.submit(&site.token(&user), user.name, "id -un");
        let job = site.bed.finish(&submitted, user.name);
        assert_eq!((job.output.trim(), job.owner), (user.name, user.uid));
    }
}

#[test]
fn with_rs256_squeue_takes_the_token_that_a_shell_exports() {
    squeue_takes_the_exported_token(&RS256);
}

#[test]
fn with_hs256_squeue_takes_the_token_that_a_shell_exports() {
    squeue_takes_the_exported_token(&HS256);
}

fn squeue_takes_the_exported_token(site: &Site) {
    for user in [ALICE, BOB] {
        let without = site.shell(&user, "squeue");
        let why = String::from_utf8_lossy(&without.stderr);
        assert!(
            why.contains("Munge encode failed"),
            "squeue needs no token: {without:?}"
        );
        let with = site.shell(&user, "export $(slurm-token) && squeue --noheader");
        assert!(with.status.success(), "{}: {with:?}", user.name);
    }
}

#[test]
fn with_rs256_a_token_of_alice_never_acts_as_bob() {
    a_token_of_alice_never_acts_as_bob(&RS256);
}

#[test]
fn with_hs256_a_token_of_alice_never_acts_as_bob() {
    a_token_of_alice_never_acts_as_bob(&HS256);
}

fn a_token_of_alice_never_acts_as_bob(site: &Site) {
    let token = site.token(&ALICE);
    assert_eq!(site.bed.jobs(&token, "alice"), 200);
    assert_eq!(site.bed.jobs(&token, "bob"), 500);
    let submitted = site.bed.submit(&token, "bob", "id -un");
    assert_eq!(
        (submitted.status, &submitted.json["job_id"]),
        (500, &Value::Null)
    );
    assert!(
        site.bed.log().contains("alternate user"),
        "refused for another reason"
    );
}

#[test]
fn with_rs256_slurm_refuses_a_token_that_has_expired() {
    slurm_refuses_an_expired_token(&RS256);
}

#[test]
fn with_hs256_slurm_refuses_a_token_that_has_expired() {
    slurm_refuses_an_expired_token(&HS256);
}

fn slurm_refuses_an_expired_token(site: &Site) {
    let token = site
        .daemon
        .client(&ALICE, &["--lifespan", "2", "--format", "raw"]);
    until("Slurm to refuse the token", || {
        site.bed.jobs(&token, "alice") == 500
    });
    // Slurm says so only of a token whose signature it has found to be good.
    assert!(
        site.bed.log().contains("token expired"),
        "refused for another reason"
    );
}

#[test]
fn slurm_refuses_a_kid_that_its_jwks_has_dropped() {
    let other = generate_key("RS256", "other.pem");
    let jwks = publish(&build_jwks(&[&RS256.key, &other]), "dropping.json");
    let bed = Bed::up(None, Some(&jwks));
    let token = RS256.token(&ALICE);
    assert_eq!(bed.jobs(&token, "alice"), 200);

    publish(&build_jwks(&[&other]), "dropping.json");
    bed.restart();
    assert_eq!(bed.jobs(&token, "alice"), 500);
    assert_eq!(
        RS256.bed.jobs(&token, "alice"),
        200,
        "the token itself has gone bad"
    );
}

#[test]
fn the_daemon_serves_the_jwks_that_a_sysadmin_builds() {
    assert_eq!(RS256.daemon.jwks(), build_jwks(&[&RS256.key]));
}
