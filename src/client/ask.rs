use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use zeroize::Zeroize;

use super::failure::Failure;
use super::socket;
use crate::report::Problem;
use crate::wire::{self, Code, MAX_ANSWER, MAX_REQUEST, Request};

/// How long the daemon may take in all. It waits up to 5 s for an account
/// and up to 10 s for its own end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a daemon that went away may take to be back.
const RESTART: Duration = Duration::from_secs(2);

/// Asks once; once more if the daemon goes away without an answer, as it does
/// when it's restarted. Asking twice does no harm: a token that nobody got
/// expires unused.
pub(super) fn ask<T: for<'de> Deserialize<'de>>(
    path: &Path,
    request: &Request,
) -> Result<T, Failure> {
    let line = request.to_line();
    if line.len() > MAX_REQUEST + 1 {
        return Err(Failure::Usage(format!(
            "what is asked for is longer than {MAX_REQUEST} bytes"
        )));
    }
    let deadline = Instant::now() + PATIENCE;
    let mut answer = exchange(&mut socket::connect(path, deadline, None)?, &line, deadline);
    if answer
        .as_ref()
        .map_or_else(Trouble::is_restart, is_shutting_down)
    {
        let restarted = Instant::now() + RESTART;
        let mut stream = socket::connect(path, deadline, Some(restarted))?;
        answer = exchange(&mut stream, &line, deadline);
    }
    let answer = answer.map_err(|trouble| trouble.at(path))?;
    match wire::parse_answer(&answer.0) {
        Ok(answer) => answer.map_err(Failure::Refused),
        // What serde says of the answer may quote it, and a token with it.
        Err(_) => Err(Failure::Failed(Problem::at(
            path,
            "the answer is not one of protocol version 1",
            "use the slurm-token of the daemon's release, and see that this is its socket",
        ))),
    }
}

fn is_shutting_down(answer: &Line) -> bool {
    matches!(
        wire::parse_answer::<serde::de::IgnoredAny>(&answer.0),
        Ok(Err(refusal)) if refusal.code == Code::ShuttingDown
    )
}

/// Why a connection brought no answer.
enum Trouble {
    /// It was closed, before the answer or in the middle of it.
    Closed,
    /// Nothing more came in time.
    Silent,
    /// The answer has no end.
    TooLong,
    /// The system says no.
    Failed(std::io::Error),
}

impl Trouble {
    fn is_restart(&self) -> bool {
        matches!(self, Self::Closed)
    }

    fn at(self, path: &Path) -> Failure {
        let later = "try again in a while, and tell your administrator if this lasts";
        let seconds = PATIENCE.as_secs();
        match self {
            Self::Closed => Failure::NotReached(Problem::at(
                path,
                "the daemon closed the connection twice without an answer",
                later,
            )),
            Self::Silent => Failure::NotReached(Problem::at(
                path,
                format!("the daemon gave no answer within {seconds} seconds"),
                later,
            )),
            Self::TooLong => Failure::Failed(Problem::at(
                path,
                format!("the answer is longer than {MAX_ANSWER} bytes"),
                "see that this is the daemon's socket",
            )),
            Self::Failed(error) => Failure::NotReached(Problem::at(
                path,
                format!("can't talk to the daemon: {error}"),
                later,
            )),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Closed,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Silent,
            _ => Self::Failed(error),
        }
    }
}

/// An answer's line without its newline; wiped, as it may hold a token.
struct Line(Vec<u8>);

impl Drop for Line {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

fn exchange(stream: &mut UnixStream, line: &[u8], deadline: Instant) -> Result<Line, Trouble> {
    // A daemon that is busy answers before it reads, and closes: the answer
    // is there all the same. It's told that nothing more follows.
    match stream.write_all(line).map_err(Trouble::from) {
        Ok(()) | Err(Trouble::Closed) => {}
        Err(trouble) => return Err(trouble),
    }
    let _ = stream.shutdown(Shutdown::Write);
    read_line(stream, deadline)
}

fn read_line(stream: &mut UnixStream, deadline: Instant) -> Result<Line, Trouble> {
    // All the room at once: growing would leave copies that nobody wipes.
    // Pages that no answer reaches cost nothing.
    const ROOM: usize = MAX_ANSWER + 1;
    let mut answer = Line(Vec::with_capacity(ROOM));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Trouble::Silent);
        }
        stream.set_read_timeout(Some(left))?;
        let held = answer.0.len();
        answer.0.resize(ROOM.min(held + 16 * 1024), 0);
        let fresh = answer.0.get_mut(held..).unwrap_or_default();
        let read = match stream.read(fresh) {
            Ok(0) => return Err(Trouble::Closed),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error.into()),
        };
        let end = fresh.iter().take(read).position(|b| *b == b'\n');
        answer.0.truncate(held + end.unwrap_or(read));
        if end.is_some() {
            return Ok(answer);
        }
        if answer.0.len() == ROOM {
            return Err(Trouble::TooLong);
        }
    }
}
