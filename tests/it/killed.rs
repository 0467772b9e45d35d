//! A command that makes or replaces a file may be killed at each of its system
//! calls, or find the disk full: keys stay their owner's alone, files whole, and
//! sets keep their keys. Who runs it again finds nothing left of the first time.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use slurm_tokend::keys::Kid;
use slurm_tokend::state::{LatestExp, StateDir};

use crate::jwt::Jwt;
use crate::kill::{Change, FULL_DISK, WITHOUT_PROC};
use crate::node::{Daemon, generate_key, stdout};

/// Commands that make or replace a file; the last of each is made.
const COMMANDS: [&str; 6] = [
    "key generate --out keys/new.pem",
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

    /// What was left under an unfinished name.
    fn unfinished(&self) -> Vec<String> {
        let mut left = Vec::new();
        for directory in ["keys", "jwks.d", "."] {
            for entry in fs::read_dir(self.0.path().join(directory)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                left.extend(name.starts_with('.').then_some(name));
            }
        }
        left
    }

    /// Whatever happened: nobody else reads a key, each file under its own name
    /// is whole, and the set has the key in use.
    fn is_sound(&self, after: &str) {
        for entry in fs::read_dir(self.0.path().join("keys")).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{after}: {}", path.display());
            match path.file_name().unwrap().to_str().unwrap() {
                "new.pem" => {
                    let pem = fs::read_to_string(&path).unwrap();
                    assert!(pem.ends_with("-----END PRIVATE KEY-----\n"), "{after}");
                }
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
    for args in COMMANDS {
        for through in [&[], &WITHOUT_PROC[..]] {
            let run = |strace: &[&str]| site.run(&[through, strace].concat(), args);
            site.begin_again();
            let changes = Change::all(run);
            assert!(changes.len() >= 4, "{changes:?}");
            for change in changes {
                site.begin_again();
                let killed = change.prevent(run);
                let after = format!("{args}, killed at {}", change.told);
                assert_eq!(killed.status.code(), None, "{after}");
                site.is_sound(&after);
                // A key that got its name just before stays as it is.
                let again = site.run(&[], args);
                let words = String::from_utf8_lossy(&again.stderr);
                assert!(
                    again.status.success() || words.contains("never overwritten"),
                    "{after}: {words}"
                );
                site.is_sound(&after);
                assert_eq!(site.unfinished(), [""; 0], "{after}");
                let lint = site.run(&[], "jwks lint set.json");
                assert_eq!(lint.status.code(), Some(0), "{after}");
            }
        }
    }
}

#[test]
fn no_sequence_of_commands_killed_anywhere_leaves_a_key_to_others_or_half_a_file() {
    let site = Site::new();
    let changes = COMMANDS.map(|args| {
        site.begin_again();
        Change::all(|strace| site.run(strace, args))
    });
    let stroke = (
        prop::sample::select(&COMMANDS[..]),
        prop::sample::select(changes.concat()),
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
            for (args, change) in strokes {
                change.prevent(|strace| site.run(strace, args));
                site.is_sound(&format!("{args}, killed at {}", change.told));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_full_disk_leaves_everything_as_it_was_and_room_lets_the_command_go_on() {
    for args in COMMANDS {
        let site = Site::new();
        site.begin_again();
        let disk = site.0.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let on_disk = |script: &str| {
            let ctl = env!("CARGO_BIN_EXE_slurm-tokenctl");
            let place = disk.to_str().unwrap();
            let full = "disk \"$1\"; cp -a keys jwks.d *.json \"$1\"; cd \"$1\"; fill .; ";
            let mut sh = Command::new("unshare");
            sh.args([
                "--mount",
                "sh",
                "-ec",
                &format!("{FULL_DISK}{full}{script}"),
                "sh",
                place,
            ])
            .arg(format!("{ctl} {args}"))
            .current_dir(site.0.path());
            sh.output().unwrap()
        };
        let output = on_disk(
            "all . >/dev/shm/before.$$; $2 && exit 9; all . | cmp - /dev/shm/before.$$; \
             rm fill /dev/shm/before.$$; $2",
        );
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args}: {words}");
        assert!(
            words.contains("check space and quota: df "),
            "{args}: {words}"
        );
    }
}

#[test]
fn no_token_leaves_before_its_records_wherever_its_signing_is_killed() {
    let key = generate_key("RS256", "killed-sign.pem");
    Daemon::configure("killed-sign", "RS256", &key, "", "");
    let configuration = Daemon::configuration_of("killed-sign");
    let sign = |strace: &[&str]| {
        let words = [strace, &["slurm-tokenctl", "token", "sign", "--sun=alice"]].concat();
        let mut sign = Command::new(words[0]);
        sign.args(&words[1..]).arg("--config").arg(&configuration);
        sign.output().unwrap()
    };
    let state = Path::new("/var/lib/slurm-tokend-killed-sign");
    // The first token of a node, and a later one, when less was on record.
    for lesser in [None, Some(1000)] {
        let begin = || {
            let _ = fs::remove_dir_all(state);
            if let Some(exp) = lesser {
                fs::create_dir(state).unwrap();
                chown(state, Some(501), Some(501)).unwrap();
                fs::set_permissions(state, Permissions::from_mode(0o700)).unwrap();
                let state = StateDir::open(state).unwrap();
                state.raise_latest_exp(&kid(&key), exp, 0).unwrap();
            }
        };
        begin();
        for change in Change::all(sign) {
            begin();
            let killed = change.prevent(sign);
            assert_eq!(killed.status.code(), None, "{}", change.told);
            assert!(killed.stdout.is_empty(), "{}", change.told);
            let token = sign(&[]);
            let words = String::from_utf8_lossy(&token.stderr);
            assert!(token.status.success(), "{}: {words}", change.told);
            let token = Jwt::read(String::from_utf8(token.stdout).unwrap().trim_end());
            let LatestExp::Until(until) = StateDir::open(state).unwrap().latest_exp(&kid(&key))
            else {
                panic!("{}: nobody knows", change.told);
            };
            assert!(token.claims["exp"].as_u64().unwrap() <= until);
            let mut left: Vec<_> = fs::read_dir(state).unwrap().collect();
            left.extend(fs::read_dir("/var/lib").unwrap());
            let names = left.into_iter().map(|entry| entry.unwrap().file_name());
            let names: Vec<_> = names.filter(|name| is_unfinished(name)).collect();
            assert_eq!(names, [""; 0], "{}", change.told);
        }
    }
}

fn is_unfinished(name: &OsStr) -> bool {
    let name = name.to_str().unwrap();
    name.starts_with('.') && (name.contains("expiry") || name.contains("killed-sign"))
}

fn kid(key: &Path) -> Kid {
    let mut ctl = Command::new("slurm-tokenctl");
    let kid = stdout(ctl.args(["key", "kid"]).arg(key).output().unwrap());
    Kid::new(kid.trim_end()).unwrap()
}
