//! A service submits a job that runs as the user it asked for, and gets nothing
//! for those whom it may not act for.
//!
//! The daemon here signs with the key of the site for RS256, so its tokens are
//! good for the Slurm there.

use std::process::Output;
use std::sync::LazyLock;

use serde_json::json;

use super::RS256;
use super::bed::Answer;
use crate::jwt::Jwt;
use crate::node::{ALICE, Daemon, User, records, run_with, stdout, until};

const PORTAL: User = User {
    name: "portal",
    uid: 500,
};

/// Whom the portal may not act for is in one of its groups, save the last of
/// [`OTHERS`]: so it's not for want of a group that the others are refused.
const TABLES: &str = r#"
    [[policy.delegate]]
    caller = "portal"
    for_groups = ["hpcusers", "root", "slurm", "operators", "slurmrestd"]
    [[policy.delegate]]
    caller = "slurmrestd"
    for_groups = ["hpcusers"]
"#;

/// For whom nobody gets a token, or not this service, and why.
const OTHERS: [(&str, &str, &str); 5] = [
    (
        "root",
        "privileged_user",
        "could do anything to the cluster",
    ),
    (
        "slurm",
        "privileged_user",
        "could do anything to the cluster",
    ),
    ("admin", "not_allowed", "is an administrator"),
    ("slurmrestd", "not_allowed", "is a delegate itself"),
    ("ali.ce", "not_allowed", "may ask for members of hpcusers"),
];

static DAEMON: LazyLock<Daemon> =
    LazyLock::new(|| Daemon::with("delegation", "RS256", &RS256.key, "", TABLES));

/// What comes of the portal's command with this standard input.
fn portal(args: &[&str], input: &[u8]) -> Output {
    let mut client = PORTAL.runs("slurm-token");
    client
        .args(args)
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
        .env("SLURMRESTD_URL", RS256.bed.slurmrestd_url());
    run_with(&mut client, input).1
}

/// The token for alice that the portal gets.
fn token() -> String {
    let printed = stdout(portal(&["--for", "alice", "--format", "raw"], b""));
    printed.trim_end().to_owned()
}

/// The only record in which all of this stands.
fn record(fields: &[&str]) -> String {
    let found = || {
        let mut found = records(&DAEMON);
        found.retain(|record| {
            let has = |field: &&str| record.split(' ').any(|f| f == *field);
            fields.iter().all(has)
        });
        found
    };
    until("the record", || !found().is_empty());
    let found = found();
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_job_that_a_service_submits_runs_as_the_user() {
    let path = format!("/slurm/{}/job/submit", RS256.bed.api());
    let body = json!({
        "script": "#!/bin/sh\nid -un\n",
        "job": {
            "current_working_directory": "/var/home/alice",
            "standard_output": "/var/home/alice/%j.out",
            "environment": {"PATH": "/usr/bin:/bin"},
        },
    });
    let call = ["curl", "--for", "alice", "-sS", "--json", "@-", &path];
    let answer = stdout(portal(&call, body.to_string().as_bytes()));
    let submitted = Answer {
        status: 200,
        json: serde_json::from_str(&answer).unwrap(),
    };
    let job = RS256.bed.finish(&submitted, "alice");
    assert_eq!((job.output.trim(), job.owner), (ALICE.name, ALICE.uid));
}

#[test]
fn the_token_and_its_record_name_both_the_user_and_the_service() {
    let claims = Jwt::read(&token()).claims;
    assert_eq!(claims["sun"], "alice");
    assert_eq!(claims["act"]["sub"], "portal");
    let jti = format!("jti={}", claims["jti"].as_str().unwrap());
    record(&[
        &jti,
        "result=granted",
        "user=portal",
        "uid=500",
        "for=alice",
        "sun=alice",
    ]);
}

#[test]
fn the_token_of_a_service_speaks_for_nobody_but_its_user() {
    let token = token();
    assert_eq!(RS256.bed.jobs(&token, "alice"), 200);
    for other in ["portal", "bob", "root", "slurm"] {
        let submitted = RS256.bed.submit(&token, other, "id -un");
        assert_eq!(submitted.status, 500, "{other}: {submitted:?}");
        assert!(submitted.json["job_id"].is_null(), "{other}: {submitted:?}");
    }
}

#[test]
fn a_service_gets_no_token_for_whom_it_may_not_act_for() {
    for (other, code, why) in OTHERS {
        let refused = portal(&["--for", other, "--format", "raw"], b"");
        assert_eq!(refused.status.code(), Some(4), "{other}: {refused:?}");
        assert!(refused.stdout.is_empty(), "{other}");
        let words = String::from_utf8(refused.stderr).unwrap();
        assert!(words.contains(why), "{other}: {words}");
        assert!(!words.contains("eyJ"), "{other}: {words}");
        let target = format!("for={other}");
        let code = format!("code={code}");
        let record = record(&["result=refused", "user=portal", &target, &code]);
        assert!(!record.contains("jti="), "{record}");
    }
    let granted = |record: &String| record.contains("result=granted");
    let ours = |record: &String| record.contains(" for=alice ");
    assert!(records(&DAEMON).iter().filter(|r| granted(r)).all(ours));
}
