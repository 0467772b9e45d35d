//! Files that aren't finished, and those of them that a crash left.
//!
//! Whoever writes one holds its lock, and relies on its name only once it has
//! the lock. Whoever removes one holds the lock meanwhile. So nobody's file is
//! taken away while it's written: at worst its name is, before the first byte.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Place;
use crate::keys::file::{Trust, open_directory};
use crate::report::Problem;

/// What stands in the name of a file that isn't finished; the name begins
/// with a full stop. After a crash such a file may be removed.
const UNFINISHED: &str = ".unfinished-";
/// So many names are tried for a file whose names others take away.
const NAMES: usize = 8;
/// The permission bits of a file that isn't whole yet.
pub(super) const OWNER_WRITES: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Whether a file of this name is unfinished: no key, whatever is in it.
pub fn is_unfinished(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".")
        && name
            .windows(UNFINISHED.len())
            .any(|part| part == UNFINISHED.as_bytes())
}

/// The unfinished files in a directory that nobody writes any more.
pub fn leftovers(directory: &Path, trust: &Trust) -> Result<Vec<PathBuf>, Problem> {
    left_in(directory, trust, is_unfinished)
}

/// Those of one file, beside it.
pub fn leftovers_of(file: &Path, trust: &Trust) -> Result<Vec<PathBuf>, Problem> {
    let ours = beginning(file.file_name().unwrap_or_default());
    let directory = file.parent().unwrap_or(Path::new("/"));
    left_in(directory, trust, |name| {
        name.as_bytes().starts_with(ours.as_bytes())
    })
}

fn left_in(
    directory: &Path,
    trust: &Trust,
    wanted: impl Fn(&OsStr) -> bool,
) -> Result<Vec<PathBuf>, Problem> {
    let opened = open_directory(directory, trust)?;
    let left = |name: &OsString| wanted(name) && Left::find(&opened, name).is_some();
    let names = names_in(&opened).into_iter().filter(left);
    Ok(names.map(|name| directory.join(name)).collect())
}

/// Removes what crashes left of a file. What can't be removed is in nobody's
/// way, and says by its name what it is.
pub(super) fn sweep(place: &Place<'_>) {
    let ours = beginning(&place.name);
    for name in names_in(&place.directory) {
        if name.as_bytes().starts_with(ours.as_bytes())
            && let Some(left) = Left::find(&place.directory, &name)
        {
            left.remove();
        }
    }
}

/// What the unfinished names of a file begin with.
fn beginning(name: &OsStr) -> OsString {
    let mut beginning = OsString::from(".");
    beginning.push(name);
    beginning.push(UNFINISHED);
    beginning
}

/// The names in a directory; none where one can't look.
fn names_in(directory: &OwnedFd) -> Vec<OsString> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut entries) = Dir::openat(directory, ".", flags, Mode::empty()) else {
        return Vec::new();
    };
    let name = |entry: nix::Result<nix::dir::Entry>| {
        let entry = entry.ok()?;
        Some(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
    };
    entries.iter().filter_map(name).collect()
}

/// An unfinished file that nobody writes, locked.
struct Left<'a> {
    directory: &'a OwnedFd,
    name: &'a OsStr,
    _lock: Flock<File>,
}

impl<'a> Left<'a> {
    fn find(directory: &'a OwnedFd, name: &'a OsStr) -> Option<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(directory, name, flags, Mode::empty()).ok()?;
        let kind = fstat(&opened).ok()?.st_mode & SFlag::S_IFMT.bits();
        if kind != SFlag::S_IFREG.bits() {
            return None;
        }
        // A shared one is enough, and NFS grants it for a file opened to be read.
        let lock = Flock::lock(File::from(opened), FlockArg::LockSharedNonblock);
        Some(Self {
            directory,
            name,
            _lock: lock.ok()?,
        })
    }

    fn remove(self) {
        take_away(self.directory, self.name);
    }
}

/// A file under its unfinished name, if it still has that: the name goes when
/// this is dropped, and then the lock.
pub(super) struct Unfinished<'a> {
    directory: &'a OwnedFd,
    pub(super) name: OsString,
    pub(super) file: Writer,
}

/// A file that is written.
pub(super) enum Writer {
    Locked(Flock<File>),
    /// Here nobody gets a lock: so nobody takes it for what a crash left.
    Unlocked(File),
}

impl Deref for Writer {
    type Target = File;
    fn deref(&self) -> &File {
        match self {
            Self::Locked(file) => file,
            Self::Unlocked(file) => file,
        }
    }
}

impl<'a> Unfinished<'a> {
    /// Makes one beside the place of the finished file, and locks it.
    pub(super) fn make(place: &'a Place<'_>) -> Result<Self, Problem> {
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for _ in 0..NAMES {
            let mut name = beginning(&place.name);
            name.push(random_name().ok_or_else(|| {
                Problem::at(
                    place.path,
                    "there are no random numbers for a name",
                    "check that the kernel's getrandom works",
                )
            })?);
            let opened = openat(&place.directory, name.as_os_str(), flags, OWNER_WRITES)
                .map_err(|errno| place.failed("no file can be made beside it", errno))?;
            let file = match Flock::lock(File::from(opened), FlockArg::LockExclusiveNonblock) {
                Ok(locked) => Writer::Locked(locked),
                // Somebody takes it for what a crash left: then it may go.
                Err((_, Errno::EWOULDBLOCK)) => {
                    take_away(&place.directory, &name);
                    continue;
                }
                Err((file, _)) => Writer::Unlocked(file),
            };
            let unfinished = Self {
                directory: &place.directory,
                name,
                file,
            };
            let there = fstat(&*unfinished.file)
                .map_err(|errno| place.failed("it can't be examined", errno))?;
            // Somebody may have removed it before it was locked.
            if there.st_nlink > 0 {
                return Ok(unfinished);
            }
        }
        Err(Problem::at(
            place.path,
            "files beside it are taken away while they are written",
            "look which program removes files there, and try again",
        ))
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        take_away(self.directory, &self.name);
    }
}

fn take_away(directory: &OwnedFd, name: &OsStr) {
    // Whether or not it goes: it says itself that it's no key.
    let _ = unlinkat(directory, name, UnlinkatFlags::NoRemoveDir);
}

fn random_name() -> Option<String> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::keys::store::{create_new, replace, sweep};

    fn trust() -> Trust {
        Trust::of_process(None)
    }

    fn all_in(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    /// What a crash leaves in the place of a file that was half written.
    fn crash(path: &Path) {
        let trust = trust();
        let place = Place::of(path, &trust).unwrap();
        let mut unfinished = place.write(b"half", 0o400, None).unwrap();
        // Whoever crashes keeps no lock.
        unfinished.file = Writer::Unlocked(File::open(path.parent().unwrap()).unwrap());
        std::mem::forget(unfinished);
    }

    #[test]
    fn what_a_crash_leaves_has_a_name_that_says_so_and_is_removed_by_who_tries_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login1.pem");
        let trust = trust();
        for again in [create_new, replace] {
            crash(&path);
            crash(&dir.path().join("login10.pem"));
            let left = leftovers(dir.path(), &trust).unwrap();
            assert_eq!(left.len(), 2);
            assert!(
                left.iter()
                    .all(|path| is_unfinished(path.file_name().unwrap()))
            );
            again(&path, b"whole", 0o400, &trust).unwrap();
            let left = leftovers(dir.path(), &trust).unwrap();
            let name = left[0].file_name().unwrap().to_str().unwrap();
            assert!(
                left.len() == 1 && name.starts_with(".login10.pem"),
                "{left:?}"
            );
            sweep(&dir.path().join("login10.pem"), &trust).unwrap();
            assert_eq!(all_in(dir.path()), ["login1.pem"]);
            fs::remove_file(&path).unwrap();
        }
        assert!(!is_unfinished(OsStr::new("login1.pem")));
    }

    #[test]
    fn what_somebody_writes_at_the_same_time_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        let trust = trust();
        let place = Place::of(&path, &trust).unwrap();
        let unfinished = place.write(b"theirs", 0o400, None).unwrap();
        replace(&path, b"ours", 0o644, &trust).unwrap();
        assert_eq!(
            leftovers(dir.path(), &trust).unwrap(),
            [""; 0].map(PathBuf::from)
        );
        fs::remove_file(&path).unwrap();
        place.link(&unfinished).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
    }

    #[test]
    fn nothing_but_a_regular_file_is_taken_for_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let name = |at: &str| dir.path().join(format!(".key.unfinished-{at}"));
        symlink("elsewhere", name("link")).unwrap();
        fs::create_dir(name("directory")).unwrap();
        nix::unistd::mkfifo(&name("pipe"), Mode::S_IRUSR).unwrap();
        create_new(&dir.path().join("key"), b"new", 0o400, &trust()).unwrap();
        assert_eq!(all_in(dir.path()).len(), 4);
    }
}
