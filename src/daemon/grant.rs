//! A request for a token, from the caller's account on: decide, sign, record,
//! hand over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::audit::{Event, NotRecorded, Outcome};
use crate::caller::Caller;
use crate::daemon::directory::{Found, Who};
use crate::daemon::engine::Engine;
use crate::daemon::ledger;
use crate::daemon::peer::Answer;
use crate::daemon::quotas::{Payer, TooFast};
use crate::daemon::refuse::{no_directory, unknown_name};
use crate::daemon::serve::{Exchange, Next};
use crate::daemon::{Daemon, unix_now};
use crate::issue::IssueError;
use crate::keys::Algorithm;
use crate::policy::{Grant, Names};
use crate::token::compact::Claims;
use crate::token::lifespan::Asked;
use crate::wire::{Code, Issued, Refusal};

/// How long a grant waits for a log that is full, before it's refused.
pub(super) const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// How often it tries.
pub(super) const LOG_RETRY: Duration = Duration::from_millis(2);
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
        self.quotas.take(payer, rate, exchange.peer.begun())
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
        self.find(exchange, sought, |daemon, exchange, target| match target {
            Ok(target) => daemon.decide(exchange, facts, Some(target)),
            Err(why) => daemon.refuse(exchange, Some(&facts.caller), &no_directory(why)),
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
            let refusal = unknown_name(Some(name));
            return self.refuse(exchange, Some(caller), &refusal);
        }
        let target = target.flatten();
        let target = target.as_deref();
        let policy = &exchange.engine.config.policy;
        let door = exchange.peer.caller().door;
        let decided = self
            .refuse_blocked(caller, target)
            .and_then(|()| match wanted {
                Wanted::Token(asked) => policy.decide_at(door, names, caller, target, *asked),
                Wanted::InPlaceOf(old) => {
                    policy.renew(door, names, caller, target, old, unix_now())
                }
            });
        match decided {
            Ok(grant) => self.sign(exchange, facts, grant),
            Err(refusal) => self.refuse(exchange, Some(caller), &refusal),
        }
    }

    /// Signs: an HMAC at once, an RSA signature when it's this user's turn.
    pub(super) fn sign(self: &Arc<Self>, exchange: Exchange, facts: Facts, grant: Grant) -> Next {
        let issuer = exchange.engine.keys.issuer(&grant);
        match issuer.map(|issuer| issuer.key().algorithm()) {
            Some(Algorithm::Rs256) => self.in_turn(exchange, |daemon, exchange| {
                daemon.finish(exchange, facts, grant)
            }),
            Some(Algorithm::Hs256) | None => self.finish(exchange, facts, grant),
        }
    }

    /// Signs, records and hands over.
    fn finish(self: &Arc<Self>, exchange: Exchange, facts: Facts, grant: Grant) -> Next {
        let keys = &exchange.engine.keys;
        let issued = keys
            .issuer(&grant)
            .ok_or(IssueError::Fault)
            .and_then(|issuer| Ok((issuer.key().kid(), issuer.issue(&grant, unix_now())?)));
        let (kid, mut token) = match issued {
            Ok(issued) => issued,
            Err(error) => {
                if let IssueError::TooLarge(bytes) = error {
                    let (uid, name) = (grant.uid(), grant.subject());
                    let unusual = self.ledger.outgrown(uid, name, bytes, unix_now());
                    self.tell_unusual(uid, unusual);
                }
                return self.refuse(exchange, Some(&facts.caller), &not_issued(error));
            }
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
            self.record_granted(exchange, made)
        } else {
            self.record_within_reach(exchange, made)
        }
    }

    /// The token would outlive what is on record of its key: raises the record
    /// first, or gives no token.
    fn record_within_reach(self: &Arc<Self>, exchange: Exchange, made: Made) -> Next {
        self.later(exchange, async move |daemon, exchange| {
            let exp = made.issued.expires_at;
            if daemon.reach(&exchange.engine, exp).await {
                daemon.record_granted(exchange, made)
            } else {
                daemon.refuse(exchange, Some(&made.facts.caller), &not_on_record())
            }
        })
    }

    /// Records, then answers: without the record no token leaves.
    fn record_granted(self: &Arc<Self>, exchange: Exchange, made: Made) -> Next {
        match self.record_unless_blocked(&exchange, &made) {
            Ok(recorded) => self.hand_over_or_refuse(exchange, &made, recorded),
            Err(NotRecorded::Full) if exchange.engine.config.audit.required => {
                self.wait_for_log(exchange, made)
            }
            Err(why) => self.unrecorded(exchange, &why, &made),
        }
    }

    /// Records a token, unless its caller or whom it's for is blocked by now: it
    /// may have waited for its turn, for the disk or for the log. Then nothing
    /// is recorded, and what comes back is the refusal.
    fn record_unless_blocked(
        &self,
        exchange: &Exchange,
        made: &Made,
    ) -> Result<Result<(), Refusal>, NotRecorded> {
        let Made { facts, grant, .. } = made;
        let caller = (facts.caller.uid, facts.caller.name.as_str());
        let subject = (grant.uid(), grant.subject());
        let recorded = self.blocks.unless_blocked([caller, subject], || {
            exchange.engine.recorder.record(&made.event(exchange))
        });
        match recorded {
            Ok(recorded) => recorded.map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn hand_over_or_refuse(
        self: &Arc<Self>,
        exchange: Exchange,
        made: &Made,
        recorded: Result<(), Refusal>,
    ) -> Next {
        match recorded {
            Ok(()) => self.hand_over(exchange, made),
            Err(refusal) => self.refuse(exchange, Some(&made.facts.caller), &refusal),
        }
    }

    /// Enters the token in the ledger, and answers with it.
    fn hand_over(self: &Arc<Self>, exchange: Exchange, made: &Made) -> Next {
        let Made { grant, issued, .. } = made;
        let Caller { uid, pid, .. } = exchange.peer.caller();
        let token = ledger::Token {
            user: grant.subject(),
            uid: grant.uid(),
            exp: issued.expires_at,
            service: grant.delegate().map(|name| (uid, name)),
            pid,
        };
        let lifespan = u64::from(grant.lifespan().seconds());
        let note = self
            .ledger
            .issued(&token, issued.expires_at.saturating_sub(lifespan));
        if note.look {
            self.lookout.look(self, &exchange.peer);
        }
        self.tell_unusual(uid, note.unusual);
        self.metrics.issued();
        self.answer(exchange.peer, Answer::Token(issued))
    }

    /// The log takes no more just now: tries again for a while. One after the
    /// other: a full log is no reason for thousands to try all the time.
    fn wait_for_log(self: &Arc<Self>, exchange: Exchange, made: Made) -> Next {
        self.later(exchange, async move |daemon, exchange| {
            daemon.metrics.record_waited();
            let attempt = || daemon.record_unless_blocked(&exchange, &made);
            let recorded = daemon.record_in_time(&exchange.engine, attempt).await;
            match recorded {
                Ok(recorded) => daemon.hand_over_or_refuse(exchange, &made, recorded),
                Err(why) => daemon.unrecorded(exchange, &why, &made),
            }
        })
    }

    /// Hands a record over, with patience for a log that is full.
    pub(super) async fn record_in_time<T>(
        &self,
        engine: &Engine,
        attempt: impl Fn() -> Result<T, NotRecorded>,
    ) -> Result<T, NotRecorded> {
        let until = Instant::now() + LOG_PATIENCE;
        let turn = tokio::time::timeout_at(until.into(), self.log_turn.lock()).await;
        let mut looked = Instant::now();
        loop {
            match attempt() {
                Err(NotRecorded::Full) if turn.is_ok() && Instant::now() < until => {
                    tokio::time::sleep(LOG_RETRY).await;
                    if looked.elapsed() >= LOG_RENEWAL {
                        looked = Instant::now();
                        engine.recorder.look_again();
                    }
                }
                recorded => return recorded,
            }
        }
    }

    fn unrecorded(self: &Arc<Self>, exchange: Exchange, why: &NotRecorded, made: &Made) -> Next {
        self.complain_of_loss(why);
        if exchange.engine.config.audit.required {
            let refusal = audit_unavailable("no token was issued");
            self.count_refusal(None, refusal.code);
            return self.answer(exchange.peer, Answer::Refused(&refusal));
        }
        self.hand_over(exchange, made)
    }
}

pub(super) fn audit_unavailable(so: &str) -> Refusal {
    Refusal::new(
        Code::AuditUnavailable,
        format!("The audit record could not be handed over, so {so}."),
        "Try again in a moment; if it lasts, ask your administrator to look at the system's log.",
    )
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
