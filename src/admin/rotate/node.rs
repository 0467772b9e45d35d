//! What there is of a node's keys: on its disk, and in the words of its daemon.
//!
//! Everything is told by the files themselves, so that `ls -l` shows it and no
//! crash can make a note of it false:
//!
//! | file | is |
//! | --- | --- |
//! | the configuration's `signing.key` | the key that signs |
//! | those of its `[[signing.other]]` | keys that sign where a rule names them |
//! | `NAME.next.pem` beside `NAME.pem` | the next key, where no `signing.kid` is set |
//! | `STEM-DATE.pem` of a later date | the next key, where one is |
//! | `jwks.d/KID.json` | the public half of one key |
//! | `expiry-KID.json` in the state directory | a key of this node that has signed |

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::names;
use crate::config::{Config, KeySource};
use crate::daemon::{engine, keyring};
use crate::keys::file::{Trust, quoted, read_key, read_public};
use crate::keys::format::{PublicKey, SigningKey, signing_key};
use crate::keys::jwks::{Jwk, JwkSet};
use crate::keys::public::MAX_JWKS;
use crate::keys::{Algorithm, Kid};
use crate::report::{Problem, Problems};
use crate::state::{LatestExp, StateDir};

/// So many files of a directory are looked at.
const MOST_FILES: usize = 10_000;

/// How a configuration comes to name another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Scheme {
    /// It always names the same file; the new key takes the old one's place
    /// there. The kid is the thumbprint, or doesn't matter (HS256).
    SameFile,
    /// It names a file and a kid, with `{host}` as written; for another key
    /// both are written anew.
    OwnName {
        /// `signing.kid` as it's written.
        kid: String,
        /// `signing.key` as it's written.
        key: String,
    },
}

/// A key that is ready to follow the one that signs.
pub(in crate::admin) struct Next {
    /// Where it is.
    pub(in crate::admin) file: PathBuf,
    /// The key, under the kid that its tokens will carry.
    pub(in crate::admin) key: Arc<SigningKey>,
    /// Its public half is published.
    pub(in crate::admin) published: bool,
}

/// A key that has signed and does so no more.
pub(in crate::admin) struct Old {
    pub(in crate::admin) kid: Kid,
    /// Where its public half is.
    pub(in crate::admin) published: PathBuf,
    /// Private halves of it that are still there.
    pub(in crate::admin) private: Vec<PathBuf>,
    pub(in crate::admin) latest: LatestExp,
}

/// A key that signs where a rule names it.
pub(in crate::admin) struct Other {
    pub(in crate::admin) file: PathBuf,
    pub(in crate::admin) key: SigningKey,
    pub(in crate::admin) published: bool,
}

/// The keys of a node.
pub(in crate::admin) struct Node {
    pub(in crate::admin) config: Config,
    pub(in crate::admin) scheme: Scheme,
    /// Where the key that signs is.
    pub(in crate::admin) file: PathBuf,
    pub(in crate::admin) key: SigningKey,
    pub(in crate::admin) published: bool,
    /// Who may own keys; who writes them.
    pub(in crate::admin) trust: Trust,
    pub(in crate::admin) own: Trust,
    pub(in crate::admin) jwks_dir: PathBuf,
    pub(in crate::admin) next: Option<Next>,
    /// Those of `[[signing.other]]` that are in files.
    pub(in crate::admin) others: Vec<Other>,
    pub(in crate::admin) old: Vec<Old>,
    /// Every kid in `jwks_dir`.
    pub(in crate::admin) kids: Vec<String>,
    /// None where the daemon has never made it.
    pub(in crate::admin) state: Option<StateDir>,
    /// What can't be read and was left out.
    pub(in crate::admin) notes: Vec<Problem>,
}

/// A private RSA key in the key's directory.
struct Private {
    file: PathBuf,
    key: SigningKey,
}

impl Node {
    /// Looks at everything. A key that signs and can't be read is a problem of
    /// its own: there is nothing to rotate.
    pub(in crate::admin) fn look(configuration: &Path, jwks_dir: &Path) -> Result<Self, Problems> {
        let config = engine::read_configuration(configuration)?;
        let KeySource::File(file) = config.signing.key.clone() else {
            return Err(Problem::new(
                config.places.of("signing.key"),
                "this key is a credential that systemd passes, and its file is not known here",
                "rotate it where it comes from, or name the file: the daemon reads its credential \
                 copy all the same",
            )
            .into());
        };
        let trust = keyring::key_trust(&config);
        let own = Trust::of_process(trust.slurm_uid);
        let key = read_signing(
            &file,
            config.signing.algorithm,
            config.signing.kid.clone(),
            &trust,
        )?;
        let scheme = scheme(&config)?;
        let state = match StateDir::open(&config.state_dir) {
            Ok(state) => Some(state),
            Err(_) if !config.state_dir.exists() => None,
            Err(problem) => return Err(problem.into()),
        };
        let mut node = Self {
            config,
            scheme,
            file,
            key,
            published: false,
            trust,
            own,
            jwks_dir: jwks_dir.to_owned(),
            next: None,
            others: Vec::new(),
            old: Vec::new(),
            kids: Vec::new(),
            state,
            notes: Vec::new(),
        };
        node.look_further()?;
        Ok(node)
    }

    fn look_further(&mut self) -> Result<(), Problem> {
        let published = self.look_at_published()?;
        self.kids = published.iter().map(|(_, jwk)| jwk.kid.clone()).collect();
        let is_published = |key: &SigningKey| {
            key.public().is_some_and(|public| {
                let jwk = Jwk::new(public, key.kid());
                published.iter().any(|(_, entry)| *entry == jwk)
            })
        };
        self.published = is_published(&self.key);
        self.others = self
            .read_others()?
            .into_iter()
            .map(|(file, key)| Other {
                published: is_published(&key),
                file,
                key,
            })
            .collect();
        let private = self.look_at_private()?;
        let next = self.find_next(&private)?;
        self.next = next.map(|(file, key)| Next {
            published: is_published(&key),
            file,
            key: Arc::new(key),
        });
        let mut in_use = vec![self.key.kid().clone()];
        in_use.extend(self.next.iter().map(|next| next.key.kid().clone()));
        in_use.extend(self.other_kids().cloned());
        for (file, jwk) in &published {
            let Some(kid) = Kid::new(&jwk.kid).filter(|kid| !in_use.contains(kid)) else {
                continue;
            };
            let latest = self.latest_exp(&kid);
            if latest == LatestExp::NoRecord {
                continue; // Another node's.
            }
            let same = |private: &&Private| {
                private.file != self.file
                    && private
                        .key
                        .public()
                        .is_some_and(|public| Jwk::new(public, &kid) == *jwk)
            };
            self.old.push(Old {
                private: private
                    .iter()
                    .filter(same)
                    .map(|p| p.file.clone())
                    .collect(),
                published: file.clone(),
                kid,
                latest,
            });
        }
        Ok(())
    }

    /// The kids of the keys that sign where a rule names them; each has one.
    pub(in crate::admin) fn other_kids(&self) -> impl Iterator<Item = &Kid> {
        let others = self.config.other_signing.iter();
        others.filter_map(|other| other.kid.as_ref())
    }

    /// The same keys themselves, as far as they are in files.
    fn read_others(&self) -> Result<Vec<(PathBuf, SigningKey)>, Problem> {
        let mut read = Vec::new();
        for other in &self.config.other_signing {
            if let KeySource::File(file) = &other.key {
                let kid = other.kid.clone();
                let key = read_signing(file, other.algorithm, kid, &self.trust)?;
                read.push((file.clone(), key));
            }
        }
        Ok(read)
    }

    /// Until when tokens of a key may live, by this node's record.
    pub(in crate::admin) fn latest_exp(&self, kid: &Kid) -> LatestExp {
        self.state
            .as_ref()
            .map_or(LatestExp::NoRecord, |state| state.latest_exp(kid))
    }

    /// The file of a key's public half.
    pub(in crate::admin) fn jwks_file(&self, kid: &Kid) -> PathBuf {
        self.jwks_dir.join(format!("{kid}.json"))
    }

    /// The file of the next key, where the configuration's file stays the same.
    pub(in crate::admin) fn next_file(&self) -> PathBuf {
        self.beside("next")
    }

    /// The second name of the key that signs, which it keeps when another one
    /// takes its place.
    pub(in crate::admin) fn old_file(&self) -> PathBuf {
        self.beside(&format!("old-{}", self.key.kid()))
    }

    /// `login1.WORD.pem` for `login1.pem`.
    fn beside(&self, word: &str) -> PathBuf {
        let mut name = self.file.file_stem().unwrap_or_default().to_owned();
        name.push(".");
        name.push(word);
        if let Some(extension) = self.file.extension() {
            name.push(".");
            name.push(extension);
        }
        self.file.with_file_name(name)
    }

    fn look_at_published(&mut self) -> Result<Vec<(PathBuf, Jwk)>, Problem> {
        let mut published = Vec::new();
        for file in files_in(&self.jwks_dir, "json")? {
            let read = read_public(&file, &self.own, MAX_JWKS)
                .and_then(|bytes| JwkSet::parse(&bytes).map_err(|rejection| rejection.at(&file)));
            match read {
                Ok(reading) => {
                    let named = |jwk: &Jwk| file.file_stem() == Some(OsStr::new(&jwk.kid));
                    let keys = reading.set.keys.into_iter().filter(named);
                    published.extend(keys.map(|jwk| (file.clone(), jwk)));
                }
                Err(problem) => self.notes.push(problem),
            }
        }
        Ok(published)
    }

    fn look_at_private(&self) -> Result<Vec<Private>, Problem> {
        if self.config.signing.algorithm == Algorithm::Hs256 {
            return Ok(Vec::new());
        }
        let directory = self.file.parent().unwrap_or(Path::new("/"));
        let read = |file: PathBuf| {
            let bytes = read_key(&file, &self.trust).ok()?;
            let kid = Kid::new(file.file_stem()?.to_str()?);
            let key = signing_key(&bytes, Algorithm::Rs256, kid).ok()?;
            Some(Private { file, key })
        };
        // Others' files are none of ours, sound or not.
        Ok(files_in(directory, "pem")?
            .into_iter()
            .filter_map(read)
            .collect())
    }

    fn find_next(&self, private: &[Private]) -> Result<Option<(PathBuf, SigningKey)>, Problem> {
        match &self.scheme {
            Scheme::SameFile => {
                let file = self.next_file();
                if std::fs::symlink_metadata(&file).is_err() {
                    return Ok(None);
                }
                let kid = match self.config.signing.algorithm {
                    Algorithm::Rs256 => None,
                    Algorithm::Hs256 => Some(self.key.kid().clone()),
                };
                let key = read_signing(&file, self.config.signing.algorithm, kid, &self.trust)?;
                Ok(Some((file, key)))
            }
            Scheme::OwnName { .. } => {
                let follows = |private: &&Private| {
                    let kid = private.key.kid();
                    private.file.file_stem() == Some(OsStr::new(kid.as_str()))
                        && names::is_later(kid, self.key.kid())
                        && !self.other_kids().any(|other| other == kid)
                };
                let found = private.iter().find(follows);
                let Some(Private { file, key }) = found else {
                    return Ok(None);
                };
                let kid = Some(key.kid().clone());
                let key = read_signing(file, Algorithm::Rs256, kid, &self.trust)?;
                Ok(Some((file.clone(), key)))
            }
        }
    }
}

/// A key as the daemon reads it.
fn read_signing(
    file: &Path,
    algorithm: Algorithm,
    kid: Option<Kid>,
    trust: &Trust,
) -> Result<SigningKey, Problem> {
    let bytes = read_key(file, trust)?;
    signing_key(&bytes, algorithm, kid).map_err(|rejection| rejection.at(file))
}

/// How the configuration names its key.
fn scheme(config: &Config) -> Result<Scheme, Problem> {
    // An HS256 key keeps its file, which slurm.conf may name too, and its kid,
    // which Slurm doesn't look at.
    if config.signing.algorithm == Algorithm::Hs256 || config.signing.kid.is_none() {
        return Ok(Scheme::SameFile);
    }
    let (_, document) = super::switch::read(config)?;
    let written = |key: &str| {
        let value = document.get("signing")?.get(key)?.as_str()?;
        Some(value.to_owned())
    };
    match (written("kid"), written("key")) {
        (Some(kid), Some(key)) => Ok(Scheme::OwnName { kid, key }),
        _ => Err(Problem::at(
            &config.path,
            "signing.kid and signing.key were changed while this was read",
            "try again",
        )),
    }
}

/// The public half of the key, where it has one.
pub(in crate::admin) fn public_of(key: &SigningKey, file: &Path) -> Result<PublicKey, Problem> {
    key.public().cloned().ok_or_else(|| {
        Problem::at(
            file,
            "an HS256 key has no public half",
            "set algorithm = \"RS256\" for a key that can be published",
        )
    })
}

/// The files of an extension in a directory, by name; none where there is no
/// directory. Hidden ones, as a crash leaves them, don't count.
fn files_in(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, Problem> {
    let entries = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other,
    };
    let unreadable = |e: std::io::Error| {
        Problem::at(
            directory,
            format!("this directory can't be read: {e}"),
            format!("run this as root; see ls -ld {}", quoted(directory)),
        )
    };
    let mut files = Vec::new();
    for entry in entries.map_err(unreadable)?.take(MOST_FILES) {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if !name.starts_with(b".") && path.extension() == Some(OsStr::new(extension)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
