//! Keys that sign where a rule names them (`[[signing.other]]`) are published
//! too, and no verb drops one or takes it for the next one.

use std::os::unix::fs::chown;
use std::process::Command;

use serde_json::{Value, json};

use super::{Named, Node};
use crate::node::{Daemon, stdout};

impl Node {
    /// Makes a key of this kid beside the one that signs, and configures both.
    pub fn with_other(name: &str, named: Named, kid: &str) -> Self {
        let node = Self::new(name, named);
        let other = node.path(&format!("keys/{kid}.pem"));
        let mut generate = Command::new("slurm-tokenctl");
        generate.args(["key", "generate", "--out"]).arg(&other);
        stdout(generate.output().unwrap());
        chown(&other, Some(501), Some(501)).unwrap();
        let configuration = Daemon::configuration_of(name);
        let text = std::fs::read_to_string(&configuration).unwrap();
        let table = format!(
            "[[signing.other]]\nkey = \"{}\"\nalgorithm = \"RS256\"\nkid = \"{kid}\"\n",
            other.display()
        );
        std::fs::write(&configuration, text + &table).unwrap();
        node
    }
}

fn set(node: &Node) -> Value {
    let mut build = Command::new("slurm-tokenctl");
    let configuration = Daemon::configuration_of(&node.name);
    build.args(["jwks", "build", "--config"]).arg(configuration);
    serde_json::from_str(&stdout(build.output().unwrap())).unwrap()
}

#[test]
fn a_key_that_a_rule_names_is_published_and_never_retired_while_it_signs() {
    let node = Node::with_other("rotating-other", Named::SameFile, "workflow");
    node.done(&["prepare"]);
    let (current, _) = node.kids();
    assert!(node.files("jwks.d").contains(&"workflow.json".to_owned()));
    let built = set(&node);
    let kids: Vec<_> = built["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| &k["kid"])
        .collect();
    assert_eq!(kids, [&json!(current), &json!("workflow")]);
    node.signed("workflow", 1000);
    node.signed(&current, 1000);
    node.activate();
    node.done(&["retire", "--tokens-may-die"]);
    let told = node.refused(&["retire", "--tokens-may-die", "--", "workflow"]);
    assert!(told.contains("signs where a rule names it"), "{told}");
    let told = node.done(&["now", "--compromised"]);
    assert!(told.contains("sign on: workflow"), "{told}");
    let mut wanted = [format!("{}.json", node.kids().0), "workflow.json".into()];
    wanted.sort();
    assert_eq!(node.files("jwks.d"), wanted);
    assert_eq!(node.files("keys"), ["login1.pem", "workflow.pem"]);
}

#[test]
fn one_that_is_not_published_is_said_to_be_missing() {
    let node = Node::with_other("rotating-other-status", Named::SameFile, "workflow");
    let status = node.status();
    assert_eq!(status["keys"]["others"][0]["published"], false, "{status}");
    let what = status["todo"][0]["what"].as_str().unwrap();
    assert!(what.contains("workflow"), "{what}");
    node.done(&["prepare"]);
    assert_eq!(node.status()["keys"]["others"][0]["published"], true);
}

#[test]
fn one_of_a_later_date_is_not_taken_for_the_next_key() {
    let node = Node::with_other("rotating-other-date", Named::OwnName, "login1-2021-01");
    assert_eq!(node.kids().1, None);
    node.done(&["prepare"]);
    let next = node.kids().1.unwrap();
    assert_ne!(next, "login1-2021-01");
    node.activate();
    assert_eq!(node.kids().0, next);
}
