//! Each verb is killed at each of its system calls that change something, and
//! then run again.

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Named, Node, told};
use crate::node::{Daemon, stdout};

/// What changes which files there are, by which names: between two of these
/// calls nobody sees a difference.
const CALLS: [&str; 4] = ["linkat", "unlinkat", "renameat", "mkdirat"];

/// Runs a verb and kills it at the n-th call of a kind, before the call is
/// made. False says that it made fewer and was done.
fn killed_at(node: &Node, words: &[&str], call: &str, number: usize) -> bool {
    let inject = format!("inject={call}:error=EINTR:signal=KILL:when={number}");
    let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &inject];
    let output = node.command(&strace, words).output().unwrap();
    let killed = output.status.code().is_none();
    assert!(
        killed || output.status.success(),
        "{words:?}: {}",
        told(&output)
    );
    killed
}

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
        "activate" => vec!["activate".to_owned(), confirm().unwrap_or_default()],
        "retire" => vec!["retire".into(), "--tokens-may-die".into()],
        "now" => vec!["now".into(), "--compromised".into()],
        verb => vec![verb.to_owned()],
    };
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

fn is_killed_everywhere(name: &str, named: Named) {
    let node = Node::new(name, named);
    node.done(&["prepare"]);
    let (first, _) = node.kids();
    node.signed(&first, 1000);
    node.activate();
    node.done(&["retire"]);
    let mut kills = 0;
    for verb in ["prepare", "activate", "retire", "now"] {
        let words = words(&node, verb);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (present, _) = node.kids();
        node.signed(&present, 1000);
        let before = Copy::of(&node);
        for call in CALLS {
            for number in 1.. {
                before.put_back();
                if !killed_at(&node, &words, call, number) {
                    break;
                }
                kills += 1;
                node.is_sound();
                node.done(&words);
                node.is_sound();
            }
        }
        before.put_back();
        node.done(&words);
    }
    assert!(kills >= 15, "only {kills} kills");
}

#[test]
fn a_rotation_with_one_file_may_be_killed_anywhere() {
    is_killed_everywhere("rotating-kill-file", Named::SameFile);
}

#[test]
fn a_rotation_with_kids_may_be_killed_anywhere() {
    is_killed_everywhere("rotating-kill-name", Named::OwnName);
}

/// A verb, and where it's killed, if it comes that far.
fn strokes() -> impl Strategy<Value = Vec<(&'static str, usize, usize)>> {
    // No key is made by activate and retire, which cost little.
    let verb = prop::sample::select(vec![
        "prepare", "activate", "activate", "retire", "retire", "now",
    ]);
    prop::collection::vec((verb, 0..CALLS.len(), 1..6_usize), 1..6)
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
        let result = runner.run(&strokes(), |strokes| {
            fresh.put_back();
            for (verb, call, number) in strokes {
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
                    killed_at(&node, &words, CALLS[call], number);
                }
                node.is_sound();
            }
            node.done(&["prepare"]);
            node.activate();
            node.is_sound();
            Ok(())
        });
        result.unwrap_or_else(|failed| panic!("{failed}"));
    }
}
