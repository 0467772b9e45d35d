//! Files that must not be anybody else's: opened, and checked on the open
//! descriptor.
//!
//! A path is walked from `/` one component at a time, and each directory is
//! checked on the descriptor from which the next one is opened. Nobody can
//! put another file in place between a check and its use, because the check
//! was of the very directory that nobody else may write to.
//!
//! Access control lists need no look of their own: the group bits of a mode
//! are the mask of its list, so bits that are absent there grant nothing.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use zeroize::Zeroizing;

use crate::report::Problem;

/// The largest key file, in bytes; an RSA key of 4096 bits has 3.3 KiB.
pub const MAX_KEY_FILE: usize = 64 * 1024;
/// How many symbolic links one path may lead through, as in Linux itself.
const MAX_LINKS: usize = 40;

/// Who may own a trusted file and the directories above it: root, `SlurmUser`
/// and the process itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The uid of `SlurmUser`, where it is known.
    pub slurm_uid: Option<u32>,
    /// The effective uid of this process.
    pub own_uid: u32,
}

impl Trust {
    /// The trust of this process, by its effective uid.
    pub fn of_process(slurm_uid: Option<u32>) -> Self {
        Self {
            slurm_uid,
            own_uid: nix::unistd::geteuid().as_raw(),
        }
    }

    fn admits(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own_uid || Some(uid) == self.slurm_uid
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("root")?;
        if let Some(uid) = self.slurm_uid.filter(|&uid| uid != 0) {
            write!(f, " or SlurmUser (uid {uid})")?;
        }
        if self.own_uid != 0 && Some(self.own_uid) != self.slurm_uid {
            write!(f, " or uid {}", self.own_uid)?;
        }
        Ok(())
    }
}

/// Bytes that nobody may see. They are wiped when dropped.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over; what the vector held is wiped when this is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// Reads a key: a regular file of at most [`MAX_KEY_FILE`] bytes that belongs
/// to a trusted owner and has no permission bit for group or others, below
/// directories that nobody else can write to.
pub fn read_key(path: &Path, trust: &Trust) -> Result<SecretBytes, Problem> {
    let opened = open(path, trust)?;
    let mode = opened.mode();
    if mode & 0o077 != 0 {
        return Err(Problem::at(
            &opened.place,
            format!("its mode {mode:04o} gives others than its owner access to this key"),
            format!("chmod 0600 {}", quoted(&opened.place)),
        ));
    }
    opened.read(MAX_KEY_FILE).map(SecretBytes)
}

/// Reads a file that all may see but only a trusted owner may write to: a
/// configuration, a public key, a JWKS. At most `limit` bytes.
pub fn read_public(path: &Path, trust: &Trust, limit: usize) -> Result<Vec<u8>, Problem> {
    let opened = open(path, trust)?;
    let mode = opened.mode();
    if mode & 0o022 != 0 {
        return Err(Problem::at(
            &opened.place,
            format!("its mode {mode:04o} lets others than its owner write to it"),
            format!("chmod go-w {}", quoted(&opened.place)),
        ));
    }
    opened
        .read(limit)
        .map(|mut bytes| std::mem::take(&mut *bytes))
}

/// Opens a directory whose entries nobody but trusted owners can put in place
/// or remove, by the same walk. What is made through the descriptor is made
/// there, whatever becomes of the path.
pub fn open_directory(path: &Path, trust: &Trust) -> Result<OwnedFd, Problem> {
    let mut walk = Walk::to(path, trust)?;
    loop {
        match walk.step()? {
            Step::Further => {}
            Step::Arrived => return Ok(walk.directory),
            Step::File(name) => return Err(walk.not_a_directory(&name)),
        }
    }
}

/// Opens a regular file of a trusted owner below trusted directories.
fn open(path: &Path, trust: &Trust) -> Result<Opened, Problem> {
    let mut walk = Walk::to(path, trust)?;
    loop {
        match walk.step()? {
            Step::Further => {}
            Step::Arrived => {
                return Err(Problem::at(
                    &walk.place,
                    "this is a directory, not a file",
                    "name a file in it",
                ));
            }
            Step::File(name) if walk.todo.is_empty() => return walk.open(&name),
            Step::File(name) => return Err(walk.not_a_directory(&name)),
        }
    }
}

/// A regular file of a trusted owner, open for reading.
struct Opened {
    file: File,
    stat: FileStat,
    place: PathBuf,
}

impl Opened {
    fn mode(&self) -> u32 {
        self.stat.st_mode & 0o7777
    }

    /// The content, in memory of its exact size: growing a vector would leave
    /// copies of its bytes behind.
    fn read(mut self, limit: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let size = usize::try_from(self.stat.st_size).unwrap_or(usize::MAX);
        if size > limit {
            return Err(Problem::at(
                &self.place,
                format!("it has {size} bytes; at most {limit} are read"),
                "name the right file",
            ));
        }
        // One byte more than expected shows that the file has grown.
        let mut bytes = Zeroizing::new(vec![0; size + 1]);
        let mut length = 0;
        while length < bytes.len() {
            match self.file.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(Problem::at(
                        &self.place,
                        format!("it can't be read: {e}"),
                        "check the file system it is on",
                    ));
                }
            }
        }
        if length != size {
            return Err(Problem::at(
                &self.place,
                "it was written to while it was read",
                "try again; replace such files by rename, never in place",
            ));
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// What the next component of a path turned out to be.
enum Step {
    /// A directory or a symbolic link: the walk goes on from there.
    Further,
    /// There is no next component.
    Arrived,
    /// Neither of these, by this name in [`Walk::directory`].
    File(OsString),
}

/// A walk from `/` along a path.
struct Walk<'a> {
    trust: &'a Trust,
    /// Where the walk has come to...
    directory: OwnedFd,
    /// ...and its path, without symbolic links.
    place: PathBuf,
    /// The components still ahead.
    todo: VecDeque<OsString>,
    /// How many symbolic links were followed, and the last of them.
    links: usize,
    via: Option<String>,
}

impl<'a> Walk<'a> {
    fn to(path: &Path, trust: &'a Trust) -> Result<Self, Problem> {
        let absolute = std::path::absolute(path)
            .map_err(|e| Problem::at(path, format!("this is no path: {e}"), "correct the path"))?;
        let mut walk = Self {
            trust,
            directory: root_directory()?,
            place: PathBuf::from("/"),
            todo: VecDeque::new(),
            links: 0,
            via: None,
        };
        walk.check_directory(&walk.stat(&walk.directory)?)?;
        walk.ahead(&absolute)?;
        Ok(walk)
    }

    /// Puts a path in front of what is still ahead.
    fn ahead(&mut self, path: &Path) -> Result<(), Problem> {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.todo.push_front(name.to_owned()),
                Component::ParentDir => self.todo.push_front(OsString::from("..")),
                Component::CurDir | Component::Prefix(_) => {}
                Component::RootDir => {
                    self.directory = root_directory()?;
                    self.place = PathBuf::from("/");
                }
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Step, Problem> {
        let Some(name) = self.todo.pop_front() else {
            return Ok(Step::Arrived);
        };
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = openat(&self.directory, name.as_os_str(), flags, Mode::empty())
            .map_err(|errno| self.unopened(&name, errno))?;
        let stat = self.stat(&found)?;
        match kind(&stat) {
            SFlag::S_IFDIR => {
                self.directory = found;
                if name == ".." {
                    self.place.pop();
                } else {
                    self.place.push(&name);
                }
                self.check_directory(&stat)?;
                Ok(Step::Further)
            }
            SFlag::S_IFLNK => {
                self.follow(&name, &found, &stat)?;
                Ok(Step::Further)
            }
            _ => Ok(Step::File(name)),
        }
    }

    /// Goes on where a symbolic link points to, by the same rules.
    fn follow(&mut self, name: &OsStr, link: &OwnedFd, stat: &FileStat) -> Result<(), Problem> {
        let place = self.place.join(name);
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Problem::at(
                &place,
                format!("the path leads through more than {MAX_LINKS} symbolic links"),
                "name the file itself",
            ));
        }
        // The link's owner decided where the path goes on, as a directory's owner does.
        self.check_owner(&place, stat)?;
        let target = readlinkat(link, "").map_err(|errno| self.unopened(name, errno))?;
        let target = PathBuf::from(target);
        self.via = Some(format!("{} -> {}", place.display(), target.display()));
        self.ahead(&target)
    }

    /// Opens the file at the end of the walk. All checks are of this
    /// descriptor; what was seen by name before doesn't count.
    fn open(&self, name: &OsStr) -> Result<Opened, Problem> {
        let place = self.place.join(name);
        // Without O_NONBLOCK a FIFO would hold us until somebody writes to it.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let descriptor = openat(&self.directory, name, flags, Mode::empty())
            .map_err(|errno| self.unopened(name, errno))?;
        let stat = self.stat(&descriptor)?;
        if kind(&stat) != SFlag::S_IFREG {
            return Err(Problem::at(
                &place,
                "this is not a regular file",
                "name a file, not a device, pipe or socket",
            ));
        }
        self.check_owner(&place, &stat)?;
        Ok(Opened {
            file: File::from(descriptor),
            stat,
            place,
        })
    }

    fn check_owner(&self, place: &Path, stat: &FileStat) -> Result<(), Problem> {
        if self.trust.admits(stat.st_uid) {
            return Ok(());
        }
        Err(Problem::at(
            place,
            format!(
                "it belongs to uid {} (mode {:04o}){}, but must belong to {}",
                stat.st_uid,
                stat.st_mode & 0o7777,
                self.through(),
                self.trust
            ),
            format!("chown -h root {}", quoted(place)),
        ))
    }

    /// Refuses a directory in which others could put a file of their own in
    /// the place of ours. Where everybody writes but only owners remove, as in
    /// `/tmp`, they can't: the next component has to have a trusted owner.
    fn check_directory(&self, stat: &FileStat) -> Result<(), Problem> {
        self.check_owner(&self.place, stat)?;
        let mode = stat.st_mode & 0o7777;
        let only_owners_remove = mode & 0o1000 != 0 && stat.st_uid == 0;
        if mode & 0o022 == 0 || only_owners_remove {
            return Ok(());
        }
        Err(Problem::at(
            &self.place,
            format!(
                "mode {mode:04o} of this directory (owner uid {}){} lets others put files of \
                 their own here",
                stat.st_uid,
                self.through()
            ),
            format!("chmod go-w {}", quoted(&self.place)),
        ))
    }

    /// The last symbolic link that led here: the cause lies where it points from.
    fn through(&self) -> String {
        self.via
            .as_ref()
            .map(|link| format!(", reached through the symbolic link {link}"))
            .unwrap_or_default()
    }

    fn stat(&self, descriptor: &OwnedFd) -> Result<FileStat, Problem> {
        fstat(descriptor).map_err(|errno| {
            Problem::at(
                &self.place,
                format!("it can't be examined: {}", errno.desc()),
                "check the file system it is on",
            )
        })
    }

    fn unopened(&self, name: &OsStr, errno: Errno) -> Problem {
        let place = self.place.join(name);
        let through = self.through();
        match errno {
            Errno::ENOENT => Problem::at(
                &place,
                format!("there is no such file or directory{through}"),
                "correct the path, or make the file",
            ),
            Errno::EACCES | Errno::EPERM => Problem::at(
                &place,
                format!("uid {} may not open it{through}", self.trust.own_uid),
                format!(
                    "look at its owner and those of its directories: namei -l {}",
                    quoted(&place)
                ),
            ),
            // O_NOFOLLOW: what was a file a moment ago has become a link.
            Errno::ELOOP => Problem::at(&place, "it was replaced while it was opened", "try again"),
            _ => Problem::at(
                &place,
                format!("it can't be opened{through}: {}", errno.desc()),
                "correct the path",
            ),
        }
    }

    fn not_a_directory(&self, name: &OsStr) -> Problem {
        Problem::at(
            &self.place.join(name),
            format!("this is not a directory{}", self.through()),
            "correct the path",
        )
    }
}

fn root_directory() -> Result<OwnedFd, Problem> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open("/", flags, Mode::empty()).map_err(|errno| {
        Problem::at(
            Path::new("/"),
            format!("it can't be opened: {}", errno.desc()),
            "check the limit of open files (ulimit -n)",
        )
    })
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// A path as a word of a shell command.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
