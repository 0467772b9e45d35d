//! One request, top to bottom: read it, learn who asks, decide, sign, record,
//! answer. Each step either goes on at once or hands the connection on to who
//! may take time: the runtime for accounts and for a full log, the signers for
//! RSA. A connection is in one place at a time.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::account::Account;
use crate::audit::{Event, NotRecorded, Outcome};
use crate::caller::Caller;
use crate::daemon::connection::{Connection, Fill, Hears, Line};
use crate::daemon::directory::{Acquaintance, Found, Sought, Unavailable, Who};
use crate::daemon::engine::Engine;
use crate::daemon::front::{shutting_down, unfinished};
use crate::daemon::quotas::{Full, Payer, TooFast, Waiting};
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
/// How often it looks whether another log has taken the place of the full one.
const LOG_RENEWAL: Duration = Duration::from_millis(100);
/// How long a connection waits for another of the same user to end.
const SEAT_PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits at first before it tries again, and at last.
const SEAT_RETRY: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(32));

/// What a decision goes by.
struct Facts {
    names: Arc<Names>,
    caller: Arc<Account>,
    asked: Asked,
}

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
    /// Takes in a connection, lets it wait for a place, or tells the peer why
    /// there is none.
    pub(super) fn admit(self: &Arc<Self>, stream: UnixStream) -> Option<Connection> {
        let caller = Caller::of(&stream).ok()?;
        let engine = self.engine();
        let limits = &engine.config.limits;
        let sought = Sought::by(&engine.config.policy, Who::Uid(caller.uid));
        let acquaintance = self.directory.acquaintance(&sought, Instant::now());
        let known = acquaintance == Acquaintance::Account;
        let full = match self.quotas.admit(caller.uid, known, limits) {
            Ok(seat) => {
                if acquaintance == Acquaintance::Unknown && !self.directory.is_under_way(&sought) {
                    self.introduce(caller.uid, sought, engine);
                }
                return Some(Connection::new(stream, caller, seat));
            }
            Err(full) => full,
        };
        // Some of the user's may have ended, and we don't know it yet; and one
        // among too many strangers may be none.
        let may_wait = full != Full::Total && acquaintance != Acquaintance::NoAccount;
        let waiting = may_wait
            .then(|| self.quotas.wait(caller.uid, limits))
            .flatten();
        if let Some(waiting) = waiting {
            let daemon = Arc::clone(self);
            self.runtime
                .spawn(async move { daemon.wait_for_seat(stream, caller, waiting).await });
        } else {
            self.turn_away(&stream, caller, &no_seat(full));
        }
        None
    }

    /// Finds out whether a uid has an account, so that it leaves the quota of
    /// those without.
    fn introduce(self: &Arc<Self>, uid: u32, sought: Sought, engine: Arc<Engine>) {
        let daemon = Arc::clone(self);
        self.runtime.spawn(async move {
            let found = daemon
                .directory
                .account(sought, &engine.config.limits)
                .await;
            if let Ok(Some(_)) = found {
                daemon.quotas.settle(uid);
            }
        });
    }

    /// Learns whether there is an account, then tries for a place again and
    /// again, for a while.
    async fn wait_for_seat(self: Arc<Self>, stream: UnixStream, caller: Caller, waiting: Waiting) {
        let engine = self.engine();
        let limits = &engine.config.limits;
        let sought = Sought::by(&engine.config.policy, Who::Uid(caller.uid));
        let known = match self.directory.acquaintance(&sought, Instant::now()) {
            Acquaintance::Account => true,
            Acquaintance::NoAccount => false,
            Acquaintance::Unknown => match self.directory.account(sought, limits).await {
                Ok(found) => found.is_some(),
                Err(why) => return self.turn_away(&stream, caller, &no_directory(why)),
            },
        };
        let until = Instant::now() + SEAT_PATIENCE;
        let (mut pause, longest) = SEAT_RETRY;
        let seat = loop {
            match waiting.admit(known, limits) {
                Ok(seat) => break seat,
                Err(Full::User) if known && Instant::now() < until => {
                    tokio::time::sleep(pause).await;
                    pause = longest.min(pause * 2);
                }
                Err(full) => return self.turn_away(&stream, caller, &no_seat(full)),
            }
        };
        drop(waiting);
        self.advance(Connection::new(stream, caller, seat));
    }

    /// Tells a peer that isn't served, as far as it takes that at once.
    fn turn_away(&self, stream: &UnixStream, caller: Caller, refusal: &Refusal) {
        use nix::sys::socket::{MsgFlags, send};
        self.record_unread(caller, refusal.code);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = send(stream.as_raw_fd(), &wire::refusal_line(refusal), flags);
    }

    /// Serves what has arrived on a connection, then lets it wait for more.
    pub(super) fn advance(self: &Arc<Self>, connection: Connection) {
        if let Some(connection) = self.work_off(connection) {
            self.fronts.park(self, connection);
        }
    }

    /// Serves what has arrived on a connection; what comes back waits for more.
    pub(super) fn work_off(self: &Arc<Self>, mut connection: Connection) -> Next {
        loop {
            match connection.line() {
                Line::Whole(line) => connection = self.serve(connection, &line)?,
                Line::TooLong => {
                    self.end(connection, &too_long());
                    return None;
                }
                Line::Incomplete if connection.fresh || connection.hears == Hears::Nothing => {
                    connection.fresh = false;
                    match connection.fill() {
                        Ok(Fill::Data) => {}
                        Ok(Fill::End) if connection.is_midway() => {
                            let why = if connection.hears == Hears::Nothing {
                                shutting_down()
                            } else {
                                unfinished()
                            };
                            self.end(connection, &why);
                            return None;
                        }
                        Ok(Fill::End) | Err(_) => return None,
                        Ok(Fill::Nothing) => return Some(connection),
                    }
                }
                Line::Incomplete => return Some(connection),
            }
        }
    }

    /// Tells the peer what was wrong, and ends the connection.
    pub(super) fn end(self: &Arc<Self>, mut connection: Connection, refusal: &Refusal) {
        self.record_unread(connection.caller, refusal.code);
        let _ = connection.send(Zeroizing::new(wire::refusal_line(refusal)));
    }

    fn serve(self: &Arc<Self>, connection: Connection, line: &[u8]) -> Next {
        let engine = self.engine();
        let request = match Request::parse(line) {
            Ok(request) => request,
            Err(refusal) => {
                self.record_unread(connection.caller, refusal.code);
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

    /// Learns who asks and what the policy's names mean: from memory, or by
    /// looking them up meanwhile.
    fn learn(self: &Arc<Self>, exchange: Exchange) -> Next {
        let sought = exchange.sought(Who::Uid(exchange.connection.caller.uid));
        let now = Instant::now();
        let caller = self.directory.remembered(&sought, now);
        let names = self
            .directory
            .remembered_names(exchange.engine.generation, now);
        if let (Some(caller), Some(names)) = (caller, names) {
            return self.hear(exchange, caller, names);
        }
        self.later(exchange, async move |daemon, exchange| {
            let engine = Arc::clone(&exchange.engine);
            let (policy, limits) = (&engine.config.policy, &engine.config.limits);
            let (caller, names) = tokio::join!(
                daemon.directory.account(sought, limits),
                daemon.directory.names(engine.generation, policy, limits),
            );
            match (caller, names) {
                (Ok(caller), Ok(names)) => daemon.hear(exchange, caller, names),
                (Err(why), _) | (_, Err(why)) => daemon.refuse(exchange, None, &no_directory(why)),
            }
        })
    }

    /// Hears what is asked: the caller has an account, its rate allows one
    /// more, and the request makes sense.
    fn hear(self: &Arc<Self>, exchange: Exchange, caller: Found, names: Arc<Names>) -> Next {
        let uid = exchange.connection.caller.uid;
        let Some(caller) = caller else {
            return self.refuse(exchange, None, &no_account(uid));
        };
        self.quotas.settle(uid);
        let (lifespan, target) = match &exchange.request {
            Request::Issue { lifespan, target } => (lifespan, target.as_deref()),
            Request::Jwks | Request::Whoami | Request::Ping => {
                let standing = standing(&exchange.engine, &names, &caller);
                return self.answer(exchange.connection, wire::ok_line(&standing));
            }
        };
        let payer = Payer::User(uid);
        let (limits, now) = (&exchange.engine.config.limits, Instant::now());
        if let Err(fast) = self.quotas.take(payer, limits, now) {
            return self.refuse_fast(exchange, &caller, fast);
        }
        let asked = match Asked::from_word(lifespan.as_ref()) {
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
        match target {
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
        if let (Some(None), Some(name)) = (&target, exchange.target()) {
            let refusal = Refusal::new(
                Code::UnknownUser,
                format!("There is no account {name} on this machine."),
                "Check the name with: getent passwd",
            );
            return self.refuse(exchange, Some(caller), &refusal);
        }
        let target = target.flatten();
        let policy = &exchange.engine.config.policy;
        match policy.decide(names, caller, target.as_deref(), *asked) {
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
            Ok(()) => self.answer(exchange.connection, wire::issued_line(&made.issued)),
            Err(NotRecorded::Full) if exchange.engine.config.audit.required => {
                self.wait_for_log(exchange, made)
            }
            Err(why) => self.unrecorded(exchange, &why, &made.issued),
        }
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

    /// Hands an exchange to others, who will go on with the connection.
    fn hand_on(&self, mut exchange: Exchange, to: impl FnOnce(Exchange)) -> Next {
        self.fronts.release(&mut exchange.connection);
        exchange.connection.eager = 0;
        to(exchange);
        None
    }

    /// The same, to the runtime: what takes time and no processor.
    fn later<W, F>(self: &Arc<Self>, exchange: Exchange, work: W) -> Next
    where
        W: FnOnce(Arc<Self>, Exchange) -> F + Send + 'static,
        F: Future<Output = Next> + Send,
    {
        let daemon = Arc::clone(self);
        self.hand_on(exchange, move |exchange| {
            daemon.runtime.clone().spawn(async move {
                if let Some(connection) = work(Arc::clone(&daemon), exchange).await {
                    daemon.advance(connection);
                }
            });
        })
    }

    fn answer(self: &Arc<Self>, mut connection: Connection, line: Vec<u8>) -> Next {
        connection.deadline = None;
        connection.send(Zeroizing::new(line)).ok()?;
        if connection.hears == Hears::TheLast {
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
        // Whoever came that far has paid for this request already.
        let recorded = if account.is_some() {
            Some(0)
        } else {
            self.pay_unknown(exchange.connection.caller, refusal.code)
        };
        if let Some(suppressed) = recorded {
            self.record_refusal(&exchange, account, refusal.code, suppressed);
        }
        self.answer(exchange.connection, wire::refusal_line(refusal))
    }

    fn refuse_fast(
        self: &Arc<Self>,
        exchange: Exchange,
        account: &Account,
        TooFast { retry_after }: TooFast,
    ) -> Next {
        let caller = exchange.connection.caller;
        let payer = Payer::User(caller.uid);
        let noted = self
            .quotas
            .note(payer, caller, Code::RateLimited, Instant::now());
        if let Some(suppressed) = noted {
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
        let remembered = self.remembered(exchange.connection.caller, &exchange.engine);
        let event = exchange.event(
            account.or(remembered.as_deref()),
            Outcome::Refused {
                code,
                lifespan,
                suppressed,
            },
        );
        self.record(&exchange.engine, &event);
    }

    /// Records a request that couldn't be read, or a connection that had no place.
    fn record_unread(&self, caller: Caller, code: Code) {
        if let Some(suppressed) = self.pay_unknown(caller, code) {
            self.record_without_request(caller, code, suppressed);
        }
    }

    /// Records what floods of refusals left to record; with `all`, also what
    /// came a moment ago.
    pub(super) fn record_suppressed(&self, all: bool) {
        for last in self.quotas.unrecorded(Instant::now(), all) {
            self.record_without_request(last.caller, last.code, last.others);
        }
    }

    fn record_without_request(&self, caller: Caller, code: Code, suppressed: u32) {
        let engine = self.engine();
        let account = self.remembered(caller, &engine);
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
        self.record(&engine, &event);
    }

    /// The caller's account, where nobody has to be asked for it.
    fn remembered(&self, caller: Caller, engine: &Engine) -> Found {
        let sought = Sought::by(&engine.config.policy, Who::Uid(caller.uid));
        self.directory.remembered(&sought, Instant::now()).flatten()
    }

    fn record(&self, engine: &Engine, event: &Event) {
        if let Err(why) = engine.recorder.record(event) {
            self.complain(format_args!(
                "the audit record of a refusal was lost: {why}"
            ));
        }
    }

    /// A request whose caller has no account, or that has no form, is paid for
    /// by the caller's own rate if it's known, or by the one that all others
    /// share. Says whether its refusal is to be recorded now, and standing for
    /// how many others.
    fn pay_unknown(&self, caller: Caller, code: Code) -> Option<u32> {
        let engine = self.engine();
        let sought = Sought::by(&engine.config.policy, Who::Uid(caller.uid));
        let now = Instant::now();
        let payer = match self.directory.acquaintance(&sought, now) {
            Acquaintance::Account => Payer::User(caller.uid),
            Acquaintance::NoAccount | Acquaintance::Unknown => Payer::Strangers,
        };
        match self.quotas.take(payer, &engine.config.limits, now) {
            Ok(()) => Some(0),
            Err(TooFast { .. }) => self.quotas.note(payer, caller, code, now),
        }
    }
}

impl Exchange {
    fn sought(&self, who: Who) -> Sought {
        Sought::by(&self.engine.config.policy, who)
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
    let delegate = policy.delegate(account).ok();
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

fn not_on_record() -> Refusal {
    Refusal::new(
        Code::Internal,
        "The token would outlive what is on record of its key, and the record can't be written.",
        "Ask your administrator to look at the journal of slurm-tokend and at its state directory.",
    )
}

fn too_long() -> Refusal {
    Refusal::new(
        Code::RequestTooLarge,
        format!("The request has more than {} bytes.", wire::MAX_REQUEST),
        "Send one short JSON object a line, such as {\"v\":1,\"op\":\"issue\"}.",
    )
}
