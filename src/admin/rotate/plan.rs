//! Where a rotation stands, and what to do next and where. Pure.

use serde::Serialize;

use crate::keys::Algorithm;
use crate::state::LatestExp;
use crate::token::moment::Utc;

/// Clocks of nodes and of slurmctld may differ by so many seconds: so much
/// longer a key is kept.
pub(super) const CLOCKS_DIFFER: u64 = 300;

/// What is known of a node's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Standing {
    pub(super) algorithm: &'static str,
    /// The key that signs, by the configuration...
    pub(super) current: Key,
    /// ...and by the daemon that runs, if one does.
    pub(super) daemon_kid: Option<String>,
    pub(super) next: Option<Key>,
    /// RS256 keys that sign where a rule names them.
    pub(super) others: Vec<Key>,
    pub(super) old: Vec<OldKey>,
}

/// A key that signs or will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Key {
    pub(super) kid: String,
    pub(super) file: String,
    /// Its public half is in the directory of public keys.
    pub(super) published: bool,
}

/// A key that has signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct OldKey {
    pub(super) kid: String,
    /// When it may go, in seconds since 1970; none where nobody knows.
    pub(super) retire_from: Option<u64>,
    /// The same in words.
    pub(super) retire_from_words: Option<String>,
    /// Private halves of it that are still there.
    pub(super) private_files: Vec<String>,
}

/// When a key may go: when no token of it lives any more.
pub(super) fn retire_from(latest: &LatestExp) -> Option<u64> {
    match latest {
        // A token is accepted in the very second of its exp.
        LatestExp::Until(exp) => Some(exp.saturating_add(1 + CLOCKS_DIFFER)),
        LatestExp::NoRecord | LatestExp::Unknown(_) => None,
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// Where: `here`, or `controller` for the hosts of slurmctld and slurmdbd.
    pub(super) on: &'static str,
    /// What, and why.
    pub(super) what: String,
    /// The commands, in order.
    pub(super) run: Vec<String>,
}

/// The commands' own words.
pub(super) struct Commands<'a> {
    /// `slurm-tokenctl rotate`, with the options that these keys need.
    pub(super) rotate: &'a dyn Fn(&str) -> String,
    /// What restarts the daemon.
    pub(super) restart: String,
    /// The directory of public keys.
    pub(super) jwks_dir: String,
}

impl Standing {
    /// What comes next, at `now`.
    pub(super) fn steps(&self, now: u64, commands: &Commands<'_>) -> Vec<Step> {
        let here = |what: String, run: Vec<String>| Step {
            on: "here",
            what,
            run,
        };
        let rotate = commands.rotate;
        let mut steps = Vec::new();
        if let Some(daemon) = self
            .daemon_kid
            .as_ref()
            .filter(|kid| **kid != self.current.kid)
        {
            steps.push(here(
                format!(
                    "the daemon still signs with {daemon}: it takes the key when it's restarted"
                ),
                vec![commands.restart.clone()],
            ));
        }
        let hs256 = self.algorithm == Algorithm::Hs256.as_str();
        let unpublished = |key: &Key, what: &str| {
            let what = format!(
                "{what}, {}, is not in {}: prepare publishes it",
                key.kid, commands.jwks_dir
            );
            here(what, vec![rotate("prepare")])
        };
        for other in self.others.iter().filter(|other| !other.published) {
            steps.push(unpublished(other, "a key that signs where a rule names it"));
        }
        if !self.current.published && !hs256 {
            steps.push(unpublished(&self.current, "the key that signs"));
        } else if let Some(next) = &self.next {
            if hs256 {
                steps.push(hard_cut(&next.file));
                steps.push(here(
                    "then, in the same moment: every token of the old key dies".into(),
                    vec![rotate("activate")],
                ));
            } else if next.published {
                steps.push(bring_to_controllers(
                    format!("make slurmctld accept the next key, {}", next.kid),
                    &commands.jwks_dir,
                    &next.kid,
                ));
                steps.push(here(
                    "then switch to it, once Slurm has proved that it accepts it".into(),
                    vec![rotate("activate --check /etc/slurm/slurm.conf")],
                ));
            } else {
                steps.push(here(
                    format!("the next key, {}, is not published yet", next.kid),
                    vec![rotate("prepare")],
                ));
            }
        }
        for old in &self.old {
            steps.push(match old.retire_from {
                Some(from) if from <= now => here(
                    format!("no token of {} lives any more: it can go", old.kid),
                    vec![rotate("retire")],
                ),
                Some(from) => here(
                    format!("tokens of {} may live: wait until {}", old.kid, Utc(from)),
                    Vec::new(),
                ),
                None => here(
                    format!("nobody knows until when tokens of {} may live", old.kid),
                    vec![rotate("retire")],
                ),
            });
        }
        if steps.is_empty() {
            steps.push(here(
                "nothing is under way; a rotation begins with".into(),
                vec![rotate("prepare")],
            ));
        }
        steps
    }
}

/// What makes slurmctld and slurmdbd accept a key that was published here.
pub(super) fn bring_to_controllers(what: String, jwks_dir: &str, kid: &str) -> Step {
    let copy = format!("# unless {jwks_dir} is shared with this node, copy {kid}.json there first");
    merge(what, copy, jwks_dir, "")
}

/// What makes them forget keys that are gone from here.
pub(super) fn take_from_controllers(what: String, jwks_dir: &str, kids: &[String]) -> Step {
    let files: Vec<_> = kids
        .iter()
        .map(|kid| format!("{jwks_dir}/{kid}.json"))
        .collect();
    let remove = format!(
        "rm -f {}  # unless it is shared with this node",
        files.join(" ")
    );
    merge(what, remove, jwks_dir, " --drop-others")
}

fn merge(what: String, first: String, jwks_dir: &str, option: &str) -> Step {
    Step {
        on: "controller",
        what,
        run: vec![
            first,
            format!("slurm-tokenctl jwks merge {jwks_dir} --out /etc/slurm/jwks.json{option}"),
            "systemctl restart slurmctld  # from Slurm 26.05 on: scontrol reconfigure".into(),
            "systemctl restart slurmdbd   # where one runs: it reads its keys when it starts"
                .into(),
        ],
    }
}

/// What every host needs that holds the HS256 key; `file` has the new one here.
pub(super) fn hard_cut(file: &str) -> Step {
    Step {
        on: "controller",
        what: "Slurm takes one HS256 key at a time, so this is a hard cut: put the new key in the \
               place of jwt_key on every host of slurmctld and slurmdbd, by rename, and restart \
               them"
            .into(),
        run: vec![
            format!("# copy {file} of this node to JWT_KEY.new there: mode 0400, owner SlurmUser"),
            "mv JWT_KEY.new JWT_KEY       # JWT_KEY is jwt_key= in slurm.conf and slurmdbd.conf"
                .into(),
            "systemctl restart slurmctld".into(),
            "systemctl restart slurmdbd   # where one runs".into(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing {
            algorithm: "RS256",
            current: key("a"),
            daemon_kid: Some("a".into()),
            next: None,
            others: Vec::new(),
            old: Vec::new(),
        }
    }

    fn key(kid: &str) -> Key {
        Key {
            kid: kid.into(),
            file: format!("/k/{kid}.pem"),
            published: true,
        }
    }

    fn old(kid: &str, retire_from: Option<u64>) -> OldKey {
        OldKey {
            kid: kid.into(),
            retire_from,
            retire_from_words: None,
            private_files: Vec::new(),
        }
    }

    /// Where each step is, with the last word of its first command.
    fn steps(standing: &Standing) -> Vec<(&'static str, String)> {
        let commands = Commands {
            rotate: &|verb| format!("rotate {verb}"),
            restart: "restart".into(),
            jwks_dir: "/j".into(),
        };
        let steps = standing.steps(1000, &commands).into_iter();
        steps
            .map(|step| (step.on, step.run.first().cloned().unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_rotation_is_led_through_its_steps_in_order() {
        let mut at = standing();
        assert_eq!(steps(&at), [("here", "rotate prepare".into())]);
        at.next = Some(Key {
            published: false,
            ..key("b")
        });
        assert_eq!(steps(&at), [("here", "rotate prepare".into())]);
        at.next = Some(key("b"));
        let [(first, copy), (second, activate)] = steps(&at).try_into().unwrap();
        assert_eq!((first, second), ("controller", "here"));
        assert!(copy.contains("copy b.json"), "{copy}");
        assert!(activate.contains("activate"), "{activate}");
        at.next = None;
        at.old = vec![old("a", Some(1001))];
        assert_eq!(steps(&at), [("here", String::new())]);
        at.old = vec![old("a", Some(1000))];
        assert_eq!(steps(&at), [("here", "rotate retire".into())]);
    }

    #[test]
    fn a_daemon_that_signs_with_another_key_is_restarted_first() {
        let mut at = standing();
        at.daemon_kid = Some("before".into());
        assert_eq!(steps(&at), [("here", "restart".into())]);
        at.daemon_kid = None;
        assert_eq!(steps(&at), [("here", "rotate prepare".into())]);
    }

    #[test]
    fn a_key_that_a_rule_names_is_published_first_too() {
        for algorithm in ["RS256", "HS256"] {
            let mut at = standing();
            at.algorithm = algorithm;
            at.others = vec![key("b")];
            assert_eq!(steps(&at).len(), 1);
            at.others[0].published = false;
            assert_eq!(steps(&at), [("here", "rotate prepare".into())]);
        }
    }

    #[test]
    fn with_hs256_the_controllers_come_before_the_switch() {
        let at = Standing {
            algorithm: "HS256",
            next: Some(key("b")),
            ..standing()
        };
        let steps = steps(&at);
        assert_eq!(
            steps.iter().map(|(on, _)| *on).collect::<Vec<_>>(),
            ["controller", "here"]
        );
    }

    #[test]
    fn a_key_may_go_when_its_last_token_is_dead_by_every_clock() {
        assert_eq!(retire_from(&LatestExp::Until(100)), Some(401));
        assert_eq!(retire_from(&LatestExp::NoRecord), None);
        assert_eq!(retire_from(&LatestExp::Until(u64::MAX)), Some(u64::MAX));
    }
}
