//! What administrators ask: how the daemon is, who holds tokens, who is to be
//! blocked. Root is one, even while the account service hangs, and so is each
//! member of the one group; others may ask who holds tokens of their own.

use std::sync::Arc;
use std::time::Instant;

use crate::account::{Account, LONGEST_NAME, NO_UID};
use crate::audit::{Event, Outcome};
use crate::block::{BadReason, Block, LONGEST_REASON, judge_reason};
use crate::daemon::blocks::NotKept;
use crate::daemon::directory::Who;
use crate::daemon::grant::audit_unavailable;
use crate::daemon::ledger::Unusual;
use crate::daemon::peer::Answer;
use crate::daemon::quotas::Payer;
use crate::daemon::refuse::{no_directory, unknown_name};
use crate::daemon::serve::{Exchange, Next};
use crate::daemon::{Daemon, say, unix_now};
use crate::policy::Names;
use crate::wire::{
    self, Blocked, Code, Holder, KeyStatus, MAX_ANSWER, Metrics, Refusal, Request, Sessions,
    Status, Unblocked,
};

/// So much of an answer is for its users, in bytes; the rest is for what
/// stands around them.
const ROOM_FOR_USERS: usize = MAX_ANSWER - 1024;

/// Who asks, as far as it's known.
type Asker = Option<Arc<Account>>;

impl Daemon {
    /// Root asks: it needs no account to be told apart.
    pub(super) fn administer_as_root(self: &Arc<Self>, exchange: Exchange) -> Next {
        let sought = exchange.sought(Who::Uid(0));
        let root = self.directory.remembered(&sought, Instant::now());
        self.administer(exchange, root.flatten())
    }

    /// Somebody else asks, who may be an administrator.
    pub(super) fn administer_as(
        self: &Arc<Self>,
        exchange: Exchange,
        caller: Arc<Account>,
        names: &Names,
    ) -> Next {
        let limits = &exchange.engine.config.limits;
        let payer = Payer::User(caller.uid);
        if let Err(fast) = self.quotas.take(payer, limits.tokens, Instant::now()) {
            return self.refuse_fast(exchange, Some(&caller), fast);
        }
        let policy = &exchange.engine.config.policy;
        let own = match &exchange.request {
            Request::Sessions { user, .. } => user.as_ref().is_none_or(|u| *u == caller.name),
            _ => false,
        };
        if policy.is_administrator(names, &caller) {
            // A stolen account of an administrator's must not unblock itself.
            return match self.refuse_blocked(&caller, None) {
                Ok(()) => self.administer(exchange, Some(caller)),
                Err(refusal) => self.refuse(exchange, Some(&caller), &refusal),
            };
        }
        if own {
            let answer = self.sessions(Some(caller.uid), None, None);
            return self.done(exchange, Some(&caller), &answer);
        }
        let refusal = Refusal::new(
            Code::NotAllowed,
            format!(
                "Only root and members of {} may ask for this, and {} is neither.",
                policy.admin_group, caller.name
            ),
            "Everybody may ask for their own sessions. Your administrator sets admin_group in slurm-tokend.toml.",
        );
        self.refuse(exchange, Some(&caller), &refusal)
    }

    /// Does what an administrator asks for.
    fn administer(self: &Arc<Self>, exchange: Exchange, asker: Asker) -> Next {
        match &exchange.request {
            Request::Sessions { user, after } => {
                let answer = self.sessions(None, user.as_deref(), *after);
                self.done(exchange, asker.as_deref(), &answer)
            }
            Request::Block {
                user,
                duration,
                reason,
            } => {
                let bad = reason.as_deref().and_then(|r| judge_reason(r).err());
                if let Some(refusal) = bad.map(bad_reason) {
                    return self.refuse_administrator(exchange, asker.as_deref(), &refusal);
                }
                if user.len() > LONGEST_NAME || user.contains(char::is_control) {
                    let refusal = unknown_name(Some(user));
                    return self.refuse_administrator(exchange, asker.as_deref(), &refusal);
                }
                let now = unix_now();
                let wanted = Block {
                    user: user.clone(),
                    uid: NO_UID,
                    since: now,
                    // An end beyond all numbers is none.
                    until: duration.and_then(|seconds| now.checked_add(seconds)),
                    by: name_of(asker.as_deref(), exchange.peer.caller().uid),
                    reason: reason.clone().filter(|reason| !reason.is_empty()),
                };
                let sought = exchange.sought(Who::Name(user.clone()));
                self.later(exchange, async move |daemon, exchange| {
                    let limits = exchange.engine.config.limits.clone();
                    let refusal = match daemon.directory.account(sought, &limits).await {
                        Ok(Some(target)) => {
                            let block = Block {
                                uid: target.uid,
                                ..wanted
                            };
                            return daemon.block(exchange, asker, block).await;
                        }
                        Ok(None) => unknown_name(exchange.request.target()),
                        Err(why) => no_directory(why),
                    };
                    daemon.refuse_administrator(exchange, asker.as_deref(), &refusal)
                })
            }
            Request::Unblock { user } => {
                let sought = exchange.sought(Who::Name(user.clone()));
                self.later(exchange, async move |daemon, exchange| {
                    let limits = exchange.engine.config.limits.clone();
                    // A name that leads nowhere now may have been blocked before.
                    let found = daemon.directory.account(sought, &limits).await;
                    let uid = found.ok().flatten().map(|account| account.uid);
                    daemon.unblock(exchange, asker, uid).await
                })
            }
            Request::Metrics { format } => {
                let text = self.exposition(&exchange.engine, *format);
                // Asked for every minute, and nobody's secret: not recorded.
                self.answer(exchange.peer, Answer::Metrics(&Metrics { text }))
            }
            _ => {
                let answer = self.status(&exchange);
                self.done(exchange, asker.as_deref(), &answer)
            }
        }
    }

    async fn block(self: &Arc<Self>, exchange: Exchange, asker: Asker, block: Block) -> Next {
        let kept = self.keep(&block, |daemon, block| {
            daemon.blocks.block(&daemon.state, block.clone())
        });
        if let Err(why) = kept.await {
            let refusal = why.refusal(&block.user, true);
            return self.refuse_administrator(exchange, asker.as_deref(), &refusal);
        }
        let until = block.until.map(|until| until.to_string());
        let mut facts = vec![("until", until.unwrap_or_default())];
        facts.extend(block.reason.clone().map(|reason| ("reason", reason)));
        let engine = &exchange.engine;
        let attempt = || {
            let event = done_event(&exchange, asker.as_deref(), &facts);
            engine.recorder.record(&event)
        };
        if let Err(why) = self.record_in_time(engine, attempt).await {
            // To block is never refused for want of a record.
            self.complain_of_loss(&why);
        }
        let now = block.since;
        let holder = self.ledger.holder(block.uid, now);
        let answer = Blocked {
            live_tokens: holder.as_ref().map_or(0, |holder| holder.live_tokens),
            latest_expiry: holder.and_then(|holder| holder.latest_expiry),
            since: self.ledger.since(),
            longest_lifespan: engine.config.policy.longest_lifespan().seconds(),
            kid: engine.keys.main().key().kid().as_str().to_owned(),
            block,
        };
        self.answer(exchange.peer, Answer::Line(wire::ok_line(&answer)))
    }

    async fn unblock(self: &Arc<Self>, exchange: Exchange, asker: Asker, uid: Option<u32>) -> Next {
        let name = exchange.request.target().unwrap_or_default().to_owned();
        let uid = uid.or_else(|| name.parse().ok());
        let lifted = self
            .keep(&(name.clone(), uid), |daemon, (name, uid)| {
                let (blocks, state) = (&daemon.blocks, &daemon.state);
                blocks.unblock(state, name, *uid, unix_now())
            })
            .await;
        let lifted = match lifted {
            Ok(lifted) if lifted.is_empty() => {
                let refusal = Refusal::new(
                    Code::UnknownUser,
                    format!("{} is not blocked.", wire::shorten(&name)),
                    "slurm-tokenctl sessions shows who is.",
                );
                return self.refuse_administrator(exchange, asker.as_deref(), &refusal);
            }
            Ok(lifted) => lifted,
            Err(why) => {
                let refusal = why.refusal(&name, false);
                return self.refuse_administrator(exchange, asker.as_deref(), &refusal);
            }
        };
        let recorded = self
            .record_in_time(&exchange.engine, || {
                let event = done_event(&exchange, asker.as_deref(), &[]);
                exchange.engine.recorder.record(&event)
            })
            .await;
        if let Err(why) = recorded {
            self.complain_of_loss(&why);
            if exchange.engine.config.audit.required {
                for block in &lifted {
                    // It was on the disk before; where that fails now, it's in force.
                    let _ = self
                        .keep(block, |daemon, block| {
                            daemon.blocks.block(&daemon.state, block.clone())
                        })
                        .await;
                }
                return self.answer(
                    exchange.peer,
                    Answer::Refused(&audit_unavailable("nobody was let in again")),
                );
            }
        }
        self.answer(
            exchange.peer,
            Answer::Line(wire::ok_line(&Unblocked { lifted })),
        )
    }

    /// Changes what is on the disk, where that may take its time.
    async fn keep<A, T>(
        self: &Arc<Self>,
        argument: &A,
        change: impl FnOnce(&Self, &A) -> Result<T, NotKept> + Send + 'static,
    ) -> Result<T, NotKept>
    where
        A: Clone + Send + 'static,
        T: Send + 'static,
    {
        let (daemon, argument) = (Arc::clone(self), argument.clone());
        let changed = tokio::task::spawn_blocking(move || change(&daemon, &argument)).await;
        changed.unwrap_or(Err(NotKept::Stopped))
    }

    /// Answers, once the record was attempted.
    fn done<T: serde::Serialize>(
        self: &Arc<Self>,
        exchange: Exchange,
        asker: Option<&Account>,
        answer: &T,
    ) -> Next {
        let event = done_event(&exchange, asker, &[]);
        if let Err(why) = exchange.engine.recorder.record(&event) {
            self.complain_of_loss(&why);
        }
        self.answer(exchange.peer, Answer::Line(wire::ok_line(answer)))
    }

    fn refuse_administrator(
        self: &Arc<Self>,
        exchange: Exchange,
        asker: Option<&Account>,
        refusal: &Refusal,
    ) -> Next {
        self.metrics.refused(refusal.code);
        self.record_refusal(&exchange, asker, refusal.code, 0);
        self.answer(exchange.peer, Answer::Refused(refusal))
    }

    /// The users by their uid: those whom the ledger knows, and those who are
    /// blocked; as many as one answer holds.
    fn sessions(&self, only: Option<u32>, name: Option<&str>, after: Option<u32>) -> Sessions {
        let now = unix_now();
        let blocks = self.blocks.in_force();
        let mut uids = match only {
            Some(uid) => vec![uid],
            None => self.ledger.uids_after(after),
        };
        if only.is_none() {
            let blocked = blocks.all(now).map(|block| block.uid);
            uids.extend(blocked.filter(|uid| after.is_none_or(|after| after < *uid)));
            uids.sort_unstable();
            uids.dedup();
        }
        let mut sessions = Sessions {
            since: self.ledger.since(),
            users: Vec::new(),
            more_after: None,
            forgotten: self.ledger.totals(now).forgotten,
        };
        let mut room = ROOM_FOR_USERS;
        for uid in uids {
            let known = self.ledger.holder(uid, now);
            let block = match &known {
                Some(holder) => blocks.of(uid, &holder.user, now),
                None => blocks.of_uid(uid, now),
            };
            let mut holder = match (known, block) {
                (Some(holder), _) => holder,
                (None, Some(block)) => Holder::unknown(uid, &block.user),
                (None, None) => continue,
            };
            // Why, and by whom, is for administrators to know.
            holder.blocked = block.filter(|_| only.is_none()).cloned();
            let is_meant = name.is_none_or(|name| {
                holder.user == name
                    || block.is_some_and(|block| block.user == name)
                    || name.parse() == Ok(uid)
            });
            if !is_meant {
                continue;
            }
            let size = serde_json::to_vec(&holder).map_or(usize::MAX, |json| json.len() + 1);
            if size > room && !sessions.users.is_empty() {
                sessions.more_after = sessions.users.last().map(|last| last.uid);
                break;
            }
            room = room.saturating_sub(size);
            sessions.users.push(holder);
        }
        sessions
    }

    fn status(&self, exchange: &Exchange) -> Status {
        let now = unix_now();
        let engine = &exchange.engine;
        let key = engine.keys.main().key();
        let totals = self.ledger.totals(now);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.ledger.since(),
            configuration: engine.config.path.display().to_string(),
            configured_at: engine.since,
            key: KeyStatus {
                kid: key.kid().as_str().to_owned(),
                algorithm: key.algorithm().as_str().to_owned(),
                changed_at: engine.key_changed_at(),
                last_expiry: totals.latest_expiry,
            },
            connections: self.quotas.connections(),
            connections_limit: engine.config.limits.room.connections,
            signatures_waiting: self.signers.waiting(),
            lookups: self.directory.under_way(),
            users: totals.users,
            live_tokens: totals.live_tokens,
            issued: totals.issued,
            forgotten: totals.forgotten,
            blocked: self.blocks.in_force().all(now).count(),
            audit_trouble: engine.recorder.check().err().map(|why| why.to_string()),
            audit_lost: self.metrics.records_lost(),
        }
    }

    /// Says what is out of the ordinary, which the ledger tells once in a while.
    pub(super) fn tell_unusual(&self, uid: u32, unusual: Option<Unusual>) {
        let Some(unusual) = unusual else { return };
        let holder = self.ledger.holder(uid, unix_now());
        let name = holder.map(|holder| holder.user).unwrap_or_default();
        say(format_args!(
            "unusual: {} (uid {uid}): {unusual}; see: slurm-tokenctl sessions {uid}",
            name.escape_default()
        ));
    }
}

fn name_of(asker: Option<&Account>, uid: u32) -> String {
    match asker {
        Some(account) => account.name.clone(),
        None if uid == 0 => "root".to_owned(),
        None => uid.to_string(),
    }
}

fn done_event<'a>(
    exchange: &'a Exchange,
    asker: Option<&'a Account>,
    facts: &'a [(&'static str, String)],
) -> Event<'a> {
    exchange.event(asker, Outcome::Done { facts })
}

fn bad_reason(why: BadReason) -> Refusal {
    let what = match why {
        BadReason::TooLong => format!("The reason has more than {LONGEST_REASON} bytes."),
        BadReason::Control => "The reason has a control character, such as a line end.".to_owned(),
    };
    Refusal::new(
        Code::MalformedRequest,
        what,
        "Give one short line, or a ticket's number.",
    )
}
