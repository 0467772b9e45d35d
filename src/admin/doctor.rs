//! `slurm-tokenctl doctor`: looks at everything between a user who asks and
//! slurmctld that accepts, and says of each thing that isn't as it should be
//! what is so, why it matters, and the command that mends it.
//!
//! Facts are gathered here; what they mean is decided in [`rules`] and [`slurm`].

mod rules;
mod slurm;
mod slurm_conf;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::Args;

use self::rules::{DaemonFacts, Finding, KeyFacts, Weight, advice, fault};
use self::slurm::{Claims, InJwks, InSlurm, Secret, SlurmFacts};
use self::slurm_conf::SlurmConf;
use super::lint::{self, Fate};
use super::rotate::node::Node;
use super::rotate::proof::{self, Judge};
use super::rotate::service;
use super::{Failure, network, print, program};
use crate::account;
use crate::client;
use crate::config::{Config, ConfiguredKey, KeySource};
use crate::daemon::{engine, keyring, unix_now, usual_configuration};
use crate::keys::Kid;
use crate::keys::file::{Trust, read_key, read_public};
use crate::keys::format::SigningKey;
use crate::keys::jwks::{Jwk, JwkSet};
use crate::keys::public::MAX_JWKS;
use crate::keys::store;
use crate::policy::Policy;
use crate::report::Problems;
use crate::state::{LatestExp, StateDir};

/// The most of a configuration file of others' that is read, in bytes.
const MOST: u64 = 4 * 1024 * 1024;
/// Where this node's public keys are.
const PUBLISHED: &str = "/etc/slurm/jwks.d";

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
        findings.extend(of_machine(&path, &self.slurm_conf));
        if !config.audit.required {
            findings.push(fault(
                config.places.of("audit.required"),
                "audit.required is false",
                "tokens leave without a record when the log takes none",
                "remove the line, then reload slurm-tokend",
            ));
        }
        let keys = signing_keys(&config, &mut findings);
        findings.extend(keys.iter().flat_map(|key| rules::of_key(&key.facts)));
        let kids = keys.iter().map(|key| key.key.kid());
        findings.extend(of_state(&config, kids));
        let main = keys.iter().find(|key| key.is_main);
        let daemon = daemon_facts(&config);
        findings.extend(rules::of_daemon(&daemon, main.map(|main| &*main.facts.kid)));
        findings.extend(of_leftovers(&config));
        for (file, program) in [
            (&self.slurm_conf, "slurmctld"),
            (&self.slurmdbd_conf, "slurmdbd"),
        ] {
            for finding in of_slurm(file, program, &config, &keys) {
                // Both may name the same set.
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        findings.extend(
            main.into_iter()
                .flat_map(|main| self.call(&path, &main.key)),
        );
        findings
    }

    /// A live call, with a token of the key that signs.
    fn call(&self, configuration: &Path, key: &Arc<SigningKey>) -> Vec<Finding> {
        let (Some(judge), Some(user)) = (&self.slurmrestd, &self.user) else {
            return Vec::new();
        };
        let node = match Node::look(configuration, Path::new(PUBLISHED)) {
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

fn of_state<'a>(config: &Config, kids: impl Iterator<Item = &'a Kid>) -> Vec<Finding> {
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
    let unknown = |kid| match state.latest_exp(kid) {
        LatestExp::Unknown(problem) => Some(rules::problem(
            &problem,
            "until when tokens of this key may live is not known, so it can't be retired",
        )),
        LatestExp::Until(_) | LatestExp::NoRecord => None,
    };
    kids.filter_map(unknown).collect()
}

/// What crashes left where keys, sets and records are made. Where others have
/// files too, only what was to become ours.
fn of_leftovers(config: &Config) -> Vec<Finding> {
    let trust = keyring::key_trust(config);
    let mut with_keys: Vec<&Path> = config
        .signers()
        .filter_map(|source| match &source.key {
            KeySource::File(file) => file.parent(),
            KeySource::Credential(_) => None,
        })
        .collect();
    with_keys.sort();
    with_keys.dedup();
    let mut findings = Vec::new();
    let mut tell = |left: Result<Vec<PathBuf>, _>, with_key| {
        // A place that isn't as it should be has a finding of its own.
        let left = left.unwrap_or_default();
        findings.extend(left.iter().map(|file| rules::of_leftover(file, with_key)));
    };
    for directory in with_keys {
        tell(store::leftovers(directory, &trust), true);
    }
    for directory in [Path::new(PUBLISHED), &config.state_dir] {
        tell(store::leftovers(directory, &trust), false);
    }
    tell(store::leftovers_of(&config.path, &trust), false);
    findings
}

/// The clock, the account service's way, and the logs.
fn of_machine(configuration: &Path, slurm_conf: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let booted = Path::new("/run/systemd/system").is_dir();
    let synchronised =
        booted.then(|| output("timedatectl", &["show", "-p", "NTPSynchronized", "--value"]));
    let written = std::fs::metadata(configuration).map_or(0, |file| file.mtime());
    let ahead = u64::try_from(written).is_ok_and(|written| written > unix_now() + 60);
    findings.extend(rules::of_clock(
        synchronised.flatten().as_deref(),
        ahead,
        slurmctld_ahead(slurm_conf),
    ));
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

/// How far slurmctld's clock is ahead of this machine's, in seconds, if it
/// answers: it tells its configuration with the time of its answer.
fn slurmctld_ahead(slurm_conf: &Path) -> Option<i64> {
    if !slurm_conf.exists() {
        return None;
    }
    let mut scontrol = Command::new("scontrol");
    scontrol
        .args(["show", "config"])
        .env("SLURM_CONF", slurm_conf)
        .env("SLURM_TIME_FORMAT", "%s")
        .stdin(Stdio::null());
    let asked = unix_now();
    let told = program::run(scontrol, None)
        .ok()
        .filter(|told| told.success)?;
    let answered = unix_now();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let theirs = told
        .lines()
        .next()?
        .strip_prefix("Configuration data as of ")?;
    let theirs: u64 = theirs.trim().parse().ok()?;
    // It may have been at any moment between the two.
    let nearest = theirs.clamp(asked, answered.max(asked));
    Some(theirs.cast_signed() - nearest.cast_signed())
}

/// A key that signs.
struct Signs {
    key: Arc<SigningKey>,
    facts: KeyFacts,
    /// Of `[signing]`: no rule need name it.
    is_main: bool,
}

/// The keys that sign, as far as they can be read.
fn signing_keys(config: &Config, findings: &mut Vec<Finding>) -> Vec<Signs> {
    let mut keys = Vec::new();
    for source in config.signers() {
        match keyring::read_source(config, source) {
            Ok(key) => keys.push(Signs {
                facts: key_facts(source, &key),
                key: Arc::new(key),
                is_main: *source == config.signing,
            }),
            Err(problem) => findings.push(rules::problem(
                &problem,
                "the daemon doesn't start with this key",
            )),
        }
    }
    keys
}

fn key_facts(source: &ConfiguredKey, key: &SigningKey) -> KeyFacts {
    let file = match &source.key {
        KeySource::File(file) => file.clone(),
        KeySource::Credential(name) => PathBuf::from(format!("credential:{name}")),
    };
    let written = std::fs::metadata(&file).ok();
    let written = written.and_then(|file| u64::try_from(file.mtime()).ok());
    KeyFacts {
        algorithm: key.algorithm(),
        kid: key.kid().as_str().into(),
        age: written.map(|written| unix_now().saturating_sub(written)),
        shared: network::shared(&file).ok().flatten(),
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
fn of_slurm(file: &Path, program: &'static str, config: &Config, keys: &[Signs]) -> Vec<Finding> {
    let Some(content) = text(file) else {
        return Vec::new();
    };
    let directory = file.parent().unwrap_or(Path::new("/"));
    let conf = SlurmConf::parse(&content, &mut |name| text(&directory.join(name)));
    let trust = Trust::of_process(keyring::key_trust(config).slurm_uid);
    let mut findings = Vec::new();
    let jwks = conf.parameter("jwks").map(Path::new);
    let (set, flaws) = jwks.map_or((None, Vec::new()), |jwks| read_set(jwks, &trust));
    let told = !flaws.is_empty();
    findings.extend(flaws);
    let theirs = conf.jwt_key().map(PathBuf::from);
    let in_slurm = |key: &Signs| match (key.key.public(), &theirs) {
        (Some(public), _) => InSlurm::Jwks(match &set {
            None if told => InJwks::Unsound,
            None => InJwks::Unread,
            Some(set) => match set.find(key.key.kid().as_str()) {
                Some(jwk) if *jwk == Jwk::new(public, key.key.kid()) => InJwks::Same,
                Some(_) => InJwks::Other,
                None => InJwks::Missing,
            },
        }),
        (None, None) => InSlurm::Secret(Secret::Unread),
        (None, Some(theirs)) => InSlurm::Secret(secret(theirs, Path::new(&key.facts.file), &trust)),
    };
    let secret = theirs
        .as_ref()
        .and_then(|file| std::fs::metadata(file).ok());
    let facts = SlurmFacts {
        file: file.display().to_string(),
        program,
        conf: &conf,
        keys: keys
            .iter()
            .map(|key| (key.facts.clone(), in_slurm(key)))
            .collect(),
        secret_mode: secret.map(|secret| secret.mode()),
        slurm_user: &config.policy.slurm_user,
        longest: config.policy.longest_lifespan().seconds(),
        claims: claims(&config.policy),
    };
    findings.extend(slurm::of_slurm(&facts));
    findings
}

fn claims(policy: &Policy) -> Claims {
    let any = policy.needs_group_names();
    let but_for = policy
        .rules
        .iter()
        .any(|r| r.identity_claims == Some(false));
    match (any, policy.identity_claims && !but_for) {
        (_, true) => Claims::All,
        (true, false) => Claims::Some,
        (false, false) => Claims::None,
    }
}

/// A set of public keys, if it's there and sound, and what is wrong with it.
fn read_set(file: &Path, trust: &Trust) -> (Option<JwkSet>, Vec<Finding>) {
    if !file.exists() {
        return (None, Vec::new());
    }
    let why = "slurmctld may die of it, or refuse every token";
    let bytes = match read_public(file, trust, MAX_JWKS) {
        Ok(bytes) => bytes,
        Err(problem) => return (None, vec![rules::problem(&problem, why)]),
    };
    let of_mode = std::fs::metadata(file).ok().and_then(|there| {
        let (mode, owner) = (there.mode(), there.uid());
        lint::judge_mode(mode, owner, trust.slurm_uid)
    });
    let verdicts = lint::judge(&bytes).into_iter().chain(of_mode);
    let mut flaws: Vec<_> = verdicts.filter_map(|v| of_verdict(file, v)).collect();
    match JwkSet::parse(&bytes) {
        Ok(reading) => (Some(reading.set), flaws),
        Err(rejection) => {
            if flaws.is_empty() {
                flaws.push(rules::problem(&rejection.at(file), why));
            }
            (None, flaws)
        }
    }
}

/// What is wrong with an entry that all releases ignore or accept harms nothing
/// else.
fn of_verdict(file: &Path, verdict: lint::Verdict) -> Option<Finding> {
    let flaw = verdict.finding?;
    let fates = [verdict.slurm_22_05, verdict.slurm_26_05];
    let harmless = verdict.subject.is_some() && !fates.contains(&Fate::Dies);
    let subject = verdict.subject.map_or_else(String::new, |s| s + ": ");
    let found = fault(
        file.display().to_string(),
        format!("{subject}{}", flaw.what),
        format!("Slurm 22.05 {}, 26.05 {}", fates[0], fates[1]),
        flaw.mend,
    );
    Some(if harmless { advice(found) } else { found })
}

fn secret(theirs: &Path, ours: &Path, trust: &Trust) -> Secret {
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
