//! Who made a request, and where its answer goes: to the main socket as a
//! line, or to the HTTP door as a response.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::caller::Caller;
use crate::daemon::connection::Connection;
use crate::daemon::http::Visit;
use crate::wire::{self, Issued, Metrics, Refusal, Verified};

/// The peer of a request.
pub(super) enum Peer {
    /// One of the main socket; its connection goes on after the answer.
    Line(Connection),
    /// One of the HTTP door.
    Http(Visit),
}

/// What a request is answered with.
pub(super) enum Answer<'a> {
    /// A token.
    Token(&'a Issued),
    /// Why there is nothing.
    Refused(&'a Refusal),
    /// What a valid token says.
    Verified(&'a Verified),
    /// What was counted.
    Metrics(&'a Metrics),
    /// What only the main socket is asked for, ready to send.
    Line(Vec<u8>),
}

impl Peer {
    /// Who it is, as the kernel says.
    pub(super) fn caller(&self) -> Caller {
        match self {
            Self::Line(connection) => connection.caller,
            Self::Http(visit) => visit.caller(),
        }
    }

    /// When its request was read.
    pub(super) fn begun(&self) -> Instant {
        match self {
            Self::Line(connection) => connection
                .begun
                .map_or_else(Instant::now, |(begun, _)| begun),
            Self::Http(visit) => visit.begun(),
        }
    }
}

/// The socket that it's at the other end of.
impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Line(connection) => connection.as_fd(),
            Self::Http(visit) => visit.as_fd(),
        }
    }
}

impl Answer<'_> {
    /// The same as a line of the protocol.
    pub(super) fn into_line(self) -> Vec<u8> {
        match self {
            Self::Token(issued) => wire::issued_line(issued),
            Self::Refused(refusal) => wire::refusal_line(refusal),
            Self::Verified(verified) => wire::ok_line(verified),
            Self::Metrics(metrics) => wire::ok_line(metrics),
            Self::Line(line) => line,
        }
    }
}
