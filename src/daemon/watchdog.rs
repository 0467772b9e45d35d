//! Tells systemd that the daemon lives: each time after it has really served,
//! and not otherwise.
//!
//! A ping through the listening socket and through each front, a signature, a
//! call to each signer, a task for the runtime and for each thread of the HTTP
//! door: whichever of them hangs,
//! systemd hears no more of us, and starts another. Look-ups of accounts are
//! left out: a directory service that hangs is no reason to start anew.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use sd_notify::NotifyState;

use crate::account::NO_UID;
use crate::daemon::{Daemon, notify, say, unix_now};

/// What is asked, and how each answer to it begins: that all places are taken
/// is one as well.
const PING: &[u8] = b"{\"v\":1,\"op\":\"ping\"}\n";
const ANSWER: &[u8] = b"{\"v\":1,";
/// How often is looked whether all signers have heard their call.
const ROLL_RETRY: Duration = Duration::from_millis(5);

/// Starts the watch, where systemd wants to hear of us. `door` is the path of
/// the listening socket.
pub fn start(daemon: &Arc<Daemon>, door: Option<PathBuf>) -> io::Result<()> {
    let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
    let Some(limit) = limit else {
        return Ok(());
    };
    // Two rounds, each with the wait after it, fit into the limit.
    let patience = limit / 4;
    let daemon = Arc::clone(daemon);
    let watch = move || {
        while !daemon.fronts.are_stopping() {
            match round(&daemon, door.as_deref(), Instant::now() + patience) {
                Ok(()) => notify(&[NotifyState::Watchdog]),
                // It's allowed not to answer.
                Err(_) if daemon.fronts.are_stopping() => {}
                Err(who) => say(format_args!(
                    "no answer from {who} within {patience:?}: systemd is not told that the daemon lives"
                )),
            }
            thread::sleep(patience);
        }
    };
    thread::Builder::new()
        .name("watchdog".into())
        .spawn(watch)?;
    Ok(())
}

/// Asks everybody for something that takes no time; says who gave no answer.
fn round(daemon: &Arc<Daemon>, door: Option<&Path>, until: Instant) -> Result<(), String> {
    let mut pinged = Vec::new();
    for index in 0..daemon.fronts.count() {
        let pair = ping(daemon, index).map_err(|e| format!("front-{index} ({e})"))?;
        pinged.push(pair);
    }
    let roll = daemon.signers.call_the_roll();
    let (tell, signed) = sync_channel(1);
    let engine = daemon.engine();
    daemon.signers.submit(NO_UID, move || {
        let _ = tell.send(engine.keys.main().self_check(unix_now()).is_ok());
        None
    });
    let (tell, ran) = sync_channel(1);
    daemon.runtime.spawn(async move {
        let _ = tell.send(true);
    });

    let threads = daemon.http.iter().flat_map(|http| &http.threads);
    let of_http: Vec<Receiver<bool>> = threads
        .map(|thread| {
            let (tell, ran) = sync_channel(1);
            thread.spawn(async move {
                let _ = tell.send(true);
            });
            ran
        })
        .collect();

    for (index, stream) in pinged.iter().enumerate() {
        answer(stream, until).map_err(|_| format!("front-{index}"))?;
    }
    while let Some(absent) = daemon.signers.absent(roll) {
        if Instant::now() >= until {
            return Err(format!("sign-{absent}"));
        }
        thread::sleep(ROLL_RETRY);
    }
    said_yes(&signed, until)
        .then_some(())
        .ok_or("the signing key")?;
    said_yes(&ran, until).then_some(()).ok_or("the runtime")?;
    for (index, ran) in of_http.iter().enumerate() {
        let lives = said_yes(ran, until);
        lives.then_some(()).ok_or_else(|| format!("http-{index}"))?;
    }
    door.map_or(Ok(()), |path| knock(path, until))
}

/// Sends a ping to a front; gives what its answer comes from.
fn ping(daemon: &Arc<Daemon>, index: usize) -> io::Result<UnixStream> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(PING)?;
    daemon.fronts.take_in(daemon, theirs, index)?;
    Ok(ours)
}

/// Comes to the listening socket as a caller does. Whether its path can be
/// reached from here is none of our business.
fn knock(path: &Path, until: Instant) -> Result<(), String> {
    let hung = || format!("the socket {}", path.display());
    let left = until.saturating_duration_since(Instant::now());
    let patience =
        TimeVal::microseconds(i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1));
    let connected = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .and_then(|ours| {
        // A queue that is full is one that moves, or else we notice here.
        setsockopt(&ours, sockopt::SendTimeout, &patience)?;
        connect(ours.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(UnixStream::from(ours))
    });
    match connected {
        Ok(mut ours) => ours
            .write_all(PING)
            .and_then(|()| answer(&ours, until))
            .map_err(|_| hung()),
        Err(Errno::EAGAIN) => Err(hung()),
        Err(_) => Ok(()),
    }
}

/// Waits for an answer to a ping.
fn answer(mut from: &UnixStream, until: Instant) -> io::Result<()> {
    let mut got = [0; ANSWER.len()];
    let mut have = 0;
    while have < got.len() {
        let left = until.saturating_duration_since(Instant::now());
        from.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match from.read(&mut got[have..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => have += n,
        }
    }
    if got == ANSWER {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn said_yes(told: &Receiver<bool>, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    told.recv_timeout(left) == Ok(true)
}
