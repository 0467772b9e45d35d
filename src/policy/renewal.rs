//! A token for a token: by the policy as it is now, and no further than its
//! session goes.

use super::{Grant, Names, Policy};
use crate::account::Account;
use crate::caller::Door;
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
        door: Door,
        names: &Names,
        caller: &Account,
        target: Option<&Account>,
        old: &Claims,
        now: u64,
    ) -> Result<Grant, Refusal> {
        let session = Session::of(old, now)?;
        let grant = self.decide_at(door, names, caller, target, Asked::Of(session.lifespan))?;
        self.within(&session, grant, now)
    }

    /// Decides on a token in the place of a valid one that somebody else
    /// brought to a proxy, which is a delegate for that user. Nobody asked for a
    /// lifespan, so it's as long as the old one's, or as the delegate may have
    /// where that is less. None where there can be no such token, or where it
    /// wouldn't outlive the old one. `now` is in seconds since 1970.
    pub fn renew_early(
        &self,
        names: &Names,
        caller: &Account,
        target: &Account,
        old: &Claims,
        now: u64,
    ) -> Option<Grant> {
        let is_theirs = old.sun == target.name
            && old.uid.is_none_or(|uid| uid == target.uid)
            && target.name != caller.name
            && target.uid != caller.uid;
        // A token that another service got is that service's to renew.
        let is_foreign = old.act.as_ref().is_some_and(|act| act.sub != caller.name);
        if !is_theirs || is_foreign {
            return None;
        }
        let session = Session::of(old, now).ok()?;
        let decide = |asked| {
            self.decide_for_another(Door::Http, names, caller, target, asked)
                .ok()
        };
        let most = decide(Asked::Max)?.lifespan();
        let grant = decide(Asked::Of(session.lifespan.min(most)))?;
        let exp = now.saturating_add(grant.lifespan().seconds().into());
        self.within(&session, grant, now)
            .ok()
            .filter(|_| exp > old.exp)
    }

    /// A grant that goes on with a session, if it stays within that.
    fn within(&self, session: &Session, grant: Grant, now: u64) -> Result<Grant, Refusal> {
        let over = session
            .begun
            .saturating_add(self.max_session.seconds().into());
        let left = over.saturating_sub(now);
        let lifespan = grant.lifespan();
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
            auth_time: Some(session.begun.min(now)),
            ..grant
        })
    }
}

/// What a token says of the session that it belongs to.
struct Session {
    /// How long it lives itself.
    lifespan: Lifespan,
    /// When the first token was made, in seconds since 1970.
    begun: u64,
}

impl Session {
    /// That of a token which hasn't expired and has the times of one of ours.
    fn of(old: &Claims, now: u64) -> Result<Self, Refusal> {
        // The leeway is for clocks that differ; it prolongs no token.
        if old.exp <= now {
            return Err(Refusal::new(
                Code::TokenExpired,
                "The token has expired.",
                "Get a new one with: slurm-token",
            ));
        }
        Self::told(old).ok_or_else(|| {
            Refusal::new(
                Code::TokenInvalid,
                "The token does not say, as one of ours, when it and its session began (\"iat\", \
                 \"auth_time\").",
                "Get a new one with: slurm-token",
            )
        })
    }

    fn told(old: &Claims) -> Option<Self> {
        let iat = old.iat?;
        let lifespan = u32::try_from(old.exp.checked_sub(iat)?).ok()?;
        let begun = old.auth_time.unwrap_or(iat);
        let lifespan = Lifespan::from_seconds(lifespan)?;
        (begun <= iat).then_some(Self { lifespan, begun })
    }
}

/// Is less than half of a token's life left. `now` is in seconds since 1970.
pub fn is_past_half(token: &Claims, now: u64) -> bool {
    token.iat.is_some_and(|iat| {
        let life = token.exp.saturating_sub(iat);
        token.exp.saturating_sub(now).saturating_mul(2) < life
    })
}

#[cfg(test)]
mod tests;
