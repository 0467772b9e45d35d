//! Public keys as JWK and JWKS (RFC 7517), in the one form that every release
//! of Slurm accepts: `kty`, `kid`, `use`, `alg`, `n`, `e`. Slurm 22.05 ignores
//! an entry without `alg`, 26.05 one without `kty`, and both die of one
//! without `kid`.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Kid;
use super::format::{PublicKey, Rejection};
use crate::report::Problem;

/// The members that only a private or secret key has (RFC 7518 sections 6.3.2
/// and 6.4.1).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// One public RSA key for RS256 signatures (RFC 7517 section 4, RFC 7518
/// section 6.3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwk {
    /// The kind of key: `RSA`.
    pub kty: String,
    /// The name by which a token's header refers to the key. Another issuer's
    /// may hold characters that [`Kid`] doesn't.
    pub kid: String,
    /// What the key is for: `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// The algorithm that the key is pinned to: `RS256`.
    pub alg: String,
    /// The modulus: base64url of the big-endian number, without padding.
    pub n: String,
    /// The public exponent, likewise.
    pub e: String,
}

impl Jwk {
    /// The entry for `key` under the name `kid`.
    pub fn new(key: &PublicKey, kid: &Kid) -> Self {
        Self {
            kty: "RSA".into(),
            kid: kid.as_str().into(),
            usage: "sig".into(),
            alg: "RS256".into(),
            n: URL_SAFE_NO_PAD.encode(key.n()),
            e: URL_SAFE_NO_PAD.encode(key.e()),
        }
    }

    /// The key itself, where it is one that we would accept signatures of.
    pub fn public_key(&self) -> Result<PublicKey, Rejection> {
        let number = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| Rejection::Malformed)
        };
        PublicKey::from_components(&number(&self.n)?, &number(&self.e)?)
    }

    /// The JSON of this entry, on one line.
    pub fn to_json(&self) -> String {
        // Six strings: nothing that JSON can't hold.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A set of public keys (RFC 7517 section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwkSet {
    /// Each has a `kid` of its own.
    pub keys: Vec<Jwk>,
}

/// What reading somebody's JWKS gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The keys for RS256 signatures.
    pub set: JwkSet,
    /// Entries that are for something else, each named in a sentence.
    pub passed_over: Vec<String>,
}

impl JwkSet {
    /// A set of one key.
    pub fn of(key: &PublicKey, kid: &Kid) -> Self {
        Self {
            keys: vec![Jwk::new(key, kid)],
        }
    }

    /// Reads a JWKS. A set that holds a private member anywhere is refused
    /// whole, and so is one with an entry that would harm slurmctld or that
    /// nobody could verify with; keys for other purposes are passed over.
    pub fn parse(bytes: &[u8]) -> Result<Reading, JwksRejection> {
        let json: Value = serde_json::from_slice(bytes).map_err(|e| JwksRejection::NotJson {
            line: e.line(),
            column: e.column(),
        })?;
        if let Some(member) = private_member(&json) {
            return Err(JwksRejection::Private { member });
        }
        let Some(entries) = json.get("keys").and_then(Value::as_array) else {
            return Err(JwksRejection::NotASet);
        };
        let mut reading = Reading {
            set: Self::default(),
            passed_over: Vec::new(),
        };
        for (index, entry) in entries.iter().enumerate() {
            let number = index + 1;
            let Some(entry) = entry.as_object() else {
                return Err(JwksRejection::NotAnObject { number });
            };
            match read_entry(number, entry)? {
                Entry::Key(jwk) => reading.set.add(jwk)?,
                Entry::ForSomethingElse(why) => reading.passed_over.push(why),
            }
        }
        Ok(reading)
    }

    /// Adds a key. The same key under the same name is there once only; with
    /// another key of that name Slurm would try the first and never this one.
    pub fn add(&mut self, jwk: Jwk) -> Result<(), JwksRejection> {
        match self.find(&jwk.kid) {
            None => self.keys.push(jwk),
            Some(there) if *there == jwk => {}
            Some(_) => return Err(JwksRejection::KidTwice { kid: jwk.kid }),
        }
        Ok(())
    }

    /// The key of that name.
    pub fn find(&self, kid: &str) -> Option<&Jwk> {
        self.keys.iter().find(|jwk| jwk.kid == kid)
    }

    /// The JSON as it stands in a file: indented, with a newline at its end.
    pub fn to_json(&self) -> String {
        // Strings in a list: nothing that JSON can't hold.
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

enum Entry {
    Key(Jwk),
    ForSomethingElse(String),
}

fn read_entry(number: usize, entry: &Map<String, Value>) -> Result<Entry, JwksRejection> {
    let text = |member: &'static str| entry.get(member).and_then(Value::as_str);
    let missing = |member| JwksRejection::Missing { number, member };
    let kid = text("kid")
        .filter(|kid| !kid.is_empty() && !kid.chars().any(char::is_control))
        .ok_or(missing("kid"))?;
    let kty = text("kty").ok_or(missing("kty"))?;
    if kty != "RSA" {
        return Ok(Entry::ForSomethingElse(format!(
            "key {kid:?} is of kty {kty:?}, not RSA"
        )));
    }
    match text("use") {
        None | Some("sig") => {}
        Some(other) => {
            return Ok(Entry::ForSomethingElse(format!(
                "key {kid:?} is for {other:?}, not sig"
            )));
        }
    }
    let alg = text("alg").ok_or(missing("alg"))?;
    if alg != "RS256" {
        return Ok(Entry::ForSomethingElse(format!(
            "key {kid:?} is for {alg:?}, not RS256"
        )));
    }
    let jwk = Jwk {
        kty: kty.into(),
        kid: kid.into(),
        usage: "sig".into(),
        alg: alg.into(),
        n: text("n").ok_or(missing("n"))?.into(),
        e: text("e").ok_or(missing("e"))?.into(),
    };
    match jwk.public_key() {
        Ok(_) => Ok(Entry::Key(jwk)),
        Err(rejection) => Err(JwksRejection::Key {
            kid: jwk.kid,
            rejection,
        }),
    }
}

/// The first private member of a key, wherever it stands in the document.
fn private_member(json: &Value) -> Option<&'static str> {
    match json {
        Value::Object(members) => PRIVATE_MEMBERS
            .into_iter()
            .find(|member| members.contains_key(*member))
            .or_else(|| members.values().find_map(private_member)),
        Value::Array(items) => items.iter().find_map(private_member),
        _ => None,
    }
}

/// Why a JWKS is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksRejection {
    /// The bytes aren't JSON; serde's own words might repeat some of them.
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// The document has no list `keys`.
    NotASet,
    /// It holds a private part.
    Private {
        /// Which.
        member: &'static str,
    },
    /// An entry is no object.
    NotAnObject {
        /// Its place in `keys`, counted from 1.
        number: usize,
    },
    /// An entry lacks a member, or has it not as a string.
    Missing {
        /// Its place in `keys`, counted from 1.
        number: usize,
        /// Which member.
        member: &'static str,
    },
    /// Two different keys of one name.
    KidTwice {
        /// The name.
        kid: String,
    },
    /// An entry holds a key that we don't accept.
    Key {
        /// Its name.
        kid: String,
        /// Why.
        rejection: Rejection,
    },
}

impl JwksRejection {
    /// What happened, in a sentence without its full stop.
    pub fn what(&self) -> String {
        match self {
            Self::NotJson { line, column } => {
                format!("this is not JSON: line {line}, column {column}")
            }
            Self::NotASet => "this is not a JWKS: there is no list \"keys\"".into(),
            Self::Private { member } => {
                format!("it holds the private part of a key (member \"{member}\")")
            }
            Self::NotAnObject { number } => format!("entry {number} of \"keys\" is not an object"),
            Self::Missing {
                number,
                member: "kid",
            } => {
                format!("entry {number} has no \"kid\": slurmctld dies of such an entry")
            }
            Self::Missing { number, member } => {
                format!("entry {number} has no \"{member}\" that is a string")
            }
            Self::KidTwice { kid } => {
                format!("two different keys have the kid {kid:?}: Slurm tries the first only")
            }
            Self::Key { kid, rejection } => format!("key {kid:?}: {}", rejection.what()),
        }
    }

    /// What to do, in a sentence without its full stop.
    pub fn remedy(&self) -> String {
        match self {
            Self::Private { .. } => "treat this key as stolen: replace it (slurm-tokenctl key \
                                     generate) and remove its entry everywhere; a JWKS holds \
                                     public parts only"
                .into(),
            Self::NotJson { .. } | Self::NotASet | Self::NotAnObject { .. } => {
                "make the set with: slurm-tokenctl jwks build FILE...".into()
            }
            Self::Missing { .. } => "make the entry anew from its key with: slurm-tokenctl jwks \
                                     build FILE"
                .into(),
            Self::KidTwice { .. } => "remove the one that no longer signs, or give it a kid of \
                                      its own"
                .into(),
            Self::Key { .. } => "replace this key and remove its entry".into(),
        }
    }

    /// The problem that this is for a file.
    pub fn at(&self, path: &Path) -> Problem {
        Problem::at(path, self.what(), self.remedy())
    }
}

impl fmt::Display for JwksRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.remedy())
    }
}
