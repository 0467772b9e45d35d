//! The keys of a configuration: those that sign, and those whose tokens are
//! accepted beside them. Each is read and parsed once.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::account;
use crate::config::{Accepted, Config, ConfiguredKey, KeySource};
use crate::daemon::unix_now;
use crate::issue::Issuer;
use crate::keys::Algorithm;
use crate::keys::file::{Trust, read_key};
use crate::keys::format::{PublicKey, SigningKey, VerifyingKey, signing_key};
use crate::keys::jwks::{Jwk, JwkSet};
use crate::keys::public::{read_jwks, read_public_half};
use crate::policy::Grant;
use crate::report::{Problem, Problems};
use crate::token::verify::KeyRing;

/// Where systemd puts the copies of the files that `LoadCredential=` names.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// What our unit calls the directory of keys in `LoadCredential=`.
const LOADED_KEYS: &str = "token-keys_";

/// All keys of a configuration.
pub struct Keys {
    main: Signer,
    others: Vec<Signer>,
    accepted: Vec<(Accepted, Held)>,
    ring: KeyRing,
}

/// A key that signs, and where it came from.
struct Signer {
    source: ConfiguredKey,
    issuer: Issuer,
}

/// What a `[[verify]]` gave.
#[derive(Clone)]
enum Held {
    Set(JwkSet),
    Public(String, PublicKey),
    Secret(Arc<SigningKey>),
}

impl Held {
    /// Adds its keys, which came from the file at `path`.
    fn add_to(&self, ring: &mut KeyRing, path: &Path) -> Result<(), Problem> {
        let mut add = |key| ring.add(key).map_err(|twice| twice.at(path));
        match self {
            Self::Set(set) => set.keys.iter().try_for_each(|jwk| {
                let key = jwk.public_key().map_err(|rejection| rejection.at(path))?;
                add(VerifyingKey::rs256(&key, &jwk.kid))
            }),
            Self::Public(kid, key) => add(VerifyingKey::rs256(key, kid)),
            Self::Secret(key) => add(key.verifying()),
        }
    }
}

impl Keys {
    /// Reads the keys that a configuration names, and tells all that is wrong
    /// with them. Those of the configuration `before` stay where they can't be
    /// read any more and the configuration names the same; `notes` says so.
    pub fn read(
        config: &Config,
        before: Option<&Self>,
        notes: &mut Vec<String>,
    ) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut sign = |source: &ConfiguredKey| {
            let held = before.and_then(|keys| keys.signing(source));
            let read = read_source(config, source).map(Arc::new);
            read_or_keep(&key_path(&source.key), read, held, notes)
                .and_then(|key| checked(source, key))
                .map_err(|problem| problems.push(problem))
                .ok()
        };
        let main = sign(&config.signing);
        let others: Vec<Signer> = config.other_signing.iter().filter_map(sign).collect();
        let mut ring = KeyRing::default();
        for signer in main.iter().chain(&others) {
            if let Err(twice) = ring.add(signer.issuer.key().verifying()) {
                problems.push(twice.at(&key_path(&signer.source.key)));
            }
        }
        let mut accepted = Vec::new();
        for one in &config.verify {
            let path = match one {
                Accepted::Jwks(path) => path.clone(),
                Accepted::Key(key) => key_path(&key.key),
            };
            let held = before.and_then(|keys| keys.accepted(one));
            let read = read_accepted(config, one, notes);
            let read = read_or_keep(&path, read, held, notes);
            let added = read.and_then(|held| {
                held.add_to(&mut ring, &path)?;
                Ok(held)
            });
            match added {
                Ok(held) => accepted.push((one.clone(), held)),
                Err(problem) => problems.push(problem),
            }
        }
        match main {
            Some(main) if problems.is_empty() => Ok(Self {
                main,
                others,
                accepted,
                ring,
            }),
            _ => Err(Problems(problems)),
        }
    }

    /// The key that signs unless a rule names another.
    pub fn main(&self) -> &Issuer {
        &self.main.issuer
    }

    /// The key that signs for a grant. Rules name none that isn't there.
    pub fn issuer(&self, grant: &Grant) -> Option<&Issuer> {
        let Some(kid) = grant.kid() else {
            return Some(self.main());
        };
        self.all().find(|issuer| issuer.key().kid() == kid)
    }

    /// Every key that signs.
    pub fn all(&self) -> impl Iterator<Item = &Issuer> {
        let signers = std::iter::once(&self.main).chain(&self.others);
        signers.map(|signer| &signer.issuer)
    }

    /// Every key whose tokens are accepted.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// The public halves of the keys that sign.
    pub fn public(&self) -> JwkSet {
        let public = |issuer: &Issuer| {
            let key = issuer.key();
            key.public().map(|public| Jwk::new(public, key.kid()))
        };
        JwkSet {
            keys: self.all().filter_map(public).collect(),
        }
    }

    fn signing(&self, source: &ConfiguredKey) -> Option<Arc<SigningKey>> {
        let mut signers = std::iter::once(&self.main).chain(&self.others);
        let same = signers.find(|signer| signer.source == *source)?;
        Some(Arc::clone(same.issuer.key()))
    }

    fn accepted(&self, wanted: &Accepted) -> Option<Held> {
        let same = self.accepted.iter().find(|(one, _)| one == wanted)?;
        Some(same.1.clone())
    }
}

/// What was read; or what was held before, where nobody lets us read it now.
fn read_or_keep<T>(
    path: &Path,
    read: Result<T, Problem>,
    held: Option<T>,
    notes: &mut Vec<String>,
) -> Result<T, Problem> {
    let out_of_reach = || {
        let reached = access(path, AccessFlags::R_OK);
        matches!(reached, Err(Errno::EACCES | Errno::EPERM))
    };
    match (read, held) {
        (Err(_), Some(held)) if out_of_reach() => {
            notes.push(format!(
                "{}: can't be read any more; the key in use stays until a restart",
                path.display()
            ));
            Ok(held)
        }
        (read, _) => read,
    }
}

/// Who may own a key beside root and `SlurmUser`: whom the daemon runs as, or
/// will when it has dropped root's power. What root alone can read is out of
/// reach for a reload.
fn key_owner(config: &Config) -> u32 {
    match nix::unistd::geteuid().as_raw() {
        0 => account::uid_of(&config.user).ok().flatten().unwrap_or(0),
        uid => uid,
    }
}

/// Where systemd has put the copies of files, if it has.
fn credentials() -> Option<PathBuf> {
    std::env::var_os(CREDENTIALS)
        .map(PathBuf::from)
        // What systemd sets is absolute; anything else would be sought here and there.
        .filter(|directory| directory.is_absolute())
}

/// Where a key is read: its copy among the credentials comes first.
pub(super) fn key_path(source: &KeySource) -> PathBuf {
    match (source, credentials()) {
        (KeySource::Credential(name), Some(directory)) => directory.join(name),
        (KeySource::Credential(name), None) => PathBuf::from(format!("credential:{name}")),
        (KeySource::File(path), None) => path.clone(),
        (KeySource::File(path), Some(directory)) => {
            let name = path.file_name().unwrap_or(OsStr::new("key"));
            let mut loaded = OsString::from(LOADED_KEYS);
            loaded.push(name);
            [directory.join(loaded), directory.join(name)]
                .into_iter()
                .find(|copy| copy.exists())
                .unwrap_or_else(|| path.clone())
        }
    }
}

/// A signer that has signed once, and whose signature was good.
fn checked(source: &ConfiguredKey, key: Arc<SigningKey>) -> Result<Signer, Problem> {
    let issuer = Issuer::new(key);
    match issuer.self_check(unix_now()) {
        Ok(()) => Ok(Signer {
            source: source.clone(),
            issuer,
        }),
        Err(_) => Err(Problem::at(
            &key_path(&source.key),
            "a token signed with this key can't be verified with its public half",
            "make a new key with: slurm-tokenctl key generate",
        )),
    }
}

/// The key that signs unless a rule names another, under the kid that its
/// tokens carry.
pub fn read_signing_key(config: &Config) -> Result<SigningKey, Problem> {
    read_source(config, &config.signing)
}

/// One of the keys that sign, under the kid that its tokens carry.
pub fn read_source(config: &Config, source: &ConfiguredKey) -> Result<SigningKey, Problem> {
    let place = if *source == config.signing {
        "signing.key"
    } else {
        "signing.other.key"
    };
    read_configured(config, source, place)
}

/// A key that signs, or an HS256 key; `place` is where its source is configured.
fn read_configured(
    config: &Config,
    source: &ConfiguredKey,
    place: &str,
) -> Result<SigningKey, Problem> {
    let path = reachable(config, source, place)?;
    let bytes = read_key(&path, &key_trust(config)).map_err(|problem| match &source.key {
        KeySource::File(file) if *file == path && credentials().is_some() => Problem {
            what: format!(
                "systemd passed no copy of this key, and it can't be read directly: {}",
                problem.what
            ),
            remedy: "make the key, or see that LoadCredential= of the unit names it or its \
                     directory: slurm-tokenctl setup (--cluster NAME) does both, then restart the \
                     daemon"
                .into(),
            ..problem
        },
        KeySource::File(file) if *source == config.signing && is_missing(file) => Problem {
            remedy: "correct the path, or have the key made: slurm-tokenctl setup".into(),
            ..problem
        },
        KeySource::File(_) | KeySource::Credential(_) => problem,
    })?;
    signing_key(&bytes, source.algorithm, source.kid.clone())
        .map_err(|rejection| rejection.at(&path))
}

fn is_missing(file: &Path) -> bool {
    matches!(file.symlink_metadata(), Err(e) if e.kind() == ErrorKind::NotFound)
}

fn read_accepted(
    config: &Config,
    one: &Accepted,
    notes: &mut Vec<String>,
) -> Result<Held, Problem> {
    match one {
        Accepted::Jwks(path) => {
            let trust = Trust::of_process(slurm_uid(config));
            let reading = read_jwks(path, &trust)?;
            for entry in reading.passed_over {
                notes.push(format!("{}: {entry}; left out", path.display()));
            }
            Ok(Held::Set(reading.set))
        }
        Accepted::Key(source) if source.algorithm == Algorithm::Rs256 => {
            let path = reachable(config, source, "verify.key")?;
            let (key, name) = read_public_half(&path, &key_trust(config))?;
            let kid = key.kid(source.kid.clone(), name.as_deref());
            let kid = kid.map_err(|rejection| rejection.at(&path))?;
            Ok(Held::Public(kid.as_str().into(), key))
        }
        Accepted::Key(source) => {
            let key = read_configured(config, source, "verify.key")?;
            Ok(Held::Secret(Arc::new(key)))
        }
    }
}

/// Where a key can be read, if its source is one that this process has.
fn reachable(config: &Config, source: &ConfiguredKey, place: &str) -> Result<PathBuf, Problem> {
    let path = key_path(&source.key);
    if matches!(source.key, KeySource::Credential(_)) && !path.is_absolute() {
        return Err(Problem::new(
            config.places.of(place),
            format!(
                "{place} is {}, and systemd passed no credentials",
                path.display()
            ),
            "start the daemon through its unit, with LoadCredential=, or name a file",
        ));
    }
    Ok(path)
}

/// Who may own the keys of a configuration.
pub fn key_trust(config: &Config) -> Trust {
    Trust {
        slurm_uid: slurm_uid(config),
        own_uid: key_owner(config),
    }
}

fn slurm_uid(config: &Config) -> Option<u32> {
    let policy = &config.policy;
    policy
        .slurm_uid
        .or_else(|| account::uid_of(&policy.slurm_user).ok().flatten())
}
