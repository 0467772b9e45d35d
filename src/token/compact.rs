//! The compact form of a token (RFC 7515 section 7.1), read without any key.
//!
//! What is read here is what somebody wrote, not what is true: only
//! [`super::verify`] proves that a key's holder wrote it.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::MAX_TOKEN;
use crate::keys::json::Json;

/// The longest token that is looked at to say what is in it, in bytes: Slurm
/// itself takes 70 kB and refuses 100 kB.
pub const MAX_FOREIGN_TOKEN: usize = 128 * 1024;

/// From here on a time can't be meant in seconds: the year 5138. Taken for
/// milliseconds it's 1973.
pub(super) const NO_SECONDS: u64 = 100_000_000_000;

/// A token taken apart. Its signature is not checked.
pub struct Compact<'a> {
    /// The JOSE header (RFC 7515 section 4): an object.
    pub header: Json,
    /// The claims (RFC 7519 section 4): an object.
    pub claims: Json,
    signed: &'a str,
    signature: &'a str,
}

impl fmt::Debug for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compact").finish_non_exhaustive()
    }
}

/// A part of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first.
    Header,
    /// The second.
    Claims,
    /// The third.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}

/// Why bytes are no token. Nothing of them is in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No byte at all.
    Empty,
    /// More bytes than are read.
    TooLong {
        /// How many.
        bytes: usize,
        /// How many are read.
        most: usize,
    },
    /// The word `Bearer` before the token.
    Bearer,
    /// A name before the token, as in `SLURM_JWT=` or `X-SLURM-USER-TOKEN:`.
    Named,
    /// A quotation mark before the token.
    Quoted,
    /// A newline after the token.
    NewlineAtEnd,
    /// White space somewhere else.
    WhiteSpace {
        /// The byte before which it stands, from 0.
        at: usize,
    },
    /// `+` or `/`: base64 in its other alphabet.
    OtherAlphabet,
    /// `=` at the end of a part.
    Padding,
    /// Another byte that no token has.
    OddByte {
        /// Its place, from 0.
        at: usize,
    },
    /// Five parts: an encrypted token (RFC 7516).
    Encrypted,
    /// Another number of parts than three.
    Parts {
        /// How many.
        count: usize,
    },
    /// A part has no byte.
    EmptyPart(Part),
    /// A part is cut off, or has bits that no encoder writes.
    NotBase64(Part),
    /// A part holds no JSON.
    NotJson {
        /// Which.
        part: Part,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A part holds JSON that is no object.
    NotAnObject(Part),
}

impl Malformed {
    /// What happened, in a sentence without its full stop.
    pub fn what(&self) -> String {
        match self {
            Self::Empty => "there is no token: it is empty".into(),
            Self::TooLong { bytes, most } => {
                format!("this has {bytes} bytes, and a token has at most {most}")
            }
            Self::Bearer => "the word \"Bearer\" stands before the token".into(),
            Self::Named => "a name stands before the token, as in SLURM_JWT=".into(),
            Self::Quoted => "the token stands in quotation marks".into(),
            Self::NewlineAtEnd => "a newline follows the token".into(),
            Self::WhiteSpace { at } => format!("there is white space at byte {at} of the token"),
            Self::OtherAlphabet => "the token is in base64 with \"+\" and \"/\", not in the \
                                    base64url of RFC 7515"
                .into(),
            Self::Padding => "the token is padded with \"=\", which RFC 7515 leaves out".into(),
            Self::OddByte { at } => format!("byte {at} is none that a token has"),
            Self::Encrypted => "this token is encrypted (five parts), not signed (three)".into(),
            Self::Parts { count: 1 } => {
                "this is no token: a token has three parts with full stops between them".into()
            }
            Self::Parts { count } => format!("this has {count} parts, and a token has three"),
            Self::EmptyPart(Part::Signature) => "the token has no signature".into(),
            Self::EmptyPart(part) => format!("the token's {part} part is empty"),
            Self::NotBase64(part) => format!("the token's {part} part is cut off or changed"),
            Self::NotJson { part, line, column } => {
                format!("the token's {part} part is not JSON: line {line}, column {column}")
            }
            Self::NotAnObject(part) => format!("the token's {part} part is not a JSON object"),
        }
    }

    /// What to do, in a sentence without its full stop.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Empty => "get one with: slurm-token",
            Self::Bearer | Self::Named | Self::Quoted => "give the token alone, from eyJ on",
            Self::NewlineAtEnd | Self::WhiteSpace { .. } => {
                "give the token alone, without spaces and line ends"
            }
            Self::OtherAlphabet | Self::Padding => {
                "encode each part as base64url without padding, as slurm-token's tokens are"
            }
            Self::Encrypted | Self::EmptyPart(Part::Signature) => {
                "Slurm knows tokens signed with RS256 or HS256 only; get one with: slurm-token"
            }
            Self::TooLong { .. }
            | Self::OddByte { .. }
            | Self::Parts { .. }
            | Self::EmptyPart(_)
            | Self::NotBase64(_)
            | Self::NotJson { .. }
            | Self::NotAnObject(_) => {
                "copy the whole token and nothing else, or get a new one with: slurm-token"
            }
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.remedy())
    }
}

impl<'a> Compact<'a> {
    /// Takes apart a token of at most [`MAX_TOKEN`] bytes.
    pub fn read(token: &'a [u8]) -> Result<Self, Malformed> {
        Self::read_up_to(MAX_TOKEN, token)
    }

    /// Takes apart a token of anybody's making, to say what is in it.
    pub fn read_foreign(token: &'a [u8]) -> Result<Self, Malformed> {
        Self::read_up_to(MAX_FOREIGN_TOKEN, token)
    }

    fn read_up_to(most: usize, token: &'a [u8]) -> Result<Self, Malformed> {
        if token.len() > most {
            let bytes = token.len();
            return Err(Malformed::TooLong { bytes, most });
        }
        let token = plain(token)?;
        let parts: Vec<&str> = token.splitn(6, '.').collect();
        let [header, claims, signature] = parts[..] else {
            return Err(match parts.len() {
                5 => Malformed::Encrypted,
                count => Malformed::Parts { count },
            });
        };
        let read = Self {
            header: object(Part::Header, header)?,
            claims: object(Part::Claims, claims)?,
            signed: &token[..header.len() + 1 + claims.len()],
            signature,
        };
        // Not kept, but two texts must not be one signature.
        decode(Part::Signature, signature)?;
        Ok(read)
    }

    /// The first member name that an object of the header or the claims has
    /// twice: readers differ in which of the two they take.
    pub fn repeated_member(&self) -> Option<&str> {
        let header = self.header.repeated_member();
        header.or_else(|| self.claims.repeated_member())
    }

    /// What the signature is of: header and claims with the full stop between.
    pub(crate) fn signed(&self) -> &'a [u8] {
        self.signed.as_bytes()
    }

    /// The signature, in base64url.
    pub(crate) fn signature(&self) -> &'a str {
        self.signature
    }

    /// The members of the header that decide about a token, with their types.
    pub fn typed_header(&self) -> Result<Header, BadMember> {
        Ok(Header {
            alg: required(text(&self.header, "alg")?, "alg")?,
            typ: text(&self.header, "typ")?,
            kid: text(&self.header, "kid")?,
            crit: self.header.member("crit").is_some(),
        })
    }

    /// The claims that decide about a token, with their types: what each has
    /// to be whoever wrote it. Others are left out.
    pub fn typed_claims(&self) -> Result<Claims, BadMember> {
        let claims = &self.claims;
        Ok(Claims {
            sun: required(text(claims, "sun")?, "sun")?,
            exp: required(seconds(claims, "exp")?, "exp")?,
            iat: seconds(claims, "iat")?,
            nbf: seconds(claims, "nbf")?,
            auth_time: seconds(claims, "auth_time")?,
            jti: text(claims, "jti")?,
            iss: text(claims, "iss")?,
            aud: audience(claims)?,
            act: actor(claims)?,
            uid: id_number(claims, "uid")?,
            gid: id_number(claims, "gid")?,
            id: identity(claims)?,
        })
    }
}

/// A token's text, or what stands beside it or in it that doesn't belong there.
fn plain(token: &[u8]) -> Result<&str, Malformed> {
    let is_of_a_token = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let Some(at) = token.iter().position(|byte| !is_of_a_token(byte)) else {
        return match std::str::from_utf8(token) {
            Ok("") => Err(Malformed::Empty),
            Ok(text) => Ok(text),
            Err(_) => Err(Malformed::OddByte { at: 0 }),
        };
    };
    let (before, after) = (&token[..at], &token[at + 1..]);
    Err(match token[at] {
        b'"' | b'\'' if at == 0 => Malformed::Quoted,
        b' ' if before.eq_ignore_ascii_case(b"Bearer") => Malformed::Bearer,
        b'=' if matches!(after, [] | [b'=' | b'.', ..]) => Malformed::Padding,
        b'=' | b':' if !before.is_empty() && !before.contains(&b'.') => Malformed::Named,
        b'\n' | b'\r' if token[at..].iter().all(u8::is_ascii_whitespace) && at > 0 => {
            Malformed::NewlineAtEnd
        }
        byte if byte.is_ascii_whitespace() => Malformed::WhiteSpace { at },
        b'+' | b'/' => Malformed::OtherAlphabet,
        _ => Malformed::OddByte { at },
    })
}

fn decode(part: Part, text: &str) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    if text.is_empty() {
        return Err(Malformed::EmptyPart(part));
    }
    // The crate refuses bits beyond the last byte: one value has one text.
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(_) => Err(Malformed::NotBase64(part)),
    }
}

fn object(part: Part, text: &str) -> Result<Json, Malformed> {
    let json: Json =
        serde_json::from_slice(&decode(part, text)?).map_err(|e| Malformed::NotJson {
            part,
            line: e.line(),
            column: e.column(),
        })?;
    match json {
        Json::Object(_) => Ok(json),
        _ => Err(Malformed::NotAnObject(part)),
    }
}

/// What a token's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How it says it is signed: to be compared with the key, never believed.
    pub alg: String,
    /// What it says it is.
    pub typ: Option<String>,
    /// The key that it says signed it.
    pub kid: Option<String>,
    /// Does it name extensions that a reader has to know (RFC 7515 section 4.1.11).
    pub crit: bool,
}

/// What a token says. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user that Slurm takes its bearer for.
    pub sun: String,
    /// Its end.
    pub exp: u64,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Its begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// When the first token of a chain of refreshed ones was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
    /// Its own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// The service that asked for it in the user's stead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// The user's uid, for Slurm 26.05.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The user's primary group, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The user's account, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Identity>,
}

/// Who acts for a token's user (RFC 8693 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The service's account.
    pub sub: String,
}

/// An account as Slurm 26.05 reads it from a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The login name.
    pub name: String,
    /// The comment field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gecos: Option<String>,
    /// The home directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// The login shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// The groups, from name to gid.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, u32>,
    /// The groups, where they have no names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gids: Vec<u32>,
}

/// A member that is not what it has to be. Its `Display` is a sentence
/// without its full stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMember {
    /// Which.
    pub member: &'static str,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// What is wrong with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It isn't there.
    Missing,
    /// It is no string.
    NotText,
    /// It is no integer of seconds: a fraction, a string, negative.
    NotSeconds,
    /// It is a number that can only be meant in milliseconds.
    Milliseconds,
    /// It is no uid or gid.
    NotAnId,
    /// It has not the shape that it has to have.
    Shape,
}

impl fmt::Display for BadMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flaw = match self.flaw {
            Flaw::Missing => "is missing",
            Flaw::NotText => "is not a string",
            Flaw::NotSeconds => "is not a whole, positive number of seconds",
            Flaw::Milliseconds => "looks like milliseconds, where seconds since 1970 are due",
            Flaw::NotAnId => "is not a number from 0 to 4294967295",
            Flaw::Shape => "has not the shape that Slurm reads",
        };
        write!(f, "its \"{}\" {flaw}", self.member)
    }
}

fn bad<T>(member: &'static str, flaw: Flaw) -> Result<T, BadMember> {
    Err(BadMember { member, flaw })
}

fn required<T>(value: Option<T>, member: &'static str) -> Result<T, BadMember> {
    value.map_or_else(|| bad(member, Flaw::Missing), Ok)
}

fn text(object: &Json, member: &'static str) -> Result<Option<String>, BadMember> {
    match object.member(member) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text.clone())),
        Some(_) => bad(member, Flaw::NotText),
    }
}

fn seconds(object: &Json, member: &'static str) -> Result<Option<u64>, BadMember> {
    match object.member(member) {
        None => Ok(None),
        Some(Json::Number(number)) => match number.as_u64() {
            Some(seconds) if seconds < NO_SECONDS => Ok(Some(seconds)),
            Some(_) => bad(member, Flaw::Milliseconds),
            None => bad(member, Flaw::NotSeconds),
        },
        Some(_) => bad(member, Flaw::NotSeconds),
    }
}

fn id_number(object: &Json, member: &'static str) -> Result<Option<u32>, BadMember> {
    match object.member(member) {
        None => Ok(None),
        Some(json) => number(json).map_or_else(|| bad(member, Flaw::NotAnId), |id| Ok(Some(id))),
    }
}

fn number(json: &Json) -> Option<u32> {
    match json {
        Json::Number(number) => number.as_u64()?.try_into().ok(),
        _ => None,
    }
}

/// One audience, or a list of them (RFC 7519 section 4.1.3).
fn audience(claims: &Json) -> Result<Vec<String>, BadMember> {
    let one = |json: &Json| match json {
        Json::Text(text) => Ok(text.clone()),
        _ => bad("aud", Flaw::NotText),
    };
    match claims.member("aud") {
        None => Ok(Vec::new()),
        Some(Json::Array(items)) => items.iter().map(one).collect(),
        Some(json) => Ok(vec![one(json)?]),
    }
}

fn actor(claims: &Json) -> Result<Option<Actor>, BadMember> {
    match claims.member("act") {
        None => Ok(None),
        Some(act) => match act.text("sub") {
            Some(sub) => Ok(Some(Actor { sub: sub.into() })),
            None => bad("act", Flaw::Shape),
        },
    }
}

fn identity(claims: &Json) -> Result<Option<Identity>, BadMember> {
    let Some(id) = claims.member("id") else {
        return Ok(None);
    };
    let read = || {
        let optional = |member| match id.member(member) {
            None => Some(None),
            Some(Json::Text(text)) => Some(Some(text.clone())),
            Some(_) => None,
        };
        let groups = match id.member("groups") {
            None => BTreeMap::new(),
            Some(Json::Object(groups)) => groups
                .iter()
                .map(|(name, gid)| Some((name.clone(), number(gid)?)))
                .collect::<Option<_>>()?,
            Some(_) => return None,
        };
        let gids = match id.member("gids") {
            None => Vec::new(),
            Some(Json::Array(gids)) => gids.iter().map(number).collect::<Option<_>>()?,
            Some(_) => return None,
        };
        Some(Identity {
            name: id.text("name")?.into(),
            gecos: optional("gecos")?,
            dir: optional("dir")?,
            shell: optional("shell")?,
            groups,
            gids,
        })
    };
    read().map_or_else(|| bad("id", Flaw::Shape), |id| Ok(Some(id)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn encoded(part: &str) -> String {
        URL_SAFE_NO_PAD.encode(part)
    }

    /// A token of these parts, with a signature of three bytes.
    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.AAAA", encoded(header), encoded(claims))
    }

    fn read(token: &str) -> Result<Compact<'_>, Malformed> {
        Compact::read(token.as_bytes())
    }

    fn malformed(token: &str) -> Malformed {
        read(token).unwrap_err()
    }

    /// What is said of claims in which these members are others, or null: not there.
    fn claims_with(members: &Value) -> Result<Claims, BadMember> {
        let mut claims = json!({"sun": "alice", "exp": 1_800_000_000});
        for (name, value) in members.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        let token = token("{}", &claims.to_string());
        read(&token).unwrap().typed_claims()
    }

    #[test]
    fn the_token_of_rfc_7515_appendix_a_1_is_taken_apart() {
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                     eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc\
                     19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let compact = read(token).unwrap();
        let header = compact.typed_header().unwrap();
        assert_eq!(
            (header.alg.as_str(), header.typ.as_deref(), header.kid),
            ("HS256", Some("JWT"), None)
        );
        assert_eq!(
            serde_json::to_value(&compact.claims).unwrap(),
            json!({"iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": true})
        );
        assert_eq!(
            compact.signed().len() + 1 + compact.signature().len(),
            token.len()
        );
    }

    #[test]
    fn what_stands_beside_a_token_is_named() {
        let good = token("{}", "{}");
        for (text, expected) in [
            (String::new(), Malformed::Empty),
            (format!("Bearer {good}"), Malformed::Bearer),
            (format!("bearer {good}"), Malformed::Bearer),
            (format!("SLURM_JWT={good}"), Malformed::Named),
            (format!("X-SLURM-USER-TOKEN: {good}"), Malformed::Named),
            (format!("\"{good}\""), Malformed::Quoted),
            (format!("'{good}'"), Malformed::Quoted),
            (format!("{good}\n"), Malformed::NewlineAtEnd),
            (format!("{good}\r\n"), Malformed::NewlineAtEnd),
            (format!(" {good}"), Malformed::WhiteSpace { at: 0 }),
            (
                format!("{good} x"),
                Malformed::WhiteSpace { at: good.len() },
            ),
            (
                format!("{good}\nx"),
                Malformed::WhiteSpace { at: good.len() },
            ),
            (format!("{good}\0"), Malformed::OddByte { at: good.len() }),
            (
                format!("{good}\u{e9}"),
                Malformed::OddByte { at: good.len() },
            ),
        ] {
            assert_eq!(malformed(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn other_encodings_than_base64url_without_padding_are_named() {
        for (text, expected) in [
            ("e30=.e30.AAAA", Malformed::Padding),
            ("e30.e30=.AAAA", Malformed::Padding),
            ("e30.e30.AAA=", Malformed::Padding),
            ("e30.e30.AA==", Malformed::Padding),
            ("e30.e30.A+AA", Malformed::OtherAlphabet),
            ("e30.e30.A/AA", Malformed::OtherAlphabet),
            // Bits that no encoder writes, and one character too many.
            ("e30.e31.AAAA", Malformed::NotBase64(Part::Claims)),
            ("e30.e30.AB", Malformed::NotBase64(Part::Signature)),
            ("e30.e30.AAAAA", Malformed::NotBase64(Part::Signature)),
        ] {
            assert_eq!(malformed(text), expected, "{text:?}");
        }
    }

    #[test]
    fn another_number_of_parts_than_three_is_named() {
        assert_eq!(malformed("eyJ"), Malformed::Parts { count: 1 });
        assert_eq!(malformed("e30.e30"), Malformed::Parts { count: 2 });
        assert_eq!(
            malformed("e30.e30.AAAA.AAAA"),
            Malformed::Parts { count: 4 }
        );
        assert_eq!(malformed("e30.e30.e30.e30.e30"), Malformed::Encrypted);
        assert_eq!(malformed(&".".repeat(9)), Malformed::Parts { count: 6 });
        assert_eq!(malformed("e30.e30."), Malformed::EmptyPart(Part::Signature));
        assert_eq!(malformed("e30..AAAA"), Malformed::EmptyPart(Part::Claims));
        assert_eq!(malformed("..AAAA"), Malformed::EmptyPart(Part::Header));
    }

    #[test]
    fn parts_that_are_no_objects_are_named() {
        let not_json = |part, line, column| Malformed::NotJson { part, line, column };
        assert_eq!(malformed(&token("x", "{}")), not_json(Part::Header, 1, 1));
        assert_eq!(
            malformed(&token("{}", "{}\n}")),
            not_json(Part::Claims, 2, 1)
        );
        assert_eq!(
            malformed(&token("[]", "{}")),
            Malformed::NotAnObject(Part::Header)
        );
        assert_eq!(
            malformed(&token("{}", "1")),
            Malformed::NotAnObject(Part::Claims)
        );
    }

    #[test]
    fn depth_and_length_have_a_bound() {
        let deep = format!("{{\"x\":{}", "[".repeat(5000));
        assert!(matches!(
            malformed(&token("{}", &deep)),
            Malformed::NotJson { .. }
        ));
        let most = MAX_TOKEN;
        let bytes = most + 1;
        assert_eq!(
            malformed(&"e".repeat(bytes)),
            Malformed::TooLong { bytes, most }
        );
        let long = token("{}", &format!("{{\"x\":\"{}\"}}", "y".repeat(60_000)));
        assert!(Compact::read_foreign(long.as_bytes()).is_ok());
        let most = MAX_FOREIGN_TOKEN;
        let bytes = most + 1;
        let too_long = Compact::read_foreign(&vec![b'e'; bytes]).unwrap_err();
        assert_eq!(too_long, Malformed::TooLong { bytes, most });
    }

    #[test]
    fn members_that_are_there_twice_are_found_however_they_are_written() {
        for (header, claims, member) in [
            (r#"{"alg":"a","alg":"a"}"#, "{}", "alg"),
            ("{}", r#"{"sun":"a","s\u0075n":"a"}"#, "sun"),
            ("{}", r#"{"id":{"groups":{"a":1,"a":1}}}"#, "a"),
        ] {
            let token = token(header, claims);
            assert_eq!(read(&token).unwrap().repeated_member(), Some(member));
        }
        let token = token(r#"{"kid":"a"}"#, r#"{"kid":"a"}"#);
        assert_eq!(read(&token).unwrap().repeated_member(), None);
    }

    #[test]
    fn a_header_names_its_algorithm_and_has_strings_where_strings_are_due() {
        let header = |text: &str| read(&token(text, "{}")).unwrap().typed_header();
        let bad = |member, flaw| Err(BadMember { member, flaw });
        assert_eq!(header("{}"), bad("alg", Flaw::Missing));
        assert_eq!(header(r#"{"alg":1}"#), bad("alg", Flaw::NotText));
        assert_eq!(
            header(r#"{"alg":"a","kid":null}"#),
            bad("kid", Flaw::NotText)
        );
        assert_eq!(header(r#"{"alg":"a","typ":[]}"#), bad("typ", Flaw::NotText));
        assert!(header(r#"{"alg":"a","crit":null}"#).unwrap().crit);
    }

    #[test]
    fn times_are_whole_seconds() {
        for member in ["exp", "iat", "nbf", "auth_time"] {
            for (value, flaw) in [
                (json!(1.5), Flaw::NotSeconds),
                (json!(1e9), Flaw::NotSeconds),
                (json!("1800000000"), Flaw::NotSeconds),
                (json!(-1), Flaw::NotSeconds),
                (json!(true), Flaw::NotSeconds),
                (json!(1_800_000_000_000_u64), Flaw::Milliseconds),
                (json!(u64::MAX), Flaw::Milliseconds),
            ] {
                let read = claims_with(&json!({ member: value }));
                assert_eq!(read, Err(BadMember { member, flaw }), "{value}");
            }
        }
        assert!(claims_with(&json!({"exp": 0})).is_ok());
    }

    #[test]
    fn a_token_names_its_user_and_its_end() {
        for member in ["sun", "exp"] {
            let flaw = Flaw::Missing;
            assert_eq!(
                claims_with(&json!({ member: null })),
                Err(BadMember { member, flaw })
            );
        }
        let flaw = Flaw::NotText;
        let member = "sun";
        assert_eq!(
            claims_with(&json!({"sun": 0})),
            Err(BadMember { member, flaw })
        );
    }

    #[test]
    fn the_claims_of_our_own_tokens_are_read() {
        let members = json!({
            "iss": "login1", "aud": "slurm", "iat": 1, "nbf": 2, "jti": "00ff", "auth_time": 3,
            "act": {"sub": "portal"}, "uid": 2001, "gid": 2001,
            "id": {"name": "alice", "gecos": "Alice", "dir": "/home/alice", "shell": "/bin/sh",
                   "groups": {"hpcusers": 2100}},
        });
        let claims = claims_with(&members).unwrap();
        assert_eq!(
            (claims.iat, claims.nbf, claims.auth_time),
            (Some(1), Some(2), Some(3))
        );
        assert_eq!(claims.aud, ["slurm"]);
        assert_eq!(claims.act.as_ref().unwrap().sub, "portal");
        assert_eq!((claims.uid, claims.gid), (Some(2001), Some(2001)));
        assert_eq!(claims.id.as_ref().unwrap().groups["hpcusers"], 2100);
        // What is written of them is what was read.
        let mut again = serde_json::to_value(&claims).unwrap();
        again["aud"] = json!("slurm");
        for (name, value) in members.as_object().unwrap() {
            assert_eq!(again[name], *value);
        }
    }

    #[test]
    fn claims_of_another_shape_are_refused() {
        for (member, value, flaw) in [
            ("jti", json!(1), Flaw::NotText),
            ("aud", json!(1), Flaw::NotText),
            ("aud", json!(["slurm", 1]), Flaw::NotText),
            ("act", json!("portal"), Flaw::Shape),
            ("act", json!({"sub": 1}), Flaw::Shape),
            ("uid", json!(-1), Flaw::NotAnId),
            ("uid", json!("2001"), Flaw::NotAnId),
            ("gid", json!(4_294_967_296_u64), Flaw::NotAnId),
            ("id", json!([]), Flaw::Shape),
            ("id", json!({"name": 1}), Flaw::Shape),
            ("id", json!({"name": "a", "groups": {"a": -1}}), Flaw::Shape),
            ("id", json!({"name": "a", "gids": {"a": 1}}), Flaw::Shape),
        ] {
            let read = claims_with(&json!({ member: value }));
            assert_eq!(read, Err(BadMember { member, flaw }), "{value}");
        }
        assert_eq!(
            claims_with(&json!({"aud": ["a", "b"]})).unwrap().aud,
            ["a", "b"]
        );
    }

    #[test]
    fn nothing_of_a_token_shows_in_debug_output() {
        let token = token("{}", r#"{"sun":"alice"}"#);
        assert_eq!(format!("{:?}", read(&token).unwrap()), "Compact { .. }");
    }

    /// Bytes with what matters in a token, more often than chance has it.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<Vec<u8>>(),
            r#"[{}\[\]":,a-z0-9\\ .eE+-]{0,40}"#.prop_map(String::into_bytes),
            r#"\{"(alg|kid|typ|exp|sun|id|act|aud)":[\[\]{}"0-9a-z.-]{0,12}\}"#
                .prop_map(String::into_bytes),
        ];
        let part = prop_oneof![
            part.clone()
                .prop_map(|part| URL_SAFE_NO_PAD.encode(part).into_bytes()),
            part,
        ];
        proptest::collection::vec(part, 0..6).prop_map(|parts| parts.join(&b'.'))
    }

    proptest! {
        #[test]
        fn no_bytes_crash_the_reader(bytes in bytes()) {
            if let Ok(compact) = Compact::read_foreign(&bytes) {
                let _ = (compact.typed_header(), compact.typed_claims());
                prop_assert_eq!(compact.signed().len() + 1 + compact.signature().len(), bytes.len());
            }
            let _ = crate::token::slurm::judge(&bytes, 1_800_000_000);
        }
    }
}
