//! One peer's connection: bytes in, lines out of them, answers back. Nothing
//! here ever waits.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, setsockopt, shutdown, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use zeroize::{Zeroize as _, Zeroizing};

use crate::caller::Caller;
use crate::daemon::inbox::{Inbox, Line, READ};
use crate::daemon::metrics::Kind;
use crate::daemon::quotas::Seat;

/// A connection, between two of the things that happen to it. Idle, it costs
/// no more than this.
pub struct Connection {
    stream: UnixStream,
    /// Who is at the other end.
    pub caller: Caller,
    /// None for one of our own.
    _seat: Option<Seat>,
    inbox: Inbox,
    /// When it was left to wait at a front.
    pub parked_at: Option<Instant>,
    /// So many requests in a row came right after the answer before them, and
    /// were answered without handing the connection on.
    pub eager: u8,
    /// So many bytes at the end of what has arrived are in the kernel's queue still.
    queued: usize,
    /// What the peer hasn't read yet; it holds a token.
    outbox: Zeroizing<Vec<u8>>,
    sent: usize,
    /// When the request under way was read, and what kind it is.
    pub begun: Option<(Instant, Kind)>,
    /// When the peer's time for what it's doing is over.
    pub deadline: Option<Instant>,
    /// Where it waits: the front, and its key there.
    pub home: Option<(usize, u64)>,
    /// It's read once before anybody waits for it: most callers' request is
    /// there already when they are accepted, and then nothing more.
    pub untried: bool,
    /// Has the peer had an answer.
    pub answered: bool,
    /// What we still hear of the peer.
    pub hears: Hears,
}

/// What we hear of a peer. Who never falls silent would never let us end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// Request after request.
    Everything,
    /// The request that it's on, or about to send.
    TheLast,
    /// What it has sent already.
    Nothing,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Something.
    Data,
    /// Nothing now.
    Nothing,
    /// The peer will send no more.
    End,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: UnixStream, caller: Caller, seat: Option<Seat>) -> Self {
        Self {
            stream,
            caller,
            _seat: seat,
            inbox: Inbox::default(),
            parked_at: None,
            eager: 0,
            queued: 0,
            outbox: Zeroizing::default(),
            sent: 0,
            begun: None,
            deadline: None,
            home: None,
            untried: true,
            answered: false,
            hears: Hears::Everything,
        }
    }

    /// Lets the peer send no more. What it has sent is still there to read,
    /// and after that its end: whatever it managed to send will be answered,
    /// and it learns of what it didn't.
    pub fn hear_no_more(&mut self) {
        if self.hears != Hears::Nothing {
            self.hears = Hears::Nothing;
            // A peer that has gone can't send more either.
            let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Read);
        }
    }

    /// Is no request under way here, and no answer.
    pub fn is_idle(&self) -> bool {
        !self.is_midway() && !self.is_unsent()
    }

    /// Reads what is there now, once.
    ///
    /// The bytes stay in the kernel's queue until the answer is on its way:
    /// taking them out tells a peer that waits for its answer that there is
    /// room to write, and that costs it a wake-up for nothing.
    pub fn fill(&mut self) -> Result<Fill, Errno> {
        self.read(MsgFlags::MSG_DONTWAIT)
    }

    /// How long [`Self::wait`] waits.
    pub fn set_patience(&mut self, patience: Duration) -> Result<(), Errno> {
        let patience = TimeVal::microseconds(i64::try_from(patience.as_micros()).unwrap_or(0));
        setsockopt(&self.stream, sockopt::ReceiveTimeout, &patience)
    }

    /// Reads what comes, with patience.
    pub fn wait(&mut self) -> Result<Fill, Errno> {
        self.read(MsgFlags::empty())
    }

    fn read(&mut self, flags: MsgFlags) -> Result<Fill, Errno> {
        self.take_out()?;
        let peek = flags | MsgFlags::MSG_PEEK;
        let stream = self.stream.as_raw_fd();
        match self.inbox.fill(|room| recv(stream, room, peek)) {
            Ok(0) => Ok(Fill::End),
            Ok(came) => {
                self.queued = came;
                Ok(Fill::Data)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Fill::Nothing),
            Err(errno) => Err(errno),
        }
    }

    /// Takes what was read out of the kernel's queue.
    fn take_out(&mut self) -> Result<(), Errno> {
        let mut bytes = [0; READ];
        while self.queued > 0 {
            let room = &mut bytes[..self.queued];
            let taken = recv(self.stream.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT);
            room.zeroize();
            match taken {
                Ok(0) => return Err(Errno::ECONNRESET),
                Ok(n) => self.queued -= n,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// The next request out of what has arrived, as `read` reads it.
    pub fn line<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Line<T> {
        let line = self.inbox.take_line(read);
        if !matches!(line, Line::Whole(_)) {
            // What is wrong here shows again when more is read.
            let _ = self.take_out();
        }
        line
    }

    /// Gives back the memory that it needs only at work.
    pub fn rest(&mut self) {
        self.inbox.shrink();
    }

    /// Has the beginning of a request arrived.
    pub fn is_midway(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Sends an answer, or as much of it as the peer has room for.
    pub fn send(&mut self, answer: Zeroizing<Vec<u8>>) -> Result<(), Errno> {
        self.outbox = answer;
        self.sent = 0;
        self.answered = true;
        self.flush()?;
        self.take_out()
    }

    /// Is there something that the peer hasn't taken.
    pub fn is_unsent(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends more of what is left.
    pub fn flush(&mut self) -> Result<(), Errno> {
        const FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);
        while self.sent < self.outbox.len() {
            match send(self.stream.as_raw_fd(), &self.outbox[self.sent..], FLAGS) {
                Ok(n) => self.sent += n,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.outbox = Zeroizing::default();
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
