//! `slurm-tokenctl token`.

#![allow(
    clippy::doc_markdown,
    reason = "clap shows what stands over a command or an option as it is"
)]

mod inspect;
mod sign;
mod verify;

use std::io::{self, IsTerminal, Read};

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{Failure, say};
use crate::keys::file::Trust;
use crate::report::Problem;
use crate::token::compact::MAX_FOREIGN_TOKEN;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Sign a token for any user, past the daemon: for root only, and on record
    ///
    /// The policy's limits of lifespans and of who may ask don't bind root
    /// here. Whom no token may name does: a name that slurmctld would take for
    /// somebody else, root, SlurmUser, whom deny_users lists and whom this
    /// node's daemon has blocked.
    Sign(sign::Sign),
    /// Say whether a token is genuine and valid
    ///
    /// Exit status 0 means that it is. Everybody on this machine can read
    /// arguments: rather give a token on standard input.
    Verify(verify::Verify),
    /// Show what is in a token, and what Slurm would say to it, without any key
    ///
    /// Exit status 0 means that all releases of Slurm accept it, if they know
    /// its key. Everybody on this machine can read arguments: rather give a
    /// token on standard input.
    Inspect(inspect::Inspect),
}

pub(super) fn run(command: Command, slurm_user: &str, trust: &Trust) -> Result<(), Failure> {
    match command {
        Command::Sign(sign) => sign.run(slurm_user),
        Command::Verify(verify) => verify.run(slurm_user, trust),
        Command::Inspect(inspect) => inspect.run(),
    }
}

/// A token as somebody hands it over.
#[derive(Args)]
struct Given {
    /// The token; without it, or with -, it's read from standard input, where
    /// SLURM_JWT= may stand before it
    // All that stands there is taken, so that no word about too many repeats one.
    #[arg(value_name = "TOKEN|-", num_args = 0..)]
    tokens: Vec<String>,
}

impl Given {
    /// The token's bytes; what stands around it on standard input is left out.
    fn read(self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut tokens = self.tokens.into_iter();
        match (tokens.next(), tokens.next()) {
            (_, Some(_)) => Err(Failure::Usage("there is more than one token".into())),
            (Some(token), None) if token != "-" => Ok(Zeroizing::new(token.into_bytes())),
            _ => Ok(from_standard_input()?),
        }
    }
}

fn from_standard_input() -> Result<Zeroizing<Vec<u8>>, Problem> {
    /// Room for a name before the token and white space around it.
    const ROOM: usize = 256;
    let stdin = io::stdin();
    if stdin.is_terminal() {
        say(format_args!(
            "Paste the token, then press Enter and Ctrl-D."
        ));
    }
    // Read in one piece: a vector that grows leaves copies of its bytes behind.
    let mut bytes = Zeroizing::new(vec![0; MAX_FOREIGN_TOKEN + ROOM]);
    let mut length = 0;
    let mut stdin = stdin.lock();
    while length < bytes.len() {
        match stdin.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(Problem::new(
                    "standard input",
                    format!("it can't be read: {e}"),
                    "look where it comes from",
                ));
            }
        }
    }
    let text = bytes[..length].trim_ascii();
    let token = text.strip_prefix(b"SLURM_JWT=").unwrap_or(text);
    Ok(Zeroizing::new(token.to_vec()))
}
