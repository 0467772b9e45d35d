//! `slurm-tokenctl doctor`: looks at everything between a user who asks and
//! slurmctld that accepts, and says of each thing that isn't as it should be
//! what is so, why it matters, and the command that mends it.
//!
//! Facts are gathered here; what they mean is decided in [`rules`].

mod rules;
mod slurm_conf;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use clap::Args;
use nix::sys::statfs::statfs;

use self::rules::{DaemonFacts, Finding, InJwks, KeyFacts, Secret, SlurmFacts, Weight, fault};
use self::slurm_conf::SlurmConf;
use super::rotate::node::Node;
use super::rotate::proof::{self, Judge};
use super::rotate::service;
use super::{Failure, print};
use crate::account;
use crate::client;
use crate::config::{Config, KeySource};
use crate::daemon::{engine, keyring, unix_now, usual_configuration};
use crate::keys::Algorithm;
use crate::keys::file::{Trust, read_key, read_public};
use crate::keys::format::SigningKey;
use crate::keys::jwks::{Jwk, JwkSet};
use crate::keys::public::MAX_JWKS;
use crate::report::Problems;
use crate::state::{LatestExp, StateDir};

/// The most of a configuration file of others' that is read, in bytes.
const MOST: u64 = 4 * 1024 * 1024;

#[derive(Args)]
pub(super) struct Doctor {
    /// The daemon's configuration [default: the one that the daemon reads]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Slurm's
    #[arg(long, value_name = "FILE", default_value = "/etc/slurm/slurm.conf")]
    slurm_conf: PathBuf,
    /// slurmdbd's
    #[arg(long, value_name = "FILE", default_value = "/etc/slurm/slurmdbd.conf")]
    slurmdbd_conf: PathBuf,
    /// Call this slurmrestd with a fresh token too: its URL, or unix:SOCKET
    #[arg(long, value_name = "URL", value_parser = Judge::parse, requires = "user")]
    slurmrestd: Option<Judge>,
    /// For --slurmrestd: the ordinary account whose token it uses
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let findings = self.look();
        let faults = findings
            .iter()
            .filter(|f| f.weight == Weight::Fault)
            .count();
        if self.json {
            let told = serde_json::json!({ "well": faults == 0, "findings": findings });
            print(&format!("{told}\n"))?;
        } else {
            print(&in_words(&findings))?;
        }
        if faults == 0 {
            Ok(())
        } else {
            Err(Failure::Findings)
        }
    }

    fn look(&self) -> Vec<Finding> {
        let path = self.config.clone().unwrap_or_else(usual_configuration);
        let config = match engine::read_configuration(&path) {
            Ok(config) => config,
            Err(problems) => return of_problems(&problems, "the daemon doesn't start with it"),
        };
        let mut findings = of_accounts(&config);
        findings.extend(of_state(&config));
        findings.extend(of_machine(&path));
        if !config.audit.required {
            findings.push(fault(
                config.places.of("audit.required"),
                "audit.required is false",
                "tokens leave without a record when the log takes none",
                "remove the line, then reload slurm-tokend",
            ));
        }
        let key = match keyring::read_signing_key(&config) {
            Ok(key) => Arc::new(key),
            Err(problem) => {
                findings.push(rules::problem(
                    &problem,
                    "the daemon doesn't start with this key",
                ));
                return findings;
            }
        };
        let facts = key_facts(&config, &key);
        findings.extend(rules::of_key(&facts));
        findings.extend(rules::of_daemon(&daemon_facts(&config), key.kid().as_str()));
        for (file, program) in [
            (&self.slurm_conf, "slurmctld"),
            (&self.slurmdbd_conf, "slurmdbd"),
        ] {
            findings.extend(of_slurm(file, program, &config, &key, &facts));
        }
        findings.extend(self.call(&path, &key));
        findings
    }

    /// A live call, with a token of the key that signs.
    fn call(&self, configuration: &Path, key: &Arc<SigningKey>) -> Vec<Finding> {
        let (Some(judge), Some(user)) = (&self.slurmrestd, &self.user) else {
            return Vec::new();
        };
        let node = match Node::look(configuration, Path::new("/etc/slurm/jwks.d")) {
            Ok(node) => node,
            Err(problems) => return of_problems(&problems, "no token can be made for a call"),
        };
        let proved = proof::prove(&node, Arc::clone(key), judge, user);
        let why = "a user's call fails in the same way";
        proved
            .err()
            .map(|p| rules::problem(&p, why))
            .into_iter()
            .collect()
    }
}

fn of_problems(problems: &Problems, why: &str) -> Vec<Finding> {
    problems.0.iter().map(|p| rules::problem(p, why)).collect()
}

fn in_words(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "All is well.\n".into();
    }
    let words = findings.iter().map(|finding| {
        let weight = match finding.weight {
            Weight::Fault => "FAULT ",
            Weight::Advice => "advice",
        };
        format!(
            "{weight}  {}: {}\n        {}\n        mend: {}\n",
            finding.place, finding.what, finding.why, finding.mend
        )
    });
    words.collect()
}

/// Do the names in the configuration mean anything on this machine.
fn of_accounts(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let policy = &config.policy;
    let nobody = "nobody gets a token until it's there";
    if policy.slurm_uid.is_none() && !matches!(account::uid_of(&policy.slurm_user), Ok(Some(_))) {
        findings.push(fault(
            config.places.of("slurm_user"),
            format!(
                "the account {} (slurm_user) can't be found",
                policy.slurm_user
            ),
            nobody,
            "set slurm_uid to its uid in the configuration, or look at: getent passwd",
        ));
    }
    for proxy in &policy.proxies {
        if !matches!(account::uid_of(proxy), Ok(Some(_))) {
            findings.push(fault(
                config.places.of("http.proxies"),
                format!("the account {proxy} (http.proxies) can't be found"),
                "nobody gets a token through the HTTP door: nobody there can be told from a proxy",
                format!("look at: getent passwd {proxy}; or take it out of http.proxies"),
            ));
        }
    }
    for group in policy.named_groups() {
        if !matches!(account::group(group), Ok(Some(_))) {
            findings.push(fault(
                &*config.path.to_string_lossy(),
                format!("the group {group}, which the policy names, can't be found"),
                "whoever it may concern is refused: skipping it could turn a denial into a grant",
                format!("look at: getent group {group}; or mend the configuration"),
            ));
        }
    }
    findings
}

fn of_state(config: &Config) -> Vec<Finding> {
    let state = match StateDir::open(&config.state_dir) {
        Ok(state) => state,
        // A daemon that has never run makes it.
        Err(_) if !config.state_dir.exists() => return Vec::new(),
        Err(problem) => {
            return vec![rules::problem(
                &problem,
                "the daemon doesn't start without it",
            )];
        }
    };
    let Ok(key) = keyring::read_signing_key(config) else {
        return Vec::new();
    };
    match state.latest_exp(key.kid()) {
        LatestExp::Unknown(problem) => vec![rules::problem(
            &problem,
            "until when tokens of this key may live is not known, so it can't be retired",
        )],
        LatestExp::Until(_) | LatestExp::NoRecord => Vec::new(),
    }
}

/// The clock, the account service's way, and the logs.
fn of_machine(configuration: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let booted = Path::new("/run/systemd/system").is_dir();
    let synchronised =
        booted.then(|| output("timedatectl", &["show", "-p", "NTPSynchronized", "--value"]));
    let written = std::fs::metadata(configuration).map_or(0, |file| file.mtime());
    let ahead = u64::try_from(written).is_ok_and(|written| written > unix_now() + 60);
    findings.extend(rules::of_clock(synchronised.flatten().as_deref(), ahead));
    let has_nslcd = Path::new("/run/nslcd/socket").exists();
    let nsswitch = text(Path::new("/etc/nsswitch.conf")).unwrap_or_default();
    findings.extend(rules::of_nsswitch(&nsswitch, has_nslcd));
    let more = std::fs::read_dir("/etc/rsyslog.d").into_iter().flatten();
    let more = more.filter_map(|entry| Some(entry.ok()?.path()));
    for file in std::iter::once(PathBuf::from("/etc/rsyslog.conf")).chain(more) {
        let text = text(&file).unwrap_or_default();
        findings.extend(rules::of_rsyslog(&file.to_string_lossy(), &text));
    }
    if let Some(unit) = service::unit(configuration).filter(|_| booted) {
        let property = ["show", "-p", "LogRateLimitIntervalUSec", "--value", &unit];
        findings.extend(rules::of_journald(
            &unit,
            output("systemctl", &property).as_deref(),
        ));
    }
    findings
}

fn key_facts(config: &Config, key: &SigningKey) -> KeyFacts {
    let file = match &config.signing.key {
        KeySource::File(file) => file.clone(),
        KeySource::Credential(name) => PathBuf::from(format!("credential:{name}")),
    };
    let written = std::fs::metadata(&file).ok();
    let written = written.and_then(|file| u64::try_from(file.mtime()).ok());
    KeyFacts {
        algorithm: key.algorithm(),
        kid: key.kid().as_str().into(),
        age: written.map(|written| unix_now().saturating_sub(written)),
        file_system: statfs(&file).ok().map(|system| system.filesystem_type().0),
        file: file.display().to_string(),
    }
}

fn daemon_facts(config: &Config) -> DaemonFacts {
    let socket = &config.socket;
    let mode = |path: &Path| std::fs::metadata(path).ok().map(|there| there.mode());
    DaemonFacts {
        socket: socket.display().to_string(),
        kid: client::standing(socket)
            .map(|standing| standing.kid)
            .map_err(|failure| failure.told_by("").trim().replace('\n', " ")),
        mode: mode(socket),
        directory_mode: socket.parent().and_then(mode),
        restart: service::restart_command(&config.path),
    }
}

/// What Slurm's own configuration means for our tokens; nothing where this
/// machine has none.
fn of_slurm(
    file: &Path,
    program: &'static str,
    config: &Config,
    key: &SigningKey,
    facts: &KeyFacts,
) -> Vec<Finding> {
    let Some(content) = text(file) else {
        return Vec::new();
    };
    let directory = file.parent().unwrap_or(Path::new("/"));
    let conf = SlurmConf::parse(&content, &mut |name| text(&directory.join(name)));
    let trust = Trust::of_process(keyring::key_trust(config).slurm_uid);
    let mut findings = Vec::new();
    let in_jwks = match conf.parameter("jwks") {
        Some(jwks) => in_jwks(Path::new(jwks), key, &trust, &mut findings),
        None => InJwks::Unread,
    };
    let secret = conf.jwt_key().map_or(Secret::Unread, |theirs| {
        secret(
            Path::new(&theirs),
            Path::new(&facts.file),
            facts.algorithm,
            &trust,
        )
    });
    let facts_of_slurm = SlurmFacts {
        file: file.display().to_string(),
        program,
        conf: &conf,
        in_jwks,
        secret,
        slurm_user: &config.policy.slurm_user,
        longest: config.policy.longest_lifespan().seconds(),
    };
    findings.extend(rules::of_slurm(&facts_of_slurm, facts));
    findings
}

fn in_jwks(file: &Path, key: &SigningKey, trust: &Trust, findings: &mut Vec<Finding>) -> InJwks {
    let Some(public) = key.public() else {
        return InJwks::Unread;
    };
    if !file.exists() {
        return InJwks::Unread;
    }
    let read = read_public(file, trust, MAX_JWKS)
        .and_then(|bytes| JwkSet::parse(&bytes).map_err(|rejection| rejection.at(file)));
    match read {
        Ok(reading) => match reading.set.find(key.kid().as_str()) {
            Some(jwk) if *jwk == Jwk::new(public, key.kid()) => InJwks::Same,
            Some(_) => InJwks::Other,
            None => InJwks::Missing,
        },
        Err(problem) => {
            let why = "slurmctld may die of it, or refuse every token: slurm-tokenctl jwks lint \
                       tells which";
            findings.push(rules::problem(&problem, why));
            InJwks::Unread
        }
    }
}

fn secret(theirs: &Path, ours: &Path, algorithm: Algorithm, trust: &Trust) -> Secret {
    if algorithm != Algorithm::Hs256 {
        return Secret::Unread;
    }
    let (Ok(theirs), Ok(ours)) = (read_key(theirs, trust), read_key(ours, trust)) else {
        return Secret::Unread;
    };
    let (theirs, ours) = (theirs.as_slice(), ours.as_slice());
    if theirs == ours {
        Secret::Same
    } else if theirs.strip_suffix(b"\n") == Some(ours) || ours.strip_suffix(b"\n") == Some(theirs) {
        Secret::ButForANewline
    } else {
        Secret::Other
    }
}

/// A file's text, if it's there and no longer than [`MOST`].
fn text(file: &Path) -> Option<String> {
    let there = std::fs::metadata(file).ok()?;
    let fits = there.is_file() && there.len() <= MOST;
    let bytes = fits.then(|| std::fs::read(file).ok())??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a command prints, if it can be run.
fn output(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    let succeeded = output.status.success();
    succeeded.then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
