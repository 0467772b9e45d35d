use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use zeroize::Zeroize;

use super::failure::Failure;
use super::socket::{self, Choice};
use crate::report::Problem;
use crate::wire::{self, Code, MAX_ANSWER, MAX_REQUEST, Refusal, Request};

/// How long the daemon may take in all. It waits up to 5 s for an account
/// and up to 10 s for its own end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a daemon that went away may take to be back.
const RESTART: Duration = Duration::from_secs(2);

/// Which daemon to ask, and how patiently.
#[derive(Debug, PartialEq)]
pub(super) struct Daemon {
    pub(super) socket: Choice,
    /// How long to ask again where that may help.
    pub(super) wait: Duration,
}

impl Daemon {
    /// Asks; again where the daemon is away or says when it's worth it, unless
    /// that is later than one is willing to wait.
    pub(super) fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        request: &Request,
    ) -> Result<T, Failure> {
        let path = self.socket.path();
        // Nothing is waited for by default, and then no clock is asked.
        let until = (!self.wait.is_zero()).then(|| Instant::now() + self.wait);
        loop {
            let failure = match ask(&path, request) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match (until, failure.worth_asking_again()) {
                (Some(until), Some(pause)) if Instant::now() + pause <= until => {
                    std::thread::sleep(pause);
                }
                _ => return Err(failure),
            }
        }
    }
}

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
    let mut answer = attempt(path, &line, deadline, None);
    if answer.as_ref().is_err_and(Trouble::is_restart) {
        answer = attempt(path, &line, deadline, Some(Instant::now() + RESTART));
    }
    answer.map_err(|trouble| trouble.at(path, patience))
}

fn attempt<T: for<'de> Deserialize<'de>>(
    path: &Path,
    line: &[u8],
    deadline: Instant,
    restart_until: Option<Instant>,
) -> Result<T, Trouble> {
    let answer = line_back(path, line, deadline, restart_until)?;
    // What serde says of an unreadable answer may quote it, and a token with it.
    let answer = wire::parse_answer(&answer.0).map_err(|_| Trouble::Unreadable)?;
    answer.map_err(Trouble::Refused)
}

/// What the daemon says to this line.
fn line_back(
    path: &Path,
    line: &[u8],
    deadline: Instant,
    restart_until: Option<Instant>,
) -> Result<Line, Trouble> {
    let mut stream = socket::connect(path, deadline, restart_until).map_err(Trouble::Connection)?;
    exchange(&mut stream, line, deadline)
}

/// Why there was no answer.
enum Trouble {
    /// No connection to a daemon that may be trusted.
    Connection(Failure),
    /// It was closed, before the answer or in the middle of it.
    Closed,
    /// Nothing more came in time.
    Silent,
    /// The system says no.
    System(std::io::Error),
    /// The answer has no end.
    TooLong,
    /// The answer is none.
    Unreadable,
    /// The daemon says no.
    Refused(Refusal),
}

impl Trouble {
    fn is_restart(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Refused(refusal) => refusal.code == Code::ShuttingDown,
            _ => false,
        }
    }

    fn at(self, path: &Path, patience: Duration) -> Failure {
        let unreached = |what: String| {
            let later = "try again in a while, and tell your administrator if this lasts";
            Failure::NotReached(Problem::at(path, what, later))
        };
        let failed = |what: String| {
            let compare =
                "see that this is the daemon's socket, and that slurm-token is of its release";
            Failure::Failed(Problem::at(path, what, compare))
        };
        match self {
            Self::Connection(failure) => failure,
            Self::Closed => {
                unreached("the daemon closed the connection twice without an answer".into())
            }
            Self::Silent => unreached(format!(
                "the daemon gave no answer within {} seconds",
                patience.as_secs()
            )),
            Self::System(error) => unreached(format!("can't talk to the daemon: {error}")),
            Self::TooLong => failed(format!("the answer is longer than {MAX_ANSWER} bytes")),
            Self::Unreadable => failed("the answer is not one of protocol version 1".into()),
            Self::Refused(refusal) => Failure::Refused(refusal),
        }
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Closed,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Silent,
            _ => Self::System(error),
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
    // Room for a token without much in it: memory costs time when it's first
    // touched.
    const USUAL: usize = 2048;
    const MOST: usize = MAX_ANSWER + 1;
    let mut answer = Line(vec![0; USUAL]);
    let mut held = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Trouble::Silent);
        }
        stream.set_read_timeout(Some(left))?;
        let fresh = answer.0.get_mut(held..).unwrap_or_default();
        let read = match stream.read(fresh) {
            Ok(0) => return Err(Trouble::Closed),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error.into()),
        };
        let end = fresh.iter().take(read).position(|b| *b == b'\n');
        if let Some(end) = end {
            answer.0.truncate(held + end);
            return Ok(answer);
        }
        held += read;
        if held == MOST {
            return Err(Trouble::TooLong);
        }
        if held == answer.0.len() {
            // All the room at once, and what there was is wiped: a vector that
            // grows by itself leaves copies that nobody wipes.
            let mut larger = Line(vec![0; MOST]);
            larger.0[..held].copy_from_slice(&answer.0);
            answer = larger;
        }
    }
}

/// Faults that the real daemon can't be made to have; what it does have is
/// tested against it, in `tests/it/client.rs`.
#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen,
    };

    use super::*;
    use crate::wire::{Pong, refusal_line};

    const PONG: &[u8] = b"{\"v\":1,\"ok\":{\"version\":\"9\"}}\n";

    /// How a connection is served; it yields what was asked on it.
    type Way = Box<dyn Fn(&mut UnixStream) -> Vec<u8> + Send>;

    /// Reads all that is asked, then says this.
    fn says(answer: &[u8]) -> Way {
        let answer = answer.to_vec();
        Box::new(move |stream| {
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            stream.write_all(&answer).unwrap();
            asked
        })
    }

    /// Says this over and over without reading, for as long as it's heard.
    fn repeats(piece: &'static [u8], pause: Duration) -> Way {
        Box::new(move |stream| {
            while stream.write_all(piece).is_ok() {
                std::thread::sleep(pause);
            }
            Vec::new()
        })
    }

    fn closes() -> Way {
        Box::new(|_| Vec::new())
    }

    /// Serves one connection after the other, each in its own way.
    fn serve(path: &Path, ways: Vec<Way>) -> JoinHandle<Vec<Vec<u8>>> {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            ways.into_iter()
                .map(|way| way(&mut listener.accept().unwrap().0))
                .collect()
        })
    }

    /// The answer of a daemon that serves in these ways.
    fn ping(ways: Vec<Way>) -> Result<Pong, Failure> {
        ping_within(Duration::from_secs(5), ways)
    }

    fn ping_within(patience: Duration, ways: Vec<Way>) -> Result<Pong, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        // Nobody waits for a connection that doesn't come.
        drop(serve(&path, ways));
        ask_within(&path, &Request::Ping, patience)
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
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let server = serve(&path, vec![says(PONG)]);
        let answer: Pong = ask_within(&path, &Request::Ping, Duration::from_secs(5)).unwrap();
        assert_eq!(answer.version, "9");
        assert_eq!(server.join().unwrap(), [b"{\"v\":1,\"op\":\"ping\"}\n"]);
    }

    #[test]
    fn a_connection_that_closes_unanswered_is_tried_once_more() {
        let answer = ping(vec![closes(), says(PONG)]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn half_an_answer_is_none() {
        let answer = ping(vec![says(&PONG[..10]), says(PONG)]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn a_daemon_that_is_stopping_is_asked_once_more() {
        let stopping = Refusal::new(Code::ShuttingDown, "The daemon is stopping.", "Wait.");
        let answer = ping(vec![says(&refusal_line(&stopping)), says(PONG)]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn a_connection_that_closes_twice_unanswered_reaches_nobody() {
        let answer = ping(vec![closes(), says(&PONG[..10])]);
        assert_eq!(
            what(answer),
            "not reached: the daemon closed the connection twice without an answer"
        );
    }

    #[test]
    fn a_refusal_is_not_asked_again() {
        let busy = Refusal::new(Code::Busy, "There is no room.", "Try again.");
        let answer = ping(vec![says(&refusal_line(&busy))]);
        assert!(matches!(answer, Err(Failure::Refused(refusal)) if refusal == busy));
    }

    #[test]
    fn a_refusal_with_a_code_of_a_newer_release_is_one_all_the_same() {
        let newer = b"{\"v\":1,\"error\":{\"code\":\"too_early\",\"message\":\"m\",\"help\":\"h\",\"until\":9}}\n";
        let expected = Refusal::new(Code::Unknown, "m", "h");
        let answer = ping(vec![says(newer)]);
        assert!(matches!(answer, Err(Failure::Refused(refusal)) if refusal == expected));
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
                serve(&path, vec![says(PONG)]).join().unwrap()
            }
        });
        let answer: Pong = ask_within(&path, &Request::Ping, Duration::from_secs(5)).unwrap();
        assert_eq!(answer.version, "9");
        server.join().unwrap();
    }

    #[test]
    fn an_answer_that_came_before_the_question_is_taken() {
        let (mut client, mut daemon) = UnixStream::pair().unwrap();
        daemon.write_all(PONG).unwrap();
        drop(daemon);
        let deadline = Instant::now() + Duration::from_secs(5);
        let answer = exchange(&mut client, &Request::Ping.to_line(), deadline)
            .ok()
            .unwrap();
        assert_eq!(answer.0, PONG.trim_ascii_end());
    }

    #[test]
    fn an_answer_in_many_pieces_is_taken() {
        let answer = ping(vec![Box::new(|stream| {
            for byte in PONG {
                stream.write_all(&[*byte]).unwrap();
                std::thread::yield_now();
            }
            Vec::new()
        })]);
        assert_eq!(answer.unwrap().version, "9");
    }

    #[test]
    fn what_is_no_answer_is_refused_and_not_repeated() {
        for no_answer in [
            b"eyJsecret\n".as_slice(),
            b"\n",
            b"\xff\xfe\0\n",
            b"{\"v\":1,\"ok\":\"eyJsecret\"}\n",
            b"{\"v\":1,\"ok\":{\"version\":\"9\"},\"error\":\"eyJsecret\"}\n",
            b"{\"v\":2,\"ok\":{\"version\":\"9\"}}\n",
        ] {
            let answer = ping(vec![says(no_answer)]);
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
        let answer = ping(vec![repeats(&[b' '; 4096], Duration::ZERO)]);
        assert_eq!(
            what(answer),
            format!("failed: the answer is longer than {MAX_ANSWER} bytes")
        );
    }

    #[test]
    fn the_longest_answer_is_taken() {
        let longest = [vec![b' '; MAX_ANSWER + 1 - PONG.len()], PONG.to_vec()].concat();
        let answer = ping(vec![says(&longest)]);
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
        let trickle = repeats(b" ", Duration::from_millis(5));
        let answer = ping_within(Duration::from_millis(100), vec![trickle]);
        assert_eq!(
            what(answer),
            "not reached: the daemon gave no answer within 0 seconds"
        );
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
        bind(listener.as_raw_fd(), &address).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        connect(first.as_raw_fd(), &address).unwrap();
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
