//! A request of the HTTP door on its way through the daemon.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use http::Response;
use tokio::sync::oneshot;

use crate::caller::Caller;
use crate::daemon::http::answer;
use crate::daemon::http::body::Body;
use crate::daemon::http::query::Conditions;
use crate::daemon::http::stream::Guest;
use crate::daemon::metrics::Kind;
use crate::daemon::peer::Answer;
use crate::wire::Verified;

/// Who made a request here, and who waits for its answer.
pub struct Visit {
    guest: Arc<Guest>,
    begun: Instant,
    kind: Kind,
    /// What must be true of a token that is to be verified.
    pub conditions: Conditions,
    /// The token has been verified, and it's a new one that is being made in
    /// its place: with it or without, the answer is what the old one says.
    pub verified: Option<Box<Verified>>,
    reply: oneshot::Sender<Response<Body>>,
}

impl Visit {
    /// A visit, and where its answer comes.
    pub fn new(
        guest: &Arc<Guest>,
        kind: Kind,
        conditions: Conditions,
    ) -> (Self, oneshot::Receiver<Response<Body>>) {
        let (reply, answer) = oneshot::channel();
        let visit = Self {
            guest: Arc::clone(guest),
            begun: Instant::now(),
            kind,
            conditions,
            verified: None,
            reply,
        };
        (visit, answer)
    }

    /// Who it is, as the kernel says.
    pub fn caller(&self) -> Caller {
        self.guest.caller
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// What is asked for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Answers it. A peer that has gone needs no answer.
    pub fn answer(self, answer: &Answer<'_>) {
        let response = match (&self.verified, answer) {
            (Some(old), Answer::Token(fresh)) => answer::verified(old, Some(fresh)),
            (Some(old), _) => answer::verified(old, None),
            (None, _) => answer::response(answer),
        };
        let _ = self.reply.send(response);
    }
}

impl AsFd for Visit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.guest.as_fd()
    }
}
