//! What a `drive` was given, examined after the clock has stopped.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::{Failure, LIFESPAN, USAGE};

/// What each answer must be.
pub enum Wanted {
    /// A token.
    Tokens(Box<Verifier>),
    /// A line without one.
    Plain,
    /// What a token for this user says.
    Told(String),
    /// Nothing but its status, which was looked at when it came.
    Nothing,
}

impl Wanted {
    /// Fails unless there are so many answers, each of which is good. `within` are the Unix seconds
    /// of the run.
    pub fn examine(
        &self,
        answers: &[&[u8]],
        count: usize,
        within: RangeInclusive<u64>,
    ) -> Result<(), Failure> {
        let lines = answers.iter().flat_map(|some| lines(some));
        let good = match self {
            Self::Tokens(verifier) => verifier.examine(lines, within)?,
            Self::Plain => plain(lines)?,
            Self::Told(sun) => told(lines, sun)?,
            Self::Nothing => count,
        };
        if good != count {
            return Err(format!("{good} answers to {count} requests").into());
        }
        Ok(())
    }
}

/// How tokens are verified, and what they must say.
pub struct Verifier {
    key: DecodingKey,
    rules: Validation,
}

/// A line of the protocol, or a body of the HTTP door, which has no frame.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Line { ok: Issued },
    Body(Issued),
}

#[derive(Deserialize)]
struct Issued {
    token: String,
    user: String,
    expires_at: u64,
    jti: String,
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
    exp: u64,
    jti: String,
    sun: String,
}

impl Verifier {
    pub fn new(algorithm: &str, key_file: &str) -> Result<Self, Failure> {
        let bytes = std::fs::read(key_file).map_err(|e| format!("{key_file}: {e}"))?;
        let (algorithm, key) = match algorithm {
            "HS256" => (Algorithm::HS256, DecodingKey::from_secret(&bytes)),
            "RS256" => (Algorithm::RS256, DecodingKey::from_rsa_der(&bytes)),
            _ => return Err(format!("`{algorithm}` is not an algorithm\n{USAGE}").into()),
        };
        let mut rules = Validation::new(algorithm);
        rules.validate_aud = false;
        Ok(Self { key, rules })
    }

    /// Counts the answers, each of which is a fresh token issued at one of the times in `within`
    /// (Unix seconds); the first that is not is the error.
    fn examine<'a>(
        &self,
        answers: impl Iterator<Item = &'a [u8]>,
        within: RangeInclusive<u64>,
    ) -> Result<usize, Failure> {
        let mut seen = HashSet::new();
        for line in answers {
            // Only a refusal is printed: a line that does not parse may hold a token.
            if line.starts_with(b"{\"v\":1,\"error\"") {
                return Err(format!("refused: {}", line.escape_ascii()).into());
            }
            let (Answer::Line { ok } | Answer::Body(ok)) = serde_json::from_slice(line)?;
            let claims: Claims =
                jsonwebtoken::decode(ok.token.as_bytes(), &self.key, &self.rules)?.claims;
            if !within.contains(&claims.iat) {
                return Err(format!("iat {} lies outside {within:?}", claims.iat).into());
            }
            if claims.exp != claims.iat + LIFESPAN || claims.exp != ok.expires_at {
                return Err(format!("exp {} is not iat + {LIFESPAN}", claims.exp).into());
            }
            if claims.sun != ok.user || claims.jti != ok.jti {
                return Err("the answer and its token differ".into());
            }
            if !seen.insert(claims.jti) {
                return Err("a jti came twice".into());
            }
        }
        Ok(seen.len())
    }
}

/// Counts answers without a token; the first refusal is the error.
fn plain<'a>(answers: impl Iterator<Item = &'a [u8]>) -> Result<usize, Failure> {
    let mut count = 0;
    for line in answers {
        if !line.starts_with(b"{\"v\":1,\"ok\"") {
            return Err(format!("refused: {}", line.escape_ascii()).into());
        }
        count += 1;
    }
    Ok(count)
}

/// Counts the answers to a token that was shown; the first that names another user is the error.
fn told<'a>(answers: impl Iterator<Item = &'a [u8]>, sun: &str) -> Result<usize, Failure> {
    #[derive(Deserialize)]
    struct Told {
        user: String,
    }
    let mut count = 0;
    for body in answers {
        let told: Told = serde_json::from_slice(body)?;
        if told.user != sun {
            return Err(format!("{} was told, not {sun}", told.user).into());
        }
        count += 1;
    }
    Ok(count)
}

fn lines(answers: &[u8]) -> impl Iterator<Item = &[u8]> {
    answers
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
}
