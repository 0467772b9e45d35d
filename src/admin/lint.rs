//! What each release of Slurm does with a JWKS.
//!
//! Slurm 22.05.8 was asked itself: `tests/it/slurm/lint.rs` does it again.
//! What 26.05.3 does was measured once, for the cases that have an answer
//! here; what wasn't is called so.

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Serialize, Serializer};

use crate::keys::format::{PublicKey, Rejection};
use crate::keys::json::Json;
use crate::keys::jwks::{PRIVATE_MEMBERS, public_key};

/// What becomes of an entry, or of slurmctld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Tokens of this key are accepted.
    Accepted,
    /// The entry does no harm and no good.
    Ignored,
    /// slurmctld ends, or doesn't start.
    Dies,
    /// It depends on more than was measured.
    Unsure(&'static str),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepts it",
            Self::Ignored => "ignores it",
            Self::Dies => "dies of it",
            Self::Unsure(what) => what,
        })
    }
}

impl Serialize for Fate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const NOT_TRIED: Fate = Fate::Unsure("was not tried with it");

/// What is said of a file, or of one entry in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// The entry; the file itself has none.
    pub(super) subject: Option<String>,
    /// What Slurm 22.05 does.
    pub(super) slurm_22_05: Fate,
    /// What Slurm 26.05 does.
    pub(super) slurm_26_05: Fate,
    pub(super) finding: Option<Flaw>,
}

/// What is wrong, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Flaw {
    pub(super) what: String,
    pub(super) mend: &'static str,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subject) = &self.subject {
            write!(f, "{subject}: ")?;
        }
        write!(
            f,
            "Slurm 22.05 {}, 26.05 {}",
            self.slurm_22_05, self.slurm_26_05
        )?;
        match &self.finding {
            Some(Flaw { what, mend }) => write!(f, ": {what}; {mend}"),
            None => Ok(()),
        }
    }
}

const BUILD: &str = "make the set with: slurm-tokenctl jwks build FILE...";
const BUILD_ENTRY: &str = "make the entry anew from its key with: slurm-tokenctl jwks build FILE";

/// Judges the content of a JWKS file.
pub(super) fn judge(bytes: &[u8]) -> Vec<Verdict> {
    let of_file = |slurm_22_05, slurm_26_05, what: String, mend| Verdict {
        subject: None,
        slurm_22_05,
        slurm_26_05,
        finding: Some(Flaw { what, mend }),
    };
    let json: Json = match serde_json::from_slice(bytes) {
        Ok(json) => json,
        Err(e) => {
            let what = format!("this is not JSON: line {}, column {}", e.line(), e.column());
            // It takes comments, commas too many, other quotes, and what follows.
            let fate = Fate::Unsure("dies of most such files when it starts");
            return vec![of_file(fate, NOT_TRIED, what, BUILD)];
        }
    };
    if let Some(member) = json.repeated_member() {
        let what = format!("the member {member:?} is given twice");
        let fate = Fate::Unsure("takes the last");
        return vec![of_file(fate, NOT_TRIED, what, BUILD)];
    }
    let mut verdicts = Vec::new();
    if let Some(member) = json.first_named(&PRIVATE_MEMBERS) {
        let what = format!("it holds the private part of a key (member \"{member}\")");
        let remedy = "treat this key as stolen: replace it, and remove its entry everywhere";
        verdicts.push(of_file(Fate::Accepted, NOT_TRIED, what, remedy));
    }
    if matches!(json, Json::Number(_) | Json::Bool(_) | Json::Null) {
        let what = "it is a number, a truth value or null".into();
        verdicts.push(of_file(Fate::Dies, NOT_TRIED, what, BUILD));
        return verdicts;
    }
    let entries = match json.member("keys") {
        Some(Json::Array(entries)) => entries.as_slice(),
        _ => &[],
    };
    if entries.is_empty() {
        let what = "it holds no list \"keys\" with a key in it".into();
        verdicts.push(of_file(Fate::Ignored, NOT_TRIED, what, BUILD));
    }
    let (mut known_22_05, mut known_26_05) = (HashSet::new(), HashSet::new());
    for (index, entry) in entries.iter().enumerate() {
        let kid = entry.text("kid");
        // Of two keys that it would accept it tries the first.
        let first = |fate, known: &mut HashSet<_>| match fate {
            Fate::Accepted if !known.insert(kid) => Fate::Ignored,
            fate => fate,
        };
        let slurm_22_05 = first(by_22_05(entry), &mut known_22_05);
        let slurm_26_05 = first(by_26_05(entry), &mut known_26_05);
        let found = finding(entry).or_else(|| {
            [slurm_22_05, slurm_26_05]
                .contains(&Fate::Ignored)
                .then_some((
                    "an entry before it has the same kid".into(),
                    "give each key a kid of its own, or remove the one that no longer signs",
                ))
        });
        verdicts.push(Verdict {
            subject: Some(match kid {
                Some(kid) => format!("key {kid:?}"),
                None => format!("entry {}", index + 1),
            }),
            slurm_22_05,
            slurm_26_05,
            finding: found.map(|(what, mend)| Flaw { what, mend }),
        });
    }
    verdicts
}

/// Judges who may write to and read the file.
pub(super) fn judge_mode(mode: u32, owner: u32, slurm_uid: Option<u32>) -> Option<Verdict> {
    let verdict = |slurm_22_05, slurm_26_05, what, remedy| Verdict {
        subject: None,
        slurm_22_05,
        slurm_26_05,
        finding: Some(Flaw {
            what: format!("its mode {:04o} {what}", mode & 0o7777),
            mend: remedy,
        }),
    };
    if mode & 0o002 != 0 {
        let what = "lets everybody write to it, and so forge any token";
        Some(verdict(Fate::Accepted, Fate::Dies, what, "chmod go-w FILE"))
    } else if mode & 0o020 != 0 {
        let what = "lets its group write to it, and so forge any token";
        Some(verdict(Fate::Accepted, NOT_TRIED, what, "chmod go-w FILE"))
    } else if mode & 0o044 == 0 && slurm_uid != Some(owner) && slurm_uid != Some(0) {
        let what = "keeps SlurmUser from reading it";
        Some(verdict(
            Fate::Dies,
            NOT_TRIED,
            what,
            "chmod 0644 FILE: all in it is public",
        ))
    } else {
        None
    }
}

/// It looks at `alg` first, and at nothing more where that isn't RS256; not at
/// `kty` nor `use`. It dies of a missing kid, and of a number that is missing,
/// no string, or without a byte.
fn by_22_05(entry: &Json) -> Fate {
    if !entry
        .text("alg")
        .is_some_and(|alg| alg.eq_ignore_ascii_case("RS256"))
    {
        return Fate::Ignored;
    }
    if ["kid", "n", "e"]
        .iter()
        .any(|member| entry.member(member).is_none())
    {
        return Fate::Dies;
    }
    let [Some(n), Some(e)] = ["n", "e"].map(|member| entry.text(member).map(lenient)) else {
        return Fate::Dies;
    };
    if [&n, &e]
        .iter()
        .any(|number| number.as_ref().is_some_and(Vec::is_empty))
    {
        return Fate::Dies;
    }
    let fate = match (n, e) {
        (Some(n), Some(e)) => by_size(&PublicKey::from_components(&n, &e)),
        _ => Fate::Ignored,
    };
    match entry.member("kid") {
        Some(Json::Text(_)) => fate,
        Some(Json::Number(_) | Json::Bool(_)) if fate == Fate::Accepted => {
            Fate::Unsure("knows it by another name")
        }
        _ => Fate::Ignored,
    }
}

/// It looks at `kty` where 22.05 looks at `alg`, and dies of a missing kid
/// whatever the key.
fn by_26_05(entry: &Json) -> Fate {
    if !matches!(entry, Json::Object(_)) {
        return NOT_TRIED;
    }
    if entry.member("kid").is_none() {
        return Fate::Dies;
    }
    if entry.member("kty").is_none() {
        return Fate::Ignored;
    }
    let is = |member, wanted| entry.text(member) == Some(wanted);
    let lacks = |member| entry.member(member).is_none();
    let usual = is("kty", "RSA")
        && (is("alg", "RS256") || lacks("alg"))
        && (is("use", "sig") || lacks("use"));
    match ["kid", "n", "e"].map(|member| entry.text(member)) {
        [Some(kid), Some(n), Some(e)] if usual && !kid.is_empty() => {
            match by_size(&public_key(n, e)) {
                Fate::Accepted => Fate::Accepted,
                _ => NOT_TRIED,
            }
        }
        _ => NOT_TRIED,
    }
}

/// Keys of 1024 to 8192 bits work with all releases.
fn by_size(key: &Result<PublicKey, Rejection>) -> Fate {
    match key {
        Ok(_)
        | Err(Rejection::TooSmall { bits: 1024.. } | Rejection::TooLarge { bits: ..=8192 }) => {
            Fate::Accepted
        }
        Err(Rejection::TooLarge { .. }) => NOT_TRIED,
        Err(_) => Fate::Ignored,
    }
}

/// What is wrong with an entry by our own rule: one that all releases accept.
fn finding(entry: &Json) -> Option<(String, &'static str)> {
    if !matches!(entry, Json::Object(_)) {
        return Some(("it is not an object".into(), BUILD));
    }
    for member in ["kid", "kty", "alg", "n", "e"] {
        if entry.text(member).is_none() {
            return Some((
                format!("it has no \"{member}\" that is a string"),
                BUILD_ENTRY,
            ));
        }
    }
    if entry.text("kid") == Some("") {
        return Some((
            "its \"kid\" is empty".into(),
            "give it a name with: slurm-tokenctl jwks build --kid KID FILE",
        ));
    }
    for (member, wanted) in [("kty", "RSA"), ("alg", "RS256"), ("use", "sig")] {
        if entry.member(member).is_some() && entry.text(member) != Some(wanted) {
            return Some((
                format!("its \"{member}\" is not \"{wanted}\""),
                "remove it, unless another program needs it: Slurm knows RS256 only",
            ));
        }
    }
    let [n, e] = ["n", "e"].map(|member| entry.text(member).unwrap_or_default());
    match public_key(n, e) {
        Ok(_) => None,
        Err(rejection @ (Rejection::TooSmall { .. } | Rejection::TooLarge { .. })) => Some((
            rejection.what(),
            "replace this key: slurm-tokenctl key generate",
        )),
        Err(rejection) => Some((rejection.what(), BUILD_ENTRY)),
    }
}

/// A number as Slurm 22.05 reads it: in either alphabet, and what belongs to
/// neither is skipped. None where a character is left over, which makes
/// another number.
fn lenient(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    let text: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_'))
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect();
    if text.len() == 1 {
        return Some(Vec::new());
    }
    GeneralPurpose::new(&URL_SAFE, config).decode(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJ\
                     PMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OM\
                     g0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQ\
                     Y4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs\
                     91kzk2PAcDTW9gb54h4FRWyuXpoQ";

    /// What becomes of a sound entry in which `member` is `value`, or isn't.
    fn fates(member: &str, value: Option<Value>) -> (Fate, Fate, bool) {
        let mut entry = json!({
            "kty": "RSA", "kid": "login1", "use": "sig", "alg": "RS256", "n": N, "e": "AQAB"
        });
        match value {
            Some(value) => entry[member] = value,
            None => drop(entry.as_object_mut().unwrap().remove(member)),
        }
        let verdicts = judge(json!({ "keys": [entry] }).to_string().as_bytes());
        let [verdict] = verdicts.as_slice() else {
            panic!("{verdicts:?}")
        };
        (
            verdict.slurm_22_05,
            verdict.slurm_26_05,
            verdict.finding.is_some(),
        )
    }

    #[test]
    fn an_entry_of_ours_is_accepted_without_a_finding() {
        let accepted = (Fate::Accepted, Fate::Accepted, false);
        assert_eq!(fates("kid", Some(json!("login1"))), accepted);
        assert_eq!(fates("use", None), accepted);
    }

    #[test]
    fn what_is_known_of_26_05_is_said() {
        assert_eq!(fates("kid", None).1, Fate::Dies);
        assert_eq!(fates("kty", None).1, Fate::Ignored);
        assert_eq!(fates("alg", None).1, Fate::Accepted);
        assert_eq!(judge_mode(0o646, 0, None).unwrap().slurm_26_05, Fate::Dies);
    }

    #[test]
    fn what_was_not_tried_with_26_05_is_not_guessed() {
        for (member, value) in [("kty", "EC"), ("alg", "RS512"), ("use", "enc"), ("n", "!")] {
            assert_eq!(fates(member, Some(json!(value))).1, NOT_TRIED, "{member}");
        }
    }

    #[test]
    fn every_fate_but_acceptance_by_all_is_a_finding() {
        for member in ["kid", "kty", "alg", "use", "n", "e"] {
            for value in [
                None,
                Some(json!("x")),
                Some(json!("")),
                Some(json!(1)),
                Some(json!(null)),
            ] {
                let (old, new, found) = fates(member, value.clone());
                let accepted = old == Fate::Accepted && new == Fate::Accepted;
                assert!(found || accepted, "{member} {value:?}");
            }
        }
    }

    #[test]
    fn an_entry_under_the_kid_of_another_is_ignored() {
        let entry = json!({"kty":"RSA","kid":"a","use":"sig","alg":"RS256","n":N,"e":"AQAB"});
        let verdicts = judge(json!({ "keys": [entry, entry] }).to_string().as_bytes());
        assert_eq!(verdicts[0].finding, None);
        assert_eq!(
            (verdicts[1].slurm_22_05, verdicts[1].slurm_26_05),
            (Fate::Ignored, Fate::Ignored)
        );
    }

    #[test]
    fn a_repeated_entry_that_slurm_dies_of_is_not_taken_for_ignored() {
        let entry = json!({"kty":"RSA","kid":"a","use":"sig","alg":"RS256","n":N,"e":"AQAB"});
        let broken = json!({"kty":"RSA","kid":"a","use":"sig","alg":"RS256","e":"AQAB"});
        let verdicts = judge(json!({ "keys": [entry, broken] }).to_string().as_bytes());
        assert_eq!(verdicts[1].slurm_22_05, Fate::Dies);
    }

    #[test]
    fn a_private_part_is_found_though_slurm_accepts_it() {
        let entry = json!({"kid":"a","alg":"RS256","n":N,"e":"AQAB","d":"AQAB"});
        let verdicts = judge(json!({ "keys": [entry] }).to_string().as_bytes());
        assert_eq!(verdicts[0].slurm_22_05, Fate::Accepted);
        assert!(verdicts[0].to_string().contains("treat this key as stolen"));
    }

    #[test]
    fn a_verdict_is_told_in_one_line() {
        let verdicts = judge(br#"{"keys":[{"alg":"RS256"}]}"#);
        assert_eq!(
            verdicts[0].to_string(),
            "entry 1: Slurm 22.05 dies of it, 26.05 dies of it: it has no \"kid\" that is a \
             string; make the entry anew from its key with: slurm-tokenctl jwks build FILE"
        );
    }
}
