//! The program `slurm-tokend`.
//!
//! ```text
//!          connections                          what takes time
//!  kernel ───────────▶ front ─▶ serve ────────▶ directory (accounts, NSS)
//!                        ▲      ▲ │ └─────────▶ signers   (RSA, by turns)
//!                        └──────┼─┘ park        the log, when it's full
//!  kernel ───────────▶ http ◀───┘
//!          connections       visits, and their answers
//! ```

mod administer;
mod admit;
mod attendants;
pub(crate) mod blocks;
mod connection;
pub(crate) mod directory;
pub(crate) mod engine;
mod exposition;
mod front;
mod grant;
mod horizon;
mod http;
mod inbox;
pub(crate) mod keyring;
mod ledger;
mod listen;
mod metrics;
mod origin;
mod peer;
mod prepared;
mod privileges;
mod quotas;
mod refuse;
mod serve;
mod signers;
mod verify;
mod watchdog;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sd_notify::NotifyState;
use tokio::runtime::{self, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::issue::Issuer;
use crate::journal;
use crate::keys::Algorithm;
use crate::report::{Problem, Problems};
use crate::state::StateDir;
use attendants::Attendants;
use blocks::Keeper;
use directory::Directory;
use engine::Engine;
use front::Fronts;
use http::HttpDoor;
use ledger::Ledger;
use listen::Doors;
use metrics::Metrics;
use origin::Lookout;
use prepared::Prepared;
use quotas::Quotas;
use signers::Signers;

/// Where the configuration is unless told otherwise.
pub(crate) const CONFIGURATION: &str = "/etc/slurm/slurm-tokend.toml";
/// The variable that names another one.
const CONFIGURATION_VARIABLE: &str = "SLURM_TOKEND_CONF";
/// A complaint that keeps coming is told once in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

const USAGE: &str = "\
Usage: slurm-tokend [--config FILE] [--check]

Serves short-lived Slurm tokens on a Unix socket.

Options:
  --config FILE  read this configuration; else $SLURM_TOKEND_CONF, or
                 /etc/slurm/slurm-tokend.toml
  --check        check configuration and key, say what is wrong, and end
  -h, --help     show this text
  -V, --version  show the version

Signals: SIGHUP takes a changed configuration; SIGTERM and SIGINT finish what
has begun and end. Exit status: 0 done, 1 failed, 2 wrong usage.

Examples:
  slurm-tokend --check
  slurm-tokend --check --config /etc/slurm/slurm-tokend@west.toml
";

/// Everything that a request may need.
struct Daemon {
    engine: RwLock<Arc<Engine>>,
    directory: Directory,
    quotas: Arc<Quotas>,
    http: Option<HttpDoor>,
    signers: Arc<Signers>,
    fronts: Fronts,
    attendants: Attendants,
    runtime: Handle,
    state: Arc<StateDir>,
    blocks: Keeper,
    ledger: Ledger,
    lookout: Lookout,
    metrics: Arc<Metrics>,
    /// Whose turn it is to try a log that is full...
    log_turn: tokio::sync::Mutex<()>,
    /// ...and to raise the record of a key.
    state_turn: tokio::sync::Mutex<()>,
    complained: Mutex<Option<Instant>>,
}

impl Daemon {
    /// The configuration in force.
    fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says something to the journal that a flood could make it say too often.
    fn complain(&self, what: fmt::Arguments<'_>) {
        let mut complained = self
            .complained
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            *complained = Some(Instant::now());
            say(what);
        }
    }
}

/// The time, in seconds since 1970: the only clock that tokens go by.
#[allow(clippy::disallowed_methods, reason = "this is the rim")]
pub(crate) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// One line for the journal. A journal that's gone, or hangs, is no reason to stop.
fn say(what: fmt::Arguments<'_>) {
    let _ = journal::write_line(&format!("slurm-tokend: {what}\n"));
}

/// One line for whoever starts us, who gets all of them.
fn tell(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "slurm-tokend: {what}");
}

struct Arguments {
    configuration: PathBuf,
    check: bool,
}

enum Asked {
    Run(Arguments),
    Text(String),
}

/// Runs the daemon.
pub fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Asked::Run(arguments)) => arguments,
        Ok(Asked::Text(text)) => {
            return match io::stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
        Err(error) => {
            tell(format_args!("{error}"));
            let _ = io::stderr().write_all(b"Try: slurm-tokend --help\n");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problems) => {
            for problem in &problems.0 {
                tell(format_args!("{problem}"));
            }
            if let Some(first) = problems.0.first() {
                // `systemctl status` shows it for as long as the start fails.
                notify(&[NotifyState::Status(&format!("not started: {first}"))]);
            }
            ExitCode::FAILURE
        }
    }
}

/// The configuration that a program reads when its command line names none.
pub(crate) fn usual_configuration() -> PathBuf {
    std::env::var_os(CONFIGURATION_VARIABLE)
        .filter(|named| !named.is_empty())
        .unwrap_or_else(|| OsString::from(CONFIGURATION))
        .into()
}

fn arguments() -> Result<Asked, lexopt::Error> {
    use lexopt::prelude::{Long, Short};
    let mut configuration = None;
    let mut check = false;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") => configuration = Some(parser.value()?),
            Long("check") => check = true,
            Short('h') | Long("help") => return Ok(Asked::Text(USAGE.to_owned())),
            Short('V') | Long("version") => {
                return Ok(Asked::Text(format!(
                    "slurm-tokend {}\n",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            other => return Err(other.unexpected()),
        }
    }
    let configuration = configuration.map_or_else(usual_configuration, PathBuf::from);
    Ok(Asked::Run(Arguments {
        configuration,
        check,
    }))
}

/// From nothing to serving, and back. Whatever can be wrong is found before
/// the socket answers.
fn run(arguments: &Arguments) -> Result<(), Problems> {
    let Prepared {
        mut config,
        keys,
        notes,
        successor,
        sources,
        state,
        blocks,
    } = Prepared::by(&arguments.configuration)?;
    let note = privileges::make_room(&mut config, sources.http.is_some());
    let engine = Engine::new(config, keys);
    for note in notes {
        tell(format_args!("{note}"));
    }
    if arguments.check {
        let key = engine.keys.main().key();
        tell(format_args!(
            "{}: configuration and key are sound; {} signs with kid {}",
            engine.config.path.display(),
            key.algorithm(),
            key.kid()
        ));
        return Ok(());
    }
    for note in note.iter().chain(&sources.note) {
        tell(format_args!("{note}"));
    }
    let state = state.open()?;
    engine.extend_horizon(&state, unix_now())?;
    let doors = Doors::open(sources)?;
    privileges::drop_for_good(successor.as_ref()).inspect_err(|_| listen::remove(&doors.own()))?;
    serve_until_told(engine, state, blocks, doors)
}

fn serve_until_told(
    engine: Engine,
    state: StateDir,
    blocks: Keeper,
    doors: Doors,
) -> Result<(), Problems> {
    let failed = |error: io::Error| {
        Problem::new(
            "threads",
            format!("the daemon can't start its threads: {error}"),
            "raise TasksMax= and LimitNPROC=",
        )
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime: Runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // One for a reload, which may wait for the account service as well, and
        // two for the record of a key and for blocks, which may wait for a disk.
        .max_blocking_threads(Directory::threads(&engine.config.limits) + 3)
        .thread_name("runtime")
        .enable_all()
        .build()
        .map_err(failed)?;
    let metrics = Arc::new(Metrics::default());
    let own = doors.own();
    let http = doors.http.as_ref().map(|_| HttpDoor::new());
    let (http, runtimes) = http.transpose().map_err(failed)?.unzip();
    let daemon = Arc::new(Daemon {
        directory: Directory::new(runtime.handle().clone(), &engine.config.limits, &metrics),
        engine: RwLock::new(Arc::new(engine)),
        quotas: Arc::new(Quotas::default()),
        http,
        signers: Signers::start(cores).map_err(failed)?,
        fronts: Fronts::new().map_err(failed)?,
        attendants: Attendants::start().map_err(failed)?,
        runtime: runtime.handle().clone(),
        state: Arc::new(state),
        blocks,
        ledger: Ledger::new(unix_now()),
        lookout: Lookout::start().map_err(failed)?,
        metrics,
        log_turn: tokio::sync::Mutex::default(),
        state_turn: tokio::sync::Mutex::default(),
        complained: Mutex::new(None),
    });
    let signals = runtime
        .block_on(async { Signals::listen() })
        .map_err(failed)?;
    let door = doors.main.path();
    Fronts::start(&daemon, doors.main).map_err(failed)?;
    if let (Some(listener), Some(runtimes)) = (doors.http, runtimes) {
        http::start(&daemon, runtimes, listener).map_err(failed)?;
    }
    watchdog::start(&daemon, door).map_err(failed)?;
    runtime.spawn(Arc::clone(&daemon).keep_horizon());
    announce(&daemon);
    runtime.block_on(daemon.reload_until_stopped(signals));
    notify(&[NotifyState::Stopping]);
    listen::remove(&own);
    daemon.fronts.stop();
    if let Some(http) = &daemon.http {
        http.stop();
    }
    runtime.block_on(daemon.drain());
    daemon.record_the_rest();
    // A look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    Ok(())
}

struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

impl Daemon {
    async fn reload_until_stopped(&self, mut signals: Signals) {
        loop {
            tokio::select! {
                _ = signals.hangup.recv() => {}
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
            }
            // A reload that hangs on the account service doesn't hold up the end.
            tokio::select! {
                () = self.reload() => {}
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
            }
        }
    }

    /// Takes the configuration and its key anew: whole, or keeps what it has.
    async fn reload(&self) {
        notify(&[NotifyState::Reloading]);
        let (engine, state) = (self.engine(), Arc::clone(&self.state));
        let reloaded = tokio::task::spawn_blocking(move || engine.reload(&state)).await;
        match reloaded {
            Ok(Ok((mut engine, mut notes))) => {
                notes.extend(privileges::make_room(
                    &mut engine.config,
                    self.http.is_some(),
                ));
                for note in notes {
                    say(format_args!("{note}"));
                }
                *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(engine);
                announce(self);
            }
            Ok(Err(problems)) => {
                for problem in &problems.0 {
                    say(format_args!("{problem}"));
                }
                say(format_args!(
                    "nothing was reloaded: the old configuration and key stay in force"
                ));
                let first = problems.0.first().map(Problem::to_string);
                self.tell_not_reloaded(&first.unwrap_or_default());
            }
            Err(_) => {
                say(format_args!("nothing was reloaded: the reload failed"));
                self.tell_not_reloaded("see the journal");
            }
        }
    }

    /// For `systemctl status`, until a reload is taken: it serves, and by what.
    fn tell_not_reloaded(&self, why: &str) {
        let status = format!("{}; not reloaded: {why}", standing(&self.engine()));
        notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// Waits until the last connection has had its answer, or the time is over.
    async fn drain(&self) {
        let until = Instant::now() + self.engine().config.limits.stop_timeout;
        let has_left = |http: &HttpDoor| http.is_empty();
        let done = || {
            self.fronts.have_stopped()
                && self.quotas.connections() == 0
                && self.http.as_ref().is_none_or(has_left)
        };
        while !done() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let of_http = self
            .http
            .as_ref()
            .map_or(0, |http| http.quotas.connections());
        let left = self.quotas.connections() + of_http;
        if left > 0 {
            say(format_args!(
                "stopping with {left} connections unfinished: their time is over"
            ));
        }
    }
}

/// How the daemon stands, in one line.
fn standing(engine: &Engine) -> String {
    let key = engine.keys.main().key();
    format!("signing {} with kid {}", key.algorithm(), key.kid())
}

fn announce(daemon: &Daemon) {
    let engine = daemon.engine();
    let status = standing(&engine);
    say(format_args!(
        "ready: {status}, at most {} connections",
        engine.config.limits.room.connections
    ));
    if let Err(why) = engine.recorder.check() {
        let so = if engine.config.audit.required {
            "no token is issued until it does"
        } else {
            "tokens are issued without a record"
        };
        say(format_args!(
            "the audit log takes no records now, {why}: {so}"
        ));
    }
    let is_hs256 = |issuer: &Issuer| issuer.key().algorithm() == Algorithm::Hs256;
    if engine.keys.all().any(is_hs256) {
        say(format_args!(
            "HS256: whoever reads this key can make tokens for anybody, root included; RS256 shares no secret"
        ));
    }
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Tells systemd, where it listens.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        say(format_args!("systemd was not told: {error}"));
    }
}
