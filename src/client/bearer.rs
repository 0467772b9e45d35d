//! Whom a token speaks for, and until when, as it says itself: the signature
//! is Slurm's to check.

use crate::keys::json::Json;
use crate::token::compact::Compact;

/// What the client needs to know of a token.
pub(super) struct Bearer {
    /// The user it speaks for.
    pub(super) sun: String,
    /// Its end, in seconds since 1970; none where it is no such number.
    pub(super) exp: Option<u64>,
}

impl Bearer {
    /// Reads a well-formed token, which a shell, a file or an HTTP header can
    /// hold (RFC 7515 section 7.1), and in which no claim stands twice: readers
    /// differ in which of the two they take.
    pub(super) fn read(token: &str) -> Option<Self> {
        let compact = Compact::read(token.as_bytes()).ok()?;
        if compact.repeated_member().is_some() {
            return None;
        }
        Some(Self {
            sun: compact.claims.text("sun")?.to_owned(),
            exp: match compact.claims.member("exp") {
                Some(Json::Number(exp)) => exp.as_u64(),
                _ => None,
            },
        })
    }
}
