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
use crate::daemon::quotas::Payer;
use crate::daemon::refuse::{no_directory, unknown_name};
use crate::daemon::serve::{Exchange, Next};
use crate::daemon::{Daemon, unix_now};
use crate::issue::{IssueError, Token};
use crate::keys::Algorithm;
use crate::policy::{Grant, Names};
use crate::token::lifespan::Asked;
use crate::wire::{self, Code, Issued, Refusal};

/// How long a grant waits for a log that is full, before it's refused.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// How often it tries.
const LOG_RETRY: Duration = Duration::from_millis(2);
/// How often it looks whether another log has taken the place of the full one.
const LOG_RENEWAL: Duration = Duration::from_millis(100);

/// What a decision goes by.
struct Facts {
    names: Arc<Names>,
    caller: Arc<Account>,
    asked: Asked,
}

/// A token, and what there is to say of it; nobody has it yet.
struct Made {
    account: Arc<Account>,
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
        };
        exchange.event(Some(&self.account), outcome)
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
        let payer = Payer::User(caller.uid);
        let limits = &exchange.engine.config.limits;
        let now = exchange
            .connection
            .begun
            .map_or_else(Instant::now, |(at, _)| at);
        if let Err(fast) = self.quotas.take(payer, limits, now) {
            return self.refuse_fast(exchange, &caller, fast);
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
        let facts = Facts {
            names,
            caller,
            asked,
        };
        match exchange.request.target() {
            Some(name) if name != facts.caller.name => {
                let name = name.to_owned();
                self.learn_target(exchange, facts, name)
            }
            _ => self.decide(exchange, &facts, None),
        }
    }

    /// Learns whom a service asks for. Nobody else's word makes us look up a
    /// name: it would be everybody's way to keep the account service busy.
    fn learn_target(self: &Arc<Self>, exchange: Exchange, facts: Facts, name: String) -> Next {
        let policy = &exchange.engine.config.policy;
        let may_ask = policy
            .judge(&name)
            .and_then(|()| policy.delegate(&facts.caller));
        if let Err(refusal) = may_ask {
            return self.refuse(exchange, Some(&facts.caller), &refusal);
        }
        let sought = exchange.sought(Who::Name(name));
        if let Some(target) = self.directory.remembered(&sought, Instant::now()) {
            return self.decide(exchange, &facts, Some(target));
        }
        self.later(exchange, async move |daemon, exchange| {
            let limits = exchange.engine.config.limits.clone();
            match daemon.directory.account(sought, &limits).await {
                Ok(target) => daemon.decide(exchange, &facts, Some(target)),
                Err(why) => daemon.refuse(exchange, Some(&facts.caller), &no_directory(why)),
            }
        })
    }

    /// Decides: the policy gives a grant, to the caller or for the target.
    fn decide(self: &Arc<Self>, exchange: Exchange, facts: &Facts, target: Option<Found>) -> Next {
        let Facts {
            names,
            caller,
            asked,
        } = facts;
        if let (Some(None), Some(name)) = (&target, exchange.request.target()) {
            let refusal = unknown_name(Some(name));
            return self.refuse(exchange, Some(caller), &refusal);
        }
        let target = target.flatten();
        let policy = &exchange.engine.config.policy;
        let decided = self
            .refuse_blocked(caller, target.as_deref())
            .and_then(|()| policy.decide(names, caller, target.as_deref(), *asked));
        match decided {
            Ok(grant) => self.sign(exchange, Arc::clone(caller), grant),
            Err(refusal) => self.refuse(exchange, Some(caller), &refusal),
        }
    }

    /// Signs: an HMAC at once, an RSA signature when it's this user's turn.
    fn sign(self: &Arc<Self>, exchange: Exchange, account: Arc<Account>, grant: Grant) -> Next {
        match exchange.engine.issuer.key().algorithm() {
            Algorithm::Hs256 => {
                let result = exchange.engine.issuer.issue(&grant, unix_now());
                self.finish(exchange, account, grant, result)
            }
            Algorithm::Rs256 => {
                let daemon = Arc::clone(self);
                self.hand_on(exchange, move |exchange| {
                    let signers = Arc::clone(&daemon.signers);
                    signers.submit(account.uid, move || {
                        let result = exchange.engine.issuer.issue(&grant, unix_now());
                        if let Some(next) = daemon.finish(exchange, account, grant, result) {
                            daemon.advance(next);
                        }
                    });
                })
            }
        }
    }

    /// Records, then answers: without the record no token leaves.
    fn finish(
        self: &Arc<Self>,
        exchange: Exchange,
        account: Arc<Account>,
        grant: Grant,
        result: Result<Token, IssueError>,
    ) -> Next {
        let mut token = match result {
            Ok(token) => token,
            Err(error) => return self.refuse(exchange, Some(&account), &not_issued(error)),
        };
        // Whoever was blocked while this waited for its turn gets nothing either.
        if let Some(refusal) = self.blocked_meanwhile(&account, &grant) {
            return self.refuse(exchange, Some(&account), &refusal);
        }
        if !exchange.engine.horizon.reaches(token.exp) {
            return self.finish_within_reach(exchange, account, grant, token);
        }
        let made = Made {
            account,
            issued: Issued {
                user: grant.subject().to_owned(),
                expires_at: token.exp,
                kid: exchange.engine.issuer.key().kid().as_str().to_owned(),
                jti: token.jti,
                token: std::mem::take(&mut *token.compact),
            },
            grant,
        };
        match exchange.engine.recorder.record(&made.event(&exchange)) {
            Ok(()) => self.hand_over(exchange, &made),
            Err(NotRecorded::Full) if exchange.engine.config.audit.required => {
                self.wait_for_log(exchange, made)
            }
            Err(why) => self.unrecorded(exchange, &why, &made),
        }
    }

    /// The refusal where the caller, or whom the token is for, is blocked by now.
    fn blocked_meanwhile(&self, account: &Account, grant: &Grant) -> Option<Refusal> {
        self.blocks
            .refusal(account.uid, &account.name)
            .or_else(|| self.blocks.refusal(grant.uid(), grant.subject()))
    }

    /// Enters the token in the ledger, and answers with it.
    fn hand_over(self: &Arc<Self>, exchange: Exchange, made: &Made) -> Next {
        let Made { grant, issued, .. } = made;
        let Caller { uid, pid } = exchange.connection.caller;
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
            self.lookout.look(self, &exchange.connection);
        }
        self.tell_unusual(uid, note.unusual);
        self.metrics.issued();
        self.answer(exchange.connection, wire::issued_line(issued))
    }

    /// The token would outlive what is on record of its key: raises the record
    /// first, or gives no token.
    fn finish_within_reach(
        self: &Arc<Self>,
        exchange: Exchange,
        account: Arc<Account>,
        grant: Grant,
        token: Token,
    ) -> Next {
        self.later(exchange, async move |daemon, exchange| {
            if daemon.reach(&exchange.engine, token.exp).await {
                daemon.finish(exchange, account, grant, Ok(token))
            } else {
                daemon.refuse(exchange, Some(&account), &not_on_record())
            }
        })
    }

    /// The log takes no more just now: tries again for a while. One after the
    /// other: a full log is no reason for thousands to try all the time.
    fn wait_for_log(self: &Arc<Self>, exchange: Exchange, made: Made) -> Next {
        self.later(exchange, async move |daemon, exchange| {
            let event = || made.event(&exchange);
            let recorded = daemon.record_in_time(&exchange.engine, event).await;
            // A block that came meanwhile is newer than the record.
            if let Some(refusal) = daemon.blocked_meanwhile(&made.account, &made.grant) {
                return daemon.refuse(exchange, Some(&made.account), &refusal);
            }
            match recorded {
                Ok(()) => daemon.hand_over(exchange, &made),
                Err(why) => daemon.unrecorded(exchange, &why, &made),
            }
        })
    }

    /// Hands a record over, with patience for a log that is full.
    pub(super) async fn record_in_time<'a>(
        &self,
        engine: &Engine,
        event: impl Fn() -> Event<'a>,
    ) -> Result<(), NotRecorded> {
        let until = Instant::now() + LOG_PATIENCE;
        let turn = tokio::time::timeout_at(until.into(), self.log_turn.lock()).await;
        let mut looked = Instant::now();
        self.metrics.record_waited();
        loop {
            match engine.recorder.record(&event()) {
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
            return self.answer(exchange.connection, wire::refusal_line(&refusal));
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
