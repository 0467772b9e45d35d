//! `slurm-tokenctl policy test`: what the daemon would decide, without a token.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::site::{Site, no_account, no_directory};
use super::{Failure, asked, print};
use crate::account::{self, Account, GroupNames};
use crate::client::plain;
use crate::keys::Kid;
use crate::policy::{Grant, Names, Policy};
use crate::report::Problem;
use crate::token::lifespan::{Asked, Lifespan};
use crate::wire::Refusal;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Say what a user would get, and by which rule; no token is made
    ///
    /// Accounts and groups are looked up as the daemon does it. Exit status 0
    /// means that the user would get a token. Blocks and rates are not looked
    /// at: slurm-tokenctl sessions says who is blocked.
    Test(Test),
}

#[derive(Args)]
pub(super) struct Test {
    /// Who would ask
    #[arg(value_name = "USER")]
    user: String,
    /// For whom the user would ask, as a service does
    #[arg(long = "for", value_name = "USER")]
    target: Option<String>,
    /// For how long: 30m, 12h, 1-00:00:00, seconds, or max
    #[arg(long, value_name = "LIFESPAN", value_parser = asked)]
    lifespan: Option<Asked>,
    /// The daemon's configuration [default: the one that the daemon reads]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What would be decided, as `--json` prints it.
#[derive(Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Granted {
        allowed: bool,
        user: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        delegate: Option<&'a str>,
        rule: String,
        /// Seconds, like the next.
        lifespan: u32,
        max_lifespan: u32,
        identity_claims: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        issuer: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        audience: Option<&'a str>,
        /// None where it is the key of `[signing]`.
        #[serde(skip_serializing_if = "Option::is_none")]
        kid: Option<&'a str>,
    },
    Refused {
        allowed: bool,
        error: &'a Refusal,
    },
}

pub(super) fn run(command: Command, slurm_user: &str) -> Result<(), Failure> {
    let Command::Test(test) = command;
    test.run(slurm_user)
}

impl Test {
    fn run(&self, slurm_user: &str) -> Result<(), Failure> {
        let site = Site::read(self.config.as_deref(), slurm_user)?;
        // Without one the daemon would not run, and its defaults decide nothing.
        if !site.is_configured {
            return Err(Problem::at(
                &site.config.path,
                "there is no configuration, so there is no policy to test",
                "name one with --config FILE",
            )
            .into());
        }
        let decided = self.decide(&site)?;
        let told = if self.json {
            json(&decided)?
        } else {
            words(&decided)
        };
        print(&told)?;
        match decided {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::Findings),
        }
    }

    /// Decides by the steps of the daemon, in their order: names are judged and
    /// the delegate is known before anybody is looked up for it.
    fn decide(&self, site: &Site) -> Result<Result<(Grant, Lifespan), Refusal>, Problem> {
        let policy = &site.config.policy;
        let names = site.names()?;
        let Some(caller) = look_up(policy, &self.user)? else {
            return Ok(Err(no_account(&self.user)));
        };
        let target = match &self.target {
            Some(name) if *name != caller.name => {
                let may_ask = policy.judge(name).and_then(|()| policy.delegate(&caller));
                if let Err(refusal) = may_ask {
                    return Ok(Err(refusal));
                }
                let Some(target) = look_up(policy, name)? else {
                    return Ok(Err(no_account(name)));
                };
                Some(target)
            }
            _ => None,
        };
        let asked = self.lifespan.unwrap_or(Asked::Default);
        Ok(decide(policy, &names, &caller, target.as_ref(), asked))
    }
}

/// The grant, and the longest lifespan that could be asked for instead.
fn decide(
    policy: &Policy,
    names: &Names,
    caller: &Account,
    target: Option<&Account>,
    asked: Asked,
) -> Result<(Grant, Lifespan), Refusal> {
    let grant = policy.decide(names, caller, target, asked)?;
    let longest = policy.decide(names, caller, target, Asked::Max)?;
    Ok((grant, longest.lifespan()))
}

fn look_up(policy: &Policy, name: &str) -> Result<Option<Account>, Problem> {
    let names = GroupNames::if_carried(policy.needs_group_names());
    account::by_name(name, names).map_err(|errno| no_directory(name, errno))
}

fn json(decided: &Result<(Grant, Lifespan), Refusal>) -> Result<String, Problem> {
    let told = match decided {
        Ok((grant, max_lifespan)) => Told::Granted {
            allowed: true,
            user: grant.subject(),
            delegate: grant.delegate(),
            rule: grant.ruling().to_string(),
            lifespan: grant.lifespan().seconds(),
            max_lifespan: max_lifespan.seconds(),
            identity_claims: grant.identity().is_some(),
            issuer: grant.issuer(),
            audience: grant.audience(),
            kid: grant.kid().map(Kid::as_str),
        },
        Err(error) => Told::Refused {
            allowed: false,
            error,
        },
    };
    match serde_json::to_string(&told) {
        Ok(text) => Ok(text + "\n"),
        Err(e) => Err(Problem::new(
            "policy test",
            e.to_string(),
            "leave --json out",
        )),
    }
}

fn words(decided: &Result<(Grant, Lifespan), Refusal>) -> String {
    match decided {
        Ok((grant, max)) => {
            let service = grant.delegate().map_or_else(String::new, |delegate| {
                format!(" through {}", plain(delegate))
            });
            let key = grant
                .kid()
                .map_or_else(String::new, |kid| format!(", signed with kid {kid}"));
            let claims = if grant.identity().is_some() {
                ", with identity claims"
            } else {
                ""
            };
            format!(
                "{}{service} gets a token of {}, {max} at most (rule {}){claims}{key}.\n",
                plain(grant.subject()),
                grant.lifespan(),
                grant.ruling(),
            )
        }
        Err(refusal) => format!(
            "{}: {} {}\n",
            refusal.code,
            plain(&refusal.message),
            plain(&refusal.help)
        ),
    }
}
