//! slurm.conf and slurmdbd.conf, as far as they decide on tokens. Pure: the
//! files that one includes are read by whoever asks.
//!
//! As slurm.conf(5) has it: keys in any case, `Key=Value` pairs on a line,
//! values in double quotes where they hold white space, `#` to the end of the
//! line unless it's escaped, a backslash at the end of a line that goes on, and
//! `Include FILE`.

use std::collections::BTreeMap;

/// Files that include files are followed so far...
const DEEPEST: usize = 8;
/// ...and so many in all.
const MOST_FILES: usize = 64;

/// What a file says; of a key that is given twice, the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlurmConf {
    values: BTreeMap<String, String>,
    /// Included files that could not be read.
    pub(super) unread: Vec<String>,
    files: usize,
}

impl SlurmConf {
    /// Reads a text; `include` gives that of another file, by the name as it
    /// stands there.
    pub(super) fn parse(text: &str, include: &mut dyn FnMut(&str) -> Option<String>) -> Self {
        let mut conf = Self::default();
        conf.take(text, include, 0);
        conf
    }

    fn take(&mut self, text: &str, include: &mut dyn FnMut(&str) -> Option<String>, depth: usize) {
        for line in joined(text) {
            let line = without_comment(&line);
            if let Some(name) = included(&line) {
                let cluster = self.get("ClusterName").unwrap_or_default();
                let name = name.replace("%c", cluster);
                self.files += 1;
                let within = depth < DEEPEST && self.files <= MOST_FILES;
                match within.then(|| include(&name)).flatten() {
                    Some(text) => self.take(&text, include, depth + 1),
                    None => self.unread.push(name),
                }
                continue;
            }
            let mut rest = line.as_str();
            while let Some((key, value, after)) = pair(rest) {
                self.values.insert(key.to_lowercase(), value.to_owned());
                rest = after;
            }
        }
    }

    /// The value of a key, in whatever case it's written.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(&key.to_lowercase()).map(String::as_str)
    }

    /// Does a list such as `AuthAltTypes=auth/jwt,auth/slurm` hold `item`.
    pub(super) fn lists(&self, key: &str, item: &str) -> bool {
        let mut items = self.get(key).unwrap_or_default().split(',');
        items.any(|listed| listed.trim().eq_ignore_ascii_case(item))
    }

    /// A parameter of `AuthAltParameters`: its value, empty where it has none.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let parameters = self.get("AuthAltParameters")?.split(',').map(str::trim);
        parameters
            .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The file of the HS256 key that slurmctld takes tokens of, if any: where
    /// neither it nor a JWKS is named, Slurm looks in `StateSaveLocation`.
    pub(super) fn jwt_key(&self) -> Option<String> {
        match (self.parameter("jwt_key"), self.parameter("jwks")) {
            (Some(file), _) => Some(file.to_owned()),
            (None, Some(_)) => None,
            (None, None) => {
                let directory = self.get("StateSaveLocation").unwrap_or("/var/spool");
                Some(format!("{directory}/jwt_hs256.key"))
            }
        }
    }
}

/// The lines, each with those that a backslash joins to it.
fn joined(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\') {
            Some(more) => open.push_str(more),
            None => lines.push(std::mem::take(&mut open) + line),
        }
    }
    if !open.is_empty() {
        lines.push(open);
    }
    lines
}

fn without_comment(line: &str) -> String {
    let mut kept = String::new();
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '#' => break,
            '\\' => kept.extend(characters.next()),
            c => kept.push(c),
        }
    }
    kept
}

fn included(line: &str) -> Option<&str> {
    let (word, name) = line.trim().split_once(char::is_whitespace)?;
    (word.eq_ignore_ascii_case("include")).then(|| name.trim())
}

/// The first pair of a text, and what follows it.
fn pair(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.trim_start();
    let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let end = text.find(|c| !is_key(c)).filter(|end| *end > 0)?;
    let (key, rest) = text.split_at(end);
    let value = rest.trim_start().strip_prefix('=')?.trim_start();
    if let Some(quoted) = value.strip_prefix('"') {
        let (value, after) = quoted.split_once('"')?;
        return Some((key, value, after));
    }
    let end = value.find(char::is_whitespace).unwrap_or(value.len());
    let (value, after) = value.split_at(end);
    Some((key, value, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> SlurmConf {
        SlurmConf::parse(text, &mut |_| None)
    }

    #[test]
    fn a_value_is_found_however_its_line_is_written() {
        for text in [
            "AuthAltTypes=auth/jwt\n",
            "authalttypes = auth/jwt",
            "  AUTHALTTYPES=\"auth/jwt\"  # tokens\n",
            "ClusterName=a AuthAltTypes=auth/jwt Other=1",
            "AuthAltTypes=\\\nauth/jwt\n",
            "# AuthAltTypes=none\nAuthAltTypes=auth/jwt",
            "AuthAltTypes=none\nAuthAltTypes=auth/jwt",
            "AuthAltTypes=auth/slurm,auth/jwt",
        ] {
            assert!(read(text).lists("AuthAltTypes", "auth/jwt"), "{text}");
        }
        assert!(!read("#AuthAltTypes=auth/jwt").lists("AuthAltTypes", "auth/jwt"));
    }

    #[test]
    fn parameters_are_found_with_and_without_a_value() {
        let conf = read("AuthAltParameters=jwks=/a/jwks.json,disable_token_creation");
        assert_eq!(conf.parameter("jwks"), Some("/a/jwks.json"));
        assert_eq!(conf.parameter("Disable_Token_Creation"), Some(""));
        assert_eq!(conf.parameter("jwt_key"), None);
    }

    #[test]
    fn included_files_count_and_one_that_includes_itself_ends() {
        let mut files = |name: &str| {
            (name == "more.conf").then(|| "AuthAltTypes=auth/jwt\ninclude more.conf\n".to_owned())
        };
        let conf = SlurmConf::parse("Include more.conf\nInclude gone.conf\n", &mut files);
        assert!(conf.lists("AuthAltTypes", "auth/jwt"));
        assert!(conf.unread.contains(&"gone.conf".to_owned()));
    }

    #[test]
    fn without_any_parameter_the_hs256_key_is_where_slurm_looks_for_it() {
        let conf = read("StateSaveLocation=/state\nAuthAltTypes=auth/jwt\n");
        assert_eq!(conf.jwt_key(), Some("/state/jwt_hs256.key".into()));
        assert_eq!(read("AuthAltParameters=jwks=/a").jwt_key(), None);
        assert_eq!(
            read("AuthAltParameters=jwt_key=/b").jwt_key(),
            Some("/b".into())
        );
    }
}
