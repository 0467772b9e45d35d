use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, getsockopt, socket, sockopt,
};
use nix::unistd::{getegid, geteuid, getgid, getuid};

use super::failure::Failure;
use crate::report::Problem;
use crate::wire::DEFAULT_SOCKET;

/// Which daemon to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The one that the environment names, else the node's own.
    Usual,
    /// The one at this socket.
    Path(PathBuf),
    /// The one of this cluster.
    Cluster(Cluster),
}

/// The name of a cluster: letters, digits, `_`, `-` and `.`, a letter or digit
/// first, at most 64 of them. It becomes part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cluster(String);

impl FromStr for Cluster {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if name.is_empty() {
            Err("is empty".into())
        } else if name.len() <= 64
            && name.bytes().all(sound)
            && name
                .bytes()
                .next()
                .is_some_and(|b| b.is_ascii_alphanumeric())
        {
            Ok(Self(name.to_owned()))
        } else {
            Err(format!("{name} is not the name of a cluster"))
        }
    }
}

impl Choice {
    /// The socket's path.
    ///
    /// `SLURM_TOKEND_SOCKET` counts only where real and effective user and
    /// group are the same: otherwise somebody else's environment would decide.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Cluster(Cluster(name)) => {
                format!("/run/slurm-tokend-{name}/slurm-tokend.sock").into()
            }
            Self::Usual => {
                let named = std::env::var_os("SLURM_TOKEND_SOCKET").filter(|path| !path.is_empty());
                match named {
                    Some(path) if getuid() == geteuid() && getgid() == getegid() => path.into(),
                    _ => DEFAULT_SOCKET.into(),
                }
            }
        }
    }
}

/// A connection to a daemon that may be trusted, made before `deadline`.
///
/// Where nobody listens, it's tried again until `restart_until`: a daemon that
/// is being restarted may be back by then.
pub(super) fn connect(
    path: &Path,
    deadline: Instant,
    restart_until: Option<Instant>,
) -> Result<UnixStream, Failure> {
    let stream = loop {
        match try_connect(path, deadline) {
            Ok(stream) => break stream,
            Err(Errno::ENOENT | Errno::ECONNREFUSED)
                if restart_until.is_some_and(|until| Instant::now() < until) =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(errno) => return Err(Failure::NotReached(unreached(path, errno))),
        }
    };
    check_listener(&stream, path)?;
    Ok(stream)
}

/// A connection attempt, in which the kernel waits for room in the listener's
/// queue until `deadline`: `EAGAIN` is what it says when there was none.
fn try_connect(path: &Path, deadline: Instant) -> Result<UnixStream, Errno> {
    let address = UnixAddr::new(path)?;
    let stream: UnixStream = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?
    .into();
    loop {
        // Zero would mean no limit at all.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        stream
            .set_write_timeout(Some(left))
            .map_err(|_| Errno::EINVAL)?;
        match connect_to(stream.as_raw_fd(), &address) {
            Ok(()) => return Ok(stream),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn unreached(path: &Path, errno: Errno) -> Problem {
    let later = "try again in a while, and tell your administrator if this lasts";
    match errno {
        Errno::ENOENT => Problem::at(
            path,
            "there is no such socket: no daemon runs here",
            start(path),
        ),
        Errno::ECONNREFUSED => Problem::at(path, "no daemon listens on this socket", start(path)),
        Errno::EAGAIN => Problem::at(
            path,
            "the daemon takes no connection: too many wait for it",
            later,
        ),
        Errno::EACCES => Problem::at(
            path,
            "you may not connect to this socket",
            "ask your administrator: it must be writable by everybody, in a directory with mode 0755",
        ),
        Errno::ENAMETOOLONG => Problem::at(
            path,
            "the path of a socket has at most 107 bytes",
            "name a shorter one with --socket",
        ),
        _ => Problem::at(
            path,
            errno.desc(),
            "see whether this is the daemon's socket",
        ),
    }
}

/// How to get the daemon of this socket to run.
fn start(path: &Path) -> String {
    let cluster = path
        .to_str()
        .and_then(|path| path.strip_prefix("/run/slurm-tokend-"))
        .and_then(|path| path.strip_suffix("/slurm-tokend.sock"));
    let unit = match cluster {
        Some(name) => format!("slurm-tokend@{name}.socket"),
        None if path == Path::new(DEFAULT_SOCKET) => "slurm-tokend.socket".to_owned(),
        None => {
            return "start the daemon, or name the socket it listens on with --socket".to_owned();
        }
    };
    format!(
        "ask your administrator to start it (systemctl start {unit}), or name another socket with \
         --socket"
    )
}

/// The uid that stands for all those that this user namespace doesn't know.
const OVERFLOW_UID: u32 = 65534;

/// Refuses a listener that could be anybody's: before a word is sent to it.
///
/// The kernel keeps who called listen(2). With socket activation that is
/// systemd, hence root; a daemon that binds its socket itself is root or its
/// own service user, to whom root gave the socket's directory.
fn check_listener(stream: &UnixStream, path: &Path) -> Result<(), Failure> {
    let untrusted = |what: String, remedy: &str| {
        Err(Failure::NotReached(Problem::at(
            path,
            what,
            format!("nothing was sent: {remedy}"),
        )))
    };
    let listener = match getsockopt(stream, sockopt::PeerCredentials) {
        Ok(credentials) => credentials.uid(),
        Err(errno) => {
            let what = format!("the kernel doesn't say who listens: {}", errno.desc());
            return untrusted(what, "tell your administrator");
        }
    };
    if listener == 0 {
        return Ok(());
    }
    if listener == OVERFLOW_UID {
        return untrusted(
            format!("the listener is uid {OVERFLOW_UID}, who in a user namespace may be anybody"),
            "get the token outside the container and hand it in by the environment",
        );
    }
    if listener == geteuid().as_raw() || owner_by_root(path) == Some(listener) {
        return Ok(());
    }
    untrusted(
        format!(
            "the listener is uid {listener}, who is neither root nor you nor the owner of a \
             directory that root made for this socket"
        ),
        "tell your administrator, or name the daemon's socket with --socket",
    )
}

/// The owner of the directory that the socket is in, if only root can have
/// made it so: no directory above it is another's or can be written by others.
fn owner_by_root(socket: &Path) -> Option<u32> {
    let resolved = socket.canonicalize().ok()?;
    let directory = resolved.parent()?;
    let seen = directory.metadata().ok()?;
    let closed = |seen: &std::fs::Metadata| seen.mode() & 0o022 == 0;
    let above_is_roots = directory.ancestors().skip(1).all(|above| {
        above
            .metadata()
            .is_ok_and(|above| above.uid() == 0 && closed(&above))
    });
    (above_is_roots && closed(&seen)).then_some(seen.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_a_socket_of_its_own() {
        let cluster = Choice::Cluster("alps-2".parse().unwrap());
        assert_eq!(
            cluster.path(),
            Path::new("/run/slurm-tokend-alps-2/slurm-tokend.sock")
        );
    }

    #[test]
    fn a_missing_daemon_is_named_by_its_unit() {
        assert!(start(&Choice::Usual.path()).contains("systemctl start slurm-tokend.socket"));
        let cluster = Choice::Cluster("alps-2".parse().unwrap());
        assert!(start(&cluster.path()).contains("systemctl start slurm-tokend@alps-2.socket"));
        assert!(!start(Path::new("/tmp/s")).contains("systemctl"));
    }

    #[test]
    fn a_directory_in_a_place_where_anybody_writes_proves_nothing() {
        // In /tmp, whoever comes first makes the directory.
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let socket = directory.path().join("s");
        std::fs::write(&socket, "").unwrap();
        assert_eq!(owner_by_root(&socket), None);
    }
}
