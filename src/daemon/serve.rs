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
use crate::daemon::front::{shutting_down, unfinished};
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

/// A request, and who made it.
struct Exchange {
    engine: Arc<Engine>,
    connection: Connection,
    request: Request,
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
                Line::Incomplete if connection.fresh || connection.is_deaf() => {
                    connection.fresh = false;
                    match connection.fill() {
                        Ok(Fill::Data) => {}
                        Ok(Fill::End) if connection.is_midway() => {
                            let why = if connection.is_deaf() {
                                shutting_down()
                            } else {
                                unfinished()
                            };
                            return self.end(connection, &why);
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

    /// Learns whose request this is: from memory, or by looking it up meanwhile.
    fn learn(self: &Arc<Self>, exchange: Exchange) -> Next {
        let engine = Arc::clone(&exchange.engine);
        let who = Who::Uid(exchange.connection.caller.uid);
        let now = Instant::now();
        if let Some(names) = self.directory.remembered_names(engine.generation, now)
            && let Some(caller) = self.directory.remembered(&who, now)
        {
            return self.consider(exchange, names, caller);
        }
        self.meanwhile(exchange, move |daemon, exchange| async move {
            let config = &engine.config;
            let names = daemon
                .directory
                .names(engine.generation, &config.policy, &config.limits);
            let caller =
                daemon
                    .directory
                    .account(who, config.policy.identity_claims, &config.limits);
            match tokio::join!(names, caller) {
                (Ok(names), Ok(caller)) => daemon.consider(exchange, names, caller),
                (Err(why), _) | (_, Err(why)) => daemon.refuse(exchange, None, &no_directory(why)),
            }
        })
    }

    /// Considers the caller: it has an account, its rate allows one more, and
    /// where it asks for another user it's one that may.
    fn consider(self: &Arc<Self>, exchange: Exchange, names: Arc<Names>, caller: Found) -> Next {
        let uid = exchange.connection.caller.uid;
        let Some(account) = caller else {
            return self.refuse(exchange, None, &no_account(uid));
        };
        self.quotas.settle(uid);
        let engine = Arc::clone(&exchange.engine);
        let Request::Issue { target, .. } = &exchange.request else {
            let standing = standing(&engine, &names, &account);
            return self.answer(exchange.connection, wire::ok_line(&standing));
        };
        let limits = &engine.config.limits;
        if let Err(fast) = self.quotas.take(Payer::User(uid), limits, Instant::now()) {
            return self.refuse_fast(exchange, &account, fast);
        }
        // One's own name is no delegation.
        let target = match target {
            Some(target) if *target != account.name => target.clone(),
            _ => return self.decide(exchange, &names, account, None),
        };
        // Before the look-up: nobody else makes us look up what they like.
        let policy = &engine.config.policy;
        if let Err(refusal) = policy.delegate_of(&account).and(policy.judge(&target)) {
            return self.refuse(exchange, Some(&account), &refusal);
        }
        self.learn_target(exchange, names, account, Who::Name(target))
    }

    fn learn_target(
        self: &Arc<Self>,
        exchange: Exchange,
        names: Arc<Names>,
        account: Arc<Account>,
        who: Who,
    ) -> Next {
        if let Some(found) = self.directory.remembered(&who, Instant::now()) {
            return self.decide_for(exchange, &names, account, found);
        }
        let engine = Arc::clone(&exchange.engine);
        self.meanwhile(exchange, move |daemon, exchange| async move {
            let config = &engine.config;
            let group_names = config.policy.identity_claims;
            match daemon
                .directory
                .account(who, group_names, &config.limits)
                .await
            {
                Ok(found) => daemon.decide_for(exchange, &names, account, found),
                Err(why) => daemon.refuse(exchange, Some(&account), &no_directory(why)),
            }
        })
    }

    fn decide_for(
        self: &Arc<Self>,
        exchange: Exchange,
        names: &Names,
        account: Arc<Account>,
        target: Found,
    ) -> Next {
        if let Some(target) = target {
            return self.decide(exchange, names, account, Some(&target));
        }
        let refusal = no_target(&exchange);
        self.refuse(exchange, Some(&account), &refusal)
    }

    /// Decides: the policy makes a grant, or says why not.
    fn decide(
        self: &Arc<Self>,
        exchange: Exchange,
        names: &Names,
        account: Arc<Account>,
        target: Option<&Account>,
    ) -> Next {
        let decision = exchange.asked().and_then(|asked| {
            exchange
                .engine
                .config
                .policy
                .decide(names, &account, target, asked)
        });
        match decision {
            Ok(grant) => self.sign(exchange, account, grant),
            Err(refusal) => self.refuse(exchange, Some(&account), &refusal),
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
            Ok(()) => self.answer(exchange.connection, wire::issued_line(&made.issued)),
            Err(NotRecorded::Full) if exchange.engine.config.audit.required => {
                self.wait_for_log(exchange, made)
            }
            Err(why) => self.unrecorded(exchange, &why, &made.issued),
        }
    }

    /// The log takes no more just now: tries again for a while.
    fn wait_for_log(self: &Arc<Self>, exchange: Exchange, made: Made) -> Next {
        self.meanwhile(exchange, |daemon, exchange| async move {
            let until = Instant::now() + LOG_PATIENCE;
            loop {
                match exchange.engine.recorder.record(&made.event(&exchange)) {
                    Ok(()) => {
                        let line = wire::issued_line(&made.issued);
                        return daemon.answer(exchange.connection, line);
                    }
                    Err(NotRecorded::Full) if Instant::now() < until => {
                        tokio::time::sleep(LOG_RETRY).await;
                    }
                    Err(why) => return daemon.unrecorded(exchange, &why, &made.issued),
                }
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

    /// Hands an exchange to the runtime, which may wait.
    fn meanwhile<F>(
        self: &Arc<Self>,
        exchange: Exchange,
        work: impl FnOnce(Arc<Self>, Exchange) -> F,
    ) -> Next
    where
        F: Future<Output = Next> + Send + 'static,
    {
        let daemon = Arc::clone(self);
        self.hand_on(exchange, |exchange| {
            let work = work(Arc::clone(&daemon), exchange);
            daemon.runtime.clone().spawn(async move {
                if let Some(connection) = work.await {
                    daemon.advance(connection);
                }
            });
        })
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
        if self.fronts.are_stopping() {
            // Who never falls silent would never let us end.
            connection.hear_no_more();
        }
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
        let account = remembered.flatten();
        let event = Event {
            caller,
            user: account.as_deref().map(|account| account.name.as_str()),
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
    /// The lifespan asked for.
    fn asked(&self) -> Result<Asked, Refusal> {
        let word = match &self.request {
            Request::Issue { lifespan, .. } => lifespan.as_ref(),
            Request::Jwks | Request::Whoami | Request::Ping => None,
        };
        Asked::from_word(word).map_err(|bad| {
            Refusal::new(
                Code::BadLifespan,
                format!("{bad}."),
                "Give seconds, or a lifespan such as 30m, 12h, 1-00:00:00, or max.",
            )
        })
    }

    fn target(&self) -> Option<&str> {
        match &self.request {
            Request::Issue { target, .. } => target.as_deref(),
            Request::Jwks | Request::Whoami | Request::Ping => None,
        }
    }

    fn event<'a>(&'a self, account: Option<&'a Account>, outcome: Outcome<'a>) -> Event<'a> {
        Event {
            caller: self.connection.caller,
            user: account.map(|account| account.name.as_str()),
            operation: self.request.operation(),
            target: self.target(),
            outcome,
        }
    }
}

fn standing(engine: &Engine, names: &Names, account: &Account) -> Standing {
    let policy = &engine.config.policy;
    let bounds = policy.bounds(names, account);
    let delegate = policy.delegate_of(account).ok();
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

fn no_target(exchange: &Exchange) -> Refusal {
    Refusal::new(
        Code::UnknownUser,
        format!(
            "There is no account {} on this machine.",
            exchange.target().unwrap_or_default()
        ),
        "Check the name with: getent passwd NAME",
    )
}

fn no_directory(why: Unavailable) -> Refusal {
    let what = match why {
        Unavailable::Strangers => {
            "Too many callers without an account are being looked up.".to_owned()
        }
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
