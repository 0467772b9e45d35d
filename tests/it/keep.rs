//! `slurm-token keep`: a file that holds a valid token whenever one looks,
//! whatever becomes of the daemon, the disk and the keeper itself.

/// What it does where the clock jumps.
mod clock;
/// What it runs after a renewal.
mod exec;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::jwt::Jwt;
use crate::node::{ALICE, BOB, Daemon, ended, generate_key, send, stdout, until};

static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("HS256", "keep.key");
    Daemon::with("keep", "HS256", &key, "", GENEROUS)
});

/// Keepers of short tokens ask often.
const GENEROUS: &str = "[limits]\ntokens_per_minute = 60000\nburst = 10000";

/// A new directory of alice's own.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(format!("/var/home/alice/{name}"));
    fs::create_dir(&path).unwrap();
    own(&path, 0o700);
    path
}

fn own(path: &Path, mode: u32) {
    chown(path, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn command(socket: &Path, file: &Path, args: &[&str]) -> Command {
    let mut command = ALICE.runs("/usr/bin/slurm-token");
    command
        .args(["keep", "--file"])
        .arg(file)
        .args(args)
        .env("SLURM_TOKEND_SOCKET", socket)
        .stderr(Stdio::piped());
    command
}

/// Runs a keeper to its end.
fn outcome(file: &Path, args: &[&str]) -> Output {
    command(DAEMON.socket(), file, args).output().unwrap()
}

/// What a keeper says that ends with `status`.
fn complaint(file: &Path, args: &[&str], status: i32) -> String {
    let output = outcome(file, args);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A keeper at work; it's killed when dropped.
struct Keeper {
    child: Child,
    file: PathBuf,
}

impl Keeper {
    fn start(file: &Path, args: &[&str]) -> Self {
        Self::of(DAEMON.socket(), file, args)
    }

    /// Waits for the first token.
    fn of(socket: &Path, file: &Path, args: &[&str]) -> Self {
        let keeper = Self::begin(socket, file, args);
        until("the file", || file.exists());
        keeper
    }

    fn begin(socket: &Path, file: &Path, args: &[&str]) -> Self {
        let said = fs::File::create(Self::said_in(file)).unwrap();
        let mut command = command(socket, file, args);
        Self {
            child: command.stderr(said).spawn().unwrap(),
            file: file.to_owned(),
        }
    }

    fn said_in(file: &Path) -> PathBuf {
        let name = file.to_str().unwrap().replace('/', "-");
        PathBuf::from(format!("/tmp/keeper{name}"))
    }

    /// What it has said on standard error.
    fn said(&self) -> String {
        fs::read_to_string(Self::said_in(&self.file)).unwrap()
    }

    fn token(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// Waits until another token is in the file.
    fn renews(&self, old: &str) {
        until("a new token", || {
            fs::read_to_string(&self.file).is_ok_and(|token| token != old)
        });
    }

    fn says(&self, what: &str) {
        until(what, || self.said().contains(what));
    }

    fn signal(&self, signal: Signal) {
        send(&self.child, signal).unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        ended(&mut self.child).code()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

fn claims(token: &str) -> Value {
    Jwt::read(token).claims
}

fn now() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed();
    now.unwrap().as_secs()
}

// What is in the file.

#[test]
fn the_file_holds_the_token_and_a_newline_for_its_owner_alone() {
    let directory = directory("keep-plain");
    let file = directory.join("token");
    let mut sh = ALICE.runs("sh");
    // Whatever the umask leaves.
    sh.args(["-c", "umask 0; exec slurm-token keep --once --file \"$0\""])
        .arg(&file)
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    assert_eq!(stdout(sh.output().unwrap()), "");
    let text = fs::read_to_string(&file).unwrap();
    let token = text.strip_suffix('\n').unwrap();
    assert_eq!(claims(token)["sun"], "alice");
    let seen = file.metadata().unwrap();
    assert_eq!((seen.mode() & 0o7777, seen.uid()), (0o600, ALICE.uid));
    assert_eq!(names_in(&directory), ["token"]);
    stdout(outcome(&file, &["--once"]));
    assert_ne!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn the_file_has_the_format_that_was_asked_for() {
    let file = directory("keep-format").join("token");
    for (format, begin) in [
        ("env", "SLURM_JWT=eyJ"),
        ("header", "X-SLURM-USER-TOKEN: eyJ"),
        ("json", "{\"token\":\"eyJ"),
        ("raw", "eyJ"),
    ] {
        stdout(outcome(&file, &["--once", "--format", format]));
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with(begin), "{format}");
    }
}

#[test]
fn a_reader_finds_a_whole_valid_token_each_of_a_million_times() {
    const READS: u64 = 1_000_000;
    let file = directory("keep-reader").join("token");
    // Long enough for a slow machine to renew it in time, short enough to be
    // renewed several times.
    let args = ["--lifespan", "20s"];
    let mut keeper = Keeper::start(&file, &args);
    let reads = AtomicU64::new(0);
    let killing = AtomicBool::new(true);
    let tokens = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = String::new();
            let mut tokens = 0;
            let mut expires = 0;
            while reads.fetch_add(1, Ordering::Relaxed) < READS || killing.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&file).unwrap();
                if text != last {
                    let token = text.strip_suffix('\n').expect("a whole line");
                    expires = claims(token)["exp"].as_u64().unwrap();
                    tokens += 1;
                    last = text;
                }
                assert!(now() <= expires, "an expired token");
            }
            tokens
        });
        for pause in (5..200).step_by(5).cycle() {
            if reads.load(Ordering::Relaxed) >= READS || reader.is_finished() {
                break;
            }
            // At any moment: before, in the midst of, and after a renewal.
            thread::sleep(Duration::from_millis(pause));
            keeper.signal(Signal::SIGKILL);
            keeper.end();
            keeper = Keeper::begin(DAEMON.socket(), &file, &args);
        }
        // And once by the clock.
        let killed = fs::read_to_string(&file).unwrap();
        until("a renewal without a kill", || {
            reader.is_finished() || fs::read_to_string(&file).unwrap() != killed
        });
        killing.store(false, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(tokens > 10, "only {tokens} tokens were seen");
}

// When it's renewed.

#[test]
fn a_token_is_renewed_again_and_again() {
    let keeper = Keeper::start(&directory("keep-renewal").join("token"), &["--lifespan=1"]);
    for _ in 0..3 {
        keeper.renews(&keeper.token());
    }
    assert_eq!(keeper.said(), "", "it is quiet");
}

#[test]
fn after_a_sleep_longer_than_its_life_the_token_is_renewed() {
    let keeper = Keeper::start(&directory("keep-sleep").join("token"), &["--lifespan=2"]);
    let old = keeper.token();
    keeper.signal(Signal::SIGSTOP);
    until("the token to expire", || {
        claims(keeper.token().trim_end())["exp"].as_u64().unwrap() < now()
    });
    assert_eq!(keeper.token(), old);
    keeper.signal(Signal::SIGCONT);
    keeper.renews(&old);
}

#[test]
fn a_daemon_that_is_restarted_or_away_for_a_while_is_survived() {
    let key = generate_key("HS256", "keep-away.key");
    let daemon = Daemon::with("keep-away", "HS256", &key, "", GENEROUS);
    let socket = daemon.socket().to_owned();
    let file = directory("keep-away").join("token");
    let keeper = Keeper::of(&socket, &file, &["--lifespan=3"]);
    drop(daemon);
    keeper.says("no daemon");
    keeper.says("has expired");
    let old = keeper.token();
    assert!(old.starts_with("eyJ"), "what was there stays");
    let _daemon = Daemon::run("keep-away");
    keeper.renews(&old);
    keeper.says("there is a new token again");
    // Each trouble once, however often it was met.
    assert_eq!(keeper.said().matches("has expired").count(), 1);
}

#[test]
fn a_daemon_that_comes_later_is_waited_for() {
    let key = generate_key("HS256", "keep-later.key");
    Daemon::configure("keep-later", "HS256", &key, "", "");
    let file = directory("keep-later").join("token");
    let keeper = Keeper::begin(&Daemon::socket_of("keep-later"), &file, &[]);
    keeper.says("no daemon runs here");
    let _daemon = Daemon::run("keep-later");
    until("the file", || file.exists());
}

// What may become of the place.

#[test]
fn on_a_full_disk_the_old_token_stays() {
    let directory = directory("keep-full");
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "full"])
        .arg(&directory)
        .status();
    assert!(mount.unwrap().success());
    own(&directory, 0o700);
    let file = directory.join("token");
    let keeper = Keeper::start(&file, &["--lifespan=5"]);
    let filling = directory.join("filling");
    fs::write(&filling, vec![0; 65536]).unwrap_err();
    let old = keeper.token();
    keeper.says("No space left on device");
    assert_eq!(keeper.token(), old);
    fs::remove_file(&filling).unwrap();
    keeper.renews(&old);
    keeper.says("there is a new token again");
}

#[test]
fn a_directory_that_is_gone_is_made_again() {
    let directory = directory("keep-gone");
    let file = directory.join("deep/token");
    let _keeper = Keeper::start(&file, &["--lifespan=1"]);
    fs::remove_dir_all(directory.join("deep")).unwrap();
    until("the file", || file.exists());
    let seen = directory.join("deep").metadata().unwrap();
    assert_eq!((seen.mode() & 0o7777, seen.uid()), (0o700, ALICE.uid));
    // It's still the one keeper of this file.
    let said = complaint(&file, &[], 1);
    assert!(said.contains("keeps this file"), "{said}");
}

#[test]
fn only_the_last_directory_is_made() {
    let said = complaint(Path::new("/var/home/alice/none/of/token"), &[], 1);
    assert!(
        said.contains("/var/home/alice/none: there is no such"),
        "{said}"
    );
    assert!(!Path::new("/var/home/alice/none").exists());
}

#[test]
fn a_file_has_one_keeper() {
    let file = directory("keep-one").join("token");
    let mut keeper = Keeper::start(&file, &[]);
    let held = keeper.token();
    for args in [&[][..], &["--once"]] {
        let said = complaint(&file, args, 1);
        let who = format!("process {}, keeps this file", keeper.child.id());
        assert!(said.contains(&who), "{said}");
    }
    assert_eq!(keeper.token(), held);
    keeper.signal(Signal::SIGKILL);
    keeper.end();
    stdout(outcome(&file, &["--once"]));
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let open = directory("keep-open");
    own(&open, 0o770);
    let bobs = PathBuf::from("/tmp/keep-bobs");
    fs::create_dir(&bobs).unwrap();
    chown(&bobs, Some(BOB.uid), Some(BOB.uid)).unwrap();
    fs::set_permissions(&bobs, Permissions::from_mode(0o777)).unwrap();
    let below = bobs.join("below");
    fs::create_dir(&below).unwrap();
    own(&below, 0o700);
    let link = PathBuf::from("/tmp/keep-link");
    symlink(directory("keep-target"), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(BOB.uid), Some(BOB.uid)).unwrap();
    for directory in [Path::new("/tmp"), &open, &bobs, &below, &link] {
        let said = complaint(&directory.join("token"), &["--once"], 1);
        assert!(
            said.contains("name a file in a directory of your own"),
            "{said}"
        );
        assert!(!directory.join("token").exists());
    }
}

#[test]
fn what_is_no_file_of_tokens_is_not_replaced() {
    let directory = directory("keep-other");
    let precious = directory.join("precious");
    fs::write(&precious, "export PATH=/usr/bin\n").unwrap();
    own(&precious, 0o600);
    let link = directory.join("link");
    symlink(&precious, &link).unwrap();
    let bobs = directory.join("bobs");
    fs::write(&bobs, "").unwrap();
    chown(&bobs, Some(BOB.uid), None).unwrap();
    for (file, what) in [
        (&*precious, "holds something else than a token"),
        (&link, "this is a symbolic link"),
        (&bobs, "this file is uid 2002's"),
        (&directory, "this is not a regular file"),
        (
            Path::new("/dev/null"),
            "name a file in a directory of your own",
        ),
    ] {
        let said = complaint(file, &["--once"], 1);
        assert!(said.contains(what), "{}: {said}", file.display());
    }
    assert_eq!(
        fs::read_to_string(&precious).unwrap(),
        "export PATH=/usr/bin\n"
    );
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(names_in(&directory), ["bobs", "link", "precious"]);
}

// How it ends.

#[test]
fn a_signal_ends_it_well_and_the_token_stays() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let directory = directory(&format!("keep-{signal}"));
        let mut keeper = Keeper::start(&directory.join("token"), &[]);
        keeper.signal(signal);
        assert_eq!(keeper.end(), Some(0), "{signal}");
        assert_eq!(names_in(&directory), ["token"]);
        assert_eq!(claims(keeper.token().trim_end())["sun"], "alice");
    }
}

#[test]
fn a_signal_that_its_caller_ignores_does_not_end_it() {
    let file = directory("keep-nohup").join("token");
    let mut sh = ALICE.runs("sh");
    sh.args([
        "-c",
        "trap '' HUP; exec slurm-token keep --file $0 --lifespan=1",
    ])
    .arg(&file)
    .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    let mut keeper = Keeper {
        child: sh.spawn().unwrap(),
        file: file.clone(),
    };
    until("the file", || file.exists());
    keeper.signal(Signal::SIGHUP);
    keeper.renews(&keeper.token());
    keeper.renews(&keeper.token());
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.end(), Some(0));
}

#[test]
fn a_signal_ends_it_while_the_daemon_is_silent() {
    let socket = Path::new("/run/keep-silent.sock");
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    let directory = directory("keep-silent");
    let mut keeper = Keeper::begin(socket, &directory.join("token"), &[]);
    let _connection = listener.accept().unwrap();
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.end(), Some(0));
    assert_eq!(names_in(&directory), Vec::<String>::new());
}

#[test]
fn a_refusal_at_the_start_ends_it() {
    let directory = directory("keep-refused");
    let said = complaint(&directory.join("token"), &["--lifespan=7d"], 4);
    assert!(said.contains("--lifespan max"), "{said}");
    assert_eq!(names_in(&directory), Vec::<String>::new());
}

#[test]
fn a_refusal_ends_it_when_nothing_valid_is_left() {
    let key = generate_key("HS256", "keep-denied.key");
    let daemon = Daemon::with("keep-denied", "HS256", &key, "", GENEROUS);
    let file = directory("keep-denied").join("token");
    let mut keeper = Keeper::of(daemon.socket(), &file, &["--lifespan=5"]);
    Daemon::configure(
        "keep-denied",
        "HS256",
        &key,
        "",
        "[policy]\ndeny_users = [\"alice\"]",
    );
    daemon.signal(Signal::SIGHUP);
    assert_eq!(keeper.end(), Some(4), "{}", keeper.said());
    let token = keeper.token();
    assert!(claims(token.trim_end())["exp"].as_u64().unwrap() <= now());
}

#[test]
fn once_says_by_its_exit_status_what_happened() {
    let file = directory("keep-once").join("token");
    let away = command(Path::new("/nonexistent"), &file, &["--once"]);
    let status = |mut command: Command| command.output().unwrap().status.code();
    assert_eq!(status(away), Some(3));
    complaint(&file, &["--once", "--for=bob"], 4);
    assert!(!file.exists());
    stdout(outcome(&file, &["--once", "--exec=exit 0"]));
    let said = complaint(&file, &["--once", "--exec=exit 7"], 1);
    assert!(
        said.contains("this command ended with exit status: 7"),
        "{said}"
    );
}

// As a service.

#[test]
fn the_user_unit_is_sound_and_keeps_the_file() {
    crate::node::install();
    let unit = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/systemd/slurm-token-keep.service"
    );
    let place = Path::new("/tmp/slurm-token-keep.service");
    fs::copy(unit, place).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["--user", "--man=no", "verify"])
        .arg(place)
        .env("XDG_RUNTIME_DIR", "/run")
        .output()
        .unwrap();
    assert!(verify.status.success(), "{verify:?}");
    assert_eq!(String::from_utf8_lossy(&verify.stderr), "");

    let text = fs::read_to_string(unit).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let runtime = directory("keep-unit");
    let line = line.unwrap().replace("%t", runtime.to_str().unwrap());
    let notify = runtime.join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&notify).unwrap();
    own(&notify, 0o600);
    let mut sh = ALICE.runs("sh");
    let mut service = sh
        .args(["-c", &format!("exec {line}")])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
        .env("NOTIFY_SOCKET", &notify)
        .spawn()
        .unwrap();
    let mut word = [0; 64];
    let length = manager.recv(&mut word).unwrap();
    assert_eq!(&word[..length], b"READY=1\n");
    assert!(runtime.join("slurm-token").exists());
    service.kill().unwrap();
    service.wait().unwrap();
}
