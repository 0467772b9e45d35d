//! A request for a token, from the caller's account on: decide, sign, record,
//! hand over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::audit::{Event, NotRecorded, Outcome};
use crate::daemon::directory::{Found, Who};
use crate::daemon::quotas::{Payer, TooFast};
use crate::daemon::refuse::no_directory;
use crate::daemon::serve::{Exchange, Next};
use crate::daemon::{Daemon, unix_now};
use crate::issue::IssueError;
use crate::keys::Algorithm;
use crate::policy::{Grant, Names};
use crate::token::compact::Claims;
use crate::token::lifespan::Asked;
use crate::wire::{self, Code, Issued, Refusal};

/// How long a grant waits for a log that is full, before it's refused.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// How often it tries.
const LOG_RETRY: Duration = Duration::from_millis(2);
/// How often it looks whether another log has taken the place of the full one.
const LOG_RENEWAL: Duration = Duration::from_millis(100);

/// What a decision goes by.
pub(super) struct Facts {
    pub(super) names: Arc<Names>,
    pub(super) caller: Arc<Account>,
    pub(super) wanted: Wanted,
}

/// What is asked for.
pub(super) enum Wanted {
    /// A token, the first of its session.
    Token(Asked),
    /// One in the place of this one.
    InPlaceOf(Box<Claims>),
}

/// A token, and what there is to say of it; nobody has it yet.
struct Made {
    facts: Facts,
    grant: Grant,
    issued: Issued,
}

impl Made {
    fn event<'a>(&'a self, exchange: &'a Exchange) -> Event<'a> {
        let outcome = Outcome::Granted {
            sun: self.grant.subject(),
            lifespan: self.grant.lifespan().seconds(),
            exp: self.issued.expires_at,
            kid: &self.issued.kid,
            jti: &self.issued.jti,
            rule: self.grant.ruling(),
            replaces: match &self.facts.wanted {
                Wanted::Token(_) => None,
                Wanted::InPlaceOf(old) => old.jti.as_deref(),
            },
        };
        exchange.event(Some(&self.facts.caller), outcome)
    }
}

impl Daemon {
    /// Gives a token, if the caller's rate allows one more and the request
    /// makes sense.
    pub(super) fn issue(
        self: &Arc<Self>,
        exchange: Exchange,
        caller: Arc<Account>,
        names: Arc<Names>,
    ) -> Next {
        let target = exchange.request.target();
        let target = target.filter(|name| *name != caller.name);
        if let Err(fast) = self.pay(&exchange, &caller, target.is_some()) {
            return self.refuse_fast(exchange, Some(&caller), fast);
        }
        let asked = match Asked::from_word(exchange.request.lifespan()) {
            Ok(asked) => asked,
            Err(bad) => {
                let refusal = Refusal::new(
                    Code::BadLifespan,
                    format!("{bad}."),
                    "Give seconds, or a lifespan such as 30m, 12h, 1-00:00:00, or max.",
                );
                return self.refuse(exchange, Some(&caller), &refusal);
            }
        };
        let target = target.map(ToOwned::to_owned);
        let facts = Facts {
            names,
            caller,
            wanted: Wanted::Token(asked),
        };
        match target {
            Some(name) => self.learn_target(exchange, facts, name),
            None => self.decide(exchange, facts, None),
        }
    }

    /// Takes one token off the caller's rate; a service has a rate of its own
    /// for the tokens of others.
    pub(super) fn pay(
        &self,
        exchange: &Exchange,
        caller: &Account,
        for_another: bool,
    ) -> Result<(), TooFast> {
        let config = &exchange.engine.config;
        let delegate = for_another.then(|| config.policy.delegate(caller).ok());
        let (payer, rate) = match delegate.flatten() {
            Some(delegate) => (Payer::Delegate(caller.uid), delegate.rate),
            None => (Payer::User(caller.uid), config.limits.tokens),
        };
        self.quotas.take(payer, rate, Instant::now())
    }

    /// Learns whom a service asks for. Nobody else's word makes us look up a
    /// name: it would be everybody's way to keep the account service busy.
    pub(super) fn learn_target(
        self: &Arc<Self>,
        exchange: Exchange,
        facts: Facts,
        name: String,
    ) -> Next {
        let policy = &exchange.engine.config.policy;
        let may_ask = policy
            .judge(&name)
            .and_then(|()| policy.delegate(&facts.caller));
        if let Err(refusal) = may_ask {
            return self.refuse(exchange, Some(&facts.caller), &refusal);
        }
        let sought = exchange.sought(Who::Name(name));
        if let Some(target) = self.directory.remembered(&sought, Instant::now()) {
            return self.decide(exchange, facts, Some(target));
        }
        self.later(exchange, async move |daemon, exchange| {
            let limits = exchange.engine.config.limits.clone();
            match daemon.directory.account(sought, &limits).await {
                Ok(target) => daemon.decide(exchange, facts, Some(target)),
                Err(why) => daemon.refuse(exchange, Some(&facts.caller), &no_directory(why)),
            }
        })
    }

    /// Decides: the policy gives a grant, to the caller or for the target.
    pub(super) fn decide(
        self: &Arc<Self>,
        exchange: Exchange,
        facts: Facts,
        target: Option<Found>,
    ) -> Next {
        let Facts {
            names,
            caller,
            wanted,
        } = &facts;
        if let (Some(None), Some(name)) = (&target, exchange.target()) {
            let refusal = Refusal::new(
                Code::UnknownUser,
                format!("There is no account {name} on this machine."),
                "Check the name with: getent passwd",
            );
            return self.refuse(exchange, Some(caller), &refusal);
        }
        let target = target.flatten();
        let target = target.as_deref();
        let policy = &exchange.engine.config.policy;
        let decided = match wanted {
            Wanted::Token(asked) => policy.decide(names, caller, target, *asked),
            Wanted::InPlaceOf(old) => policy.renew(names, caller, target, old, unix_now()),
        };
        match decided {
            Ok(grant) => self.sign(exchange, facts, grant),
            Err(refusal) => self.refuse(exchange, Some(caller), &refusal),
        }
    }

    /// Signs: an HMAC at once, an RSA signature when it's this user's turn.
    fn sign(self: &Arc<Self>, exchange: Exchange, facts: Facts, grant: Grant) -> Next {
        let issuer = exchange.engine.keys.issuer(&grant);
        match issuer.map(|issuer| issuer.key().algorithm()) {
            Some(Algorithm::Rs256) => {
                let daemon = Arc::clone(self);
                let uid = facts.caller.uid;
                self.hand_on(exchange, move |exchange| {
                    let signers = Arc::clone(&daemon.signers);
                    signers.submit(uid, move || {
                        if let Some(next) = daemon.finish(exchange, facts, grant) {
                            daemon.advance(next);
                        }
                    });
                })
            }
            Some(Algorithm::Hs256) | None => self.finish(exchange, facts, grant),
        }
    }

    /// Signs, and hands the token over.
    fn finish(self: &Arc<Self>, exchange: Exchange, facts: Facts, grant: Grant) -> Next {
        let keys = &exchange.engine.keys;
        let issued = keys
            .issuer(&grant)
            .ok_or(IssueError::Fault)
            .and_then(|issuer| Ok((issuer.key().kid(), issuer.issue(&grant, unix_now())?)));
        let (kid, mut token) = match issued {
            Ok(issued) => issued,
            Err(error) => return self.refuse(exchange, Some(&facts.caller), &not_issued(error)),
        };
        let made = Made {
            issued: Issued {
                user: grant.subject().to_owned(),
                expires_at: token.exp,
                kid: kid.as_str().to_owned(),
                jti: token.jti,
                token: std::mem::take(&mut *token.compact),
            },
            facts,
            grant,
        };
        if exchange.engine.horizon.reaches(made.issued.expires_at) {
            self.hand_over(exchange, made)
        } else {
            self.hand_over_within_reach(exchange, made)
        }
    }

    /// The token would outlive what is on record of its key: raises the record
    /// first, or gives no token.
    fn hand_over_within_reach(self: &Arc<Self>, exchange: Exchange, made: Made) -> Next {
        self.later(exchange, async move |daemon, exchange| {
            let exp = made.issued.expires_at;
            if daemon.reach(&exchange.engine, exp).await {
                daemon.hand_over(exchange, made)
            } else {
                daemon.refuse(exchange, Some(&made.facts.caller), &not_on_record())
            }
        })
    }

    /// Records, then answers: without the record no token leaves.
    fn hand_over(self: &Arc<Self>, exchange: Exchange, made: Made) -> Next {
        match exchange.engine.recorder.record(&made.event(&exchange)) {
            Ok(()) => self.answer(exchange.connection, wire::issued_line(&made.issued)),
            Err(NotRecorded::Full) if exchange.engine.config.audit.required => {
                self.wait_for_log(exchange, made)
            }
            Err(why) => self.unrecorded(exchange, &why, &made.issued),
        }
    }

    /// The log takes no more just now: tries again for a while. One after the
    /// other: a full log is no reason for thousands to try all the time.
    fn wait_for_log(self: &Arc<Self>, exchange: Exchange, made: Made) -> Next {
        self.later(exchange, async move |daemon, exchange| {
            let until = Instant::now() + LOG_PATIENCE;
            let turn = tokio::time::timeout_at(until.into(), daemon.log_turn.lock()).await;
            let mut looked = Instant::now();
            let recorded = loop {
                match exchange.engine.recorder.record(&made.event(&exchange)) {
                    Err(NotRecorded::Full) if turn.is_ok() && Instant::now() < until => {
                        tokio::time::sleep(LOG_RETRY).await;
                        if looked.elapsed() >= LOG_RENEWAL {
                            looked = Instant::now();
                            exchange.engine.recorder.look_again();
                        }
                    }
                    recorded => break recorded,
                }
            };
            drop(turn);
            match recorded {
                Ok(()) => daemon.answer(exchange.connection, wire::issued_line(&made.issued)),
                Err(why) => daemon.unrecorded(exchange, &why, &made.issued),
            }
        })
    }

    fn unrecorded(
        self: &Arc<Self>,
        exchange: Exchange,
        why: &NotRecorded,
        issued: &Issued,
    ) -> Next {
        self.complain(format_args!("an audit record was lost: {why}"));
        if exchange.engine.config.audit.required {
            let refusal = Refusal::new(
                Code::AuditUnavailable,
                "The audit record could not be handed over, so no token was issued.",
                "Try again in a moment; if it lasts, ask your administrator to look at the system's log.",
            );
            return self.answer(exchange.connection, wire::refusal_line(&refusal));
        }
        self.answer(exchange.connection, wire::issued_line(issued))
    }
}

fn not_on_record() -> Refusal {
    Refusal::new(
        Code::Internal,
        "The token would outlive what is on record of its key, and the record can't be written.",
        "Ask your administrator to look at the journal of slurm-tokend and at its state directory.",
    )
}

fn not_issued(error: IssueError) -> Refusal {
    match error {
        IssueError::TooLarge(bytes) => Refusal::new(
            Code::TokenTooLarge,
            format!("The token would have {bytes} bytes; Slurm's clients take 12 KiB at the most."),
            "Ask your administrator to raise identity_min_gid or to turn identity_claims off.",
        ),
        IssueError::Fault => Refusal::new(
            Code::Internal,
            "The token could not be signed.",
            "Ask your administrator to look at the journal of slurm-tokend.",
        ),
    }
}
