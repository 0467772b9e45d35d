//! `rotate retire`: lets the keys go of which no token lives any more.

use super::node::{Node, Old};
use super::plan::{self, CLOCKS_DIFFER, Step};
use super::say_steps;
use crate::admin::{Failure, say};
use crate::daemon::unix_now;
use crate::keys::file::quoted;
use crate::keys::{Kid, store};
use crate::report::{Problem, Problems};
use crate::state::LatestExp;
use crate::token::moment::Utc;

pub(super) fn retire(node: &Node, kid: Option<&Kid>, tokens_may_die: bool) -> Result<(), Failure> {
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

pub(super) fn take_from_controllers(node: &Node, gone: &[String]) -> Step {
    plan::take_from_controllers(
        format!(
            "slurmctld still accepts {} until it's told",
            gone.join(", ")
        ),
        &quoted(&node.jwks_dir),
        gone,
    )
}
