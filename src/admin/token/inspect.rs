//! `slurm-tokenctl token inspect`.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::Given;
use crate::admin::{Failure, print};
use crate::daemon::unix_now;
use crate::keys::json::Json;
use crate::report::Problem;
use crate::token::compact::Compact;
use crate::token::moment::{Away, Utc};
use crate::token::slurm::{Bearer, Fate, Opinion, judge};

#[derive(Args)]
pub(in crate::admin) struct Inspect {
    #[command(flatten)]
    given: Given,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The shape of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    header: Option<&'a Json>,
    claims: Option<&'a Json>,
    /// For whom Slurm takes the token's bearer: a user, or a uid.
    user: Option<&'a str>,
    uid: Option<u32>,
    slurm_22_05: &'static str,
    slurm_26_05: &'static str,
    obstacles: Vec<&'a str>,
    remarks: &'a [String],
}

impl Inspect {
    pub(in crate::admin) fn run(self) -> Result<(), Failure> {
        let json = self.json;
        let token = self.given.read()?;
        let compact = Compact::read_foreign(&token);
        let now = unix_now();
        let opinion = judge(&token, now);
        print(&match compact {
            compact if json => as_json(compact.as_ref().ok(), &opinion),
            Ok(compact) => in_words(&compact, &opinion, now),
            Err(malformed) => {
                let problem = Problem::new("the token", malformed.what(), malformed.remedy());
                return Err(problem.into());
            }
        })?;
        if opinion.obstacles.is_empty() {
            Ok(())
        } else {
            Err(Failure::Findings)
        }
    }
}

fn as_json(compact: Option<&Compact<'_>>, opinion: &Opinion) -> String {
    let word = |fate| match fate {
        Fate::Accepts => "accepts",
        Fate::NotTried => "not_tried",
        Fate::Refuses => "refuses",
    };
    let report = Report {
        header: compact.map(|compact| &compact.header),
        claims: compact.map(|compact| &compact.claims),
        user: match &opinion.bearer {
            Some(Bearer::User(name)) => Some(name),
            _ => None,
        },
        uid: match opinion.bearer {
            Some(Bearer::Uid(uid)) => Some(uid),
            _ => None,
        },
        slurm_22_05: word(opinion.slurm_22_05()),
        slurm_26_05: word(opinion.slurm_26_05()),
        obstacles: opinion.obstacles.iter().map(|o| o.what.as_str()).collect(),
        remarks: &opinion.remarks,
    };
    // Strings, lists and JSON: nothing that JSON can't hold.
    serde_json::to_string(&report).unwrap_or_default() + "\n"
}

fn in_words(compact: &Compact<'_>, opinion: &Opinion, now: u64) -> String {
    let mut text = format!(
        "header {}\nclaims {}\n\n",
        compact.header.to_ascii(),
        compact.claims.to_ascii()
    );
    for (claim, meaning) in [
        ("auth_time", "first of its chain"),
        ("iat", "made"),
        ("nbf", "valid from"),
        ("exp", "valid until"),
    ] {
        if let Some(Json::Number(number)) = compact.claims.last_member(claim)
            && let Some(time) = number.as_u64()
        {
            let away = Away { time, now };
            let _ = writeln!(text, "{meaning}: {} ({away})", Utc(time));
        }
    }
    if let Some(bearer) = &opinion.bearer {
        let _ = writeln!(text, "Slurm takes its bearer for {bearer}");
    }
    for obstacle in &opinion.obstacles {
        let _ = writeln!(
            text,
            "Slurm 22.05 {}, 26.05 {}: {}",
            obstacle.slurm_22_05, obstacle.slurm_26_05, obstacle.what
        );
    }
    if opinion.obstacles.is_empty() {
        text.push_str("Slurm 22.05 and 26.05 accept it, if they know its key\n");
    }
    for remark in &opinion.remarks {
        let _ = writeln!(text, "note: {remark}");
    }
    text.push_str("Its signature was not checked: slurm-tokenctl token verify does that\n");
    text
}
