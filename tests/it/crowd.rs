//! Many callers at once, each of whom connects, asks for a token, and does so
//! again.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

use crate::node::until;
use crate::peer::{Peer, code};

pub struct Crowd {
    callers: Vec<JoinHandle<Tally>>,
    served: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
}

/// What became of the callers.
#[derive(Debug, Default)]
pub struct Tally {
    /// So many got a token.
    pub served: usize,
    /// So many could not connect.
    pub refused: usize,
    /// Those who connected and got something else, or nothing.
    pub lost: Vec<String>,
}

impl Crowd {
    /// So many callers of that uid, each until it can't connect.
    pub fn of(uid: u32, size: usize, socket: &Path) -> Self {
        let served = Arc::new(AtomicUsize::new(0));
        let enough = Arc::new(AtomicBool::new(false));
        let callers = (0..size)
            .map(|_| {
                let (served, enough) = (Arc::clone(&served), Arc::clone(&enough));
                let socket = socket.to_owned();
                thread::spawn(move || {
                    set_thread_res_uid(None, Uid::from_raw(uid), None).unwrap();
                    call_again_and_again(&socket, &served, &enough)
                })
            })
            .collect();
        Self {
            callers,
            served,
            enough,
        }
    }

    /// Waits until so many more have been served.
    pub fn is_served(&self, times: usize) {
        let before = self.served.load(Ordering::SeqCst);
        until("the callers to be served", || {
            self.served.load(Ordering::SeqCst) >= before + times
                || self.callers.iter().all(JoinHandle::is_finished)
        });
    }

    /// Lets them come no more.
    pub fn disperse(self) -> Tally {
        self.enough.store(true, Ordering::SeqCst);
        self.wait()
    }

    /// Waits until none of them can connect.
    pub fn wait(self) -> Tally {
        let mut all = Tally::default();
        for caller in self.callers {
            let tally = caller.join().unwrap();
            all.served += tally.served;
            all.refused += tally.refused;
            all.lost.extend(tally.lost);
        }
        all
    }
}

fn call_again_and_again(socket: &Path, served: &AtomicUsize, enough: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !enough.load(Ordering::SeqCst) {
        let Ok(stream) = UnixStream::connect(socket) else {
            tally.refused += 1;
            break;
        };
        let mut peer = Peer::new(stream).unwrap();
        peer.say("{\"v\":1,\"op\":\"issue\"}\n");
        match peer.hear() {
            Some(answer) if code(&answer) == "ok" => {
                tally.served += 1;
                served.fetch_add(1, Ordering::SeqCst);
            }
            Some(answer) => tally.lost.push(answer.to_string()),
            None => tally.lost.push("no answer".to_owned()),
        }
    }
    tally
}
