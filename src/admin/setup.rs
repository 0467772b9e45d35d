//! `slurm-tokenctl setup`: from an installed package to a daemon that serves.
//!
//! All that can be wrong is found before anything is done; then each step says
//! what it does. What is there already stays as it is, so it can be repeated.

mod next;

use std::fs::DirBuilder;
use std::io::{self, BufRead, IsTerminal};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::jwks::{JWKS_MODE, read_set};
use super::{Failure, key, network, print, say, site};
use crate::config::{Config, ConfiguredKey, Draft, KeySource};
use crate::daemon::{engine, keyring};
use crate::keys::file::{Trust, open_directory, quoted};
use crate::keys::format::SigningKey;
use crate::keys::jwks::JwkSet;
use crate::keys::{Algorithm, store};
use crate::report::{Problem, Problems};

/// The configuration as it is shipped, with its comments.
const TEMPLATE: &str = include_str!("../../etc/slurm-tokend.toml");
/// Anybody may read it: there is no secret in it.
const CONFIGURATION_MODE: u32 = 0o644;
/// The directory whose keys the unit passes to the daemon.
const LOADED: &str = "/etc/slurm/token-keys";
/// Where this node's public keys are.
const PUBLISHED: &str = "/etc/slurm/jwks.d";
/// Where systemd reads what a machine adds to a unit.
const UNITS: &str = "/etc/systemd/system";
/// There where systemd runs the machine (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";

#[derive(Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct Setup {
    /// Set up slurm-tokend@NAME, which serves one more cluster on this node
    #[arg(long, value_name = "NAME", value_parser = cluster)]
    cluster: Option<String>,
    /// The uid of the account that slurmctld runs as, where this node has no
    /// such account; for a new configuration
    #[arg(long, value_name = "UID")]
    slurm_uid: Option<u32>,
    /// Make the group of the administrators, `admin_group`, where there is none
    #[arg(long)]
    admin_group: bool,
    /// Start nothing
    #[arg(long)]
    no_start: bool,
    /// Do it without asking
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// A name that can stand in file names, in a unit's, and in that of a user:
/// slurm-tokend-NAME, of which systemd takes 31 characters.
fn cluster(name: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 18 && name.chars().all(fits) && !name.starts_with('-') {
        Ok(name.to_owned())
    } else {
        Err("a cluster's name has 1 to 18 letters, digits, '_' and '-'".into())
    }
}

/// Something that is to be there in the end.
struct Step {
    /// What it is, for people.
    what: String,
    /// How it's made, where it isn't there.
    todo: Option<Todo>,
}

enum Todo {
    Configuration { path: PathBuf, text: String },
    Key(PathBuf),
    Publish(ConfiguredKey),
    Group(String),
    HandOver { drop_in: PathBuf, text: String },
    Start,
}

/// What was found, and what is missing.
struct Plan {
    config: Config,
    unit: String,
    steps: Vec<Step>,
}

impl Setup {
    pub(super) fn run(self, slurm_user: &str, trust: &Trust) -> Result<(), Failure> {
        if trust.own_uid != 0 && !self.dry_run {
            let remedy = "run it as root, or with --dry-run to see what it would do";
            return Err(Problem::new("setup", "only root can set up a node", remedy).into());
        }
        let plan = self.plan(slurm_user, trust)?;
        for step in &plan.steps {
            let state = if step.todo.is_some() {
                "to do"
            } else {
                "there"
            };
            print(&format!("{state}  {}\n", step.what))?;
        }
        let todo = plan.steps.iter().any(|step| step.todo.is_some());
        if self.dry_run {
            return Ok(());
        }
        if todo && !self.yes && !agreed()? {
            return Err(
                Problem::new("setup", "nothing was done", "answer y, or give --yes").into(),
            );
        }
        for todo in plan.steps.iter().filter_map(|step| step.todo.as_ref()) {
            plan.take(todo, trust)?;
        }
        let key = plan.signing_key()?;
        Ok(print(&next::steps(
            key.as_ref().map(SigningKey::kid),
            &plan.config.signing,
            next::slurm_release(),
        ))?)
    }

    fn plan(&self, slurm_user: &str, trust: &Trust) -> Result<Plan, Failure> {
        let unit = match &self.cluster {
            Some(name) => format!("slurm-tokend@{name}"),
            None => "slurm-tokend".into(),
        };
        let (config, configuration) = self.configuration(&unit, slurm_user)?;
        let mut steps = vec![configuration];
        let mut problems = Vec::new();
        if let Err(problem) = slurm_user_is_known(&config) {
            problems.push(problem);
        }
        for source in config.signers() {
            match key_step(&config, source) {
                Ok(step) => steps.push(step),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems).into());
        }
        let mut plan = Plan {
            config,
            unit,
            steps,
        };
        for source in plan.config.signers() {
            plan.steps.extend(plan.publish_step(source, trust)?);
        }
        if self.admin_group {
            plan.steps.push(group_step(&plan.config)?);
        }
        plan.steps.extend(plan.hand_over_step()?);
        if !self.no_start {
            plan.steps.push(plan.start_step());
        }
        Ok(plan)
    }

    /// The configuration that is there, or else the one to be written.
    fn configuration(&self, unit: &str, slurm_user: &str) -> Result<(Config, Step), Failure> {
        let path = PathBuf::from(format!("/etc/slurm/{unit}.toml"));
        let file = quoted(&path);
        if path.symlink_metadata().is_ok() {
            let config = engine::read_configuration(&path)?;
            let what = format!("{file}: the configuration");
            return Ok((config, Step { what, todo: None }));
        }
        let mut text = TEMPLATE.to_owned();
        let mut set = |default: &str, value: String| text = text.replacen(default, &value, 1);
        if slurm_user != "slurm" {
            set(
                "#slurm_user = \"slurm\"",
                format!("slurm_user = \"{slurm_user}\""),
            );
        }
        if let Some(uid) = self.slurm_uid {
            set("#slurm_uid = 64030", format!("slurm_uid = {uid}"));
        }
        if let Some(name) = &self.cluster {
            set(
                "#socket = \"/run/slurm-tokend/",
                format!("socket = \"/run/slurm-tokend-{name}/"),
            );
            // That of [http], which stays an example.
            set(
                "#socket = \"/run/slurm-tokend/",
                format!("#socket = \"/run/slurm-tokend-{name}/"),
            );
            set(
                "#state_dir = \"/var/lib/slurm-tokend\"",
                format!("state_dir = \"/var/lib/slurm-tokend-{name}\""),
            );
        }
        let config = Draft::read(&path, &text, &engine::host()).finish()?;
        let step = Step {
            what: format!("{file}: a configuration, in which every key is explained"),
            todo: Some(Todo::Configuration { path, text }),
        };
        Ok((config, step))
    }
}

fn slurm_user_is_known(config: &Config) -> Result<(), Problem> {
    let name = &config.policy.slurm_user;
    if config.policy.slurm_uid.is_some() || site::uid_of(name)?.is_some() {
        return Ok(());
    }
    Err(Problem::new(
        config.places.of("slurm_user"),
        format!("this node has no account {name}, so nobody would get a token"),
        "set slurm_user, or slurm_uid to the uid of SlurmUser on the controller; for a new \
         configuration give --slurm-user or --slurm-uid",
    ))
}

fn key_step(config: &Config, source: &ConfiguredKey) -> Result<Step, Problem> {
    let algorithm = source.algorithm;
    let path = match &source.key {
        KeySource::File(path) => path,
        KeySource::Credential(name) => {
            return Ok(Step {
                what: format!("credential {name}: the {algorithm} key, which systemd passes"),
                todo: None,
            });
        }
    };
    network::refuse(path)?;
    let file = quoted(path);
    if path.symlink_metadata().is_ok() {
        let key = keyring::read_source(config, source)?;
        return Ok(Step {
            what: format!("{file}: the {algorithm} key, kid {}", key.kid()),
            todo: None,
        });
    }
    match algorithm {
        Algorithm::Rs256 => Ok(Step {
            what: format!("{file}: a new RS256 key of this node's own"),
            todo: Some(Todo::Key(path.clone())),
        }),
        Algorithm::Hs256 => Err(Problem::at(
            path,
            "the HS256 key is missing; it's the cluster's, so none is made here",
            "copy slurmctld's jwt_key there, owned by root, mode 0400",
        )),
    }
}

fn group_step(config: &Config) -> Result<Step, Problem> {
    let name = config.policy.admin_group.clone();
    let found = nix::unistd::Group::from_name(&name).map_err(|errno| {
        Problem::new(
            &name,
            format!("this group can't be looked up: {}", errno.desc()),
            "look at the account service: getent group",
        )
    })?;
    let what = format!("group {name}: the administrators of slurm-tokend");
    let todo = found.is_none().then_some(Todo::Group(name));
    Ok(Step { what, todo })
}

impl Plan {
    /// The key that signs unless a rule names another, once it's there.
    fn signing_key(&self) -> Result<Option<SigningKey>, Problem> {
        self.read(&self.config.signing)
    }

    /// A key, once it's there and can be read here.
    fn read(&self, source: &ConfiguredKey) -> Result<Option<SigningKey>, Problem> {
        match &source.key {
            KeySource::File(path) if path.exists() => {
                keyring::read_source(&self.config, source).map(Some)
            }
            KeySource::File(_) | KeySource::Credential(_) => Ok(None),
        }
    }

    /// The public half of a key, in a file of its own: other nodes' are beside
    /// it. None where it has none, or the key is passed by systemd.
    fn publish_step(&self, source: &ConfiguredKey, trust: &Trust) -> Result<Option<Step>, Problem> {
        let KeySource::File(file) = &source.key else {
            return Ok(None);
        };
        if source.algorithm == Algorithm::Hs256 {
            return Ok(None);
        }
        let Some(key) = self.read(source)? else {
            let what = format!(
                "{PUBLISHED}/<kid>.json: the public half of {}",
                quoted(file)
            );
            let todo = Some(Todo::Publish(source.clone()));
            return Ok(Some(Step { what, todo }));
        };
        let (path, set) = published(&key);
        let what = format!("{}: the public half of {}", quoted(&path), quoted(file));
        if path.symlink_metadata().is_err() {
            let todo = Some(Todo::Publish(source.clone()));
            return Ok(Some(Step { what, todo }));
        }
        if read_set(&path, trust)?.to_json() == set.to_json() {
            return Ok(Some(Step { what, todo: None }));
        }
        Err(Problem::at(
            &path,
            "it holds another key than this node signs with under the same kid",
            format!(
                "see which of the two is right, then: mv {0} {0}.old",
                quoted(&path)
            ),
        ))
    }

    /// Keys elsewhere than in the usual directory are out of the daemon's reach,
    /// unless systemd passes them.
    fn hand_over_step(&self) -> Result<Option<Step>, Problem> {
        let elsewhere = self
            .config
            .signers()
            .filter_map(|source| match &source.key {
                KeySource::File(path) => (path.parent() != Some(Path::new(LOADED))).then_some(path),
                KeySource::Credential(_) => None,
            });
        let (mut places, mut lines) = (Vec::new(), Vec::new());
        for path in elsewhere {
            let name = path.file_name().and_then(|name| name.to_str());
            let (Some(name), Some(place)) = (name, path.to_str()) else {
                let remedy = "give it a name of letters, digits, '.', '_' and '-'";
                return Err(Problem::at(
                    path,
                    "systemd can't pass a file of this name",
                    remedy,
                ));
            };
            // "%" begins a specifier in a unit.
            let escaped = |text: &str| text.replace('%', "%%");
            lines.push(format!(
                "LoadCredential={}:{}\n",
                escaped(name),
                escaped(place)
            ));
            places.push(place);
        }
        if places.is_empty() || !Path::new(BOOTED).exists() {
            return Ok(None);
        }
        let drop_in = PathBuf::from(format!("{UNITS}/{}.service.d/key.conf", self.unit));
        let text = format!(
            "# Passes the daemon its key: slurm-tokenctl setup.\n[Service]\n{}",
            lines.concat()
        );
        let there = std::fs::read_to_string(&drop_in).is_ok_and(|found| found == text);
        Ok(Some(Step {
            what: format!(
                "{}: passes the daemon {}",
                quoted(&drop_in),
                places.join(", ")
            ),
            todo: (!there).then_some(Todo::HandOver { drop_in, text }),
        }))
    }

    fn start_step(&self) -> Step {
        let unit = &self.unit;
        if !Path::new(BOOTED).exists() {
            return Step {
                what: format!(
                    "{unit}: systemd does not run here; start the daemon as you do others"
                ),
                todo: None,
            };
        }
        let is = |what: &str, unit: String| {
            let asked = Command::new("systemctl")
                .args([what, "--quiet", &unit])
                .status();
            asked.is_ok_and(|status| status.success())
        };
        let runs = is("is-enabled", format!("{unit}.socket"))
            && is("is-active", format!("{unit}.socket"))
            && is("is-active", format!("{unit}.service"));
        let changed = self.steps.iter().any(|step| {
            matches!(
                step.todo,
                Some(Todo::Configuration { .. } | Todo::Key(_) | Todo::HandOver { .. })
            )
        });
        Step {
            what: format!("{unit}: enabled, and running"),
            todo: (!runs || changed).then_some(Todo::Start),
        }
    }

    fn take(&self, todo: &Todo, trust: &Trust) -> Result<(), Problem> {
        match todo {
            Todo::Configuration { path, text } => {
                make_directory(path.parent(), 0o755, trust)?;
                store::create_new(path, text.as_bytes(), CONFIGURATION_MODE, trust)
            }
            Todo::Key(path) => {
                make_directory(path.parent(), 0o700, trust)?;
                let (pem, _) = key::rsa_key(key::USUAL_BITS, path)?;
                store::create_new(path, pem.as_slice(), key::KEY_MODE, trust)
            }
            Todo::Publish(source) => {
                make_directory(Some(Path::new(PUBLISHED)), 0o755, trust)?;
                let Some(key) = self.read(source)? else {
                    return Ok(());
                };
                let (path, set) = published(&key);
                store::create_new(&path, set.to_json().as_bytes(), JWKS_MODE, trust)
            }
            Todo::Group(name) => carry_out("groupadd", &["--system", name]),
            Todo::HandOver { drop_in, text } => {
                make_directory(drop_in.parent(), 0o755, trust)?;
                store::replace(drop_in, text.as_bytes(), CONFIGURATION_MODE, trust)?;
                carry_out("systemctl", &["daemon-reload"])
            }
            Todo::Start => {
                let (socket, service) = (
                    format!("{}.socket", self.unit),
                    format!("{}.service", self.unit),
                );
                carry_out("systemctl", &["enable", "--quiet", &socket, &service])?;
                carry_out("systemctl", &["start", &socket])?;
                carry_out("systemctl", &["restart", &service])
            }
        }
    }
}

/// Where the public half of a key belongs, and what stands there.
fn published(key: &SigningKey) -> (PathBuf, JwkSet) {
    let set = key
        .public()
        .map_or_else(JwkSet::default, |public| JwkSet::of(public, key.kid()));
    (
        Path::new(PUBLISHED).join(format!("{}.json", key.kid())),
        set,
    )
}

/// Makes a directory where there is none, in one that is trusted.
fn make_directory(path: Option<&Path>, mode: u32, trust: &Trust) -> Result<(), Problem> {
    let Some(path) = path.filter(|path| path.symlink_metadata().is_err()) else {
        return Ok(());
    };
    if let Some(parent) = path.parent() {
        open_directory(parent, trust)?;
    }
    DirBuilder::new().mode(mode).create(path).map_err(|e| {
        let remedy = format!("make it with: install -d -m {mode:04o} {}", quoted(path));
        Problem::at(path, format!("this directory can't be made: {e}"), remedy)
    })
}

/// Runs a program of the system, which says itself what went wrong.
fn carry_out(program: &str, arguments: &[&str]) -> Result<(), Problem> {
    let command = format!("{program} {}", arguments.join(" "));
    let remedy = match arguments {
        ["start" | "restart", unit] => format!("see why, with: journalctl -e -u {unit}"),
        _ => "mend that, and run setup again: what is done stays".into(),
    };
    match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Problem::new(
            command,
            format!("it failed: {status}"),
            remedy,
        )),
        Err(e) => Err(Problem::new(
            command,
            format!("it can't be run: {e}"),
            remedy,
        )),
    }
}

/// Asks whether to go on.
fn agreed() -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(
            "nobody is there to ask: give --yes, or --dry-run".into(),
        ));
    }
    say(format_args!("Do what is marked \"to do\"? [y/N]"));
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
