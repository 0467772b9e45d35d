//! What the HTTP door asks of a token that is valid: is it the named user's, is
//! that one of those who may pass, and is it time for a new one.

use std::sync::Arc;
use std::time::Instant;

use crate::account::Account;
use crate::daemon::directory::{Found, Sought, Who};
use crate::daemon::grant::{Facts, Wanted};
use crate::daemon::http::visit::Visit;
use crate::daemon::peer::{Answer, Peer};
use crate::daemon::quotas::Payer;
use crate::daemon::refuse::no_directory;
use crate::daemon::serve::{Exchange, Next};
use crate::daemon::{Daemon, unix_now};
use crate::policy::{Names, is_past_half};
use crate::token::bearer;
use crate::wire::{Code, Refusal, Request, Verified};

impl Daemon {
    /// Answers for a token that is valid, if it's what the proxy asked for.
    pub(in crate::daemon) fn forward(
        self: &Arc<Self>,
        exchange: Exchange,
        verified: Verified,
        payer: Payer,
    ) -> Next {
        let Peer::Http(Visit { conditions, .. }) = &exchange.peer else {
            return self.answer(exchange.peer, Answer::Verified(&verified));
        };
        let named = conditions.named.as_ref();
        if named.is_some_and(|named| *named != verified.user) {
            let refusal = bearer::invalid("X-SLURM-USER-NAME names somebody else than the token.");
            return self.refuse_noted(exchange, None, payer, &refusal);
        }
        match conditions.by_name(&verified.user) {
            Some(true) => self.pass(exchange, verified),
            Some(false) => self.refuse_noted(exchange, None, payer, &insufficient(&verified.user)),
            None => self.look_at_groups(exchange, verified, payer),
        }
    }

    /// Only the account of a valid token is looked up, and no group by a name
    /// that anybody may choose.
    fn look_at_groups(
        self: &Arc<Self>,
        exchange: Exchange,
        verified: Verified,
        payer: Payer,
    ) -> Next {
        let sought = Sought::with_roles(verified.user.clone());
        self.find(
            exchange,
            sought,
            move |daemon, exchange, found| match found {
                Ok(found) => daemon.judge_groups(exchange, verified, &found, payer),
                Err(why) => daemon.refuse_noted(exchange, None, payer, &no_directory(why)),
            },
        )
    }

    fn judge_groups(
        self: &Arc<Self>,
        exchange: Exchange,
        verified: Verified,
        found: &Found,
        payer: Payer,
    ) -> Next {
        let Peer::Http(Visit { conditions, .. }) = &exchange.peer else {
            return self.answer(exchange.peer, Answer::Verified(&verified));
        };
        let is_in_one = |account: &Account| {
            let is_theirs = verified.claims.uid.is_none_or(|uid| uid == account.uid);
            let mut names = account.groups.values().flatten();
            is_theirs && names.any(|name| conditions.groups.contains(name))
        };
        if found.as_deref().is_some_and(is_in_one) {
            self.pass(exchange, verified)
        } else {
            self.refuse_noted(exchange, None, payer, &insufficient(&verified.user))
        }
    }

    /// The token may pass: with a new one if it's time, and one is wanted.
    fn pass(self: &Arc<Self>, exchange: Exchange, verified: Verified) -> Next {
        let wants = matches!(&exchange.peer, Peer::Http(visit) if visit.conditions.refresh);
        if wants && is_past_half(&verified.claims, unix_now()) {
            self.learn_for_renewal(exchange, verified)
        } else {
            self.answer(exchange.peer, Answer::Verified(&verified))
        }
    }

    /// Learns who the proxy is.
    fn learn_for_renewal(self: &Arc<Self>, exchange: Exchange, verified: Verified) -> Next {
        self.learn(
            exchange,
            Instant::now(),
            |daemon, exchange, learned| match learned {
                Ok((caller, names)) => daemon.learn_whom(exchange, verified, caller, names),
                Err(_) => daemon.answer(exchange.peer, Answer::Verified(&verified)),
            },
        )
    }

    /// Learns who the user is, for a proxy that may ask for others here.
    fn learn_whom(
        self: &Arc<Self>,
        exchange: Exchange,
        verified: Verified,
        caller: Found,
        names: Arc<Names>,
    ) -> Next {
        let policy = &exchange.engine.config.policy;
        let delegate = caller.filter(|c| policy.delegate(c).is_ok_and(|entry| entry.http));
        let Some(caller) = delegate else {
            return self.answer(exchange.peer, Answer::Verified(&verified));
        };
        let sought = exchange.sought(Who::Name(verified.user.clone()));
        self.find(exchange, sought, |daemon, exchange, target| {
            let target = target.unwrap_or_default();
            daemon.renew_early(exchange, verified, caller, names, &target)
        })
    }

    /// Makes a token in the place of a valid one, if there can be one. It takes
    /// the way of every token from here on, and the answer is what the old one
    /// says in any case.
    fn renew_early(
        self: &Arc<Self>,
        mut exchange: Exchange,
        verified: Verified,
        caller: Arc<Account>,
        names: Arc<Names>,
        target: &Found,
    ) -> Next {
        let policy = &exchange.engine.config.policy;
        let grant = target.as_deref().and_then(|target| {
            self.refuse_blocked(&caller, Some(target)).ok()?;
            policy.renew_early(&names, &caller, target, &verified.claims, unix_now())
        });
        let (Some(grant), Peer::Http(visit)) = (grant, &mut exchange.peer) else {
            return self.answer(exchange.peer, Answer::Verified(&verified));
        };
        let old = verified.claims.clone();
        exchange.on_behalf = Some(verified.user.clone());
        exchange.request = Request::Refresh { token: None };
        visit.verified = Some(Box::new(verified));
        if let Err(fast) = self.pay(&exchange, &caller, true) {
            return self.refuse_fast(exchange, Some(&caller), fast);
        }
        let facts = Facts {
            names,
            caller,
            wanted: Wanted::InPlaceOf(Box::new(old)),
        };
        self.sign(exchange, facts, grant)
    }
}

fn insufficient(user: &str) -> Refusal {
    Refusal::new(
        Code::InsufficientRole,
        format!("{user} is none of the users and in none of the groups that may pass here."),
        "Ask whoever runs this service to let you in.",
    )
}
