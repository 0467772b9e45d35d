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

/// Sees to it that the daemon signs with the key `kid`, and says how.
pub(super) fn take_up(config: &Config, kid: &Kid) -> Result<(), Problem> {
    let restarted = if let Some(unit) = unit(&config.path).filter(|unit| is_active(unit)) {
        restart(&unit)?;
        say(format_args!(
            "Restarted {unit} through its socket: no caller was lost"
        ));
        true
    } else if let Some(pid) = daemon_on(&config.socket) {
        kill(pid, Signal::SIGHUP).map_err(|errno| {
            Problem::new(
                format!("process {pid}"),
                format!(
                    "the daemon can't be told to take the new key: {}",
                    errno.desc()
                ),
                format!("run this as root, or: kill -HUP {pid}"),
            )
        })?;
        false
    } else {
        say(format_args!(
            "No daemon serves with {}: it takes the new key when it starts",
            config.path.display()
        ));
        return Ok(());
    };
    let until = Instant::now() + PATIENCE;
    loop {
        match signs_with(config) {
            Some(now) if now == kid.as_str() => {
                say(format_args!("The daemon signs with {kid} now"));
                return Ok(());
            }
            // The first answer after a reload may still be the old daemon's.
            _ if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
            found => return Err(not_taken_up(config, kid, found, restarted)),
        }
    }
}

fn not_taken_up(config: &Config, kid: &Kid, found: Option<String>, restarted: bool) -> Problem {
    let what = match found {
        Some(found) => format!(
            "the key is switched on disk, and the daemon still signs with {found}, not {kid}"
        ),
        None => format!("the key is switched on disk, and no daemon answers to sign with {kid}"),
    };
    let remedy = match unit(&config.path).filter(|_| restarted) {
        Some(unit) => format!("see why: journalctl -u {unit} -n 20"),
        None => "stop the daemon and start it again, as root: once it has dropped root's power \
                 it can't read a key of root's"
            .into(),
    };
    Problem::at(&config.socket, what, remedy)
}

fn is_active(unit: &str) -> bool {
    let asked = || {
        Command::new("systemctl")
            .args(["is-active", "--quiet", unit])
            .status()
    };
    Path::new(SYSTEMD).is_dir() && asked().is_ok_and(|status| status.success())
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
