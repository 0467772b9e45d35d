//! Proves with real requests that Slurm accepts a key: one token of an ordinary
//! account, which lives a minute and is on record, must be accepted, and the
//! same token with its signature spoilt must not be. Somebody who doesn't look
//! at tokens at all proves nothing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::node::Node;
use crate::account::{self, GroupNames};
use crate::admin::program::{PATIENCE, run};
use crate::audit::{Event, Outcome};
use crate::caller::{Caller, Door};
use crate::config::Config;
use crate::daemon::{engine, unix_now};
use crate::issue::Issuer;
use crate::keys::format::SigningKey;
use crate::policy::{Names, Policy};
use crate::report::Problem;
use crate::token::lifespan::{Asked, Lifespan};

/// A token that is no use to anybody for long.
const LIFESPAN: Lifespan = Lifespan::from_seconds(60).unwrap();
/// slurmctld answers this for every user, in few bytes, and to nobody else.
const ASKED: &str = "partitions";

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Judge {
    /// slurmrestd, at a URL or a Unix socket.
    Rest { url: String, socket: Option<String> },
    /// slurmctld itself, with this slurm.conf.
    Ctld(String),
}

impl Judge {
    /// Reads the operand of `--check`.
    pub(in crate::admin) fn parse(target: &str) -> Result<Self, String> {
        if let Some(socket) = target.strip_prefix("unix:") {
            let socket = socket.trim_start_matches("//");
            if !socket.starts_with('/') {
                return Err("unix: takes an absolute path, as in unix:/run/slurmrestd.sock".into());
            }
            return Ok(Self::Rest {
                url: "http://localhost".into(),
                socket: Some(socket.into()),
            });
        }
        if target.starts_with("http://") || target.starts_with("https://") {
            return Ok(Self::Rest {
                url: target.trim_end_matches('/').into(),
                socket: None,
            });
        }
        if target.starts_with('/') {
            return Ok(Self::Ctld(target.into()));
        }
        Err(
            "name http://HOST:PORT, unix:/PATH of slurmrestd's socket, or the path of slurm.conf"
                .into(),
        )
    }
}

/// What came of one request.
enum Answer {
    Accepted,
    Refused(String),
}

/// A token of the key for the account `user`, whom the policy must not refuse
/// by name, recorded before anybody has it.
fn token(node: &Node, key: Arc<SigningKey>, user: &str) -> Result<Zeroizing<String>, Problem> {
    let config = &node.config;
    let unknown = |what: String| {
        Problem::new(
            user,
            what,
            "name an ordinary account that Slurm knows: --as USER",
        )
    };
    let account = account::by_name(user, GroupNames::Unneeded)
        .map_err(|errno| unknown(format!("it can't be looked up: {}", errno.desc())))?
        .ok_or_else(|| unknown("there is no such account".into()))?;
    let names = Names {
        slurm_uid: account::uid_of(&config.policy.slurm_user)
            .map_err(|errno| unknown(format!("SlurmUser can't be looked up: {}", errno.desc())))?,
        ..Names::default()
    };
    // Who may have how much doesn't matter here; who may never have any does.
    let policy = Policy {
        allow_privileged: Vec::new(),
        allow_groups: Vec::new(),
        deny_users: Vec::new(),
        rules: Vec::new(),
        delegates: Vec::new(),
        identity_claims: false,
        max_lifespan: LIFESPAN,
        ..config.policy.clone()
    };
    let grant = policy
        .decide(&names, &account, None, Asked::Max)
        .map_err(|refusal| unknown(refusal.message.trim_end_matches('.').to_owned()))?;
    let issuer = Issuer::new(key);
    let failed = || {
        Problem::at(
            &node.file,
            "no token could be signed for the check",
            "check that the kernel's getrandom works",
        )
    };
    let mut token = issuer.issue(&grant, unix_now()).map_err(|_| failed())?;
    let event = Event {
        caller: Caller {
            uid: nix::unistd::getuid().as_raw(),
            pid: nix::unistd::getpid().as_raw(),
            door: Door::Main,
        },
        user: None,
        operation: "rotate-check",
        target: Some(user),
        outcome: Outcome::Granted {
            sun: grant.subject(),
            lifespan: grant.lifespan().seconds(),
            exp: token.exp,
            kid: issuer.key().kid().as_str(),
            jti: &token.jti,
            rule: grant.ruling(),
            replaces: None,
        },
    };
    if let Some(state) = &node.state {
        state.raise_latest_exp(issuer.key().kid(), token.exp, 0)?;
    }
    record(config, &event)?;
    Ok(std::mem::take(&mut token.compact))
}

fn record(config: &Config, event: &Event<'_>) -> Result<(), Problem> {
    engine::recorder(config).record(event).map_err(|why| {
        Problem::new(
            "the audit record",
            format!("it can't be handed over, so no token was made: {why}"),
            "look at the system's log, then try again",
        )
    })
}

/// Proves that Slurm accepts tokens of `key`, or says what it did instead.
pub(in crate::admin) fn prove(
    node: &Node,
    key: Arc<SigningKey>,
    judge: &Judge,
    user: &str,
) -> Result<(), Problem> {
    let kid = key.kid().clone();
    let token = token(node, key, user)?;
    let place = match judge {
        Judge::Rest { url, socket } => socket.clone().unwrap_or_else(|| url.clone()),
        Judge::Ctld(conf) => conf.clone(),
    };
    if let Answer::Refused(said) = ask(judge, &token, user)? {
        return Err(Problem::new(
            place,
            format!("Slurm did not accept a token of the key {kid}: {said}"),
            "publish the key where slurmctld runs, restart it there (slurm-tokenctl rotate status \
             tells how), and try again; slurmctld's log has the reason",
        ));
    }
    if let Answer::Accepted = ask(judge, &spoilt(&token), user)? {
        return Err(Problem::new(
            place,
            "it accepts a token whose signature is broken too, so it doesn't look at tokens and \
             proves nothing",
            "check against the slurmrestd or slurm.conf that your users call",
        ));
    }
    Ok(())
}

/// The same token with another first character in its signature.
fn spoilt(token: &str) -> Zeroizing<String> {
    let (signed, signature) = token.rsplit_once('.').unwrap_or((token, ""));
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let rest = signature.get(1..).unwrap_or_default();
    Zeroizing::new(format!("{signed}.{first}{rest}"))
}

fn ask(judge: &Judge, token: &str, user: &str) -> Result<Answer, Problem> {
    match judge {
        Judge::Rest { url, socket } => {
            let socket = socket.as_deref();
            let root = url.splitn(4, '/').count() < 4;
            let url = if root {
                match newest(url, socket, token, user)? {
                    Ok(path) => format!("{url}{path}"),
                    Err(refused) => return Ok(Answer::Refused(refused)),
                }
            } else {
                url.clone()
            };
            let (status, _) = get(&url, socket, token, user)?;
            Ok(if status == "200" {
                Answer::Accepted
            } else {
                Answer::Refused(format!("{url} gave HTTP status {status}"))
            })
        }
        Judge::Ctld(conf) => squeue(conf, token, user),
    }
}

/// The path to ask at, of the newest version that this slurmrestd serves.
fn newest(
    url: &str,
    socket: Option<&str>,
    token: &str,
    user: &str,
) -> Result<Result<String, String>, Problem> {
    let url = format!("{url}/openapi/v3");
    let (status, body) = get(&url, socket, token, user)?;
    let paths: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let wanted = format!("/{ASKED}");
    let versioned = |path: &String| {
        let path = path.trim_end_matches('/');
        path.starts_with("/slurm/v") && path.ends_with(&wanted) && path.split('/').count() == 4
    };
    let newest = paths["paths"]
        .as_object()
        .into_iter()
        .flat_map(|paths| paths.keys().cloned())
        .filter(versioned)
        .max();
    Ok(newest
        .map(|path| path.trim_end_matches('/').to_owned())
        .ok_or(format!("{url} gave HTTP status {status}")))
}

/// One request by curl, which gets the token through its standard input: its
/// arguments are anybody's to read.
fn get(
    url: &str,
    socket: Option<&str>,
    token: &str,
    user: &str,
) -> Result<(String, Vec<u8>), Problem> {
    let mut curl = Command::new("curl");
    curl.args(["--disable", "--silent", "--show-error", "--noproxy", "*"])
        .args(["--max-time", &PATIENCE.as_secs().to_string()])
        .args(["--write-out", "\n%{http_code}", "--config", "-"]);
    if let Some(socket) = socket {
        curl.args(["--unix-socket", socket]);
    }
    curl.args(["--", url]).stdin(Stdio::piped());
    let headers = Zeroizing::new(format!(
        "header = \"X-SLURM-USER-NAME: {user}\"\nheader = \"X-SLURM-USER-TOKEN: {token}\"\n"
    ));
    let output = run(curl, Some(&headers))?;
    if !output.success {
        return Err(Problem::new(
            url,
            format!("it can't be asked: {}", output.words.trim_end()),
            "name the slurmrestd that answers here, with its port",
        ));
    }
    let mut body = output.stdout;
    let line = body.iter().rposition(|b| *b == b'\n').unwrap_or(0);
    let status = String::from_utf8_lossy(&body[line..]).trim().to_owned();
    body.truncate(line);
    Ok((status, body))
}

fn squeue(conf: &str, token: &str, user: &str) -> Result<Answer, Problem> {
    if !Path::new(conf).is_file() {
        return Err(Problem::new(
            conf,
            "there is no such file",
            "name slurm.conf",
        ));
    }
    let mut squeue = Command::new("squeue");
    squeue
        .args(["--noheader", "--user", user, "--format", "%A"])
        .env("SLURM_CONF", conf)
        .env("SLURM_JWT", token)
        .stdin(Stdio::null());
    let output = run(squeue, None)?;
    Ok(if output.success {
        Answer::Accepted
    } else {
        Answer::Refused(output.words.trim_end().replace('\n', "; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_ask_is_a_url_a_socket_or_a_file() {
        let rest = |url: &str, socket: Option<&str>| Judge::Rest {
            url: url.into(),
            socket: socket.map(Into::into),
        };
        for (target, wanted) in [
            ("http://127.0.0.1:6820", rest("http://127.0.0.1:6820", None)),
            (
                "https://rest.example.org/",
                rest("https://rest.example.org", None),
            ),
            (
                "unix:/run/rest.sock",
                rest("http://localhost", Some("/run/rest.sock")),
            ),
            (
                "unix:///run/rest.sock",
                rest("http://localhost", Some("/run/rest.sock")),
            ),
            (
                "/etc/slurm/slurm.conf",
                Judge::Ctld("/etc/slurm/slurm.conf".into()),
            ),
        ] {
            assert_eq!(Judge::parse(target), Ok(wanted), "{target}");
        }
        for target in ["", "slurm.conf", "unix:run/rest.sock", "ftp://host"] {
            assert!(Judge::parse(target).is_err(), "{target}");
        }
    }

    #[test]
    fn a_spoilt_token_differs_in_its_signature_only() {
        for token in ["a.b.Acd", "a.b.xcd"] {
            let spoilt = spoilt(token);
            assert!(spoilt.starts_with("a.b.") && spoilt.ends_with("cd"));
            assert_ne!(*spoilt, token);
            assert_eq!(spoilt.len(), token.len());
        }
    }
}
