use std::io::Write;
use std::str::FromStr;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use zeroize::Zeroizing;

use super::terminal::plain;
use crate::token::lifespan::Lifespan;
use crate::token::moment::{Away, Utc};
use crate::wire::{Issued, Standing, Verified};

/// How a token is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `SLURM_JWT=TOKEN`, as `scontrol token` writes it.
    Env,
    /// The same as a command for a shell.
    Export,
    /// The token alone.
    Raw,
    /// All that the daemon says of the token.
    Json,
    /// HTTP headers, as `curl -H @-` reads them.
    Header,
    /// HTTP headers, as `curl -K -` reads them.
    Curl,
}

impl Format {
    /// Every one.
    pub(super) const ALL: [Self; 6] = [
        Self::Env,
        Self::Export,
        Self::Raw,
        Self::Json,
        Self::Header,
        Self::Curl,
    ];

    /// The name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Export => "export",
            Self::Raw => "raw",
            Self::Json => "json",
            Self::Header => "header",
            Self::Curl => "curl",
        }
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| {
                format!("{name} is not known; it takes env, export, raw, json, header or curl")
            })
    }
}

/// The bytes that hand over a token, newline included. `super::answer` has
/// seen to it that token and user hold nothing that a shell or HTTP takes for
/// anything but text.
///
/// Slurm 22.05 wants the user's name beside the token; later releases take it.
pub(super) fn token(issued: &Issued, format: Format) -> Zeroizing<Vec<u8>> {
    let Issued { token, user, .. } = issued;
    let pieces: &[&str] = match format {
        Format::Env => &["SLURM_JWT=", token, "\n"],
        Format::Export => &["export SLURM_JWT=", token, "\n"],
        Format::Raw => &[token, "\n"],
        Format::Json => return json(issued),
        Format::Header => &[
            "X-SLURM-USER-TOKEN: ",
            token,
            "\nX-SLURM-USER-NAME: ",
            user,
            "\n",
        ],
        // curl(1), -K: within quotes, a backslash escapes.
        Format::Curl => &[
            "header = \"X-SLURM-USER-TOKEN: ",
            token,
            "\"\nheader = \"X-SLURM-USER-NAME: ",
            &user.replace('\\', r"\\").replace('"', "\\\""),
            "\"\n",
        ],
    };
    // In one piece: growing would leave a copy behind that nobody wipes.
    Zeroizing::new(pieces.concat().into_bytes())
}

/// One JSON object and a newline, all of it printable ASCII.
pub(super) fn json(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Measured, then written in one piece: again no copy is left behind.
    let mut length = Length(0);
    let mut written = value.serialize(&mut Serializer::with_formatter(&mut length, Ascii));
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0 + 1));
    written = written.and(value.serialize(&mut Serializer::with_formatter(&mut *bytes, Ascii)));
    debug_assert!(
        written.is_ok(),
        "our answers hold nothing that JSON can't hold"
    );
    bytes.push(b'\n');
    bytes
}

/// Counts what is written to it.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes what isn't printable ASCII as `\uXXXX`: `serde_json` leaves DEL, C1
/// controls and characters that turn the direction of text to the terminal.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        for part in fragment.split_inclusive(|c: char| !fits(c)) {
            let mut chars = part.chars();
            match chars.next_back() {
                Some(last) if !fits(last) => {
                    CompactFormatter.write_string_fragment(writer, chars.as_str())?;
                    for unit in last.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
                _ => CompactFormatter.write_string_fragment(writer, part)?,
            }
        }
        Ok(())
    }
}

fn fits(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic()
}

/// What the policy gives the caller, in words.
pub(super) fn standing(standing: &Standing) -> Zeroizing<Vec<u8>> {
    let Standing {
        user,
        uid,
        rule,
        kid,
        ..
    } = standing;
    let mut lines = vec![("user", format!("{user} (uid {uid})"))];
    if let Some(refusal) = &standing.refusal {
        lines.push(("token", format!("no: {} {}", refusal.message, refusal.help)));
    } else if !standing.allowed {
        lines.push(("token", "no".to_owned()));
    } else {
        let lifespan = format!(
            "{} unless you say otherwise, at most {}",
            duration(standing.default_lifespan),
            duration(standing.max_lifespan)
        );
        lines.extend([("token", "yes".to_owned()), ("lifespan", lifespan)]);
    }
    lines.push(("decided by", rule.clone()));
    if !standing.delegate_for_groups.is_empty() {
        let groups = standing.delegate_for_groups.join(", ");
        lines.push(("may ask for", format!("members of {groups}")));
        lines.extend(for_others(standing).map(|bound| ("", bound)));
    }
    let gets_any = standing.allowed || !standing.delegate_for_groups.is_empty();
    if let Some(session) = standing.max_session.filter(|_| gets_any) {
        let session = format!("until {} after the first token", duration(session));
        lines.push(("refreshed", session));
    }
    lines.push(("signed by", kid.clone()));
    table(&lines)
}

/// The bounds of what a service may ask for others, as far as it's told.
fn for_others(standing: &Standing) -> impl Iterator<Item = String> {
    let cap = standing.delegate_max_lifespan;
    let cap = cap.map(|cap| format!("for {} at most", duration(cap)));
    let rate = standing.delegate_tokens_per_minute;
    let rate = rate
        .zip(standing.delegate_burst)
        .map(|(rate, burst)| format!("{rate} tokens a minute at most, {burst} of them at once"));
    cap.into_iter().chain(rate)
}

/// What the daemon says of a valid token, in words.
pub(super) fn verified(verified: &Verified, now: u64) -> Zeroizing<Vec<u8>> {
    let Verified {
        user,
        expires_at,
        kid,
        alg,
        claims,
    } = verified;
    let time = |time| format!("{} ({})", Away { time, now }, Utc(time));
    let mut lines = vec![
        ("token", "valid".to_owned()),
        ("user", user.clone()),
        ("expires", time(*expires_at)),
    ];
    if let Some(first) = claims.auth_time {
        lines.push(("first token", time(first)));
    }
    if let Some(act) = &claims.act {
        lines.push(("asked for by", act.sub.clone()));
    }
    lines.push(("signed by", format!("{kid} ({alg})")));
    table(&lines)
}

/// Lines of a name and a value.
fn table(lines: &[(&str, String)]) -> Zeroizing<Vec<u8>> {
    let line = |(name, value): &(&str, String)| format!("{name:<13}{}\n", plain(value));
    Zeroizing::new(lines.iter().map(line).collect::<String>().into_bytes())
}

/// Seconds as people say them: `12h`, `1h30m`, `7d`.
pub(super) fn duration(seconds: u32) -> String {
    Lifespan::from_seconds(seconds).map_or_else(|| "0s".to_owned(), |lifespan| lifespan.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Code, Refusal};

    fn written(user: &str, format: Format) -> String {
        let issued = Issued {
            token: "aa.bb.cc".into(),
            user: user.into(),
            expires_at: 1_795_305_600,
            kid: "login1".into(),
            jti: "7f".into(),
        };
        String::from_utf8(token(&issued, format).to_vec()).unwrap()
    }

    #[test]
    fn env_is_what_scontrol_prints() {
        assert_eq!(written("alice", Format::Env), "SLURM_JWT=aa.bb.cc\n");
    }

    #[test]
    fn export_is_a_command() {
        assert_eq!(
            written("alice", Format::Export),
            "export SLURM_JWT=aa.bb.cc\n"
        );
    }

    #[test]
    fn raw_is_the_token_and_a_newline() {
        assert_eq!(written("alice", Format::Raw), "aa.bb.cc\n");
    }

    #[test]
    fn json_is_one_object_with_all_the_daemon_says() {
        assert_eq!(
            written("alice", Format::Json),
            "{\"token\":\"aa.bb.cc\",\"user\":\"alice\",\"expires_at\":1795305600,\"kid\":\"login1\",\"jti\":\"7f\"}\n"
        );
    }

    #[test]
    fn header_carries_token_and_name() {
        assert_eq!(
            written("alice", Format::Header),
            "X-SLURM-USER-TOKEN: aa.bb.cc\nX-SLURM-USER-NAME: alice\n"
        );
    }

    #[test]
    fn curl_carries_token_and_name_and_quotes_them() {
        assert_eq!(
            written("DOM\\al\"ice", Format::Curl),
            "header = \"X-SLURM-USER-TOKEN: aa.bb.cc\"\nheader = \"X-SLURM-USER-NAME: DOM\\\\al\\\"ice\"\n"
        );
    }

    #[test]
    fn json_for_a_terminal_is_ascii_and_means_the_same() {
        let text = "a\u{7f}\u{9b}2J\u{202e}b😀 \\ \" \u{1b}\n";
        let bytes = json(&text);
        assert_eq!(
            std::str::from_utf8(&bytes).unwrap(),
            "\"a\\u007f\\u009b2J\\u202eb\\ud83d\\ude00 \\\\ \\\" \\u001b\\n\"\n"
        );
        assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), text);
    }

    fn standing_of_alice() -> Standing {
        Standing {
            user: "alice".into(),
            uid: 1000,
            allowed: true,
            refusal: None,
            rule: "rule-2".into(),
            default_lifespan: 1800,
            max_lifespan: 43_200,
            delegate_for_groups: Vec::new(),
            delegate_max_lifespan: None,
            delegate_tokens_per_minute: None,
            delegate_burst: None,
            max_session: Some(604_800),
            kid: "login1\x1b".into(),
        }
    }

    fn told(given: &Standing) -> String {
        String::from_utf8(standing(given).to_vec()).unwrap()
    }

    #[test]
    fn a_standing_is_told_in_words() {
        assert_eq!(
            told(&standing_of_alice()),
            "user         alice (uid 1000)\n\
             token        yes\n\
             lifespan     30m unless you say otherwise, at most 12h\n\
             decided by   rule-2\n\
             refreshed    until 7d after the first token\n\
             signed by    login1\\u{1b}\n"
        );
    }

    #[test]
    fn the_standing_of_a_service_names_the_groups_it_may_ask_for() {
        let groups = vec!["hpcusers".to_owned(), "staff".to_owned()];
        let service = Standing {
            delegate_for_groups: groups,
            delegate_max_lifespan: Some(600),
            delegate_tokens_per_minute: Some(60),
            delegate_burst: Some(10),
            ..standing_of_alice()
        };
        let told = told(&service);
        assert!(
            told.contains(
                "\nmay ask for  members of hpcusers, staff\n\
                 \x20            for 10m at most\n\
                 \x20            60 tokens a minute at most, 10 of them at once\n"
            ),
            "{told}"
        );
    }

    #[test]
    fn the_standing_of_who_gets_nothing_says_why_and_tells_no_lifespans() {
        let refusal = Refusal::new(Code::NotAllowed, "alice is below min_uid.", "Ask them.");
        let refused = Standing {
            allowed: false,
            refusal: Some(refusal),
            default_lifespan: 0,
            max_lifespan: 0,
            ..standing_of_alice()
        };
        assert_eq!(
            told(&refused),
            "user         alice (uid 1000)\n\
             token        no: alice is below min_uid. Ask them.\n\
             decided by   rule-2\n\
             signed by    login1\\u{1b}\n"
        );
    }
}
