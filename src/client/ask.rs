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
    ask_within(path, request, PATIENCE)
}

fn ask_within<T: for<'de> Deserialize<'de>>(
    path: &Path,
    request: &Request,
    patience: Duration,
) -> Result<T, Failure> {
    let line = request.to_line();
    if line.len() > MAX_REQUEST + 1 {
        return Err(Failure::Usage(format!(
            "what is asked for is longer than {MAX_REQUEST} bytes"
        )));
    }
    let deadline = Instant::now() + patience;
    let mut answer = exchange(&mut socket::connect(path, deadline, None)?, &line, deadline);
    if answer
        .as_ref()
        .map_or_else(Trouble::is_restart, is_shutting_down)
    {
        let restarted = Instant::now() + RESTART;
        let mut stream = socket::connect(path, deadline, Some(restarted))?;
        answer = exchange(&mut stream, &line, deadline);
    }
    let answer = answer.map_err(|trouble| trouble.at(path, patience))?;
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

    fn at(self, path: &Path, patience: Duration) -> Failure {
        let later = "try again in a while, and tell your administrator if this lasts";
        match self {
            Self::Closed => Failure::NotReached(Problem::at(
                path,
                "the daemon closed the connection twice without an answer",
                later,
            )),
            Self::Silent => Failure::NotReached(Problem::at(
                path,
                format!(
                    "the daemon gave no answer within {} seconds",
                    patience.as_secs()
                ),
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

/// Faults that the real daemon can't be made to have; what it does have is
/// tested against it, in `tests/it/client.rs`.
#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen,
    };

    use super::*;
    use crate::wire::{Pong, Refusal, ok_line, refusal_line};

    const PONG: &[u8] = b"{\"v\":1,\"ok\":{\"version\":\"9\"}}\n";

    /// Serves one connection after the other, each in its own way, and yields
    /// what was asked on them.
    fn serve(
        path: &Path,
        ways: Vec<fn(&mut UnixStream, &mut Vec<u8>)>,
    ) -> JoinHandle<Vec<Vec<u8>>> {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let serve_one = |way: fn(&mut UnixStream, &mut Vec<u8>)| {
                let (mut stream, mut asked) = (listener.accept().unwrap().0, Vec::new());
                way(&mut stream, &mut asked);
                asked
            };
            ways.into_iter().map(serve_one).collect()
        })
    }

    fn ping(ways: Vec<fn(&mut UnixStream, &mut Vec<u8>)>) -> (Result<Pong, Failure>, Vec<Vec<u8>>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let server = serve(&path, ways);
        let answer = ask_within(&path, &Request::Ping, Duration::from_secs(5));
        (answer, server.join().unwrap())
    }

    /// Reads all that is asked, then answers.
    fn answers(stream: &mut UnixStream, asked: &mut Vec<u8>) {
        stream.read_to_end(asked).unwrap();
        stream.write_all(PONG).unwrap();
    }

    fn closes(_: &mut UnixStream, _: &mut Vec<u8>) {}

    fn closes_halfway(stream: &mut UnixStream, asked: &mut Vec<u8>) {
        stream.read_to_end(asked).unwrap();
        stream.write_all(&PONG[..10]).unwrap();
    }

    fn what<T: std::fmt::Debug>(answer: Result<T, Failure>) -> String {
        match answer {
            Err(Failure::NotReached(problem)) => format!("not reached: {}", problem.what),
            Err(Failure::Failed(problem)) => format!("failed: {}", problem.what),
            other => panic!("neither failed nor unreached: {other:?}"),
        }
    }

    #[test]
    fn one_request_is_sent_and_nothing_more_follows() {
        let (answer, asked) = ping(vec![answers]);
        assert_eq!(answer.unwrap().version, "9");
        assert_eq!(asked, [b"{\"v\":1,\"op\":\"ping\"}\n"]);
    }

    #[test]
    fn a_connection_that_closes_unanswered_is_tried_once_more() {
        let (answer, _) = ping(vec![closes, answers]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn half_an_answer_is_none() {
        let (answer, _) = ping(vec![closes_halfway, answers]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn a_daemon_that_is_stopping_is_asked_once_more() {
        let (answer, _) = ping(vec![
            |stream, asked| {
                stream.read_to_end(asked).unwrap();
                let refusal = Refusal::new(Code::ShuttingDown, "The daemon is stopping.", "Wait.");
                stream.write_all(&refusal_line(&refusal)).unwrap();
            },
            answers,
        ]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn a_connection_that_closes_twice_unanswered_reaches_nobody() {
        let (answer, _) = ping(vec![closes, closes_halfway]);
        assert_eq!(
            what(answer),
            "not reached: the daemon closed the connection twice without an answer"
        );
    }

    #[test]
    fn a_daemon_that_is_away_for_a_moment_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn({
            let path = path.clone();
            move || {
                let first = listener.accept().unwrap();
                std::fs::remove_file(&path).unwrap();
                drop(listener);
                drop(first);
                std::thread::sleep(Duration::from_millis(100));
                serve(&path, vec![answers]).join().unwrap()
            }
        });
        let answer: Pong = ask_within(&path, &Request::Ping, Duration::from_secs(5)).unwrap();
        assert_eq!(answer.version, "9");
        server.join().unwrap();
    }

    #[test]
    fn an_answer_that_comes_before_the_question_is_taken() {
        let (answer, _) = ping(vec![|stream, _| stream.write_all(PONG).unwrap()]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn an_answer_in_many_pieces_is_taken() {
        let (answer, _) = ping(vec![|stream, asked| {
            stream.read_to_end(asked).unwrap();
            for byte in PONG {
                stream.write_all(&[*byte]).unwrap();
                std::thread::yield_now();
            }
        }]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn what_is_no_answer_is_refused_and_not_repeated() {
        let no_answers: [fn(&mut UnixStream, &mut Vec<u8>); 6] = [
            |stream, _| stream.write_all(b"eyJsecret\n").unwrap(),
            |stream, _| stream.write_all(b"\n").unwrap(),
            |stream, _| stream.write_all(b"\xff\xfe\0\n").unwrap(),
            |stream, _| {
                stream
                    .write_all(b"{\"v\":1,\"ok\":\"eyJsecret\"}\n")
                    .unwrap()
            },
            |stream, _| {
                stream
                    .write_all(b"{\"v\":2,\"ok\":{\"version\":\"9\"}}\n")
                    .unwrap()
            },
            |stream, _| stream.write_all(&ok_line(&"eyJsecret")).unwrap(),
        ];
        for no_answer in no_answers {
            let (answer, _) = ping(vec![no_answer]);
            let told = answer.as_ref().unwrap_err().told_by("slurm-token");
            assert!(!told.contains("eyJsecret"), "{told}");
            assert_eq!(
                what(answer),
                "failed: the answer is not one of protocol version 1"
            );
        }
    }

    #[test]
    fn an_answer_without_end_is_refused() {
        let (answer, _) = ping(vec![|stream, asked| {
            stream.read_to_end(asked).unwrap();
            while stream.write_all(&[b' '; 4096]).is_ok() {}
        }]);
        assert_eq!(
            what(answer),
            format!("failed: the answer is longer than {MAX_ANSWER} bytes")
        );
    }

    #[test]
    fn the_longest_answer_is_taken() {
        let (answer, _) = ping(vec![|stream, asked| {
            stream.read_to_end(asked).unwrap();
            stream
                .write_all(&vec![b' '; MAX_ANSWER + 1 - PONG.len()])
                .unwrap();
            stream.write_all(PONG).unwrap();
        }]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn a_daemon_that_never_answers_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let answer: Result<Pong, _> = ask_within(&path, &Request::Ping, Duration::from_millis(50));
        assert_eq!(
            what(answer),
            "not reached: the daemon gave no answer within 0 seconds"
        );
        drop(listener);
    }

    #[test]
    fn a_daemon_that_trickles_for_ever_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let server = serve(
            &path,
            vec![|stream, _| {
                while stream.write_all(b" ").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }],
        );
        let answer: Result<Pong, _> = ask_within(&path, &Request::Ping, Duration::from_millis(100));
        assert_eq!(
            what(answer),
            "not reached: the daemon gave no answer within 0 seconds"
        );
        server.join().unwrap();
    }

    #[test]
    fn a_daemon_that_takes_no_connection_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let address = UnixAddr::new(&path).unwrap();
        let unix = || {
            nix::sys::socket::socket(
                AddressFamily::Unix,
                SockType::Stream,
                SockFlag::empty(),
                None,
            )
            .unwrap()
        };
        let (listener, first) = (unix(), unix());
        bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &address).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        connect(std::os::fd::AsRawFd::as_raw_fd(&first), &address).unwrap();
        let answer: Result<Pong, _> = ask_within(&path, &Request::Ping, Duration::from_millis(50));
        assert_eq!(
            what(answer),
            "not reached: the daemon takes no connection: too many wait for it"
        );
    }

    #[test]
    fn a_request_that_is_too_long_is_not_sent() {
        let target = Some("x".repeat(MAX_REQUEST));
        let request = Request::Issue {
            lifespan: None,
            target,
        };
        let answer: Result<Pong, _> = ask(Path::new("/nonexistent"), &request);
        assert!(matches!(answer, Err(Failure::Usage(_))), "{answer:?}");
    }
}
