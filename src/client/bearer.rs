//! Whom a token speaks for, and until when, as it says itself: the signature
//! is Slurm's to check.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::token::MAX_TOKEN;

/// What the client needs to know of a token.
pub(super) struct Bearer {
    /// The user it speaks for.
    pub(super) sun: String,
    /// Its end, in seconds since 1970; none where it is no such number.
    pub(super) exp: Option<u64>,
}

/// A claim given twice is refused: readers differ in which of the two they take.
#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    sun: Cow<'a, str>,
    exp: Option<serde_json::Value>,
}

impl Bearer {
    /// Reads a well-formed token, which a shell, a file or an HTTP header can
    /// hold (RFC 7515 section 7.1).
    pub(super) fn read(token: &str) -> Option<Self> {
        let base64url = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let parts: Vec<&str> = token.split('.').collect();
        let [_, claims, _] = parts.as_slice() else {
            return None;
        };
        let sound = |part: &&str| !part.is_empty() && part.bytes().all(base64url);
        if token.len() > MAX_TOKEN || !parts.iter().all(sound) {
            return None;
        }
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        let Claims { sun, exp } = serde_json::from_slice(&claims).ok()?;
        Some(Self {
            sun: sun.into_owned(),
            exp: exp.and_then(|exp| exp.as_u64()),
        })
    }
}
