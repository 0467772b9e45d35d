//! The tables that name keys: `[signing]`, `[[signing.other]]` and `[[verify]]`.

use std::path::Path;

use toml::de::DeValue;

use super::reading::{Found, Place, Reading, Section, nearest, text};
use super::tables::{LONGEST_PATH, path, path_fault};
use super::{Accepted, ConfiguredKey, KeySource};
use crate::keys::{Algorithm, Kid};
use crate::wire::shorten;

/// Longer ones aren't names of credentials to systemd (`NAME_MAX`).
const LONGEST_CREDENTIAL: usize = 255;

/// What `[signing]` says.
pub(super) struct SigningTable {
    /// The key that signs unless a rule names another.
    pub(super) key: Option<ConfiguredKey>,
    /// `[[signing.other]]`: each has a kid.
    pub(super) others: Vec<ConfiguredKey>,
    /// The kids that a rule may name, if all of them could be read.
    kids: Option<Vec<Kid>>,
    host: String,
}

impl SigningTable {
    /// Reads the kid of a key that signs.
    pub(super) fn named(
        &self,
        reading: &mut Reading<'_>,
        place: &Place,
        value: &DeValue<'_>,
    ) -> Option<Kid> {
        let written = expand(text(reading, place, value)?, &self.host)
            .map_err(|(what, remedy)| reading.fault(place, what, remedy))
            .ok()?;
        let known = self.kids.as_ref()?;
        if let Some(kid) = known.iter().find(|kid| kid.as_str() == written) {
            return Some(kid.clone());
        }
        let remedy = match nearest(&written, known.iter().map(Kid::as_str)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "write the kid of [signing] or of a [[signing.other]]".into(),
        };
        let what = format!(
            "is {:?}, and no key that signs has this kid",
            shorten(&written)
        );
        reading.fault(place, what, remedy);
        None
    }
}

/// Reads `[signing]` with its `[[signing.other]]`.
pub(super) fn read_signing(
    reading: &mut Reading<'_>,
    top: &mut Section<'_>,
    host: &str,
) -> SigningTable {
    let mut table = SigningTable {
        key: None,
        others: Vec::new(),
        kids: None,
        host: host.to_owned(),
    };
    let mut section = match top.section(reading, "signing") {
        Found::Sound(section, _) => section,
        Found::Bad => return table,
        Found::Absent => {
            reading.missing(
                None,
                "the table [signing] is missing, so there is no key to sign with",
                "make a key with `slurm-tokenctl key generate`, then add three lines: \
                 [signing], key = \"/etc/slurm/token-keys/{host}.pem\", algorithm = \"RS256\"",
            );
            return table;
        }
    };
    let (key, kid) = read_key(reading, &mut section, "the table [signing]", host);
    let mut sound = key.is_some();
    let mut kids: Vec<Kid> = kid.into_iter().map(|(kid, _)| kid).collect();
    table.key = key;
    for mut other in section.sections(reading, "other", "signing.other") {
        let (key, kid) = read_key(reading, &mut other, "this [[signing.other]]", host);
        match (&key, kid) {
            (Some(_), None) => {
                reading.missing(
                    Some(&other),
                    "this [[signing.other]] has no kid, so no rule can name it",
                    "add a line such as kid = \"{host}-workflow\", and kid to a [[policy.rule]]",
                );
                sound = false;
            }
            (_, Some((kid, place))) if kids.contains(&kid) => {
                reading.fault(
                    &place,
                    format!(
                        "is {kid:?}, which another key that signs has already",
                        kid = kid.as_str()
                    ),
                    "give each key a kid of its own",
                );
                sound = false;
            }
            (_, Some((kid, _))) => kids.push(kid),
            (None, None) => {}
        }
        sound &= key.is_some();
        table.others.extend(key);
        other.finish(reading);
    }
    section.finish(reading);
    if !sound {
        reading.cannot_tell("signing");
    }
    table.kids = sound.then_some(kids);
    table
}

/// Reads the keys that a key has, with its kid and where that stands.
fn read_key(
    reading: &mut Reading<'_>,
    section: &mut Section<'_>,
    whose: &str,
    host: &str,
) -> (Option<ConfiguredKey>, Option<(Kid, Place)>) {
    let key = section.take(reading, "key", |reading, place, value| {
        key_source(reading, place, value, host)
    });
    if matches!(key, Found::Absent) {
        reading.missing(
            Some(section),
            format!("{whose} has no key"),
            "add a line such as key = \"/etc/slurm/token-keys/{host}.pem\"",
        );
    }
    let algorithm = section.take(reading, "algorithm", algorithm);
    if matches!(algorithm, Found::Absent) {
        reading.missing(
            Some(section),
            format!("{whose} has no algorithm, and it's never guessed from the key"),
            "add algorithm = \"RS256\" for an RSA key, or \"HS256\" for a secret that \
             slurmctld shares",
        );
    }
    let kid = section.take(reading, "kid", |reading, place, value| {
        let kid = expand(text(reading, place, value)?, host);
        let kid = kid
            .map_err(|(what, remedy)| reading.fault(place, what, remedy))
            .ok()?;
        Kid::new(&kid).or_else(|| {
            reading.fault(place, format!("can't be {kid:?}"), KID_REMEDY);
            None
        })
    });
    let kid = match (&key, &algorithm, kid) {
        (Found::Sound(source, place), Found::Sound(Algorithm::Hs256, _), Found::Absent) => {
            let kid = stem(source).and_then(Kid::new);
            if kid.is_none() {
                reading.fault(
                    place,
                    "is of a name that can't be the kid of its tokens, and there is no kid",
                    "add a line such as kid = \"cluster-2026\"",
                );
            }
            kid.map(|kid| (kid, place.clone()))
        }
        (_, _, Found::Sound(kid, place)) => Some((kid, place)),
        (_, _, Found::Absent | Found::Bad) => None,
    };
    let configured = match (key, algorithm) {
        (Found::Sound(key, _), Found::Sound(algorithm, _)) => Some(ConfiguredKey {
            key,
            algorithm,
            kid: kid.as_ref().map(|(kid, _)| kid.clone()),
        }),
        _ => None,
    };
    (configured, kid)
}

/// Reads every `[[verify]]`: the keys that others sign with, or that signed
/// here before.
pub(super) fn read_verify(
    reading: &mut Reading<'_>,
    top: &mut Section<'_>,
    host: &str,
) -> Vec<Accepted> {
    let mut accepted = Vec::new();
    for mut section in top.sections(reading, "verify", "verify") {
        let jwks = section.take(reading, "jwks", path::<LONGEST_PATH>);
        let one = match jwks {
            Found::Absent if section.has_any(&["key", "algorithm", "kid"]) => {
                let (key, _) = read_key(reading, &mut section, "this [[verify]]", host);
                key.map(Accepted::Key)
            }
            Found::Absent => {
                reading.missing(
                    Some(&section),
                    "this [[verify]] names no keys",
                    "add a line such as jwks = \"/etc/slurm/jwks.json\", or key and algorithm",
                );
                None
            }
            Found::Bad => None,
            Found::Sound(path, place) => {
                if section.has_any(&["key", "algorithm", "kid"]) {
                    reading.fault(
                        &place,
                        "stands beside key, algorithm or kid, and a JWKS says all of these itself",
                        "make it two [[verify]], or remove the others",
                    );
                }
                Some(Accepted::Jwks(path))
            }
        };
        section.finish(reading);
        if one.is_none() {
            reading.cannot_tell("verify");
        }
        accepted.extend(one);
    }
    accepted
}

/// What stands in the place of a `[signing]` that can't be read. Never used:
/// a configuration without it isn't served with.
pub(super) const NONE: ConfiguredKey = ConfiguredKey {
    key: KeySource::Credential(String::new()),
    algorithm: Algorithm::Rs256,
    kid: None,
};

const KID_REMEDY: &str =
    "write 1 to 128 letters, digits, dots, underscores or hyphens, and no dot or hyphen first";

/// The key file's name without its last extension: the kid of an HS256 key
/// that has no other, as in `<kid>.key`.
fn stem(source: &KeySource) -> Option<&str> {
    match source {
        KeySource::File(path) => path.file_stem()?.to_str(),
        KeySource::Credential(name) => Path::new(name).file_stem()?.to_str(),
    }
}

fn algorithm(reading: &mut Reading<'_>, place: &Place, value: &DeValue<'_>) -> Option<Algorithm> {
    let name = text(reading, place, value)?;
    name.parse().ok().or_else(|| {
        reading.fault(
            place,
            format!("can't be {:?}", shorten(name)),
            "write \"RS256\" or \"HS256\": Slurm knows no other",
        );
        None
    })
}

/// Reads where a key is. What stands there is never repeated, as it may be the
/// key itself by mistake.
fn key_source(
    reading: &mut Reading<'_>,
    place: &Place,
    value: &DeValue<'_>,
    host: &str,
) -> Option<KeySource> {
    const REMEDY: &str =
        "write the absolute path of the key's file, or \"credential:NAME\", never the key itself";
    let Some(written) = value.as_str() else {
        reading.fault(place, "must be a string", REMEDY);
        return None;
    };
    let fault = match expand(written, host) {
        Err((what, remedy)) => {
            reading.fault(place, what, remedy);
            return None;
        }
        Ok(written) => match written.strip_prefix("credential:") {
            Some(name) if is_credential(name) => {
                return Some(KeySource::Credential(name.to_owned()));
            }
            Some(_) => "names a credential by what can't be a credential's name",
            None => match path_fault(&written, LONGEST_PATH) {
                None => return Some(KeySource::File(written.into())),
                Some(fault) => fault,
            },
        },
    };
    reading.fault(place, fault, REMEDY);
    None
}

/// A name of a file in `$CREDENTIALS_DIRECTORY`.
fn is_credential(name: &str) -> bool {
    (1..=LONGEST_CREDENTIAL).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':')
}

/// Puts the host's name in the place of `{host}`.
fn expand(text: &str, host: &str) -> Result<String, (&'static str, &'static str)> {
    if host.is_empty() && text.contains("{host}") {
        return Err((
            "has {host} in it, and this machine has no host name that could stand there",
            "write the name in its place, or give the machine one with `hostnamectl hostname`",
        ));
    }
    if text.replace("{host}", "").contains(['{', '}']) {
        return Err((
            "has braces around something else than host",
            "write {host} or no braces",
        ));
    }
    Ok(text.replace("{host}", host))
}
