//! What the daemon decides and signs with: a configuration and its keys,
//! checked together and replaced together.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;

use crate::account;
use crate::audit::{Receiver, Recorder, SYSLOG_SOCKET, Syslog};
use crate::config::{Config, DEFAULT_SLURM_USER, Draft, KeySource, Sink};
use crate::daemon::horizon::Horizon;
use crate::daemon::keyring::{Keys, key_path};
use crate::daemon::unix_now;
use crate::keys::file::{Trust, read_public};
use crate::report::{Problem, Problems};
use crate::state::StateDir;
use crate::wire;

/// The configuration file may have so many bytes.
const MOST_CONFIGURATION: usize = 256 * 1024;

/// A configuration in force.
pub struct Engine {
    /// Tells one configuration from the next.
    pub generation: u64,
    /// When it was read, in seconds since 1970.
    pub since: u64,
    /// The configuration.
    pub config: Config,
    /// Its keys.
    pub keys: Keys,
    /// Its way to the log.
    pub recorder: Recorder,
    /// What `jwks` answers.
    pub jwks_answer: Vec<u8>,
    /// The same as the HTTP door has it, and its entity tag.
    pub jwks: (Vec<u8>, HeaderValue),
    /// How long its tokens may live, by what is on record of its keys.
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
pub(crate) fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    let label = name.split('.').next().unwrap_or_default();
    if crate::keys::Kid::new(label).is_some() {
        label.to_owned()
    } else {
        String::new()
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

/// The public keys, with a tag that changes when they do (RFC 9110 section 8.8.3).
fn tagged(keys: &Keys) -> (Vec<u8>, HeaderValue) {
    let text = serde_json::to_vec(&keys.public()).unwrap_or_default();
    let digest = digest(&SHA256, &text);
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]));
    // Letters, digits, "-" and "_" stand in a header as they are.
    let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
    (text, tag)
}

impl Engine {
    /// A configuration and its keys, ready to serve.
    pub fn new(config: Config, keys: Keys) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let recorder = recorder(&config);
        Self {
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            since: unix_now(),
            jwks_answer: wire::ok_line(&keys.public()),
            jwks: tagged(&keys),
            horizon: Horizon::default(),
            config,
            keys,
            recorder,
        }
    }

    /// The next configuration from the same file, with its keys: whole, or not
    /// at all. After privileges were dropped a key may be out of reach; as
    /// long as the configuration names the same one, the key in use stays.
    pub fn reload(&self, state: &StateDir) -> Result<(Self, Vec<String>), Problems> {
        let config = read_configuration(&self.config.path)?;
        let mut notes = self.needs_restart(&config);
        let keys = Keys::read(&config, Some(&self.keys), &mut notes)?;
        let engine = Self::new(config, keys);
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

    fn needs_restart(&self, next: &Config) -> Vec<String> {
        let changed = [
            ("socket", self.config.socket != next.socket),
            ("http.socket", self.config.http.socket != next.http.socket),
            ("http", self.config.http.configured != next.http.configured),
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
