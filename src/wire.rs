//! Protocol version 1: one JSON object a line on a Unix stream socket.
//!
//! A request never says who its caller is: the kernel does. Both programs use
//! the types here, so that neither can drift from the other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version that every request and every answer carries as `v`.
pub const VERSION: u32 = 1;
/// The longest request, in bytes, without its newline.
pub const MAX_REQUEST: usize = 16 * 1024;
/// The longest answer, in bytes, without its newline; a token alone may have
/// [`crate::token::MAX_TOKEN`].
pub const MAX_ANSWER: usize = 64 * 1024;
/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/slurm-tokend/slurm-tokend.sock";

/// What went wrong, as a word that programs may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is not one JSON object of the known shape.
    MalformedRequest,
    /// The request's `v` is not 1.
    UnsupportedVersion,
    /// The request's `op` is not known.
    UnknownOperation,
    /// The request has more than [`MAX_REQUEST`] bytes.
    RequestTooLarge,
    /// The request did not arrive in time.
    Timeout,
    /// The daemon, or the account service behind it, has no room now.
    Busy,
    /// The caller asked too often; `retry_after` says when to come back.
    RateLimited,
    /// The caller's uid, or the name asked for, has no account.
    UnknownUser,
    /// The policy gives this caller nothing, or not this.
    NotAllowed,
    /// Root, `SlurmUser`, or a name that Slurm would take for somebody else.
    PrivilegedUser,
    /// An administrator has blocked this user.
    Blocked,
    /// The lifespan can't be read, or is no lifespan.
    BadLifespan,
    /// The lifespan is above the maximum; `max_lifespan` says which.
    LifespanTooLong,
    /// The token would have more than 12 KiB.
    TokenTooLarge,
    /// The token to refresh belongs to somebody else.
    NotYourToken,
    /// No token came with a request that needs one.
    AuthorizationHeaderMissing,
    /// The header that carries the token is not of the right form.
    InvalidHeader,
    /// The token was valid and has expired.
    TokenExpired,
    /// The token is not valid.
    TokenInvalid,
    /// The audit record could not be handed over, so nothing was issued.
    AuditUnavailable,
    /// The daemon is stopping.
    ShuttingDown,
    /// A fault of the daemon's own.
    Internal,
}

impl Code {
    /// Every code, in the order of the protocol's page.
    pub const ALL: [Self; 22] = [
        Self::MalformedRequest,
        Self::UnsupportedVersion,
        Self::UnknownOperation,
        Self::RequestTooLarge,
        Self::Timeout,
        Self::Busy,
        Self::RateLimited,
        Self::UnknownUser,
        Self::NotAllowed,
        Self::PrivilegedUser,
        Self::Blocked,
        Self::BadLifespan,
        Self::LifespanTooLong,
        Self::TokenTooLarge,
        Self::NotYourToken,
        Self::AuthorizationHeaderMissing,
        Self::InvalidHeader,
        Self::TokenExpired,
        Self::TokenInvalid,
        Self::AuditUnavailable,
        Self::ShuttingDown,
        Self::Internal,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformed_request",
            Self::UnsupportedVersion => "unsupported_version",
            Self::UnknownOperation => "unknown_operation",
            Self::RequestTooLarge => "request_too_large",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::RateLimited => "rate_limited",
            Self::UnknownUser => "unknown_user",
            Self::NotAllowed => "not_allowed",
            Self::PrivilegedUser => "privileged_user",
            Self::Blocked => "blocked",
            Self::BadLifespan => "bad_lifespan",
            Self::LifespanTooLong => "lifespan_too_long",
            Self::TokenTooLarge => "token_too_large",
            Self::NotYourToken => "not_your_token",
            Self::AuthorizationHeaderMissing => "authorization_header_missing",
            Self::InvalidHeader => "invalid_header",
            Self::TokenExpired => "token_expired",
            Self::TokenInvalid => "token_invalid",
            Self::AuditUnavailable => "audit_unavailable",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: its code, what happened, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The word that programs may rely on.
    pub code: Code,
    /// What happened, in a sentence.
    pub message: String,
    /// What to do, in a sentence.
    pub help: String,
    /// With `lifespan_too_long`: the longest that the policy gives, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifespan: Option<u32>,
    /// With `rate_limited` and `busy`: seconds until it's worth asking again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal without numbers.
    pub fn new(code: Code, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            help: help.into(),
            max_lifespan: None,
            retry_after: None,
        }
    }
}

/// What a caller asks for: `{"v":1,"op":"issue","lifespan":600}`.
///
/// A number or a word is taken for `lifespan`: the word is read by the rules
/// of [`crate::token::lifespan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A token for the caller, or with `target` for another user.
    Issue {
        /// As it was asked for; none asks for the policy's default.
        lifespan: Option<LifespanWord>,
        /// The user named in `for`.
        target: Option<String>,
    },
    /// The daemon's public keys as a JWKS.
    Jwks,
    /// What the policy gives the caller.
    Whoami,
    /// Is anybody there.
    Ping,
}

/// A lifespan as it stands in a request: a number of seconds, or a word such
/// as `12h` or `max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LifespanWord {
    /// Seconds.
    Seconds(i64),
    /// A word, as on the command line.
    Word(String),
}

impl<'de> Deserialize<'de> for LifespanWord {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Numbers that no lifespan can be are kept as words: they are refused
        /// as a lifespan, not as JSON.
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = LifespanWord;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds or a string such as \"12h\"")
            }
            fn visit_i64<E>(self, seconds: i64) -> Result<LifespanWord, E> {
                Ok(LifespanWord::Seconds(seconds))
            }
            fn visit_u64<E>(self, seconds: u64) -> Result<LifespanWord, E> {
                Ok(i64::try_from(seconds).map_or_else(
                    |_| LifespanWord::Word(seconds.to_string()),
                    LifespanWord::Seconds,
                ))
            }
            fn visit_f64<E>(self, seconds: f64) -> Result<LifespanWord, E> {
                Ok(LifespanWord::Word(seconds.to_string()))
            }
            fn visit_str<E>(self, word: &str) -> Result<LifespanWord, E> {
                Ok(LifespanWord::Word(word.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The shape of a request on the wire: every field of every operation.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestFrame<'a> {
    v: u32,
    #[serde(borrow)]
    op: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifespan: Option<LifespanWord>,
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl Request {
    /// The operation's name on the wire.
    pub const fn operation(&self) -> &'static str {
        match self {
            Self::Issue { .. } => "issue",
            Self::Jwks => "jwks",
            Self::Whoami => "whoami",
            Self::Ping => "ping",
        }
    }

    /// The operations that this daemon knows, for messages.
    const OPERATIONS: &'static str = "issue, whoami, jwks and ping";

    /// Reads one line, without its newline.
    ///
    /// Errors are `malformed_request`, `unsupported_version` and
    /// `unknown_operation`; a field that isn't known, or doesn't belong to the
    /// operation, is named.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        // serde would take a list, too, for a frame: its members by their order.
        if line.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed("it is no JSON object"));
        }
        let frame: RequestFrame<'_> =
            serde_json::from_slice(line).map_err(|e| Self::explain(line, &e))?;
        if frame.v != VERSION {
            return Err(unsupported_version(&frame.v.to_string()));
        }
        let request = match frame.op.as_ref() {
            "issue" => {
                return Ok(Self::Issue {
                    lifespan: frame.lifespan,
                    target: frame.target,
                });
            }
            "jwks" => Self::Jwks,
            "whoami" => Self::Whoami,
            "ping" => Self::Ping,
            other => return Err(unknown_operation(other)),
        };
        let stray = match (frame.lifespan.is_some(), frame.target.is_some()) {
            (true, _) => "lifespan",
            (_, true) => "for",
            (false, false) => return Ok(request),
        };
        Err(malformed(&format!(
            "the operation {} takes no field \"{stray}\"",
            request.operation()
        )))
    }

    /// A request of another version or operation may well have fields that we
    /// don't know: its version and operation are what to tell it of. Then come
    /// fields that hold what they can't hold; the rest is the reader's to say.
    fn explain(line: &[u8], error: &serde_json::Error) -> Refusal {
        use serde_json::Value;
        let Ok(fields) = serde_json::from_slice::<serde_json::Map<String, Value>>(line) else {
            return malformed(&shorten(&error.to_string()));
        };
        match fields.get("v") {
            None | Some(Value::Null) => return malformed("the field \"v\" is missing"),
            Some(v) if v.as_u64() != Some(u64::from(VERSION)) => {
                return unsupported_version(&shorten(&v.to_string()));
            }
            Some(_) => {}
        }
        match fields.get("op") {
            None | Some(Value::Null) => return malformed("the field \"op\" is missing"),
            Some(Value::String(op))
                if !matches!(op.as_str(), "issue" | "jwks" | "whoami" | "ping") =>
            {
                return unknown_operation(op);
            }
            Some(Value::String(_)) => {}
            Some(_) => return malformed("the field \"op\" must be a string"),
        }
        match (fields.get("lifespan"), fields.get("for")) {
            (Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)), _) => {
                malformed("the field \"lifespan\" must be a number of seconds or a string")
            }
            (_, Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
                malformed("the field \"for\" must be a string")
            }
            _ => malformed(&shorten(&error.to_string())),
        }
    }

    /// The line that asks for this, newline included.
    pub fn to_line(&self) -> Vec<u8> {
        let (lifespan, target) = match self {
            Self::Issue { lifespan, target } => (lifespan.clone(), target.clone()),
            Self::Jwks | Self::Whoami | Self::Ping => (None, None),
        };
        line(
            &RequestFrame {
                v: VERSION,
                op: self.operation().into(),
                lifespan,
                target,
            },
            128,
        )
    }
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(
        Code::MalformedRequest,
        format!("The request can't be read: {what}."),
        "Send one JSON object a line, such as {\"v\":1,\"op\":\"issue\"}: see slurm-tokend(7).",
    )
}

fn unsupported_version(found: &str) -> Refusal {
    Refusal::new(
        Code::UnsupportedVersion,
        format!("The request has protocol version {found}; this daemon speaks version {VERSION}."),
        "Use a client of the same release as the daemon.",
    )
}

fn unknown_operation(found: &str) -> Refusal {
    Refusal::new(
        Code::UnknownOperation,
        format!("There is no operation {:?}.", shorten(found)),
        format!("This daemon knows {}.", Request::OPERATIONS),
    )
}

/// The first 120 characters: a message never repeats a whole request.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 120;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain("…".chars()).collect()
}

/// What `issue` answers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The token, in compact form (RFC 7515 section 7.1).
    pub token: String,
    /// The account that the token speaks for: its `sun`.
    pub user: String,
    /// The token's `exp`, in seconds since 1970.
    pub expires_at: u64,
    /// The key that signed it.
    pub kid: String,
    /// The token's own number.
    pub jti: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("user", &self.user)
            .field("jti", &self.jti)
            .finish_non_exhaustive()
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.token);
    }
}

/// What `whoami` answers: what the policy gives the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The caller's account.
    pub user: String,
    /// The caller's uid.
    pub uid: u32,
    /// May the caller have a token for itself.
    pub allowed: bool,
    /// Why not, where it may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The rule that decided: `default`, or `rule-2` for the second `[[policy.rule]]`.
    pub rule: String,
    /// The lifespan that a request gets that names none, in seconds.
    pub default_lifespan: u32,
    /// The longest lifespan, in seconds.
    pub max_lifespan: u32,
    /// For which groups' members the caller may ask, where it is a delegate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegate_for_groups: Vec<String>,
    /// The key that signs for the caller.
    pub kid: String,
}

/// What `ping` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The daemon's release.
    pub version: String,
}

/// An answer: what was asked for, or why not.
#[derive(Debug, Serialize, Deserialize)]
struct AnswerFrame<T> {
    v: u32,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    ok: Option<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
}

/// The line that answers with `ok`, newline included.
pub fn ok_line<T: Serialize>(ok: &T) -> Vec<u8> {
    line(
        &AnswerFrame {
            v: VERSION,
            ok: Some(ok),
            error: None,
        },
        512,
    )
}

/// What the answer with a token takes beside its token, user and kid.
const ISSUED_FRAME: usize = 160;

/// The line that answers with a token. It is written once, into memory that is
/// large enough: no copy of the token stays behind.
pub fn issued_line(issued: &Issued) -> Vec<u8> {
    line(
        &AnswerFrame {
            v: VERSION,
            ok: Some(issued),
            error: None,
        },
        // A quote in a name takes two characters.
        ISSUED_FRAME + issued.token.len() + 2 * issued.user.len() + issued.kid.len(),
    )
}

/// The line that answers with a refusal, newline included.
pub fn refusal_line(refusal: &Refusal) -> Vec<u8> {
    line(
        &AnswerFrame::<()> {
            v: VERSION,
            ok: None,
            error: Some(refusal.clone()),
        },
        512,
    )
}

fn line<T: Serialize>(frame: &T, room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(room);
    // Our frames hold strings, numbers and lists: nothing that JSON can't hold.
    if serde_json::to_writer(&mut bytes, frame).is_err() {
        bytes.clear();
    }
    bytes.push(b'\n');
    bytes
}

/// An answer that isn't one of this protocol's.
#[derive(Debug)]
pub struct UnreadableAnswer(pub String);

/// Reads an answer's line, without its newline.
pub fn parse_answer<T: for<'de> Deserialize<'de>>(
    line: &[u8],
) -> Result<Result<T, Refusal>, UnreadableAnswer> {
    let frame: AnswerFrame<T> =
        serde_json::from_slice(line).map_err(|e| UnreadableAnswer(e.to_string()))?;
    match frame {
        AnswerFrame {
            v: VERSION,
            ok: Some(ok),
            error: None,
        } => Ok(Ok(ok)),
        AnswerFrame {
            v: VERSION,
            ok: None,
            error: Some(refusal),
        } => Ok(Err(refusal)),
        AnswerFrame { v, .. } if v != VERSION => Err(UnreadableAnswer(format!(
            "protocol version {v}, not {VERSION}"
        ))),
        _ => Err(UnreadableAnswer("neither an answer nor an error".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_token_is_written_into_memory_that_it_does_not_outgrow() {
        let issued = Issued {
            token: "t".repeat(300),
            user: "\"".repeat(64),
            expires_at: u64::MAX,
            kid: "k".repeat(128),
            jti: "f".repeat(32),
        };
        let line = issued_line(&issued);
        assert_eq!(line.capacity(), ISSUED_FRAME + 300 + 128 + 128);
        assert!(line.ends_with(b"}}\n"));
    }
}
