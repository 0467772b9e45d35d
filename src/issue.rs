//! From a [`Grant`] and a key to a token: the only signer.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::keys::format::SigningKey;
use crate::policy::Grant;
use crate::token::MAX_TOKEN;
use crate::token::claims::{Claims, expiry};
use crate::token::compact::Compact;

/// A key ready to sign, and what all its tokens have in common.
pub struct Issuer {
    key: Arc<SigningKey>,
    /// The encoded header and its full stop: the same for each token of a key.
    header: String,
    iss: Option<String>,
    aud: Option<String>,
    random: SystemRandom,
}

/// A signed token.
pub struct Token {
    /// The compact form (RFC 7515 section 7.1).
    pub compact: Zeroizing<String>,
    /// Its own number: 128 random bits, in hexadecimal.
    pub jti: String,
    /// Its end, in seconds since 1970.
    pub exp: u64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("jti", &self.jti)
            .finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueError {
    /// The token has this many bytes, more than [`MAX_TOKEN`].
    TooLarge(usize),
    /// The random numbers, the JSON or the signature failed: a fault of the machine.
    Fault,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

impl Issuer {
    /// An issuer for a key, with the configured `iss` and `aud`.
    pub fn new(key: Arc<SigningKey>, iss: Option<String>, aud: Option<String>) -> Self {
        let header = Header {
            alg: key.algorithm().as_str(),
            typ: "JWT",
            kid: key.kid().as_str(),
        };
        // A header holds three plain strings: it always has a JSON form.
        let json = serde_json::to_vec(&header).unwrap_or_default();
        let header = URL_SAFE_NO_PAD.encode(json) + ".";
        Self {
            key,
            header,
            iss,
            aud,
            random: SystemRandom::new(),
        }
    }

    /// The key that signs.
    pub fn key(&self) -> &Arc<SigningKey> {
        &self.key
    }

    /// Signs a token for a grant. `now` is in seconds since 1970.
    pub fn issue(&self, grant: &Grant, now: u64) -> Result<Token, IssueError> {
        let mut number = [0; 16];
        self.random
            .fill(&mut number)
            .map_err(|_| IssueError::Fault)?;
        let jti = format!("{:032x}", u128::from_be_bytes(number));
        let claims = Claims::new(grant, self.iss.as_deref(), self.aud.as_deref(), &jti, now);
        let compact = self.sign(&claims)?;
        if compact.len() > MAX_TOKEN {
            return Err(IssueError::TooLarge(compact.len()));
        }
        Ok(Token {
            compact,
            jti,
            exp: expiry(grant, now),
        })
    }

    /// Signs one token and verifies it with the published key: a daemon that
    /// can't do this must not answer. The token names nobody.
    pub fn self_check(&self, now: u64) -> Result<(), IssueError> {
        #[derive(Serialize)]
        struct Probe {
            exp: u64,
        }
        let token = self.sign(&Probe { exp: now })?;
        let read = Compact::read(token.as_bytes()).map_err(|_| IssueError::Fault)?;
        let header = read.typed_header().map_err(|_| IssueError::Fault)?;
        let key = self.key.verifying();
        let sound = header.kid.as_deref() == Some(key.kid())
            && header.alg == key.algorithm().as_str()
            && key.verifies(read.signed(), read.signature());
        if sound {
            Ok(())
        } else {
            Err(IssueError::Fault)
        }
    }

    fn sign(&self, claims: &impl Serialize) -> Result<Zeroizing<String>, IssueError> {
        let json = serde_json::to_vec(claims).map_err(|_| IssueError::Fault)?;
        // The header, 4/3 of the claims, and at most 683 bytes of a 4096-bit signature.
        let room = self.header.len() + json.len() * 4 / 3 + 700;
        let mut compact = Zeroizing::new(String::with_capacity(room));
        compact.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(json, &mut compact);
        let signature = self
            .key
            .sign(compact.as_bytes())
            .map_err(|_| IssueError::Fault)?;
        compact.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut compact);
        Ok(compact)
    }
}
