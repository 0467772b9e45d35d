//! The program `slurm-token`: asks the daemon for a token and prints it, or
//! hands it to what needs it.
//!
//! ```text
//! args ▶ ask ▶ answer ▶ format ▶ standard output
//!         │               keep ▶ a file
//!         │               run, curl ▶ another program
//!         └─▶ failure ▶ terminal ▶ standard error
//! ```
//!
//! Tokens go to standard output or to what the command line names, and nowhere
//! else; words go to standard error.

/// Is this the token that was asked for. Pure.
mod answer;
/// The command line becomes a `Command`, or a usage error. Pure.
mod args;
/// One question, one answer.
mod ask;
/// What a token says of itself. Pure.
mod bearer;
/// The wall clock.
mod clock;
/// `slurm-token curl`: a request with a token that only curl and the server see.
mod curl;
/// Why there is no token, and the exit status that says so.
mod failure;
/// The ways to write a token. Pure.
mod format;
/// A token that the user has already.
mod given;
/// What `--help` prints.
mod help;
/// `slurm-token inspect`: what is in a token.
mod inspect;
/// `slurm-token keep`: a file that always holds a valid token.
mod keep;
/// `slurm-token run`: a command with a token in its environment.
mod run;
/// Signals that this process takes, and leaves to the programs it starts.
mod signals;
/// Where the daemon listens, and whether it's the daemon that does.
mod socket;
/// Others' text made fit for a terminal, and colours where one is.
mod terminal;
/// `slurm-token verify` and `refresh`: what the daemon says of a token.
mod verify;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Deserialize;

use crate::report::Problem;
use crate::token::moment::Span;
use crate::wire::{Issued, Request, Standing, Whole};
use answer::{Caller, Expected};
use args::{Asking, Command};
use format::Format;

pub use failure::Failure;
pub(crate) use terminal::plain;

/// Runs the program.
pub fn main() -> ExitCode {
    // No core dump and no other process of the same user shows a token. Where
    // the kernel won't have it, the token is as safe as the user's shell.
    let _ = nix::sys::prctl::set_dumpable(false);
    let (verb, command) = args::parse(lexopt::Parser::from_env());
    match command.and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.told(PROGRAM, &verb.with_help()));
            failure.exit_code()
        }
    }
}

/// The name that stands before each line of words.
const PROGRAM: &str = "slurm-token";

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Help(verb) => print(help::of(verb).as_bytes()),
        Command::Version => {
            print(concat!("slurm-token ", env!("CARGO_PKG_VERSION"), "\n").as_bytes())
        }
        Command::Token { asking, format } => {
            let issued = get(&asking)?;
            print(&format::token(&issued, format))?;
            if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
                hint(&issued, format);
            }
            Ok(())
        }
        Command::Keep { asking, keeping } => keep::keep(&asking, &keeping),
        Command::Curl { asking, call } => curl::curl(&asking, &call),
        Command::Run { asking, words } => Err(run::run(&words, &get(&asking)?)),
        Command::Inspect {
            source,
            expected,
            json,
        } => inspect::inspect(&source, expected.as_deref(), json),
        Command::Verify {
            daemon,
            source,
            expected,
            json,
        } => verify::verify(&daemon, &source, expected.as_deref(), json),
        Command::Refresh {
            daemon,
            source,
            format,
        } => print(&format::token(&verify::refresh(&daemon, &source)?, format)),
        Command::Whoami { daemon, json } => {
            let answer: Whole<Standing> = daemon.ask(&Request::Whoami)?;
            print(&if json {
                format::json(&answer.all)
            } else {
                format::standing(&answer.known)
            })
        }
    }
}

/// The daemon's answer to a request of another program's.
pub(crate) fn ask<T: for<'de> Deserialize<'de>>(
    socket: &Path,
    request: &Request,
) -> Result<T, Failure> {
    ask::ask(socket, request)
}

/// A new token, and the one that was asked for.
fn get(asking: &Asking) -> Result<Issued, Failure> {
    let request = Request::Issue {
        lifespan: asking.lifespan.clone(),
        target: asking.target.clone(),
    };
    let issued: Issued = asking.daemon.ask(&request)?;
    let expected = asking.target.as_deref().map_or_else(
        || Expected::Caller(Caller::of_this_process()),
        Expected::Named,
    );
    answer::check(&issued, &expected)?;
    Ok(issued)
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

/// For people who see a token on their terminal: how long it's good for, and
/// where it is meant to go.
fn hint(issued: &Issued, format: Format) {
    let left = Span(issued.expires_at.saturating_sub(clock::now()));
    let to = match format {
        Format::Env => "export $(slurm-token)",
        _ => "slurm-token --help",
    };
    warn(&[
        format!(
            "This token of {} is valid for {left}; whoever sees it can use it.",
            issued.user
        ),
        format!("Not to see it, and to have it where it's needed: {to}"),
    ]);
}

/// Words that change nothing about what is done.
fn warn(lines: &[String; 2]) {
    let [what, remedy] = lines.each_ref().map(|line| terminal::plain(line));
    say(&format!("{PROGRAM}: {what}\n{PROGRAM}: {remedy}\n"));
}

/// Lines to standard error, each behind the program's name. Where standard
/// error is gone too, the exit status still speaks.
fn say(lines: &str) {
    let mut stderr = std::io::stderr();
    let told = if terminal::has_colours(&stderr) {
        terminal::coloured(lines, PROGRAM)
    } else {
        lines.to_owned()
    };
    let _ = stderr.write_all(told.as_bytes());
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
