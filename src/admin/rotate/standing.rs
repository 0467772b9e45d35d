//! `rotate status`: where things stand, and what to do next.

use std::path::Path;

use super::node::{Node, Old};
use super::plan::{self, Commands, Key, OldKey, Standing, Step};
use super::{Rotate, service, told};
use crate::admin::{Failure, print};
use crate::daemon::unix_now;
use crate::keys::file::quoted;
use crate::keys::{Algorithm, Kid};
use crate::token::moment::Utc;

pub(super) fn standing(node: &Node) -> Standing {
    let key = |kid: &Kid, file: &Path, published| Key {
        kid: kid.as_str().into(),
        file: file.display().to_string(),
        published,
    };
    let old = |old: &Old| {
        let retire_from = plan::retire_from(&old.latest);
        OldKey {
            kid: old.kid.as_str().into(),
            retire_from,
            retire_from_words: retire_from.map(|from| Utc(from).to_string()),
            private_files: old
                .private
                .iter()
                .map(|f| f.display().to_string())
                .collect(),
        }
    };
    Standing {
        algorithm: node.key.algorithm().as_str(),
        current: key(node.key.kid(), &node.file, node.published),
        daemon_kid: service::signs_with(&node.config),
        next: node
            .next
            .as_ref()
            .map(|next| key(next.key.kid(), &next.file, next.published)),
        others: node
            .others
            .iter()
            .filter(|other| other.key.algorithm() == Algorithm::Rs256)
            .map(|other| key(other.key.kid(), &other.file, other.published))
            .collect(),
        old: node.old.iter().map(old).collect(),
    }
}

pub(super) fn steps(node: &Node, rotate: &Rotate, standing: &Standing) -> Vec<Step> {
    let commands = Commands {
        rotate: &|verb| rotate.command(verb),
        restart: service::restart_command(&node.config.path),
        jwks_dir: quoted(&node.jwks_dir),
    };
    standing.steps(unix_now(), &commands)
}

pub(super) fn status(node: &Node, rotate: &Rotate, json: bool) -> Result<(), Failure> {
    let standing = standing(node);
    let steps = steps(node, rotate, &standing);
    if json {
        let told = serde_json::json!({ "keys": standing, "todo": steps });
        return Ok(print(&format!("{told}\n"))?);
    }
    let published = |algorithm, key: &Key| match (algorithm, key.published) {
        ("HS256", _) => "",
        (_, true) => ", published",
        (_, false) => ", NOT published",
    };
    let line = |word, algorithm, key: &Key| {
        let published = published(algorithm, key);
        format!("{word}  {}  {}{published}", key.kid, key.file)
    };
    let kid = &standing.current.kid;
    let mut lines = vec![
        line("signs", standing.algorithm, &standing.current),
        match &standing.daemon_kid {
            Some(daemon) if daemon == kid => "daemon signs with it".to_owned(),
            Some(daemon) => format!("daemon signs with {daemon}"),
            None => "daemon does not answer".to_owned(),
        },
    ];
    let next = standing.next.iter();
    lines.extend(next.map(|next| line("next ", standing.algorithm, next)));
    let others = standing.others.iter();
    lines.extend(others.map(|other| line("rules", "RS256", other)));
    for old in &standing.old {
        let from = old.retire_from_words.as_deref().unwrap_or("nobody knows");
        lines.push(format!("old    {}  may go from: {from}", old.kid));
    }
    lines.push(told(&steps));
    Ok(print(&(lines.join("\n") + "\n"))?)
}
