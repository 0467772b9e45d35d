//! `slurm-tokenctl token sign`: what root may do with the key in hand, by the
//! same policy and on the same record as the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use zeroize::Zeroizing;

use crate::account::{self, Account, GroupNames};
use crate::admin::key::{algorithm, kid};
use crate::admin::site::{Site, no_account, no_directory};
use crate::admin::{Failure, asked, print, say};
use crate::audit::{Event, Form, Outcome, Receiver, Recorder, SYSLOG_SOCKET, Syslog};
use crate::caller::{Caller, Door};
use crate::config::KeySource;
use crate::daemon::blocks::Keeper;
use crate::daemon::{keyring, unix_now};
use crate::issue::{IssueError, Issuer, Token};
use crate::keys::file::read_key;
use crate::keys::format::{SigningKey, signing_key};
use crate::keys::{Algorithm, Kid};
use crate::policy::Grant;
use crate::report::Problem;
use crate::state::{Found, StateDir};
use crate::token::lifespan::Asked;
use crate::token::moment::{Away, Utc};
use crate::wire::{Issued, Refusal};

#[derive(Args)]
pub(in crate::admin) struct Sign {
    /// The user that Slurm takes the token's bearer for
    #[arg(long, value_name = "USER")]
    sun: String,
    /// The key that signs [default: that of the configuration]
    #[arg(long, value_name = "FILE", requires = "alg")]
    key: Option<PathBuf>,
    /// What --key is for: never guessed from its bytes
    #[arg(long, value_name = "ALG", value_parser = algorithm(), requires = "key")]
    alg: Option<Algorithm>,
    /// The key's name in the token [default: signing.kid for the
    /// configuration's key, else the name in a JWK, the thumbprint or, for a
    /// secret, the name of its file]
    #[arg(long, value_parser = kid)]
    kid: Option<Kid>,
    /// How long the token lives: 600, 30m, 12h, 7d, max [default:
    /// token.default_lifespan]
    #[arg(long, value_name = "LIFESPAN", value_parser = asked)]
    lifespan: Option<Asked>,
    /// The daemon's configuration [default: the one that the daemon reads, if
    /// this machine has one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON: token, user, expires_at, kid and jti
    #[arg(long)]
    json: bool,
}

impl Sign {
    pub(in crate::admin) fn run(self, slurm_user: &str) -> Result<(), Failure> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Problem::new(
                "token sign",
                "whoever signs a token past the daemon is root on the cluster, and this is not root",
                "run it as root, or ask the daemon: slurm-token",
            )
            .into());
        }
        let site = Site::read(self.config.as_deref(), slurm_user)?;
        let issuer = self.issuer(&site)?;
        let record = Record::open(&self, site.config.audit.format)?;
        let state = state_of(&site)?;
        let blocks = Keeper::of(&state)?;
        let grant = match self.decide(&site, &blocks)? {
            Ok(grant) => grant,
            Err(refusal) => return Err(record.refused(&refusal)?.into()),
        };
        let now = unix_now();
        let token = issuer
            .issue(&grant, now)
            .map_err(|error| unsigned(&error))?;
        let kid = issuer.key().kid().clone();
        // Nobody knows how long the token waits for its reader.
        drop(issuer);
        // Before anybody has the token: a key goes only after its last one.
        state.open()?.raise_latest_exp(&kid, token.exp, 0)?;
        record.granted(&grant, &token, &kid)?;
        self.hand_over(&site, &grant, token, &kid, now)
    }

    /// The key to sign with, which has signed once and whose signature was good.
    fn issuer(&self, site: &Site) -> Result<Issuer, Problem> {
        let config = &site.config;
        let key = match &self.key {
            Some(path) => self.read_key(path, site)?,
            None if site.is_configured => keyring::read_signing_key(config)?,
            None => {
                return Err(Problem::at(
                    &config.path,
                    "there is no configuration that names a key",
                    "name one with --key FILE --alg RS256|HS256, or a configuration with --config",
                ));
            }
        };
        let key = match &self.kid {
            Some(kid) => key.named(kid.clone()),
            None => key,
        };
        let issuer = Issuer::new(Arc::new(key));
        match issuer.self_check(unix_now()) {
            Ok(()) => Ok(issuer),
            Err(error) => Err(unsigned(&error)),
        }
    }

    fn read_key(&self, path: &Path, site: &Site) -> Result<SigningKey, Problem> {
        let config = &site.config;
        let configured = site.is_configured && config.signing.key == KeySource::File(path.into());
        // clap sees to it that both are given or neither.
        let algorithm = self.alg.unwrap_or(Algorithm::Rs256);
        let kid = match &self.kid {
            None if configured => config.signing.kid.clone(),
            // As where signing.kid is left out.
            None if algorithm == Algorithm::Hs256 => {
                path.file_stem().and_then(|stem| Kid::new(stem.to_str()?))
            }
            kid => kid.clone(),
        };
        let bytes = read_key(path, &site.key_owners()?)?;
        signing_key(&bytes, algorithm, kid).map_err(|rejection| rejection.at(path))
    }

    /// What the policy and the node's blocks say to root's wish.
    fn decide(&self, site: &Site, blocks: &Keeper) -> Result<Result<Grant, Refusal>, Problem> {
        let policy = &site.config.policy;
        if let Err(refusal) = policy.judge(&self.sun) {
            return Ok(Err(refusal));
        }
        let names = site.names()?;
        let account: Option<Account> =
            account::by_name(&self.sun, GroupNames::if_carried(policy.identity_claims))
                .map_err(|errno| no_directory(&self.sun, errno))?;
        Ok(match account {
            Some(account) => match blocks.refusal(account.uid, &account.name) {
                Some(blocked) => Err(blocked),
                None => policy.decide_for_root(
                    &names,
                    &account,
                    self.lifespan.unwrap_or(Asked::Default),
                ),
            },
            None => Err(no_account(&self.sun)),
        })
    }

    fn hand_over(
        &self,
        site: &Site,
        grant: &Grant,
        mut token: Token,
        kid: &Kid,
        now: u64,
    ) -> Result<(), Failure> {
        let longest = site.config.policy.max_lifespan;
        if grant.lifespan() > longest {
            say(format_args!(
                "Beware: it lives for {}, and the daemon's tokens for {longest} at most",
                grant.lifespan()
            ));
        }
        let exp = token.exp;
        let issued = Issued {
            token: std::mem::take(&mut *token.compact),
            user: grant.subject().to_owned(),
            expires_at: exp,
            kid: kid.as_str().to_owned(),
            jti: token.jti,
        };
        // Never grown: a vector that grows leaves a copy of its bytes behind.
        let mut text = Zeroizing::new(Vec::with_capacity(issued.token.len() + 1024));
        if !self.json {
            text.extend(issued.token.bytes());
        } else if serde_json::to_writer(&mut *text, &issued).is_err() {
            // Strings and numbers: nothing that JSON can't hold.
            text.clear();
        }
        text.push(b'\n');
        print(std::str::from_utf8(&text).unwrap_or_default())?;
        say(format_args!(
            "A token for {}, until {} ({}), signed by {kid}; it's on record",
            grant.subject(),
            Utc(exp),
            Away { time: exp, now }
        ));
        Ok(())
    }
}

/// The daemon's state directory.
fn state_of(site: &Site) -> Result<Found, Problem> {
    let config = &site.config;
    let user = nix::unistd::User::from_name(&config.user)
        .map_err(|errno| no_directory(&config.user, errno))?;
    StateDir::find(&config.state_dir, user.map(|user| (user.uid, user.gid)))
}

fn unsigned(error: &IssueError) -> Problem {
    match error {
        IssueError::TooLarge(bytes) => Problem::new(
            "the token",
            format!("it would have {bytes} bytes, more than Slurm surely takes"),
            "the user is in too many groups: raise token.identity_min_gid, or set \
             token.identity_claims = false",
        ),
        IssueError::Fault => Problem::new(
            "the token",
            "it can't be signed with this key",
            "make a new key with: slurm-tokenctl key generate",
        ),
    }
}

/// The way to the system's log, whatever the daemon's own is.
struct Record<'a> {
    recorder: Recorder,
    root: String,
    sign: &'a Sign,
}

impl<'a> Record<'a> {
    fn open(sign: &'a Sign, form: Form) -> Result<Self, Problem> {
        let syslog = Syslog::new(Path::new(SYSLOG_SOCKET));
        let recorder = Recorder::new(Receiver::Syslog(syslog), form);
        recorder.check().map_err(|why| unrecorded(&why))?;
        let root = account::by_uid(0, GroupNames::Unneeded).ok().flatten();
        Ok(Self {
            recorder,
            root: root.map_or_else(|| "root".into(), |account| account.name),
            sign,
        })
    }

    fn granted(&self, grant: &Grant, token: &Token, kid: &Kid) -> Result<(), Problem> {
        self.hand_over(Outcome::Granted {
            sun: grant.subject(),
            lifespan: grant.lifespan().seconds(),
            exp: token.exp,
            kid: kid.as_str(),
            jti: &token.jti,
            rule: grant.ruling(),
            replaces: None,
        })
    }

    /// Records a refusal; gives the problem that it is for root.
    fn refused(&self, refusal: &Refusal) -> Result<Problem, Problem> {
        let lifespan = match self.sign.lifespan {
            None | Some(Asked::Default) => None,
            Some(Asked::Max) => Some("max".to_owned()),
            Some(Asked::Of(lifespan)) => Some(lifespan.seconds().to_string()),
        };
        self.hand_over(Outcome::Refused {
            code: refusal.code,
            lifespan,
            suppressed: 0,
        })?;
        Ok(refusal.at("token sign"))
    }

    fn hand_over(&self, outcome: Outcome<'_>) -> Result<(), Problem> {
        let event = Event {
            caller: Caller {
                uid: 0,
                pid: nix::unistd::getpid().as_raw(),
                door: Door::Main,
            },
            user: Some(&self.root),
            operation: "sign",
            target: Some(&self.sign.sun),
            outcome,
        };
        self.recorder.record(&event).map_err(|why| unrecorded(&why))
    }
}

fn unrecorded(why: &crate::audit::NotRecorded) -> Problem {
    Problem::new(
        "the audit record",
        format!("it can't be handed over, so there is no token: {why}"),
        "start the system's log: systemctl status systemd-journald rsyslog",
    )
}
