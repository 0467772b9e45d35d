use std::process::ExitCode;
use std::time::Duration;

use super::terminal::plain;
use crate::report::Problem;
use crate::wire::{Code, Refusal};

/// Why there is no token.
#[derive(Debug)]
pub enum Failure {
    /// The answer, or standard output, is no good: exit status 1.
    Failed(Problem),
    /// The command line can't be understood: exit status 2.
    Usage(String),
    /// No daemon that may be trusted took the question and answered it: exit
    /// status 3. Asking again later may help.
    NotReached(Problem),
    /// What was looked into is not as it has to be, and that was told already:
    /// exit status 1.
    Findings,
    /// The daemon says no: exit status 4.
    Refused(Refusal),
    /// The command to run is there and can't be run: exit status 126, as with
    /// env(1).
    NotRun(Problem),
    /// There is no command of this name: exit status 127, as with env(1).
    NoCommand(Problem),
}

impl Failure {
    /// A token is not that of the user who was expected.
    pub(super) fn of_another(expected: &str, user: Option<&str>) -> Self {
        let what = match user {
            Some(user) => format!("is {user}'s, and not {expected}'s"),
            None => format!("is not {expected}'s"),
        };
        let remedy = format!("{expected} gets one with: slurm-token");
        Self::Failed(Problem::new("the token", what, remedy))
    }

    /// The exit status that says it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) | Self::Findings => 1,
            Self::Usage(_) => 2,
            Self::NotReached(_) => 3,
            Self::Refused(_) => 4,
            Self::NotRun(_) => 126,
            Self::NoCommand(_) => 127,
        })
    }

    /// After which pause it may help to ask again, if it may.
    pub(super) fn worth_asking_again(&self) -> Option<Duration> {
        /// Where nobody says how long.
        const PAUSE: Duration = Duration::from_secs(1);
        match self {
            Self::NotReached(_) => Some(PAUSE),
            Self::Refused(refusal) => {
                let said = refusal
                    .retry_after
                    .map(|seconds| Duration::from_secs(seconds.into()).max(PAUSE));
                match refusal.code {
                    Code::Busy
                    | Code::RateLimited
                    | Code::Timeout
                    | Code::AuditUnavailable
                    | Code::ShuttingDown => said.or(Some(PAUSE)),
                    Code::Unknown => said,
                    _ => None,
                }
            }
            Self::Failed(_)
            | Self::Findings
            | Self::Usage(_)
            | Self::NotRun(_)
            | Self::NoCommand(_) => None,
        }
    }

    /// The lines that tell it, fit for a terminal, each behind the program's
    /// name: what happened, and where that's a matter of its own, what to do.
    pub fn told_by(&self, program: &str) -> String {
        self.told(program, program)
    }

    /// The same, where `command` is what has a help of its own.
    pub(super) fn told(&self, program: &str, command: &str) -> String {
        let (what, remedy) = match self {
            Self::Failed(problem)
            | Self::NotReached(problem)
            | Self::NotRun(problem)
            | Self::NoCommand(problem) => (
                format!("{}: {}", problem.place, problem.what),
                problem.remedy.clone(),
            ),
            Self::Findings => (String::new(), String::new()),
            Self::Usage(what) => (what.clone(), format!("see {command} --help")),
            Self::Refused(refusal) => (refusal.message.clone(), help(refusal)),
        };
        [what, remedy]
            .iter()
            .filter(|line| !line.is_empty())
            .fold(String::new(), |told, line| {
                told + program + ": " + &plain(line) + "\n"
            })
    }
}

/// The daemon's help speaks to every kind of client; where this one has an
/// option for it, it says so.
fn help(refusal: &Refusal) -> String {
    match (refusal.code, refusal.max_lifespan) {
        (Code::LifespanTooLong, Some(most)) => {
            format!(
                "Your limit is {}: try --lifespan max.",
                super::format::duration(most)
            )
        }
        _ => refusal.help.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_happened_and_what_to_do() {
        let refusal = Refusal::new(
            Code::Blocked,
            "An administrator blocked alice.",
            "Ask them.",
        );
        assert_eq!(
            Failure::Refused(refusal).told_by("slurm-token"),
            "slurm-token: An administrator blocked alice.\nslurm-token: Ask them.\n"
        );
    }

    #[test]
    fn a_lifespan_above_the_limit_names_the_option_that_gives_the_limit() {
        let mut refusal = Refusal::new(Code::LifespanTooLong, "24h is too long.", "Ask for less.");
        refusal.max_lifespan = Some(43200);
        assert_eq!(
            Failure::Refused(refusal).told_by("slurm-token"),
            "slurm-token: 24h is too long.\nslurm-token: Your limit is 12h: try --lifespan max.\n"
        );
    }

    #[test]
    fn a_code_of_a_newer_release_is_worth_asking_again_where_it_says_when() {
        let mut refusal = Refusal::new(Code::Unknown, "No.", "Wait.");
        let again = |refusal: &Refusal| Failure::Refused(refusal.clone()).worth_asking_again();
        assert_eq!(again(&refusal), None);
        refusal.retry_after = Some(7);
        assert_eq!(again(&refusal), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_message_from_outside_stays_on_its_line() {
        let refusal = Refusal::new(Code::Internal, "a\nSLURM_JWT=x\x1b[2J", "");
        assert_eq!(
            Failure::Refused(refusal).told_by("slurm-token"),
            "slurm-token: a\\nSLURM_JWT=x\\u{1b}[2J\n"
        );
    }
}
