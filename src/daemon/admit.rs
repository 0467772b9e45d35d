//! A place for each connection, or a word on why there is none.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::caller::{Caller, Door};
use crate::daemon::Daemon;
use crate::daemon::connection::Connection;
use crate::daemon::directory::{Acquaintance, Sought, Who};
use crate::daemon::engine::Engine;
use crate::daemon::quotas::{Full, Quotas, Waiting};
use crate::daemon::refuse::no_directory;
use crate::wire::{self, Code, Refusal};

/// How long a connection waits for another of the same user to end.
const SEAT_PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits at first before it tries again, and at last.
const SEAT_RETRY: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(32));

impl Daemon {
    /// Takes in a connection, lets it wait for a place, or tells the peer why
    /// there is none.
    pub(super) fn admit(self: &Arc<Self>, stream: UnixStream) -> Option<Connection> {
        let caller = Caller::of(&stream, Door::Main).ok()?;
        let engine = self.engine();
        let limits = &engine.config.limits;
        let sought = Sought::by(&engine.config.policy, Who::Uid(caller.uid));
        let acquaintance = self.directory.acquaintance(&sought, Instant::now());
        let known = acquaintance == Acquaintance::Account;
        let full = match self.quotas.admit(caller.uid, known, limits.room) {
            Ok(seat) => {
                if acquaintance == Acquaintance::Unknown && !self.directory.is_under_way(&sought) {
                    self.introduce(caller.uid, sought, engine, &self.quotas);
                }
                return Some(Connection::new(stream, caller, Some(seat)));
            }
            Err(full) => full,
        };
        // Some of the user's may have ended, and we don't know it yet; and one
        // among too many strangers may be none.
        let may_wait = full != Full::Total && acquaintance != Acquaintance::NoAccount;
        let waiting = may_wait
            .then(|| self.quotas.wait(caller.uid, limits.room))
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
    pub(super) fn introduce(
        self: &Arc<Self>,
        uid: u32,
        sought: Sought,
        engine: Arc<Engine>,
        quotas: &Arc<Quotas>,
    ) {
        let (daemon, quotas) = (Arc::clone(self), Arc::clone(quotas));
        self.runtime.spawn(async move {
            let found = daemon
                .directory
                .account(sought, &engine.config.limits)
                .await;
            if let Ok(Some(_)) = found {
                quotas.settle(uid);
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
            match waiting.admit(known, limits.room) {
                Ok(seat) => break seat,
                Err(Full::User) if known && Instant::now() < until => {
                    tokio::time::sleep(pause).await;
                    pause = longest.min(pause * 2);
                }
                Err(full) => return self.turn_away(&stream, caller, &no_seat(full)),
            }
        };
        drop(waiting);
        self.advance(Connection::new(stream, caller, Some(seat)));
    }

    /// Tells a peer that isn't served, as far as it takes that at once.
    fn turn_away(&self, stream: &UnixStream, caller: Caller, refusal: &Refusal) {
        use nix::sys::socket::{MsgFlags, send};
        self.record_unread(caller, refusal.code);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = send(stream.as_raw_fd(), &wire::refusal_line(refusal), flags);
    }
}

pub(super) fn no_seat(full: Full) -> Refusal {
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
