//! The state directory: what must outlive the daemon, in small files that are
//! replaced whole and are on the disk before anybody relies on them.
//!
//! The daemon and the tools share it. Whoever changes a file by what it holds
//! has the [`Lock`] while it reads and writes.
//!
//! The directory belongs to the daemon's user, and nobody else may write to it
//! (`StateDirectory=` makes it so under systemd; a daemon that is started as
//! root makes it before it drops root's power). What root's tools write into it
//! is given to the same user.

mod expiry;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{AccessFlags, Gid, Uid, access, fchown, fchownat, getegid, geteuid};

pub use self::expiry::LatestExp;
use crate::keys::file::{Trust, open_directory, quoted, read_in};
use crate::keys::store;
use crate::report::Problem;

/// Nobody but the daemon's user needs to look into the directory or its files.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The file that is locked. It's empty and stays.
const LOCK: &str = "lock";
/// The same for a rotation of the keys, which takes longer than a record.
const ROTATION_LOCK: &str = "rotation.lock";
/// How long somebody else's change may take, and how often we look.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The state directory, open.
pub struct StateDir {
    path: PathBuf,
    directory: OwnedFd,
    owner: (Uid, Gid),
}

/// Leave to change files by what they hold; given up when dropped.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

/// A state directory that was looked for.
pub enum Found {
    /// It's there, and as it must be.
    There(StateDir),
    /// It's to be made, for this user.
    Missing(PathBuf, (Uid, Gid)),
}

impl Found {
    /// Opens the directory; makes it where it's missing.
    pub fn open(self) -> Result<StateDir, Problem> {
        match self {
            Self::There(state) => Ok(state),
            Self::Missing(path, owner) => {
                make(&path, owner)?;
                StateDir::open(&path)
            }
        }
    }
}

impl StateDir {
    /// Looks for the directory of a daemon that runs as `user`, or as whoever
    /// we are, without making anything.
    pub fn find(path: &Path, user: Option<(Uid, Gid)>) -> Result<Found, Problem> {
        let own = (geteuid(), getegid());
        let user = user.unwrap_or(own);
        if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        {
            may_make(path, user.0)?;
            return Ok(Found::Missing(path.to_owned(), user));
        }
        let state = Self::open(path)?;
        if state.owner.0 == user.0 {
            return Ok(Found::There(state));
        }
        Err(Problem::at(
            path,
            format!(
                "the state directory belongs to uid {}, and the daemon runs as uid {}",
                state.owner.0, user.0
            ),
            format!("chown {}:{} {}", user.0, user.1, quoted(path)),
        ))
    }

    /// Opens the directory that is there.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        // Whoever owns it is the daemon's user: its parents, which root owns,
        // say so.
        let owner = std::fs::metadata(path).map_or(0, |directory| directory.uid());
        let trust = Trust {
            slurm_uid: None,
            own_uid: owner,
        };
        let directory = open_directory(path, &trust)?;
        let stat =
            fstat(&directory).map_err(|errno| failed(path, "it can't be examined", errno))?;
        if stat.st_mode & 0o022 != 0 {
            return Err(Problem::at(
                path,
                format!(
                    "mode {:04o} lets others write to the state directory",
                    stat.st_mode & 0o7777
                ),
                format!("chmod {DIRECTORY_MODE:04o} {}", quoted(path)),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            directory,
            owner: (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)),
        })
    }

    /// Waits for its turn to change files by what they hold.
    pub fn lock(&self) -> Result<Lock, Problem> {
        self.lock_file(LOCK, LOCK_PATIENCE)
    }

    /// Leave to rotate the keys of this daemon; an error where somebody does so.
    pub fn lock_rotation(&self) -> Result<Lock, Problem> {
        self.lock_file(ROTATION_LOCK, Duration::ZERO)
    }

    fn lock_file(&self, name: &str, patience: Duration) -> Result<Lock, Problem> {
        let flags = OFlag::O_CREAT | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let place = self.path.join(name);
        let opened = openat(
            &self.directory,
            name,
            flags,
            Mode::from_bits_truncate(FILE_MODE),
        )
        .map_err(|errno| failed(&place, "it can't be opened", errno))?;
        if geteuid().is_root() {
            let (uid, gid) = self.owner;
            fchown(&opened, Some(uid), Some(gid))
                .map_err(|errno| failed(&place, "it can't be given to the daemon", errno))?;
        }
        let mut file = File::from(opened);
        let until = Instant::now() + patience;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Lock(lock)),
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < until => {
                    file = back;
                    std::thread::sleep(LOCK_RETRY);
                }
                Err((_, errno)) => {
                    return Err(Problem::at(
                        &place,
                        format!("it is locked by another program: {}", errno.desc()),
                        format!("see which one, and try again: fuser -v {}", quoted(&place)),
                    ));
                }
            }
        }
    }

    /// The content of a file, at most `limit` bytes; none where there is no
    /// file of that name.
    pub fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, Problem> {
        let trust = Trust {
            slurm_uid: None,
            own_uid: self.owner.0.as_raw(),
        };
        if self.is_there(name) {
            read_in(&self.directory, &self.place(name), &trust, limit).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Is there anything of that name, or can't one say.
    fn is_there(&self, name: &str) -> bool {
        let looked = fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        !matches!(looked, Err(Errno::ENOENT))
    }

    /// Puts a file in the place of the one that is there, if any. When this
    /// returns, it's on the disk.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let place = self.place(name);
        store::replace_in(&self.directory, &place, bytes, FILE_MODE, self.owner)
    }

    /// Gives a file that can't be made sense of another name, so that what
    /// takes its place doesn't hide that it was there.
    fn set_aside(&self, name: &str, aside: &str) -> Result<(), Problem> {
        renameat(&self.directory, name, &self.directory, aside)
            .and_then(|()| store::sync(&self.directory))
            .map_err(|errno| failed(&self.place(name), "it can't be renamed", errno))
    }

    /// Where a file of that name is, for words about it.
    pub fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Can the directory be made, as far as one can say.
fn may_make(path: &Path, owner: Uid) -> Result<(), Problem> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    open_directory(parent, &Trust::of_process(None))?;
    access(parent, AccessFlags::W_OK).map_err(|errno| unmade(path, owner, errno))
}

/// Makes the directory, with its owner, before it gets its name: a crash in
/// between leaves nothing that is in the way.
fn make(path: &Path, owner: (Uid, Gid)) -> Result<(), Problem> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default();
    let mut unfinished = OsString::from(".");
    unfinished.push(name);
    unfinished.push(".unfinished");
    let within = open_directory(parent, &Trust::of_process(None))?;
    let unmade = |errno| unmade(path, owner.0, errno);
    match mkdirat(
        &within,
        unfinished.as_os_str(),
        Mode::from_bits_truncate(DIRECTORY_MODE),
    ) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(unmade(errno)),
    }
    if geteuid().is_root() {
        let (uid, gid) = (Some(owner.0), Some(owner.1));
        fchownat(
            &within,
            unfinished.as_os_str(),
            uid,
            gid,
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .map_err(unmade)?;
    }
    renameat(&within, unfinished.as_os_str(), &within, name).map_err(unmade)
}

fn unmade(path: &Path, owner: Uid, errno: Errno) -> Problem {
    Problem::at(
        path,
        format!(
            "the state directory is missing and can't be made: {}",
            errno.desc()
        ),
        format!(
            "make it with: install -d -m {DIRECTORY_MODE:04o} -o {owner} {}",
            quoted(path)
        ),
    )
}

fn failed(place: &Path, what: &str, errno: Errno) -> Problem {
    let remedy = match errno {
        Errno::EACCES | Errno::EPERM => "run this as root, or as the daemon's user",
        _ => "check the file system it is on",
    };
    Problem::at(place, format!("{what}: {}", errno.desc()), remedy)
}
