//! What the kernel says of a peer.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Who connected, as it was at the moment of its `connect` (unix(7), `SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its effective uid.
    pub uid: u32,
    /// Its pid, in our pid namespace; 0 when it has none there.
    pub pid: i32,
}

impl Caller {
    /// Asks the kernel.
    pub fn of(socket: &impl AsFd) -> Result<Self, Errno> {
        let credentials = getsockopt(socket, PeerCredentials)?;
        Ok(Self {
            uid: credentials.uid(),
            pid: credentials.pid(),
        })
    }
}
