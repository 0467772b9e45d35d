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

    pub(super) fn admits(&self, uid: u32) -> bool {
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
    open(path, trust)?.read_public(limit)
}

/// Reads a file such as [`read_public`] reads, in a directory that is open
/// already; `path` is what it's called.
pub fn read_in(
    directory: &OwnedFd,
    path: &Path,
    trust: &Trust,
    limit: usize,
) -> Result<Vec<u8>, Problem> {
    let name = path.file_name().unwrap_or_default();
    let mut walk = Walk::to(Path::new("/"), trust)?;
    walk.directory = directory.try_clone().map_err(|e| {
        Problem::at(
            path,
            format!("it can't be opened: {e}"),
            "raise LimitNOFILE=",
        )
    })?;
    walk.place = path.parent().map(Path::to_owned).unwrap_or_default();
    walk.open(name)?.read_public(limit)
}

/// Opens a directory whose entries nobody but trusted owners can put in place
/// or remove, by the same walk. What is made through the descriptor is made
/// there, whatever becomes of the path.
pub fn open_directory(path: &Path, trust: &Trust) -> Result<OwnedFd, Problem> {
    let mut walk = Walk::to(path, trust)?;
    walk.if_missing = format!("make it with: install -d -m 0755 {}", quoted(path));
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

    /// The content, unless others than the owner may write to it.
    fn read_public(self, limit: usize) -> Result<Vec<u8>, Problem> {
        let mode = self.mode();
        if mode & 0o022 != 0 {
            return Err(Problem::at(
                &self.place,
                format!("its mode {mode:04o} lets others than its owner write to it"),
                format!("chmod go-w {}", quoted(&self.place)),
            ));
        }
        self.read(limit)
            .map(|mut bytes| std::mem::take(&mut *bytes))
    }

    /// The content, in memory of its exact size: growing a vector would leave
    /// copies of its bytes behind.
    fn read(mut self, limit: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let size = usize::try_from(self.stat.st_size).unwrap_or(usize::MAX);
        if size > limit {
            return Err(Problem::at(
                &self.place,
                format!("it has {size} bytes, and at most {limit} are read"),
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
    /// What to do where there is nothing of a component's name.
    if_missing: String,
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
            if_missing: "correct the path, or make the file".into(),
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
                self.if_missing.clone(),
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

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::process::Command;

    use super::*;

    const SLURM: u32 = 64030;
    const OTHER: u32 = 1001;
    const TRUST: Trust = Trust {
        slurm_uid: Some(SLURM),
        own_uid: 991,
    };
    const CONTENT: &[u8] = b"content";

    /// `etc/key` in a directory of its own, all as it should be. Owners are
    /// real, so these tests run as root.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            tree.directory("etc");
            tree.file("etc/key");
            tree
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn directory(&self, name: &str) {
            fs::create_dir(self.path(name)).unwrap();
            self.mode(name, 0o755);
        }

        fn file(&self, name: &str) {
            fs::write(self.path(name), CONTENT).unwrap();
            self.mode(name, 0o600);
        }

        fn link(&self, name: &str, target: impl AsRef<Path>) {
            symlink(target, self.path(name)).unwrap();
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
        }

        fn owner(&self, name: &str, uid: u32) {
            chown(self.path(name), Some(uid), None).expect("these tests run as root");
        }

        fn read_key(&self, name: &str) -> Result<SecretBytes, Problem> {
            read_key(&self.path(name), &TRUST)
        }

        fn is_read(&self, name: &str) {
            assert_eq!(self.read_key(name).unwrap().as_slice(), CONTENT);
        }

        /// The key `name` is refused because of `place`.
        fn is_refused(&self, name: &str, place: &str) -> Problem {
            let problem = self.read_key(name).unwrap_err();
            assert_eq!(
                problem.place,
                self.path(place).display().to_string(),
                "{problem}"
            );
            problem
        }

        /// Likewise, and the command that the problem names mends it.
        fn is_mended(&self, name: &str, place: &str) {
            let problem = self.is_refused(name, place);
            let done = Command::new("sh")
                .args(["-c", &problem.remedy])
                .status()
                .unwrap();
            assert!(done.success(), "{problem}");
            self.is_read(name);
        }
    }

    #[test]
    fn a_key_of_a_trusted_owner_is_read() {
        let tree = Tree::new();
        for owner in [0, SLURM, TRUST.own_uid] {
            tree.owner("etc/key", owner);
            tree.is_read("etc/key");
        }
    }

    #[test]
    fn a_key_of_another_owner_is_refused() {
        let tree = Tree::new();
        tree.owner("etc/key", OTHER);
        assert_eq!(
            tree.is_refused("etc/key", "etc/key").what,
            "it belongs to uid 1001 (mode 0600), but must belong to root or SlurmUser (uid \
             64030) or uid 991"
        );
        tree.is_mended("etc/key", "etc/key");
    }

    #[test]
    fn a_key_with_any_bit_for_group_or_others_is_refused() {
        let tree = Tree::new();
        for bit in [0o040, 0o020, 0o010, 0o004, 0o002, 0o001] {
            tree.mode("etc/key", 0o600 | bit);
            tree.is_mended("etc/key", "etc/key");
        }
    }

    #[test]
    fn a_public_file_may_be_read_by_all_but_written_by_its_owner_only() {
        let tree = Tree::new();
        let read = || read_public(&tree.path("etc/key"), &TRUST, CONTENT.len());
        tree.mode("etc/key", 0o644);
        assert_eq!(read().unwrap(), CONTENT);
        for mode in [0o664, 0o646] {
            tree.mode("etc/key", mode);
            assert!(read().unwrap_err().remedy.starts_with("chmod go-w "));
        }
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_however_far_above_the_key() {
        let tree = Tree::new();
        tree.directory("etc/slurm");
        tree.directory("etc/slurm/keys");
        tree.file("etc/slurm/keys/key");
        for directory in ["etc", "etc/slurm", "etc/slurm/keys"] {
            for mode in [0o775, 0o757] {
                tree.mode(directory, mode);
                tree.is_mended("etc/slurm/keys/key", directory);
            }
        }
    }

    #[test]
    fn a_directory_of_another_owner_is_refused() {
        let tree = Tree::new();
        tree.owner("etc", OTHER);
        tree.is_mended("etc/key", "etc");
    }

    #[test]
    fn a_directory_of_slurm_user_is_trusted_only_where_slurm_user_is_known() {
        let tree = Tree::new();
        tree.owner("etc", SLURM);
        tree.is_read("etc/key");
        let trust = Trust {
            slurm_uid: None,
            ..TRUST
        };
        assert!(read_key(&tree.path("etc/key"), &trust).is_err());
    }

    #[test]
    fn in_a_sticky_directory_of_root_only_what_trusted_owners_put_there_counts() {
        let tree = Tree::new();
        tree.mode("etc", 0o1777);
        tree.is_read("etc/key");
        tree.owner("etc/key", OTHER);
        tree.is_refused("etc/key", "etc/key");
        tree.owner("etc/key", 0);
        tree.owner("etc", SLURM);
        tree.is_refused("etc/key", "etc");
    }

    #[test]
    fn a_symbolic_link_to_a_trusted_place_is_followed() {
        let tree = Tree::new();
        tree.directory("keys");
        tree.file("keys/2026");
        tree.link("etc/absolute", tree.path("keys/2026"));
        tree.link("etc/relative", "../keys/./2026");
        tree.link("etc/directory", "../keys");
        tree.link("etc/twice", "directory/2026");
        for name in [
            "etc/absolute",
            "etc/relative",
            "etc/directory/2026",
            "etc/twice",
        ] {
            tree.is_read(name);
        }
    }

    #[test]
    fn a_symbolic_link_out_of_a_trusted_directory_is_refused_by_name() {
        let tree = Tree::new();
        tree.directory("home");
        tree.file("home/key");
        tree.owner("home", OTHER);
        tree.link("etc/link", "../home/key");
        let link = format!(
            "through the symbolic link {}",
            tree.path("etc/link").display()
        );
        let problem = tree.is_refused("etc/link", "home");
        assert!(problem.what.contains(&link), "{problem}");
        tree.owner("home", 0);
        tree.mode("home", 0o777);
        let problem = tree.is_refused("etc/link", "home");
        assert!(problem.what.contains(&link), "{problem}");
    }

    #[test]
    fn a_symbolic_link_of_another_owner_is_refused() {
        let tree = Tree::new();
        tree.mode("etc", 0o1777);
        tree.link("etc/link", "key");
        std::os::unix::fs::lchown(tree.path("etc/link"), Some(OTHER), None).unwrap();
        tree.is_mended("etc/link", "etc/link");
    }

    #[test]
    fn symbolic_links_in_a_circle_are_refused() {
        let tree = Tree::new();
        tree.link("etc/one", "two");
        tree.link("etc/two", "one");
        assert!(
            tree.read_key("etc/one")
                .unwrap_err()
                .what
                .contains("more than 40")
        );
    }

    #[test]
    fn a_dangling_symbolic_link_names_what_is_missing_and_the_link() {
        let tree = Tree::new();
        tree.link("etc/link", "gone");
        let problem = tree.is_refused("etc/link", "etc/gone");
        assert!(problem.what.contains("/etc/link -> gone"), "{problem}");
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_a_writer() {
        let tree = Tree::new();
        nix::unistd::mkfifo(&tree.path("etc/pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        assert_eq!(
            tree.is_refused("etc/pipe", "etc/pipe").what,
            "this is not a regular file"
        );
    }

    #[test]
    fn a_device_a_directory_and_a_file_as_directory_are_refused() {
        let tree = Tree::new();
        assert!(read_key(Path::new("/dev/zero"), &TRUST).is_err());
        assert_eq!(
            tree.is_refused("etc", "etc").what,
            "this is a directory, not a file"
        );
        assert_eq!(
            tree.is_refused("etc/key/x", "etc/key").what,
            "this is not a directory"
        );
    }

    #[test]
    fn a_file_larger_than_its_limit_is_refused_before_it_is_read() {
        let tree = Tree::new();
        let read = |limit| read_public(&tree.path("etc/key"), &TRUST, limit);
        assert!(read(CONTENT.len()).is_ok());
        assert_eq!(
            read(CONTENT.len() - 1).unwrap_err().what,
            "it has 7 bytes, and at most 6 are read"
        );
    }

    #[test]
    fn a_file_without_content_is_read_as_such() {
        let tree = Tree::new();
        fs::write(tree.path("etc/key"), "").unwrap();
        assert_eq!(tree.read_key("etc/key").unwrap().as_slice(), b"");
    }

    #[test]
    fn a_file_that_lies_about_its_size_is_refused() {
        let trust = Trust {
            slurm_uid: None,
            own_uid: 0,
        };
        let problem = read_public(Path::new("/proc/self/status"), &trust, 4096).unwrap_err();
        assert!(
            problem.what.contains("written to while it was read"),
            "{problem}"
        );
    }

    #[test]
    fn a_trusted_directory_is_opened_and_a_file_is_none() {
        let tree = Tree::new();
        assert!(open_directory(&tree.path("etc"), &TRUST).is_ok());
        assert!(open_directory(&tree.path("etc/key"), &TRUST).is_err());
        tree.mode("etc", 0o777);
        assert!(open_directory(&tree.path("etc"), &TRUST).is_err());
    }

    #[test]
    fn secret_bytes_show_a_placeholder() {
        assert_eq!(
            format!("{:?}", SecretBytes::new(b"content".to_vec())),
            "SecretBytes(..)"
        );
    }

    #[test]
    fn a_path_with_spaces_and_quotes_is_one_word_for_a_shell() {
        let path = Path::new("/tmp/it's a key; $(id)");
        let script = format!("printf %s {}", quoted(path));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(output.stdout, path.as_os_str().as_encoded_bytes());
        assert_eq!(quoted(Path::new("/etc/key")), "/etc/key");
    }
}
