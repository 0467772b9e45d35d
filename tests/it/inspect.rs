//! `slurm-token inspect`: what is in a token, for people who have no key.

use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::node::{ALICE, Daemon, generate_key, stdout};

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("HS256", "inspect.key");
    Daemon::start("inspect", "HS256", &key)
});

/// Alice looks into a token, which is on standard input if the arguments say so.
fn inspect(args: &[&str], input: &str, jwt: Option<&str>) -> Output {
    let mut client = ALICE.runs("slurm-token");
    client
        .arg("inspect")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(jwt) = jwt {
        client.env("SLURM_JWT", jwt);
    }
    let mut child = client.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Who reads nothing may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn forged(claims: &str) -> String {
    let [header, claims] = ["{\"alg\":\"HS256\"}", claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.c2ln")
}

#[test]
fn the_token_of_the_environment_is_looked_into_with_nobody_asked() {
    let token = DAEMON.client(&ALICE, &["--format=raw"]);
    let told = stdout(inspect(&[], "", Some(&token)));
    assert!(told.contains("\"sun\": \"alice\""), "{told}");
    assert!(told.contains(" UTC (in "), "{told}");
    assert!(
        told.contains("Slurm takes its bearer for \"alice\""),
        "{told}"
    );
    assert!(told.contains("Slurm 22.05 and 26.05 accept it"), "{told}");
    assert!(told.contains("not checked: slurm-token verify"), "{told}");
}

#[test]
fn a_token_is_taken_as_each_format_writes_it() {
    for format in ["env", "export", "raw", "header"] {
        let written = DAEMON.client(&ALICE, &["--format", format]);
        let told = stdout(inspect(&["--json", "-"], &written, None));
        let json: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(json["user"], "alice", "{format}");
        assert_eq!(json["slurm_22_05"], "accepts");
        assert_eq!(json["claims"]["sun"], "alice");
        assert_eq!(json["header"]["kid"], "inspect");
    }
}

#[test]
fn a_token_on_the_command_line_is_warned_of() {
    let token = DAEMON.client(&ALICE, &["--format=raw"]);
    let output = inspect(&[&token], "", None);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Everybody on this machine"), "{said}");
    assert!(!said.contains("eyJ"), "{said}");
    assert!(output.status.success());
}

#[test]
fn what_slurm_refuses_is_a_failure_and_says_why() {
    let expired = forged("{\"sun\":\"alice\",\"exp\":1000}");
    let output = inspect(&["-"], &expired, None);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.contains("Slurm 22.05 refuses it, 26.05 refuses it: it expired"),
        "{told}"
    );
    let root = forged("{\"sun\":\"0\",\"exp\":4000000000}");
    let told = String::from_utf8(inspect(&["-"], &root, None).stdout).unwrap();
    assert!(told.contains("for root (uid 0)"), "{told}");
}

#[test]
fn a_token_of_somebody_else_than_was_expected_is_a_failure() {
    let token = DAEMON.client(&ALICE, &["--format=raw"]);
    stdout(inspect(&["--expect-user=alice", "-"], &token, None));
    for token in [&*token, &forged("{\"sun\":\"2002\",\"exp\":4000000000}")] {
        let output = inspect(&["--expect-user=bob", "-"], token, None);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("bob's"), "{said}");
    }
}

#[test]
fn what_is_no_token_is_named_and_not_repeated() {
    for (text, what) in [
        ("", "there is no token"),
        ("nonsense", "a token has three parts"),
        ("a.b", "this has 2 parts"),
    ] {
        let output = inspect(&["-"], text, None);
        assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(what), "{said}");
    }
    let output = inspect(&[], "", None);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("SLURM_JWT is not set"), "{said}");
}

#[test]
fn a_token_of_anybodys_making_reaches_no_terminal_as_it_is() {
    let evil = "\u{1b}]0;title\u{7}\u{9b}2J\u{202e}\n\u{430}lice";
    let claims = serde_json::json!({"sun": evil, "exp": 4_000_000_000_u32, evil: evil});
    let token = forged(&claims.to_string());
    for args in [&["-"][..], &["--json", "-"], &["--expect-user=bob", "-"]] {
        let output = inspect(args, &token, None);
        for byte in [output.stdout, output.stderr].concat() {
            assert!(
                byte == b'\n' || byte == b' ' || byte.is_ascii_graphic(),
                "{byte}"
            );
        }
    }
    let told = inspect(&["--json", "-"], &token, None).stdout;
    let json: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(json["claims"], claims);
}
