//! A connection to a daemon, by any uid and byte by byte: what a client would
//! never do, and what it waits for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;
use serde_json::Value;

use crate::node::HANG;

pub struct Peer {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Peer {
    /// Connects as that uid. The kernel takes it from the thread that connects,
    /// so this needs no process of that user.
    pub fn of(uid: u32, socket: &Path) -> io::Result<Self> {
        let socket = socket.to_owned();
        let connected = thread::spawn(move || {
            set_thread_res_uid(None, Uid::from_raw(uid), None).unwrap();
            UnixStream::connect(socket)
        });
        Self::new(connected.join().unwrap()?)
    }

    /// Connects as this process.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(HANG))?;
        Ok(Self {
            stream,
            heard: Vec::new(),
        })
    }

    /// The socket itself.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends something, as far as the other end takes it.
    pub fn say(&mut self, what: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(what.as_ref());
    }

    /// Sends something; false says that the other end takes no more.
    pub fn is_heard(&mut self, what: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(what.as_ref()).is_ok()
    }

    /// Sends no more, and goes on to listen.
    pub fn fall_silent(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer; none where the connection ends.
    pub fn hear(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(size) => self.heard.extend_from_slice(&bytes[..size]),
                // It was closed with something of ours unread.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("waited too long for an answer: {error}"),
            }
        }
        assert!(self.heard.is_empty(), "half an answer");
        None
    }

    /// Does an answer begin to come in this time. It stays to be heard.
    pub fn is_answered_within(&self, patience: Duration) -> bool {
        let mut ready = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(patience).unwrap();
        !self.heard.is_empty() || poll(&mut ready, patience).unwrap() > 0
    }

    /// The code of the next answer; none where the connection ends.
    pub fn hear_code(&mut self) -> Option<String> {
        let answer = self.hear()?;
        Some(code(&answer).to_owned())
    }
}

/// An answer's code, or `ok`.
pub fn code(answer: &Value) -> &str {
    match answer["error"]["code"].as_str() {
        Some(code) => code,
        None if answer["ok"].is_object() => "ok",
        None => panic!("neither an answer nor an error: {answer}"),
    }
}
