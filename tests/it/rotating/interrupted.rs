//! Each verb is killed at each of its system calls that change something, or
//! finds the disk full, and is then run again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use super::{Named, Node, told};
use crate::kill::{Change, FULL_DISK, WITHOUT_PROC};
use crate::node::{Daemon, stdout};

/// A copy of all that a node has, to begin from again and again.
struct Copy {
    places: [(String, String); 3],
}

impl Copy {
    fn of(node: &Node) -> Self {
        let configuration = Daemon::configuration_of(&node.name);
        let places = [
            node.directory.to_str().unwrap().to_owned(),
            format!("/var/lib/slurm-tokend-{}", node.name),
            configuration.to_str().unwrap().to_owned(),
        ]
        .map(|place| (format!("/tmp/copy{}", place.replace('/', "-")), place));
        for (copy, place) in &places {
            copy_all(place, copy);
        }
        Self { places }
    }

    fn put_back(&self) {
        for (copy, place) in &self.places {
            copy_all(copy, place);
        }
    }
}

fn copy_all(from: &str, to: &str) {
    if Path::new(to).is_dir() {
        fs::remove_dir_all(to).unwrap();
    }
    stdout(Command::new("cp").args(["-a", from, to]).output().unwrap());
}

/// The verb and its words, now.
fn words(node: &Node, verb: &str) -> Vec<String> {
    let confirm = || node.kids().1.map(|kid| format!("--confirm={kid}"));
    let words = match verb {
        // A secret keeps its kid.
        "activate" => vec![
            "activate".to_owned(),
            confirm().unwrap_or_else(|| format!("--confirm={}", node.kids().0)),
        ],
        "retire" => vec!["retire".into(), "--tokens-may-die".into()],
        "now" => vec!["now".into(), "--compromised".into()],
        verb => vec![verb.to_owned()],
    };
    words.into_iter().collect()
}

fn ctl(words: &[&str]) -> Output {
    let mut ctl = Command::new("slurm-tokenctl");
    ctl.args(words).output().unwrap()
}

impl Node {
    /// What the files say, by other ways than `rotate`'s own: the daemon starts
    /// with the configuration, all releases of Slurm accept what is published,
    /// and `rotate status` says what is so.
    fn is_told_truly(&self, named: Named) {
        let configuration = Daemon::configuration_of(&self.name);
        let mut check = Command::new("slurm-tokend");
        check.arg("--config").arg(&configuration).arg("--check");
        stdout(check.output().unwrap());
        let status = self.status();
        let key = |which: &str, part: &str| status["keys"][which][part].clone();
        assert!(!status["todo"].as_array().unwrap().is_empty(), "{status}");
        let next = key("next", "file");
        let next_is_there = next.as_str().is_none_or(|next| Path::new(next).exists());
        assert!(next_is_there, "{status}");
        if matches!(named, Named::Secret) {
            return;
        }
        for name in self.files("jwks.d") {
            let file = self.path("jwks.d").join(name);
            stdout(ctl(&["jwks", "lint", file.to_str().unwrap()]));
        }
        let jwks = self.path("jwks.d");
        let set = stdout(ctl(&["jwks", "merge", jwks.to_str().unwrap()]));
        let set: Value = serde_json::from_str(&set).unwrap();
        let signs = ["jwks", "build", "--config", configuration.to_str().unwrap()];
        let signs: Value = serde_json::from_str(&stdout(ctl(&signs))).unwrap();
        let signs = &signs["keys"][0];
        assert_eq!(signs["kid"], key("current", "kid"), "{status}");
        assert!(set["keys"].as_array().unwrap().contains(signs), "{status}");
    }

    /// What a crash has left, in any directory of the node's.
    fn unfinished(&self) -> Vec<PathBuf> {
        let configuration = Daemon::configuration_of(&self.name);
        let state = PathBuf::from(format!("/var/lib/slurm-tokend-{}", self.name));
        let directories = [self.path("keys"), self.path("jwks.d"), state];
        let all = directories
            .iter()
            .flat_map(|dir| fs::read_dir(dir).into_iter().flatten());
        let beside = fs::read_dir(configuration.parent().unwrap()).unwrap();
        let ours = |path: &PathBuf| path.to_str().unwrap().contains(&self.name);
        all.chain(beside)
            .map(|entry| entry.unwrap().path())
            .filter(|path| ours(path) && path.to_str().unwrap().contains("/."))
            .collect()
    }
}

fn is_killed_everywhere(node: &Node, named: Named, through: &[&str]) {
    node.done(&["prepare"]);
    let (first, _) = node.kids();
    node.signed(&first, 1000);
    node.activate();
    node.done(&["retire"]);
    for verb in ["prepare", "activate", "retire", "now"] {
        let words = words(node, verb);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (present, _) = node.kids();
        node.signed(&present, 1000);
        let before = Copy::of(node);
        let run = |strace: &[&str]| {
            let through = [through, strace].concat();
            node.command(&through, &words).output().unwrap()
        };
        // Nothing of a secret is published, so nothing of it can be retired.
        if verb == "retire" && matches!(named, Named::Secret) {
            continue;
        }
        for change in Change::all(run) {
            before.put_back();
            let killed = change.prevent(run);
            let after = format!("{words:?}, killed at {}", change.told);
            assert_eq!(killed.status.code(), None, "{after}");
            node.is_sound(named);
            node.is_told_truly(named);
            node.done(&words);
            node.is_sound(named);
            assert_eq!(node.unfinished(), [""; 0].map(PathBuf::from), "{after}");
        }
        before.put_back();
        node.done(&words);
    }
}

#[test]
fn a_rotation_with_one_file_may_be_killed_anywhere() {
    let node = Node::new("rotating-kill-file", Named::SameFile);
    is_killed_everywhere(&node, Named::SameFile, &[]);
}

#[test]
fn a_rotation_with_kids_may_be_killed_anywhere() {
    let node = Node::new("rotating-kill-name", Named::OwnName);
    is_killed_everywhere(&node, Named::OwnName, &[]);
}

#[test]
fn a_hard_cut_may_be_killed_anywhere() {
    let node = Node::new("rotating-kill-secret", Named::Secret);
    is_killed_everywhere(&node, Named::Secret, &[]);
}

#[test]
fn a_rotation_without_nameless_files_may_be_killed_anywhere() {
    let node = Node::new("rotating-kill-proc", Named::SameFile);
    is_killed_everywhere(&node, Named::SameFile, &WITHOUT_PROC);
}

#[test]
fn a_rotation_beside_another_key_may_be_killed_anywhere() {
    let node = Node::with_other("rotating-kill-other", Named::OwnName, "workflow");
    is_killed_everywhere(&node, Named::OwnName, &[]);
    assert!(node.files("keys").contains(&"workflow.pem".to_owned()));
    assert!(node.files("jwks.d").contains(&"workflow.json".to_owned()));
}

/// Runs a verb with one of the node's directories on a disk that is full, and
/// then with room: what it said, and whether the full disk kept it from its work.
fn on_a_full_disk(node: &Node, words: &[&str], full: &str) -> (String, bool) {
    let Copy { places } = Copy::of(node);
    let [(_, directory), (_, state), (_, configuration)] = &places;
    let (copy, _) = places.iter().find(|(_, place)| place == full).unwrap();
    let script = format!(
        "{FULL_DISK} disk {full}; cp -a {copy}/. {full}; fill {full}; \
         has() {{ all {directory} {state} {configuration}; }}; has >/dev/shm/$$; \
         if \"$@\"; then echo done; else lost=$(has | comm -23 /dev/shm/$$ -); \
         [ -z \"$lost\" ] || {{ echo \"changed: $lost\" >&2; exit 1; }}; rm {full}/fill; \"$@\"; fi; \
         rm /dev/shm/$$"
    );
    let through = ["unshare", "--mount", "sh", "-ec", &script, "sh"];
    let output = node.command(&through, words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", told(&output));
    let done = String::from_utf8_lossy(&output.stdout).ends_with("done\n");
    (told(&output), !done)
}

#[test]
fn a_full_disk_leaves_what_a_node_has_and_room_lets_the_verb_go_on() {
    let node = Node::new("rotating-full-disk", Named::SameFile);
    let state = "/var/lib/slurm-tokend-rotating-full-disk";
    let directory = node.directory.to_str().unwrap().to_owned();
    for verb in ["prepare", "activate", "retire", "now"] {
        let words = words(&node, verb);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        node.signed(&node.kids().0, 1000);
        let mut refused = 0;
        for full in [directory.as_str(), state] {
            let copy = Copy::of(&node);
            let (told, was_refused) = on_a_full_disk(&node, &words, full);
            copy.put_back();
            if was_refused {
                assert!(
                    told.contains("check space and quota: df "),
                    "{verb}: {told}"
                );
                refused += 1;
            }
        }
        // To give a key another name, or to drop one, takes no room.
        assert_eq!(refused > 0, ["prepare", "now"].contains(&verb), "{verb}");
        node.done(&words);
    }
}

#[test]
fn no_sequence_of_verbs_killed_anywhere_leaves_a_node_without_a_published_key() {
    let mut runner = TestRunner::new(Config {
        cases: 5,
        failure_persistence: None,
        ..Config::default()
    });
    for (name, named) in [
        ("rotating-any-file", Named::SameFile),
        ("rotating-any-name", Named::OwnName),
    ] {
        let node = Node::new(name, named);
        node.done(&["prepare"]);
        let fresh = Copy::of(&node);
        // All that a verb may do here, and more.
        let now = |strace: &[&str]| node.command(strace, &["now", "--compromised"]).output();
        let changes = Change::all(|strace| now(strace).unwrap());
        // No key is made by activate and retire, which cost little.
        let verb = prop::sample::select(vec![
            "prepare", "activate", "activate", "retire", "retire", "now",
        ]);
        let strokes = prop::collection::vec((verb, prop::sample::select(changes)), 1..6_usize);
        let result = runner.run(&strokes, |strokes| {
            fresh.put_back();
            for (verb, change) in strokes {
                let (present, next) = node.kids();
                node.signed(&present, 1000);
                if verb == "activate" && next.is_none() {
                    continue;
                }
                let words = words(&node, verb);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                // `now` may have been killed before it published the next key.
                if verb == "activate" && node.status()["keys"]["next"]["published"] == false {
                    assert!(node.refused(&words).contains("is not published"));
                } else {
                    let run = |strace: &[&str]| node.command(strace, &words).output().unwrap();
                    let output = change.prevent(run);
                    let status = output.status;
                    let done = status.code().is_none() || status.success();
                    assert!(done, "{words:?}: {}", told(&output));
                }
                node.is_sound(named);
            }
            node.done(&["prepare"]);
            node.activate();
            node.is_sound(named);
            Ok(())
        });
        result.unwrap_or_else(|failed| panic!("{failed}"));
    }
}
