//! From a [`Grant`] and a key to a token: the only signer.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::keys::format::SigningKey;
use crate::policy::Grant;
use crate::token::MAX_TOKEN;
use crate::token::claims::{Claims, expiry};
use crate::token::compact::Compact;

/// A key ready to sign, and the header that all its tokens have.
pub struct Issuer {
    key: Arc<SigningKey>,
    /// The encoded header and its full stop: the same for each token of a key.
    header: String,
}

/// What the claims of a token take that has no identity in it.
const ORDINARY_CLAIMS: usize = 256;

/// Random numbers for tokens, drawn many at once: a draw costs as much as all
/// else that makes a number. They are no secrets, and each is given once.
struct Numbers {
    drawn: [u8; 16 * 64],
    given: usize,
}

thread_local! {
    static NUMBERS: RefCell<Numbers> = const { RefCell::new(Numbers { drawn: [0; 16 * 64], given: 16 * 64 }) };
}

impl Numbers {
    fn next() -> Result<u128, Unspecified> {
        NUMBERS.with_borrow_mut(|numbers| {
            if numbers.given == numbers.drawn.len() {
                aws_lc_rs::rand::fill(&mut numbers.drawn)?;
                numbers.given = 0;
            }
            let (_, rest) = numbers.drawn.split_at(numbers.given);
            let number = rest.first_chunk().ok_or(Unspecified)?;
            numbers.given += number.len();
            Ok(u128::from_be_bytes(*number))
        })
    }
}

/// 32 digits. `{:032x}` takes as long as the rest of the claims.
fn hexadecimal(number: u128) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    let bytes = number.to_be_bytes();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
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
    /// An issuer for a key.
    pub fn new(key: Arc<SigningKey>) -> Self {
        let header = Header {
            alg: key.algorithm().as_str(),
            typ: "JWT",
            kid: key.kid().as_str(),
        };
        // A header holds three plain strings: it always has a JSON form.
        let json = serde_json::to_vec(&header).unwrap_or_default();
        let header = URL_SAFE_NO_PAD.encode(json) + ".";
        Self { key, header }
    }

    /// The key that signs.
    pub fn key(&self) -> &Arc<SigningKey> {
        &self.key
    }

    /// Signs a token for a grant. `now` is in seconds since 1970.
    pub fn issue(&self, grant: &Grant, now: u64) -> Result<Token, IssueError> {
        let number = Numbers::next().map_err(|_| IssueError::Fault)?;
        let jti = hexadecimal(number);
        let claims = Claims::new(grant, &jti, now);
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
        let mut json = Vec::with_capacity(ORDINARY_CLAIMS);
        serde_json::to_writer(&mut json, claims).map_err(|_| IssueError::Fault)?;
        // No more than it takes: all of it is wiped, byte by byte.
        let encoded = |bytes: usize| bytes.div_ceil(3) * 4;
        let room = self.header.len() + encoded(json.len()) + 1 + encoded(self.key.signature_len());
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn each_token_has_a_number_of_its_own_on_whatever_thread_it_is_made() {
        const EACH: usize = 200;
        let numbers = || -> Vec<u128> { (0..EACH).map(|_| Numbers::next().unwrap()).collect() };
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(numbers)).collect();
        let all: HashSet<u128> = threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect();
        assert_eq!(all.len(), 4 * EACH);
        assert!(!all.contains(&0));
    }
}
