//! A request by curl, with a token that only curl and the server see.
//!
//! curl gets the headers through a pipe. Its options are judged one by one:
//! what would send the token somewhere else, or write it down, is refused; what
//! curl tells of its work comes through here, where the token is taken out.

/// The words that stand behind `curl`. Pure.
mod line;
/// curl's options, and what is to be said against some. Pure.
mod options;
/// Where a request goes, and by which way. Pure.
mod place;
/// What curl tells, without the token.
mod redact;

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, pipe2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use self::place::{Place, Road, Way};
use self::redact::Redactor;
use super::args::Asking;
use super::failure::Failure;
use super::format::{self, Format};
use super::{get, run, signals};
use crate::report::Problem;
use crate::wire::Issued;

pub(super) use self::line::Line;

/// What to call, and how.
#[derive(Debug, PartialEq)]
pub(super) struct Call {
    /// Where slurmrestd is, for a path: the value of `--url`.
    pub(super) base: Option<String>,
    /// Send the token even where others may read it.
    pub(super) forced: bool,
    pub(super) line: Line,
}

/// Where slurmrestd is, if `--url` doesn't say.
const BASE: &str = "SLURMRESTD_URL";

/// Becomes curl, or ends as curl does; comes back only if that fails.
pub(super) fn curl(asking: &Asking, call: &Call) -> Result<(), Failure> {
    let (place, road) = judge(call).map_err(Failure::Usage)?;
    let mut words = call.line.words.clone();
    let mut trace = None;
    if let Some(name) = call.line.trace.and_then(|at| words.get_mut(at)) {
        let opened = Trace::open(name).map_err(Failure::Failed)?;
        *name = at_descriptor(&opened.write);
        trace = Some(opened);
    }
    let issued = get(asking)?;
    let headers = headers(&issued).map_err(Failure::Failed)?;
    leave_no_core();
    let mut curl = command(&place, &road, &words, &headers);
    if call.line.is_verbose() {
        curl.stderr(Stdio::piped());
    } else if trace.is_none() {
        return Err(not_run(&curl.exec()));
    }
    let signals = signals::take(&PASSED_ON).map_err(Failure::Failed)?;
    let child = curl.spawn().map_err(|error| not_run(&error))?;
    drop(headers);
    watch(child, signals, trace, &issued)
}

fn not_run(error: &io::Error) -> Failure {
    run::not_run(OsStr::new("curl"), error)
}

/// Where the request goes, if curl may have the token on the way there.
fn judge(call: &Call) -> Result<(Place, Road), String> {
    let Some(wanted) = &call.line.operand else {
        return Err("curl needs a path or URL: slurm-token curl /slurm/v0.0.38/jobs".into());
    };
    let named = std::env::var(BASE).ok().filter(|base| !base.is_empty());
    let base = call.base.as_deref().or(named.as_deref());
    let place = Place::of(wanted, base)?;
    let road = Road {
        way: place.way.clone(),
        forced: call.forced,
    };
    if road.way == Way::ClearText && !road.forced {
        return Err(format!(
            "{} would get the token in clear text over the network; name it with https://, or \
             insist with --force-insecure",
            place.url
        ));
    }
    match call.line.objection(&road) {
        Some(objection) => Err(objection),
        None => Ok((place, road)),
    }
}

/// The headers on a pipe: curl alone reads them, once, and then they are gone.
fn headers(issued: &Issued) -> Result<OwnedFd, Problem> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(no_pipe)?;
    let bytes = format::token(issued, Format::Header);
    // A pipe has room for 64 KiB; for less where its user has very many.
    match nix::unistd::write(&writer, &bytes) {
        Ok(written) if written == bytes.len() => {}
        Ok(_) => return Err(no_pipe(Errno::EAGAIN)),
        Err(errno) => return Err(no_pipe(errno)),
    }
    inherit(&reader)?;
    Ok(reader)
}

fn no_pipe(errno: Errno) -> Problem {
    Problem::new(
        "a pipe",
        format!("can't be laid to curl: {}", errno.desc()),
        "check the limits of open files and of pipes: pipe(7)",
    )
}

/// Lets what is started by this process have the descriptor.
fn inherit(descriptor: &impl AsFd) -> Result<(), Problem> {
    let set = fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()));
    set.map(drop).map_err(no_pipe)
}

/// The name of an open descriptor, for the program that inherits it.
fn at_descriptor(descriptor: &OwnedFd) -> OsString {
    format!("/dev/fd/{}", descriptor.as_raw_fd()).into()
}

/// curl holds the token in its memory: should it crash, it leaves no copy.
fn leave_no_core() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        // core(5): less than a core's first page, and 1 keeps it from a
        // collector, too, which 0 does not.
        let _ = setrlimit(Resource::RLIMIT_CORE, hard.min(1), hard);
    }
}

fn command(place: &Place, road: &Road, words: &[OsString], headers: &OwnedFd) -> Command {
    let mut curl = Command::new("curl");
    // First, or it's too late for it; of ours, what comes last counts.
    curl.arg("--disable").args(words);
    if let Way::Socket(socket) = &road.way {
        curl.arg("--unix-socket").arg(socket);
    }
    if !road.is_encrypted_or_forced() {
        // Whatever http_proxy and its kind say.
        curl.args(["--noproxy", "*"]);
    }
    let mut header = OsString::from("@");
    header.push(at_descriptor(headers));
    curl.args(["--globoff", "--header"])
        .arg(header)
        .arg(&place.url);
    curl
}

/// A trace on its way from curl to where it's wanted.
struct Trace {
    read: File,
    write: OwnedFd,
    to: Box<dyn Write + Send>,
}

impl Trace {
    /// `-` is standard output and `%` standard error, as to curl; a file is
    /// its user's alone.
    fn open(name: &OsStr) -> Result<Self, Problem> {
        let to: Box<dyn Write + Send> = if name == "-" {
            Box::new(io::stdout())
        } else if name == "%" {
            Box::new(io::stderr())
        } else {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let opened = options.open(name).map_err(|error| {
                let what = format!("can't be written: {error}");
                Problem::at(Path::new(name), what, "name another file for the trace")
            })?;
            Box::new(opened)
        };
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(no_pipe)?;
        inherit(&write)?;
        Ok(Self {
            read: read.into(),
            write,
            to,
        })
    }
}

/// The signals that curl gets where they are sent to this process: each would
/// end it, and leave curl behind.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Takes the token out of what curl tells, and ends as curl does.
fn watch(
    mut child: Child,
    mut signals: Signals,
    trace: Option<Trace>,
    issued: &Issued,
) -> Result<(), Failure> {
    let told = child.stderr.take();
    let curl = Pid::from_raw(child.id().cast_signed());
    let passed = thread::scope(|scope| {
        let redactor = || Redactor::new(&issued.token);
        let verbose = told.map(|told| {
            let redactor = redactor();
            scope.spawn(move || redact::verbose(told, io::stderr(), redactor))
        });
        let taken = signals.handle();
        scope.spawn(move || {
            for signal in signals.forever() {
                let _ = kill(curl, Signal::try_from(signal).ok());
            }
        });
        let mut passed = Ok(());
        if let Some(Trace { read, write, to }) = trace {
            drop(write);
            passed = redact::trace(read, to, redactor());
        }
        let passed = match verbose.map(thread::ScopedJoinHandle::join) {
            Some(Ok(told)) => passed.and(told),
            Some(Err(_)) => Err(io::Error::other("its reader ended")),
            None => passed,
        };
        // Until it's waited for in earnest, its number is nobody else's.
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(curl), ended) == Err(Errno::EINTR) {}
        taken.close();
        passed
    });
    let status = child.wait();
    let status = passed.and(status).map_err(|error| {
        let what = format!("can't be passed on: {error}");
        let place = "what curl tells";
        Failure::Failed(Problem::new(place, what, "see whether its place has room"))
    })?;
    if let Some(signal) = status.signal() {
        // Ends this process by the same one, or by SIGABRT.
        let _ = emulate_default_handler(signal);
    }
    std::process::exit(status.code().unwrap_or(1));
}
