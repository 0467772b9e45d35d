//! A command with a token in its environment, and in no other: this process
//! becomes the command, so that signals, terminal and exit status are its own.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::bearer::Bearer;
use super::failure::Failure;
use super::{clock, warn};
use crate::report::Problem;
use crate::token::moment::Span;
use crate::wire::Issued;

/// Where Slurm's commands look for a token.
pub(super) const VARIABLE: &str = "SLURM_JWT";

/// Becomes the command; comes back only if that fails.
pub(super) fn run(words: &[OsString], issued: &Issued) -> Failure {
    let Some((program, arguments)) = words.split_first() else {
        return Failure::Usage("run needs a command".into());
    };
    if let Some(present) = std::env::var_os(VARIABLE)
        && let Some(warning) = about_the_present(&present, &issued.user, clock::now())
    {
        warn(&warning);
    }
    if let Some(warning) = about_the_program(program) {
        warn(&warning);
    }
    // The whole environment is handed over as it is; memory that held the
    // token is this process's, which ends by becoming the command.
    let error = Command::new(program)
        .args(arguments)
        .env(VARIABLE, &issued.token)
        .exec();
    not_run(program, &error)
}

/// Why a program isn't run, with the exit status that env(1) and shells give.
pub(super) fn not_run(program: &OsStr, error: &std::io::Error) -> Failure {
    let place = Path::new(program);
    if error.kind() == ErrorKind::NotFound {
        let what = "there is no such command";
        let remedy = "see that its name is right and its directory in PATH";
        Failure::NoCommand(Problem::at(place, what, remedy))
    } else {
        let what = format!("can't be run: {error}");
        let remedy = "see that it is a program, and that you may execute it";
        Failure::NotRun(Problem::at(place, what, remedy))
    }
}

/// What is wrong with a token that was in the environment already: the command
/// gets a fresh one, but whatever else is started here doesn't.
fn about_the_present(present: &OsStr, user: &str, now: u64) -> Option<[String; 2]> {
    let what = match present.to_str().and_then(Bearer::read) {
        None => "holds no token".to_owned(),
        Some(bearer) if bearer.sun != user => format!("holds a token of {}", bearer.sun),
        Some(Bearer { exp: Some(exp), .. }) if exp < now => {
            format!("holds a token that expired {} ago", Span(now - exp))
        }
        Some(_) => return None,
    };
    Some([
        format!("{VARIABLE} in your environment {what}; this command gets a new one."),
        format!("Other commands still take the old one: unset {VARIABLE}"),
    ])
}

/// What a token in the environment breaks.
fn about_the_program(program: &OsStr) -> Option<[String; 2]> {
    match Path::new(program).file_name()?.to_str()? {
        "srun" => Some([
            format!("srun does not work with {VARIABLE} set: with Slurm 22.05 the launch fails."),
            "Run it as it is, without a token".to_owned(),
        ]),
        "salloc" => Some([
            format!("salloc hands {VARIABLE} on to what it starts."),
            format!("There it breaks srun: begin with unset {VARIABLE}"),
        ]),
        "sbatch" => Some([
            format!("sbatch of Slurm 22.05 hands {VARIABLE} on to the job."),
            "There it breaks srun: let the job's script begin with unset SLURM_JWT".to_owned(),
        ]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const NOW: u64 = 1_795_305_600;

    fn token(claims: &str) -> OsString {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)).into()
    }

    fn warned(present: &OsStr) -> String {
        let [what, _] = about_the_present(present, "alice", NOW).unwrap();
        what
    }

    #[test]
    fn an_own_token_that_lives_is_replaced_without_a_word() {
        let own = token(&format!("{{\"sun\":\"alice\",\"exp\":{NOW}}}"));
        assert_eq!(about_the_present(&own, "alice", NOW), None);
    }

    #[test]
    fn a_stale_token_is_warned_of() {
        let stale = token(&format!("{{\"sun\":\"alice\",\"exp\":{}}}", NOW - 180));
        assert_eq!(
            warned(&stale),
            "SLURM_JWT in your environment holds a token that expired 3 min ago; \
             this command gets a new one."
        );
    }

    #[test]
    fn a_token_of_somebody_else_is_warned_of() {
        let bobs = token(&format!("{{\"sun\":\"bob\",\"exp\":{}}}", NOW + 180));
        assert!(warned(&bobs).contains("holds a token of bob;"));
    }

    #[test]
    fn what_is_no_token_is_warned_of() {
        use std::os::unix::ffi::OsStrExt;
        for no_token in [b"".as_slice(), b"each-request", b"\xff"] {
            assert!(warned(OsStr::from_bytes(no_token)).contains("holds no token;"));
        }
    }

    #[test]
    fn what_a_token_breaks_is_warned_of_by_whatever_path_it_is_named() {
        for (program, warning) in [
            ("srun", "srun does not work"),
            ("/opt/bin/sbatch", "on to the job"),
            ("salloc", "on to what it starts"),
        ] {
            let [what, _] = about_the_program(program.as_ref()).unwrap();
            assert!(what.contains(warning), "{what}");
        }
        assert_eq!(about_the_program("squeue".as_ref()), None);
    }
}
