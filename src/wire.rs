//! Protocol version 1: one JSON object a line on a Unix stream socket.
//!
//! A request never says who its caller is: the kernel does. Both programs use
//! the types here, so that neither can drift from the other.

mod administration;
mod answer;
mod request;

use std::fmt;
use std::io::Write as _;

use serde::{Deserialize, Serialize};

pub use self::administration::{
    Blocked, Exposition, Forgotten, Holder, KeyStatus, Metrics, Origin, Sessions, Status, Unblocked,
};
pub use self::answer::{Issued, Pong, Standing, Verified, Whole};
pub use self::request::{LifespanWord, Request, TokenText};
use crate::report::Problem;

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
    /// The token's user is none of those, and in none of the groups, that the
    /// HTTP door was asked for.
    InsufficientRole,
    /// The audit record could not be handed over, so nothing was issued.
    AuditUnavailable,
    /// The daemon is stopping.
    ShuttingDown,
    /// A fault of the daemon's own.
    Internal,
    /// A word that this release doesn't know: the daemon is of a newer one,
    /// and no daemon of this one says it.
    #[serde(other)]
    Unknown,
}

impl Code {
    /// Every code that this release knows, in the order of the protocol's page.
    pub const ALL: [Self; 23] = [
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
        Self::InsufficientRole,
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
            Self::InsufficientRole => "insufficient_role",
            Self::AuditUnavailable => "audit_unavailable",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
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

    /// The same as a problem, for a program's own reader.
    pub fn at(&self, place: &str) -> Problem {
        let mut help = self.help.trim_end_matches('.').to_owned();
        // It follows a semicolon there.
        if let Some(first) = help.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        Problem::new(place, self.message.trim_end_matches('.'), help)
    }
}

/// The first 120 characters: a message never repeats a whole request.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 120;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain("…".chars()).collect()
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
/// large enough: no copy of the token stays behind. Token and `jti` are of our
/// own making, and hold nothing that JSON escapes.
pub fn issued_line(issued: &Issued) -> Vec<u8> {
    let Issued {
        token,
        user,
        expires_at,
        kid,
        jti,
    } = issued;
    // A quote in a name takes two characters.
    let room = ISSUED_FRAME + token.len() + 2 * user.len() + kid.len();
    let mut line = Vec::with_capacity(room);
    line.extend_from_slice(br#"{"v":1,"ok":{"token":""#);
    line.extend_from_slice(token.as_bytes());
    line.extend_from_slice(br#"","user":"#);
    // Memory takes all that is written to it, and strings have a JSON form.
    let _ = serde_json::to_writer(&mut line, user);
    let _ = write!(line, r#","expires_at":{expires_at},"kid":"#);
    let _ = serde_json::to_writer(&mut line, kid);
    line.extend_from_slice(br#","jti":""#);
    line.extend_from_slice(jti.as_bytes());
    line.extend_from_slice(b"\"}}\n");
    line
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
        assert_eq!(line, ok_line(&issued));
    }
}
