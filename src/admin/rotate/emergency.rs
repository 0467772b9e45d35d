//! `rotate now --compromised`: replaces a key that somebody else may have, in
//! one step.

use super::activate::{Restart, every_host_is_ready, switch};
use super::node::{Node, Scheme};
use super::prepare::{make_key, next_name, publish};
use super::retire::take_from_controllers;
use super::{names, plan, say_steps};
use crate::admin::{Failure, say};
use crate::keys::format::SigningKey;
use crate::keys::{Algorithm, Kid, store};
use crate::report::Problem;
use crate::state::LatestExp;
use crate::token::moment::Utc;

/// Whoever has the key has made tokens of their own: no record says until when
/// they live, and nothing but slurmctld's forgetting the key ends them.
pub(super) fn replace_compromised(node: &Node, restart: &Restart) -> Result<(), Failure> {
    let hs256 = node.key.algorithm() == Algorithm::Hs256;
    let (file, key) = match &node.scheme {
        Scheme::SameFile => {
            // A key that was prepared lay beside the one that is in other hands.
            let file = node.next_file();
            if let Some(next) = &node.next {
                if next.published {
                    store::remove(&node.jwks_file(next.key.kid()), &node.own)?;
                }
                store::remove(&file, &node.own)?;
            }
            let kid = hs256.then(|| node.key.kid().clone());
            make_key(node, file, kid)?
        }
        Scheme::OwnName { kid, .. } => {
            let after = node
                .next
                .as_ref()
                .map_or(node.key.kid(), |next| next.key.kid());
            let name = next_name(node, after.as_str())?;
            let dated = name.strip_prefix(names::stem(&name)).unwrap_or_default();
            every_host_is_ready(node, &format!("{}{dated}", names::stem(kid)))?;
            let file = node.file.with_file_name(format!("{name}.pem"));
            make_key(node, file, Kid::new(&name))?
        }
    };
    if !hs256 {
        publish(node, &key, &file)?;
    }
    switch(node, &file, key.kid())?;
    let dead = drop_all_others(node, &key)?;
    tell_who_dies(node, &dead, key.kid());
    if hs256 {
        say_steps(&[plan::hard_cut(&node.file.display().to_string())]);
    } else {
        let mut step = take_from_controllers(node, &dead);
        step.what = format!(
            "only this ends the tokens of whoever has the old key, and lets those of the new one \
             in: copy {}.json there too",
            key.kid()
        );
        say_steps(&[step]);
    }
    let node = Node::look(&node.config.path, &node.jwks_dir)?;
    Ok(restart.take_up(&node)?)
}

/// Removes every key of this node but the new one, public and private halves.
/// Gives the kids that are gone.
fn drop_all_others(node: &Node, new: &SigningKey) -> Result<Vec<String>, Problem> {
    let mut dead = vec![node.key.kid().as_str().to_owned()];
    let mut files = vec![node.old_file()];
    let next = node.next.iter().map(|next| (next.key.kid(), &next.file));
    for (kid, file) in next.chain([(node.key.kid(), &node.file)]) {
        if kid != new.kid() {
            files.push(node.jwks_file(kid));
        }
        if node.scheme != Scheme::SameFile {
            files.push(file.clone());
        }
    }
    if let Some(next) = node.next.as_ref().filter(|next| next.published) {
        dead.push(next.key.kid().as_str().to_owned());
    }
    for old in &node.old {
        dead.push(old.kid.as_str().to_owned());
        files.extend(old.private.iter().cloned());
        files.push(old.published.clone());
    }
    for file in files {
        store::remove(&file, &node.own)?;
    }
    Ok(dead)
}

fn tell_who_dies(node: &Node, dead: &[String], new: &Kid) {
    say(format_args!(
        "This node signs with {new} now. Gone from it, private and public: {}.\n\
         Every token of these keys dies when slurmctld is told, whoever made it{}",
        dead.join(", "),
        match node.latest_exp(node.key.kid()) {
            LatestExp::Until(exp) =>
                format!("; those of this daemon would have lived until {}", Utc(exp)),
            LatestExp::NoRecord | LatestExp::Unknown(_) => String::new(),
        }
    ));
    let others: Vec<_> = node.other_kids().map(Kid::as_str).collect();
    if !others.is_empty() {
        say(format_args!(
            "The keys that rules name sign on: {}. If one of them may be in other hands too, name \
             another key in its [[signing.other]], restart the daemon, and retire it: \
             slurm-tokenctl rotate retire --tokens-may-die",
            others.join(", ")
        ));
    }
}
