//! `slurm-tokenctl rotate`: from one key to the next, so that no caller is
//! refused on the way.
//!
//! ```text
//! prepare ▶ (slurmctld takes the public half) ▶ activate ▶ (old tokens die) ▶ retire
//! ```
//!
//! Each step is one rename, link or removal at a time, in an order in which
//! every instant between two of them is a working set: the key in use is there,
//! and its public half is published. A verb that was interrupted is run again,
//! and goes on.
//!
//! How the switch itself is made follows from the configuration. Without
//! `signing.kid` the configuration names one file for ever, and the next key is
//! renamed over it: nothing is edited, and nodes that share the configuration
//! switch one by one. With `signing.kid` file and kid must change in one
//! instant, so both lines of the configuration are written anew, in a file that
//! is renamed over the old one. There are no symbolic links: systemd's copies
//! of credentials bear the names of files, and key files are opened without
//! following links that others could have made.

mod activate;
mod emergency;
mod names;
pub(super) mod node;
mod plan;
mod prepare;
pub(super) mod proof;
mod retire;
pub(super) mod service;
mod standing;
mod switch;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use self::activate::{Activate, Restart};
use self::emergency::replace_compromised;
use self::node::Node;
use self::plan::Step;
use self::prepare::prepare;
use self::retire::retire;
use self::standing::status;
use super::{Failure, say};
use crate::daemon::usual_configuration;
use crate::keys::Kid;
use crate::keys::file::quoted;

/// Where each node puts the public halves of its keys.
const JWKS_DIR: &str = "/etc/slurm/jwks.d";

#[derive(Args)]
pub(super) struct Rotate {
    /// The daemon's configuration [default: the one that the daemon reads]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the public halves of this node's keys are
    #[arg(long, global = true, value_name = "DIR", default_value = JWKS_DIR)]
    jwks_dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Say where things stand, what to do next, and on which host
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Make the next key, and publish its public half beside the present one
    Prepare,
    /// Sign with the next key, once Slurm accepts it
    Activate(Activate),
    /// Let the keys go of which no token lives any more
    Retire {
        /// This key only
        #[arg(value_parser = super::key::kid)]
        kid: Option<Kid>,
        /// Also where tokens may still live: they will be refused
        #[arg(long)]
        tokens_may_die: bool,
    },
    /// Replace a key that somebody else may have, in one step
    Now {
        /// Yes: every token of this node's present keys dies
        #[arg(long, required = true)]
        compromised: bool,
        #[command(flatten)]
        restart: Restart,
    },
}

pub(super) fn run(rotate: &Rotate) -> Result<(), Failure> {
    let configuration = rotate.config.clone().unwrap_or_else(usual_configuration);
    let mut node = Node::look(&configuration, &rotate.jwks_dir)?;
    let changes = !matches!(rotate.verb, Verb::Status { .. });
    // Where no daemon has ever run there is no state directory.
    let state = node.state.take_if(|_| changes);
    let _lock = state.map(|state| state.lock_rotation()).transpose()?;
    if changes {
        // Somebody else may have had the lock until now.
        node = Node::look(&configuration, &rotate.jwks_dir)?;
    }
    for note in &node.notes {
        say(format_args!("{note}; it was left out"));
    }
    match &rotate.verb {
        Verb::Status { json } => status(&node, rotate, *json),
        Verb::Prepare => prepare(&node, rotate),
        Verb::Activate(activate) => activate.run(&node, rotate),
        Verb::Retire {
            kid,
            tokens_may_die,
        } => retire(&node, kid.as_ref(), *tokens_may_die),
        Verb::Now {
            compromised: _,
            restart,
        } => replace_compromised(&node, restart),
    }
}

impl Rotate {
    /// This verb with the options that were given, as a command.
    fn command(&self, verb: &str) -> String {
        let mut words = vec!["slurm-tokenctl rotate".to_owned(), verb.to_owned()];
        if let Some(config) = &self.config {
            words.extend(["--config".to_owned(), quoted(config)]);
        }
        if self.jwks_dir != Path::new(JWKS_DIR) {
            words.extend(["--jwks-dir".to_owned(), quoted(&self.jwks_dir)]);
        }
        words.join(" ")
    }
}

/// Steps as a person reads them.
fn told(steps: &[Step]) -> String {
    let mut lines = Vec::new();
    for step in steps {
        let place = match step.on {
            "here" => "Here",
            _ => "Where slurmctld and slurmdbd run",
        };
        lines.push(format!("{place}: {}", step.what));
        lines.extend(step.run.iter().map(|command| format!("  {command}")));
    }
    lines.join("\n")
}

fn say_steps(steps: &[Step]) {
    say(format_args!("{}", told(steps)));
}
