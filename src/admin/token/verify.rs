//! `slurm-tokenctl token verify`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use serde::Serialize;

use super::Given;
use crate::admin::jwks::read_set;
use crate::admin::key::algorithm;
use crate::admin::site::Site;
use crate::admin::{Failure, print};
use crate::daemon::unix_now;
use crate::keys::file::{Trust, read_key};
use crate::keys::format::{VerifyingKey, signing_key};
use crate::keys::public::read_public_half;
use crate::keys::{Algorithm, Kid};
use crate::policy::Names;
use crate::report::Problem;
use crate::token::compact::{Claims, Compact};
use crate::token::moment::{Away, Utc};
use crate::token::verify::{KeyRing, Rejected, Rules, Verified, verify};
use crate::wire::Refusal;

#[derive(Args)]
#[command(group(ArgGroup::new("by").required(true).multiple(true)))]
pub(in crate::admin) struct Verify {
    /// A key in PEM or as a JWK, public or private, whatever kid the token
    /// names; or, with --alg HS256, the bytes of a secret
    #[arg(long, value_name = "FILE", group = "by")]
    key: Option<PathBuf>,
    /// Sets of public keys, found by the token's kid
    #[arg(long, value_name = "FILE", group = "by", conflicts_with = "key")]
    jwks: Vec<PathBuf>,
    /// What --key is for: never guessed from its bytes
    #[arg(long, value_name = "ALG", default_value = "RS256", value_parser = algorithm(), requires = "key")]
    alg: Algorithm,
    /// The kid that the token has to name for --key
    #[arg(long, value_parser = crate::admin::key::kid, requires = "key")]
    kid: Option<Kid>,
    /// By how many seconds this machine's clock and the issuer's may differ
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=3600))]
    leeway: u32,
    /// The configuration whose policy says whom no token may name [default:
    /// the daemon's, if this machine has one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    given: Given,
}

/// The shape of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<&'a Claims>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
}

impl Verify {
    pub(in crate::admin) fn run(self, slurm_user: &str, trust: &Trust) -> Result<(), Failure> {
        let site = Site::read(self.config.as_deref(), slurm_user)?;
        let names = Names {
            slurm_uid: site.slurm_uid()?,
            ..Names::default()
        };
        let rules = Rules {
            leeway: self.leeway,
            policy: &site.config.policy,
            names: &names,
        };
        let keys = match &self.key {
            Some(_) => None,
            None => Some(ring_of_sets(&self.jwks, trust)?),
        };
        let (key, algorithm, kid, json) = (self.key, self.alg, self.kid, self.json);
        let token = self.given.read()?;
        let keys = match (keys, key) {
            (Some(keys), _) => keys,
            (None, Some(path)) => {
                let name = kid.map_or_else(|| named(&token), |kid| kid.as_str().into());
                ring(read_verifying(&path, algorithm, &site.key_owners()?)?.named(&name))?
            }
            (None, None) => KeyRing::default(),
        };
        let now = unix_now();
        let verified = verify(&token, &keys, &rules, now);
        // Nobody knows how long our words wait for their reader.
        drop((keys, token));
        match verified {
            Ok(verified) => Ok(print(&if json {
                as_json(&Report {
                    valid: true,
                    kid: Some(&verified.kid),
                    algorithm: Some(verified.algorithm.as_str()),
                    claims: Some(&verified.claims),
                    error: None,
                })
            } else {
                in_words(&verified, now)
            })?),
            Err(rejected) if json => {
                print(&as_json(&Report {
                    valid: false,
                    kid: None,
                    algorithm: None,
                    claims: None,
                    error: Some(rejected.refusal()),
                }))?;
                Err(Failure::Findings)
            }
            Err(rejected) => Err(told(&rejected).into()),
        }
    }
}

fn told(rejected: &Rejected) -> Problem {
    match rejected {
        Rejected::Subject(refusal) => refusal.at("the token"),
        _ => Problem::new("the token", rejected.what(), rejected.remedy()),
    }
}

fn as_json(report: &Report<'_>) -> String {
    // Strings and numbers: nothing that JSON can't hold.
    serde_json::to_string(report).unwrap_or_default() + "\n"
}

fn in_words(verified: &Verified, now: u64) -> String {
    let Claims { sun, exp, .. } = &verified.claims;
    let away = Away { time: *exp, now };
    format!(
        "valid: a token for {sun}, until {} ({away}), signed with {} by the key {:?}\n",
        Utc(*exp),
        verified.algorithm,
        verified.kid
    )
}

/// The name by which a token calls its key; where it names none, none matters.
fn named(token: &[u8]) -> String {
    let header = Compact::read(token)
        .ok()
        .map(|compact| compact.typed_header());
    let header = header.and_then(Result::ok);
    header.and_then(|header| header.kid).unwrap_or_default()
}

/// The key in a file, pinned to its algorithm.
fn read_verifying(
    path: &Path,
    algorithm: Algorithm,
    trust: &Trust,
) -> Result<VerifyingKey, Problem> {
    match algorithm {
        Algorithm::Rs256 => {
            let (key, _) = read_public_half(path, trust)?;
            Ok(VerifyingKey::rs256(&key, ""))
        }
        Algorithm::Hs256 => {
            let bytes = read_key(path, trust)?;
            let key = signing_key(&bytes, algorithm, Kid::new("secret"));
            Ok(key.map_err(|rejection| rejection.at(path))?.verifying())
        }
    }
}

fn ring_of_sets(files: &[PathBuf], trust: &Trust) -> Result<KeyRing, Problem> {
    let mut keys = KeyRing::default();
    for file in files {
        for jwk in read_set(file, trust)?.keys {
            let key = jwk.public_key().map_err(|rejection| rejection.at(file))?;
            keys.add(VerifyingKey::rs256(&key, &jwk.kid))
                .map_err(|twice| twice.at(file))?;
        }
    }
    Ok(keys)
}

fn ring(key: VerifyingKey) -> Result<KeyRing, Problem> {
    KeyRing::new([key]).map_err(|twice| twice.at(Path::new("--key")))
}
