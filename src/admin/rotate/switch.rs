//! Names another key in the configuration: two values change, and all else
//! stays as somebody wrote it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use toml_edit::{DocumentMut, Value};

use crate::config::{Config, KeySource};
use crate::daemon::{engine, keyring};
use crate::keys::file::{Trust, read_public};
use crate::keys::{Kid, store};
use crate::report::{Problem, Problems};

/// A configuration has at most so many bytes, as for the daemon.
const MOST: usize = 256 * 1024;

/// The text of a configuration, and what can be changed in it.
pub(super) fn read(config: &Config) -> Result<(String, DocumentMut), Problem> {
    let trust = Trust::of_process(keyring::key_trust(config).slurm_uid);
    let bytes = read_public(&config.path, &trust, MOST)?;
    let changed = || {
        Problem::at(
            &config.path,
            "it was changed while it was read",
            "try again",
        )
    };
    let text = String::from_utf8(bytes).map_err(|_| changed())?;
    let document = text.parse().map_err(|_| changed())?;
    Ok((text, document))
}

/// The text with another key and kid in `[signing]`. Pure.
fn with_key(mut document: DocumentMut, key: &str, kid: &str) -> Option<String> {
    let signing = document.get_mut("signing")?.as_table_like_mut()?;
    for (name, new) in [("key", key), ("kid", kid)] {
        let value = signing.get_mut(name)?.as_value_mut()?;
        let decor = value.decor().clone();
        *value = Value::from(new);
        *value.decor_mut() = decor;
    }
    Some(document.to_string())
}

/// Writes the configuration anew, by rename, naming `key` and `kid` as they are
/// to be written. Nothing is written that wouldn't be read as `file` and
/// `expected`.
pub(super) fn name_key(
    config: &Config,
    (key, kid): (&str, &str),
    (file, expected): (&Path, &Kid),
    trust: &Trust,
) -> Result<(), Problems> {
    let (_, document) = read(config)?;
    let text = with_key(document, key, kid).ok_or_else(|| {
        Problem::at(
            &config.path,
            "signing.key and signing.kid can't be written anew here",
            format!("write them yourself: key = {key:?} and kid = {kid:?}"),
        )
    })?;
    let read = Config::parse(&config.path, &text, &engine::host())?;
    let as_meant = read.signing.key == KeySource::File(file.to_owned())
        && read.signing.kid.as_ref() == Some(expected);
    if !as_meant {
        return Err(Problem::at(
            &config.path,
            "with the new key written in it, it would be read otherwise than meant",
            format!("write them yourself: key = {key:?} and kid = {kid:?}"),
        )
        .into());
    }
    let mode = std::fs::metadata(&config.path).map_or(0o644, |there| there.mode() & 0o755);
    Ok(store::replace(&config.path, text.as_bytes(), mode, trust)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_values_change_and_all_else_stays_as_it_was() {
        let text = "# ours\nuser = 'x'  # the user\n\n[signing] # below\n  key = \"/k/a.pem\"  # old\n\
                    algorithm=\"RS256\"\nkid='a' # kid\n\n[token]\nmax_lifespan = \"1h\"\n";
        let document = text.parse().unwrap();
        let wanted = text
            .replace("\"/k/a.pem\"", "\"/k/{host}-2.pem\"")
            .replace("'a'", "\"{host}-2\"");
        assert_eq!(
            with_key(document, "/k/{host}-2.pem", "{host}-2"),
            Some(wanted)
        );
    }

    #[test]
    fn a_table_of_one_line_and_dotted_keys_are_written_too() {
        for text in [
            "signing = { key = \"/a.pem\", algorithm = \"RS256\", kid = \"a\" }\n",
            "signing.key = \"/a.pem\"\nsigning.algorithm = \"RS256\"\nsigning.kid = \"a\"\n",
        ] {
            let changed = with_key(text.parse().unwrap(), "/b.pem", "b").unwrap();
            let wanted = text.replace("/a.pem", "/b.pem").replace("\"a\"", "\"b\"");
            assert_eq!(changed, wanted);
        }
    }
}
