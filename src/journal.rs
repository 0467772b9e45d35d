//! Standard error, which systemd leads to the journal: whole lines, and never
//! a wait for whoever reads them. A journal that hangs must not hang us.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{LazyLock, Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{isatty, write};

/// What standard error is, which decides how it's written to without waiting.
/// The descriptor stays as it is: it's shared with whoever started us, who may
/// count on writes that wait.
enum Kind {
    /// A file or `/dev/null`: nobody reads, so nothing waits.
    File,
    /// A socket, as under systemd: it can be told not to wait.
    Socket,
    /// A pipe or a terminal: room for something is room for a line, a page in
    /// a pipe (pipe(7)). Nobody else may fill it between the look and the line.
    Pipe(Mutex<()>),
}

static KIND: LazyLock<Kind> = LazyLock::new(|| {
    let stderr = io::stderr();
    let kind = fstat(stderr.as_fd()).map(|stat| SFlag::from_bits_truncate(stat.st_mode));
    match kind.map(|mode| mode & SFlag::S_IFMT) {
        Ok(SFlag::S_IFREG) => Kind::File,
        Ok(SFlag::S_IFCHR) if !isatty(stderr.as_fd()).unwrap_or(true) => Kind::File,
        Ok(SFlag::S_IFSOCK) => Kind::Socket,
        _ => Kind::Pipe(Mutex::new(())),
    }
});

/// Writes a line, given with its newline. `EAGAIN` where it would have to wait.
pub fn write_line(line: &str) -> Result<(), Errno> {
    let stderr = io::stderr();
    let line = line.as_bytes();
    let written = match &*KIND {
        Kind::File => write(stderr.as_fd(), line),
        Kind::Socket => {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            send(stderr.as_raw_fd(), line, flags)
        }
        Kind::Pipe(turn) => {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            room_for_a_line(PollFd::new(stderr.as_fd(), PollFlags::POLLOUT))?;
            write(stderr.as_fd(), line)
        }
    };
    match written? {
        written if written == line.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}

/// `EAGAIN` where a write would wait.
fn room_for_a_line(stderr: PollFd<'_>) -> Result<(), Errno> {
    let mut ready = [stderr];
    loop {
        match poll(&mut ready, PollTimeout::ZERO) {
            Ok(0) => return Err(Errno::EAGAIN),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
