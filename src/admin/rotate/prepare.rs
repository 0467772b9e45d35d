//! `rotate prepare`: makes the next key, and publishes it beside the present one.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use super::node::{self, Node, Scheme};
use super::standing::{standing, steps};
use super::{Rotate, names, say_steps};
use crate::admin::jwks::JWKS_MODE;
use crate::admin::key::{KEY_MODE, rsa_key, secret};
use crate::admin::{Failure, say};
use crate::daemon::unix_now;
use crate::keys::file::quoted;
use crate::keys::format::{SigningKey, signing_key};
use crate::keys::jwks::JwkSet;
use crate::keys::{Algorithm, Kid, store};
use crate::report::Problem;
use crate::token::moment::Utc;

/// A new HS256 key has so many bytes.
const SECRET: usize = 32;

pub(super) fn prepare(node: &Node, rotate: &Rotate) -> Result<(), Failure> {
    let rs256 = node.config.signing.algorithm == Algorithm::Rs256;
    if rs256 {
        publish(node, &node.key, &node.file)?;
    }
    for other in &node.others {
        if other.key.algorithm() == Algorithm::Rs256 {
            publish(node, &other.key, &other.file)?;
        }
    }
    if let Some(next) = &node.next {
        let file = quoted(&next.file);
        say(format_args!("{file}: the next key is there already"));
        store::sweep(&next.file, &node.own)?;
        if rs256 {
            publish(node, &next.key, &next.file)?;
        }
    } else {
        let (file, key) = make_next(node)?;
        say(format_args!("{}: made the next key", quoted(&file)));
        if rs256 {
            publish(node, &key, &file)?;
        }
    }
    let node = Node::look(&node.config.path, &node.jwks_dir)?;
    say_steps(&steps(&node, rotate, &standing(&node)));
    Ok(())
}

/// Makes the next key, where the scheme wants it.
fn make_next(node: &Node) -> Result<(PathBuf, SigningKey), Problem> {
    let (file, kid) = match &node.scheme {
        Scheme::SameFile => (node.next_file(), None),
        Scheme::OwnName { .. } => {
            let kid = next_name(node, node.key.kid().as_str())?;
            let file = node.file.with_file_name(format!("{kid}.pem"));
            (file, Kid::new(&kid))
        }
    };
    let hs256 = node.key.algorithm() == Algorithm::Hs256;
    let kid = kid.or_else(|| hs256.then(|| node.key.kid().clone()));
    make_key(node, file, kid)
}

/// Makes a key as strong as the one that signs, in a file of the same owner.
pub(super) fn make_key(
    node: &Node,
    file: PathBuf,
    kid: Option<Kid>,
) -> Result<(PathBuf, SigningKey), Problem> {
    store::check_new(&file, &node.own)?;
    let bytes = match node.key.public() {
        Some(public) => rsa_key(public.bits().div_ceil(1024) * 1024, &file)?.0,
        None => secret(SECRET, &file)?,
    };
    let key = signing_key(&bytes, node.key.algorithm(), kid).map_err(|r| r.at(&file))?;
    let owner = owner(&node.file);
    store::create_for(&file, bytes.as_slice(), KEY_MODE, owner, &node.own)?;
    Ok((file, key))
}

fn owner(file: &Path) -> Option<(Uid, Gid)> {
    let there = std::fs::metadata(file).ok()?;
    Some((Uid::from_raw(there.uid()), Gid::from_raw(there.gid())))
}

/// The name that follows `name`, with `{host}` where it has it.
pub(super) fn next_name(node: &Node, name: &str) -> Result<String, Problem> {
    let now = Utc(unix_now()).to_string();
    let today = now.split(' ').next().unwrap_or_default();
    let taken = |name: &str| {
        node.kids.iter().any(|kid| kid == name)
            || node.file.with_file_name(format!("{name}.pem")).exists()
    };
    names::next(name, today, taken).ok_or_else(|| {
        Problem::new(
            node.config.places.of("signing.kid"),
            "no name of today comes after this kid",
            "check the clock: date; a kid ends in the date of its key",
        )
    })
}

/// Publishes the public half of a key on this node, unless that's done.
pub(super) fn publish(node: &Node, key: &SigningKey, file: &Path) -> Result<(), Problem> {
    store::make_directory(&node.jwks_dir, &node.own)?;
    let set = JwkSet::of(&node::public_of(key, file)?, key.kid());
    let out = node.jwks_file(key.kid());
    match store::create_new(&out, set.to_json().as_bytes(), JWKS_MODE, &node.own) {
        Ok(()) => {
            say(format_args!("{}: published {}", quoted(&out), key.kid()));
            Ok(())
        }
        Err(_) if holds(node, &out, &set) => Ok(()),
        Err(problem) => Err(problem),
    }
}

fn holds(node: &Node, file: &Path, set: &JwkSet) -> bool {
    crate::keys::file::read_public(file, &node.own, crate::keys::public::MAX_JWKS)
        .ok()
        .and_then(|bytes| JwkSet::parse(&bytes).ok())
        .is_some_and(|reading| reading.set == *set)
}
