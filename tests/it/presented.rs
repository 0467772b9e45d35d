//! `slurm-token verify` and `refresh`: a token that the user has, shown to the
//! daemon.

use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

use crate::jwt::Jwt;
use crate::node::{ALICE, BOB, Daemon, User, generate_key, stdout, until};

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("RS256", "presented.pem");
    Daemon::start("presented", "RS256", &key)
});

/// A user shows a token, on standard input.
fn shown(user: &User, args: &[&str], token: &str) -> Output {
    let mut client = user.runs("slurm-token");
    let mut child = client
        .args(args)
        .arg("-")
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(token.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// The same with the token in the environment.
fn exported(user: &User, args: &[&str], token: &str) -> Output {
    let mut client = user.runs("slurm-token");
    client
        .args(args)
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
        .env("SLURM_JWT", token);
    client.output().unwrap()
}

fn complaint(output: Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn own(args: &[&str]) -> String {
    DAEMON.client(&ALICE, &[args, &["--format=raw"]].concat())
}

// verify

#[test]
fn a_valid_token_is_told_of_in_words_and_in_json() {
    let token = own(&[]);
    for output in [
        shown(&BOB, &["verify"], &token),
        exported(&BOB, &["verify"], &token),
    ] {
        let told = stdout(output);
        assert!(
            told.starts_with("token        valid\nuser         alice\n"),
            "{told}"
        );
        assert!(
            told.contains(
                "
expires      in "
            ),
            "{told}"
        );
        assert!(told.contains(" (RS256)\n"), "{told}");
    }
    let json = stdout(shown(&BOB, &["verify", "--json"], &token));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["user"], "alice");
    assert_eq!(json["claims"]["jti"], Jwt::read(&token).claims["jti"]);
}

#[test]
fn a_token_that_is_not_valid_is_refused_with_the_reason() {
    let token = own(&[]);
    let (before, rest) = token.split_at(token.len() - 20);
    let other = if rest.starts_with('A') { 'B' } else { 'A' };
    let changed = format!("{before}{other}{}", &rest[1..]);
    let said = complaint(shown(&ALICE, &["verify"], &changed), 4);
    assert!(!said.contains("eyJ"), "{said}");
    let short = own(&["--lifespan=1"]);
    until("the token to expire", || {
        let output = shown(&ALICE, &["verify"], &short);
        output.status.code() == Some(4)
            && String::from_utf8(output.stderr)
                .unwrap()
                .contains("expired")
    });
}

#[test]
fn a_valid_token_of_somebody_else_than_was_expected_is_a_failure() {
    let token = own(&[]);
    stdout(shown(&BOB, &["verify", "--expect-user=alice"], &token));
    let said = complaint(shown(&BOB, &["verify", "--expect-user=bob"], &token), 1);
    assert!(said.contains("is alice's, and not bob's"), "{said}");
}

// refresh

#[test]
fn a_new_token_for_an_old_one_has_the_same_life_and_user() {
    let old = own(&["--lifespan=10m"]);
    for output in [
        shown(&ALICE, &["refresh", "--format=raw"], &old),
        exported(&ALICE, &["refresh", "--format=raw"], &old),
        shown(
            &ALICE,
            &["refresh", "--format=raw"],
            &format!("SLURM_JWT={old}\n"),
        ),
    ] {
        let new = Jwt::read(stdout(output).trim_end()).claims;
        let old = Jwt::read(&old).claims;
        assert_ne!(new["jti"], old["jti"]);
        assert_eq!(new["sun"], "alice");
        let lives = new["exp"].as_u64().unwrap() - new["iat"].as_u64().unwrap();
        assert_eq!(lives, 600);
        assert_eq!(new["auth_time"], old["iat"]);
    }
}

#[test]
fn a_refreshed_token_is_printed_as_a_new_one_is() {
    let printed = stdout(exported(&ALICE, &["refresh"], &own(&[])));
    assert!(printed.starts_with("SLURM_JWT=eyJ"), "{printed}");
}

#[test]
fn nobody_refreshes_the_token_of_somebody_else() {
    let said = complaint(shown(&BOB, &["refresh"], &own(&[])), 4);
    assert!(said.contains("slurm-token: "), "{said}");
    assert!(!said.contains("eyJ"), "{said}");
}

#[test]
fn what_is_no_token_is_not_sent() {
    let mut client = ALICE.runs("slurm-token");
    client
        .args(["refresh", "--socket=/nonexistent"])
        .env("SLURM_JWT", "nonsense");
    let said = complaint(client.output().unwrap(), 1);
    assert!(said.contains("the token: is none"), "{said}");
}

#[test]
fn a_token_on_the_command_line_is_not_used() {
    for verb in ["verify", "refresh"] {
        let mut client = ALICE.runs("slurm-token");
        let output = client.args([verb, "eyJ.a.b"]).output().unwrap();
        let said = complaint(output, 2);
        assert!(said.contains("for everybody to read"), "{said}");
        assert!(!said.contains("eyJ.a.b"), "{said}");
    }
}
