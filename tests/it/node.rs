//! A login node: the programs installed, a system log that is read, daemons
//! started as root, and users who run the client. On the private host only.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::peer::Peer;

/// Far longer than anything here takes, so that only a hang reaches it.
pub const HANG: Duration = Duration::from_mins(2);

const KEYS: &str = "/etc/slurm/token-keys";

/// A user of the private host (`tests/host/passwd`).
pub struct User {
    pub name: &'static str,
    pub uid: u32,
}

pub const ALICE: User = User {
    name: "alice",
    uid: 2001,
};
pub const BOB: User = User {
    name: "bob",
    uid: 2002,
};

impl User {
    /// A command that the user runs, with the environment of a new session.
    pub fn runs(&self, program: &str) -> Command {
        LazyLock::force(&NODE);
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid",
                self.name,
                "--regid",
                self.name,
                "--init-groups",
                program,
            ])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("USER", self.name)
            .env("HOME", format!("/var/home/{}", self.name))
            .stdin(Stdio::null());
        command
    }
}

/// Installs the programs where everybody can run them, which a target
/// directory under /root is not, and takes what is sent to the system log.
static NODE: LazyLock<()> = LazyLock::new(|| {
    assert!(
        Path::new("/var/home/alice").exists(),
        "run this inside tests/host/private"
    );
    fs::copy(env!("CARGO_BIN_EXE_slurm-tokend"), "/usr/sbin/slurm-tokend").unwrap();
    fs::copy(
        env!("CARGO_BIN_EXE_slurm-tokenctl"),
        "/usr/sbin/slurm-tokenctl",
    )
    .unwrap();
    fs::copy(env!("CARGO_BIN_EXE_slurm-token"), "/usr/bin/slurm-token").unwrap();
    mkdir(KEYS);

    let log = UnixDatagram::bind("/dev/log").unwrap();
    fs::set_permissions("/dev/log", fs::Permissions::from_mode(0o666)).unwrap();
    thread::spawn(move || {
        let mut record = [0; 8192];
        while let Ok(size) = log.recv(&mut record) {
            let record = String::from_utf8(record[..size].to_vec()).unwrap();
            RECORDS.lock().unwrap().push(record);
        }
    });
});

/// Held by whoever changes the accounts and groups of the private host.
pub static ACCOUNTS: Mutex<()> = Mutex::new(());

/// Changes a file of accounts, `passwd` or `group`, as a whole: by rename.
pub fn edit_accounts(file: &str, edit: impl FnOnce(&str) -> String) {
    let _held = ACCOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new("/etc").join(file);
    let new = path.with_extension("new");
    fs::write(&new, edit(&fs::read_to_string(&path).unwrap())).unwrap();
    fs::rename(&new, &path).unwrap();
}

/// What the daemons have sent to the system log, oldest first.
static RECORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The audit records of one daemon, so far.
pub fn records(daemon: &Daemon) -> Vec<String> {
    records_of(daemon.pid())
}

/// The audit records of a process, so far.
pub fn records_of(pid: u32) -> Vec<String> {
    let ident = format!("slurm-tokend[{pid}]: ");
    let records = RECORDS.lock().unwrap();
    records
        .iter()
        .filter(|record| record.contains(&ident))
        .cloned()
        .collect()
}

/// Sees to it that the programs are installed.
pub fn install() {
    LazyLock::force(&NODE);
}

/// A running daemon; it's told to stop when dropped.
pub struct Daemon {
    child: Child,
    name: String,
    socket: PathBuf,
}

impl Daemon {
    /// Starts a daemon of this name as root, which signs with `key`.
    pub fn start(name: &str, algorithm: &str, key: &Path) -> Self {
        Self::with(name, algorithm, key, "", "")
    }

    /// The same with more configuration: `top` before the first table, and
    /// `tables` after `[signing]`.
    pub fn with(name: &str, algorithm: &str, key: &Path, top: &str, tables: &str) -> Self {
        Self::configure(name, algorithm, key, top, tables);
        Self::run(name)
    }

    /// Writes the configuration of the daemon of this name.
    pub fn configure(name: &str, algorithm: &str, key: &Path, top: &str, tables: &str) {
        LazyLock::force(&NODE);
        let socket = Self::socket_of(name);
        mkdir(socket.parent().unwrap().to_str().unwrap());
        let text = format!(
            "socket = \"{}\"\n\
             state_dir = \"/var/lib/slurm-tokend-{name}\"\n\
             {top}\n\
             [signing]\n\
             key = \"{}\"\n\
             algorithm = \"{algorithm}\"\n\
             {tables}\n",
            socket.display(),
            key.display(),
        );
        fs::write(Self::configuration_of(name), text).unwrap();
    }

    /// Where the configuration of the daemon of this name is.
    pub fn configuration_of(name: &str) -> PathBuf {
        PathBuf::from(format!("/etc/slurm/slurm-tokend@{name}.toml"))
    }

    /// Where the daemon of this name listens.
    pub fn socket_of(name: &str) -> PathBuf {
        PathBuf::from(format!("/run/slurm-tokend-{name}/slurm-tokend.sock"))
    }

    /// The daemon of this name, not started yet.
    pub fn command(name: &str) -> Command {
        Self::through(name, &[])
    }

    /// The same, run by a command that takes another after its own arguments.
    pub fn through(name: &str, runner: &[&str]) -> Command {
        LazyLock::force(&NODE);
        let words = [runner, &["/usr/sbin/slurm-tokend"]].concat();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SLURM_TOKEND_CONF", Self::configuration_of(name))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// The same for one that sees other files in some places, each written as
    /// what is there and the place: in a mount namespace of its own.
    pub fn command_with(name: &str, places: &[(&Path, &str)]) -> Command {
        const SCRIPT: &str = "
            while [ $# -gt 0 ]; do mount --bind \"$1\" \"$2\" || exit 1; shift 2; done
            exec /usr/sbin/slurm-tokend";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private"])
            .args(["sh", "-c", SCRIPT, "sh"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SLURM_TOKEND_CONF", Self::configuration_of(name))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for (file, place) in places {
            command.arg(file).arg(place);
        }
        command
    }

    /// Starts the daemon of this name with the configuration that it has.
    pub fn run(name: &str) -> Self {
        Self::spawn(name, Self::command(name))
    }

    /// Starts the daemon of this name by a command of the test's own.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        let child = command
            .stderr(File::create(Self::journal_of(name)).unwrap())
            .spawn()
            .unwrap();
        let mut daemon = Self {
            child,
            name: name.to_owned(),
            socket: Self::socket_of(name),
        };
        until("the daemon to listen", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended, {status}: {}", daemon.journal());
            }
            daemon.journal().contains("ready: ")
        });
        daemon
    }

    fn journal_of(name: &str) -> PathBuf {
        PathBuf::from(format!("/tmp/slurm-tokend-{name}.log"))
    }

    /// What it has said on standard error.
    pub fn journal(&self) -> String {
        fs::read_to_string(Self::journal_of(&self.name)).unwrap()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(&self.child, signal).unwrap();
    }

    /// Is it still running.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        ended(&mut self.child)
    }

    /// Where the client finds it.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the user gets from `slurm-token ARGS`.
    pub fn client(&self, user: &User, args: &[&str]) -> String {
        let mut client = user.runs("slurm-token");
        client.args(args).env("SLURM_TOKEND_SOCKET", &self.socket);
        stdout(client.output().unwrap()).trim_end().to_owned()
    }

    /// `slurm-tokenctl ARGS`, asked of it by root.
    pub fn tokenctl(&self, args: &[&str]) -> Output {
        Command::new("slurm-tokenctl")
            .arg(args[0])
            .arg("--socket")
            .arg(&self.socket)
            .args(&args[1..])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Its answer to one line, asked by this process: by root.
    pub fn ask(&self, line: &str) -> Value {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Its answer to one line, asked by that uid: any number will do.
    pub fn ask_as(&self, uid: u32, line: &str) -> Value {
        let mut peer = self.peer(uid);
        peer.say(format!("{line}\n"));
        peer.hear().expect("an answer")
    }

    /// A connection of that uid's.
    pub fn peer(&self, uid: u32) -> Peer {
        Peer::of(uid, &self.socket).unwrap()
    }

    /// The set of public keys that it serves to anybody.
    pub fn jwks(&self) -> Value {
        self.ask(r#"{"v":1,"op":"jwks"}"#)["ok"].take()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.runs() {
            stop(&mut self.child);
        }
    }
}

/// Sends a process a signal.
pub fn send(child: &Child, signal: Signal) -> nix::Result<()> {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal)
}

/// Tells a server to stop, and waits until it has.
pub fn stop(child: &mut Child) {
    let _ = send(child, Signal::SIGTERM);
    let _ = child.wait();
}

/// A new key; slurmctld, too, reads one for HS256.
pub fn generate_key(algorithm: &str, file: &str) -> PathBuf {
    LazyLock::force(&NODE);
    let path = Path::new(KEYS).join(file);
    let mut generate = Command::new("slurm-tokenctl");
    generate
        .args(["key", "generate", "--alg", algorithm, "--out"])
        .arg(&path);
    stdout(generate.output().unwrap());
    stdout(
        Command::new("chown")
            .arg("slurm:")
            .arg(&path)
            .output()
            .unwrap(),
    );
    path
}

/// The JWKS that a sysadmin builds of these keys.
pub fn build_jwks(keys: &[&Path]) -> Value {
    let built = Command::new("slurm-tokenctl")
        .args(["jwks", "build"])
        .args(keys)
        .output();
    serde_json::from_str(&stdout(built.unwrap())).unwrap()
}

/// Puts a JWKS where slurmctld reads it, as a whole: by rename.
pub fn publish(jwks: &Value, file: &str) -> PathBuf {
    let path = Path::new("/etc/slurm").join(file);
    let new = path.with_extension("new");
    fs::write(&new, jwks.to_string()).unwrap();
    fs::rename(&new, &path).unwrap();
    path
}

/// Waits for something that must come sooner or later.
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG;
    while !reached() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// How a process ended that is about to.
pub fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("a process to end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// The standard output of a command that must have succeeded.
pub fn stdout(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command with this standard input; which process it was, and what
/// came of it.
pub fn run_with(command: &mut Command, input: &[u8]) -> (u32, Output) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it read anything.
    let _ = child.stdin.take().unwrap().write_all(input);
    (child.id(), child.wait_with_output().unwrap())
}

fn mkdir(path: &str) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
