//! Key files made and replaced so that a reader, and a crash at any instant,
//! finds a whole file or none.
//!
//! A new file is written without a name, synced, and only then given its name:
//! a crash leaves nothing of it. One that takes another's place, and a new one
//! where the file system has no files without names, is written under a name
//! that says it's unfinished. Its writer holds a lock on it, so whoever gets
//! the lock knows that a crash left it, and may remove it.
//!
//! Nothing is truncated or overwritten in place: slurmctld maps its key, and
//! dies when the file under it gets shorter.

mod unfinished;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, linkat, unlinkat};

use self::unfinished::{OWNER_WRITES, Unfinished};
pub use self::unfinished::{is_unfinished, leftovers, leftovers_of};
use super::file::{Trust, open_directory, quoted};
use crate::report::Problem;

/// Removes what crashes left where `path` was to be made.
pub fn sweep(path: &Path, trust: &Trust) -> Result<(), Problem> {
    unfinished::sweep(&Place::of(path, trust)?);
    Ok(())
}

/// Whether [`create_new`] has a chance: the file isn't there yet, and its
/// directory is as [`super::file::read_key`] will want it. What crashes left of
/// it goes.
pub fn check_new(path: &Path, trust: &Trust) -> Result<(), Problem> {
    let place = Place::of(path, trust)?;
    unfinished::sweep(&place);
    place.check_free()
}

/// Makes a file that isn't there yet, with the permission bits `mode`; one
/// that is there stays as it is, and is an error.
pub fn create_new(path: &Path, bytes: &[u8], mode: u32, trust: &Trust) -> Result<(), Problem> {
    create_for(path, bytes, mode, None, trust)
}

/// The same for another owner, where root makes the file.
pub fn create_for(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(Uid, Gid)>,
    trust: &Trust,
) -> Result<(), Problem> {
    let place = Place::of(path, trust)?;
    unfinished::sweep(&place);
    place.check_free()?;
    let owner = owner.filter(|_| trust.own_uid == 0);
    if let Some(nameless) = place.nameless() {
        place.fill(&nameless, bytes, mode, owner)?;
        match place.link_nameless(&nameless) {
            Ok(()) => return place.sync(),
            Err(Errno::EEXIST) => return Err(place.taken()),
            // As without /proc. With a name of its own it works, or says why not.
            Err(_) => {}
        }
    }
    let unfinished = place.write(bytes, mode, owner)?;
    place.link(&unfinished)?;
    drop(unfinished);
    place.sync()
}

/// Puts a file in the place of the one that is there, if any, by rename.
/// A trusted owner of the old one owns the new one, where that is ours to do.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, trust: &Trust) -> Result<(), Problem> {
    let place = Place::of(path, trust)?;
    let keeps = |owner: &Owner| trust.own_uid == 0 && trust.admits(owner.0.as_raw());
    place.replace(bytes, mode, place.look()?.filter(keeps))
}

/// The same in a directory that is open already; `path` is what it's called.
/// Where root does it, the file is given to `owner`.
pub fn replace_in(
    directory: &OwnedFd,
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: (Uid, Gid),
) -> Result<(), Problem> {
    let trust = Trust::of_process(None);
    let place = Place {
        path,
        directory: directory.try_clone().map_err(|e| {
            Problem::at(
                path,
                format!("it can't be written: {e}"),
                "raise LimitNOFILE=",
            )
        })?,
        name: path.file_name().unwrap_or_default().to_owned(),
        trust: &trust,
    };
    place.look()?;
    place.replace(bytes, mode, (trust.own_uid == 0).then_some(owner))
}

/// Gives a file the name of another in its directory, whose file is gone then,
/// with what crashes left of either.
pub fn rename_over(from: &Path, to: &Path, trust: &Trust) -> Result<(), Problem> {
    let (old, new) = (Place::of(from, trust)?, Place::of(to, trust)?);
    unfinished::sweep(&old);
    unfinished::sweep(&new);
    renameat(
        &old.directory,
        old.name.as_os_str(),
        &new.directory,
        new.name.as_os_str(),
    )
    .map_err(|errno| old.failed("it can't be renamed", errno))?;
    new.sync()
}

/// Gives a file one more name in its directory, unless that is its name already.
pub fn link(from: &Path, to: &Path, trust: &Trust) -> Result<(), Problem> {
    let (old, new) = (Place::of(from, trust)?, Place::of(to, trust)?);
    let linked = linkat(
        &old.directory,
        old.name.as_os_str(),
        &new.directory,
        new.name.as_os_str(),
        AtFlags::empty(),
    );
    match linked {
        Err(Errno::EEXIST) if old.inode()? == new.inode()? => Ok(()),
        Err(Errno::EEXIST) => Err(new.taken()),
        Err(errno) => Err(old.failed("it can't be given a second name", errno)),
        Ok(()) => new.sync(),
    }
}

/// Takes a file away, if it's there, and what crashes left of it. What it held
/// stays on the disk until the file system uses the place again: no overwriting
/// would change that for sure.
pub fn remove(path: &Path, trust: &Trust) -> Result<(), Problem> {
    let place = Place::of(path, trust)?;
    unfinished::sweep(&place);
    let flags = UnlinkatFlags::NoRemoveDir;
    match unlinkat(&place.directory, place.name.as_os_str(), flags) {
        Ok(()) => place.sync(),
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(place.failed("it can't be removed", errno)),
    }
}

/// Makes a directory that all may look into, unless it's there.
pub fn make_directory(path: &Path, trust: &Trust) -> Result<(), Problem> {
    let place = Place::of(path, trust)?;
    let mode = Mode::from_bits_truncate(0o755);
    match mkdirat(&place.directory, place.name.as_os_str(), mode) {
        Ok(()) => place.sync(),
        Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(place.failed("it can't be made", errno)),
    }
}

/// Makes the names in a directory last through a crash of the machine.
pub fn sync(directory: &OwnedFd) -> Result<(), Errno> {
    // It may have been opened as a place only (O_PATH).
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(directory, ".", flags, Mode::empty()).and_then(nix::unistd::fsync)
}

/// Where a file is to be.
struct Place<'a> {
    path: &'a Path,
    directory: OwnedFd,
    name: OsString,
    trust: &'a Trust,
}

/// Who owns a file.
type Owner = (Uid, Gid);

impl<'a> Place<'a> {
    fn of(path: &'a Path, trust: &'a Trust) -> Result<Self, Problem> {
        let no_name = || Problem::at(path, "this names no file", "name a file");
        let name = path.file_name().ok_or_else(no_name)?.to_owned();
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let parent = parent.unwrap_or(Path::new("."));
        Ok(Self {
            path,
            directory: open_directory(parent, trust)?,
            name,
            trust,
        })
    }

    fn check_free(&self) -> Result<(), Problem> {
        match self.look()? {
            None => Ok(()),
            Some(_) => Err(self.taken()),
        }
    }

    /// The owner of the file that is there.
    fn look(&self) -> Result<Option<Owner>, Problem> {
        match fstatat(
            &self.directory,
            self.name.as_os_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        ) {
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("it can't be examined", errno)),
            Ok(stat) if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() => Ok(Some((
                Uid::from_raw(stat.st_uid),
                Gid::from_raw(stat.st_gid),
            ))),
            Ok(_) => Err(Problem::at(
                self.path,
                "what is there is not a regular file",
                "name a file, not a symbolic link, directory or device",
            )),
        }
    }

    /// Which file is there.
    fn inode(&self) -> Result<u64, Problem> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        fstatat(&self.directory, self.name.as_os_str(), flags)
            .map(|stat| stat.st_ino)
            .map_err(|errno| self.failed("it can't be examined", errno))
    }

    /// Puts a file in the place of the one that is there, if any.
    fn replace(&self, bytes: &[u8], mode: u32, owner: Option<Owner>) -> Result<(), Problem> {
        unfinished::sweep(self);
        let unfinished = self.write(bytes, mode, owner)?;
        renameat(
            &self.directory,
            unfinished.name.as_os_str(),
            &self.directory,
            self.name.as_os_str(),
        )
        .map_err(|errno| self.failed("it can't be given its name", errno))?;
        self.sync()
    }

    /// A file without a name, where the file system has such.
    fn nameless(&self) -> Option<File> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let opened = openat(&self.directory, ".", flags, OWNER_WRITES);
        opened.ok().map(File::from)
    }

    /// Gives it its name, unless that is taken.
    fn link_nameless(&self, nameless: &File) -> Result<(), Errno> {
        let flags = AtFlags::AT_SYMLINK_FOLLOW;
        let descriptor = format!("/proc/self/fd/{}", nameless.as_raw_fd());
        linkat(
            AT_FDCWD,
            descriptor.as_str(),
            &self.directory,
            self.name.as_os_str(),
            flags,
        )
    }

    /// Writes the whole file under an unfinished name.
    fn write(
        &self,
        bytes: &[u8],
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<Unfinished<'_>, Problem> {
        let unfinished = Unfinished::make(self)?;
        self.fill(&unfinished.file, bytes, mode, owner)?;
        Ok(unfinished)
    }

    /// Writes the whole of a file that is made with nothing in it.
    fn fill(
        &self,
        mut file: &File,
        bytes: &[u8],
        mode: u32,
        owner: Option<Owner>,
    ) -> Result<(), Problem> {
        let created = fstat(file).map_err(|errno| self.failed("it can't be examined", errno))?;
        if created.st_uid != self.trust.own_uid {
            return Err(Problem::at(
                self.path,
                format!(
                    "the file system gives a file that uid {} makes to uid {}",
                    self.trust.own_uid, created.st_uid
                ),
                "keep such files on a local file system",
            ));
        }
        if let Some((uid, gid)) = owner {
            fchown(file, Some(uid), Some(gid))
                .map_err(|errno| self.failed("it can't keep its owner", errno))?;
        }
        // The permission bits last: nobody else may open what isn't whole.
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(fchmod(file, Mode::from_bits_truncate(mode))?))
            .and_then(|()| file.sync_all())
            .map_err(|e| {
                Problem::at(
                    self.path,
                    format!("it can't be written: {e}"),
                    format!("check space and quota: df {}", quoted(&self.parent())),
                )
            })
    }

    /// Gives a file its name. A link, other than a rename, fails where the name
    /// is taken; and every file system of a cluster has it.
    fn link(&self, unfinished: &Unfinished<'_>) -> Result<(), Problem> {
        linkat(
            &self.directory,
            unfinished.name.as_os_str(),
            &self.directory,
            self.name.as_os_str(),
            AtFlags::empty(),
        )
        .map_err(|errno| match errno {
            Errno::EEXIST => self.taken(),
            _ => self.failed("it can't be given its name", errno),
        })
    }

    /// Makes the new name last through a crash of the machine.
    fn sync(&self) -> Result<(), Problem> {
        sync(&self.directory)
            .map_err(|errno| self.failed("it is there, but its directory can't be synced", errno))
    }

    fn parent(&self) -> PathBuf {
        let parent = self.path.parent().filter(|p| *p != Path::new(""));
        parent.unwrap_or(Path::new(".")).to_owned()
    }

    fn taken(&self) -> Problem {
        let file = quoted(self.path);
        Problem::at(
            self.path,
            "this file exists, and is never overwritten",
            format!("name another file, or move this one away: mv -n {file} {file}.old"),
        )
    }

    fn failed(&self, what: &str, errno: Errno) -> Problem {
        let remedy = match errno {
            Errno::EACCES | Errno::EPERM => "run this as root, or name a directory of your own",
            Errno::EROFS => "name a file on a file system that can be written to",
            Errno::ENAMETOOLONG => "give it a shorter name",
            _ => "check the file system it is on",
        };
        Problem::at(self.path, format!("{what}: {}", errno.desc()), remedy)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::*;

    fn trust() -> Trust {
        Trust::of_process(None)
    }

    fn names_in(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_new_file_has_its_content_and_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o400, 0o600, 0o644] {
            let path = dir.path().join("key");
            create_new(&path, b"content", mode, &trust()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"content");
            let made = fs::metadata(&path).unwrap();
            assert_eq!((made.mode() & 0o7777, made.nlink()), (mode, 1));
            assert_eq!(names_in(dir.path()), ["key"]);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_there_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, b"old").unwrap();
        let problem = create_new(&path, b"new", 0o400, &trust()).unwrap_err();
        assert!(problem.what.contains("never overwritten"), "{problem}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names_in(dir.path()), ["key"]);
    }

    #[test]
    fn a_file_that_comes_while_ours_is_written_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let trust = trust();
        let place = Place::of(&path, &trust).unwrap();
        let unfinished = place.write(b"new", 0o400, None).unwrap();
        fs::write(&path, b"other").unwrap();
        let problem = place.link(&unfinished).unwrap_err();
        assert!(problem.what.contains("never overwritten"), "{problem}");
        assert_eq!(fs::read(&path).unwrap(), b"other");
    }

    #[test]
    fn a_symbolic_link_in_the_place_of_a_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        symlink("elsewhere", &path).unwrap();
        assert!(create_new(&path, b"new", 0o400, &trust()).is_err());
        assert!(replace(&path, b"new", 0o400, &trust()).is_err());
        assert_eq!(names_in(dir.path()), ["key"]);
    }

    #[test]
    fn a_replaced_file_is_another_file_so_that_a_mapping_of_the_old_one_lives_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        fs::write(&path, b"a long old content").unwrap();
        let mapped = File::open(&path).unwrap();
        replace(&path, b"new", 0o644, &trust()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mapped.metadata().unwrap().len(), 18);
        assert_eq!(names_in(dir.path()), ["jwks.json"]);
    }

    #[test]
    fn a_replaced_file_keeps_a_trusted_owner_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        fs::write(&path, b"old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        chown(&path, Some(64030), Some(64030)).expect("these tests run as root");
        replace(&path, b"new", 0o644, &Trust::of_process(Some(64030))).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!(
            (made.uid(), made.gid(), made.mode() & 0o7777),
            (64030, 64030, 0o644)
        );
        replace(&path, b"new", 0o644, &trust()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
    }

    #[test]
    fn nothing_is_made_in_a_directory_that_others_can_write_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let path = dir.path().join("key");
        assert!(create_new(&path, b"new", 0o400, &trust()).is_err());
        assert!(replace(&path, b"new", 0o400, &trust()).is_err());
        assert!(names_in(dir.path()).is_empty());
    }

    #[test]
    fn of_a_new_file_there_is_nothing_before_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let trust = trust();
        let place = Place::of(&path, &trust).unwrap();
        let nameless = place.nameless().expect("a file system that has such");
        place.fill(&nameless, b"new", 0o400, None).unwrap();
        assert!(names_in(dir.path()).is_empty());
        place.link_nameless(&nameless).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(place.link_nameless(&nameless), Err(Errno::EEXIST));
    }
}
