//! The threads that accept, read and answer. None of them ever waits for
//! anything but the kernel's next event: what takes time is handed on, to the
//! signers or to the runtime, and comes back by [`Fronts::park`].
//!
//! Why not tokio's own accept and read: measured against a bare server in C,
//! requests that are there already at accept are served at its rate by threads
//! of this kind, and at 0.7 of it by a task for each.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{Shutdown, shutdown};

use crate::caller::{Caller, Door};
use crate::daemon::attendants::MOMENT;
use crate::daemon::connection::{Connection, Fill, Hears};
use crate::daemon::{Daemon, say};
use crate::wire::{Code, Refusal};

/// So many fronts. More than cores, for one that is off the processor holds up
/// those who wait with it; measured, 4 are as good as 8 on 2 cores.
const FRONTS: usize = 4;
/// How often deadlines are looked at; they are met within this time.
const TICK: Duration = Duration::from_millis(500);
/// How long accepting pauses when there is no descriptor or memory left.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted in a row before those that wait are looked at.
const IN_A_ROW: usize = 64;
/// Waiting for the stop and for connections, by key.
const LISTENER: u64 = 0;
const WAKE: u64 = 1;
const FIRST: u64 = 2;

/// All fronts.
pub struct Fronts {
    all: Vec<Front>,
    next: AtomicUsize,
    stopping: AtomicBool,
    /// So many fronts will accept nothing more.
    stopped: AtomicUsize,
    wake: EventFd,
}

struct Front {
    epoll: Epoll,
    parked: Mutex<Parked>,
}

#[derive(Default)]
struct Parked {
    connections: HashMap<u64, Connection>,
    last: u64,
}

/// A listening socket, and whether it is ours to empty when we stop: one that
/// systemd passed goes on without us.
pub struct Listener {
    /// The socket.
    pub socket: UnixListener,
    /// Its path if it's ours: nobody accepts from it after us.
    pub own: Option<PathBuf>,
}

impl Listener {
    /// Where callers find it.
    pub fn path(&self) -> Option<PathBuf> {
        let address = self.socket.local_addr().ok()?;
        address.as_pathname().map(Path::to_owned)
    }
}

impl Fronts {
    /// Fronts that nobody runs yet.
    pub fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let fronts = (0..FRONTS)
            .map(|_| {
                let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
                epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
                Ok(Front {
                    epoll,
                    parked: Mutex::default(),
                })
            })
            .collect::<Result<_, Errno>>()?;
        Ok(Self {
            all: fronts,
            next: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            stopped: AtomicUsize::new(0),
            wake,
        })
    }

    /// Starts the threads.
    pub fn start(daemon: &Arc<Daemon>, listener: Listener) -> io::Result<()> {
        listener.socket.set_nonblocking(true)?;
        let listener = Arc::new(listener);
        for index in 0..daemon.fronts.all.len() {
            let (daemon, listener) = (Arc::clone(daemon), Arc::clone(&listener));
            thread::Builder::new()
                .name(format!("front-{index}"))
                .spawn(move || run(&daemon, index, &listener))?;
        }
        Ok(())
    }

    /// Tells all fronts to accept no more and to end what is idle.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        // A counter at its end can't be raised; then it's readable already.
        let _ = self.wake.write(1);
    }

    /// Is the daemon about to end.
    pub fn are_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Has each front accepted all that it ever will.
    pub fn have_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) == self.all.len()
    }

    /// Lets a connection wait for its peer: to send more, or to take what is
    /// unsent. When the daemon stops, what is idle ends here.
    pub fn park(&self, daemon: &Arc<Daemon>, connection: Connection) {
        let index = connection.home.map_or_else(
            || self.next.fetch_add(1, Ordering::Relaxed) % self.all.len(),
            |(index, _)| index,
        );
        self.park_at(index, daemon, connection);
    }

    /// The same at that front, which is its home if it has one.
    fn park_at(&self, index: usize, daemon: &Arc<Daemon>, mut connection: Connection) {
        let engine = daemon.engine();
        let limits = &engine.config.limits;
        connection.untried = false;
        connection.rest();
        let home = connection.home;
        let front = &self.all[index];
        let mut parked = front.parked();
        // Asked under the lock: who is parked before the stop is found by it.
        let stopping = self.are_stopping();
        if stopping && connection.is_idle() && connection.answered {
            drop(parked);
            connection.hear_no_more();
            return daemon.advance(connection);
        }
        if stopping && !connection.is_unsent() {
            connection.hears = Hears::TheLast;
        }
        // One who connected and hasn't asked yet is about to.
        let time = if connection.is_idle() && !stopping {
            limits.idle_timeout
        } else {
            limits.request_timeout
        };
        let now = Instant::now();
        connection.parked_at = Some(now);
        let latest = now + time;
        let deadline = connection.deadline.map_or(latest, |set| set.min(latest));
        connection.deadline = Some(deadline);
        let wants = if connection.is_unsent() {
            EpollFlags::EPOLLOUT
        } else {
            EpollFlags::EPOLLIN
        };
        let key = if let Some((_, key)) = home {
            if wants == EpollFlags::EPOLLOUT {
                let _ = front
                    .epoll
                    .modify(&connection, &mut EpollEvent::new(wants, key));
            }
            key
        } else {
            parked.last += 1;
            let key = parked.last + FIRST;
            connection.home = Some((index, key));
            if let Err(errno) = front.epoll.add(&connection, EpollEvent::new(wants, key)) {
                daemon.complain(format_args!(
                    "a connection of uid {} ends: epoll: {errno}",
                    connection.caller.uid
                ));
                return;
            }
            key
        };
        parked.connections.insert(key, connection);
    }

    /// Lets one of our own connections wait at a front of our choice.
    pub fn take_in(
        &self,
        daemon: &Arc<Daemon>,
        stream: UnixStream,
        index: usize,
    ) -> Result<(), Errno> {
        let caller = Caller::of(&stream, Door::Main)?;
        self.park_at(index, daemon, Connection::new(stream, caller, None));
        Ok(())
    }

    /// How many fronts there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Takes a connection off its front: somebody else will work on it.
    pub fn release(&self, connection: &mut Connection) {
        if let Some((index, _)) = connection.home.take() {
            let _ = self.all[index].epoll.delete(&*connection);
        }
    }
}

impl Front {
    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One front, for as long as the process lives.
fn run(daemon: &Arc<Daemon>, index: usize, listener: &Listener) {
    let fronts = &daemon.fronts;
    let front = &fronts.all[index];
    let mut accepting = Accepting::Paused(Instant::now());
    let mut swept = Instant::now();
    let mut events = [EpollEvent::empty(); 64];
    loop {
        let now = Instant::now();
        accepting = match accepting {
            Accepting::Paused(until) if until <= now => resume(front, listener),
            Accepting::Last(until) if until <= now => accept_the_last(daemon, listener),
            as_it_is => as_it_is,
        };
        let wait = match accepting {
            Accepting::Paused(_) | Accepting::Last(_) => PAUSE,
            Accepting::Yes | Accepting::Stopped => TICK,
        };
        let wait = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::ZERO);
        let ready = match front.epoll.wait(&mut events, wait) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => 0,
            Err(errno) => {
                say(format_args!("epoll_wait: {errno}"));
                thread::sleep(PAUSE);
                0
            }
        };
        for event in &events[..ready] {
            match event.data() {
                LISTENER => match accept(daemon, listener, IN_A_ROW) {
                    // Shut down for the stop: WAKE comes next.
                    Ok(()) | Err(Errno::EINVAL) => {}
                    Err(errno) => {
                        daemon.complain(format_args!(
                            "accepting pauses: {errno}; raise LimitNOFILE or lower limits.connections"
                        ));
                        let _ = front.epoll.delete(&listener.socket);
                        accepting = Accepting::Paused(Instant::now() + PAUSE);
                    }
                },
                WAKE => accepting = stop(daemon, front, listener),
                key => {
                    let connection = front.parked().connections.remove(&key);
                    if let Some(connection) = connection {
                        attend(daemon, connection);
                    }
                }
            }
        }
        if swept.elapsed() >= TICK {
            swept = Instant::now();
            sweep(daemon, front, swept);
            daemon.record_suppressed(false);
        }
    }
}

enum Accepting {
    Yes,
    /// Until then: there is no room.
    Paused(Instant),
    /// Those who wait on a socket that takes no more callers, from then on.
    Last(Instant),
    Stopped,
}

fn resume(front: &Front, listener: &Listener) -> Accepting {
    // Of all fronts that wait for the listener, the kernel wakes one.
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
    match front
        .epoll
        .add(&listener.socket, EpollEvent::new(flags, LISTENER))
    {
        Ok(()) => Accepting::Yes,
        Err(_) => Accepting::Paused(Instant::now() + PAUSE),
    }
}

/// Accepts what waits, `most` at the most, and serves what can be served at
/// once. An error means that the machine has no room for more connections.
fn accept(daemon: &Arc<Daemon>, listener: &Listener, most: usize) -> Result<(), Errno> {
    for _ in 0..most {
        let stream = match listener.socket.accept() {
            Ok((stream, _)) => stream,
            Err(e) => match Errno::from_raw(e.raw_os_error().unwrap_or(0)) {
                Errno::EAGAIN => return Ok(()),
                // The peer went away while it waited.
                Errno::ECONNABORTED | Errno::EINTR => continue,
                errno => return Err(errno),
            },
        };
        if let Some(mut connection) = daemon.admit(stream) {
            match connection.fill() {
                Ok(Fill::Data | Fill::Nothing) => daemon.advance(connection),
                Ok(Fill::End) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Something happened on a connection that waited.
fn attend(daemon: &Arc<Daemon>, mut connection: Connection) {
    if connection.is_unsent() {
        if connection.flush().is_ok() {
            if connection.is_unsent() {
                daemon.fronts.park(daemon, connection);
            } else {
                connection.deadline = None;
                daemon.fronts.release(&mut connection);
                daemon.advance(connection);
            }
        }
        return;
    }
    let midway = connection.is_midway();
    match connection.fill() {
        Ok(Fill::Data) => {
            if !midway {
                let eager = connection.parked_at.is_some_and(|at| at.elapsed() < MOMENT);
                connection.eager = if eager {
                    connection.eager.saturating_add(1)
                } else {
                    0
                };
                // From the first byte on, it's the request that has a deadline.
                connection.deadline = None;
            }
            if let Some(connection) = daemon.work_off(connection)
                && let Some(connection) = daemon.attendants.take(daemon, connection)
            {
                daemon.fronts.park(daemon, connection);
            }
        }
        Ok(Fill::Nothing) => daemon.fronts.park(daemon, connection),
        Ok(Fill::End) if midway => daemon.end(connection, &unfinished()),
        Ok(Fill::End) | Err(_) => {}
    }
}

/// Ends connections whose time is over.
fn sweep(daemon: &Arc<Daemon>, front: &Front, now: Instant) {
    let mut parked = front.parked();
    let late: Vec<u64> = parked
        .connections
        .iter()
        .filter(|(_, c)| c.deadline.is_some_and(|deadline| deadline <= now))
        .map(|(key, _)| *key)
        .collect();
    let late: Vec<Connection> = late
        .iter()
        .filter_map(|key| parked.connections.remove(key))
        .collect();
    drop(parked);
    for connection in late {
        if connection.is_midway() && !connection.is_unsent() {
            daemon.end(connection, &late_request());
        } else if connection.is_idle() && !connection.answered && daemon.fronts.are_stopping() {
            daemon.end(connection, &shutting_down());
        }
    }
}

fn stop(daemon: &Arc<Daemon>, front: &Front, listener: &Listener) -> Accepting {
    let _ = front.epoll.delete(&daemon.fronts.wake);
    let _ = front.epoll.delete(&listener.socket);
    // What is idle ends by that, and what isn't learns of the stop.
    let all = std::mem::take(&mut front.parked().connections);
    for connection in all.into_values() {
        daemon.fronts.park(daemon, connection);
    }
    if listener.own.is_some() {
        // Nobody else would ever answer those who wait here. Shut down, the
        // socket refuses new callers and still gives us the ones that wait.
        let _ = shutdown(listener.socket.as_raw_fd(), Shutdown::Read);
        Accepting::Last(Instant::now())
    } else {
        daemon.fronts.stopped.fetch_add(1, Ordering::SeqCst);
        Accepting::Stopped
    }
}

fn accept_the_last(daemon: &Arc<Daemon>, listener: &Listener) -> Accepting {
    match accept(daemon, listener, usize::MAX) {
        Ok(()) | Err(Errno::EINVAL) => {
            daemon.fronts.stopped.fetch_add(1, Ordering::SeqCst);
            Accepting::Stopped
        }
        // What is open has to end first.
        Err(_) => Accepting::Last(Instant::now() + PAUSE),
    }
}

fn late_request() -> Refusal {
    Refusal::new(
        Code::Timeout,
        "The rest of the request did not arrive in time.",
        "Send a request and its newline at once.",
    )
}

pub(super) fn shutting_down() -> Refusal {
    Refusal::new(
        Code::ShuttingDown,
        "The daemon is stopping, and the request has not arrived.",
        "Connect again and send it anew.",
    )
}

pub(super) fn unfinished() -> Refusal {
    Refusal::new(
        Code::MalformedRequest,
        "The request ended before its newline.",
        "Send one JSON object a line, such as {\"v\":1,\"op\":\"issue\"}: see slurm-tokend(7).",
    )
}
