//! What the daemon says of a token that the user has.

use super::ask::Daemon;
use super::bearer::Bearer;
use super::failure::Failure;
use super::given::Source;
use super::{answer, clock, format, print};
use crate::report::Problem;
use crate::wire::{Issued, Request, TokenText, Verified};

/// Is a token valid, and of the user who was expected.
pub(super) fn verify(
    daemon: &Daemon,
    source: &Source,
    expected: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let request = Request::Verify {
        token: Some(text(source)?),
        authorization: None,
    };
    let verified: Verified = daemon.ask(&request)?;
    print(&if json {
        format::json(&verified)
    } else {
        format::verified(&verified, clock::now())
    })?;
    match expected {
        Some(expected) if expected != verified.user => {
            Err(Failure::of_another(expected, Some(verified.user.as_str())))
        }
        _ => Ok(()),
    }
}

/// A new token in the place of an old one, and of the same user.
pub(super) fn refresh(daemon: &Daemon, source: &Source) -> Result<Issued, Failure> {
    let old = text(source)?;
    let Some(Bearer { sun, .. }) = Bearer::read(old.as_str()) else {
        return Err(Failure::Failed(Problem::new(
            "the token",
            "is none",
            "get one with: slurm-token",
        )));
    };
    let issued = daemon.ask(&Request::Refresh { token: Some(old) })?;
    answer::check(&issued, &answer::Expected::Named(&sun))?;
    Ok(issued)
}

fn text(source: &Source) -> Result<TokenText, Failure> {
    let bytes = source.read()?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(TokenText::new(text.to_owned())),
        Err(_) => Err(Failure::Failed(Problem::new(
            "the token",
            "is not text",
            "give the token alone, from eyJ on",
        ))),
    }
}
