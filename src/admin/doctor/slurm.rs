//! What Slurm's own configuration means for our tokens. Pure.

use std::path::Path;

use super::rules::{Finding, KeyFacts, advice, fault};
use super::slurm_conf::SlurmConf;
use crate::keys::file::quoted;

/// What a JWKS beside slurm.conf holds of our key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InJwks {
    /// This key under its kid.
    Same,
    /// Another key under its kid.
    Other,
    Missing,
    /// The file isn't here.
    Unread,
    /// The file can't be made sense of, which has a finding of its own.
    Unsound,
}

/// How the HS256 key that Slurm uses compares to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    Same,
    /// The same but for a newline at the end of one.
    ButForANewline,
    Other,
    Unread,
}

/// What slurm.conf or slurmdbd.conf says, and what lies beside it.
pub(super) struct SlurmFacts<'a> {
    /// The file.
    pub(super) file: String,
    /// slurmctld or slurmdbd.
    pub(super) program: &'static str,
    pub(super) conf: &'a SlurmConf,
    /// The keys that sign, and what Slurm has of each.
    pub(super) keys: Vec<(KeyFacts, InSlurm)>,
    /// The mode of the HS256 key's file, where it is on this machine.
    pub(super) secret_mode: Option<u32>,
    /// `slurm_user` of our configuration, and its longest lifespan in seconds.
    pub(super) slurm_user: &'a str,
    pub(super) longest: u32,
    pub(super) claims: Claims,
}

/// What Slurm has of a key that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InSlurm {
    /// Of an RS256 key.
    Jwks(InJwks),
    /// Of an HS256 key.
    Secret(Secret),
}

/// Which of our tokens have identity claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claims {
    None,
    Some,
    All,
}

pub(super) fn of_slurm(facts: &SlurmFacts<'_>) -> Vec<Finding> {
    let SlurmFacts {
        file,
        program,
        conf,
        ..
    } = facts;
    let mut findings = Vec::new();
    for name in &conf.unread {
        findings.push(advice(fault(
            &**file,
            format!("the file {name:?} that it includes can't be read"),
            "what stands there was not looked at",
            format!("run this as root, or mend the line: Include {name}"),
        )));
    }
    if !conf.lists("AuthAltTypes", "auth/jwt") {
        findings.push(fault(
            &**file,
            "AuthAltTypes does not name auth/jwt",
            format!("{program} takes no token at all"),
            format!("add AuthAltTypes=auth/jwt, then: systemctl restart {program}"),
        ));
        return findings;
    }
    for (key, in_slurm) in &facts.keys {
        findings.extend(match in_slurm {
            InSlurm::Jwks(in_jwks) => of_jwks(facts, key, *in_jwks),
            InSlurm::Secret(secret) => of_secret(facts, key, *secret),
        });
    }
    findings.extend(of_secret_mode(facts));
    findings.extend(of_claims(facts));
    if conf.jwt_key().is_some() && conf.parameter("disable_token_creation").is_none() {
        findings.push(fault(
            &**file,
            "it has an HS256 key (jwt_key) and no disable_token_creation",
            "any valid token renews itself by scontrol token, for a year or more: no lifespan of \
             ours holds",
            format!(
                "add disable_token_creation to AuthAltParameters, then: systemctl restart {program}"
            ),
        ));
    }
    if let Some(theirs) = conf
        .parameter("max_token_lifespan")
        .and_then(|v| v.parse().ok())
        && facts.longest > theirs
    {
        findings.push(advice(fault(
            &**file,
            format!(
                "max_token_lifespan is {theirs} s, and slurm-tokend gives up to {} s",
                facts.longest
            ),
            "Slurm's limit binds scontrol token only, so here people get more than it means to give",
            "lower max_lifespan in slurm-tokend.toml, or raise the other",
        )));
    }
    let theirs = conf.get("SlurmUser").unwrap_or("root");
    if *program == "slurmctld" && theirs != facts.slurm_user {
        findings.push(fault(
            &**file,
            format!(
                "SlurmUser is {theirs}, and slurm_user of slurm-tokend is {}",
                facts.slurm_user
            ),
            format!("a token of {theirs} can act as anybody, and slurm-tokend may give one"),
            format!("set slurm_user = \"{theirs}\" in slurm-tokend.toml, then reload slurm-tokend"),
        ));
    }
    findings
}

/// 26.05 doesn't start with a key that others can read; 22.05 takes it.
fn of_secret_mode(facts: &SlurmFacts<'_>) -> Option<Finding> {
    let theirs = facts.conf.jwt_key()?;
    let mode = facts.secret_mode.filter(|mode| mode & 0o077 != 0)?;
    let mend = format!("chmod 0400 {}", quoted(Path::new(&theirs)));
    Some(fault(
        theirs,
        format!(
            "mode {:04o} gives others than its owner access to the HS256 key",
            mode & 0o7777
        ),
        "whoever reads it can be anybody on the cluster, and Slurm 26.05 doesn't start with it",
        mend,
    ))
}

/// Slurm 26.05 takes users from identity claims if it's told to.
fn of_claims(facts: &SlurmFacts<'_>) -> Option<Finding> {
    const MEND: &str = "set token.identity_claims = true in slurm-tokend.toml, and in no rule \
                        false; then reload slurm-tokend";
    let SlurmFacts { file, conf, .. } = facts;
    let only = conf.parameter("use_jwt_client_ids_only").is_some();
    let takes = only || conf.parameter("use_jwt_client_ids").is_some();
    match facts.claims {
        Claims::None | Claims::Some if only => Some(fault(
            &**file,
            "use_jwt_client_ids_only is on, and not all tokens of slurm-tokend have identity claims",
            "a token without them is refused",
            MEND,
        )),
        Claims::None if takes => Some(advice(fault(
            &**file,
            "use_jwt_client_ids is on, and slurm-tokend's tokens have no identity claims",
            "users whom only this node knows are unknown to slurmctld all the same",
            MEND,
        ))),
        Claims::Some | Claims::All if !takes => Some(advice(fault(
            &**file,
            "slurm-tokend's tokens have identity claims, and use_jwt_client_ids is not on",
            "Slurm doesn't look at them, and they make each token larger",
            "add use_jwt_client_ids to AuthAltParameters (Slurm 26.05), or leave \
             token.identity_claims out of slurm-tokend.toml",
        ))),
        Claims::None | Claims::Some | Claims::All => None,
    }
}

fn of_jwks(facts: &SlurmFacts<'_>, key: &KeyFacts, in_jwks: InJwks) -> Option<Finding> {
    let SlurmFacts {
        file,
        program,
        conf,
        ..
    } = facts;
    let Some(jwks) = conf.parameter("jwks").filter(|jwks| !jwks.is_empty()) else {
        return Some(fault(
            &**file,
            "AuthAltParameters names no jwks=",
            format!("{program} knows no RS256 key: every token of this node is refused"),
            format!(
                "add AuthAltParameters=jwks=/etc/slurm/jwks.json, then: systemctl restart {program}"
            ),
        ));
    };
    let merge = format!(
        "slurm-tokenctl jwks merge /etc/slurm/jwks.d --out {jwks}; then restart {program} (from \
         Slurm 26.05 on scontrol reconfigure is enough)"
    );
    match in_jwks {
        InJwks::Same | InJwks::Unsound => None,
        InJwks::Unread => Some(advice(fault(
            jwks,
            format!("the set that {program} reads can't be read here"),
            "whether it holds this node's key is not known",
            "run slurm-tokenctl doctor where it is, or as root",
        ))),
        InJwks::Missing => Some(fault(
            jwks,
            format!("the kid {} is not in the set that {program} reads", key.kid),
            "every token of this node is refused",
            merge,
        )),
        InJwks::Other => Some(fault(
            jwks,
            format!(
                "another key has the kid {} in the set that {program} reads",
                key.kid
            ),
            "every token of this node is refused",
            merge,
        )),
    }
}

fn of_secret(facts: &SlurmFacts<'_>, key: &KeyFacts, secret: Secret) -> Option<Finding> {
    let SlurmFacts {
        file,
        program,
        conf,
        ..
    } = facts;
    let Some(theirs) = conf.jwt_key() else {
        return Some(fault(
            &**file,
            "AuthAltParameters names a jwks= and no jwt_key=",
            format!("{program} takes no HS256 token: every token of this node is refused"),
            format!(
                "add jwt_key={}, then: systemctl restart {program}",
                key.file
            ),
        ));
    };
    let why = "every token of this node is refused";
    match secret {
        Secret::Same | Secret::Unread => None,
        Secret::ButForANewline => Some(fault(
            theirs,
            format!("it differs from {} by a newline at the end", key.file),
            "each byte of the file is part of the key: every token of this node is refused",
            "copy the file as it is, with cp, and restart both",
        )),
        Secret::Other => Some(fault(
            theirs,
            format!("it is another HS256 key than {}", key.file),
            why,
            "copy the one to the other's place, by rename, and restart both",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Algorithm;

    fn found(text: &str, change: impl FnOnce(&mut SlurmFacts<'_>)) -> Vec<String> {
        let conf = SlurmConf::parse(&format!("SlurmUser=slurm\n{text}"), &mut |_| None);
        let mut facts = SlurmFacts {
            file: "/etc/slurm/slurm.conf".into(),
            program: "slurmctld",
            conf: &conf,
            keys: Vec::new(),
            secret_mode: None,
            slurm_user: "slurm",
            longest: 3600,
            claims: Claims::None,
        };
        change(&mut facts);
        let findings = of_slurm(&facts);
        findings.into_iter().map(|finding| finding.what).collect()
    }

    fn slurm(text: &str, algorithm: Algorithm, in_jwks: InJwks, secret: Secret) -> Vec<String> {
        let key = KeyFacts {
            file: "/k/login1.pem".into(),
            algorithm,
            kid: "login1".into(),
            age: Some(1000),
            shared: None,
        };
        let in_slurm = match algorithm {
            Algorithm::Rs256 => InSlurm::Jwks(in_jwks),
            Algorithm::Hs256 => InSlurm::Secret(secret),
        };
        found(text, |facts| facts.keys = vec![(key, in_slurm)])
    }

    const JWKS: &str = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwks=/j.json";

    #[test]
    fn a_slurm_that_knows_the_key_gives_no_finding() {
        let rs256 = slurm(JWKS, Algorithm::Rs256, InJwks::Same, Secret::Unread);
        assert_eq!(rs256, [""; 0]);
        let text = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key=/k,disable_token_creation";
        let hs256 = slurm(text, Algorithm::Hs256, InJwks::Unread, Secret::Same);
        assert_eq!(hs256, [""; 0]);
    }

    #[test]
    fn each_way_in_which_slurm_refuses_every_token_is_found() {
        let rs256 = |text: &str, in_jwks| slurm(text, Algorithm::Rs256, in_jwks, Secret::Unread);
        let hs256 = |text: &str, secret| slurm(text, Algorithm::Hs256, InJwks::Unread, secret);
        let jwt_key = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key=/k,disable_token_creation";
        for (found, words) in [
            (
                rs256("AuthAltTypes=none", InJwks::Same),
                "does not name auth/jwt",
            ),
            (rs256(jwt_key, InJwks::Unread), "names no jwks="),
            (rs256(JWKS, InJwks::Missing), "is not in the set"),
            (rs256(JWKS, InJwks::Other), "another key has the kid"),
            (hs256(JWKS, Secret::Unread), "no jwt_key="),
            (hs256(jwt_key, Secret::Other), "another HS256 key"),
            (hs256(jwt_key, Secret::ButForANewline), "by a newline"),
        ] {
            assert!(
                found.len() == 1 && found[0].contains(words),
                "{words}: {found:?}"
            );
        }
    }

    #[test]
    fn a_slurm_in_which_tokens_renew_themselves_is_found() {
        let text = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwks=/j.json,jwt_key=/k";
        let found = slurm(text, Algorithm::Rs256, InJwks::Same, Secret::Unread);
        assert!(found[0].contains("no disable_token_creation"), "{found:?}");
    }

    #[test]
    fn another_slurm_user_and_a_shorter_limit_are_found() {
        let text = format!("{JWKS},max_token_lifespan=60\nSlurmUser=root");
        let found = slurm(&text, Algorithm::Rs256, InJwks::Same, Secret::Unread);
        assert!(found[0].contains("max_token_lifespan is 60 s"), "{found:?}");
        assert!(found[1].contains("SlurmUser is root"), "{found:?}");
    }

    #[test]
    fn a_secret_that_others_can_read_is_found() {
        let text = "AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key=/k,disable_token_creation";
        let with = |mode| found(text, |facts| facts.secret_mode = mode);
        assert_eq!(with(Some(0o100_400)), [""; 0]);
        assert!(with(Some(0o100_440))[0].contains("mode 0440"));
        let none = found(JWKS, |facts| facts.secret_mode = Some(0o100_444));
        assert_eq!(none, [""; 0]);
    }

    #[test]
    fn identity_claims_that_slurm_waits_for_or_does_not_look_at_are_found() {
        for (parameter, claims, wanted) in [
            ("", Claims::None, 0),
            ("", Claims::Some, 1),
            (",use_jwt_client_ids", Claims::None, 1),
            (",use_jwt_client_ids", Claims::Some, 0),
            (",use_jwt_client_ids_only", Claims::Some, 1),
            (",use_jwt_client_ids_only", Claims::All, 0),
        ] {
            let found = found(&format!("{JWKS}{parameter}"), |facts| facts.claims = claims);
            assert_eq!(found.len(), wanted, "{parameter} {claims:?}: {found:?}");
        }
    }
}
