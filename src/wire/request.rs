//! Requests: what a line asks for, and the line that asks for it.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Code, Exposition, Refusal, VERSION, line, shorten};
use crate::token::bearer;

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
    /// A new token in the place of one that hasn't expired.
    Refresh {
        /// The old one.
        token: Option<TokenText>,
    },
    /// Is a token valid, and what does it say: given alone or as in the header
    /// that carried it.
    Verify {
        /// The token alone.
        token: Option<TokenText>,
        /// The value of an `Authorization` header.
        authorization: Option<TokenText>,
    },
    /// The daemon's public keys as a JWKS.
    Jwks,
    /// What the policy gives the caller.
    Whoami,
    /// Is anybody there.
    Ping,
    /// How the daemon is. For administrators, as are those that follow.
    Status,
    /// Who holds tokens. Of themselves everybody may ask.
    Sessions {
        /// Only this user.
        user: Option<String>,
        /// Only those with a uid above this one: where an answer ended.
        after: Option<u32>,
    },
    /// No more tokens for a user.
    Block {
        /// The account's name.
        user: String,
        /// For how long, in seconds; none lasts until it's lifted.
        duration: Option<u64>,
        /// Why, for administrators to read.
        reason: Option<String>,
    },
    /// Lifts a user's blocks.
    Unblock {
        /// The account's name, as it is or as it was blocked, or its uid.
        user: String,
    },
    /// What the daemon has counted.
    Metrics {
        /// The form of the text.
        format: Exposition,
    },
}

/// A token as it stands in a request, or what carries it. It's wiped when
/// dropped, and nothing shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenText(String);

impl TokenText {
    /// Takes a text over.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(..)")
    }
}

impl Drop for TokenText {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
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

impl fmt::Display for LifespanWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => seconds.fmt(f),
            Self::Word(word) => word.fmt(f),
        }
    }
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

/// The operations that this daemon knows, each with the fields that it takes
/// beside `v` and `op`.
const OPERATIONS: [(&str, &[&str]); 11] = [
    ("issue", &["lifespan", "for"]),
    ("refresh", &["token"]),
    ("verify", &["token", "authorization"]),
    ("whoami", &[]),
    ("jwks", &[]),
    ("ping", &[]),
    ("status", &[]),
    ("sessions", &["user", "after"]),
    ("block", &["user", "duration", "reason"]),
    ("unblock", &["user"]),
    ("metrics", &["format"]),
];

/// The fields that hold a string, if anything.
const TEXTS: [&str; 6] = ["for", "token", "authorization", "user", "reason", "format"];

/// The shape of a request on the wire: every field of every operation.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame<'a> {
    v: u32,
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifespan: Option<LifespanWord>,
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<TokenText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authorization: Option<TokenText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<Exposition>,
}

impl Frame<'_> {
    /// The fields that are there beside `v` and `op`.
    fn fields(&self) -> impl Iterator<Item = &'static str> {
        [
            ("lifespan", self.lifespan.is_some()),
            ("for", self.target.is_some()),
            ("token", self.token.is_some()),
            ("authorization", self.authorization.is_some()),
            ("user", self.user.is_some()),
            ("after", self.after.is_some()),
            ("duration", self.duration.is_some()),
            ("reason", self.reason.is_some()),
            ("format", self.format.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name))
    }
}

impl Request {
    /// The operation's name on the wire.
    pub const fn operation(&self) -> &'static str {
        match self {
            Self::Issue { .. } => "issue",
            Self::Refresh { .. } => "refresh",
            Self::Verify { .. } => "verify",
            Self::Jwks => "jwks",
            Self::Whoami => "whoami",
            Self::Ping => "ping",
            Self::Status => "status",
            Self::Sessions { .. } => "sessions",
            Self::Block { .. } => "block",
            Self::Unblock { .. } => "unblock",
            Self::Metrics { .. } => "metrics",
        }
    }

    /// Is it one of administrators'.
    pub const fn is_administrative(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::Sessions { .. }
                | Self::Block { .. }
                | Self::Unblock { .. }
                | Self::Metrics { .. }
        )
    }

    /// The lifespan that is asked for, where one is.
    pub const fn lifespan(&self) -> Option<&LifespanWord> {
        match self {
            Self::Issue { lifespan, .. } => lifespan.as_ref(),
            _ => None,
        }
    }

    /// The user whom it's about, where that isn't the caller.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Issue { target, .. } => target.as_deref(),
            Self::Sessions { user, .. } => user.as_deref(),
            Self::Block { user, .. } | Self::Unblock { user } => Some(user),
            _ => None,
        }
    }

    /// The one token that it brings, to have it verified or refreshed.
    pub fn shown_token(&self) -> Result<&str, Refusal> {
        let (token, authorization) = match self {
            Self::Refresh { token } => (token.as_ref(), None),
            Self::Verify {
                token,
                authorization,
            } => (token.as_ref(), authorization.as_ref()),
            _ => (None, None),
        };
        match (token, authorization) {
            (Some(_), Some(_)) => Err(bearer::invalid(
                "The request has a token and a header that carries one, too.",
            )),
            (Some(token), None) if token.as_str().is_empty() => Err(bearer::missing()),
            (Some(token), None) => Ok(token.as_str()),
            (None, Some(header)) => bearer::from_authorization(header.as_str()),
            (None, None) => Err(bearer::missing()),
        }
    }

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
        let frame: Frame<'_> = serde_json::from_slice(line).map_err(|e| explain(line, &e))?;
        if frame.v != VERSION {
            return Err(unsupported_version(&frame.v.to_string()));
        }
        let op = frame.op.as_ref();
        let fields = fields_of(op).ok_or_else(|| unknown_operation(op))?;
        if let Some(stray) = frame.fields().find(|field| !fields.contains(field)) {
            return Err(malformed(&format!(
                "the operation {op} takes no field \"{stray}\""
            )));
        }
        let needed = |user: Option<String>| {
            user.ok_or_else(|| malformed(&format!("the operation {op} needs the field \"user\"")))
        };
        Ok(match op {
            "issue" => Self::Issue {
                lifespan: frame.lifespan,
                target: frame.target,
            },
            "refresh" => Self::Refresh { token: frame.token },
            "verify" => Self::Verify {
                token: frame.token,
                authorization: frame.authorization,
            },
            "whoami" => Self::Whoami,
            "jwks" => Self::Jwks,
            "ping" => Self::Ping,
            "status" => Self::Status,
            "sessions" => Self::Sessions {
                user: frame.user,
                after: frame.after,
            },
            "block" => Self::Block {
                user: needed(frame.user)?,
                duration: frame.duration,
                reason: frame.reason,
            },
            "unblock" => Self::Unblock {
                user: needed(frame.user)?,
            },
            "metrics" => Self::Metrics {
                format: frame.format.unwrap_or_default(),
            },
            other => return Err(unknown_operation(other)),
        })
    }

    /// The line that asks for this, newline included.
    pub fn to_line(&self) -> Vec<u8> {
        let bare = Frame {
            v: VERSION,
            op: self.operation().into(),
            ..Frame::default()
        };
        let frame = match self {
            Self::Issue { lifespan, target } => Frame {
                lifespan: lifespan.clone(),
                target: target.clone(),
                ..bare
            },
            Self::Refresh { token } => Frame {
                token: token.clone(),
                ..bare
            },
            Self::Verify {
                token,
                authorization,
            } => Frame {
                token: token.clone(),
                authorization: authorization.clone(),
                ..bare
            },
            Self::Jwks | Self::Whoami | Self::Ping | Self::Status => bare,
            Self::Sessions { user, after } => Frame {
                user: user.clone(),
                after: *after,
                ..bare
            },
            Self::Block {
                user,
                duration,
                reason,
            } => Frame {
                user: Some(user.clone()),
                duration: *duration,
                reason: reason.clone(),
                ..bare
            },
            Self::Unblock { user } => Frame {
                user: Some(user.clone()),
                ..bare
            },
            Self::Metrics { format } => Frame {
                format: (*format != Exposition::default()).then_some(*format),
                ..bare
            },
        };
        // Large enough: no copy of a token stays behind.
        let tokens = [&frame.token, &frame.authorization];
        let room = tokens.map(|text| text.as_ref().map_or(0, |text| text.0.len()));
        line(&frame, 128 + room.iter().sum::<usize>())
    }
}

fn fields_of(op: &str) -> Option<&'static [&'static str]> {
    let known = OPERATIONS.iter().find(|(name, _)| *name == op);
    known.map(|(_, fields)| *fields)
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
        Some(Value::String(op)) if fields_of(op).is_none() => return unknown_operation(op),
        Some(Value::String(_)) => {}
        Some(_) => return malformed("the field \"op\" must be a string"),
    }
    if let Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) = fields.get("lifespan") {
        return malformed("the field \"lifespan\" must be a number of seconds or a string");
    }
    let is_text = |value: &Value| matches!(value, Value::Null | Value::String(_));
    let mistyped = TEXTS
        .iter()
        .find(|name| fields.get(**name).is_some_and(|value| !is_text(value)));
    match mistyped {
        Some(name) => malformed(&format!("the field \"{name}\" must be a string")),
        None => malformed(&shorten(&error.to_string())),
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
    let [known @ .., last] = OPERATIONS.map(|(name, _)| name);
    let known = known.join(", ");
    Refusal::new(
        Code::UnknownOperation,
        format!("There is no operation {:?}.", shorten(found)),
        format!("This daemon knows {known} and {last}."),
    )
}
