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

mod names;
pub(super) mod node;
mod plan;
pub(super) mod proof;
pub(super) mod service;
mod switch;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use nix::unistd::{Gid, Uid};

use self::node::{Next, Node, Old, Scheme};
use self::plan::{CLOCKS_DIFFER, Commands, Key, OldKey, Standing, Step};
use self::proof::Judge;
use super::key::{KEY_MODE, rsa_key, secret};
use super::{Failure, print, say};
use crate::admin::jwks::JWKS_MODE;
use crate::daemon::{unix_now, usual_configuration};
use crate::issue::Issuer;
use crate::keys::file::quoted;
use crate::keys::format::{SigningKey, signing_key};
use crate::keys::jwks::JwkSet;
use crate::keys::{Algorithm, Kid, store};
use crate::report::{Problem, Problems};
use crate::state::LatestExp;
use crate::token::moment::Utc;

/// A new HS256 key has so many bytes.
const SECRET: usize = 32;
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

#[derive(Args)]
struct Restart {
    /// Leave the daemon alone: it signs with the key that it has until somebody
    /// restarts it
    #[arg(long)]
    no_restart: bool,
}

#[derive(Args)]
struct Activate {
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

pub(super) fn run(rotate: &Rotate) -> Result<(), Failure> {
    let configuration = rotate.config.clone().unwrap_or_else(usual_configuration);
    let node = Node::look(&configuration, &rotate.jwks_dir)?;
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

// Where things stand.

fn standing(node: &Node) -> Standing {
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

fn steps(node: &Node, rotate: &Rotate, standing: &Standing) -> Vec<Step> {
    let commands = Commands {
        rotate: &|verb| rotate.command(verb),
        restart: service::restart_command(&node.config.path),
        jwks_dir: quoted(&node.jwks_dir),
    };
    standing.steps(unix_now(), &commands)
}

fn status(node: &Node, rotate: &Rotate, json: bool) -> Result<(), Failure> {
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

// The next key.

fn prepare(node: &Node, rotate: &Rotate) -> Result<(), Failure> {
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
fn make_key(
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
    use std::os::unix::fs::MetadataExt as _;
    let there = std::fs::metadata(file).ok()?;
    Some((Uid::from_raw(there.uid()), Gid::from_raw(there.gid())))
}

/// The name that follows `name`, with `{host}` where it has it.
fn next_name(node: &Node, name: &str) -> Result<String, Problem> {
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
fn publish(node: &Node, key: &SigningKey, file: &Path) -> Result<(), Problem> {
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

// The switch.

impl Activate {
    fn run(&self, node: &Node, rotate: &Rotate) -> Result<(), Failure> {
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
    fn take_up(&self, node: &Node) -> Result<(), Problem> {
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
fn every_host_is_ready(node: &Node, new_kid: &str) -> Result<(), Problem> {
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
    use std::os::unix::fs::MetadataExt as _;
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
fn switch(node: &Node, file: &Path, kid: &Kid) -> Result<(), Problems> {
    match written_for(node, kid) {
        None => Ok(store::rename_over(file, &node.file, &node.own)?),
        Some((key, written)) => {
            switch::name_key(&node.config, (&key, &written), (file, kid), &node.own)
        }
    }
}

// The end of a key.

fn retire(node: &Node, kid: Option<&Kid>, tokens_may_die: bool) -> Result<(), Failure> {
    let now = unix_now();
    if let Some(kid) = kid
        && !node.old.iter().any(|old| old.kid == *kid)
    {
        let what = if kid == node.key.kid() {
            "this key signs now"
        } else if node.other_kids().any(|other| other == kid) {
            "this key signs where a rule names it"
        } else {
            "no key of this name has signed here and is published still"
        };
        return Err(Problem::new(kid.as_str(), what, "see: slurm-tokenctl rotate status").into());
    }
    let (mut gone, mut kept) = (Vec::new(), Vec::new());
    for old in node
        .old
        .iter()
        .filter(|old| kid.is_none_or(|kid| old.kid == *kid))
    {
        let due = plan::retire_from(&old.latest).is_some_and(|from| from <= now);
        if due || tokens_may_die {
            drop_key(node, old)?;
            gone.push(old.kid.as_str().to_owned());
        } else {
            kept.push(not_yet(old));
        }
    }
    if gone.is_empty() {
        if kept.is_empty() {
            say(format_args!("There is no old key here"));
            return Ok(());
        }
        return Err(Problems(kept).into());
    }
    for problem in kept {
        say(format_args!("{problem}"));
    }
    say(format_args!("Gone from this node: {}", gone.join(", ")));
    say_steps(&[take_from_controllers(node, &gone)]);
    Ok(())
}

/// The private halves first: as long as the public one is there, it's known
/// what to look for.
fn drop_key(node: &Node, old: &Old) -> Result<(), Problem> {
    for private in &old.private {
        store::remove(private, &node.own)?;
    }
    store::remove(&old.published, &node.own)
}

fn not_yet(old: &Old) -> Problem {
    let unknown = |place: String, what: String, remedy: String| {
        Problem::new(
            place,
            format!("{what}: tokens of {} may still live", old.kid),
            format!("{remedy}; or let them die: --tokens-may-die"),
        )
    };
    match &old.latest {
        LatestExp::Until(exp) => Problem::new(
            old.kid.as_str(),
            format!("tokens of this key may live until {}", Utc(*exp)),
            format!(
                "try again after {} ({} minutes more, for clocks that differ); \
                 --tokens-may-die doesn't wait",
                Utc(exp.saturating_add(CLOCKS_DIFFER)),
                CLOCKS_DIFFER / 60
            ),
        ),
        LatestExp::Unknown(problem) => unknown(
            problem.place.clone(),
            problem.what.clone(),
            problem.remedy.clone(),
        ),
        LatestExp::NoRecord => unknown(
            old.kid.as_str().into(),
            "there is no record".into(),
            "start the daemon once".into(),
        ),
    }
}

fn take_from_controllers(node: &Node, gone: &[String]) -> Step {
    plan::take_from_controllers(
        format!(
            "slurmctld still accepts {} until it's told",
            gone.join(", ")
        ),
        &quoted(&node.jwks_dir),
        gone,
    )
}

// The emergency.

/// Whoever has the key has made tokens of their own: no record says until when
/// they live, and nothing but slurmctld's forgetting the key ends them.
fn replace_compromised(node: &Node, restart: &Restart) -> Result<(), Failure> {
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
