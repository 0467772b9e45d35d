//! The socket of one connection as hyper reads and writes it, and what the
//! connection is at meanwhile, which says how long it may take.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::rt::{Read, ReadBufCursor, Write};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::UnixStream;

use crate::caller::Caller;
use crate::config::Limits;

/// How much is read at once.
const READ: usize = 4096;
/// How hyper begins its own answer to a head that it can't read, by the version
/// of the request before. Ours say in their head that nobody may store them.
const REFUSALS: [&[u8]; 2] = [b"HTTP/1.1 4", b"HTTP/1.0 4"];
const OURS: &[u8] = b"cache-control";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// The peer of a connection, for whoever serves it.
pub struct Guest {
    stream: UnixStream,
    /// Who is at the other end.
    pub caller: Caller,
    progress: Mutex<Progress>,
}

struct Progress {
    stage: Stage,
    since: Instant,
    /// Part of an answer has been sent, and part hasn't.
    midway: bool,
    /// The peer can send no more; what it has sent is served still.
    deaf: bool,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing has come yet.
    Fresh,
    /// The beginning of a request has come.
    Head,
    /// The request is served. What that waits for has limits of its own.
    Served,
    /// Its answer is on the way.
    Answering,
    /// The last one has been answered.
    Idle,
}

impl Guest {
    /// The peer of a connection that was just accepted.
    pub fn new(stream: UnixStream, caller: Caller) -> Self {
        Self {
            stream,
            caller,
            progress: Mutex::new(Progress {
                stage: Stage::Fresh,
                since: Instant::now(),
                midway: false,
                deaf: false,
            }),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is at this now.
    pub fn is_at(&self, stage: Stage) {
        let mut progress = self.progress();
        progress.stage = stage;
        progress.since = Instant::now();
    }

    /// What it's at.
    pub fn stage(&self) -> Stage {
        self.progress().stage
    }

    /// When its time for that is over.
    pub fn deadline(&self, limits: &Limits, stopping: bool) -> Option<Instant> {
        let progress = self.progress();
        match progress.stage {
            Stage::Fresh if stopping => Some(progress.since + limits.request_timeout),
            Stage::Fresh | Stage::Idle => Some(progress.since + limits.idle_timeout),
            Stage::Head | Stage::Answering => Some(progress.since + limits.request_timeout),
            Stage::Served => None,
        }
    }

    /// Is an answer broken off: nothing can follow it.
    pub fn is_midway(&self) -> bool {
        self.progress().midway
    }

    /// Lets the peer send no more. What it has sent is still there to read.
    pub fn hear_no_more(&self) {
        self.progress().deaf = true;
        // A peer that has gone can't send more either.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Read);
    }

    /// Will the connection end by itself once all is served that has come.
    pub fn is_deaf(&self) -> bool {
        self.progress().deaf
    }

    /// Sends what comes last, as far as the peer takes it at once.
    pub fn send_last(&self, bytes: &[u8]) {
        let _ = self.stream.try_write(bytes);
    }

    /// Tells the peer that no more comes, and takes what it still sends, up to
    /// `most` bytes: a peer whose socket is closed while it writes may not
    /// read what it was told.
    pub async fn part(&self, most: usize) {
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Write);
        let mut bytes = [0; READ];
        let mut taken = 0;
        while taken < most && self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return,
                Ok(n) => taken += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for Guest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The same for hyper.
pub struct Stream(pub Arc<Guest>);

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let guest = &self.0;
        let mut bytes = [0; READ];
        let room = into.remaining().min(READ);
        loop {
            match guest.stream.try_read(&mut bytes[..room]) {
                Ok(n) => {
                    let mut progress = guest.progress();
                    if n > 0 && matches!(progress.stage, Stage::Fresh | Stage::Idle) {
                        progress.stage = Stage::Head;
                        progress.since = Instant::now();
                    }
                    into.put_slice(&bytes[..n]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(guest.stream.poll_read_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let guest = &self.0;
        let theirs = bytes.len() - refusal_at_end(bytes);
        let ours = &bytes[..theirs];
        if ours.is_empty() {
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            match guest.stream.try_write(ours) {
                Ok(n) => {
                    guest.progress().midway = n < ours.len();
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(guest.stream.poll_write_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Called once all is written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut progress = self.0.progress();
        if progress.stage == Stage::Answering && !progress.midway {
            progress.stage = Stage::Idle;
            progress.since = Instant::now();
        }
        Poll::Ready(Ok(()))
    }

    /// The end is ours to make: something may have to be said before it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How many bytes at the end of `bytes` are an answer that hyper gives by
/// itself, to a head that it can't read: it has no body that says why, and
/// comes last. We give another in its place.
fn refusal_at_end(bytes: &[u8]) -> usize {
    if !bytes.ends_with(END_OF_HEAD) {
        return 0;
    }
    let mut heads = bytes.windows(REFUSALS[0].len());
    let Some(start) = heads.rposition(|at| REFUSALS.contains(&at)) else {
        return 0;
    };
    let head = &bytes[start..];
    if head.windows(OURS.len()).any(|at| at == OURS) {
        0
    } else {
        head.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn hypers_own_refusal_is_found_alone_and_after_an_answer_of_ours() {
        let ours = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(refusal_at_end(THEIRS.as_bytes()), THEIRS.len());
        let of_old = THEIRS.replace("1.1", "1.0");
        assert_eq!(refusal_at_end(of_old.as_bytes()), of_old.len());
        let both = format!("{ours}{THEIRS}");
        assert_eq!(refusal_at_end(both.as_bytes()), THEIRS.len());
        assert_eq!(refusal_at_end(ours.as_bytes()), 0);
    }

    #[test]
    fn a_refusal_of_ours_is_sent_with_a_body_and_without() {
        let ours = "HTTP/1.1 404 Not Found\r\ncache-control: no-store\r\n\r\n";
        assert_eq!(refusal_at_end(ours.as_bytes()), 0);
        let with_body = format!("{ours}{{\"code\":\"unknown_operation\"}}");
        assert_eq!(refusal_at_end(with_body.as_bytes()), 0);
        let going_on = "HTTP/1.1 100 Continue\r\n\r\n";
        assert_eq!(refusal_at_end(going_on.as_bytes()), 0);
    }
}
