//! What is in a token, told without any key: nobody is asked.

use super::clock;
use super::failure::Failure;
use super::format;
use super::given::Source;
use super::terminal::plain;
use super::{print, warn};
use crate::report::Problem;
use crate::token::inspection::Inspection;

/// Tells of a token; it's a failure where Slurm refuses it, or takes its
/// bearer for another than was expected.
pub(super) fn inspect(source: &Source, expected: Option<&str>, json: bool) -> Result<(), Failure> {
    let token = source.read()?;
    if matches!(source, Source::Argument(_)) {
        warn(&[
            "Everybody on this machine can read a token on a command line.".to_owned(),
            "Rather give it on standard input: slurm-token inspect -".to_owned(),
        ]);
    }
    let inspection = Inspection::of(&token, clock::now());
    if json {
        print(&format::json(&inspection.report()))?;
    } else {
        let told = inspection.in_words("slurm-token verify");
        let told = told.map_err(|malformed| {
            let (what, remedy) = (malformed.what(), malformed.remedy());
            Failure::Failed(Problem::new("the token", what, remedy))
        })?;
        let lines = told.lines().flat_map(|line| [plain(line), "\n".to_owned()]);
        print(lines.collect::<String>().as_bytes())?;
    }
    match (expected, inspection.user()) {
        (Some(expected), user) if user != Some(expected) => {
            Err(Failure::of_another(expected, user))
        }
        _ if inspection.is_accepted() => Ok(()),
        _ => Err(Failure::Findings),
    }
}
