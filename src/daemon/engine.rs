//! What the daemon decides and signs with: a configuration and its key,
//! checked together and replaced together.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use crate::account;
use crate::audit::{Receiver, Recorder, SYSLOG_SOCKET, Syslog};
use crate::config::{Config, DEFAULT_SLURM_USER, Draft, KeySource, Sink};
use crate::daemon::horizon::Horizon;
use crate::daemon::unix_now;
use crate::issue::Issuer;
use crate::keys::file::{Trust, read_key, read_public};
use crate::keys::format::{SigningKey, signing_key};
use crate::keys::jwks::JwkSet;
use crate::report::{Problem, Problems};
use crate::state::StateDir;
use crate::wire;

/// The configuration file may have so many bytes.
const MOST_CONFIGURATION: usize = 256 * 1024;
/// Where systemd puts the copies of the files that `LoadCredential=` names.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// What our unit calls the directory of keys in `LoadCredential=`.
const LOADED_KEYS: &str = "token-keys_";

/// A configuration in force.
pub struct Engine {
    /// Tells one configuration from the next.
    pub generation: u64,
    /// When it was read, in seconds since 1970.
    pub since: u64,
    /// The configuration.
    pub config: Config,
    /// Its key.
    pub issuer: Issuer,
    /// Its way to the log.
    pub recorder: Recorder,
    /// What `jwks` answers.
    pub jwks_answer: Vec<u8>,
    /// How long its tokens may live, by what is on record of its key.
    pub horizon: Horizon,
}

/// The configuration file at `path`, with this machine's name.
pub fn read_configuration(path: &Path) -> Result<Config, Problems> {
    draft_configuration(path)?.finish()
}

/// The same, as far as it can be read.
///
/// Whom else but root to trust with the file is written in it. A file of
/// `SlurmUser`'s is taken at its word only where that is the account by this
/// name that everybody uses: nobody makes themselves `SlurmUser`.
pub fn draft_configuration(path: &Path) -> Result<Draft, Problem> {
    let problem = match read_draft(path, None) {
        Ok(draft) => return Ok(draft),
        Err(problem) => problem,
    };
    let Ok(Some(slurm_uid)) = account::uid_of(DEFAULT_SLURM_USER) else {
        return Err(problem);
    };
    match read_draft(path, Some(slurm_uid)) {
        Ok(draft) if draft.slurm_user_is(DEFAULT_SLURM_USER, slurm_uid) => Ok(draft),
        _ => Err(problem),
    }
}

fn read_draft(path: &Path, slurm_uid: Option<u32>) -> Result<Draft, Problem> {
    let bytes = read_public(path, &Trust::of_process(slurm_uid), MOST_CONFIGURATION)?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()]
            .split(|b| *b == b'\n')
            .count();
        Problem::new(
            format!("{}:{line}", path.display()),
            "the file is not UTF-8 text",
            "write it in UTF-8",
        )
    })?;
    Ok(Draft::read(path, &text, &host()))
}

/// This machine's name up to its first full stop, as `{host}` stands for it;
/// empty where it has none that can be part of a kid.
pub fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    let label = name.split('.').next().unwrap_or_default();
    if crate::keys::Kid::new(label).is_some() {
        label.to_owned()
    } else {
        String::new()
    }
}

impl Engine {
    /// A configuration and its issuer, ready to serve.
    pub fn new(config: Config, issuer: Issuer) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let key = issuer.key();
        let jwks = key
            .public()
            .map_or_else(JwkSet::default, |p| JwkSet::of(p, key.kid()));
        let recorder = recorder(&config);
        Self {
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            since: unix_now(),
            jwks_answer: wire::ok_line(&jwks),
            horizon: Horizon::default(),
            config,
            issuer,
            recorder,
        }
    }

    /// The next configuration from the same file, with its key: whole, or not
    /// at all. After privileges were dropped a key may be out of reach; as
    /// long as the configuration names the same one, the key in use stays.
    pub fn reload(&self, state: &StateDir) -> Result<(Self, Vec<String>), Problems> {
        let config = read_configuration(&self.config.path)?;
        let mut notes = self.needs_restart(&config);
        let key = match read_signing_key(&config) {
            Ok(key) => Arc::new(key),
            Err(problem) if config.signing != self.config.signing || !self.out_of_reach() => {
                return Err(problem.into());
            }
            Err(_) => {
                notes.push(format!(
                    "{}: can't be read any more; the key in use stays until a restart",
                    key_path(&config.signing.key).display()
                ));
                Arc::clone(self.issuer.key())
            }
        };
        let issuer = checked_issuer(&config, key)?;
        let engine = Self::new(config, issuer);
        engine.extend_horizon(state, unix_now())?;
        Ok((engine, notes))
    }

    /// When the key's file was last changed, in seconds since 1970, where that
    /// can be seen: a credential is a copy, so what it was copied from comes first.
    pub fn key_changed_at(&self) -> Option<u64> {
        let source = &self.config.signing.key;
        let changed = match source {
            KeySource::File(path) => path.metadata().ok(),
            KeySource::Credential(_) => None,
        };
        let changed = changed.or_else(|| key_path(source).metadata().ok())?;
        u64::try_from(changed.mtime()).ok()
    }

    fn out_of_reach(&self) -> bool {
        let path = key_path(&self.config.signing.key);
        matches!(
            nix::unistd::access(&path, nix::unistd::AccessFlags::R_OK),
            Err(Errno::EACCES | Errno::EPERM)
        )
    }

    fn needs_restart(&self, next: &Config) -> Vec<String> {
        let changed = [
            ("socket", self.config.socket != next.socket),
            ("user", self.config.user != next.user),
            ("state_dir", self.config.state_dir != next.state_dir),
            (
                "limits.lookups",
                self.config.limits.lookups != next.limits.lookups,
            ),
        ];
        changed
            .iter()
            .filter(|(_, changed)| *changed)
            .map(|(key, _)| format!("{key}: the new value comes into force at a restart"))
            .collect()
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

/// The way to the log that a configuration names.
pub fn recorder(config: &Config) -> Recorder {
    let receiver = match config.audit.sink {
        Sink::Syslog => Receiver::Syslog(Syslog::new(Path::new(SYSLOG_SOCKET))),
        Sink::Stderr => Receiver::Stderr,
    };
    Recorder::new(receiver, config.audit.format)
}

/// Who may own the keys of a configuration.
pub fn key_trust(config: &Config) -> Trust {
    let policy = &config.policy;
    let slurm_uid = policy
        .slurm_uid
        .or_else(|| account::uid_of(&policy.slurm_user).ok().flatten());
    Trust {
        slurm_uid,
        own_uid: key_owner(config),
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
fn key_path(source: &KeySource) -> PathBuf {
    match (source, credentials()) {
        (KeySource::Credential(name), Some(directory)) => directory.join(name),
        (KeySource::Credential(name), None) => PathBuf::from(format!("credential:{name}")),
        (KeySource::File(path), None) => path.clone(),
        (KeySource::File(path), Some(directory)) => {
            let name = path.file_name().unwrap_or(OsStr::new("key"));
            let mut loaded = std::ffi::OsString::from(LOADED_KEYS);
            loaded.push(name);
            [directory.join(loaded), directory.join(name)]
                .into_iter()
                .find(|copy| copy.exists())
                .unwrap_or_else(|| path.clone())
        }
    }
}

/// An issuer with the key that a configuration names.
pub fn read_issuer(config: &Config) -> Result<Issuer, Problem> {
    checked_issuer(config, Arc::new(read_signing_key(config)?))
}

/// An issuer that has signed once, and whose signature was good.
fn checked_issuer(config: &Config, key: Arc<SigningKey>) -> Result<Issuer, Problem> {
    let issuer = Issuer::new(key, config.issuer.clone(), config.audience.clone());
    match issuer.self_check(unix_now()) {
        Ok(()) => Ok(issuer),
        Err(_) => Err(Problem::at(
            &key_path(&config.signing.key),
            "a token signed with this key can't be verified with its public half",
            "make a new key with: slurm-tokenctl key generate",
        )),
    }
}

/// The key that a configuration names, under the kid that its tokens carry.
pub fn read_signing_key(config: &Config) -> Result<SigningKey, Problem> {
    let path = key_path(&config.signing.key);
    if matches!(config.signing.key, KeySource::Credential(_)) && !path.is_absolute() {
        return Err(Problem::new(
            config.places.of("signing.key"),
            format!(
                "signing.key is {}, and systemd passed no credentials",
                path.display()
            ),
            "start the daemon through its unit, with LoadCredential=, or name a file",
        ));
    }
    let trust = key_trust(config);
    let bytes = read_key(&path, &trust).map_err(|problem| match &config.signing.key {
        KeySource::File(file) if *file == path && credentials().is_some() => Problem {
            what: format!(
                "systemd passed no copy of this key, and it can't be read directly: {}",
                problem.what
            ),
            remedy: "see that it is there, and that LoadCredential= of the unit names it or its \
                     directory; then restart the daemon"
                .into(),
            ..problem
        },
        KeySource::File(_) | KeySource::Credential(_) => problem,
    })?;
    signing_key(&bytes, config.signing.algorithm, config.signing.kid.clone())
        .map_err(|rejection| rejection.at(&path))
}
