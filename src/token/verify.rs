//! Is a token genuine, valid now, and for somebody whom a token may name.
//!
//! The key decides about the algorithm, the token never (RFC 8725 section
//! 3.1); signatures are checked by jsonwebtoken on aws-lc.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::compact::{BadMember, Claims, Compact, Header, Malformed};
use super::genuine::{Fingerprint, Genuine};
use crate::keys::Algorithm;
use crate::keys::format::VerifyingKey;
use crate::policy::{Names, Policy};
use crate::report::Problem;
use crate::wire::{Code, Refusal, shorten};

/// The keys whose tokens are accepted, each under a name of its own.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: HashMap<String, VerifyingKey>,
    genuine: Genuine,
}

/// Two different keys of one name: which of them a token means is anybody's guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KidTwice {
    /// The name.
    pub kid: String,
}

impl KidTwice {
    /// The problem that this is for the file that the second key came from.
    pub fn at(&self, path: &Path) -> Problem {
        Problem::at(
            path,
            format!(
                "another key with the kid {:?} is known already",
                shorten(&self.kid)
            ),
            "give each key a kid of its own",
        )
    }
}

impl KeyRing {
    /// A ring of these keys. The same key may come twice, as when a node's own
    /// key is in the set of all nodes, too.
    pub fn new(keys: impl IntoIterator<Item = VerifyingKey>) -> Result<Self, KidTwice> {
        let mut ring = Self::default();
        for key in keys {
            ring.add(key)?;
        }
        Ok(ring)
    }

    /// Adds a key.
    pub fn add(&mut self, key: VerifyingKey) -> Result<(), KidTwice> {
        match self.keys.get(key.kid()) {
            Some(there) if !there.is_same_key(&key) => Err(KidTwice {
                kid: key.kid().into(),
            }),
            Some(_) => Ok(()),
            None => {
                self.keys.insert(key.kid().into(), key);
                Ok(())
            }
        }
    }

    /// Is a token's signature this key's, which is the one that its header
    /// means here. An HMAC takes no longer than to look it up.
    fn finds_genuine(&self, key: &VerifyingKey, token: &[u8], compact: &Compact) -> bool {
        if key.algorithm() == Algorithm::Hs256 {
            return key.verifies(compact.signed(), compact.signature());
        }
        let fingerprint = Fingerprint::of(token);
        if self.genuine.knows(fingerprint) {
            return true;
        }
        let genuine = key.verifies(compact.signed(), compact.signature());
        if genuine {
            self.genuine.remember(fingerprint);
        }
        genuine
    }

    /// The key that a header names. Slurm's own HS256 tokens name none: they
    /// are tried with the one HS256 key, if there is just one. RS256 tokens
    /// have to name theirs, as for Slurm.
    fn find(&self, header: &Header) -> Result<&VerifyingKey, Untrue> {
        if let Some(kid) = &header.kid {
            let key = self.keys.get(kid);
            return key.ok_or_else(|| Untrue::UnknownKid(kid.clone()));
        }
        let mut secrets = self
            .keys
            .values()
            .filter(|key| key.algorithm() == Algorithm::Hs256);
        match (secrets.next(), secrets.next()) {
            (Some(key), None) if header.alg == Algorithm::Hs256.as_str() => Ok(key),
            _ => Err(Untrue::NoKid),
        }
    }
}

/// What a verifier goes by, beside its keys.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// By how many seconds the clocks of issuer and verifier may differ: the
    /// only thing that makes a token valid outside of its times.
    pub leeway: u32,
    /// Whom issuing refuses a token by its name, uid or group is refused here.
    pub policy: &'a Policy,
    /// What the policy's names mean, as far as that is known.
    pub names: &'a Names,
}

/// A token that is genuine and valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it says.
    pub claims: Claims,
    /// The name of the key that signed it.
    pub kid: String,
    /// How it is signed.
    pub algorithm: Algorithm,
}

/// Checks a token in compact form. `now` is in seconds since 1970.
///
/// That a token has expired is told only of one that was good in all else.
pub fn verify(
    token: &[u8],
    keys: &KeyRing,
    rules: &Rules<'_>,
    now: u64,
) -> Result<Verified, Rejected> {
    let compact = Compact::read(token)?;
    let header = compact.typed_header().map_err(Untrue::Member)?;
    if let Some(member) = compact.repeated_member() {
        return Err(Untrue::MemberTwice(member.into()).into());
    }
    check_header(&header)?;
    let key = keys.find(&header)?;
    if header.alg != key.algorithm().as_str() {
        return Err(Untrue::OtherAlgorithm {
            alg: header.alg,
            wanted: key.algorithm(),
        }
        .into());
    }
    if !keys.finds_genuine(key, token, &compact) {
        return Err(Untrue::Signature {
            kid: key.kid().into(),
        }
        .into());
    }
    let claims = compact.typed_claims().map_err(Untrue::Member)?;
    check_subject(&claims, rules)?;
    check_times(&claims, rules.leeway, now)?;
    Ok(Verified {
        claims,
        kid: key.kid().into(),
        algorithm: key.algorithm(),
    })
}

fn check_header(header: &Header) -> Result<(), Untrue> {
    if header.crit {
        return Err(Untrue::Critical);
    }
    match &header.typ {
        // libjwt, and so Slurm, compares without case.
        Some(typ) if !typ.eq_ignore_ascii_case("JWT") => Err(Untrue::OtherType(typ.clone())),
        _ => Ok(()),
    }
}

/// With valid identity claims Slurm 26.05 goes by these and not by `sun`: they
/// have to speak of the same account.
fn check_subject(claims: &Claims, rules: &Rules<'_>) -> Result<(), Rejected> {
    let other_name = claims.id.as_ref().is_some_and(|id| id.name != claims.sun);
    if other_name {
        return Err(Untrue::OtherIdentity.into());
    }
    rules
        .policy
        .refuse_claimed(rules.names, &claims.sun, claims.uid, claims.gid)
        .map_err(Rejected::Subject)
}

fn check_times(claims: &Claims, leeway: u32, now: u64) -> Result<(), Rejected> {
    let leeway = u64::from(leeway);
    if let Some(nbf) = claims.nbf
        && nbf > now.saturating_add(leeway)
    {
        return Err(Untrue::NotYet { nbf, now }.into());
    }
    // RFC 7519 section 4.1.4: not on or after it. Slurm accepts that one second.
    if now >= claims.exp.saturating_add(leeway) {
        return Err(Rejected::Expired {
            exp: claims.exp,
            now,
        });
    }
    Ok(())
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It is no token at all.
    Malformed(Malformed),
    /// Nothing that it says may be believed.
    Untrue(Untrue),
    /// It is genuine, for somebody whom no token may name.
    Subject(Refusal),
    /// It is genuine, and was valid.
    Expired {
        /// Its end.
        exp: u64,
        /// The present.
        now: u64,
    },
}

/// Why a token that can be read is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untrue {
    /// A member of the header or the claims is not what it has to be.
    Member(BadMember),
    /// A member is given twice.
    MemberTwice(String),
    /// The header names extensions that a reader has to know.
    Critical,
    /// The header says that it is something else than a JWT.
    OtherType(String),
    /// The header names no key, and which is meant isn't clear.
    NoKid,
    /// No key of this name is known.
    UnknownKid(String),
    /// The key is for another algorithm than the header says.
    OtherAlgorithm {
        /// What the header says.
        alg: String,
        /// What the key is for.
        wanted: Algorithm,
    },
    /// The signature is not the key's.
    Signature {
        /// The key.
        kid: String,
    },
    /// The claims `sun` and `id` name two accounts.
    OtherIdentity,
    /// Its time hasn't begun.
    NotYet {
        /// Its begin.
        nbf: u64,
        /// The present.
        now: u64,
    },
}

impl From<Malformed> for Rejected {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Untrue> for Rejected {
    fn from(untrue: Untrue) -> Self {
        Self::Untrue(untrue)
    }
}

impl Rejected {
    /// The word for programs.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed(_) | Self::Untrue(_) => Code::TokenInvalid,
            Self::Subject(refusal) => refusal.code,
            Self::Expired { .. } => Code::TokenExpired,
        }
    }

    /// What happened, in a sentence without its full stop.
    pub fn what(&self) -> String {
        match self {
            Self::Malformed(malformed) => malformed.what(),
            Self::Untrue(untrue) => untrue.what(),
            Self::Subject(refusal) => refusal.message.trim_end_matches('.').into(),
            Self::Expired { exp, now } => {
                format!("the token expired {} s ago", now.saturating_sub(*exp))
            }
        }
    }

    /// What to do, in a sentence without its full stop.
    pub fn remedy(&self) -> String {
        match self {
            Self::Malformed(malformed) => malformed.remedy().into(),
            Self::Untrue(untrue) => untrue.remedy().into(),
            Self::Subject(refusal) => refusal.help.trim_end_matches('.').into(),
            Self::Expired { .. } => "get a new one with: slurm-token".into(),
        }
    }

    /// The refusal that goes to whoever asked.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Subject(refusal) => refusal.clone(),
            _ => Refusal::new(
                self.code(),
                sentence(&self.what()),
                sentence(&self.remedy()),
            ),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.remedy())
    }
}

/// With a capital letter at its beginning and a full stop at its end.
fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
}

impl Untrue {
    fn what(&self) -> String {
        match self {
            Self::Member(bad) => format!("the token is not valid: {bad}"),
            Self::MemberTwice(member) => format!(
                "the token has the member {:?} twice: readers differ in which they take",
                shorten(member)
            ),
            Self::Critical => {
                "the token names extensions (\"crit\") that are not known here".into()
            }
            Self::OtherType(typ) => {
                format!("the token says that it is a {:?}, not a JWT", shorten(typ))
            }
            Self::NoKid => "the token names no key (\"kid\")".into(),
            Self::UnknownKid(kid) => {
                format!(
                    "the token names the key {:?}, which is not known here",
                    shorten(kid)
                )
            }
            Self::OtherAlgorithm { alg, wanted } => format!(
                "the token says that it is signed with {:?}, and its key is for {wanted}",
                shorten(alg)
            ),
            Self::Signature { kid } => format!(
                "the token's signature is not of the key {:?}: it was forged, changed or cut off",
                shorten(kid)
            ),
            Self::OtherIdentity => {
                "the token's \"id\" and its \"sun\" name two accounts, and Slurm 26.05 takes the \
                 first"
                    .into()
            }
            Self::NotYet { nbf, now } => format!(
                "the token becomes valid in {} s only",
                nbf.saturating_sub(*now)
            ),
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::NotYet { .. } => {
                "wait, and compare the clocks of this machine and of the one that made it"
            }
            Self::UnknownKid(_) => {
                "get a new one with: slurm-token; an administrator adds the key with [[verify]] \
                 in slurm-tokend.toml"
            }
            _ => "get a new one with: slurm-token",
        }
    }
}

#[cfg(test)]
mod tests;
