//! Standard error, which systemd leads to the journal: whole lines, and never
//! a wait for whoever reads them. A journal that hangs must not hang us.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

/// Writes a line, given with its newline. `EAGAIN` where it would have to wait.
///
/// The descriptor stays as it is: it's shared with whoever started us, who may
/// count on writes that wait. Room for something is room for a line: a pipe
/// tells of a whole page (pipe(7)), a stream socket of a quarter of its buffer.
pub fn write_line(line: &str) -> Result<(), Errno> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    loop {
        match poll(&mut ready, PollTimeout::ZERO) {
            Ok(0) => return Err(Errno::EAGAIN),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    match write(stderr.as_fd(), line.as_bytes())? {
        written if written == line.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}
