//! The running daemon comes to sign with the new key, or it's said what is left
//! to do.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use super::{Named, Node, told};
use crate::node::{ALICE, Daemon};

#[test]
fn the_running_daemon_takes_the_new_key_without_losing_its_old_configuration() {
    let node = Node::new("rotating-daemon", Named::SameFile);
    node.done(&["prepare"]);
    let daemon = Daemon::run("rotating-daemon");
    let (_, next) = node.kids();
    let told = node.activate();
    assert!(told.contains("The daemon signs with"), "{told}");
    let issued = daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"issue"}"#);
    assert_eq!(issued["ok"]["kid"], *next.unwrap());
}

#[test]
fn a_daemon_that_cannot_read_the_new_key_is_said_to_need_a_restart() {
    let node = Node::new("rotating-root", Named::SameFile);
    chown(node.path("keys/login1.pem"), Some(0), Some(0)).unwrap();
    node.done(&["prepare"]);
    let daemon = Daemon::run("rotating-root");
    let next = node.kids().1.unwrap();
    let told = node.refused(&["activate", &format!("--confirm={next}")]);
    assert!(
        told.contains("stop the daemon and start it again"),
        "{told}"
    );
    let step = node.status()["todo"][0].take();
    assert!(
        step["what"].as_str().unwrap().contains("still signs with"),
        "{step}"
    );
    drop(daemon);
    let daemon = Daemon::run("rotating-root");
    assert!(daemon.journal().contains(&next));
}

#[test]
fn a_daemon_that_somebody_else_restarts_is_left_alone() {
    let node = Node::new("rotating-alone", Named::SameFile);
    node.done(&["prepare"]);
    let daemon = Daemon::run("rotating-alone");
    let (old, next) = node.kids();
    let next = next.unwrap();
    let told = node.done(&["activate", &format!("--confirm={next}"), "--no-restart"]);
    assert!(told.contains("was left alone"), "{told}");
    let issued = |daemon: &Daemon| {
        let answer = daemon.ask_as(ALICE.uid, r#"{"v":1,"op":"issue"}"#);
        answer["ok"]["kid"].as_str().unwrap().to_owned()
    };
    assert_eq!(issued(&daemon), old);
    let step = node.status()["todo"][0].take();
    assert!(step["what"].as_str().unwrap().contains("still signs with"));
    node.done(&["now", "--compromised", "--no-restart"]);
    assert_eq!(issued(&daemon), old);
    drop(daemon);
    assert_eq!(issued(&Daemon::run("rotating-alone")), node.kids().0);
}

#[test]
fn where_systemd_runs_the_machine_and_cannot_be_asked_it_is_said_what_is_left_to_do() {
    let node = Node::new("rotating-unasked", Named::SameFile);
    node.done(&["prepare"]);
    let _daemon = Daemon::run("rotating-unasked");
    let next = node.kids().1.unwrap();
    let confirm = format!("--confirm={next}");
    let _ = fs::create_dir("/run/systemd");
    // systemctl finds nobody to ask on this host.
    let booted = "mount -t tmpfs none /run/systemd; mkdir /run/systemd/system; exec \"$@\"";
    let through = ["unshare", "--mount", "sh", "-ec", booted, "sh"];
    let mut activate: Command = node.command(&through, &["activate", &confirm]);
    let output = activate.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = told(&output);
    let wanted = "systemctl restart slurm-tokend@rotating-unasked.service";
    assert!(told.contains(wanted), "{told}");
    assert_eq!(node.kids(), (next, None));
}
