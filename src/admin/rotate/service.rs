//! Brings the daemon to take up a new key: by a restart through its socket,
//! which loses no caller, or by SIGHUP where no systemd runs it.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::admin::say;
use crate::caller::{Caller, Door};
use crate::client;
use crate::config::Config;
use crate::daemon::CONFIGURATION;
use crate::keys::Kid;
use crate::keys::file::quoted;
use crate::report::Problem;

/// What systemd makes when it runs (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";
/// How long the daemon may take to sign with the new key.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The unit that serves with a configuration, where it's one of ours.
pub(in crate::admin) fn unit(configuration: &Path) -> Option<String> {
    if configuration == Path::new(CONFIGURATION) {
        return Some("slurm-tokend.service".into());
    }
    let instance = configuration
        .to_str()?
        .strip_prefix("/etc/slurm/slurm-tokend@")?
        .strip_suffix(".toml")?;
    (!instance.contains('/')).then(|| format!("slurm-tokend@{instance}.service"))
}

/// The kid that the running daemon signs with; none where no daemon answers.
pub(super) fn signs_with(config: &Config) -> Option<String> {
    client::standing(&config.socket)
        .ok()
        .map(|standing| standing.kid)
}

/// How the daemon is brought to take up a new key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// systemd runs it.
    Restart(String),
    /// Something else runs it.
    Reload(Pid),
    /// Nobody runs it.
    Nothing,
    /// Somebody must restart this unit: systemd can't be asked here.
    Unknown(String),
}

/// What `systemctl is-active` and its like say of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// systemd doesn't run this machine, or the unit doesn't run.
    Stopped,
    /// It runs, or is on its way to it.
    Runs,
    /// It can't be asked.
    Unknown,
}

/// Decides by the unit of the configuration, if it has one, and by the daemon
/// that listens on its socket. Pure.
///
/// A daemon of systemd's is restarted, not reloaded: its copy of the key doesn't
/// change while it runs.
fn how(unit: Option<(String, Unit)>, listens: Option<Pid>) -> How {
    match (unit, listens) {
        (Some((unit, Unit::Runs)), _) => How::Restart(unit),
        (Some((unit, Unit::Unknown)), _) => How::Unknown(unit),
        (Some((_, Unit::Stopped)) | None, Some(pid)) => How::Reload(pid),
        (Some((_, Unit::Stopped)) | None, None) => How::Nothing,
    }
}

/// Sees to it that the daemon signs with the key `kid`, and says how.
pub(super) fn take_up(config: &Config, kid: &Kid) -> Result<(), Problem> {
    let unit = unit(&config.path).map(|unit| {
        let state = state_of(&unit);
        (unit, state)
    });
    let how = how(unit, daemon_on(&config.socket));
    match &how {
        How::Restart(unit) => {
            restart(unit)?;
            say(format_args!(
                "Restarted {unit} through its socket: no caller was lost"
            ));
        }
        How::Reload(pid) => {
            reload(*pid)?;
            say(format_args!(
                "Told the daemon, process {pid}, to take the key (SIGHUP): no unit of systemd's \
                 runs it"
            ));
        }
        How::Nothing => {
            say(format_args!(
                "No daemon serves with {}: it takes the new key when it starts",
                config.path.display()
            ));
            return Ok(());
        }
        How::Unknown(unit) => {
            return Err(Problem::new(
                unit.as_str(),
                "the key is switched on disk, and systemd can't be asked here whether this unit \
                 runs",
                format!("restart it where systemctl is: systemctl restart {unit}"),
            ));
        }
    }
    let until = Instant::now() + PATIENCE;
    loop {
        match signs_with(config) {
            Some(now) if now == kid.as_str() => {
                say(format_args!("The daemon signs with {kid} now"));
                return Ok(());
            }
            // The first answer after a reload may still be the old daemon's.
            _ if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
            found => return Err(not_taken_up(config, kid, found, &how)),
        }
    }
}

fn not_taken_up(config: &Config, kid: &Kid, found: Option<String>, how: &How) -> Problem {
    let what = match found {
        Some(found) => format!(
            "the key is switched on disk, and the daemon still signs with {found}, not {kid}"
        ),
        None => format!("the key is switched on disk, and no daemon answers to sign with {kid}"),
    };
    let remedy = match how {
        How::Restart(unit) => format!("see why: journalctl -u {unit} -n 20"),
        _ => "stop the daemon and start it again, as root: once it has dropped root's power \
              it can't read a key of root's"
            .into(),
    };
    Problem::at(&config.socket, what, remedy)
}

fn state_of(unit: &str) -> Unit {
    if !Path::new(SYSTEMD).is_dir() {
        return Unit::Stopped;
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["show", "--property=ActiveState", "--value", unit]);
    match systemctl.output() {
        Ok(output) if output.status.success() => {
            match String::from_utf8_lossy(&output.stdout).trim() {
                "inactive" | "failed" => Unit::Stopped,
                _ => Unit::Runs,
            }
        }
        Ok(_) | Err(_) => Unit::Unknown,
    }
}

fn restart(unit: &str) -> Result<(), Problem> {
    let status = Command::new("systemctl").args(["restart", unit]).status();
    if status.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Problem::new(
        unit,
        "the key is switched on disk, and this unit can't be restarted",
        format!("see why: journalctl -u {unit} -n 20; then: systemctl restart {unit}"),
    ))
}

fn reload(daemon: Pid) -> Result<(), Problem> {
    kill(daemon, Signal::SIGHUP).map_err(|errno| {
        Problem::new(
            format!("process {daemon}"),
            format!(
                "the daemon can't be told to take the new key: {}",
                errno.desc()
            ),
            format!("run this as root, or: kill -HUP {daemon}"),
        )
    })
}

/// Our daemon that listens on a socket: never systemd, which may do so for it.
fn daemon_on(socket: &Path) -> Option<Pid> {
    let stream = UnixStream::connect(socket).ok()?;
    let pid = Caller::of(&stream, Door::Main).ok()?.pid;
    let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (pid > 1 && program.trim_end() == "slurm-tokend").then(|| Pid::from_raw(pid))
}

/// The command that restarts the daemon, for words about it.
pub(in crate::admin) fn restart_command(configuration: &Path) -> String {
    match unit(configuration) {
        Some(unit) => format!("systemctl restart {unit}"),
        None => format!(
            "stop slurm-tokend and start it again with --config {}",
            quoted(configuration)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_daemon_is_restarted_and_another_one_reloaded() {
        let unit = |state| Some(("u".to_owned(), state));
        let pid = Some(Pid::from_raw(7));
        let reload = How::Reload(Pid::from_raw(7));
        for (unit, listens, wanted) in [
            (unit(Unit::Runs), pid, How::Restart("u".into())),
            // Only just begun, or hung: it takes the key in the same way.
            (unit(Unit::Runs), None, How::Restart("u".into())),
            (unit(Unit::Unknown), pid, How::Unknown("u".into())),
            (unit(Unit::Stopped), pid, reload.clone()),
            (unit(Unit::Stopped), None, How::Nothing),
            (None, pid, reload),
            (None, None, How::Nothing),
        ] {
            assert_eq!(how(unit, listens), wanted);
        }
    }

    #[test]
    fn a_configuration_has_the_unit_of_its_name() {
        for (configuration, wanted) in [
            ("/etc/slurm/slurm-tokend.toml", Some("slurm-tokend.service")),
            (
                "/etc/slurm/slurm-tokend@gpu.toml",
                Some("slurm-tokend@gpu.service"),
            ),
            ("/srv/slurm-tokend.toml", None),
            ("/etc/slurm/slurm-tokend@a/b.toml", None),
        ] {
            assert_eq!(unit(Path::new(configuration)).as_deref(), wanted);
        }
    }
}
