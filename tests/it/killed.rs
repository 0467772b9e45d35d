//! A command that makes or replaces a file may be killed at each of its system
//! calls: keys stay their owner's alone, files whole, and sets keep their keys.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

/// What changes files, their modes and their names: between two of these calls
/// nobody sees a difference.
const CALLS: [&str; 6] = ["write", "fchmod", "fsync", "linkat", "renameat", "unlinkat"];

/// Commands that make or replace a file; the last of each is made.
const COMMANDS: [&str; 5] = [
    "key generate --alg HS256 --out keys/new.key",
    "key jwk keys/a.pem --private --out keys/new.jwk",
    "jwks build --kid-from-name keys/a.pem keys/b.pem --out set.json",
    "jwks build --kid-from-name keys/b.pem --out jwks.d/b.json",
    "jwks merge jwks.d --out set.json",
];

/// A directory with two keys, of which `a` is in use: the set has it.
struct Site(tempfile::TempDir);

/// The set as it is at first.
const FIRST: &str = "first.json";

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        for name in ["keys", "jwks.d"] {
            fs::create_dir(site.0.path().join(name)).unwrap();
        }
        for name in ["a", "b"] {
            let mut openssl = Command::new("openssl");
            let file = format!("keys/{name}.pem");
            openssl
                .args(["genrsa", "-out", &file])
                .current_dir(site.0.path());
            assert!(openssl.output().unwrap().status.success());
            fs::set_permissions(site.0.path().join(file), Permissions::from_mode(0o400)).unwrap();
        }
        for args in [
            "jwks build --kid-from-name keys/a.pem --out jwks.d/a.json",
            "jwks merge jwks.d --out first.json",
        ] {
            assert!(site.run(&[], args).status.success());
        }
        site
    }

    fn run(&self, by: &[&str], args: &str) -> Output {
        let ctl = env!("CARGO_BIN_EXE_slurm-tokenctl");
        let words: Vec<_> = by
            .iter()
            .copied()
            .chain([ctl])
            .chain(args.split(' '))
            .collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.0.path());
        command.output().unwrap()
    }

    /// Runs a command and kills it at the n-th call of a kind, before the call
    /// is made. False says that it made fewer.
    fn killed_at(&self, args: &str, call: &str, number: usize) -> bool {
        let inject = format!("inject={call}:error=EINTR:signal=KILL:when={number}");
        let output = self.run(&["strace", "-qq", "-o", "/dev/null", "-e", &inject], args);
        output.status.code().is_none()
    }

    /// Takes away what the commands make, and what kills have left.
    fn begin_again(&self) {
        let [first, set] = [FIRST, "set.json"].map(|name| self.0.path().join(name));
        fs::copy(first, set).unwrap();
        for directory in ["keys", "jwks.d", "."] {
            for entry in fs::read_dir(self.0.path().join(directory)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                if name.starts_with("new.") || name.starts_with('.') || name == "b.json" {
                    fs::remove_file(path).unwrap();
                }
            }
        }
    }

    /// Whatever happened: nobody else reads a key, each file under its own name
    /// is whole, and the set has the key in use.
    fn is_sound(&self, after: &str) {
        for entry in fs::read_dir(self.0.path().join("keys")).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{after}: {}", path.display());
            match path.file_name().unwrap().to_str().unwrap() {
                "new.key" => assert_eq!(fs::read(&path).unwrap().len(), 32, "{after}"),
                "new.jwk" => assert!(json(&path)["qi"].is_string(), "{after}"),
                _ => {}
            }
        }
        let set = json(&self.0.path().join("set.json"));
        let kids: Vec<_> = set["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| &key["kid"])
            .collect();
        assert!(kids.contains(&&Value::from("a")), "{after}: {kids:?}");
        let added = self.0.path().join("jwks.d/b.json");
        assert!(
            !added.exists() || json(&added)["keys"][0]["kid"] == "b",
            "{after}"
        );
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_command_may_be_killed_anywhere_and_be_run_again() {
    let site = Site::new();
    let mut kills = 0;
    for args in COMMANDS {
        for call in CALLS {
            for number in 1.. {
                site.begin_again();
                if !site.killed_at(args, call, number) {
                    break;
                }
                kills += 1;
                let after = format!("{args}, killed at {call} {number}");
                site.is_sound(&after);
                // A key that got its name just before stays as it is.
                let again = site.run(&[], args);
                let words = String::from_utf8_lossy(&again.stderr);
                assert!(
                    again.status.success() || words.contains("never overwritten"),
                    "{after}: {words}"
                );
                site.is_sound(&after);
            }
        }
    }
    assert!(kills >= 25, "only {kills} kills");
}

#[test]
fn no_sequence_of_commands_killed_anywhere_leaves_a_key_to_others_or_half_a_file() {
    let site = Site::new();
    let stroke = (
        prop::sample::select(&COMMANDS[..]),
        prop::sample::select(&CALLS[..]),
        1..4_usize,
    );
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let strokes = prop::collection::vec(stroke, 1..8);
    runner
        .run(&strokes, |strokes| {
            site.begin_again();
            for (args, call, number) in strokes {
                site.killed_at(args, call, number);
                site.is_sound(&format!("{args}, killed at {call} {number}"));
            }
            Ok(())
        })
        .unwrap();
}
