//! A file that always holds a valid token: written, and renewed by the wall
//! clock before it expires.

/// The file: a reader finds a whole token, whenever it looks.
mod file;
/// When to ask again. Pure.
mod schedule;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use self::file::Place;
use self::schedule::Schedule;
use super::args::Asking;
use super::failure::Failure;
use super::format::{self, Format};
use super::terminal::plain;
use super::{PROGRAM, clock, get, say, signals, warn};
use crate::report::Problem;
use crate::wire::Issued;

/// What to keep, and how.
#[derive(Debug, PartialEq)]
pub(super) struct Keeping {
    pub(super) file: PathBuf,
    pub(super) format: Format,
    /// What to run after each renewal, by `sh -c`.
    pub(super) exec: Option<OsString>,
    /// Write the file once, and end.
    pub(super) once: bool,
}

/// Keeps the file until a signal says stop, or there is no more to be had.
pub(super) fn keep(asking: &Asking, keeping: &Keeping) -> Result<(), Failure> {
    let mut place = Place::take(&keeping.file).map_err(Failure::Failed)?;
    if keeping.once {
        let issued = get(asking)?;
        place
            .put(&format::token(&issued, keeping.format))
            .map_err(Failure::Failed)?;
        drop(place);
        return match hook(keeping, &issued) {
            None => Ok(()),
            Some(mut command) => ended(command.status()).map_err(Failure::Failed),
        };
    }
    let place = Arc::new(Mutex::new(place));
    stop_on_signals(Arc::clone(&place)).map_err(Failure::Failed)?;
    let end = Keeper {
        asking,
        keeping,
        place: &place,
        schedule: Schedule::begin(clock::wall()),
        trouble: None,
        hook: None,
    }
    .work();
    // The thread that waits for signals has the place, too.
    held(&place).leave();
    end
}

fn held(place: &Mutex<Place>) -> std::sync::MutexGuard<'_, Place> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Keeper<'a> {
    asking: &'a Asking,
    keeping: &'a Keeping,
    place: &'a Mutex<Place>,
    schedule: Schedule,
    /// What went wrong last, as it was told.
    trouble: Option<String>,
    /// Who waits for the command that was run after a renewal.
    hook: Option<JoinHandle<()>>,
}

impl Keeper<'_> {
    /// Comes back only with what ends it.
    fn work(mut self) -> Result<(), Failure> {
        let timer =
            TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC).map_err(no_timer)?;
        loop {
            match get(self.asking).and_then(|issued| self.put(issued)) {
                Ok(issued) => self.renewed(&issued),
                Err(failure) => self.failed(failure)?,
            }
            // Woken before it's due where the clock was set, or a sleep ended.
            while !self.schedule.is_due(clock::wall()) {
                wait_until(&timer, self.schedule.next()).map_err(no_timer)?;
            }
        }
    }

    fn put(&self, issued: Issued) -> Result<Issued, Failure> {
        let bytes = format::token(&issued, self.keeping.format);
        held(self.place).put(&bytes).map_err(Failure::Failed)?;
        Ok(issued)
    }

    fn renewed(&mut self, issued: &Issued) {
        if !self.schedule.has_token() {
            self.announce(issued);
        }
        if self.trouble.take().is_some() {
            say(&format!("{PROGRAM}: there is a new token again\n"));
        }
        let end = Duration::from_secs(issued.expires_at);
        self.schedule.renewed(clock::wall(), end);
        self.run_hook(issued);
    }

    /// The file is there for the first time.
    fn announce(&self, issued: &Issued) {
        // Where no service manager waits for this, there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        if std::io::stderr().is_terminal() {
            let file = self.keeping.file.display();
            warn(&[
                format!(
                    "{file} holds a valid token of {} for as long as this runs.",
                    issued.user
                ),
                "Ctrl-C ends it".to_owned(),
            ]);
        }
    }

    /// Tells what went wrong, once, and says when to try again. It's the end
    /// where nothing was to be had from the start, and where the daemon says
    /// no and nothing valid is left.
    fn failed(&mut self, failure: Failure) -> Result<(), Failure> {
        let now = clock::wall();
        let pause = failure.worth_asking_again();
        let expired = self.schedule.has_expired(now);
        let refused = matches!(failure, Failure::Refused(_));
        if pause.is_none() && (!self.schedule.has_token() || refused && expired) {
            return Err(failure);
        }
        let mut told = failure.told_by(PROGRAM);
        if expired {
            let file = plain(&self.keeping.file.display().to_string());
            told = format!("{told}{PROGRAM}: the token in {file} has expired\n");
        }
        if self.trouble.as_ref() != Some(&told) {
            say(&told);
            self.trouble = Some(told);
        }
        let least = pause.unwrap_or_default();
        self.schedule.failed(now, least, clock::jitter());
        Ok(())
    }

    /// Runs the command, unless the last one is still at work.
    fn run_hook(&mut self, issued: &Issued) {
        let Some(mut command) = hook(self.keeping, issued) else {
            return;
        };
        if self.hook.as_ref().is_some_and(|hook| !hook.is_finished()) {
            warn(&[
                "the command of --exec is at work since the renewal before.".to_owned(),
                "It is not started once more".to_owned(),
            ]);
            return;
        }
        let child = command.spawn();
        let wait = move || {
            let end = child.and_then(|mut child| child.wait());
            if let Err(problem) = ended(end) {
                say(&Failure::Failed(problem).told_by(PROGRAM));
            }
        };
        self.hook = thread::Builder::new().spawn(wait).ok();
    }
}

/// The command to run after a renewal. It gets no token, but the file's name.
fn hook(keeping: &Keeping, issued: &Issued) -> Option<Command> {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(keeping.exec.as_ref()?)
        .env("SLURM_TOKEN_FILE", &keeping.file)
        .env("SLURM_TOKEN_EXPIRES_AT", issued.expires_at.to_string())
        .stdin(Stdio::null());
    Some(command)
}

fn ended(status: std::io::Result<ExitStatus>) -> Result<(), Problem> {
    let what = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("the token is renewed, but this command ended with {status}"),
        Err(error) => format!("the token is renewed, but this command was not run: {error}"),
    };
    Err(Problem::new("--exec", what, "run it by hand to see why"))
}

/// Ends this process when it's told to, between two renewals of the file: a
/// thread waits for that, so that it's no matter what else is waited for.
fn stop_on_signals(place: Arc<Mutex<Place>>) -> Result<(), Problem> {
    let mut stops = signals::take(&[Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM])?;
    let wait = move || {
        let _ = stops.forever().next();
        // Who has the place is not about to write to it.
        held(&place).leave();
        std::process::exit(0);
    };
    thread::Builder::new()
        .spawn(wait)
        .map(drop)
        .map_err(|error| {
            let remedy = "check the limit of processes: ulimit -u";
            Problem::new("signals", format!("can't be waited for: {error}"), remedy)
        })
}

/// Waits for this time of the wall clock, or until the clock is set. It counts
/// while the machine sleeps.
fn wait_until(timer: &TimerFd, time: Duration) -> Result<(), Errno> {
    let time = Expiration::OneShot(TimeSpec::from_duration(time));
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    match timer.set(time, flags) {
        Ok(()) => timer.wait(),
        // The clock was set while nobody waited.
        Err(Errno::ECANCELED) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn no_timer(errno: Errno) -> Failure {
    let what = format!("can't be waited for: {}", errno.desc());
    let remedy = "check the limit of open files: ulimit -n";
    Failure::Failed(Problem::new("the clock", what, remedy))
}
