//! What the configuration, its keys, its files and this machine must be before
//! anything listens.

use std::path::Path;

use nix::unistd::User;

use crate::config::Config;
use crate::daemon::blocks::Keeper;
use crate::daemon::keyring::Keys;
use crate::daemon::{engine, listen, privileges};
use crate::report::{Problem, Problems};
use crate::state::{self, StateDir};

/// All that has to be right before anything listens.
pub struct Prepared {
    /// The configuration.
    pub config: Config,
    /// Its keys.
    pub keys: Keys,
    /// What is to be told of the keys, though nothing is wrong with them.
    pub notes: Vec<String>,
    /// Whom the daemon becomes for good.
    pub successor: Option<User>,
    /// Where its sockets come from.
    pub sources: listen::Sources,
    /// The only directory that it writes to.
    pub state: state::Found,
    /// Who is blocked.
    pub blocks: Keeper,
}

impl Prepared {
    /// Reads and looks at everything, and tells all that is wrong at once. What
    /// depends on a value that is wrong itself isn't looked at.
    pub fn by(configuration: &Path) -> Result<Self, Problems> {
        const KEYS: [&str; 12] = [
            "signing",
            "signing.key",
            "signing.algorithm",
            "signing.kid",
            "signing.other.key",
            "signing.other.algorithm",
            "signing.other.kid",
            "verify",
            "verify.jwks",
            "verify.key",
            "verify.algorithm",
            "verify.kid",
        ];
        let draft = engine::draft_configuration(configuration)?;
        let (mut more, mut notes) = (Vec::new(), Vec::new());
        let accounts = draft.are_sound(&["slurm_user", "slurm_uid"]);
        let found = draft.as_far_as_read().map(|config| {
            let keys = (accounts && draft.are_sound(&KEYS)).then(|| {
                let read = Keys::read(config, None, &mut notes);
                read.map_err(|mut problems| more.append(&mut problems.0))
                    .ok()
            });
            let user = accounts && draft.are_sound(&["user"]);
            let successor = user.then(|| keep(privileges::successor(config), &mut more));
            let successor = successor.flatten();
            let sockets = draft.are_sound(&["socket", "http", "http.socket"]);
            let sources = sockets.then(|| keep(listen::Sources::find(config), &mut more));
            let whose = successor
                .as_ref()
                .filter(|_| draft.are_sound(&["state_dir"]));
            let state = whose.map(|user| keep(find_state(config, user.as_ref()), &mut more));
            let state = state.flatten();
            let blocks = state.as_ref().and_then(|s| keep(Keeper::of(s), &mut more));
            Some((
                keys.flatten()?,
                successor?,
                sources.flatten()?,
                state?,
                blocks?,
            ))
        });
        match (draft.finish(), found.flatten()) {
            (Ok(config), Some((keys, successor, sources, state, blocks))) => Ok(Self {
                config,
                keys,
                notes,
                successor,
                sources,
                state,
                blocks,
            }),
            (Ok(_), _) => Err(Problems(more)),
            (Err(mut problems), _) => {
                problems.0.append(&mut more);
                Err(problems)
            }
        }
    }
}

fn find_state(config: &Config, successor: Option<&User>) -> Result<state::Found, Problem> {
    StateDir::find(
        &config.state_dir,
        successor.map(|user| (user.uid, user.gid)),
    )
}

/// What was found, or else its problem among the others.
fn keep<T>(found: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    found.map_err(|problem| problems.push(problem)).ok()
}
