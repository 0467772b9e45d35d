//! `slurm-tokenctl token inspect`.

use clap::Args;

use super::Given;
use crate::admin::{Failure, print};
use crate::daemon::unix_now;
use crate::report::Problem;
use crate::token::inspection::Inspection;

#[derive(Args)]
pub(in crate::admin) struct Inspect {
    #[command(flatten)]
    given: Given,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(in crate::admin) fn run(self) -> Result<(), Failure> {
        let json = self.json;
        let token = self.given.read()?;
        let inspection = Inspection::of(&token, unix_now());
        let told = if json {
            // Strings, lists and JSON: nothing that JSON can't hold.
            serde_json::to_string(&inspection.report()).unwrap_or_default() + "\n"
        } else {
            inspection
                .in_words("slurm-tokenctl token verify")
                .map_err(|malformed| {
                    Problem::new("the token", malformed.what(), malformed.remedy())
                })?
        };
        print(&told)?;
        if inspection.is_accepted() {
            Ok(())
        } else {
            Err(Failure::Findings)
        }
    }
}
