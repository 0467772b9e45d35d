use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};

use zeroize::Zeroizing;

use super::failure::Failure;
use super::run::VARIABLE;
use super::warn;
use crate::report::Problem;
use crate::token::compact::MAX_FOREIGN_TOKEN;

/// Where a token is to come from.
#[derive(Debug, PartialEq)]
pub(super) enum Source {
    /// `SLURM_JWT`.
    Environment,
    /// `-`.
    StandardInput,
    /// The command line.
    Argument(OsString),
}

impl Source {
    /// The token, without what `--format` or a header puts around it.
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let text = match self {
            Self::Environment => Zeroizing::new(
                std::env::var_os(VARIABLE)
                    .ok_or_else(|| {
                        Failure::Usage(format!(
                            "there is no token: {VARIABLE} is not set; give one on standard \
                             input, and - for its name"
                        ))
                    })?
                    .into_encoded_bytes(),
            ),
            Self::StandardInput => standard_input().map_err(Failure::Failed)?,
            Self::Argument(argument) => Zeroizing::new(argument.as_encoded_bytes().to_vec()),
        };
        Ok(Zeroizing::new(alone(&text).to_vec()))
    }
}

/// The token in a text that has it in one of the ways in which it's written.
fn alone(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii();
    for around in ["export ", "SLURM_JWT=", "X-SLURM-USER-TOKEN: "] {
        text = text.strip_prefix(around.as_bytes()).unwrap_or(text);
    }
    // Of the lines of headers, the first.
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    line.trim_ascii()
}

fn standard_input() -> Result<Zeroizing<Vec<u8>>, Problem> {
    /// Room for what stands around the token.
    const ROOM: usize = 1024;
    let mut stdin = io::stdin();
    if stdin.is_terminal() {
        warn(&[
            "Paste the token.".to_owned(),
            "Then press Enter and Ctrl-D".to_owned(),
        ]);
    }
    // All at once: a vector that grows leaves copies of its bytes behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FOREIGN_TOKEN + ROOM));
    let limit = u64::try_from(MAX_FOREIGN_TOKEN + ROOM).unwrap_or(u64::MAX);
    Read::take(&mut stdin, limit)
        .read_to_end(&mut bytes)
        .map_err(|e| {
            let what = format!("can't be read: {e}");
            Problem::new("standard input", what, "look where it comes from")
        })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::format::{self, Format};
    use super::*;
    use crate::wire::Issued;

    #[test]
    fn a_token_is_read_in_the_ways_in_which_it_is_written() {
        let issued = Issued {
            token: "aa.bb.cc".into(),
            user: "alice".into(),
            expires_at: 1,
            kid: "login1".into(),
            jti: "7f".into(),
        };
        for format in [Format::Raw, Format::Env, Format::Export, Format::Header] {
            let written = format::token(&issued, format);
            assert_eq!(alone(&written), b"aa.bb.cc", "{}", format.name());
        }
        assert_eq!(alone(b" aa.bb.cc\r\n"), b"aa.bb.cc");
    }
}
