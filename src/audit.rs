//! The record of each decision: one line of `key=value`, each value without
//! white space or quotes, so that journald, rsyslog and a regular expression
//! read the same; or one JSON object. No type here can hold a token or a key.

use std::fmt::{self, Write as _};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use syslog::{Facility, LogFormat, Logger, Severity};

use crate::block::LONGEST_REASON;
use crate::caller::{Caller, Door};
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
        /// The number of the token in whose place it was made.
        replaces: Option<&'a str>,
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

/// In which form a record is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `key=value key=value`, each value without white space or quotes.
    #[default]
    Text,
    /// One JSON object, all ASCII.
    Json,
}

/// Takes the fields of a record, one after the other.
trait Fields {
    /// A number.
    fn number(&mut self, name: &str, value: u64) -> fmt::Result;
    /// A word of our own making, which needs no care.
    fn word(&mut self, name: &str, value: &str) -> fmt::Result;
    /// Text that may come from outside, and so many bytes of it at the most.
    fn text(&mut self, name: &str, value: &str, most: usize) -> fmt::Result;
}

impl Event<'_> {
    /// The event in one of the forms.
    fn told(&self, form: Form) -> String {
        let mut text = room_for_a_record();
        // A String takes all that is written to it.
        let _ = match form {
            Form::Text => self.tell(&mut KeyValue(&mut text)),
            Form::Json => {
                text.push('{');
                let told = self.tell(&mut Json(&mut text));
                text.push('}');
                told
            }
        };
        text
    }

    /// Tells every field, in the order of the record.
    fn tell(&self, to: &mut impl Fields) -> fmt::Result {
        let result = match &self.outcome {
            Outcome::Granted { .. } => "granted",
            Outcome::Done { .. } => "done",
            Outcome::Refused { .. } => "refused",
        };
        to.word("op", self.operation)?;
        to.word("result", result)?;
        to.number("uid", self.caller.uid.into())?;
        if let Some(user) = self.user {
            to.text("user", user, MOST)?;
        }
        to.number("pid", u64::try_from(self.caller.pid).unwrap_or(0))?;
        if self.caller.door == Door::Http {
            to.word("door", "http")?;
        }
        if let Some(target) = self.target {
            to.text("for", target, MOST)?;
        }
        match &self.outcome {
            Outcome::Granted {
                sun,
                lifespan,
                exp,
                kid,
                jti,
                rule,
                replaces,
            } => {
                to.text("sun", sun, MOST)?;
                to.number("lifespan", (*lifespan).into())?;
                to.number("exp", *exp)?;
                to.word("kid", kid)?;
                to.word("jti", jti)?;
                to.word("rule", &rule.name())?;
                match replaces {
                    Some(jti) => to.text("replaces", jti, MOST),
                    None => Ok(()),
                }
            }
            Outcome::Done { facts } => facts
                .iter()
                .try_for_each(|(name, value)| to.text(name, value, LONGEST_REASON)),
            Outcome::Refused {
                code,
                lifespan,
                suppressed,
            } => {
                if let Some(lifespan) = lifespan {
                    to.text("lifespan", lifespan, MOST)?;
                }
                to.word("code", code.as_str())?;
                match suppressed {
                    0 => Ok(()),
                    others => to.number("suppressed", (*others).into()),
                }
            }
        }
    }
}

/// Writes `key=value key=value`.
struct KeyValue<'t>(&'t mut String);

impl KeyValue<'_> {
    fn name(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(name);
        self.0.push('=');
    }
}

impl Fields for KeyValue<'_> {
    fn number(&mut self, name: &str, value: u64) -> fmt::Result {
        self.name(name);
        write!(self.0, "{value}")
    }
    fn word(&mut self, name: &str, value: &str) -> fmt::Result {
        self.name(name);
        self.0.write_str(value)
    }
    fn text(&mut self, name: &str, value: &str, most: usize) -> fmt::Result {
        self.name(name);
        write_plain(self.0, value, most)
    }
}

/// Writes the members of a JSON object (RFC 8259), whose brace is there.
struct Json<'t>(&'t mut String);

impl Json<'_> {
    fn name(&mut self, name: &str) -> fmt::Result {
        let comma = if self.0.ends_with('{') { "" } else { "," };
        write!(self.0, "{comma}\"{name}\":")
    }
}

impl Fields for Json<'_> {
    fn number(&mut self, name: &str, value: u64) -> fmt::Result {
        self.name(name)?;
        write!(self.0, "{value}")
    }
    fn word(&mut self, name: &str, value: &str) -> fmt::Result {
        self.name(name)?;
        write!(self.0, "\"{value}\"")
    }
    fn text(&mut self, name: &str, value: &str, most: usize) -> fmt::Result {
        self.name(name)?;
        self.0.push('"');
        let end = (0..=most.min(value.len()))
            .rev()
            .find(|end| value.is_char_boundary(*end))
            .unwrap_or(0);
        for unit in value[..end].encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte @ (b'"' | b'\\')) => write!(self.0, "\\{}", char::from(byte))?,
                Ok(byte @ b' '..=b'~') => self.0.push(char::from(byte)),
                _ => write!(self.0, "\\u{unit:04x}")?,
            }
        }
        self.0
            .write_str(if end < value.len() { "...\"" } else { "\"" })
    }
}

/// So many bytes of what stands in a request are in a record.
const MOST: usize = 64;

/// Writes text from outside: visible ASCII without quotes, `=` and backslash
/// stands as it is, each other byte as `\xNN`; at most so many bytes of it.
fn write_plain(to: &mut String, text: &str, most: usize) -> fmt::Result {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'\'' | b'=');
    if text.is_empty() {
        return to.write_str("-");
    }
    if text.len() <= most && text.bytes().all(plain) {
        return to.write_str(text);
    }
    for byte in text.bytes().take(most) {
        if plain(byte) {
            to.push(char::from(byte));
        } else {
            write!(to, "\\x{byte:02x}")?;
        }
    }
    to.write_str(if text.len() > most { "..." } else { "" })
}

/// Where an ordinary record can be written at once.
fn room_for_a_record() -> String {
    String::with_capacity(320)
}

/// Hands records over, without ever waiting.
pub struct Recorder {
    receiver: Receiver,
    form: Form,
}

/// Who takes records.
pub enum Receiver {
    /// Syslog.
    Syslog(Syslog),
    /// Whoever reads the daemon's standard error.
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
    /// Will hand records to this receiver, in this form.
    pub fn new(receiver: Receiver, form: Form) -> Self {
        Self { receiver, form }
    }

    /// Is there somebody to hand records to, as far as one can say before the first.
    pub fn check(&self) -> Result<(), NotRecorded> {
        match &self.receiver {
            Receiver::Syslog(syslog) => syslog.connect().map(drop),
            Receiver::Stderr => Ok(()),
        }
    }

    /// Looks for another receiver in the place of one that takes no more: a log
    /// that was restarted leaves behind a full socket that nobody reads.
    pub fn look_again(&self) {
        if let Receiver::Syslog(syslog) = &self.receiver {
            // Without a new one the old one may still be read.
            let _ = syslog.connect();
        }
    }

    /// Hands one record over, or says at once why it can't.
    pub fn record(&self, event: &Event<'_>) -> Result<(), NotRecorded> {
        let mut told = event.told(self.form);
        match &self.receiver {
            Receiver::Syslog(syslog) => syslog.record(event, &told),
            Receiver::Stderr => {
                told.push('\n');
                journal::write_line(&told).map_err(|errno| match errno {
                    Errno::EAGAIN => NotRecorded::Full,
                    other => NotRecorded::Failed {
                        receiver: "standard error",
                        error: other.into(),
                    },
                })
            }
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

    fn record(&self, event: &Event<'_>, told: &str) -> Result<(), NotRecorded> {
        let present = self
            .socket
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let reused = present.is_some();
        let socket = present.map_or_else(|| self.connect(), Ok)?;
        match self.send(&socket, event, told) {
            // The log was restarted: its old socket is gone and a new one waits.
            Err(errno) if reused && errno != Errno::EAGAIN => {
                let socket = self.connect()?;
                self.send(&socket, event, told).map_err(explain)
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

    fn send(&self, socket: &UnixDatagram, event: &Event<'_>, told: &str) -> Result<(), Errno> {
        let mut datagram = Datagram {
            socket: socket.as_fd(),
            failed: None,
        };
        let mut log = Logger::new(&mut datagram, Header { pid: self.pid });
        let sent = match event.outcome {
            Outcome::Granted { .. } | Outcome::Done { .. } => log.info(told),
            Outcome::Refused { .. } => log.notice(told),
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
        let mut message = room_for_a_record();
        // A String takes all that is written to it.
        let _ = fmt::Write::write_fmt(&mut message, args);
        self.write(message.as_bytes()).map(|_| ())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: &str = "a b\"'\\=\n\r\t\0\u{7f}\u{e9}\u{2028}\u{1f600}<34>su";

    fn told(event: &Event<'_>, form: Form) -> String {
        event.told(form)
    }

    fn refused<'a>(user: &'a str, target: &'a str) -> Event<'a> {
        Event {
            caller: Caller {
                uid: 7,
                pid: 9,
                door: Door::Main,
            },
            user: Some(user),
            operation: "issue",
            target: Some(target),
            outcome: Outcome::Refused {
                code: Code::NotAllowed,
                lifespan: Some(ODD.to_owned()),
                suppressed: 3,
            },
        }
    }

    /// The names of a record's fields, in order.
    fn names(event: &Event<'_>) -> [Vec<String>; 2] {
        let text = told(event, Form::Text);
        let of_text = text
            .split(' ')
            .map(|f| f.split('=').next().unwrap().to_owned());
        let json = told(event, Form::Json);
        let of_json = json.split("\",\"").map(ToOwned::to_owned);
        // JSON objects have no order to a reader, so by the text.
        let of_json =
            of_json.flat_map(|f| f.split(",\"").map(ToOwned::to_owned).collect::<Vec<_>>());
        let of_json = of_json.map(|f| {
            let name = f.split("\":").next().unwrap();
            name.trim_start_matches(['{', '"']).to_owned()
        });
        [of_text.collect(), of_json.collect()]
    }

    #[test]
    fn both_forms_have_the_same_fields_in_the_same_order() {
        let facts = [("until", "7".to_owned()), ("reason", "x".to_owned())];
        let granted = Outcome::Granted {
            sun: "alice",
            lifespan: 600,
            exp: 1_795_305_600,
            kid: "login1",
            jti: "9f",
            rule: Ruling::Rule(2),
            replaces: Some("8e"),
        };
        for outcome in [
            granted,
            Outcome::Done { facts: &facts },
            Outcome::Refused {
                code: Code::Busy,
                lifespan: Some("2h".into()),
                suppressed: 1,
            },
        ] {
            let event = Event {
                outcome,
                ..refused("alice", "bob")
            };
            let [text, json] = names(&event);
            assert_eq!(text, json);
            assert!(text.len() >= 8, "{text:?}");
        }
    }

    #[test]
    fn json_reads_back_to_what_was_told_and_is_ascii() {
        let json = told(&refused(ODD, "bob"), Form::Json);
        assert!(json.bytes().all(|b| (b' '..=b'~').contains(&b)), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"op": "issue", "result": "refused", "uid": 7, "user": ODD,
                "pid": 9, "for": "bob", "lifespan": ODD, "code": "not_allowed", "suppressed": 3})
        );
    }

    #[test]
    fn a_text_from_outside_is_cut_between_characters_and_says_so() {
        let long = format!("{}\u{e9}tail", "x".repeat(63));
        let json = told(&refused(&long, "bob"), Form::Json);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["user"], "x".repeat(63) + "...");
        let text = told(&refused(&long, "bob"), Form::Text);
        let cut = format!(" user={}\\xc3... ", "x".repeat(63));
        assert!(text.contains(&cut), "{text}");
    }

    #[test]
    fn an_odd_text_stays_one_word_of_its_field() {
        let text = told(&refused(ODD, "bob"), Form::Text);
        assert_eq!(text.split(' ').count(), 9, "{text}");
        for field in text.split(' ') {
            assert_eq!(field.matches('=').count(), 1, "{field}");
        }
    }
}
