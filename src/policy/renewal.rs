//! A token for a token: by the policy as it is now, and no further than its
//! session goes.

use super::{Grant, Names, Policy};
use crate::account::Account;
use crate::token::compact::Claims;
use crate::token::lifespan::{Asked, Lifespan};
use crate::wire::{Code, Refusal};

impl Policy {
    /// Whose token it is that the caller wants renewed. None is its own; a name
    /// is that of the user for whom the caller got it.
    ///
    /// Who a service got a token for does not renew it: it can have one of its
    /// own, and this one would go on to say that the service asked.
    pub fn whose<'t>(&self, caller: &Account, old: &'t Claims) -> Result<Option<&'t str>, Refusal> {
        let of_the_same_account = old.uid.is_none_or(|uid| uid == caller.uid);
        match &old.act {
            None if old.sun == caller.name && of_the_same_account => Ok(None),
            Some(act) if act.sub == caller.name && old.sun != caller.name => Ok(Some(&old.sun)),
            _ => Err(Refusal::new(
                Code::NotYourToken,
                format!(
                    "The token is neither {}'s own nor one that {} got for somebody else.",
                    caller.name, caller.name
                ),
                "Refresh your own tokens; get a new one with: slurm-token",
            )),
        }
    }

    /// Decides on a token in the place of a verified one that is the caller's,
    /// or that the caller got for `target`: decided anew, as if it had been
    /// asked for now with the same length of life, and within the session that
    /// began with the first. `now` is in seconds since 1970.
    pub fn renew(
        &self,
        names: &Names,
        caller: &Account,
        target: Option<&Account>,
        old: &Claims,
        now: u64,
    ) -> Result<Grant, Refusal> {
        // The leeway is for clocks that differ; it prolongs no token.
        if old.exp <= now {
            return Err(Refusal::new(
                Code::TokenExpired,
                "The token has expired.",
                "Get a new one with: slurm-token",
            ));
        }
        let (lifespan, begun) = session(old).ok_or_else(|| {
            Refusal::new(
                Code::TokenInvalid,
                "The token does not say, as one of ours, when it and its session began (\"iat\", \
                 \"auth_time\").",
                "Get a new one with: slurm-token",
            )
        })?;
        let renewed = self.decide(names, caller, target, Asked::Of(lifespan))?;
        let over = begun.saturating_add(self.max_session.seconds().into());
        let left = over.saturating_sub(now);
        if u64::from(lifespan.seconds()) > left {
            return Err(Refusal {
                max_lifespan: Some(u32::try_from(left).unwrap_or(u32::MAX)),
                ..Refusal::new(
                    Code::LifespanTooLong,
                    format!(
                        "A token of {lifespan} would outlive its session, which may last {} from \
                         the first token on.",
                        self.max_session
                    ),
                    "Get a new token, which begins a new session, with: slurm-token",
                )
            });
        }
        Ok(Grant {
            auth_time: Some(begun.min(now)),
            ..renewed
        })
    }
}

/// How long a token lives, and when its session began. None where its times
/// can't be those of one of ours.
fn session(old: &Claims) -> Option<(Lifespan, u64)> {
    let iat = old.iat?;
    let lifespan = u32::try_from(old.exp.checked_sub(iat)?).ok()?;
    let begun = old.auth_time.unwrap_or(iat);
    let lifespan = Lifespan::from_seconds(lifespan)?;
    (begun <= iat).then_some((lifespan, begun))
}

#[cfg(test)]
mod tests;
