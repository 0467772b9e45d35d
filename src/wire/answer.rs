//! What each operation answers.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Refusal;
use crate::token::compact::Claims;

/// What `issue` and `refresh` answer.
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
    /// The longest lifespan of a token that a delegate gets for another, in
    /// seconds, where it's capped: what the other may have bounds it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate_max_lifespan: Option<u32>,
    /// So many tokens for others a delegate may ask for in a minute...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate_tokens_per_minute: Option<u32>,
    /// ...and so many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate_burst: Option<u32>,
    /// How long after the first token of a session a refreshed one may end, in
    /// seconds. Earlier daemons don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session: Option<u32>,
    /// The key that signs for the caller.
    pub kid: String,
}

/// What `verify` answers of a token that is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The account that the token speaks for: its `sun`.
    pub user: String,
    /// The token's `exp`, in seconds since 1970.
    pub expires_at: u64,
    /// The key that signed it.
    pub kid: String,
    /// How it's signed: `RS256` or `HS256`.
    pub alg: String,
    /// What it says. Claims of other kinds are left out.
    pub claims: Claims,
}

/// What `ping` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The daemon's release.
    pub version: String,
}

/// An answer as this release reads it, and all that the daemon said: a newer
/// one says more, and has words that this release doesn't know.
#[derive(Debug)]
pub struct Whole<T> {
    /// What this release knows.
    pub known: T,
    /// What came.
    pub all: Value,
}

impl<'de, T: for<'a> Deserialize<'a>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Value::deserialize(deserializer)?;
        let known = T::deserialize(&all).map_err(D::Error::custom)?;
        Ok(Self { known, all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Code, parse_answer};

    #[test]
    fn what_a_newer_daemon_says_is_kept_beside_what_is_known_of_it() {
        let line = br#"{"v":1,"ok":{"user":"alice","uid":1001,"allowed":false,"refusal":
            {"code":"too_early","message":"m","help":"h"},"rule":"none","default_lifespan":0,
            "max_lifespan":0,"kid":"k","colour":"blue"}}"#;
        let answer: Whole<Standing> = parse_answer(line).unwrap().unwrap();
        assert_eq!(answer.known.refusal.unwrap().code, Code::Unknown);
        assert_eq!(answer.all["refusal"]["code"], "too_early");
        assert_eq!(answer.all["colour"], "blue");
        let other = br#"{"v":1,"ok":{"user":"alice"}}"#;
        assert!(parse_answer::<Whole<Standing>>(other).is_err());
    }
}
