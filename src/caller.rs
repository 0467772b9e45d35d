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
    /// To which of our sockets.
    pub door: Door,
}

/// Which of our sockets somebody connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The main one: whoever connected asks for itself.
    Main,
    /// The one that speaks HTTP: it may be a proxy, which asks for others.
    Http,
}

impl Caller {
    /// Asks the kernel about the other end of a connection to this door.
    pub fn of(socket: &impl AsFd, door: Door) -> Result<Self, Errno> {
        let credentials = getsockopt(socket, PeerCredentials)?;
        Ok(Self {
            uid: credentials.uid(),
            pid: credentials.pid(),
            door,
        })
    }
}
