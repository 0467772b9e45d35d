//! A whole rotation before real Slurm, with a client at work all the time.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::bed::Bed;
use crate::node::{ALICE, Daemon, build_jwks, generate_key, publish, stdout, until};
use crate::rotating::{Named, Node};

/// What slurmctld says of a token that it doesn't take.
const REFUSALS: [&str; 4] = [
    "token expired",
    "jwt_decode failure",
    "no kid in credential",
    "could not find matching kid",
];

/// A node and a Slurm that reads the keys that the node publishes.
struct Site {
    node: Node,
    daemon: Daemon,
    bed: Bed,
}

impl Site {
    /// As on the controller: the merged set, and a restart of slurmctld.
    fn tell_slurmctld(&self, more: &[&str]) {
        let mut merge = Command::new("slurm-tokenctl");
        merge
            .args(["jwks", "merge", "--out", "/etc/slurm/rotation.json"])
            .arg(self.node.path("jwks.d"))
            .args(more);
        stdout(merge.output().unwrap());
        self.bed.restart();
    }

    fn refusals(&self) -> Vec<String> {
        // It goes on in the same file after a restart.
        let log = self.bed.log();
        log.lines()
            .filter(|line| REFUSALS.iter().any(|why| line.contains(why)))
            .map(ToOwned::to_owned)
            .collect()
    }

    fn token(&self) -> String {
        self.daemon.client(&ALICE, &["--format", "raw"])
    }
}

#[test]
fn no_call_is_refused_because_of_its_token_through_a_whole_rotation() {
    let node = Node::new("rotation", Named::SameFile);
    let daemon = Daemon::run("rotation");
    let first = publish(&daemon.jwks(), "rotation.json");
    let site = Site {
        bed: Bed::up(None, Some(&first)),
        node,
        daemon,
    };
    let before = site.token();
    // Odd while slurmctld restarts.
    let (restarts, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let calls = Mutex::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let begun = restarts.load(Ordering::SeqCst);
                let status = site.bed.jobs(&site.token(), ALICE.name);
                // A call that a restart may have met is judged by the log.
                if begun % 2 == 0 && begun == restarts.load(Ordering::SeqCst) {
                    assert_eq!(status, 200);
                    *calls.lock().unwrap() += 1;
                }
                // One user gets 600 tokens a minute.
                std::thread::sleep(std::time::Duration::from_millis(150));
            }
        });
        let calm_calls = |more: u32| {
            let from = *calls.lock().unwrap();
            until("calls", || *calls.lock().unwrap() >= from + more);
        };
        let tell_slurmctld = |more: &[&str]| {
            restarts.fetch_add(1, Ordering::SeqCst);
            site.tell_slurmctld(more);
            restarts.fetch_add(1, Ordering::SeqCst);
        };
        calm_calls(3);
        site.node.done(&["prepare"]);
        let (_, next) = site.node.kids();
        calm_calls(3);
        tell_slurmctld(&[]);
        calm_calls(3);
        assert_eq!(site.refusals(), [""; 0]);
        let rest = format!("unix:{}", site.bed.slurmrestd());
        site.node
            .done(&["activate", "--check", &rest, "--as", "alice"]);
        assert_eq!(site.node.kids().0, next.unwrap());
        calm_calls(3);
        // One that was signed by the old key lives on.
        assert_eq!(site.bed.jobs(&before, ALICE.name), 200);
        // Of the token that was spoilt for the check.
        let spoilt = site.refusals();
        assert!(!spoilt.is_empty());
        // A day later no token of the old key lives.
        let mut retire = site.node.command(&["faketime", "-f", "+24h"], &["retire"]);
        stdout(retire.output().unwrap());
        calm_calls(3);
        tell_slurmctld(&["--drop-others"]);
        calm_calls(3);
        assert_eq!(site.refusals(), spoilt);
        done.store(true, Ordering::SeqCst);
    });
    // The old key is gone, and the log tells of refusals.
    let refusals = site.refusals().len();
    assert_ne!(site.bed.jobs(&before, ALICE.name), 200);
    assert!(site.refusals().len() > refusals);
}

#[test]
fn a_key_that_slurmctld_does_not_know_is_not_activated() {
    let node = Node::new("rotation-early", Named::SameFile);
    let key = generate_key("RS256", "rotation-other.pem");
    let published = publish(&build_jwks(&[&key]), "rotation-early.json");
    let bed = Bed::up(None, Some(&published));
    node.done(&["prepare"]);
    let before = node.kids();
    let targets = [
        format!("unix:{}", bed.slurmrestd()),
        bed.users_conf().to_str().unwrap().to_owned(),
    ];
    for target in targets {
        let told = node.refused(&["activate", "--check", &target, "--as", "alice"]);
        assert!(told.contains("did not accept a token of the key"), "{told}");
        assert_eq!(node.kids(), before);
    }
}
