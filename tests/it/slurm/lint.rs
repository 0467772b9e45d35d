//! What `slurm-tokenctl jwks lint` says of Slurm 22.05, Slurm 22.05 does.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::RS256;
use super::bed::Bed;
use crate::node::{ALICE, publish};

/// What lint says that 22.05 does with the one entry of a file.
fn said(file: &Path) -> String {
    let mut lint = Command::new(env!("CARGO_BIN_EXE_slurm-tokenctl"));
    let output = lint.args(["jwks", "lint"]).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap();
    let (_, said) = last.split_once("Slurm 22.05 ").unwrap();
    said.split_once(", 26.05 ").unwrap().0.to_owned()
}

/// What 22.05 does, told as lint tells it.
fn seen(bed: &Bed, token: &str) -> &'static str {
    if !bed.restarts() {
        "dies of it"
    } else if bed.jobs(token, "alice") == 200 {
        "accepts it"
    } else {
        "ignores it"
    }
}

#[test]
fn slurmctld_does_with_an_entry_what_lint_says() {
    let token = RS256.token(&ALICE);
    let sound = RS256.daemon.jwks()["keys"][0].clone();
    let n = sound["n"].as_str().unwrap();
    let jwks = publish(&json!({ "keys": [sound] }), "lint.json");
    let bed = Bed::up(None, Some(&jwks));

    let changed = |member: &str, value: Value| {
        let mut entry = sound.clone();
        entry[member] = value;
        json!({ "keys": [entry] })
    };
    let without = |member: &str| {
        let mut entry = sound.clone();
        entry.as_object_mut().unwrap().remove(member);
        json!({ "keys": [entry] })
    };
    let unnamed = json!({"kty": "RSA", "alg": "RS512", "n": n, "e": "AQAB"});
    let cases = [
        ("accepts it", without("use")),
        ("accepts it", without("kty")),
        ("accepts it", changed("kty", json!("EC"))),
        ("accepts it", changed("alg", json!("rs256"))),
        ("accepts it", changed("n", json!(format!("{n}==")))),
        ("accepts it", changed("d", json!("AQAB"))),
        (
            "accepts it",
            changed("n", json!(format!("{} {}", &n[..9], &n[9..]))),
        ),
        ("accepts it", changed("e", json!("=A!Q A\u{e9}B"))),
        ("ignores it", without("alg")),
        ("ignores it", changed("kid", json!(null))),
        ("ignores it", changed("kid", json!([]))),
        ("ignores it", changed("e", json!("AQABA"))),
        ("ignores it", json!({ "keys": [1, null, "x", []] })),
        ("ignores it", json!([sound])),
        ("ignores it", sound.clone()),
        ("ignores it", changed("alg", json!("RS512"))),
        ("ignores it", changed("e", json!("AQ"))),
        ("ignores it", json!({ "keys": [] })),
        ("ignores it", json!({ "keys": [unnamed] })),
        ("ignores it", changed("n", json!("AQAB"))),
        ("dies of it", without("kid")),
        ("dies of it", without("n")),
        ("dies of it", without("e")),
        ("dies of it", changed("n", json!(""))),
        ("dies of it", changed("n", json!("!"))),
        ("dies of it", changed("n", json!(1))),
        ("dies of it", changed("e", json!("A"))),
        ("dies of it", changed("e", json!(null))),
        ("dies of it", json!(null)),
        ("dies of it", json!(1)),
    ];
    for (expected, set) in cases {
        publish(&set, "lint.json");
        assert_eq!(said(&jwks), expected, "lint: {set}");
        assert_eq!(seen(&bed, &token), expected, "slurmctld: {set}");
    }
}
