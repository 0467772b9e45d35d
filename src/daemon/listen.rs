//! The listening socket: the one that systemd passes, or our own.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use nix::sys::stat::{Mode, umask};

use crate::daemon::front::Listener;
use crate::report::Problem;

/// Opens the socket. Called before there are threads: it sets the umask.
pub fn open(path: &Path) -> Result<Listener, Problem> {
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => Ok(Listener {
            socket: bind(path)?,
            ours: true,
        }),
        1 => match passed.take_unix_listener(0) {
            Ok(Some(socket)) => Ok(Listener {
                socket,
                ours: false,
            }),
            Ok(None) => Err(wrong_socket("nothing")),
            Err(error) => Err(wrong_socket(&error.to_string())),
        },
        several => Err(wrong_socket(&format!("{several} sockets"))),
    }
}

fn wrong_socket(what: &str) -> Problem {
    Problem::new(
        "slurm-tokend.socket",
        format!("systemd passed what is not one listening Unix stream socket: {what}"),
        "give the socket unit one ListenStream= with an absolute path",
    )
}

/// Binds our own: under another name first, so that callers find either the
/// old socket or the new one, with its mode, and never none.
fn bind(path: &Path) -> Result<UnixListener, Problem> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    check_directory(directory)?;
    check_present(path)?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let failed = |error: &io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::InvalidInput => "name a socket whose path has at most 95 characters",
            _ => "check the directory and its file system",
        };
        Problem::at(path, format!("the socket can't be made: {error}"), remedy)
    };
    // One of ours, which died with this pid before it got any further.
    let _ = fs::remove_file(&fresh);
    let before = umask(Mode::from_bits_truncate(0o111));
    let bound = UnixListener::bind(&fresh);
    umask(before);
    let socket = bound.map_err(|e| failed(&e))?;
    fs::rename(&fresh, path).map_err(|e| {
        let _ = fs::remove_file(&fresh);
        failed(&e)
    })?;
    Ok(socket)
}

fn check_directory(directory: &Path) -> Result<(), Problem> {
    if let Err(error) = fs::create_dir(directory)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(Problem::at(
            directory,
            format!("the socket's directory can't be made: {error}"),
            "make it, owned by root, mode 0755",
        ));
    }
    let status = fs::symlink_metadata(directory).map_err(|e| {
        Problem::at(
            directory,
            format!("can't be read: {e}"),
            "check its parents",
        )
    })?;
    let own = nix::unistd::geteuid().as_raw();
    let trusted = status.is_dir() && (status.uid() == 0 || status.uid() == own);
    if !trusted || status.mode() & 0o022 != 0 {
        return Err(Problem::at(
            directory,
            format!(
                "the socket's directory belongs to uid {} with mode {:04o}: others could put a socket of theirs there",
                status.uid(),
                status.mode() & 0o7777
            ),
            format!("chown root {0} && chmod 0755 {0}", directory.display()),
        ));
    }
    Ok(())
}

/// A socket that somebody answers on is not taken away, and neither is
/// anything that isn't a socket.
fn check_present(path: &Path) -> Result<(), Problem> {
    let Ok(status) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !status.file_type().is_socket() {
        return Err(Problem::at(
            path,
            "there is something that is not a socket",
            format!("look at it, then: rm {}", path.display()),
        ));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Problem::at(
            path,
            "another daemon answers on this socket",
            "stop it first, or set another socket in the configuration",
        ));
    }
    Ok(())
}
