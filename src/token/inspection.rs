//! What is in a token, and what Slurm would say to it, told without any key.

use std::fmt::Write as _;

use serde::Serialize;

use super::compact::{Compact, Malformed};
use super::moment::{Away, Utc};
use super::slurm::{Bearer, Fate, Opinion, judge};
use crate::keys::json::Json;

/// A token looked into. Its signature is not checked.
pub struct Inspection<'a> {
    compact: Result<Compact<'a>, Malformed>,
    opinion: Opinion,
    now: u64,
}

/// What is told to programs.
#[derive(Serialize)]
pub struct Report<'a> {
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

impl<'a> Inspection<'a> {
    /// Looks into a token. `now` is in seconds since 1970.
    pub fn of(token: &'a [u8], now: u64) -> Self {
        Self {
            compact: Compact::read_foreign(token),
            opinion: judge(token, now),
            now,
        }
    }

    /// Would all releases of Slurm accept it, if they know its key.
    pub fn is_accepted(&self) -> bool {
        self.opinion.obstacles.is_empty()
    }

    /// The user that Slurm takes its bearer for, if it's a name.
    pub fn user(&self) -> Option<&str> {
        match &self.opinion.bearer {
            Some(Bearer::User(name)) => Some(name),
            _ => None,
        }
    }

    /// For JSON; what is no token has neither header nor claims.
    pub fn report(&self) -> Report<'_> {
        let word = |fate| match fate {
            Fate::Accepts => "accepts",
            Fate::NotTried => "not_tried",
            Fate::Refuses => "refuses",
        };
        let opinion = &self.opinion;
        let compact = self.compact.as_ref().ok();
        Report {
            header: compact.map(|compact| &compact.header),
            claims: compact.map(|compact| &compact.claims),
            user: self.user(),
            uid: match opinion.bearer {
                Some(Bearer::Uid(uid)) => Some(uid),
                _ => None,
            },
            slurm_22_05: word(opinion.slurm_22_05()),
            slurm_26_05: word(opinion.slurm_26_05()),
            obstacles: opinion.obstacles.iter().map(|o| o.what.as_str()).collect(),
            remarks: &opinion.remarks,
        }
    }

    /// Lines for people; `verifier` is the command that checks the signature.
    pub fn in_words(&self, verifier: &str) -> Result<String, Malformed> {
        let Self {
            compact,
            opinion,
            now,
        } = self;
        let compact = compact.as_ref().map_err(|malformed| *malformed)?;
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
                let away = Away { time, now: *now };
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
        let _ = writeln!(text, "Its signature was not checked: {verifier} does that");
        Ok(text)
    }
}
