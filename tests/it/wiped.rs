//! Keys are nowhere but in their files: not in the memory of a command that has
//! used one, not in its arguments, its environment or its words. Nor is a token
//! left in the daemon that a request brought or an answer took away.
//!
//! A command's words wait in a pipe that nobody reads, for as long as somebody
//! likes; meanwhile we look. So what is proved is that a command that is done
//! with a key has none of it in memory. While it works it has to have it; and
//! what the kernel takes back when it ends, the kernel wipes.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use serde_json::Value;

use crate::node::{ALICE, Daemon, generate_key, install, stdout, until};
use crate::peer::code;

const PLACE: &str = "/etc/slurm/wiped";
/// So many RSA keys are made.
const MADE: usize = 4;

/// A key pair, the same as a private JWK, and a secret.
static KEYS: LazyLock<()> = LazyLock::new(|| {
    install();
    fs::create_dir_all(PLACE).unwrap();
    for args in [
        "key generate --out rsa.pem",
        "key jwk rsa.pem --private --out rsa.jwk",
        "key generate --alg HS256 --out secret.key",
    ] {
        stdout(ctl(args).output().unwrap());
    }
});

fn ctl(args: &str) -> Command {
    let mut ctl = Command::new("slurm-tokenctl");
    ctl.args(args.split(' ')).current_dir(PLACE);
    ctl
}

fn place(name: &str) -> PathBuf {
    Path::new(PLACE).join(name)
}

/// Pieces of a private RSA key as it may stand in memory: each number in either
/// order of its bytes and in base64url, and the lines of its PEM. Not their
/// first bytes: those are overwritten in memory that is given back.
fn pieces_of_rsa(pem: &str, jwk: &str) -> Vec<Vec<u8>> {
    let pem = fs::read_to_string(place(pem)).unwrap();
    let jwk: Value = serde_json::from_slice(&fs::read(place(jwk)).unwrap()).unwrap();
    let lines: Vec<_> = pem.lines().collect();
    // The first lines hold the public half.
    let lines = lines[7..lines.len() - 2].iter();
    let mut pieces: Vec<Vec<u8>> = lines.map(|line| line.as_bytes().to_vec()).collect();
    for member in ["d", "p", "q", "dp", "dq", "qi"] {
        let text = jwk[member].as_str().unwrap();
        let mut number = URL_SAFE_NO_PAD.decode(text).unwrap();
        pieces.push(text.as_bytes()[20..60].to_vec());
        for _ in ["big-endian", "little-endian"] {
            pieces.extend([8, 48].map(|at| number[at..at + 32].to_vec()));
            number.reverse();
        }
    }
    pieces
}

fn pieces() -> Vec<Vec<u8>> {
    LazyLock::force(&KEYS);
    let mut pieces = pieces_of_rsa("rsa.pem", "rsa.jwk");
    pieces.push(fs::read(place("secret.key")).unwrap());
    pieces
}

/// A pipe that takes no byte more; no other child gets it.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while nix::unistd::write(&writer, &[b' '; 4096]).is_ok() {}
    while nix::unistd::write(&writer, b" ").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

/// The first of the pieces that is somewhere in here, in one pass.
fn found(haystack: &[u8], pieces: &[Vec<u8>]) -> Option<usize> {
    let start = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    let mut starts = vec![false; 1 << 16];
    for piece in pieces {
        starts[start(piece)] = true;
    }
    let places = haystack.windows(2).enumerate();
    places
        .filter(|(_, pair)| starts[start(pair)])
        .find_map(|(at, _)| {
            let rest = &haystack[at..];
            pieces.iter().position(|piece| rest.starts_with(piece))
        })
}

/// All of a process that can be read: its memory, arguments and environment.
fn all_of(pid: u32) -> Vec<u8> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let mut all = Vec::new();
    for name in ["cmdline", "environ"] {
        all.extend(fs::read(proc.join(name)).unwrap());
    }
    let mut memory = File::open(proc.join("mem")).unwrap();
    let maps = fs::read_to_string(proc.join("maps")).unwrap();
    // Only what can be written to: the rest is files as they are on the disk.
    for map in maps.lines().filter(|map| map.contains(" rw")) {
        let (range, _) = map.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        memory.seek(SeekFrom::Start(start)).unwrap();
        let mut piece = vec![0; usize::try_from(end - start).unwrap()];
        memory.read_exact(&mut piece).unwrap();
        all.extend(piece);
    }
    assert!(all.len() > 1 << 16);
    all
}

/// What there is of a command while its words wait, `input` read.
fn while_it_waits(mut command: Command, words: Words, input: &str) -> Vec<u8> {
    let (reader, writer) = full_pipe();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match words {
        Words::Results => command.stdout(writer),
        Words::Explanations => command.stderr(writer),
    };
    let mut child = command.spawn().unwrap();
    // What it holds of the pipe.
    drop(command);
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let wchan = format!("/proc/{}/wchan", child.id());
    until("the command to wait for its reader", || {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        fs::read_to_string(&wchan).unwrap().contains("pipe_write")
    });
    let all = all_of(child.id());
    drop(reader);
    child.wait().unwrap();
    all
}

#[derive(Clone, Copy)]
enum Words {
    Results,
    Explanations,
}

fn assert_clean(what: &str, all: &[u8], pieces: &[Vec<u8>]) {
    assert_eq!(found(all, pieces), None, "{what}: this piece of a key");
}

#[test]
fn no_command_keeps_a_key_that_it_has_used() {
    let pieces = pieces();
    for (args, words) in [
        ("key kid rsa.jwk", Words::Results),
        ("key public rsa.pem", Words::Results),
        ("key jwk rsa.pem", Words::Results),
        (
            "key jwk rsa.pem --private --out again.jwk",
            Words::Explanations,
        ),
        ("jwks build rsa.pem", Words::Results),
        (
            "token sign --sun alice --alg RS256 --key rsa.pem",
            Words::Results,
        ),
        (
            "token sign --sun alice --alg RS256 --key rsa.jwk",
            Words::Results,
        ),
        (
            "token sign --sun alice --alg HS256 --key secret.key",
            Words::Results,
        ),
    ] {
        assert_clean(args, &while_it_waits(ctl(args), words, ""), &pieces);
    }
}

#[test]
fn verifying_keeps_no_secret() {
    let pieces = pieces();
    for by in ["--alg RS256 --key rsa.pem", "--alg HS256 --key secret.key"] {
        let token = stdout(
            ctl(&format!("token sign --sun alice {by}"))
                .output()
                .unwrap(),
        );
        let verify = ctl(&format!("token verify {by}"));
        assert_clean(by, &while_it_waits(verify, Words::Results, &token), &pieces);
    }
}

#[test]
fn what_made_a_key_does_not_keep_it() {
    LazyLock::force(&KEYS);
    // How many numbers are tried on the way, and where they lie, is chance.
    for number in 0..MADE {
        let [pem, jwk] = ["pem", "jwk"].map(|kind| format!("made-{number}.{kind}"));
        let rsa = ctl(&format!("key generate --out {pem}"));
        let rsa = while_it_waits(rsa, Words::Explanations, "");
        let private = format!("key jwk {pem} --private --out {jwk}");
        stdout(ctl(&private).output().unwrap());
        assert_clean("RS256", &rsa, &pieces_of_rsa(&pem, &jwk));
    }
    let secret = ctl("key generate --alg HS256 --out made.key");
    let secret = while_it_waits(secret, Words::Explanations, "");
    assert_clean("HS256", &secret, &[fs::read(place("made.key")).unwrap()]);
}

/// Whatever the daemon makes of it, and over however many reads it comes.
#[test]
fn the_daemon_keeps_no_token_that_came_or_went() {
    let key = generate_key("HS256", "wiped.key");
    let daemon = Daemon::start("wiped", "HS256", &key);
    let mut alice = daemon.peer(ALICE.uid);
    let mut ask = |line: String| {
        alice.say(line);
        alice.hear().unwrap()
    };
    let mut signatures = Vec::new();
    for number in 0..8 {
        let issued = ask("{\"v\":1,\"op\":\"issue\"}\n".to_owned());
        let token = issued["ok"]["token"].as_str().unwrap();
        signatures.push(token.rsplit_once('.').unwrap().1.as_bytes().to_vec());
        let spaces = " ".repeat(number * 200);
        for (request, expected) in [
            (format!(r#""op":"verify",{spaces}"token":"{token}""#), "ok"),
            (format!(r#""op":"refresh","token":"{token}"{spaces}"#), "ok"),
            (
                format!(r#""op":"ping",{spaces}"token":"{token}""#),
                "malformed_request",
            ),
            (
                format!(r#""op":"verify","token":"{token}{token}""#),
                "token_invalid",
            ),
        ] {
            let answer = ask(format!("{{\"v\":1,{request}}}\n"));
            assert_eq!(code(&answer), expected, "{answer}");
        }
    }
    let mut unfinished = daemon.peer(ALICE.uid);
    unfinished.say([br#"{"v":1,"token":""#, &*signatures[0]].concat());
    drop(unfinished);
    assert_eq!(code(&ask("{\"v\":1,\"op\":\"ping\"}\n".to_owned())), "ok");
    // It takes its own time to hear of the end of a connection.
    until("the daemon to forget every token", || {
        found(&all_of(daemon.pid()), &signatures).is_none()
    });
}

#[test]
fn no_words_about_a_key_repeat_a_piece_of_it() {
    let pieces = pieces();
    for args in [
        "key kid rsa.pem",
        "key public rsa.pem",
        "key jwk rsa.jwk",
        "key public secret.key",
        "jwks build rsa.pem rsa.jwk secret.key",
        "jwks merge rsa.jwk",
        "jwks lint rsa.jwk",
        "jwks lint rsa.pem",
        "token verify --key secret.key x",
        "token verify --alg HS256 --key rsa.pem x",
        "token sign --alg HS256 --key rsa.pem --sun root",
        "token inspect x",
    ] {
        let output = ctl(args).output().unwrap();
        assert_clean(args, &[output.stdout, output.stderr].concat(), &pieces);
    }
}

#[test]
fn a_key_in_use_is_found_by_this_search() {
    // Else the tests above would find nothing whatever there was.
    let pieces = pieces();
    let mut cat = Command::new("cat");
    cat.arg(place("rsa.pem")).arg(place("secret.key"));
    let all = while_it_waits(cat, Words::Results, "");
    assert!(found(&all, &pieces).is_some());
}
