//! `rotate activate`: makes the next key the one that signs.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::node::{Next, Node, Scheme};
use super::proof::{self, Judge};
use super::standing::{standing, steps};
use super::{Rotate, names, say_steps, service, switch};
use crate::admin::{Failure, say};
use crate::daemon::unix_now;
use crate::issue::Issuer;
use crate::keys::file::quoted;
use crate::keys::{Algorithm, Kid, store};
use crate::report::{Problem, Problems};

#[derive(Args)]
pub(super) struct Restart {
    /// Leave the daemon alone: it signs with the key that it has until somebody
    /// restarts it
    #[arg(long)]
    no_restart: bool,
}

#[derive(Args)]
pub(super) struct Activate {
    /// Prove first, with real requests, that Slurm accepts the next key: by
    /// slurmrestd, named by its URL or as unix:SOCKET, or with slurm.conf
    #[arg(long, value_name = "URL|FILE", value_parser = Judge::parse)]
    check: Option<Judge>,
    /// For --check: the ordinary account whose token it uses [default: who
    /// became root by sudo]
    #[arg(long = "as", value_name = "USER", requires = "check")]
    user: Option<String>,
    /// Yes, Slurm accepts the key of this kid
    #[arg(long, value_name = "KID", conflicts_with = "check")]
    confirm: Option<String>,
    #[command(flatten)]
    restart: Restart,
}

impl Activate {
    pub(super) fn run(&self, node: &Node, rotate: &Rotate) -> Result<(), Failure> {
        let Some(next) = &node.next else {
            return self.finish_interrupted(node, rotate);
        };
        check_key(next)?;
        if !next.published && next.key.algorithm() == Algorithm::Rs256 {
            return Err(Problem::at(
                &node.jwks_file(next.key.kid()),
                format!("the next key, {}, is not published", next.key.kid()),
                rotate.command("prepare"),
            )
            .into());
        }
        if let Some((_, kid)) = written_for(node, next.key.kid()) {
            every_host_is_ready(node, &kid)?;
        }
        self.convince(node, next)?;
        if node.scheme == Scheme::SameFile && node.key.algorithm() == Algorithm::Rs256 {
            // It keeps a name until it's retired: so there is a way back.
            store::link(&node.file, &node.old_file(), &node.own)?;
        }
        switch(node, &next.file, next.key.kid())?;
        let node = Node::look(&node.config.path, &node.jwks_dir)?;
        say(format_args!(
            "{}: the key that signs is {} now",
            quoted(&node.file),
            node.key.kid()
        ));
        self.restart.take_up(&node)?;
        say_steps(&steps(&node, rotate, &standing(&node)));
        Ok(())
    }

    /// Where the switch itself is done, only the daemon may have missed it.
    fn finish_interrupted(&self, node: &Node, rotate: &Rotate) -> Result<(), Failure> {
        let kid = node.key.kid();
        let missed = service::signs_with(&node.config).is_some_and(|with| with != kid.as_str());
        if missed || self.confirm.as_deref() == Some(kid.as_str()) {
            return Ok(self.restart.take_up(node)?);
        }
        Err(Problem::at(
            &node.file,
            "there is no next key to sign with",
            rotate.command("prepare"),
        )
        .into())
    }

    /// Has Slurm proved, or somebody said, that the next key is accepted.
    fn convince(&self, node: &Node, next: &Next) -> Result<(), Failure> {
        let kid = next.key.kid();
        if let Some(judge) = &self.check {
            if node.key.algorithm() == Algorithm::Hs256 {
                return Err(Failure::Usage(
                    "Slurm takes one HS256 key at a time, so the next one can't be tried before \
                     the switch: say --confirm=KID"
                        .into(),
                ));
            }
            let user = self
                .user
                .clone()
                .or_else(|| std::env::var("SUDO_USER").ok());
            let Some(user) = user.filter(|user| !user.is_empty()) else {
                return Err(Failure::Usage(
                    "--check needs an ordinary account that Slurm knows: --as USER".into(),
                ));
            };
            proof::prove(node, Arc::clone(&next.key), judge, &user)?;
            say(format_args!(
                "Slurm accepts {kid}: it has taken a token of {user}'s"
            ));
            return Ok(());
        }
        let answer = match &self.confirm {
            Some(answer) => answer.clone(),
            None if std::io::stdin().is_terminal() => {
                let mut stderr = std::io::stderr();
                let _ = write!(
                    stderr,
                    "If slurmctld doesn't accept {kid} yet, every new token will be refused.\n\
                     Type its kid to go on: "
                );
                let mut line = String::new();
                let read = std::io::stdin().lock().read_line(&mut line);
                read.map(|_| line.trim().to_owned()).unwrap_or_default()
            }
            None => {
                return Err(Failure::Usage(format!(
                    "say how it's known that slurmctld accepts {kid}: --check URL or slurm.conf \
                     proves it; --confirm={kid} says so"
                )));
            }
        };
        if answer == kid.as_str() {
            return Ok(());
        }
        Err(Problem::new(
            kid.as_str(),
            "another kid was confirmed; nothing was changed",
            "see which one is next: slurm-tokenctl rotate status",
        )
        .into())
    }
}

impl Restart {
    /// Sees to it that the daemon signs with the key that is there now.
    pub(super) fn take_up(&self, node: &Node) -> Result<(), Problem> {
        if !self.no_restart {
            return service::take_up(&node.config, node.key.kid());
        }
        say(format_args!(
            "The daemon was left alone: it signs with {} once it's restarted: {}",
            node.key.kid(),
            service::restart_command(&node.config.path)
        ));
        Ok(())
    }
}

/// The next key signs, and its signature is good.
fn check_key(next: &Next) -> Result<(), Problem> {
    Issuer::new(Arc::clone(&next.key))
        .self_check(unix_now())
        .map_err(|_| {
            Problem::at(
                &next.file,
                "a token signed with this key can't be verified with its public half",
                format!(
                    "take it away and prepare another: rm {}",
                    quoted(&next.file)
                ),
            )
        })
}

/// Nodes that share the configuration switch together: each must have its own
/// next key, or its daemon would not start again.
pub(super) fn every_host_is_ready(node: &Node, new_kid: &str) -> Result<(), Problem> {
    let Scheme::OwnName { kid, .. } = &node.scheme else {
        return Ok(());
    };
    let missing = others_without(kid, new_kid, node.key.kid().as_str(), &node.kids);
    if missing.is_empty() || !is_shared_alike(&node.config.path, &node.jwks_dir) {
        return Ok(());
    }
    Err(Problem::at(
        &node.config.path,
        format!(
            "this configuration serves other nodes too, and these have no key yet that it would \
             name: {}",
            missing.join(", ")
        ),
        "on each of them: slurm-tokenctl rotate prepare; or, if this node's key is in other hands, \
         take its public half from the controller's jwks.json first, which ends its tokens at once",
    ))
}

/// The hosts that have a key by the present name and none by the new one. Pure.
fn others_without(written: &str, new: &str, own: &str, kids: &[String]) -> Vec<String> {
    let Some((before, after)) = written.split_once("{host}") else {
        return Vec::new();
    };
    let host = |kid: &String| {
        let host = kid.strip_prefix(before)?.strip_suffix(after)?;
        (kid != own && !host.is_empty()).then(|| host.to_owned())
    };
    let ready = |host: &String| kids.contains(&new.replace("{host}", host));
    kids.iter()
        .filter_map(host)
        .filter(|host| !ready(host))
        .collect()
}

/// Are both on one file system: where the one is shared, so is the other.
fn is_shared_alike(one: &Path, other: &Path) -> bool {
    let device = |path| std::fs::metadata(path).map(|there| there.dev()).ok();
    device(one) == device(other)
}

/// `signing.key` and `signing.kid` as they are to be written for the kid `new`.
fn written_for(node: &Node, new: &Kid) -> Option<(String, String)> {
    let Scheme::OwnName { kid, key } = &node.scheme else {
        return None;
    };
    let date = new.as_str().strip_prefix(names::stem(new.as_str()))?;
    let kid = format!("{}{date}", names::stem(kid));
    let directory = key.rsplit_once('/')?.0;
    Some((format!("{directory}/{kid}.pem"), kid))
}

/// Makes the key in `file` the one that signs.
pub(super) fn switch(node: &Node, file: &Path, kid: &Kid) -> Result<(), Problems> {
    match written_for(node, kid) {
        None => Ok(store::rename_over(file, &node.file, &node.own)?),
        Some((key, written)) => {
            switch::name_key(&node.config, (&key, &written), (file, kid), &node.own)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_share_a_name_and_have_no_next_key_are_found() {
        let kids = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let missing = |names: &[&str]| {
            others_without(
                "{host}-2026-11",
                "{host}-2027-02",
                "login1-2026-11",
                &kids(names),
            )
        };
        assert_eq!(
            missing(&[
                "login1-2026-11",
                "login2-2026-11",
                "login3-2026-11",
                "login3-2027-02"
            ]),
            ["login2"]
        );
        assert!(missing(&["login1-2026-11", "other-2026-10", "-2026-11"]).is_empty());
        assert!(others_without("cluster-1", "cluster-2", "cluster-1", &kids(&["a"])).is_empty());
    }
}
