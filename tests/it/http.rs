//! The HTTP door, asked by any uid and byte by byte.

mod authenticate;
mod crowding;
mod framing;
mod passed;
mod public;
mod refresh;
mod renewal;
mod roles;
mod stopping;
mod verify;

use std::io::Read as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::node::Daemon;
use crate::peer::Peer;

/// An account of this machine's that web servers run as.
const WWW_DATA: u32 = 33;
const PORTAL: u32 = 500;
const SLURM: u32 = 64030;
const ADMIN: u32 = 2003;

/// The HTTP door of the daemon of this name.
fn door_of(name: &str) -> PathBuf {
    Daemon::socket_of(name).with_file_name("http.sock")
}

/// The configuration that opens it: more keys of `[http]`, and other tables.
fn opened(name: &str, keys: &str, tables: &str) -> String {
    let door = door_of(name);
    format!("[http]\nsocket = \"{}\"\n{keys}\n{tables}", door.display())
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    /// The one that these bytes begin with, and where it ends.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, rest) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Self {
            status,
            headers,
            body: String::new(),
        };
        let length = answer.header("content-length").unwrap_or("0");
        let length: usize = length.parse().unwrap();
        rest.get(..length)?.clone_into(&mut answer.body);
        Some((answer, head.len() + 4 + length))
    }

    /// The value of a header that is there once at the most.
    fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        value
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).unwrap()
    }

    /// The code of a refusal, which its header says, too.
    fn code(&self) -> String {
        let refusal = self.json();
        let code = refusal["code"]
            .as_str()
            .unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!(self.header("x-slurm-tokend-code"), Some(code));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        for member in ["message", "help"] {
            assert!(
                refusal[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
            );
        }
        code.to_owned()
    }

    /// Its status and code.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.code())
    }

    /// The token that it gives.
    fn token(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let token = self.json()["token"].as_str().unwrap().to_owned();
        assert_eq!(self.header("x-slurm-user-token"), Some(token.as_str()));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        token
    }
}

/// A connection that isn't closed.
struct Guest {
    peer: Peer,
    heard: Vec<u8>,
}

impl Guest {
    fn of(name: &str, uid: u32) -> Self {
        Self {
            peer: Peer::of(uid, &door_of(name)).unwrap(),
            heard: Vec::new(),
        }
    }

    fn say(&mut self, what: impl AsRef<[u8]>) {
        self.peer.say(what);
    }

    /// The next answer; none where the connection ends.
    fn hear(&mut self) -> Option<Answer> {
        self.hear_by(Answer::read)
    }

    /// The next answer, to a HEAD.
    fn hear_head(&mut self) -> Answer {
        let read = |bytes: &[u8]| {
            let end = bytes.windows(4).position(|at| at == b"\r\n\r\n")? + 4;
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let head = head
                .to_ascii_lowercase()
                .replace("content-length", "length");
            Some((Answer::read(head.as_bytes())?.0, end))
        };
        self.hear_by(read).expect("an answer")
    }

    fn hear_by(&mut self, read: impl Fn(&[u8]) -> Option<(Answer, usize)>) -> Option<Answer> {
        loop {
            if let Some((answer, end)) = read(&self.heard) {
                self.heard.drain(..end);
                return Some(answer);
            }
            let mut bytes = [0; 4096];
            match self.peer.stream().read(&mut bytes) {
                Ok(0) => break,
                Ok(size) => self.heard.extend_from_slice(&bytes[..size]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("waited too long for an answer: {error}"),
            }
        }
        assert!(self.heard.is_empty(), "half an answer");
        None
    }
}

/// What that uid is answered to a request: its line without the version, its
/// headers beside Host, and its body.
fn ask(name: &str, uid: u32, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut guest = Guest::of(name, uid);
    let mut request = format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
    for header in headers {
        request.extend([header, "\r\n"]);
    }
    if !body.is_empty() {
        request.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    guest.say(format!("{request}\r\n{body}"));
    guest.hear().expect("an answer")
}

/// The same without headers and body.
fn get(name: &str, uid: u32, line: &str) -> Answer {
    ask(name, uid, line, &[], "")
}

/// A token that the uid gets by the main socket.
fn token(daemon: &Daemon, uid: u32, lifespan: u32) -> String {
    let answer = daemon.ask_as(
        uid,
        &format!(r#"{{"v":1,"op":"issue","lifespan":{lifespan}}}"#),
    );
    answer["ok"]["token"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

/// The header that carries a token.
fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}
