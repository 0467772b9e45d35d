//! What each operation answers.

use std::fmt;

use serde::{Deserialize, Serialize};

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
