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
//! `OP` is `issue` or `ping`; `MODE` is `connect` (a connection a request, closed for writing
//! once the request is out, as `slurm-token` does) or `persistent`. `ALGORITHM` and `KEY` say how
//! tokens are verified: `HS256` and a file of raw bytes, or `RS256` and
//! a public key (PKCS#1, DER).
//!
//! Every answer of a `drive` is kept and examined after the clock has stopped: each must be a
//! token of its own (`jti` never repeats), signed by the key, living from now for the lifespan
//! asked for, and agree with what the answer says around it. One bad answer fails the run.
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

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: load drive SOCKET issue|ping connect|persistent CONNECTIONS SECONDS \
                     [HS256|RS256 KEY]\n       load visit SOCKET issue|ping connect|persistent SECONDS\n       \
                     load idle SOCKET COUNT\n       load drain SOCKET\n       load spawn ROUNDS COMMAND [ARG]... [-- COMMAND \
                     [ARG]...]...";

/// Seconds; also written into [`Op::request`].
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
}

impl Op {
    fn parse(word: &str) -> Result<Self, Failure> {
        match word {
            "issue" => Ok(Self::Issue),
            "ping" => Ok(Self::Ping),
            _ => Err(format!("`{word}` is not an operation\n{USAGE}").into()),
        }
    }

    fn request(self) -> &'static [u8] {
        match self {
            Self::Issue => b"{\"v\":1,\"op\":\"issue\",\"lifespan\":600}\n",
            Self::Ping => b"{\"v\":1,\"op\":\"ping\"}\n",
        }
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
    request: &'static [u8],
    mode: Mode,
    open: Option<UnixStream>,
}

impl<'a> Caller<'a> {
    fn new(socket: &'a str, op: Op, mode: Mode) -> Self {
        Self {
            socket,
            request: op.request(),
            mode,
            open: None,
        }
    }

    /// Asks once; returns the length of the line in `answer`, its newline included.
    fn ask(&mut self, answer: &mut [u8]) -> Result<usize, Failure> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => connect(self.socket)?,
        };
        stream.write_all(self.request)?;
        if self.mode == Mode::Connect {
            stream.shutdown(Shutdown::Write)?;
        }
        let mut have = 0;
        loop {
            let got = stream.read(&mut answer[have..])?;
            if got == 0 {
                return Err(format!("closed after {have} bytes of an answer").into());
            }
            have += got;
            if answer[have - 1] == b'\n' {
                break;
            }
        }
        if self.mode == Mode::Persistent {
            self.open = Some(stream);
        }
        Ok(have)
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
    op: Op,
    mode: Mode,
    connections: usize,
    length: Duration,
}

impl Drive<'_> {
    /// Drives the socket, then examines every answer, and prints one line.
    fn run(&self, verifier: Option<&Verifier>) -> Result<(), Failure> {
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
        let answers = seen.iter().flat_map(|s| lines(&s.answers));
        let mut times: Vec<u64> = seen.iter().flat_map(|s| &s.nanoseconds).copied().collect();
        let good = match verifier {
            Some(verifier) => verifier.examine(answers, from..=to)?,
            None => plain_answers(answers)?,
        };
        if good != times.len() {
            return Err(format!("{good} answers to {} requests", times.len()).into());
        }
        println!(
            "mode={} connections={} {} verified={good}",
            self.mode.name(),
            self.connections,
            summary(&mut times, Some(ended - begun)),
        );
        Ok(())
    }

    /// One caller: asks until the time is up, keeping every answer.
    fn ask_until_done(&self, start: &Barrier) -> Result<Seen, Failure> {
        let mut caller = Caller::new(self.socket, self.op, self.mode);
        let mut answer = vec![0; MAX_ANSWER];
        let warm = (0..WARM_UP).try_for_each(|_| caller.ask(&mut answer).map(drop));
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
            let size = caller.ask(&mut answer)?;
            let now = Instant::now();
            seen.nanoseconds.push(nanoseconds(now - seen.ended));
            seen.answers.extend_from_slice(&answer[..size]);
            seen.ended = now;
        }
        Ok(seen)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How tokens are verified, and what they must say.
struct Verifier {
    key: DecodingKey,
    rules: Validation,
}

#[derive(Deserialize)]
struct Answer {
    ok: Issued,
}

#[derive(Deserialize)]
struct Issued {
    token: String,
    user: String,
    expires_at: u64,
    jti: String,
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
    exp: u64,
    jti: String,
    sun: String,
}

impl Verifier {
    fn new(algorithm: &str, key_file: &str) -> Result<Self, Failure> {
        let bytes = std::fs::read(key_file).map_err(|e| format!("{key_file}: {e}"))?;
        let (algorithm, key) = match algorithm {
            "HS256" => (Algorithm::HS256, DecodingKey::from_secret(&bytes)),
            "RS256" => (Algorithm::RS256, DecodingKey::from_rsa_der(&bytes)),
            _ => return Err(format!("`{algorithm}` is not an algorithm\n{USAGE}").into()),
        };
        let mut rules = Validation::new(algorithm);
        rules.validate_aud = false;
        Ok(Self { key, rules })
    }

    /// Counts the answers, each of which is a fresh token issued at one of the times in `within`
    /// (Unix seconds); the first that is not is the error.
    fn examine<'a>(
        &self,
        answers: impl Iterator<Item = &'a [u8]>,
        within: std::ops::RangeInclusive<u64>,
    ) -> Result<usize, Failure> {
        let mut seen = HashSet::new();
        for line in answers {
            // Only a refusal is printed: a line that does not parse may hold a token.
            if line.starts_with(b"{\"v\":1,\"error\"") {
                return Err(format!("refused: {}", line.escape_ascii()).into());
            }
            let Answer { ok } = serde_json::from_slice(line)?;
            let claims: Claims =
                jsonwebtoken::decode(ok.token.as_bytes(), &self.key, &self.rules)?.claims;
            if !within.contains(&claims.iat) {
                return Err(format!("iat {} lies outside {within:?}", claims.iat).into());
            }
            if claims.exp != claims.iat + LIFESPAN || claims.exp != ok.expires_at {
                return Err(format!("exp {} is not iat + {LIFESPAN}", claims.exp).into());
            }
            if claims.sun != ok.user || claims.jti != ok.jti {
                return Err("the answer and its token differ".into());
            }
            if !seen.insert(claims.jti) {
                return Err("a jti came twice".into());
            }
        }
        Ok(seen.len())
    }
}

/// Counts answers without a token; the first refusal is the error.
fn plain_answers<'a>(answers: impl Iterator<Item = &'a [u8]>) -> Result<usize, Failure> {
    let mut count = 0;
    for line in answers {
        if !line.starts_with(b"{\"v\":1,\"ok\"") {
            return Err(format!("refused: {}", line.escape_ascii()).into());
        }
        count += 1;
    }
    Ok(count)
}

fn lines(answers: &[u8]) -> impl Iterator<Item = &[u8]> {
    answers
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
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
    let mut caller = Caller::new(socket, op, mode);
    let mut answer = vec![0; MAX_ANSWER];
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < length {
        let asked = Instant::now();
        let size = caller.ask(&mut answer)?;
        times.push(nanoseconds(asked.elapsed()));
        plain_answers(lines(&answer[..size]))?;
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
            let verifier = match (op, verify) {
                (Op::Issue, [algorithm, key]) => Some(Verifier::new(algorithm, key)?),
                (Op::Ping, []) => None,
                _ => return Err(USAGE.into()),
            };
            let drive = Drive {
                socket,
                op,
                mode: Mode::parse(mode)?,
                connections: connections.parse()?,
                length: Duration::from_secs_f64(seconds.parse()?),
            };
            drive.run(verifier.as_ref())
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
