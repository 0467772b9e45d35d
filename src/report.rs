//! What went wrong, where, and what to do about it.

use std::fmt;
use std::path::Path;

/// One problem, told so that its reader can mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a path, or a path and line such as `/etc/slurm/slurm-tokend.toml:12`.
    pub place: String,
    /// What happened, in a sentence without its full stop.
    pub what: String,
    /// What to do: a command, or a sentence without its full stop.
    pub remedy: String,
}

impl Problem {
    /// A problem at `place`.
    pub fn new(
        place: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// A problem with a file.
    pub fn at(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(path.display().to_string(), what, remedy)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.what, self.remedy)
    }
}

/// Problems found together, told together. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
