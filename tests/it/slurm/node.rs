//! A login node: the programs installed, a system log that is read, daemons
//! started as root, and users who run the client. On the private host only.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Far longer than anything here takes, so that only a hang reaches it.
const HANG: Duration = Duration::from_mins(2);

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
        while log.recv(&mut record).is_ok() {}
    });
});

/// A running daemon.
pub struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    /// Starts a daemon of this name as root, which signs with `key`.
    pub fn start(name: &str, algorithm: &str, key: &Path) -> Self {
        LazyLock::force(&NODE);
        let socket = PathBuf::from(format!("/run/slurm-tokend-{name}/slurm-tokend.sock"));
        mkdir(socket.parent().unwrap().to_str().unwrap());
        let conf = format!("/etc/slurm/slurm-tokend@{name}.toml");
        let text = format!(
            "socket = {socket:?}\n\
             state_dir = \"/var/lib/slurm-tokend-{name}\"\n\
             [signing]\n\
             key = {key:?}\n\
             algorithm = \"{algorithm}\"\n"
        );
        fs::write(&conf, text).unwrap();

        let log = format!("/tmp/slurm-tokend-{name}.log");
        let mut child = Command::new("/usr/sbin/slurm-tokend")
            .env_clear()
            .env("SLURM_TOKEND_CONF", &conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let daemon = Self { socket };
        until("the daemon to listen", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "the daemon ended, {status}: {}",
                    fs::read_to_string(&log).unwrap()
                );
            }
            UnixStream::connect(&daemon.socket).is_ok()
        });
        daemon
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

    /// The set of public keys that it serves to anybody.
    pub fn jwks(&self) -> Value {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(b"{\"v\":1,\"op\":\"jwks\"}\n").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()["ok"].take()
    }
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

fn mkdir(path: &str) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
