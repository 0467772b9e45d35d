//! The program `slurm-tokenctl`: makes, publishes and checks keys, looks into
//! tokens, and asks the running daemon what only administrators may.
//!
//! What a script wants goes to standard output, words go to standard error.
//! Exit status: 0 done or all well, 1 failed or findings, 2 wrong usage.

mod daemon;
mod doctor;
mod jwks;
mod key;
mod lint;
mod network;
mod policy;
mod program;
mod rotate;
mod setup;
mod site;
mod telling;
mod token;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::account::{self, GroupNames};
use crate::client;
use crate::keys::file::Trust;
use crate::report::{Problem, Problems};
use crate::token::lifespan::Asked;

/// Makes, publishes and checks the keys of slurm-tokend, and administers the daemon.
#[derive(Parser)]
#[command(name = "slurm-tokenctl", version, after_help = EXAMPLES)]
struct Cli {
    /// The account that slurmctld runs as: it may own keys and their directories
    #[arg(long, global = true, value_name = "NAME", default_value = "slurm")]
    slurm_user: String,
    #[command(subcommand)]
    command: Command,
}

/// The same as on the page.
const EXAMPLES: &str = "\
Examples:
  slurm-tokenctl setup --yes
  slurm-tokenctl key generate --alg RS256 --out /etc/slurm/token-keys/login1.pem
  slurm-tokenctl jwks build --out /etc/slurm/jwks.json /etc/slurm/token-keys/login1.pem
  slurm-tokenctl token sign --sun alice --lifespan 30 | slurm-tokenctl token verify --jwks /etc/slurm/jwks.json
  slurm-tokenctl block alice --for 7d --reason \"ticket 4711\"
  slurm-tokenctl sessions alice";

#[derive(Subcommand)]
enum Command {
    /// Make a key, or show what is public of one
    #[command(subcommand)]
    Key(key::Command),
    /// Make, join and check sets of public keys for slurmctld
    #[command(subcommand)]
    Jwks(jwks::Command),
    /// Set this node up: key, public half, configuration, start; repeatable
    Setup(setup::Setup),
    /// Sign, check and look into single tokens, without the daemon
    #[command(subcommand)]
    Token(token::Command),
    /// Try the daemon's policy
    #[command(subcommand)]
    Policy(policy::Command),
    /// Say how the daemon is
    Status(daemon::StatusOf),
    /// Say who holds tokens, from where, and who is blocked
    ///
    /// Everybody may ask for their own; for others', administrators.
    Sessions(daemon::SessionsOf),
    /// Give a user no more tokens on this node, from now on
    Block(daemon::ToBlock),
    /// Lift a user's block
    Unblock(daemon::ToUnblock),
    /// Print what the daemon has counted
    Metrics(daemon::MetricsOf),
    /// Find what is wrong between a user who asks and a Slurm that accepts
    ///
    /// Exit status 0 means that nothing is; advice alone doesn't change it.
    Doctor(doctor::Doctor),
    /// Replace the key that signs, so that no caller is refused on the way
    Rotate(rotate::Rotate),
}

/// Why a command wasn't done.
enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// Something is wrong with what it names.
    Problems(Problems),
    /// What was looked at isn't as it should be; standard output has told.
    Findings,
    /// The daemon refused, or could not be asked.
    NoAnswer(client::Failure),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problems(problem.into())
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Problems(problems)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    // A crash must not write a key to disk as part of a core file.
    if let Err(errno) = nix::sys::prctl::set_dumpable(false) {
        say(format_args!(
            "slurm-tokenctl: core files can't be turned off: {errno}"
        ));
        return ExitCode::FAILURE;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => return tell(&told),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Findings) => ExitCode::FAILURE,
        Err(Failure::NoAnswer(failure)) => {
            daemon::tell(&failure);
            ExitCode::FAILURE
        }
        Err(Failure::Usage(what)) => tell(&Cli::command().error(ErrorKind::ValueValidation, what)),
        Err(Failure::Problems(Problems(problems))) => {
            for problem in problems {
                say(format_args!("slurm-tokenctl: {problem}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    // Whoever asks the daemon needs no word of the account service.
    let trust = || slurm_uid(&cli.slurm_user).map(Trust::of_process);
    match cli.command {
        Command::Key(command) => {
            let trust = trust()?;
            key::run(command, &trust, &key_owners(&cli.slurm_user, trust)?)
        }
        Command::Jwks(command) => {
            let trust = trust()?;
            jwks::run(command, &trust, &key_owners(&cli.slurm_user, trust)?)
        }
        Command::Setup(setup) => setup.run(&cli.slurm_user, &trust()?),
        Command::Token(command) => token::run(command, &cli.slurm_user, &trust()?),
        Command::Policy(command) => policy::run(command, &cli.slurm_user),
        Command::Status(status) => status.run(),
        Command::Sessions(sessions) => sessions.run(),
        Command::Block(block) => block.run(),
        Command::Unblock(unblock) => unblock.run(),
        Command::Metrics(metrics) => metrics.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Rotate(rotate) => rotate::run(&rotate),
    }
}

/// Who may own a key that is read: for root also the daemon's account. One that
/// stands in a configuration that can't be read isn't trusted.
fn key_owners(slurm_user: &str, trust: Trust) -> Result<Trust, Problem> {
    match site::Site::read(None, slurm_user) {
        Ok(site) => Ok(Trust {
            own_uid: site.key_owners()?.own_uid,
            ..trust
        }),
        Err(_) => Ok(trust),
    }
}

/// The uid of `SlurmUser`, if this machine has that account. Where it hasn't,
/// nothing of `SlurmUser`'s is trusted.
fn slurm_uid(name: &str) -> Result<Option<u32>, Problem> {
    match account::by_name(name, GroupNames::Unneeded) {
        Ok(account) => Ok(account.map(|account| account.uid)),
        Err(errno) => Err(Problem::new(
            name,
            format!("this account can't be looked up: {}", errno.desc()),
            "look at the account service: getent passwd",
        )),
    }
}

/// Reads how long a token is to live.
fn asked(text: &str) -> Result<Asked, String> {
    Asked::parse(text).map_err(|bad| bad.to_string())
}

/// Help, version or wrong usage, in clap's words.
fn tell(told: &clap::Error) -> ExitCode {
    // Nowhere to complain to where this fails.
    let _ = told.print();
    if told.use_stderr() {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}

/// Words for people.
fn say(words: fmt::Arguments<'_>) {
    // Nowhere to complain to where this fails.
    let _ = writeln!(io::stderr(), "{words}");
}

/// What a script wants, all of it or an error.
fn print(text: &str) -> Result<(), Problem> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|e| {
        Problem::at(
            Path::new("standard output"),
            format!("it can't be written to: {e}"),
            "name a file with --out, or look where the output goes",
        )
    })
}
