//! The load tool: drives a token socket, the daemon's or the bare signer's, and proves what it
//! was given.
//!
//! ```text
//! load drive SOCKET OP MODE CONNECTIONS SECONDS [ALGORITHM KEY]
//! load visit SOCKET OP MODE SECONDS
//! load idle SOCKET COUNT
//! load drain SOCKET
//! load spawn ROUNDS COMMAND [ARG]... [-- COMMAND [ARG]...]...
//! ```
//!
//! `OP` is `issue` or `ping`, or over HTTP `authenticate`, `verify` of the token on standard input,
//! or `empty`: the same request to a server that answers 200 and no body. `MODE` is `connect` (a
//! connection a request, closed for writing once the request is out, as `slurm-token` does) or
//! `persistent`, which HTTP always is. `ALGORITHM` and `KEY` say how tokens are verified: `HS256`
//! and a file of raw bytes, or `RS256` and a public key (PKCS#1, DER).
//!
//! Every answer of a `drive` is kept and examined after the clock has stopped: each must be a
//! token of its own (`jti` never repeats), signed by the key, living from now for the lifespan
//! asked for, and agree with what the answer says around it; or tell of the token that was shown
//! what it says. One bad answer fails the run.
//!
//! `visit` is another user's view of the load: one request, a pause, and the next; `idle` holds
//! connections that never ask; `drain` stands where syslogd would and reads what it is sent;
//! `spawn` times whole processes. `idle` and `drain` last until their standard input ends.
//!
//! Results are lines of `name=value` for a script to read; latencies are in microseconds.

#![expect(
    clippy::print_stdout,
    reason = "the lines it prints are what the tool is for"
)]

mod http;
mod proof;

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::Shutdown;
use std::ops::Range;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use self::proof::{Verifier, Wanted};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: load drive SOCKET issue|ping|authenticate|verify|empty connect|persistent \
                     CONNECTIONS SECONDS [HS256|RS256 KEY]\n       load visit SOCKET issue|ping connect|persistent SECONDS\n       \
                     load idle SOCKET COUNT\n       load drain SOCKET\n       load spawn ROUNDS COMMAND [ARG]... [-- COMMAND \
                     [ARG]...]...";

/// Seconds; also written into the requests.
const LIFESPAN: u64 = 600;
/// Requests each connection makes before the clock starts: caches are warm, pages are mapped.
const WARM_UP: usize = 20;
/// A visitor measures what one interactive user feels, so it does not itself add to the load.
const VISIT_PAUSE: Duration = Duration::from_millis(2);
/// A token is at most 12 KiB; its answer fits with room to spare.
const MAX_ANSWER: usize = 32 * 1024;

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Issue,
    Ping,
    Authenticate,
    Verify,
    Empty,
}

impl Op {
    fn parse(word: &str) -> Result<Self, Failure> {
        match word {
            "issue" => Ok(Self::Issue),
            "ping" => Ok(Self::Ping),
            "authenticate" => Ok(Self::Authenticate),
            "verify" => Ok(Self::Verify),
            "empty" => Ok(Self::Empty),
            _ => Err(format!("`{word}` is not an operation\n{USAGE}").into()),
        }
    }

    fn shows_a_token(self) -> bool {
        matches!(self, Self::Verify | Self::Empty)
    }
}

/// What is asked, over and over.
struct Question {
    request: Vec<u8>,
    http: bool,
}

impl Question {
    fn new(op: Op, token: &str) -> Self {
        let (request, http) = match op {
            Op::Issue => (
                b"{\"v\":1,\"op\":\"issue\",\"lifespan\":600}\n".into(),
                false,
            ),
            Op::Ping => (b"{\"v\":1,\"op\":\"ping\"}\n".into(), false),
            Op::Authenticate => (http::authenticate(), true),
            Op::Verify | Op::Empty => (http::verify(token), true),
        };
        Self { request, http }
    }

    /// Where the answer stands in what has arrived, if it's whole: a line with its newline, or a
    /// body.
    fn answer(&self, arrived: &[u8]) -> Result<Option<Range<usize>>, Failure> {
        if self.http {
            let framed = http::frame(arrived)?.filter(|(_, end)| *end <= arrived.len());
            return Ok(framed.map(|(start, end)| start..end));
        }
        Ok(arrived.ends_with(b"\n").then_some(0..arrived.len()))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Connect,
    Persistent,
}

impl Mode {
    fn parse(word: &str) -> Result<Self, Failure> {
        match word {
            "connect" => Ok(Self::Connect),
            "persistent" => Ok(Self::Persistent),
            _ => Err(format!("`{word}` is not a mode\n{USAGE}").into()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Persistent => "persistent",
        }
    }
}

/// One caller: asks on a connection of its own, or on a new one each time.
struct Caller<'a> {
    socket: &'a str,
    question: &'a Question,
    mode: Mode,
    open: Option<UnixStream>,
}

impl<'a> Caller<'a> {
    fn new(socket: &'a str, question: &'a Question, mode: Mode) -> Self {
        Self {
            socket,
            question,
            mode,
            open: None,
        }
    }

    /// Asks once; returns where the answer is in `arrived`.
    fn ask(&mut self, arrived: &mut [u8]) -> Result<Range<usize>, Failure> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => connect(self.socket)?,
        };
        stream.write_all(&self.question.request)?;
        if self.mode == Mode::Connect {
            stream.shutdown(Shutdown::Write)?;
        }
        let mut have = 0;
        let answer = loop {
            let got = stream.read(&mut arrived[have..])?;
            if got == 0 {
                return Err(format!("closed after {have} bytes of an answer").into());
            }
            have += got;
            if let Some(answer) = self.question.answer(&arrived[..have])? {
                break answer;
            }
        };
        if self.mode == Mode::Persistent {
            self.open = Some(stream);
        }
        Ok(answer)
    }
}

fn connect(socket: &str) -> Result<UnixStream, Failure> {
    UnixStream::connect(socket).map_err(|e| format!("{socket}: {e}").into())
}

/// What one connection saw.
struct Seen {
    nanoseconds: Vec<u64>,
    answers: Vec<u8>,
    begun: Instant,
    ended: Instant,
}

/// Callers that ask one after the other, each as fast as it is answered.
struct Drive<'a> {
    socket: &'a str,
    question: Question,
    mode: Mode,
    connections: usize,
    length: Duration,
}

impl Drive<'_> {
    /// Drives the socket, then examines every answer, and prints one line.
    fn run(&self, wanted: &Wanted) -> Result<(), Failure> {
        let start = Barrier::new(self.connections);
        // time(2) goes by the kernel's coarse clock, which may be a tick behind.
        let from = unix_now()?.saturating_sub(1);
        let seen = thread::scope(|scope| -> Result<Vec<Seen>, Failure> {
            let callers: Vec<_> = (0..self.connections)
                .map(|_| {
                    thread::Builder::new()
                        .stack_size(256 * 1024)
                        .spawn_scoped(scope, || self.ask_until_done(&start))
                })
                .collect::<Result<_, _>>()?;
            callers
                .into_iter()
                .map(|c| c.join().map_err(|_| "a caller panicked")?)
                .collect()
        })?;
        let to = unix_now()?;

        let begun = seen.iter().map(|s| s.begun).min().ok_or("no connections")?;
        let ended = seen.iter().map(|s| s.ended).max().ok_or("no connections")?;
        let answers: Vec<_> = seen.iter().map(|s| s.answers.as_slice()).collect();
        let mut times: Vec<u64> = seen.iter().flat_map(|s| &s.nanoseconds).copied().collect();
        wanted.examine(&answers, times.len(), from..=to)?;
        println!(
            "mode={} connections={} {} verified={}",
            self.mode.name(),
            self.connections,
            summary(&mut times, Some(ended - begun)),
            times.len(),
        );
        Ok(())
    }

    /// One caller: asks until the time is up, keeping every answer.
    fn ask_until_done(&self, start: &Barrier) -> Result<Seen, Failure> {
        let mut caller = Caller::new(self.socket, &self.question, self.mode);
        let mut arrived = vec![0; MAX_ANSWER];
        let warm = (0..WARM_UP).try_for_each(|_| caller.ask(&mut arrived).map(drop));
        // A caller that failed still meets the others, or they would wait for ever.
        start.wait();
        warm?;
        let begun = Instant::now();
        let mut seen = Seen {
            nanoseconds: Vec::new(),
            answers: Vec::new(),
            begun,
            ended: begun,
        };
        while seen.ended - begun < self.length {
            let answer = caller.ask(&mut arrived)?;
            let now = Instant::now();
            seen.nanoseconds.push(nanoseconds(now - seen.ended));
            seen.answers.extend_from_slice(&arrived[answer]);
            if self.question.http {
                seen.answers.push(b'\n');
            }
            seen.ended = now;
        }
        Ok(seen)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The token on standard input, and the user whom it is for.
fn shown() -> Result<(String, String), Failure> {
    #[derive(Deserialize)]
    struct Subject {
        sun: String,
    }
    let token = io::read_to_string(io::stdin())?.trim().to_owned();
    let claims = token
        .split('.')
        .nth(1)
        .ok_or("no token on standard input")?;
    let Subject { sun } = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    Ok((token, sun))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one clock that tokens are held against"
)]
fn unix_now() -> Result<u64, Failure> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// Requests, their rate where they were asked back to back, and the latencies.
fn summary(nanoseconds: &mut [u64], elapsed: Option<Duration>) -> String {
    nanoseconds.sort_unstable();
    let count = nanoseconds.len();
    let mut line = format!("requests={count}");
    if let Some(elapsed) = elapsed {
        // Exact: nobody makes 2^32 requests in a run.
        let rate = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
        let _ = write!(line, " rps={rate:.0}");
    }
    for (name, rank) in [("p50_us", 500), ("p99_us", 990), ("max_us", 1000)] {
        let at = (count * rank / 1000).min(count.saturating_sub(1));
        let tenths = nanoseconds.get(at).copied().unwrap_or(0) / 100;
        let _ = write!(line, " {name}={}.{}", tenths / 10, tenths % 10);
    }
    line
}

/// One user's requests, a pause between them, while others do what they do.
fn visit(socket: &str, op: Op, mode: Mode, length: Duration) -> Result<(), Failure> {
    let question = Question::new(op, "");
    let mut caller = Caller::new(socket, &question, mode);
    let mut arrived = vec![0; MAX_ANSWER];
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < length {
        let asked = Instant::now();
        let answer = caller.ask(&mut arrived)?;
        times.push(nanoseconds(asked.elapsed()));
        Wanted::Plain.examine(&[&arrived[answer]], 1, 0..=0)?;
        thread::sleep(VISIT_PAUSE);
    }
    println!("mode={} {}", mode.name(), summary(&mut times, None));
    Ok(())
}

/// Opens connections, says so, and holds them until its own input ends; then counts how many are
/// still open.
fn idle(socket: &str, count: usize) -> Result<(), Failure> {
    let held: Vec<_> = (0..count)
        .map(|_| connect(socket))
        .collect::<Result<_, _>>()?;
    println!("held={}", held.len());
    io::stdin().read_to_end(&mut Vec::new())?;
    let mut open = 0;
    for mut stream in held {
        stream.set_nonblocking(true)?;
        let waiting = stream.read(&mut [0; 1]);
        open += usize::from(waiting.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock));
    }
    println!("open={open}");
    Ok(())
}

/// Reads datagrams as syslogd would, and counts them.
fn drain(socket: &str) -> Result<(), Failure> {
    let reader = UnixDatagram::bind(socket).map_err(|e| format!("{socket}: {e}"))?;
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        let mut record = [0; 8192];
        while reader.recv(&mut record).is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    println!("records={}", count.load(Ordering::Relaxed));
    Ok(())
}

/// Starts the commands in turn, over and over, and measures each from its start to its end.
fn spawn(rounds: usize, commands: &[&[String]]) -> Result<(), Failure> {
    let mut times = vec![Vec::with_capacity(rounds); commands.len()];
    for _ in 0..rounds {
        for (command, times) in commands.iter().zip(&mut times) {
            let (program, arguments) = command.split_first().ok_or(USAGE)?;
            let started = Instant::now();
            let status = Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .map_err(|e| format!("{program}: {e}"))?;
            times.push(nanoseconds(started.elapsed()));
            if !status.success() {
                return Err(format!("{program}: {status}").into());
            }
        }
    }
    for (command, times) in commands.iter().zip(&mut times) {
        println!("program={} {}", command[0], summary(times, None));
    }
    Ok(())
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [
            "drive",
            socket,
            op,
            mode,
            connections,
            seconds,
            ref verify @ ..,
        ] => {
            let op = Op::parse(op)?;
            let (token, sun) = if op.shows_a_token() {
                shown()?
            } else {
                Default::default()
            };
            let wanted = match (op, verify) {
                (Op::Issue | Op::Authenticate, [algorithm, key]) => {
                    Wanted::Tokens(Verifier::new(algorithm, key)?.into())
                }
                (Op::Ping, []) => Wanted::Plain,
                (Op::Verify, []) => Wanted::Told(sun),
                (Op::Empty, []) => Wanted::Nothing,
                _ => return Err(USAGE.into()),
            };
            let drive = Drive {
                socket,
                question: Question::new(op, &token),
                mode: Mode::parse(mode)?,
                connections: connections.parse()?,
                length: Duration::from_secs_f64(seconds.parse()?),
            };
            drive.run(&wanted)
        }
        ["visit", socket, op, mode, seconds] => visit(
            socket,
            Op::parse(op)?,
            Mode::parse(mode)?,
            Duration::from_secs_f64(seconds.parse()?),
        ),
        ["idle", socket, count] => idle(socket, count.parse()?),
        ["drain", socket] => drain(socket),
        ["spawn", rounds, _, ..] => {
            let commands: Vec<_> = arguments[2..].split(|word| word == "--").collect();
            spawn(rounds.parse()?, &commands)
        }
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load: {failure}");
            ExitCode::FAILURE
        }
    }
}
