//! Where a request came from: a look at the process that connected, by a
//! thread of its own. It reads what the daemon's confinement lets it read of
//! `/proc`; the rest stays unknown. Where the process is hidden, as it is
//! under our unit, its cgroup still lists it.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::{io, thread};

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::caller::Caller;
use crate::daemon::peer::Peer;
use crate::daemon::{Daemon, unix_now};

/// So many processes wait to be looked at; others stay unseen.
const MOST_WAITING: usize = 64;
/// The longest name of a place or an executable that is kept, in bytes.
const LONGEST: usize = 255;
/// The most that is read of a file in `/proc`, in bytes.
const MOST_READ: u64 = 8192;
/// Where cgroups are (cgroups(7)).
const CGROUPS: &str = "/sys/fs/cgroup";
/// The hierarchies below it that tell sessions or jobs: version 2 alone, version
/// 2 beside version 1, and of version 1 those that systemd and Slurm use.
const HIERARCHIES: [&str; 6] = ["", "unified", "systemd", "freezer", "memory", "cpuset"];
/// So many cgroups are looked through for a process.
const MOST_CGROUPS: usize = 2048;
/// The most that is read of one's list of processes, in bytes.
const MOST_LISTED: u64 = 256 * 1024;
/// What is said where nothing can be read.
const UNKNOWN: &str = "unknown";

/// What a look at a process has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its pid.
    pub pid: i32,
    /// It's the very process that connected.
    pub pinned: bool,
    /// Its Slurm job, login session or unit.
    pub place: String,
    /// Its executable.
    pub executable: Option<String>,
    /// Its terminal.
    pub terminal: Option<String>,
}

/// A process to look at.
struct Suspect {
    caller: Caller,
    process: OwnedFd,
    pinned: bool,
}

/// The way to the thread that looks.
pub struct Lookout {
    suspects: SyncSender<(Arc<Daemon>, Suspect)>,
}

impl Lookout {
    /// Starts the thread, which lives as long as the process.
    pub fn start() -> io::Result<Self> {
        let (suspects, arriving) = sync_channel::<(Arc<Daemon>, Suspect)>(MOST_WAITING);
        thread::Builder::new()
            .name("lookout".into())
            .spawn(move || {
                for (daemon, suspect) in arriving {
                    let uid = suspect.caller.uid;
                    let unusual = daemon.ledger.seen(uid, look(&suspect), unix_now());
                    daemon.tell_unusual(uid, unusual);
                }
            })?;
        Ok(Self { suspects })
    }

    /// Has the process at the other end looked at, if there is room.
    pub(super) fn look(&self, daemon: &Arc<Daemon>, peer: &Peer) {
        let caller = peer.caller();
        let suspect = match getsockopt(peer, PeerPidfd) {
            Ok(process) => Some((process, true)),
            // Kernels before 6.5. Until here the pid may have passed on to
            // another process, which is why this one isn't said to be pinned.
            Err(_) => Pid::from_raw(caller.pid)
                .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
                .map(|process| (process, false)),
        };
        if let Some((process, pinned)) = suspect {
            // Without room it stays unseen, and the ledger says so.
            let _ = self.suspects.try_send((
                Arc::clone(daemon),
                Suspect {
                    caller,
                    process,
                    pinned,
                },
            ));
        }
    }
}

fn look(suspect: &Suspect) -> Sighting {
    let pid = suspect.caller.pid;
    let cgroup = read(&format!("/proc/{pid}/cgroup"))
        .or_else(|| listed(Path::new(CGROUPS), suspect.caller.uid, pid));
    let stat = read(&format!("/proc/{pid}/stat"));
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok();
    // While the process has its pid, nobody else has it: all that was read is its.
    let is_its_own = process_of(&suspect.process) == Some(pid);
    let its = |text: Option<String>| text.filter(|_| is_its_own);
    Sighting {
        pid,
        pinned: suspect.pinned,
        place: its(cgroup)
            .and_then(|cgroup| place(&cgroup))
            .unwrap_or_else(|| UNKNOWN.to_owned()),
        executable: its(executable.map(|path| path.to_string_lossy().into_owned())).map(shorten),
        terminal: its(stat).and_then(|stat| terminal(&stat)),
    }
}

fn read(path: &str) -> Option<String> {
    read_most(Path::new(path), MOST_READ)
}

fn read_most(path: &Path, most: u64) -> Option<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The cgroup of a process of this uid's in the form of `/proc/PID/cgroup`,
/// found among the user's sessions and units, Slurm's jobs, and services.
fn listed(root: &Path, uid: u32, pid: i32) -> Option<String> {
    let pid = pid.to_string();
    let mut left = MOST_CGROUPS;
    HIERARCHIES.iter().find_map(|hierarchy| {
        let top = root.join(hierarchy);
        let mut todo = starts(&top, uid);
        while let (Some(cgroup), true) = (todo.pop(), left > 0) {
            left -= 1;
            let procs = read_most(&cgroup.join("cgroup.procs"), MOST_LISTED);
            if procs.is_some_and(|procs| procs.lines().any(|line| line == pid)) {
                let path = cgroup.strip_prefix(&top).ok()?;
                return Some(format!("0::/{}\n", path.display()));
            }
            todo.extend(directories(&cgroup));
        }
        None
    })
}

/// Where a process of this uid's may be, in one hierarchy.
fn starts(top: &Path, uid: u32) -> Vec<PathBuf> {
    let mut starts = directories(&top.join("system.slice"));
    let slurms = directories(top).into_iter().filter(|directory| {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        name == "slurm" || name.starts_with("slurm_")
    });
    starts.extend(slurms.map(|slurm| slurm.join(format!("uid_{uid}"))));
    starts.push(top.join(format!("user.slice/user-{uid}.slice")));
    starts
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// The pid that a process has still, by its pidfd (`proc_pid_fdinfo(5)`).
fn process_of(pidfd: &OwnedFd) -> Option<i32> {
    let info = read(&format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok()
}

/// The Slurm job, login session or unit of a process, by `/proc/PID/cgroup`
/// (cgroups(7)); none where there is no telling.
///
/// Users make directories below their own units as they like: a job is one only
/// where Slurm made it, and a session only where logind did.
fn place(cgroup: &str) -> Option<String> {
    let paths = || cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let slurm = paths().find_map(job);
    slurm.or_else(|| paths().find_map(unit)).map(shorten)
}

/// `/system.slice/slurmstepd.scope/job_1/step_0/…` with version 2,
/// `/slurm/uid_2001/job_1/step_0/…` with version 1; with several slurmd on a
/// node their names are in the first parts.
fn job(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let job = match parts.as_slice() {
        ["system.slice", scope, job, ..] if scope.ends_with("slurmstepd.scope") => job,
        [slurm, uid, job, ..]
            if (*slurm == "slurm" || slurm.starts_with("slurm_")) && uid.starts_with("uid_") =>
        {
            job
        }
        _ => return None,
    };
    let number = job.strip_prefix("job_")?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| (*job).to_owned())
}

/// `/user.slice/user-2001.slice/session-7.scope`; units of the user's own
/// manager behind that of the manager; else the unit of the system.
fn unit(path: &str) -> Option<String> {
    let is_unit = |part: &&&str| {
        part.rsplit_once('.')
            .is_some_and(|(_, kind)| matches!(kind, "service" | "scope"))
    };
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let first = parts.iter().position(|part| is_unit(&part))?;
    let outer = parts[first];
    match parts[first + 1..].iter().find(is_unit) {
        Some(inner) if outer.starts_with("user@") => Some(format!("{outer}/{inner}")),
        _ => Some(outer.to_owned()),
    }
}

/// The controlling terminal, by field 7 of `/proc/PID/stat`: its device number
/// (proc(5)). The name before it is the process's own choice, and may hold
/// anything but ends in the last parenthesis.
fn terminal(stat: &str) -> Option<String> {
    let (_, fields) = stat.rsplit_once(')')?;
    let device: u32 = fields.split_whitespace().nth(4)?.parse().ok()?;
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    // Documentation/admin-guide/devices.txt of Linux.
    match major {
        4 if minor < 64 => Some(format!("tty{minor}")),
        4 => Some(format!("ttyS{}", minor - 64)),
        136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        _ => None,
    }
}

fn shorten(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slurm_job_is_told_by_the_cgroup_that_slurm_made() {
        for (cgroup, found) in [
            (
                "0::/system.slice/slurmstepd.scope/job_4711/step_0/user/task_0\n",
                "job_4711",
            ),
            (
                "0::/system.slice/n1_slurmstepd.scope/job_1/step_batch\n",
                "job_1",
            ),
            (
                "9:cpuset:/slurm/uid_2001/job_12/step_0\n1:name=systemd:/system.slice/slurmd.service\n",
                "job_12",
            ),
            (
                "1:name=systemd:/system.slice/slurmd.service\n9:cpuset:/slurm_n1/uid_2001/job_12\n",
                "job_12",
            ),
        ] {
            assert_eq!(place(cgroup).as_deref(), Some(found), "{cgroup}");
        }
    }

    #[test]
    fn nobody_makes_a_job_or_a_session_of_their_own() {
        for (cgroup, found) in [
            (
                "0::/user.slice/user-2001.slice/user@2001.service/job_1\n",
                "user@2001.service",
            ),
            (
                "0::/user.slice/user-2001.slice/user@2001.service/app.slice/x.service/slurm/uid_0/job_1\n",
                "user@2001.service/x.service",
            ),
            (
                "0::/user.slice/user-2001.slice/user@2001.service/app.slice/session-1.scope\n",
                "user@2001.service/session-1.scope",
            ),
            (
                "0::/system.slice/slurmstepd.scope/job_1x/step_0\n",
                "slurmstepd.scope",
            ),
            (
                "0::/system.slice/slurmstepd.scope/job_/x\n",
                "slurmstepd.scope",
            ),
        ] {
            assert_eq!(place(cgroup).as_deref(), Some(found), "{cgroup}");
        }
    }

    #[test]
    fn a_login_session_and_a_service_are_told_by_their_units() {
        for (cgroup, found) in [
            (
                "0::/user.slice/user-2001.slice/session-7.scope\n",
                "session-7.scope",
            ),
            (
                "0::/user.slice/user-2001.slice/session-7.scope/a.service\n",
                "session-7.scope",
            ),
            ("0::/system.slice/ondemand.service\n", "ondemand.service"),
            (
                "0::/system.slice/system-jupyter.slice/jupyter@bob.service\n",
                "jupyter@bob.service",
            ),
            (
                "0::/user.slice/user-2001.slice/user@2001.service/app.slice/app-x.scope\n",
                "user@2001.service/app-x.scope",
            ),
        ] {
            assert_eq!(place(cgroup).as_deref(), Some(found), "{cgroup}");
        }
    }

    #[test]
    fn where_there_is_no_telling_nothing_is_said() {
        for cgroup in [
            "",
            "\n",
            "0::/\n",
            "0::/../..\n",
            "nonsense",
            "0::/docker/abc\n",
        ] {
            assert_eq!(place(cgroup), None, "{cgroup:?}");
        }
    }

    /// A tree of cgroups, each with its processes.
    fn tree(cgroups: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, processes) in cgroups {
            let cgroup = root.path().join(path);
            fs::create_dir_all(&cgroup).unwrap();
            fs::write(cgroup.join("cgroup.procs"), processes).unwrap();
        }
        root
    }

    #[test]
    fn a_hidden_process_is_found_where_its_cgroup_lists_it() {
        for (cgroup, found) in [
            (
                "user.slice/user-2001.slice/session-7.scope",
                "session-7.scope",
            ),
            (
                "user.slice/user-2001.slice/user@2001.service/app.slice/x.service",
                "user@2001.service/x.service",
            ),
            (
                "system.slice/slurmstepd.scope/job_12/step_0/user/task_0",
                "job_12",
            ),
            ("system.slice/ondemand.service", "ondemand.service"),
            (
                "unified/user.slice/user-2001.slice/session-8.scope",
                "session-8.scope",
            ),
            ("freezer/slurm_n1/uid_2001/job_13/step_0", "job_13"),
        ] {
            let root = tree(&[
                ("user.slice/user-2001.slice/session-1.scope", "41\n4\n142\n"),
                ("user.slice/user-2002.slice/session-2.scope", "42\n"),
                (cgroup, "7\n42\n9\n"),
            ]);
            let listed = listed(root.path(), 2001, 42).unwrap();
            assert_eq!(place(&listed).as_deref(), Some(found), "{cgroup}");
        }
    }

    #[test]
    fn a_process_that_no_cgroup_of_its_user_lists_is_not_found() {
        let root = tree(&[
            ("user.slice/user-2001.slice/session-1.scope", "41\n4\n142\n"),
            ("user.slice/user-2002.slice/session-2.scope", "42\n"),
        ]);
        assert_eq!(listed(root.path(), 2001, 42), None);
        assert_eq!(listed(Path::new("/nonexistent"), 2001, 42), None);
    }

    #[test]
    fn a_long_name_is_cut() {
        let cgroup = format!("0::/{}\u{e9}.service\n", "x".repeat(253));
        let place = place(&cgroup).unwrap();
        assert!(
            place.len() <= LONGEST + '…'.len_utf8() && place.ends_with('…'),
            "{place}"
        );
    }

    #[test]
    fn a_terminal_is_told_by_its_device_whatever_the_process_is_called() {
        for (device, found) in [
            (34_816, Some("pts/0")),
            (34_819, Some("pts/3")),
            (1_083_392, Some("pts/256")),
            (1025, Some("tty1")),
            (1088, Some("ttyS0")),
            (0, None),
        ] {
            let stat = format!("12 (a) S 1 ) R 1 12 12 {device} 12 0 0\n");
            assert_eq!(terminal(&stat).as_deref(), found, "{stat}");
        }
        assert_eq!(terminal("12 (a"), None);
    }

    #[test]
    fn a_process_is_known_by_its_pidfd_as_long_as_it_has_its_pid() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert_eq!(process_of(&pidfd), Some(pid.as_raw_nonzero().get()));
        child.wait().unwrap();
        assert_ne!(process_of(&pidfd), Some(pid.as_raw_nonzero().get()));
    }
}
