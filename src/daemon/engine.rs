//! What the daemon decides and signs with: a configuration and its key,
//! checked together and replaced together.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use crate::account;
use crate::audit::{Recorder, SYSLOG_SOCKET, Syslog};
use crate::config::{Config, KeySource, Sink};
use crate::daemon::unix_now;
use crate::issue::Issuer;
use crate::keys::file::{Trust, read_key, read_public};
use crate::keys::format::{SigningKey, signing_key};
use crate::keys::jwks::JwkSet;
use crate::report::{Problem, Problems};
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
    /// The configuration.
    pub config: Config,
    /// Its key.
    pub issuer: Issuer,
    /// Its way to the log.
    pub recorder: Recorder,
    /// What `jwks` answers.
    pub jwks_answer: Vec<u8>,
}

/// The configuration file at `path`, with this machine's name.
pub fn read_configuration(path: &Path) -> Result<Config, Problems> {
    let trust = Trust {
        slurm_uid: None,
        own_uid: own_uid(),
    };
    let bytes = read_public(path, &trust, MOST_CONFIGURATION)?;
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
    Config::parse(path, &text, &host())
}

/// This machine's name up to its first full stop, as `{host}` stands for it;
/// empty where it has none that can be part of a kid.
fn host() -> String {
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
    /// Reads the key of a configuration, and signs and verifies once with it.
    pub fn start(config: Config) -> Result<Self, Problems> {
        let key = read_signing_key(&config)?;
        Self::with_key(config, Arc::new(key))
    }

    fn with_key(config: Config, key: Arc<SigningKey>) -> Result<Self, Problems> {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let jwks = key
            .public()
            .map_or_else(JwkSet::default, |p| JwkSet::of(p, key.kid()));
        let issuer = Issuer::new(key, config.issuer.clone(), config.audience.clone());
        issuer.self_check(unix_now()).map_err(|_| {
            Problem::new(
                key_path(&config.signing.key).display().to_string(),
                "a token signed with this key can't be verified with its public half",
                "make a new key with: slurm-tokenctl key generate",
            )
        })?;
        let recorder = match config.audit.sink {
            Sink::Syslog => Recorder::Syslog(Syslog::new(Path::new(SYSLOG_SOCKET))),
            Sink::Stderr => Recorder::Stderr,
        };
        Ok(Self {
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            jwks_answer: wire::ok_line(&jwks),
            config,
            issuer,
            recorder,
        })
    }

    /// The next configuration from the same file, with its key: whole, or not
    /// at all. After privileges were dropped a key may be out of reach; as
    /// long as the configuration names the same one, the key in use stays.
    pub fn reload(&self) -> Result<(Self, Vec<String>), Problems> {
        let config = read_configuration(&self.config.path)?;
        let mut notes = self.needs_restart(&config);
        match read_signing_key(&config) {
            Ok(key) => Ok((Self::with_key(config, Arc::new(key))?, notes)),
            Err(problems) if config.signing != self.config.signing || !self.out_of_reach() => {
                Err(problems)
            }
            Err(_) => {
                notes.push(format!(
                    "{}: can't be read any more; the key in use stays until a restart",
                    key_path(&config.signing.key).display()
                ));
                let key = Arc::clone(self.issuer.key());
                Ok((Self::with_key(config, key)?, notes))
            }
        }
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

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Who may own a key beside root and `SlurmUser`: whom the daemon runs as, or
/// will when it has dropped root's power. What root alone can read is out of
/// reach for a reload.
fn key_owner(config: &Config) -> u32 {
    match own_uid() {
        0 => account::uid_of(&config.user).ok().flatten().unwrap_or(0),
        uid => uid,
    }
}

/// Where a key is read: its copy among the credentials comes first.
fn key_path(source: &KeySource) -> PathBuf {
    let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
    match (source, credentials) {
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

/// The key that a configuration names, under the kid that its tokens carry.
pub fn read_signing_key(config: &Config) -> Result<SigningKey, Problems> {
    let path = key_path(&config.signing.key);
    if matches!(config.signing.key, KeySource::Credential(_)) && !path.is_absolute() {
        return Err(Problem::new(
            config.path.display().to_string(),
            format!(
                "signing.key is {}, and systemd passed no credentials",
                path.display()
            ),
            "start the daemon through its unit, with LoadCredential=, or name a file",
        )
        .into());
    }
    let policy = &config.policy;
    let slurm_uid = policy.slurm_uid.or_else(|| {
        account::by_name(&policy.slurm_user, false)
            .ok()
            .flatten()
            .map(|account| account.uid)
    });
    let bytes = read_key(
        &path,
        &Trust {
            slurm_uid,
            own_uid: key_owner(config),
        },
    )?;
    signing_key(&bytes, config.signing.algorithm, config.signing.kid.clone())
        .map_err(|rejection| rejection.at(&path).into())
}
