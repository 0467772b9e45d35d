//! One request, top to bottom: read it, learn who asks, do what it asks for,
//! answer. Each step either goes on at once or hands the connection on to who
//! may take time: the runtime for accounts and for a full log, the signers for
//! RSA. A connection is in one place at a time.

use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use crate::account::Account;
use crate::audit::{Event, Outcome};
use crate::caller::Door;
use crate::daemon::Daemon;
use crate::daemon::connection::{Connection, Fill, Hears};
use crate::daemon::directory::{Found, Sought, Unavailable, Who};
use crate::daemon::engine::Engine;
use crate::daemon::front::{shutting_down, unfinished};
use crate::daemon::inbox::Line;
use crate::daemon::metrics::Kind;
use crate::daemon::peer::{Answer, Peer};
use crate::daemon::refuse::{no_account, no_directory};
use crate::policy::{Bounds, Names};
use crate::wire::{self, Code, Pong, Refusal, Request, Standing};

/// A request, and who made it.
pub(super) struct Exchange {
    /// The configuration in force when it came.
    pub(super) engine: Arc<Engine>,
    pub(super) peer: Peer,
    pub(super) request: Request,
    /// For whom a service got the token that it wants refreshed, once that's known.
    pub(super) on_behalf: Option<String>,
}

/// The connection goes on here, or somebody else has it now.
pub(super) type Next = Option<Connection>;

impl Daemon {
    /// Serves what has arrived on a connection, then lets it wait for more.
    pub(super) fn advance(self: &Arc<Self>, connection: Connection) {
        if let Some(connection) = self.work_off(connection) {
            self.fronts.park(self, connection);
        }
    }

    /// Serves what has arrived on a connection; what comes back waits for more.
    pub(super) fn work_off(self: &Arc<Self>, mut connection: Connection) -> Next {
        loop {
            match connection.line(|line| (Instant::now(), Request::parse(line))) {
                Line::Whole((now, request)) => {
                    connection = self.serve(connection, now, request)?;
                }
                Line::TooLong => {
                    self.end(connection, &too_long());
                    return None;
                }
                Line::Incomplete if connection.untried || connection.hears == Hears::Nothing => {
                    connection.untried = false;
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

    fn serve(
        self: &Arc<Self>,
        mut connection: Connection,
        now: Instant,
        request: Result<Request, Refusal>,
    ) -> Next {
        connection.begun = Some((now, Kind::Other));
        let engine = self.engine();
        let request = match request {
            Ok(request) => request,
            Err(refusal) => {
                self.record_unread(connection.caller, refusal.code);
                return self.answer_line(connection, wire::refusal_line(&refusal));
            }
        };
        match request {
            Request::Ping => self.answer_line(connection, pong()),
            Request::Jwks => self.answer_line(connection, engine.jwks_answer.clone()),
            request => {
                if matches!(request, Request::Issue { .. } | Request::Refresh { .. }) {
                    connection.begun = Some((now, Kind::Issue));
                }
                let exchange = Exchange {
                    engine,
                    peer: Peer::Line(connection),
                    request,
                    on_behalf: None,
                };
                self.attend_to(exchange, now)
            }
        }
    }

    /// Does what a request asks for that depends on who asks, by whichever door
    /// it came.
    pub(super) fn attend_to(self: &Arc<Self>, exchange: Exchange, now: Instant) -> Next {
        match &exchange.request {
            Request::Verify { .. } => self.verify(exchange, now),
            // Of a peer of the HTTP door, even root, it has to be known that it's no proxy.
            request
                if request.is_administrative()
                    && exchange.peer.caller().uid == 0
                    && exchange.peer.caller().door == Door::Main =>
            {
                self.administer_as_root(exchange)
            }
            _ => self.learn(exchange, now, |daemon, exchange, learned| match learned {
                Ok((caller, names)) => daemon.hear(exchange, caller, names),
                Err(why) => daemon.refuse(exchange, None, &no_directory(why)),
            }),
        }
    }

    /// Learns who asks and what the policy's names mean, and goes on: from
    /// memory, or by looking them up meanwhile.
    pub(super) fn learn<F>(self: &Arc<Self>, exchange: Exchange, now: Instant, then: F) -> Next
    where
        F: FnOnce(&Arc<Self>, Exchange, Result<(Found, Arc<Names>), Unavailable>) -> Next
            + Send
            + 'static,
    {
        let sought = exchange.sought(Who::Uid(exchange.peer.caller().uid));
        let caller = self.directory.remembered(&sought, now);
        let names = self
            .directory
            .remembered_names(exchange.engine.generation, now);
        if let (Some(caller), Some(names)) = (caller, names) {
            return then(self, exchange, Ok((caller, names)));
        }
        self.later(exchange, async move |daemon, exchange| {
            let engine = Arc::clone(&exchange.engine);
            let (caller, names) = daemon.look_up(&engine, sought).await;
            let learned = caller.and_then(|caller| Ok((caller, names?)));
            then(&daemon, exchange, learned)
        })
    }

    /// What the account service says of who asks, and of the policy's names.
    pub(super) async fn look_up(
        &self,
        engine: &Engine,
        caller: Sought,
    ) -> (Result<Found, Unavailable>, Result<Arc<Names>, Unavailable>) {
        let (policy, limits) = (&engine.config.policy, &engine.config.limits);
        tokio::join!(
            self.directory.account(caller, limits),
            self.directory.names(engine.generation, policy, limits),
        )
    }

    /// Finds an account, and goes on: from memory, or by looking it up meanwhile.
    pub(super) fn find<F>(self: &Arc<Self>, exchange: Exchange, sought: Sought, then: F) -> Next
    where
        F: FnOnce(&Arc<Self>, Exchange, Result<Found, Unavailable>) -> Next + Send + 'static,
    {
        if let Some(found) = self.directory.remembered(&sought, Instant::now()) {
            return then(self, exchange, Ok(found));
        }
        self.later(exchange, async move |daemon, exchange| {
            let engine = Arc::clone(&exchange.engine);
            let limits = &engine.config.limits;
            let found = daemon.directory.account(sought, limits).await;
            then(&daemon, exchange, found)
        })
    }

    /// Hears what is asked, of a caller who has an account.
    fn hear(self: &Arc<Self>, exchange: Exchange, caller: Found, names: Arc<Names>) -> Next {
        let uid = exchange.peer.caller().uid;
        let Some(caller) = caller else {
            return self.refuse(exchange, None, &no_account(uid));
        };
        let policy = &exchange.engine.config.policy;
        if let Err(refusal) = policy.admits(exchange.peer.caller().door, &names, &caller) {
            return self.refuse(exchange, Some(&caller), &refusal);
        }
        match &exchange.request {
            Request::Issue { .. } => self.issue(exchange, caller, names),
            Request::Refresh { .. } => self.refresh(exchange, caller, names),
            request if request.is_administrative() => self.administer_as(exchange, caller, &names),
            _ => {
                self.quotas.settle(uid);
                let standing = self.standing(&exchange.engine, &names, &caller);
                self.answer(exchange.peer, Answer::Line(wire::ok_line(&standing)))
            }
        }
    }

    /// Hands an exchange to others, who will go on with the connection.
    pub(super) fn hand_on(&self, mut exchange: Exchange, to: impl FnOnce(Exchange)) -> Next {
        if let Peer::Line(connection) = &mut exchange.peer {
            self.fronts.release(connection);
            connection.eager = 0;
        }
        to(exchange);
        None
    }

    /// The same, to the runtime: what takes time and no processor.
    pub(super) fn later<W, F>(self: &Arc<Self>, exchange: Exchange, work: W) -> Next
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

    /// The same, to the signers, for when it's this user's turn: what takes the
    /// processor. Whoever is answered there is heard again afterwards.
    pub(super) fn in_turn<W>(self: &Arc<Self>, exchange: Exchange, work: W) -> Next
    where
        W: FnOnce(&Arc<Self>, Exchange) -> Next + Send + 'static,
    {
        let daemon = Arc::clone(self);
        self.hand_on(exchange, move |exchange| {
            let signers = Arc::clone(&daemon.signers);
            signers.submit(exchange.peer.caller().uid, move || {
                let answered = work(&daemon, exchange)?;
                let mut idle = daemon.work_off(answered)?;
                Some(Box::new(move || {
                    idle.untried = true;
                    daemon.advance(idle);
                }))
            });
        })
    }

    fn standing(&self, engine: &Engine, names: &Names, account: &Account) -> Standing {
        let policy = &engine.config.policy;
        let blocked = self.refuse_blocked(account, None);
        // Who is blocked gets nothing for others either.
        let delegate = blocked.is_ok().then(|| policy.delegate(account).ok());
        let delegate = delegate.flatten();
        let bounds = blocked.and_then(|()| policy.bounds(names, account));
        let ruling = bounds.as_ref().ok().map(|bounds| bounds.ruling);
        let kid = ruling
            .and_then(|ruling| policy.kid(ruling))
            .unwrap_or(engine.keys.main().key().kid());
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
            delegate_max_lifespan: delegate.and_then(|d| Some(d.max_lifespan?.seconds())),
            delegate_tokens_per_minute: delegate.map(|d| d.rate.per_minute),
            delegate_burst: delegate.map(|d| d.rate.burst),
            max_session: Some(policy.max_session.seconds()),
            kid: kid.as_str().to_owned(),
        }
    }

    /// Gives an answer to whoever asked; a connection of the main socket goes on.
    pub(super) fn answer(self: &Arc<Self>, peer: Peer, answer: Answer<'_>) -> Next {
        match peer {
            Peer::Line(connection) => self.answer_line(connection, answer.into_line()),
            Peer::Http(visit) => {
                self.metrics.answered(visit.kind(), visit.begun().elapsed());
                visit.answer(&answer);
                None
            }
        }
    }

    fn answer_line(self: &Arc<Self>, mut connection: Connection, line: Vec<u8>) -> Next {
        connection.deadline = None;
        if let Some((begun, kind)) = connection.begun.take() {
            self.metrics.answered(kind, begun.elapsed());
        }
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
}

impl Exchange {
    pub(super) fn sought(&self, who: Who) -> Sought {
        Sought::by(&self.engine.config.policy, who)
    }

    pub(super) fn event<'a>(
        &'a self,
        account: Option<&'a Account>,
        outcome: Outcome<'a>,
    ) -> Event<'a> {
        Event {
            caller: self.peer.caller(),
            user: account.map(|account| account.name.as_str()),
            operation: self.request.operation(),
            target: self.target(),
            outcome,
        }
    }

    /// Whom a service asks for.
    pub(super) fn target(&self) -> Option<&str> {
        self.request.target().or(self.on_behalf.as_deref())
    }
}

fn pong() -> Vec<u8> {
    wire::ok_line(&Pong {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn too_long() -> Refusal {
    Refusal::new(
        Code::RequestTooLarge,
        format!("The request has more than {} bytes.", wire::MAX_REQUEST),
        "Send one short JSON object a line, such as {\"v\":1,\"op\":\"issue\"}.",
    )
}
