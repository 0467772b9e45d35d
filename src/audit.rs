//! The record of each decision: one line of `key=value`, each value without
//! white space or quotes, so that journald, rsyslog and a regular expression
//! read the same. No type here can hold a token or a key.

use std::fmt::{self, Write as _};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use syslog::{Facility, LogFormat, Logger, Severity};

use crate::caller::Caller;
use crate::journal;
use crate::policy::Ruling;
use crate::wire::Code;

/// Where the system's log takes datagrams (syslog(3)).
pub const SYSLOG_SOCKET: &str = "/dev/log";

/// One decision.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Who asked, as the kernel says.
    pub caller: Caller,
    /// The caller's account, where it has one.
    pub user: Option<&'a str>,
    /// The operation, or `-` where the request couldn't be read.
    pub operation: &'static str,
    /// The user named in `for`.
    pub target: Option<&'a str>,
    /// What was decided.
    pub outcome: Outcome<'a>,
}

/// What was decided.
#[derive(Clone, Debug)]
pub enum Outcome<'a> {
    /// A token was made.
    Granted {
        /// Its `sun`.
        sun: &'a str,
        /// Its lifespan in seconds.
        lifespan: u32,
        /// Its end, in seconds since 1970.
        exp: u64,
        /// The key that signed it.
        kid: &'a str,
        /// Its own number.
        jti: &'a str,
        /// The rule that gave the lifespan.
        rule: Ruling,
    },
    /// An administrator, or somebody who asked about themselves, got an answer.
    Done {
        /// What more there is to say of it.
        facts: &'a [(&'static str, String)],
    },
    /// Nothing was made.
    Refused {
        /// Why.
        code: Code,
        /// The lifespan asked for, where one was.
        lifespan: Option<String>,
        /// So many more refusals of this kind stand behind this one line.
        suppressed: u32,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Caller { uid, pid } = self.caller;
        let result = match &self.outcome {
            Outcome::Granted { .. } => "granted",
            Outcome::Done { .. } => "done",
            Outcome::Refused { .. } => "refused",
        };
        write!(f, "op={} result={result} uid={uid}", self.operation)?;
        if let Some(user) = &self.user {
            write!(f, " user={}", Plain(user))?;
        }
        write!(f, " pid={pid}")?;
        if let Some(target) = &self.target {
            write!(f, " for={}", Plain(target))?;
        }
        match &self.outcome {
            Outcome::Granted {
                sun,
                lifespan,
                exp,
                kid,
                jti,
                rule,
            } => write!(
                f,
                " sun={} lifespan={lifespan} exp={exp} kid={kid} jti={jti} rule={rule}",
                Plain(sun)
            ),
            Outcome::Done { facts } => facts
                .iter()
                .try_for_each(|(name, value)| write!(f, " {name}={}", Plain(value))),
            Outcome::Refused {
                code,
                lifespan,
                suppressed,
            } => {
                if let Some(lifespan) = lifespan {
                    write!(f, " lifespan={}", Plain(lifespan))?;
                }
                write!(f, " code={code}")?;
                if *suppressed > 0 {
                    write!(f, " suppressed={suppressed}")?;
                }
                Ok(())
            }
        }
    }
}

/// Text from outside: visible ASCII without quotes, `=` and backslash stands
/// as it is, each other byte as `\xNN`; at most 64 bytes of it.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 64;
        if self.0.is_empty() {
            return f.write_str("-");
        }
        let plain =
            |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'\'' | b'=');
        if self.0.len() <= MOST && self.0.bytes().all(plain) {
            return f.write_str(self.0);
        }
        for byte in self.0.bytes().take(MOST) {
            if plain(byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        if self.0.len() > MOST {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

/// A record's text, written where there is room for an ordinary one at once.
fn text_of(args: fmt::Arguments<'_>) -> String {
    let mut text = String::with_capacity(320);
    // A String takes all that is written to it.
    let _ = text.write_fmt(args);
    text
}

/// Hands records over, without ever waiting.
pub enum Recorder {
    /// To syslog.
    Syslog(Syslog),
    /// To the daemon's standard error.
    Stderr,
}

/// Why a record wasn't handed over.
#[derive(Debug)]
pub enum NotRecorded {
    /// The receiver's queue is full now.
    Full,
    /// There is no receiver.
    Failed {
        /// Which one.
        receiver: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for NotRecorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the log takes no more"),
            Self::Failed { receiver, error } => write!(f, "{receiver}: {error}"),
        }
    }
}

impl Recorder {
    /// Is there somebody to hand records to, as far as one can say before the first.
    pub fn check(&self) -> Result<(), NotRecorded> {
        match self {
            Self::Syslog(syslog) => syslog.connect().map(drop),
            Self::Stderr => Ok(()),
        }
    }

    /// Looks for another receiver in the place of one that takes no more: a log
    /// that was restarted leaves behind a full socket that nobody reads.
    pub fn look_again(&self) {
        if let Self::Syslog(syslog) = self {
            // Without a new one the old one may still be read.
            let _ = syslog.connect();
        }
    }

    /// Hands one record over, or says at once why it can't.
    pub fn record(&self, event: &Event<'_>) -> Result<(), NotRecorded> {
        match self {
            Self::Syslog(syslog) => syslog.record(event),
            Self::Stderr => journal::write_line(&text_of(format_args!("{event}\n"))).map_err(
                |errno| match errno {
                    Errno::EAGAIN => NotRecorded::Full,
                    other => NotRecorded::Failed {
                        receiver: "standard error",
                        error: other.into(),
                    },
                },
            ),
        }
    }
}

/// A connection to the system's log, made again whenever the log restarts.
pub struct Syslog {
    path: PathBuf,
    socket: RwLock<Option<Arc<UnixDatagram>>>,
    pid: u32,
}

impl Syslog {
    /// Will connect at the first record.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            socket: RwLock::new(None),
            pid: std::process::id(),
        }
    }

    fn record(&self, event: &Event<'_>) -> Result<(), NotRecorded> {
        let present = self
            .socket
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let reused = present.is_some();
        let socket = present.map_or_else(|| self.connect(), Ok)?;
        match self.send(&socket, event) {
            // The log was restarted: its old socket is gone and a new one waits.
            Err(errno) if reused && errno != Errno::EAGAIN => {
                let socket = self.connect()?;
                self.send(&socket, event).map_err(explain)
            }
            result => result.map_err(explain),
        }
    }

    fn connect(&self) -> Result<Arc<UnixDatagram>, NotRecorded> {
        let connected = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.connect(&self.path)?;
            Ok(socket)
        });
        let socket = Arc::new(connected.map_err(|error| {
            match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                // There may be room for one more descriptor in a moment.
                Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS => NotRecorded::Full,
                _ => no_syslog(error),
            }
        })?);
        *self.socket.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&socket));
        Ok(socket)
    }

    fn send(&self, socket: &UnixDatagram, event: &Event<'_>) -> Result<(), Errno> {
        let mut datagram = Datagram {
            socket: socket.as_fd(),
            failed: None,
        };
        let mut log = Logger::new(&mut datagram, Header { pid: self.pid });
        let sent = match event.outcome {
            Outcome::Granted { .. } | Outcome::Done { .. } => log.info(event),
            Outcome::Refused { .. } => log.notice(event),
        };
        match (datagram.failed, sent) {
            (Some(errno), _) => Err(errno),
            (None, Ok(())) => Ok(()),
            (None, Err(_)) => Err(Errno::EIO),
        }
    }
}

fn explain(errno: Errno) -> NotRecorded {
    match errno {
        Errno::EAGAIN | Errno::ENOBUFS => NotRecorded::Full,
        other => no_syslog(other.into()),
    }
}

fn no_syslog(error: io::Error) -> NotRecorded {
    NotRecorded::Failed {
        receiver: SYSLOG_SOCKET,
        error,
    }
}

/// The form of RFC 3164 without a time: the syslog crate would give the time
/// in UTC, which receivers take for local time. Receivers on the same machine
/// put their own.
struct Header {
    pid: u32,
}

impl<T: fmt::Display> LogFormat<T> for Header {
    fn format<W: io::Write>(
        &self,
        w: &mut W,
        severity: Severity,
        message: T,
    ) -> syslog::Result<()> {
        let priority = Facility::LOG_AUTHPRIV as u8 | severity as u8;
        write!(w, "<{priority}>slurm-tokend[{}]: {message}", self.pid).map_err(syslog::Error::Write)
    }
}

/// Sends what is formatted as one datagram.
struct Datagram<'a> {
    socket: BorrowedFd<'a>,
    failed: Option<Errno>,
}

impl io::Write for &mut Datagram<'_> {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        use std::os::fd::AsRawFd as _;
        send(
            self.socket.as_raw_fd(),
            message,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        )
        .map_err(|errno| {
            self.failed = Some(errno);
            errno.into()
        })
    }
    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> io::Result<()> {
        self.write(text_of(args).as_bytes()).map(|_| ())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
