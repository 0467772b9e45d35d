//! Public keys as JWK and JWKS (RFC 7517), in the one form that every release
//! of Slurm accepts: `kty`, `kid`, `use`, `alg`, `n`, `e`. Slurm 22.05 ignores
//! an entry without `alg`, 26.05 one without `kty`, and both die of one
//! without `kid`.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Kid;
use super::format::{PublicKey, Rejection};
use super::json::Json;
use crate::report::Problem;

/// The members that only a private or secret key has (RFC 7518 sections 6.3.2
/// and 6.4.1).
pub const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

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
        public_key(&self.n, &self.e)
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
        let json: Json = serde_json::from_slice(bytes).map_err(|e| JwksRejection::NotJson {
            line: e.line(),
            column: e.column(),
        })?;
        if let Some(member) = json.first_named(&PRIVATE_MEMBERS) {
            return Err(JwksRejection::Private { member });
        }
        // RFC 7517 section 4: names are unique.
        if let Some(member) = json.repeated_member() {
            return Err(JwksRejection::MemberTwice {
                member: member.into(),
            });
        }
        let Some(Json::Array(entries)) = json.member("keys") else {
            return Err(JwksRejection::NotASet);
        };
        let mut reading = Reading {
            set: Self::default(),
            passed_over: Vec::new(),
        };
        for (index, entry) in entries.iter().enumerate() {
            match read_entry(index + 1, entry)? {
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

/// The key of the numbers `n` and `e` as a JWK writes them.
pub fn public_key(n: &str, e: &str) -> Result<PublicKey, Rejection> {
    let number = |text| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| Rejection::Malformed)
    };
    PublicKey::from_components(&number(n)?, &number(e)?)
}

enum Entry {
    Key(Jwk),
    ForSomethingElse(String),
}

fn read_entry(number: usize, entry: &Json) -> Result<Entry, JwksRejection> {
    if !matches!(entry, Json::Object(_)) {
        return Err(JwksRejection::NotAnObject { number });
    }
    let text = |member: &'static str| entry.text(member);
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
    /// A member is given twice in one object.
    MemberTwice {
        /// Which.
        member: String,
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
            Self::MemberTwice { member } => {
                format!("the member {member:?} is given twice: readers differ in which they take")
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
            Self::NotJson { .. }
            | Self::NotASet
            | Self::NotAnObject { .. }
            | Self::MemberTwice { .. } => {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The modulus of RFC 7515 appendix A.2.1, of 2048 bits.
    const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJ\
                     PMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OM\
                     g0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQ\
                     Y4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs\
                     91kzk2PAcDTW9gb54h4FRWyuXpoQ";

    fn entry() -> Value {
        json!({"kty": "RSA", "kid": "login1", "use": "sig", "alg": "RS256", "n": N, "e": "AQAB"})
    }

    /// What is said of a set whose one entry has these members too, or instead.
    fn read_with(members: &Value) -> Result<Reading, JwksRejection> {
        let mut entry = entry();
        for (name, value) in members.as_object().unwrap() {
            entry[name] = value.clone();
        }
        read(&json!({ "keys": [entry] }))
    }

    fn read_without(member: &str) -> Result<Reading, JwksRejection> {
        let mut entry = entry();
        entry.as_object_mut().unwrap().remove(member);
        read(&json!({ "keys": [entry] }))
    }

    fn read(json: &Value) -> Result<Reading, JwksRejection> {
        JwkSet::parse(json.to_string().as_bytes())
    }

    #[test]
    fn an_entry_has_exactly_the_members_that_slurm_needs_in_this_order() {
        let key = serde_json::from_value::<Jwk>(entry())
            .unwrap()
            .public_key()
            .unwrap();
        let set = JwkSet::of(&key, &Kid::new("login1").unwrap());
        let line = set.to_json().replace(['\n', ' '], "");
        let expected = format!(
            r#"{{"keys":[{{"kty":"RSA","kid":"login1","use":"sig","alg":"RS256","n":"{N}","e":"AQAB"}}]}}"#
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_set_is_read_as_it_was_written() {
        let set = read_with(&json!({})).unwrap().set;
        assert_eq!(JwkSet::parse(set.to_json().as_bytes()).unwrap().set, set);
    }

    #[test]
    fn the_key_of_rfc_7515_appendix_a_2_is_read() {
        let set = read_with(&json!({})).unwrap().set;
        let key = set.find("login1").unwrap().public_key().unwrap();
        assert_eq!((key.bits(), key.e()), (2048, &[1, 0, 1][..]));
    }

    #[test]
    fn a_private_member_is_refused_wherever_it_stands() {
        for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            let private = Err(JwksRejection::Private { member });
            assert_eq!(read_with(&json!({ member: "AQAB" })), private);
            assert_eq!(read_with(&json!({ member: null })), private);
            assert_eq!(read(&json!({ "keys": [], member: "AQAB" })), private);
            assert_eq!(
                read(&json!({ "keys": [], "old": [{ member: "AQAB" }] })),
                private
            );
        }
    }

    #[test]
    fn a_private_member_hides_neither_behind_an_escape_nor_behind_its_double() {
        let private = Err(JwksRejection::Private { member: "d" });
        assert_eq!(JwkSet::parse(br#"{"keys":[{"\u0064":"AQAB"}]}"#), private);
        assert_eq!(
            JwkSet::parse(br#"{"keys":[{"d":"AQAB"}],"keys":[]}"#),
            private
        );
    }

    #[test]
    fn a_member_that_is_given_twice_is_refused() {
        for (text, member) in [
            (r#"{"keys":[],"keys":[]}"#, "keys"),
            (r#"{"keys":[{"kid":"a","ki\u0064":"b"}]}"#, "kid"),
            (r#"{"keys":[],"x":{"y":1,"y":2}}"#, "y"),
        ] {
            let member = member.to_owned();
            assert_eq!(
                JwkSet::parse(text.as_bytes()),
                Err(JwksRejection::MemberTwice { member })
            );
        }
    }

    #[test]
    fn an_entry_without_a_member_that_slurm_needs_is_refused() {
        for member in ["kty", "kid", "alg", "n", "e"] {
            let missing = Err(JwksRejection::Missing { number: 1, member });
            assert_eq!(read_without(member), missing);
            assert_eq!(read_with(&json!({ member: 1 })), missing);
        }
    }

    #[test]
    fn an_entry_without_use_is_completed() {
        assert_eq!(read_without("use"), read_with(&json!({})));
    }

    #[test]
    fn members_that_slurm_does_not_know_are_left_out() {
        assert_eq!(
            read_with(&json!({"x5t": "AQAB", "key_ops": ["verify"]})),
            read_with(&json!({}))
        );
    }

    #[test]
    fn keys_for_other_purposes_are_passed_over_and_named() {
        for members in [
            json!({"kty": "EC"}),
            json!({"use": "enc"}),
            json!({"alg": "RS512"}),
        ] {
            let reading = read_with(&members).unwrap();
            assert_eq!(reading.set, JwkSet::default());
            assert!(reading.passed_over[0].starts_with("key \"login1\" is "));
        }
    }

    #[test]
    fn one_kid_names_one_key() {
        let mut other = entry();
        other["e"] = json!("Aw");
        assert_eq!(
            read(&json!({ "keys": [entry(), other] })),
            Err(JwksRejection::KidTwice {
                kid: "login1".into()
            })
        );
        assert_eq!(
            read(&json!({ "keys": [entry(), entry()] }))
                .unwrap()
                .set
                .keys
                .len(),
            1
        );
    }

    #[test]
    fn a_key_that_we_would_not_accept_signatures_of_is_refused() {
        let refused = |rejection| {
            Err(JwksRejection::Key {
                kid: "login1".into(),
                rejection,
            })
        };
        assert_eq!(
            read_with(&json!({"n": "AQAB"})),
            refused(Rejection::TooSmall { bits: 17 })
        );
        assert_eq!(
            read_with(&json!({"e": "AQ"})),
            refused(Rejection::Inconsistent)
        );
        assert_eq!(
            read_with(&json!({"e": "AQAB="})),
            refused(Rejection::Malformed)
        );
        assert_eq!(
            read_with(&json!({"e": "+/=="})),
            refused(Rejection::Malformed)
        );
    }

    #[test]
    fn what_is_no_set_is_refused_without_repeating_it() {
        assert_eq!(
            JwkSet::parse(b"{"),
            Err(JwksRejection::NotJson { line: 1, column: 1 })
        );
        assert_eq!(read(&json!([])), Err(JwksRejection::NotASet));
        assert_eq!(read(&json!({"keys": {}})), Err(JwksRejection::NotASet));
        assert_eq!(
            read(&json!({"keys": [1]})),
            Err(JwksRejection::NotAnObject { number: 1 })
        );
    }
}
