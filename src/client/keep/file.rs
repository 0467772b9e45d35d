use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use zeroize::Zeroizing;

use super::super::bearer::Bearer;
use crate::keys::file::{Trust, open_directory, quoted};
use crate::report::Problem;

/// What is read of a file that is to be replaced; a token's file has less.
const MOST: u64 = 32 * 1024;

/// The place of the file, held against every other keeper.
///
/// It's in a directory that nobody else can write to, nor to any above it, so
/// that names there are nobody else's to change: the walk checks that at each
/// renewal, on the descriptors it goes by.
pub(super) struct Place {
    path: PathBuf,
    name: OsString,
    trust: Trust,
    directory: OwnedFd,
    lock: File,
}

impl Place {
    /// Takes the place, if it's fit for a token and no other keeper has it.
    ///
    /// A directory that isn't there is made, for its owner alone, if the one
    /// above it is; a file that is there must be a token's.
    pub(super) fn take(path: &Path) -> Result<Self, Problem> {
        let name = path
            .file_name()
            .ok_or_else(|| Problem::at(path, "this names no file", "name a file"))?
            .to_owned();
        let trust = Trust::of_process(None);
        let directory = open_or_make(path, &trust)?;
        let lock = lock(path, &directory, &beside(&name, "lock"))?;
        let place = Self {
            path: path.to_owned(),
            name,
            trust,
            directory,
            lock,
        };
        place.check_content()?;
        Ok(place)
    }

    /// Puts the bytes in the place of what is there: whole, or not at all.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.find_again()?;
        self.look()?;
        let unfinished = beside(&self.name, "new");
        // Nobody but a keeper that died here can have left one.
        let _ = unlinkat(
            &self.directory,
            unfinished.as_os_str(),
            UnlinkatFlags::NoRemoveDir,
        );
        let written = self.write(&unfinished, bytes).and_then(|()| {
            renameat(
                &self.directory,
                unfinished.as_os_str(),
                &self.directory,
                self.name.as_os_str(),
            )
            .map_err(|errno| self.failed("it can't be replaced", errno))
        });
        if written.is_err() {
            let _ = unlinkat(
                &self.directory,
                unfinished.as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
        written
    }

    /// Takes the keeper's mark away. The token stays: it's valid until it
    /// expires.
    pub(super) fn leave(&self) {
        // While it's held, the name is nobody else's.
        let name = beside(&self.name, "lock");
        if names(&self.directory, &name, &self.lock) {
            let _ = unlinkat(
                &self.directory,
                name.as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
    }

    /// The directory may have been removed, or another put in its place.
    fn find_again(&mut self) -> Result<(), Problem> {
        let directory = open_or_make(&self.path, &self.trust)?;
        let name = beside(&self.name, "lock");
        if !names(&directory, &name, &self.lock) {
            self.lock = lock(&self.path, &directory, &name)?;
        }
        self.directory = directory;
        Ok(())
    }

    /// Is something there, and is it a file of ours.
    fn look(&self) -> Result<bool, Problem> {
        let seen = fstatat(
            &self.directory,
            self.name.as_os_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        );
        let complain = |what: &str| {
            let remedy = "name another file: this one is not replaced";
            Err(Problem::at(&self.path, what, remedy))
        };
        match seen {
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.failed("it can't be examined", errno)),
            Ok(stat) if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits() => {
                complain("this is a symbolic link")
            }
            Ok(stat) if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() => {
                complain("this is not a regular file")
            }
            Ok(stat) if stat.st_uid != self.trust.own_uid => {
                complain(&format!("this file is uid {}'s", stat.st_uid))
            }
            Ok(_) => Ok(true),
        }
    }

    /// A file that holds anything else than a token was named by mistake.
    fn check_content(&self) -> Result<(), Problem> {
        if !self.look()? {
            return Ok(());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(&self.directory, self.name.as_os_str(), flags, Mode::empty())
            .map_err(|errno| self.failed("it can't be read", errno))?;
        let mut content = Zeroizing::new(Vec::new());
        File::from(opened)
            .take(MOST)
            .read_to_end(&mut content)
            .map_err(|e| {
                Problem::at(&self.path, format!("it can't be read: {e}"), "name another")
            })?;
        if may_be_replaced(&content) {
            return Ok(());
        }
        Err(Problem::at(
            &self.path,
            "this file holds something else than a token",
            "name another file, or remove this one",
        ))
    }

    fn write(&self, name: &OsStr, bytes: &[u8]) -> Result<(), Problem> {
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let opened = openat(&self.directory, name, flags, mode)
            .map_err(|errno| self.failed("no file can be made beside it", errno))?;
        let mut file = File::from(opened);
        // Whatever the umask is: neither more nor less.
        fchmod(&file, mode)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all())
            .map_err(|e| {
                let directory = parent(&self.path);
                Problem::at(
                    &self.path,
                    format!("it can't be written: {e}"),
                    format!("check space and quota: df {}", quoted(&directory)),
                )
            })
    }

    fn failed(&self, what: &str, errno: Errno) -> Problem {
        failed(&self.path, what, errno)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

fn failed(path: &Path, what: &str, errno: Errno) -> Problem {
    let remedy = match errno {
        Errno::EACCES | Errno::EPERM => "name a file in a directory of your own",
        Errno::EROFS => "name a file on a file system that can be written to",
        Errno::ENAMETOOLONG => "give it a shorter name",
        Errno::EISDIR | Errno::ENOTDIR => "name a file",
        Errno::ENOSPC | Errno::EDQUOT => "check space and quota of the file system it is on",
        _ => "check the file system it is on",
    };
    Problem::at(path, format!("{what}: {}", errno.desc()), remedy)
}

/// The name of a file of the keeper's own, beside the one it keeps.
fn beside(name: &OsStr, what: &str) -> OsString {
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".");
    beside.push(what);
    beside
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The file's directory; if it isn't there, it's made for its owner alone. The
/// ones above it are not: where they are gone, so is what they belonged to.
fn open_or_make(path: &Path, trust: &Trust) -> Result<OwnedFd, Problem> {
    let wanted = parent(path);
    let own = |problem: Problem| Problem {
        remedy: format!(
            "{}, or name a file in a directory of your own",
            problem.remedy
        ),
        ..problem
    };
    // A link that points nowhere is there all the same.
    let missing = wanted.file_name().filter(|_| {
        wanted
            .symlink_metadata()
            .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    });
    if let Some(name) = missing {
        let above = open_directory(&parent(&wanted), trust).map_err(own)?;
        match mkdirat(&above, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(&wanted, "this directory can't be made", errno)),
        }
    }
    let directory = open_directory(&wanted, trust).map_err(own)?;
    // The walk lets /tmp pass, where others can't replace what is ours. They
    // could take the names first that a keeper needs.
    let seen = fstat(&directory).map_err(|errno| failed(&wanted, "it can't be examined", errno))?;
    if seen.st_mode & 0o022 != 0 {
        return Err(Problem::at(
            &wanted,
            "others can write to this directory",
            "name a file in a directory of your own",
        ));
    }
    Ok(directory)
}

/// Locks the file of this name in the directory, which says who keeps.
fn lock(path: &Path, directory: &OwnedFd, name: &OsStr) -> Result<File, Problem> {
    let flags = OFlag::O_CREAT | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    loop {
        let opened = openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| failed(path, "no file can be made beside it", errno))?;
        let mut file = File::from(opened);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut keeper = String::new();
                let _ = file.take(32).read_to_string(&mut keeper);
                return Err(Problem::at(
                    path,
                    format!(
                        "another slurm-token, process {}, keeps this file",
                        keeper.trim()
                    ),
                    "let it, or end it first",
                ));
            }
            Err(TryLockError::Error(e)) => {
                return Err(Problem::at(
                    path,
                    format!("it can't be locked: {e}"),
                    "name a file on a local file system",
                ));
            }
        }
        // Whoever held it before may have removed its name just now.
        if names(directory, name, &file) {
            // For people to read; the lock doesn't depend on it.
            let _ = file.set_len(0);
            let _ = writeln!(file, "{}", std::process::id());
            return Ok(file);
        }
    }
}

/// Does the name in the directory lead to this open file.
fn names(directory: &OwnedFd, name: &OsStr, file: &File) -> bool {
    let named = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW);
    match (named, file.metadata()) {
        (Ok(named), Ok(open)) => (named.st_dev, named.st_ino) == (open.dev(), open.ino()),
        _ => false,
    }
}

/// Nothing, or a token in one of the forms that `--format` has: what a keeper
/// may replace.
fn may_be_replaced(content: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content) else {
        return false;
    };
    let line = text.lines().next().unwrap_or_default().trim();
    if text.trim().is_empty() {
        return true;
    }
    let json = serde_json::from_str::<serde_json::Value>(text).ok();
    if let Some(token) = json.as_ref().and_then(|json| json["token"].as_str()) {
        return Bearer::read(token).is_some();
    }
    let token = line.rsplit([' ', '=']).next().unwrap_or_default();
    let before = line.strip_suffix(token).unwrap_or_default();
    let known = [
        "",
        "SLURM_JWT=",
        "export SLURM_JWT=",
        "X-SLURM-USER-TOKEN: ",
        "header = \"X-SLURM-USER-TOKEN: ",
    ];
    known.contains(&before) && Bearer::read(token.trim_end_matches('"')).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::format;
    use crate::wire::Issued;

    fn issued() -> Issued {
        Issued {
            // {"sun":"alice"}
            token: "e30.eyJzdW4iOiJhbGljZSJ9.c2ln".into(),
            user: "alice".into(),
            expires_at: 1_795_305_600,
            kid: "login1".into(),
            jti: "7f".into(),
        }
    }

    #[test]
    fn what_a_keeper_wrote_may_be_replaced() {
        for format in format::Format::ALL {
            let written = format::token(&issued(), format);
            assert!(may_be_replaced(&written), "{}", format.name());
        }
        assert!(may_be_replaced(b""));
        assert!(may_be_replaced(b"\n"));
    }

    #[test]
    fn what_somebody_else_wrote_may_not_be_replaced() {
        let token = &issued().token;
        for text in [
            "export PATH=/usr/bin",
            "{\"key\":1}",
            "e30.e30.c2ln",
            &format!("ssh-rsa {token}"),
            &format!("# mine\n{token}"),
        ] {
            assert!(!may_be_replaced(text.as_bytes()), "{text}");
        }
        assert!(!may_be_replaced(b"\xff\xfe"));
    }
}
