//! The program `slurm-token`: asks the daemon for a token and prints it.
//!
//! ```text
//! args ▶ socket ▶ ask ▶ answer ▶ format ▶ standard output
//!          └───────┴──────┴─────▶ failure ▶ terminal ▶ standard error
//! ```
//!
//! Tokens go to standard output and nowhere else; words go to standard error.

/// Is this the token that was asked for. Pure.
mod answer;
/// The command line becomes a `Command`, or a usage error. Pure.
mod args;
/// One question, one answer.
mod ask;
/// Why there is no token, and the exit status that says so.
mod failure;
/// The ways to write a token. Pure.
mod format;
/// Where the daemon listens, and whether it's the daemon that does.
mod socket;
/// Others' text made fit for a terminal. Pure.
mod terminal;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::report::Problem;
use crate::wire::{Issued, Request, Standing};
use answer::{Caller, Expected};
use args::Command;

pub use failure::Failure;

/// Runs the program.
pub fn main() -> ExitCode {
    // No core dump and no other process of the same user shows a token. Where
    // the kernel won't have it, the token is as safe as the user's shell.
    let _ = nix::sys::prctl::set_dumpable(false);
    match args::parse(lexopt::Parser::from_env()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error is gone too, the exit status still speaks.
            let _ = std::io::stderr().write_all(failure.told_by("slurm-token").as_bytes());
            failure.exit_code()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Help => print(args::HELP.as_bytes()),
        Command::Version => {
            print(concat!("slurm-token ", env!("CARGO_PKG_VERSION"), "\n").as_bytes())
        }
        Command::Token {
            socket,
            lifespan,
            target,
            format,
        } => {
            let request = Request::Issue {
                lifespan,
                target: target.clone(),
            };
            let issued: Issued = ask::ask(&socket.path(), &request)?;
            let expected = target.as_deref().map_or_else(
                || Expected::Caller(Caller::of_this_process()),
                Expected::Named,
            );
            answer::check(&issued, &expected)?;
            print(&format::token(&issued, format))
        }
        Command::Whoami { socket, json } => {
            let standing: Standing = ask::ask(&socket.path(), &Request::Whoami)?;
            print(&if json {
                format::json(&standing)
            } else {
                format::standing(&standing)
            })
        }
    }
}

/// The daemon's public keys, as the JWKS that it answers.
pub fn jwks(socket: &Path) -> Result<serde_json::Value, Failure> {
    ask::ask(socket, &Request::Jwks)
}

/// What the daemon's policy gives the caller, and the kid that it signs with.
pub fn standing(socket: &Path) -> Result<Standing, Failure> {
    ask::ask(socket, &Request::Whoami)
}

/// The socket that a program asks when its command line names none.
pub fn usual_socket() -> PathBuf {
    socket::Choice::Usual.path()
}

/// Past the standard library's buffer, which would keep a copy of the token
/// and holds back errors.
fn print(mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match nix::unistd::write(std::io::stdout(), bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => {
                return Err(Failure::Failed(Problem::new(
                    "standard output",
                    format!("can't be written: {}", errno.desc()),
                    "what was printed is incomplete, don't use it",
                )));
            }
        }
    }
    Ok(())
}
