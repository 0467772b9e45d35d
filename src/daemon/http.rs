//! The HTTP door: a socket of its own, beside the main one, for the services
//! of this node. It decides nothing: what is asked here goes the way of the
//! main socket's requests, from the account on.
//!
//! Its connections have threads and places of their own: however many there
//! are, those of the main socket have theirs.

mod answer;
mod body;
mod connection;
mod forward;
mod query;
mod request;
mod route;
mod stream;
mod visit;

use std::future::pending;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{self, Handle, Runtime};
use tokio_util::sync::CancellationToken;

pub use self::visit::Visit;
use crate::caller::{Caller, Door};
use crate::daemon::Daemon;
use crate::daemon::admit::no_seat;
use crate::daemon::directory::{Acquaintance, Sought, Who};
use crate::daemon::front::Listener;
use crate::daemon::quotas::Quotas;
use stream::Guest;

/// So many threads, as there are fronts and for the same reason: one that is off
/// the processor holds up those who wait with it. Measured on 2 cores, 2 gave
/// three quarters of the rate of 4, and a flood here cost the main socket less
/// than one of its own in either case.
const THREADS: usize = 4;
/// How long accepting pauses when there is no descriptor or memory left.
const PAUSE: Duration = Duration::from_millis(100);

/// The door, once it's open.
pub struct HttpDoor {
    /// The connections that are open.
    pub quotas: Arc<Quotas>,
    /// The threads that serve them.
    pub threads: Vec<Handle>,
    stop: CancellationToken,
    /// So many threads will accept nothing more.
    stopped: AtomicUsize,
}

impl HttpDoor {
    /// A door, and what its threads run.
    pub fn new() -> io::Result<(Self, Vec<Runtime>)> {
        let runtimes = (0..THREADS)
            .map(|_| runtime::Builder::new_current_thread().enable_all().build())
            .collect::<io::Result<Vec<_>>>()?;
        let door = Self {
            quotas: Arc::default(),
            threads: runtimes.iter().map(|r| r.handle().clone()).collect(),
            stop: CancellationToken::new(),
            stopped: AtomicUsize::new(0),
        };
        Ok((door, runtimes))
    }

    /// Lets nobody else in, and ends what is idle.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Is the door about to close.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Has everybody left who was ever let in.
    pub fn is_empty(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) == self.threads.len() && self.quotas.connections() == 0
    }
}

/// Starts the threads, which live as long as the process.
pub fn start(daemon: &Arc<Daemon>, runtimes: Vec<Runtime>, listener: Listener) -> io::Result<()> {
    listener.socket.set_nonblocking(true)?;
    let listener = Arc::new(listener);
    for (index, runtime) in runtimes.into_iter().enumerate() {
        let (daemon, listener) = (Arc::clone(daemon), Arc::clone(&listener));
        let socket = listener.socket.try_clone()?;
        thread::Builder::new()
            .name(format!("http-{index}"))
            .spawn(move || {
                runtime.block_on(async move {
                    match UnixListener::from_std(socket) {
                        Ok(socket) => accept(&daemon, &socket).await,
                        Err(error) => {
                            daemon.complain(format_args!("the HTTP door stays shut: {error}"));
                        }
                    }
                    close(&daemon, &listener);
                    // What is under way goes on.
                    pending::<()>().await;
                });
            })?;
    }
    Ok(())
}

/// Lets callers in until the daemon stops.
async fn accept(daemon: &Arc<Daemon>, socket: &UnixListener) {
    let Some(door) = &daemon.http else { return };
    loop {
        let accepted = tokio::select! {
            biased;
            () = door.stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => daemon.let_in(stream),
            Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                // The peer went away while it waited.
                Errno::ECONNABORTED | Errno::EINTR => {}
                // Shut down by the other thread, for the stop.
                Errno::EINVAL => return,
                errno => {
                    daemon.complain(format_args!(
                        "accepting HTTP pauses: {errno}; raise LimitNOFILE or lower http.connections"
                    ));
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

/// Empties a socket that nobody accepts from after us.
fn close(daemon: &Arc<Daemon>, listener: &Listener) {
    let Some(door) = &daemon.http else { return };
    if listener.own.is_some() {
        // It refuses new callers now, and still gives us those that wait.
        let _ = shutdown(listener.socket.as_raw_fd(), Shutdown::Read);
        while let Ok((stream, _)) = listener.socket.accept() {
            let stream = stream.set_nonblocking(true).map(|()| stream);
            if let Ok(stream) = stream.and_then(UnixStream::from_std) {
                daemon.let_in(stream);
            }
        }
    }
    door.stopped.fetch_add(1, Ordering::SeqCst);
}

impl Daemon {
    /// Gives a connection a place, or tells the peer why there is none. On one
    /// of the door's own threads.
    fn let_in(self: &Arc<Self>, stream: UnixStream) {
        let Some(door) = &self.http else { return };
        let Ok(caller) = Caller::of(&stream, Door::Http) else {
            return;
        };
        let engine = self.engine();
        let sought = Sought::by(&engine.config.policy, Who::Uid(caller.uid));
        let acquaintance = self.directory.acquaintance(&sought, Instant::now());
        let known = acquaintance == Acquaintance::Account;
        let guest = Guest::new(stream, caller);
        match door
            .quotas
            .admit(caller.uid, known, engine.config.http.room)
        {
            Ok(seat) => {
                let limits = engine.config.limits.clone();
                if acquaintance == Acquaintance::Unknown {
                    self.introduce(caller.uid, sought, engine, &door.quotas);
                }
                let daemon = Arc::clone(self);
                tokio::spawn(connection::serve(daemon, Arc::new(guest), limits, seat));
            }
            Err(full) => {
                let refusal = no_seat(full);
                self.record_unread(caller, refusal.code);
                guest.send_last(&answer::written(&answer::refused(&refusal)));
            }
        }
    }
}
