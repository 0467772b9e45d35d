//! The daemon's configuration, as far as a command goes by it.

use std::path::Path;

use crate::account;
use crate::client::plain;
use crate::config::{Config, Draft};
use crate::daemon::directory::look_up_names;
use crate::daemon::{engine, usual_configuration};
use crate::keys::file::Trust;
use crate::policy::Names;
use crate::report::{Problem, Problems};
use crate::wire::{Code, Refusal};

/// A configuration, or the defaults where this machine has none.
pub(super) struct Site {
    pub(super) config: Config,
    /// Does the configuration stand in a file.
    pub(super) is_configured: bool,
}

impl Site {
    /// Reads the file that is named. Without a name it's the one that the
    /// daemon reads, if it is there; a file that can't be read never becomes
    /// defaults.
    pub(super) fn read(named: Option<&Path>, slurm_user: &str) -> Result<Self, Problems> {
        let path = named.map_or_else(usual_configuration, Path::to_owned);
        let missing = path
            .symlink_metadata()
            .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        if named.is_some() || !missing {
            return Ok(Self {
                config: engine::read_configuration(&path)?,
                is_configured: true,
            });
        }
        let mut config = Draft::read(&path, "", "").as_far_as_read().cloned();
        if let Some(config) = &mut config {
            slurm_user.clone_into(&mut config.policy.slurm_user);
        }
        let config = config.ok_or_else(|| {
            Problem::at(
                &path,
                "there are no defaults",
                "name the file with --config",
            )
        })?;
        Ok(Self {
            config,
            is_configured: false,
        })
    }

    /// What the names in the policy mean on this machine now.
    pub(super) fn names(&self) -> Result<Names, Problem> {
        let policy = &self.config.policy;
        let names = look_up_names(
            &policy.slurm_user,
            policy.named_users().map(ToOwned::to_owned).collect(),
            policy.named_groups().map(ToOwned::to_owned).collect(),
        );
        names.map_err(|errno| no_directory(&policy.slurm_user, errno))
    }

    /// Who may own a key that is read here: root, `SlurmUser`, whoever runs this
    /// and, where that is root, the daemon's account.
    pub(super) fn key_owners(&self) -> Result<Trust, Problem> {
        let trust = Trust::of_process(self.slurm_uid()?);
        let own_uid = match trust.own_uid {
            0 => uid_of(&self.config.user)?.unwrap_or(0),
            own => own,
        };
        Ok(Trust { own_uid, ..trust })
    }

    /// The uid of `SlurmUser`, if it is known here.
    pub(super) fn slurm_uid(&self) -> Result<Option<u32>, Problem> {
        let policy = &self.config.policy;
        match policy.slurm_uid {
            Some(uid) => Ok(Some(uid)),
            None => uid_of(&policy.slurm_user),
        }
    }
}

/// The uid of an account, if there is one.
pub(super) fn uid_of(name: &str) -> Result<Option<u32>, Problem> {
    account::uid_of(name).map_err(|errno| no_directory(name, errno))
}

pub(super) fn no_directory(name: &str, errno: nix::errno::Errno) -> Problem {
    Problem::new(
        name,
        format!("this account can't be looked up: {}", errno.desc()),
        "look at the account service: getent passwd",
    )
}

/// The daemon's refusal of a name that nobody has.
pub(super) fn no_account(name: &str) -> Refusal {
    Refusal::new(
        Code::UnknownUser,
        format!("There is no account {} on this machine.", plain(name)),
        "Check the name with: getent passwd",
    )
}
