//! Root's power is given up for good once the key is read and the socket bound.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, User, geteuid, setgroups, setresgid, setresuid, setuid};

use crate::account::{self, NO_UID, OVERFLOW_UID};
use crate::config::Config;
use crate::keys::file::quoted;
use crate::report::Problem;

/// Whom the daemon will become; checked before anything listens. None when it
/// wasn't started as root.
pub fn successor(config: &Config) -> Result<Option<User>, Problem> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let name = &config.user;
    let problem =
        |what: String, remedy: &str| Err(Problem::new(config.places.of("user"), what, remedy));
    let user = match User::from_name(name) {
        Ok(Some(user)) => user,
        Ok(None) => {
            let what = format!("there is no account {name} for the daemon to become");
            let word = quoted(Path::new(name));
            let make = "useradd --system --no-create-home --shell /usr/sbin/nologin";
            return problem(what, &format!("make it with: {make} {word}"));
        }
        Err(errno) => {
            let what = format!("the account {name} can't be looked up: {}", errno.desc());
            return problem(what, "look at the account service, such as sssd or nslcd");
        }
    };
    let remedy = "name a system account that serves nothing else, such as slurm-tokend";
    let uid = user.uid.as_raw();
    let slurm_user = account::uid_of(&config.policy.slurm_user).ok().flatten();
    let slurm_uids = [config.policy.slurm_uid, slurm_user];
    if matches!(uid, 0 | OVERFLOW_UID | NO_UID) || slurm_uids.contains(&Some(uid)) {
        let what = format!(
            "{name} has uid {uid}: root, nobody and SlurmUser are too powerful or too common"
        );
        return problem(what, remedy);
    }
    if user.gid.as_raw() == 0 {
        let what = format!("{name} has root's group, gid 0, as its primary one");
        return problem(what, remedy);
    }
    Ok(Some(user))
}

/// Becomes `successor` for good. Called before there are threads.
pub fn drop_for_good(successor: Option<&User>) -> Result<(), Problem> {
    let failed = |what: &str, errno: Errno| {
        Problem::new(
            "user",
            format!("{what}: {}", errno.desc()),
            "start the daemon as root, or as its own user",
        )
    };
    if let Some(user) = successor {
        setgroups(&[]).map_err(|e| failed("supplementary groups can't be dropped", e))?;
        setresgid(user.gid, user.gid, user.gid)
            .map_err(|e| failed("the group can't be changed", e))?;
        setresuid(user.uid, user.uid, user.uid)
            .map_err(|e| failed("the user can't be changed", e))?;
        if setuid(Uid::from_raw(0)).is_ok() {
            return Err(failed("root's power could be taken back", Errno::EPERM));
        }
    }
    prctl::set_no_new_privs().map_err(|e| failed("no_new_privs can't be set", e))?;
    // Nobody but root may trace us or read our memory, and no core is written.
    prctl::set_dumpable(false).map_err(|e| failed("dumpable can't be cleared", e))?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|e| failed("core files can't be forbidden", e))
}

/// Raises the limit on descriptors so that the main socket's connections fit,
/// and those of the HTTP door if it's open; lowers the main socket's to what
/// does fit, and then says so.
pub fn make_room(config: &mut Config, has_http: bool) -> Option<String> {
    let connections = &mut config.limits.room.connections;
    let others = if has_http {
        config.http.room.connections
    } else {
        0
    };
    let fit = descriptors_for(connections.saturating_add(others));
    let fit = fit.saturating_sub(others).clamp(1, *connections);
    let wanted = std::mem::replace(connections, fit);
    (fit < wanted).then(|| {
        format!(
            "limits.connections is {wanted}, and there can be no more than {fit}: raise LimitNOFILE= and restart"
        )
    })
}

fn descriptors_for(connections: usize) -> usize {
    /// What the daemon itself has open, generously.
    const OWN: u64 = 128;
    let wanted = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OWN);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return connections;
    };
    let mut room = soft;
    // Root may raise both, if it isn't root in a container.
    for (raised, hard) in [(wanted, hard.max(wanted)), (wanted.min(hard), hard)] {
        if room < raised && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok() {
            room = raised;
        }
    }
    usize::try_from(room.min(wanted) - OWN.min(room / 2))
        .unwrap_or(connections)
        .max(1)
}
