//! One request, top to bottom: read it, learn who asks, decide, sign, record,
//! answer. Each step either goes on at once or hands the connection on to who
//! may take time: the runtime for accounts and for a full log, the signers for
//! RSA. A connection is in one place at a time.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::account::Account;
use crate::audit::{Event, NotRecorded, Outcome};
use crate::caller::Caller;
use crate::daemon::connection::{Connection, Fill, Line};
use crate::daemon::directory::{Found, Unavailable, Who};
use crate::daemon::engine::Engine;
use crate::daemon::front::unfinished;
use crate::daemon::quotas::{Full, Payer, TooFast};
use crate::daemon::{Daemon, unix_now};
use crate::issue::{IssueError, Token};
use crate::keys::Algorithm;
use crate::policy::{Bounds, Grant, Names};
use crate::token::lifespan::Asked;
use crate::wire::{self, Code, Issued, LifespanWord, Pong, Refusal, Request, Standing};

/// How long a grant waits for a log that is full, before it's refused.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// How often it tries.
const LOG_RETRY: Duration = Duration::from_millis(2);

/// What is known of the accounts that a request is about.
struct Facts {
    names: Arc<Names>,
    caller: Found,
    /// None where the request is about the caller alone, or where the caller
    /// may not ask for others.
    target: Found,
}

/// A request, and who made it.
struct Exchange {
    engine: Arc<Engine>,
    connection: Connection,
    request: Request,
}

/// The connection goes on here, or somebody else has it now.
type Next = Option<Connection>;

impl Daemon {
    /// Takes in a connection, or tells the peer why not.
    pub(super) fn admit(self: &Arc<Self>, stream: UnixStream) -> Option<Connection> {
        let caller = Caller::of(&stream).ok()?;
        let engine = self.engine();
        let remembered = self
            .directory
            .remembered(&Who::Uid(caller.uid), Instant::now());
        let known = matches!(remembered, Some(Some(_)));
        match self.quotas.admit(caller.uid, known, &engine.config.limits) {
            Ok(seat) => {
                if remembered.is_none() {
                    self.introduce(caller.uid, engine);
                }
                Some(Connection::new(stream, caller, seat))
            }
            Err(full) => {
                turn_away(&stream, &no_seat(full));
                None
            }
        }
    }

    /// Finds out whether a uid has an account, so that it leaves the quota of
    /// those without.
    fn introduce(self: &Arc<Self>, uid: u32, engine: Arc<Engine>) {
        let daemon = Arc::clone(self);
        self.runtime.spawn(async move {
            let config = &engine.config;
            let names = config.policy.identity_claims;
            let found = daemon
                .directory
                .account(Who::Uid(uid), names, &config.limits)
                .await;
            if let Ok(Some(_)) = found {
                daemon.quotas.settle(uid);
            }
        });
    }

    /// Serves what has arrived on a connection, then lets it wait for more.
    pub(super) fn advance(self: &Arc<Self>, mut connection: Connection) {
        loop {
            match connection.line() {
                Line::Whole(line) => match self.serve(connection, &line) {
                    Some(next) => connection = next,
                    None => return,
                },
                Line::TooLong => return self.end(connection, &too_long()),
                Line::Incomplete if connection.fresh => {
                    connection.fresh = false;
                    match connection.fill() {
                        Ok(Fill::Data) => {}
                        Ok(Fill::End) if connection.is_midway() => {
                            return self.end(connection, &unfinished());
                        }
                        Ok(Fill::End) | Err(_) => return,
                        Ok(Fill::Nothing) => return self.fronts.park(self, connection),
                    }
                }
                Line::Incomplete => return self.fronts.park(self, connection),
            }
        }
    }

    /// Tells the peer what was wrong, and ends the connection.
    pub(super) fn end(self: &Arc<Self>, mut connection: Connection, refusal: &Refusal) {
        self.record_unread(&connection, refusal.code);
        let _ = connection.send(Zeroizing::new(wire::refusal_line(refusal)));
    }

    fn serve(self: &Arc<Self>, connection: Connection, line: &[u8]) -> Next {
        let engine = self.engine();
        let request = match Request::parse(line) {
            Ok(request) => request,
            Err(refusal) => {
                self.record_unread(&connection, refusal.code);
                return self.answer(connection, wire::refusal_line(&refusal));
            }
        };
        match request {
            Request::Ping => self.answer(connection, pong()),
            Request::Jwks => self.answer(connection, engine.jwks_answer.clone()),
            Request::Whoami | Request::Issue { .. } => self.learn(Exchange {
                engine,
                connection,
                request,
            }),
        }
    }

    /// Learns the accounts: from memory, or by looking them up meanwhile.
    fn learn(self: &Arc<Self>, exchange: Exchange) -> Next {
        let policy = &exchange.engine.config.policy;
        if let Some(Err(refusal)) = exchange.target().map(|name| policy.judge(name)) {
            return self.refuse(exchange, None, &refusal);
        }
        if let Some(facts) = self.remembered(&exchange) {
            return self.decide(exchange, &facts);
        }
        let daemon = Arc::clone(self);
        self.hand_on(exchange, move |exchange| {
            daemon.runtime.clone().spawn(async move {
                let next = match daemon.look_up(&exchange).await {
                    Ok(facts) => daemon.decide(exchange, &facts),
                    Err(why) => daemon.refuse(exchange, None, &no_directory(why)),
                };
                if let Some(connection) = next {
                    daemon.advance(connection);
                }
            });
        })
    }

    fn remembered(&self, exchange: &Exchange) -> Option<Facts> {
        let now = Instant::now();
        let directory = &self.directory;
        let caller = directory.remembered(&Who::Uid(exchange.connection.caller.uid), now)?;
        let target = match exchange.whom_to_look_up(&caller) {
            Some(who) => directory.remembered(&who, now)?,
            None => None,
        };
        Some(Facts {
            caller,
            names: directory.remembered_names(exchange.engine.generation, now)?,
            target,
        })
    }

    async fn look_up(&self, exchange: &Exchange) -> Result<Facts, Unavailable> {
        let config = &exchange.engine.config;
        let group_names = config.policy.identity_claims;
        let account = |who| self.directory.account(who, group_names, &config.limits);
        let generation = exchange.engine.generation;
        let (caller, names) = tokio::join!(
            account(Who::Uid(exchange.connection.caller.uid)),
            self.directory
                .names(generation, &config.policy, &config.limits)
        );
        let caller = caller?;
        let target = match exchange.whom_to_look_up(&caller) {
            Some(who) => account(who).await?,
            None => None,
        };
        Ok(Facts {
            caller,
            names: names?,
            target,
        })
    }

    /// Decides: the caller has an account, its rate allows one more, the
    /// policy gives a grant.
    fn decide(self: &Arc<Self>, exchange: Exchange, facts: &Facts) -> Next {
        let uid = exchange.connection.caller.uid;
        let Some(account) = &facts.caller else {
            return self.refuse(exchange, None, &no_account(uid));
        };
        self.quotas.settle(uid);
        let policy = &exchange.engine.config.policy;
        let Request::Issue { lifespan, .. } = &exchange.request else {
            let standing = standing(&exchange.engine, &facts.names, account);
            return self.answer(exchange.connection, wire::ok_line(&standing));
        };
        let payer = Payer::User(uid);
        if let Err(fast) = self
            .quotas
            .take(payer, &exchange.engine.config.limits, Instant::now())
        {
            return self.refuse_fast(exchange, account, fast);
        }
        let asked = match Asked::from_word(lifespan.as_ref()) {
            Ok(asked) => asked,
            Err(bad) => {
                let refusal = Refusal::new(
                    Code::BadLifespan,
                    format!("{bad}."),
                    "Give seconds, or a lifespan such as 30m, 12h, 1-00:00:00, or max.",
                );
                return self.refuse(exchange, Some(account), &refusal);
            }
        };
        let target = match (exchange.another(account), &facts.target) {
            (None, _) => Ok(None),
            (Some(_), Some(target)) => Ok(Some(target.as_ref())),
            (Some(name), None) => Err(policy
                .may_ask_for_others(account)
                .err()
                .unwrap_or_else(|| no_account_of(name))),
        };
        let decided = target.and_then(|target| policy.decide(&facts.names, account, target, asked));
        match decided {
            Ok(grant) => self.sign(exchange, Arc::clone(account), grant),
            Err(refusal) => self.refuse(exchange, Some(account), &refusal),
        }
    }

    /// Signs: an HMAC at once, an RSA signature when it's this user's turn.
    fn sign(self: &Arc<Self>, exchange: Exchange, account: Arc<Account>, grant: Grant) -> Next {
        match exchange.engine.issuer.key().algorithm() {
            Algorithm::Hs256 => {
                let result = exchange.engine.issuer.issue(&grant, unix_now());
                self.finish(exchange, &account, &grant, result)
            }
            Algorithm::Rs256 => {
                let daemon = Arc::clone(self);
                self.hand_on(exchange, move |exchange| {
                    let signers = Arc::clone(&daemon.signers);
                    signers.submit(account.uid, move || {
                        let result = exchange.engine.issuer.issue(&grant, unix_now());
                        if let Some(next) = daemon.finish(exchange, &account, &grant, result) {
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
        account: &Account,
        grant: &Grant,
        result: Result<Token, IssueError>,
    ) -> Next {
        let token = match result {
            Ok(token) => token,
            Err(error) => return self.refuse(exchange, Some(account), &not_issued(error)),
        };
        let kid = exchange.engine.issuer.key().kid().as_str().to_owned();
        let event = exchange.event(
            Some(account),
            Outcome::Granted {
                sun: grant.subject().to_owned(),
                lifespan: grant.lifespan().seconds(),
                exp: token.exp,
                kid: kid.clone(),
                jti: token.jti.clone(),
                rule: grant.ruling().to_string(),
            },
        );
        let issued = Issued {
            token: token.compact.as_str().to_owned(),
            user: grant.subject().to_owned(),
            expires_at: token.exp,
            kid,
            jti: token.jti,
        };
        match exchange.engine.recorder.record(&event) {
            Ok(()) => self.answer(exchange.connection, wire::issued_line(&issued)),
            Err(NotRecorded::Full) if exchange.engine.config.audit.required => {
                self.wait_for_log(exchange, event, issued)
            }
            Err(why) => self.unrecorded(exchange, &why, &issued),
        }
    }

    /// The log takes no more just now: tries again for a while.
    fn wait_for_log(self: &Arc<Self>, exchange: Exchange, event: Event, issued: Issued) -> Next {
        let daemon = Arc::clone(self);
        self.hand_on(exchange, move |exchange| {
            daemon.runtime.clone().spawn(async move {
                let until = Instant::now() + LOG_PATIENCE;
                let next = loop {
                    match exchange.engine.recorder.record(&event) {
                        Ok(()) => {
                            break daemon.answer(exchange.connection, wire::issued_line(&issued));
                        }
                        Err(NotRecorded::Full) if Instant::now() < until => {
                            tokio::time::sleep(LOG_RETRY).await;
                        }
                        Err(why) => break daemon.unrecorded(exchange, &why, &issued),
                    }
                };
                if let Some(connection) = next {
                    daemon.advance(connection);
                }
            });
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

    /// Hands an exchange to others, who will go on with the connection.
    fn hand_on(&self, mut exchange: Exchange, to: impl FnOnce(Exchange)) -> Next {
        self.fronts.release(&mut exchange.connection);
        to(exchange);
        None
    }

    fn answer(self: &Arc<Self>, mut connection: Connection, line: Vec<u8>) -> Next {
        connection.deadline = None;
        connection.send(Zeroizing::new(line)).ok()?;
        if connection.is_unsent() {
            // No more is read from a peer before it has read its answer.
            self.fronts.park(self, connection);
            return None;
        }
        Some(connection)
    }

    fn refuse(
        self: &Arc<Self>,
        exchange: Exchange,
        account: Option<&Account>,
        refusal: &Refusal,
    ) -> Next {
        // An account has paid for this request already.
        let paid = if account.is_some() {
            Ok(())
        } else {
            self.take_strangers(&exchange.connection, &exchange.engine)
        };
        match paid {
            Ok(()) => self.record_refusal(&exchange, account, refusal.code, 0),
            Err(TooFast {
                record: Some(suppressed),
                ..
            }) => {
                self.record_refusal(&exchange, account, refusal.code, suppressed);
            }
            Err(TooFast { record: None, .. }) => {}
        }
        self.answer(exchange.connection, wire::refusal_line(refusal))
    }

    fn refuse_fast(
        self: &Arc<Self>,
        exchange: Exchange,
        account: &Account,
        TooFast {
            retry_after,
            record,
        }: TooFast,
    ) -> Next {
        if let Some(suppressed) = record {
            self.record_refusal(&exchange, Some(account), Code::RateLimited, suppressed);
        }
        let limits = &exchange.engine.config.limits;
        let refusal = Refusal {
            retry_after: Some(retry_after),
            ..Refusal::new(
                Code::RateLimited,
                format!(
                    "{} asks for more than {} tokens a minute.",
                    account.name, limits.tokens_per_minute
                ),
                format!("Wait {retry_after} s. One token serves many calls until it expires."),
            )
        };
        self.answer(exchange.connection, wire::refusal_line(&refusal))
    }

    /// A refusal needs no record to be given; the record is attempted all the same.
    fn record_refusal(
        &self,
        exchange: &Exchange,
        account: Option<&Account>,
        code: Code,
        suppressed: u32,
    ) {
        let lifespan = match &exchange.request {
            Request::Issue {
                lifespan: Some(LifespanWord::Seconds(s)),
                ..
            } => Some(s.to_string()),
            Request::Issue {
                lifespan: Some(LifespanWord::Word(word)),
                ..
            } => Some(word.clone()),
            _ => None,
        };
        let event = exchange.event(
            account,
            Outcome::Refused {
                code,
                lifespan,
                suppressed,
            },
        );
        if let Err(why) = exchange.engine.recorder.record(&event) {
            self.complain(format_args!(
                "the audit record of a refusal was lost: {why}"
            ));
        }
    }

    /// Records a request that couldn't be read.
    fn record_unread(&self, connection: &Connection, code: Code) {
        let engine = self.engine();
        let suppressed = match self.take_strangers(connection, &engine) {
            Ok(()) => 0,
            Err(TooFast {
                record: Some(suppressed),
                ..
            }) => suppressed,
            Err(TooFast { record: None, .. }) => return,
        };
        let caller = connection.caller;
        let remembered = self
            .directory
            .remembered(&Who::Uid(caller.uid), Instant::now());
        let event = Event {
            caller,
            user: remembered.flatten().map(|account| account.name.clone()),
            operation: "-",
            target: None,
            outcome: Outcome::Refused {
                code,
                lifespan: None,
                suppressed,
            },
        };
        if let Err(why) = engine.recorder.record(&event) {
            self.complain(format_args!(
                "the audit record of a refusal was lost: {why}"
            ));
        }
    }

    /// A request whose caller has no account, or that has no form, is paid for
    /// by the caller's own rate if it's known, or by the one that all others share.
    fn take_strangers(&self, connection: &Connection, engine: &Engine) -> Result<(), TooFast> {
        let uid = connection.caller.uid;
        let now = Instant::now();
        let payer = match self.directory.remembered(&Who::Uid(uid), now) {
            Some(Some(_)) => Payer::User(uid),
            Some(None) | None => Payer::Strangers,
        };
        self.quotas.take(payer, &engine.config.limits, now)
    }
}

impl Exchange {
    fn target(&self) -> Option<&str> {
        match &self.request {
            Request::Issue { target, .. } => target.as_deref(),
            Request::Jwks | Request::Whoami | Request::Ping => None,
        }
    }

    /// The user named in `for`, where that is not the caller.
    fn another(&self, caller: &Account) -> Option<&str> {
        self.target().filter(|name| *name != caller.name)
    }

    /// The account to look up beside the caller's: only for those who may ask
    /// for others.
    fn whom_to_look_up(&self, caller: &Found) -> Option<Who> {
        let caller = caller.as_ref()?;
        let name = self.another(caller)?;
        let policy = &self.engine.config.policy;
        policy.may_ask_for_others(caller).ok()?;
        Some(Who::Name(name.to_owned()))
    }

    fn event(&self, account: Option<&Account>, outcome: Outcome) -> Event {
        Event {
            caller: self.connection.caller,
            user: account.map(|account| account.name.clone()),
            operation: self.request.operation(),
            target: self.target().map(ToOwned::to_owned),
            outcome,
        }
    }
}

fn standing(engine: &Engine, names: &Names, account: &Account) -> Standing {
    let policy = &engine.config.policy;
    let bounds = policy.bounds(names, account);
    let delegate = policy.delegate(account);
    let (rule, default, max) = match &bounds {
        Ok(Bounds {
            ruling,
            default,
            max,
        }) => (ruling.to_string(), default.seconds(), max.seconds()),
        Err(_) => ("none".to_owned(), 0, 0),
    };
    Standing {
        user: account.name.clone(),
        uid: account.uid,
        allowed: bounds.is_ok(),
        refusal: bounds.err(),
        rule,
        default_lifespan: default,
        max_lifespan: max,
        delegate_for_groups: delegate.map(|d| d.for_groups.clone()).unwrap_or_default(),
        kid: engine.issuer.key().kid().as_str().to_owned(),
    }
}

/// Tells a peer that isn't served, as far as it takes that at once.
fn turn_away(stream: &UnixStream, refusal: &Refusal) {
    use nix::sys::socket::{MsgFlags, send};
    use std::os::fd::AsRawFd as _;
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = send(stream.as_raw_fd(), &wire::refusal_line(refusal), flags);
}

fn pong() -> Vec<u8> {
    wire::ok_line(&Pong {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn no_seat(full: Full) -> Refusal {
    let what = match full {
        Full::Total => "The daemon has all the connections that it may have.",
        Full::User => "You have all the connections that one user may have.",
        Full::Strangers => {
            "Users without an account have all the connections that they may have together."
        }
    };
    Refusal {
        retry_after: Some(1),
        ..Refusal::new(
            Code::Busy,
            what,
            "Close connections that you don't need, and try again.",
        )
    }
}

fn no_account(uid: u32) -> Refusal {
    Refusal::new(
        Code::UnknownUser,
        format!("There is no account with uid {uid} on this machine."),
        "Call as a user that `getent passwd` knows, from outside a user namespace.",
    )
}

fn no_account_of(name: &str) -> Refusal {
    Refusal::new(
        Code::UnknownUser,
        format!("There is no account {name} on this machine."),
        "Check the name with: getent passwd",
    )
}

fn no_directory(why: Unavailable) -> Refusal {
    let what = match why {
        Unavailable::NoRoom => {
            "Too many account look-ups are waiting for the account service.".to_owned()
        }
        Unavailable::TimedOut => "The account service did not answer in time.".to_owned(),
        Unavailable::Failed(errno) => format!("The account service failed: {}.", errno.desc()),
    };
    Refusal {
        retry_after: Some(5),
        ..Refusal::new(
            Code::Busy,
            what,
            "Try again in a moment; if it lasts, ask your administrator to look at sssd or nslcd.",
        )
    }
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

fn too_long() -> Refusal {
    Refusal::new(
        Code::RequestTooLarge,
        format!("The request has more than {} bytes.", wire::MAX_REQUEST),
        "Send one short JSON object a line, such as {\"v\":1,\"op\":\"issue\"}.",
    )
}
