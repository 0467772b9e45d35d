//! What is asked of the running daemon: `slurm-tokenctl status`, `sessions`,
//! `block`, `unblock` and `metrics`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::{getegid, geteuid};
use serde::{Deserialize, Serialize};

use super::{Failure, print, say, telling};
use crate::client;
use crate::daemon::engine::read_configuration;
use crate::daemon::unix_now;
use crate::keys::store;
use crate::report::Problem;
use crate::token::lifespan::Lifespan;
use crate::wire::{Blocked, Exposition, Metrics, Request, Sessions, Status, Unblocked};

/// Who reads a file of metrics need not be who writes it.
const METRICS_MODE: u32 = 0o644;

/// Which daemon to ask.
#[derive(Args)]
pub(super) struct Which {
    /// Ask at this socket; else at the one in the environment, or the usual one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Ask the daemon of this configuration
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
}

impl Which {
    fn ask<T: for<'de> Deserialize<'de>>(&self, request: &Request) -> Result<T, Failure> {
        let socket = match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(config)) => read_configuration(config)?.socket,
            (None, None) => client::usual_socket(),
        };
        client::ask(&socket, request).map_err(Failure::NoAnswer)
    }
}

#[derive(Args)]
pub(super) struct StatusOf {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(super) struct SessionsOf {
    /// Only this user, by name or uid
    user: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(super) struct ToBlock {
    /// The account's name
    user: String,
    /// For how long, such as 2h or 7d; without it until it's lifted
    #[arg(long = "for", value_name = "TIME")]
    lasting: Option<Lifespan>,
    /// Why, for administrators and the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(super) struct ToUnblock {
    /// The account's name, as it is or as it was blocked, or its uid
    user: String,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(super) struct MetricsOf {
    /// Write them to this file, by rename, in the older text format, which the
    /// textfile collector of Prometheus's node exporter reads
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

impl StatusOf {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let status: Status = self.which.ask(&Request::Status)?;
        if self.json {
            return json(&status);
        }
        Ok(print(&telling::status(&status, unix_now()))?)
    }
}

impl SessionsOf {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let ask = |after| -> Result<Sessions, Failure> {
            let user = self.user.clone();
            self.which.ask(&Request::Sessions { user, after })
        };
        let mut all = ask(None)?;
        // Each answer holds at least one user, and uids only go up.
        while let Some(after) = all.more_after.take() {
            let mut more = ask(Some(after))?;
            all.users.append(&mut more.users);
            all.more_after = more.more_after.filter(|next| *next > after);
        }
        if self.json {
            return json(&all);
        }
        Ok(print(&telling::sessions(
            &all,
            self.user.as_deref(),
            unix_now(),
        ))?)
    }
}

impl ToBlock {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let blocked: Blocked = self.which.ask(&Request::Block {
            user: self.user.clone(),
            duration: self.lasting.map(|time| time.seconds().into()),
            reason: self.reason.clone(),
        })?;
        if self.json {
            return json(&blocked);
        }
        Ok(print(&telling::blocked(&blocked, unix_now()))?)
    }
}

impl ToUnblock {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let user = self.user.clone();
        let unblocked: Unblocked = self.which.ask(&Request::Unblock { user })?;
        if self.json {
            return json(&unblocked);
        }
        Ok(print(&telling::unblocked(&unblocked))?)
    }
}

impl MetricsOf {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let Some(file) = &self.out else {
            let format = Exposition::OpenMetrics;
            let metrics: Metrics = self.which.ask(&Request::Metrics { format })?;
            return Ok(print(&metrics.text)?);
        };
        let format = Exposition::Prometheus;
        let metrics: Metrics = self.which.ask(&Request::Metrics { format })?;
        let directory = open_parent(file)?;
        let own = (geteuid(), getegid());
        store::replace_in(&directory, file, metrics.text.as_bytes(), METRICS_MODE, own)?;
        Ok(())
    }
}

/// The directory of a file that holds no secret, whoever it belongs to: that
/// of the node exporter is below one of Prometheus's.
fn open_parent(file: &Path) -> Result<OwnedFd, Problem> {
    let parent = file.parent().filter(|parent| *parent != Path::new(""));
    let parent = parent.unwrap_or(Path::new("."));
    File::open(parent).map(OwnedFd::from).map_err(|error| {
        Problem::at(
            parent,
            format!("the directory can't be opened: {error}"),
            "name a file in a directory that is there",
        )
    })
}

fn json<T: Serialize>(answer: &T) -> Result<(), Failure> {
    // Answers hold strings, numbers and lists: what JSON is made of.
    let mut text = serde_json::to_string_pretty(answer).unwrap_or_default();
    text.push('\n');
    Ok(print(&text)?)
}

/// The words of an administrator who was refused, on standard error.
pub(super) fn tell(failure: &client::Failure) {
    say(format_args!(
        "{}",
        failure.told_by("slurm-tokenctl").trim_end()
    ));
}
