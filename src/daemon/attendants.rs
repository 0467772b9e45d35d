//! A few threads that stay with peers who ask again at once.
//!
//! To wait for one connection costs the kernel less than to wait for many, and
//! most of what a small request costs is the waking of threads: measured with
//! eight busy connections, an attendant for each answers half as many requests
//! more than the fronts do. An attendant leaves a peer who is silent for a
//! moment to the fronts, so a slow one holds no thread, and where all are
//! taken the fronts serve as ever.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::daemon::connection::{Connection, Fill};

/// So many peers are attended to at once.
const ATTENDANTS: usize = 16;
/// A peer who is silent for so long is left to the fronts. One who asks within
/// it is eager.
pub const MOMENT: Duration = Duration::from_millis(20);
/// After so many eager requests in a row a peer gets an attendant.
const EAGER: u8 = 4;

/// A peer, and the daemon that serves it.
type Charge = (Arc<Daemon>, Connection);

/// The way to the attendants.
pub struct Attendants {
    /// Without room: a charge is taken by one who is free, or not at all.
    free: SyncSender<Charge>,
}

impl Attendants {
    /// Starts the threads, which live as long as the process.
    pub fn start() -> io::Result<Self> {
        let (free, charges) = sync_channel(0);
        let charges = Arc::new(Mutex::new(charges));
        for i in 0..ATTENDANTS {
            let charges = Arc::clone(&charges);
            thread::Builder::new()
                .name(format!("attend-{i}"))
                .spawn(move || {
                    while let Some((daemon, connection)) = next(&charges) {
                        attend(&daemon, connection);
                    }
                })?;
        }
        Ok(Self { free })
    }

    /// Gives an eager peer to an attendant who is free, or gives it back.
    pub fn take(&self, daemon: &Arc<Daemon>, mut connection: Connection) -> Option<Connection> {
        let wanted = connection.eager >= EAGER && connection.is_idle();
        if !wanted || daemon.fronts.are_stopping() || connection.set_patience(MOMENT).is_err() {
            return Some(connection);
        }
        daemon.fronts.release(&mut connection);
        let charge = self.free.try_send((Arc::clone(daemon), connection));
        charge.err().map(|refused| {
            let (_, mut connection) = match refused {
                std::sync::mpsc::TrySendError::Full(charge)
                | std::sync::mpsc::TrySendError::Disconnected(charge) => charge,
            };
            connection.eager = 0;
            connection
        })
    }
}

fn next(charges: &Mutex<Receiver<Charge>>) -> Option<Charge> {
    let charges = charges.lock().unwrap_or_else(PoisonError::into_inner);
    charges.recv().ok()
}

/// Serves one peer for as long as it's eager.
fn attend(daemon: &Arc<Daemon>, mut connection: Connection) {
    while !daemon.fronts.are_stopping() {
        match connection.wait() {
            Ok(Fill::Data) => match daemon.work_off(connection) {
                Some(next) if next.is_idle() => connection = next,
                Some(next) => return daemon.fronts.park(daemon, next),
                None => return,
            },
            Ok(Fill::Nothing) => break,
            Ok(Fill::End) | Err(_) => return,
        }
    }
    connection.eager = 0;
    daemon.fronts.park(daemon, connection);
}
