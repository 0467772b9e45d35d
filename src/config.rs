//! The configuration file: its text becomes a checked [`Config`], or all its
//! problems at once, each with its line.

mod http;
mod keys;
mod known;
mod reading;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::http::Http;
pub use self::known::{KEYS, Key};
use self::reading::Reading;
use crate::audit::Form;
use crate::keys::{Algorithm, Kid};
use crate::policy::{Policy, Rate};
use crate::report::{Problem, Problems};

/// `slurm_user`, unless the configuration says otherwise.
pub const DEFAULT_SLURM_USER: &str = "slurm";

/// A configuration in which nothing is left to check but files and accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// Where in it each key stands.
    pub places: Places,
    /// Where the daemon listens unless systemd passes a socket.
    pub socket: PathBuf,
    /// Whom the daemon becomes for good when started as root.
    pub user: String,
    /// The only directory that the daemon writes to.
    pub state_dir: PathBuf,
    /// The key that signs.
    pub signing: ConfiguredKey,
    /// `[[signing.other]]`: keys that sign where a rule names them.
    pub other_signing: Vec<ConfiguredKey>,
    /// `[[verify]]`: keys whose tokens are accepted beside those.
    pub verify: Vec<Accepted>,
    /// `token.leeway`: by how many seconds the clocks of those who sign and
    /// ours may differ.
    pub leeway: u32,
    /// Who may get what.
    pub policy: Policy,
    /// How much of everything.
    pub limits: Limits,
    /// Where decisions are recorded.
    pub audit: Audit,
    /// The HTTP door.
    pub http: Http,
}

impl Config {
    /// Reads the text of the file at `path`; `host` takes the place of
    /// `{host}`. Every problem of the text is told at once, in the order of
    /// its lines. No file but `text` is looked at.
    pub fn parse(path: &Path, text: &str, host: &str) -> Result<Self, Problems> {
        Draft::read(path, text, host).finish()
    }
}

/// What the text of a configuration file gave, be it sound or not.
#[derive(Clone, Debug)]
pub struct Draft {
    config: Option<Config>,
    problems: Vec<Problem>,
    faulty: BTreeSet<String>,
}

impl Config {
    /// The keys that sign, that of `[signing]` first.
    pub fn signers(&self) -> impl Iterator<Item = &ConfiguredKey> {
        std::iter::once(&self.signing).chain(&self.other_signing)
    }
}

impl Draft {
    /// Reads a text as [`Config::parse`] does.
    pub fn read(path: &Path, text: &str, host: &str) -> Self {
        let (mut reading, table) = Reading::start(path, text);
        let config = tables::read(&mut reading, table.get_ref(), host);
        reading.finish(config)
    }

    /// The configuration as far as it could be read, with defaults in the
    /// place of what couldn't: only to look for more problems. None where the
    /// syntax is broken.
    pub fn as_far_as_read(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// Does it say, by `slurm_user` and `slurm_uid`, that `SlurmUser` is this
    /// account; or nothing that could be served with.
    pub fn slurm_user_is(&self, name: &str, uid: u32) -> bool {
        self.config.as_ref().is_none_or(|config| {
            config.policy.slurm_user == name
                && config.policy.slurm_uid.is_none_or(|said| said == uid)
        })
    }

    /// Is nothing wrong with any of these keys, such as `signing.key`, or with
    /// the table `signing` as a whole.
    pub fn are_sound(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| !self.faulty.contains(*key))
    }

    /// The configuration, or all its problems.
    pub fn finish(self) -> Result<Config, Problems> {
        match self.config {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(Problems(self.problems)),
        }
    }
}

/// Where the keys of a configuration stand, for messages about them.
#[derive(Clone, Debug)]
pub struct Places {
    path: PathBuf,
    lines: BTreeMap<String, usize>,
}

impl Places {
    fn in_file(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            lines: BTreeMap::new(),
        }
    }

    fn insert(&mut self, key: String, line: usize) {
        self.lines.insert(key, line);
    }

    /// The file and the line of a key such as `signing.key`; the file alone
    /// where a default stands in its place.
    pub fn of(&self, key: &str) -> String {
        let path = self.path.display();
        match self.lines.get(key) {
            Some(line) => format!("{path}:{line}"),
            None => path.to_string(),
        }
    }
}

/// What configurations say doesn't depend on where they say it.
impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

/// A key, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredKey {
    /// Where it is.
    pub key: KeySource,
    /// Explicit, never guessed from the bytes.
    pub algorithm: Algorithm,
    /// Its name; none takes the RFC 7638 thumbprint (RS256 only).
    pub kid: Option<Kid>,
}

/// One `[[verify]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// All RS256 keys of a JWKS.
    Jwks(PathBuf),
    /// One key: its public half is enough for RS256.
    Key(ConfiguredKey),
}

/// Where a key is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file; its copy in `$CREDENTIALS_DIRECTORY` comes first.
    File(PathBuf),
    /// `credential:NAME`: only the credential that systemd passes.
    Credential(String),
}

/// How many connections a door has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub connections: usize,
    /// Of one uid. All uids without an account share one such quota.
    pub connections_per_user: usize,
}

/// How much of everything: every bound that the daemon has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the main socket.
    pub room: Room,
    /// Tokens for one uid.
    pub tokens: Rate,
    /// Verifications for one uid.
    pub verifications: Rate,
    /// Account look-ups under way at once.
    pub lookups: usize,
    /// How long a caller waits for an account look-up.
    pub lookup_timeout: Duration,
    /// How long an account that was found is remembered.
    pub account_cache: Duration,
    /// How long a request may take to arrive, and its answer to be read.
    pub request_timeout: Duration,
    /// How long a connection may be silent between requests.
    pub idle_timeout: Duration,
    /// How long what has begun may go on when the daemon stops.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            room: Room {
                connections: 12_000,
                connections_per_user: 64,
            },
            tokens: Rate {
                per_minute: 600,
                burst: 100,
            },
            verifications: Rate {
                per_minute: 6000,
                burst: 600,
            },
            lookups: 32,
            lookup_timeout: Duration::from_secs(5),
            account_cache: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(1),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// Where decisions are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Which way.
    pub sink: Sink,
    /// In which form.
    pub format: Form,
    /// No record, no token.
    pub required: bool,
}

/// Which way the audit record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Syslog, facility authpriv.
    Syslog,
    /// The daemon's standard error.
    Stderr,
}

#[cfg(test)]
mod tests;
