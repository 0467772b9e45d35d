//! The daemon starts: as itself and no more, where everything is right; or not
//! at all, with every problem told at once and how to mend it.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::jwt::Jwt;
use crate::node::{ACCOUNTS, ALICE, BOB, Daemon, User, edit_accounts, generate_key, stdout};

const ISSUE: &str = r#"{"v":1,"op":"issue"}"#;

/// A key that nothing is wrong with.
static KEY: LazyLock<PathBuf> = LazyLock::new(|| generate_key("RS256", "starting.pem"));

/// A daemon's files, each test's own: its configuration, and a directory for
/// its keys. All is as it should be until a test changes it.
struct Site {
    name: &'static str,
    directory: PathBuf,
}

impl Site {
    fn new(name: &'static str) -> Self {
        let directory = PathBuf::from(format!("/etc/slurm/{name}"));
        LazyLock::force(&KEY);
        fs::create_dir(&directory).unwrap();
        let site = Self { name, directory };
        site.keep("key.pem", &fs::read(&*KEY).unwrap());
        site.configure("RS256", "", "");
        site
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn key(&self) -> PathBuf {
        self.path("key.pem")
    }

    fn configuration(&self) -> PathBuf {
        Daemon::configuration_of(self.name)
    }

    fn socket(&self) -> PathBuf {
        Daemon::socket_of(self.name)
    }

    /// Puts a file there that only root can read.
    fn keep(&self, file: &str, content: &[u8]) -> PathBuf {
        let path = self.path(file);
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        mode(&path, 0o400);
        path
    }

    /// Configures the key of this site; `top` before the first table, `tables`
    /// after `[signing]`.
    fn configure(&self, algorithm: &str, top: &str, tables: &str) {
        Daemon::configure(self.name, algorithm, &self.key(), top, tables);
    }

    fn start(&self) -> Daemon {
        Daemon::run(self.name)
    }

    /// Starts the daemon by a command that runs it.
    fn start_through(&self, through: &[&str]) -> Daemon {
        Daemon::spawn(self.name, Daemon::through(self.name, through))
    }

    /// Tries to start, in vain.
    fn refusal(&self) -> Refusal {
        self.refusal_of(&mut Daemon::command(self.name))
    }

    fn refusal_of(&self, command: &mut Command) -> Refusal {
        let there = || fs::symlink_metadata(self.socket()).map(|s| (s.ino(), s.ctime_nsec()));
        let before = there().ok();
        let (status, told) = ended(command);
        assert_eq!(status, 1, "{told}");
        assert_eq!(there().ok(), before, "it has listened: {told}");
        Refusal(told)
    }

    /// What is wrong is told of `place` and in these words; the command that
    /// is told runs, and then the daemon starts.
    fn is_mended(&self, place: &Path, says: &str) {
        let remedy = self.refusal().one(place, says);
        let command = remedy.strip_prefix("make it with: ").unwrap_or(&remedy);
        shell(command);
        self.start();
    }
}

/// The exit status of a daemon that doesn't serve, and what it said.
fn ended(command: &mut Command) -> (i32, String) {
    let mut daemon = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    for line in BufReader::new(daemon.stderr.take().unwrap()).lines() {
        told = told + &line.unwrap() + "\n";
        if told.contains("ready: ") {
            daemon.kill().unwrap();
        }
    }
    (daemon.wait().unwrap().code().unwrap_or(-1), told)
}

/// What a daemon said that didn't start.
struct Refusal(String);

impl Refusal {
    /// The remedies, by the place and the words of their problems.
    fn problems(&self) -> Vec<(&str, &str, &str)> {
        let parts = |line| {
            let line: &str = str::strip_prefix(line, "slurm-tokend: ")?;
            let (place, rest) = line.split_once(": ")?;
            let (what, remedy) = rest.split_once("; ")?;
            Some((place, what, remedy))
        };
        let lines = self.0.lines();
        lines
            .map(|line| parts(line).unwrap_or_else(|| panic!("no problem: {line}")))
            .collect()
    }

    /// The remedy of the one problem.
    #[track_caller]
    fn one(&self, place: &Path, says: &str) -> String {
        let problems = self.problems();
        let [(at, what, remedy)] = problems[..] else {
            panic!("{problems:#?}");
        };
        assert_eq!(Path::new(at), place, "{}", self.0);
        assert!(what.contains(says), "{}", self.0);
        remedy.to_owned()
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn give_to(path: &Path, user: &User) {
    chown(path, Some(user.uid), Some(user.uid)).unwrap();
}

fn bits(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[track_caller]
fn shell(command: &str) {
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

fn openssl(args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    output.stdout
}

// What is wrong with the configuration.

#[test]
fn every_problem_is_told_at_once_with_its_place_and_what_to_do() {
    let site = Site::new("starting-all");
    site.configure(
        "RS256",
        "user = \"nosuch\"\nsloket = 1",
        "[token]\nmax_lifespan = \"forever\"\n[limits]\nburst = 0",
    );
    mode(&site.key(), 0o444);
    mode(site.socket().parent().unwrap(), 0o777);
    let refusal = site.refusal();
    let configuration = site.configuration().display().to_string();
    let told: Vec<_> = refusal
        .problems()
        .into_iter()
        .map(|(place, _, remedy)| {
            assert!(!remedy.is_empty());
            place.to_owned()
        })
        .collect();
    let expected = [
        format!("{configuration}:4"),
        format!("{configuration}:9"),
        format!("{configuration}:11"),
        site.key().display().to_string(),
        format!("{configuration}:3"),
        site.socket().parent().unwrap().display().to_string(),
    ];
    assert_eq!(told, expected, "{}", refusal.0);
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_that_is_known() {
    let site = Site::new("starting-unknown");
    site.configure("RS256", "sokcet = \"/run/x\"", "");
    let place = format!("{}:3", site.configuration().display());
    let remedy = site.refusal().one(Path::new(&place), "no key \"sokcet\"");
    assert_eq!(remedy, "did you mean socket?");
}

#[test]
fn broken_syntax_is_told_with_its_line() {
    let site = Site::new("starting-syntax");
    site.configure("RS256", "user = slurm-tokend", "");
    let place = format!("{}:3", site.configuration().display());
    site.refusal().one(Path::new(&place), "not TOML");
}

#[test]
fn a_missing_configuration_is_no_configuration_of_defaults() {
    let site = Site::new("starting-missing");
    fs::remove_file(site.configuration()).unwrap();
    site.refusal().one(&site.configuration(), "no such file");
}

#[test]
fn a_configuration_that_others_can_write_is_refused() {
    let site = Site::new("starting-writable");
    mode(&site.configuration(), 0o646);
    site.is_mended(&site.configuration(), "mode 0646");
}

#[test]
fn a_configuration_of_another_user_is_refused() {
    let site = Site::new("starting-foreign");
    give_to(&site.configuration(), &ALICE);
    site.is_mended(&site.configuration(), "belongs to uid 2001");
}

#[test]
fn a_configuration_below_a_directory_of_another_user_is_refused() {
    let site = Site::new("starting-below");
    let moved = site.path("moved.toml");
    fs::rename(site.configuration(), &moved).unwrap();
    give_to(&site.directory, &ALICE);
    let refusal = site.refusal_of(Daemon::command(site.name).arg("--config").arg(&moved));
    refusal.one(&site.directory, "belongs to uid 2001");
}

#[test]
fn a_configuration_may_belong_to_slurm_user() {
    let site = Site::new("starting-slurm");
    give_to(&site.configuration(), &SLURM);
    site.start();
}

#[test]
fn nobody_becomes_slurm_user_by_a_configuration_of_their_own() {
    let site = Site::new("starting-becomes");
    for (owner, slurm_user) in [(&ALICE, "alice"), (&SLURM, "bob"), (&ALICE, "slurm")] {
        site.configure("RS256", &format!("slurm_user = \"{slurm_user}\""), "");
        give_to(&site.configuration(), owner);
        site.refusal()
            .one(&site.configuration(), "must belong to root");
    }
}

#[test]
fn check_tells_what_is_sound_and_listens_to_nobody() {
    let site = Site::new("starting-check");
    let (status, told) = ended(Daemon::command(site.name).arg("--check"));
    assert_eq!(status, 0, "{told}");
    assert!(told.contains("configuration and key are sound"), "{told}");
    assert!(!site.socket().exists());
}

#[test]
fn check_tells_what_is_wrong() {
    let site = Site::new("starting-check-bad");
    mode(&site.key(), 0o444);
    let refusal = site.refusal_of(Daemon::command(site.name).arg("--check"));
    refusal.one(&site.key(), "mode 0444");
}

#[test]
fn check_says_nothing_against_the_daemon_that_runs() {
    let site = Site::new("starting-check-running");
    let _daemon = site.start();
    let (status, told) = ended(Daemon::command(site.name).arg("--check"));
    assert_eq!(status, 0, "{told}");
}

#[test]
fn the_configuration_on_the_command_line_comes_before_that_of_the_environment() {
    let site = Site::new("starting-argument");
    let other = site.path("other.toml");
    let refusal = site.refusal_of(Daemon::command(site.name).arg("--config").arg(&other));
    refusal.one(&other, "no such file");
}

#[test]
fn wrong_usage_is_told_apart_by_its_exit_status() {
    for wrong in [&["--chekc"][..], &["--config"], &["start"]] {
        let (status, told) = ended(Daemon::command("starting-usage").args(wrong));
        assert_eq!(status, 2, "{told}");
        assert!(told.contains("Try: slurm-tokend --help"), "{told}");
    }
}

// What is wrong with the key.

#[test]
fn a_key_that_others_can_read_is_refused() {
    let site = Site::new("starting-readable");
    mode(&site.key(), 0o440);
    site.is_mended(&site.key(), "mode 0440");
}

#[test]
fn a_key_of_another_user_is_refused() {
    let site = Site::new("starting-key-foreign");
    give_to(&site.key(), &ALICE);
    site.is_mended(&site.key(), "belongs to uid 2001");
}

#[test]
fn a_key_may_belong_to_slurm_user() {
    let site = Site::new("starting-key-slurm");
    give_to(&site.key(), &SLURM);
    site.start();
}

#[test]
fn a_key_below_a_directory_that_others_can_write_is_refused() {
    let site = Site::new("starting-parent");
    mode(&site.directory, 0o775);
    site.is_mended(&site.directory, "mode 0775");
}

#[test]
fn a_symbolic_link_out_of_a_trusted_directory_is_refused() {
    let site = Site::new("starting-link");
    let home = Path::new("/var/home/alice/starting-link");
    fs::create_dir(home).unwrap();
    fs::copy(site.key(), home.join("key.pem")).unwrap();
    fs::remove_file(site.key()).unwrap();
    symlink(home.join("key.pem"), site.key()).unwrap();
    let link = format!("through the symbolic link {}", site.key().display());
    site.refusal().one(Path::new("/var/home/alice"), &link);
}

#[test]
fn what_is_no_key_that_signs_is_refused_by_name() {
    let site = Site::new("starting-no-key");
    let key = site.key();
    let key = key.to_str().unwrap();
    let rsa = |bits| openssl(&["genrsa", bits]);
    let certificate = ["req", "-x509", "-subj", "/CN=x", "-key", key];
    let cases = [
        (
            "RS256",
            openssl(&["pkey", "-in", key, "-pubout"]),
            "is a public key",
        ),
        ("RS256", openssl(&certificate), "is a certificate"),
        (
            "RS256",
            openssl(&["pkey", "-in", key, "-aes128", "-passout", "pass:x"]),
            "is encrypted",
        ),
        (
            "RS256",
            openssl(&[
                "rsa",
                "-in",
                key,
                "-traditional",
                "-aes128",
                "-passout",
                "pass:x",
            ]),
            "is encrypted",
        ),
        ("RS256", rsa("1024"), "has 1024 bits"),
        (
            "RS256",
            openssl(&["ecparam", "-genkey", "-name", "prime256v1", "-noout"]),
            "needs an RSA key",
        ),
        (
            "RS256",
            openssl(&["pkey", "-in", key, "-outform", "DER"]),
            "is in DER",
        ),
        ("RS256", b"secret".repeat(8), "no PEM key"),
        ("RS256", Vec::new(), "is empty"),
        ("HS256", Vec::new(), "is empty"),
        ("HS256", vec![7; 31], "has 31 bytes"),
        (
            "HS256",
            openssl(&["pkey", "-in", key, "-pubout"]),
            "is a public key",
        ),
    ];
    for (algorithm, content, says) in cases {
        site.keep("key.pem", &content);
        site.configure(algorithm, "", "");
        let remedy = site.refusal().one(&site.key(), says);
        assert!(remedy.contains("slurm-tokenctl key generate") || remedy.contains("openssl"));
    }
}

#[test]
fn the_command_that_makes_a_new_key_makes_one_that_is_accepted() {
    let site = Site::new("starting-new-key");
    for (algorithm, bad, new) in [
        ("RS256", openssl(&["genrsa", "1024"]), "NEW.pem"),
        ("HS256", b"short".to_vec(), "NEW.key"),
    ] {
        site.keep("key.pem", &bad);
        site.configure(algorithm, "", "");
        let remedy = site.refusal().one(&site.key(), "this");
        let command = remedy.strip_prefix("make a key with: ").unwrap();
        shell(&format!(
            "cd {} && {command} && mv {new} key.pem",
            site.directory.display()
        ));
        site.start();
    }
}

#[test]
fn the_command_that_decrypts_a_key_makes_one_that_is_accepted() {
    let site = Site::new("starting-decrypt");
    let key = site.key();
    let encrypted = ["-aes128", "-passout", "pass:phrase"];
    let encrypted = [&["pkey", "-in", key.to_str().unwrap()], &encrypted[..]].concat();
    site.keep("key.pem", &openssl(&encrypted));
    let remedy = site.refusal().one(&key, "is encrypted");
    let command = remedy.strip_prefix("decrypt it with: ").unwrap();
    // Without a terminal openssl reads the passphrase from standard input.
    let script = format!(
        "cd {} && {command} && mv NEW.pem key.pem",
        site.directory.display()
    );
    shell(&format!("echo phrase | setsid --wait sh -c '{script}'"));
    site.start();
}

#[test]
fn a_key_that_is_not_there_is_named_with_the_command_that_makes_one() {
    let site = Site::new("starting-no-file");
    fs::remove_file(site.key()).unwrap();
    let remedy = site.refusal().one(&site.key(), "no such file");
    assert!(remedy.contains("slurm-tokenctl setup"), "{remedy}");
    // Where systemd passes copies of the keys that are there.
    let nothing = credentials(&site, &[]);
    let mut daemon = Daemon::command(site.name);
    daemon.env("CREDENTIALS_DIRECTORY", nothing);
    let remedy = site
        .refusal_of(&mut daemon)
        .one(&site.key(), "systemd passed no copy");
    assert!(remedy.contains("slurm-tokenctl setup"), "{remedy}");
}

#[test]
fn an_hs256_key_is_used_to_its_last_byte_a_newline_included() {
    let site = Site::new("starting-newline");
    let secret = b"thirty-one bytes and a newline.\n";
    assert_eq!(secret.len(), 32);
    site.keep("key.pem", secret);
    site.configure("HS256", "", "");
    let token = Jwt::read(&site.start().client(&ALICE, &["--format", "raw"]));
    assert!(token.is_signed_by_hmac(secret));
    assert!(!token.is_signed_by_hmac(&secret[..31]));
}

// Keys that systemd passes.

/// A directory of credentials as systemd makes it, with these keys.
fn credentials(site: &Site, files: &[&str]) -> PathBuf {
    let directory = site.path("credentials");
    fs::create_dir(&directory).unwrap();
    for file in files {
        site.keep(
            &format!("credentials/{file}"),
            &openssl(&["genrsa", "2048"]),
        );
    }
    directory
}

/// The kid that the daemon says it signs with, where it is told of credentials.
fn kid_with(site: &Site, credentials: &Path) -> String {
    let mut command = Daemon::command(site.name);
    command
        .env("CREDENTIALS_DIRECTORY", credentials)
        .arg("--check");
    let (status, told) = ended(&mut command);
    assert_eq!(status, 0, "{told}");
    told.trim_end()
        .rsplit_once("with kid ")
        .unwrap()
        .1
        .to_owned()
}

fn thumbprint(key: &Path) -> String {
    let kid = Command::new("slurm-tokenctl")
        .args(["key", "kid"])
        .arg(key)
        .output();
    stdout(kid.unwrap()).trim_end().to_owned()
}

#[test]
fn the_copy_of_a_key_among_the_credentials_comes_before_the_file() {
    let site = Site::new("starting-credential");
    let directory = credentials(&site, &["token-keys_key.pem", "key.pem", "other.pem"]);
    assert_eq!(
        kid_with(&site, &directory),
        thumbprint(&directory.join("token-keys_key.pem"))
    );
    fs::remove_file(directory.join("token-keys_key.pem")).unwrap();
    assert_eq!(
        kid_with(&site, &directory),
        thumbprint(&directory.join("key.pem"))
    );
    fs::remove_file(directory.join("key.pem")).unwrap();
    assert_eq!(kid_with(&site, &directory), thumbprint(&site.key()));
}

#[test]
fn a_key_may_be_named_by_its_credential() {
    let site = Site::new("starting-by-credential");
    let directory = credentials(&site, &["signer"]);
    Daemon::configure(site.name, "RS256", Path::new("credential:signer"), "", "");
    assert_eq!(
        kid_with(&site, &directory),
        thumbprint(&directory.join("signer"))
    );
}

#[test]
fn a_credential_is_named_with_its_line_where_systemd_has_passed_none() {
    let site = Site::new("starting-no-credential");
    Daemon::configure(site.name, "RS256", Path::new("credential:signer"), "", "");
    let place = format!("{}:5", site.configuration().display());
    site.refusal()
        .one(Path::new(&place), "systemd passed no credentials");
}

#[test]
fn a_credential_is_sought_in_no_directory_that_systemd_did_not_name() {
    let site = Site::new("starting-relative");
    site.keep("token-keys_key.pem", &openssl(&["genrsa", "2048"]));
    for value in ["", ".", "starting-relative"] {
        let mut command = Daemon::command(site.name);
        command
            .env("CREDENTIALS_DIRECTORY", value)
            .arg("--check")
            .current_dir(&site.directory);
        let (_, told) = ended(&mut command);
        assert!(told.contains(&thumbprint(&site.key())), "{told}");
    }
}

#[test]
fn a_credential_that_others_can_read_is_refused() {
    let site = Site::new("starting-open-credential");
    let directory = credentials(&site, &["key.pem"]);
    mode(&directory.join("key.pem"), 0o444);
    let mut command = Daemon::command(site.name);
    command.env("CREDENTIALS_DIRECTORY", &directory);
    site.refusal_of(&mut command)
        .one(&directory.join("key.pem"), "mode 0444");
}

// What is wrong with the user.

const SLURM: User = User {
    name: "slurm",
    uid: 64_030,
};

#[test]
fn the_user_is_never_root_nobody_or_slurm_user_by_whatever_name() {
    let site = Site::new("starting-user");
    edit_accounts("passwd", |text| {
        format!("{text}noone:x:65534:2010::/:/bin/sh\nalso-root:x:0:2010::/:/bin/sh\n")
    });
    for (user, says) in [
        ("root", "must not be root"),
        ("nobody", "must not be nobody"),
        ("slurm", "must not be the account of slurm_user"),
        ("also-root", "has uid 0"),
        ("noone", "has uid 65534"),
        ("slurm-too", "has uid 64030"),
    ] {
        site.configure("RS256", &format!("user = \"{user}\""), "");
        let place = format!("{}:3", site.configuration().display());
        site.refusal().one(Path::new(&place), says);
    }
}

#[test]
fn the_user_is_not_slurm_user_by_slurm_uid_either() {
    let site = Site::new("starting-user-uid");
    site.configure("RS256", "slurm_uid = 501", "");
    site.refusal().one(&site.configuration(), "has uid 501");
}

#[test]
fn the_user_does_not_have_roots_group() {
    let site = Site::new("starting-user-group");
    site.configure("RS256", "user = \"wheeled\"", "");
    let place = format!("{}:3", site.configuration().display());
    site.refusal().one(Path::new(&place), "gid 0");
}

#[test]
fn a_user_that_is_missing_is_made_by_the_command_that_is_told() {
    let site = Site::new("starting-user-missing");
    site.configure("RS256", "user = \"tokens\"", "");
    let place = format!("{}:3", site.configuration().display());
    let accounts = ACCOUNTS.lock().unwrap();
    site.is_mended(Path::new(&place), "no account tokens");
    drop(accounts);
}

// What is wrong with the socket.

#[test]
fn a_second_daemon_on_a_socket_is_refused_and_the_first_goes_on() {
    let site = Site::new("starting-second");
    let first = site.start();
    site.refusal().one(&site.socket(), "another daemon answers");
    assert_eq!(first.ask_as(ALICE.uid, ISSUE)["ok"]["user"], "alice");
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let site = Site::new("starting-stale");
    drop(UnixListener::bind(site.socket()).unwrap());
    assert!(site.socket().exists());
    assert_eq!(site.start().ask_as(ALICE.uid, ISSUE)["ok"]["user"], "alice");
}

#[test]
fn what_is_no_socket_is_left_where_it_is() {
    let site = Site::new("starting-no-socket");
    fs::write(site.socket(), "precious").unwrap();
    let remedy = site.refusal().one(&site.socket(), "not a socket");
    assert_eq!(fs::read(site.socket()).unwrap(), b"precious");
    shell(
        remedy
            .strip_prefix("look at it, then move it away: ")
            .unwrap(),
    );
    site.start();
}

#[test]
fn everybody_reaches_the_socket_whatever_the_umask() {
    let site = Site::new("starting-umask");
    let directory = site.socket().parent().unwrap().to_owned();
    for umask in ["077", "000"] {
        fs::remove_dir_all(&directory).unwrap();
        let script = format!("umask {umask}; exec \"$@\"");
        let _daemon = site.start_through(&["sh", "-c", &script, "sh"]);
        assert_eq!((bits(&directory), bits(&site.socket())), (0o755, 0o666));
    }
}

#[test]
fn the_socket_has_its_mode_before_it_has_its_name() {
    let site = Site::new("starting-mode");
    let directory = site.socket().parent().unwrap().to_owned();
    let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    let wanted = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_MOVED_TO;
    watch.add_watch(&directory, wanted).unwrap();
    let _daemon = site.start();
    let events = watch.read_events().unwrap();
    let events: Vec<_> = events
        .iter()
        .map(|event| (event.mask, event.name.clone()))
        .collect();
    let name = site.socket().file_name().map(ToOwned::to_owned);
    assert!(
        events.contains(&(AddWatchFlags::IN_MOVED_TO, name)),
        "{events:?}"
    );
    // A mode that is set later would be told as an attribute that changes.
    let changed = |mask: &AddWatchFlags| mask.contains(AddWatchFlags::IN_ATTRIB);
    assert!(!events.iter().any(|(mask, _)| changed(mask)), "{events:?}");
}

#[test]
fn a_socket_directory_that_others_can_write_is_refused() {
    let site = Site::new("starting-directory");
    let directory = site.socket().parent().unwrap().to_owned();
    for bits in [0o775, 0o757, 0o1777] {
        mode(&directory, bits);
        site.is_mended(&directory, &format!("mode {bits:04o}"));
    }
}

#[test]
fn a_socket_directory_of_another_user_is_refused() {
    let site = Site::new("starting-directory-foreign");
    let directory = site.socket().parent().unwrap().to_owned();
    give_to(&directory, &ALICE);
    site.is_mended(&directory, "belongs to uid 2001");
}

#[test]
fn a_socket_directory_below_one_of_another_user_is_refused() {
    let site = Site::new("starting-home");
    let below = Path::new("/var/home/alice/starting-home");
    fs::create_dir(below).unwrap();
    let socket = below.join("s");
    let text = fs::read_to_string(site.configuration()).unwrap();
    let text = text.replace(site.socket().to_str().unwrap(), socket.to_str().unwrap());
    fs::write(site.configuration(), text).unwrap();
    site.refusal()
        .one(Path::new("/var/home/alice"), "belongs to uid 2001");
    assert!(!socket.exists());
}

#[test]
fn a_socket_directory_in_the_depths_is_made_by_the_command_that_is_told() {
    let site = Site::new("starting-depths");
    let text = fs::read_to_string(site.configuration()).unwrap();
    let text = text.replace(
        "/run/slurm-tokend-starting-depths/",
        "/run/starting-depths/a/b/",
    );
    fs::write(site.configuration(), text).unwrap();
    let remedy = site
        .refusal()
        .one(Path::new("/run/starting-depths"), "no such");
    shell(remedy.strip_prefix("make it with: ").unwrap());
    let _daemon = site.start();
    assert_eq!(
        bits(Path::new("/run/starting-depths/a/b/slurm-tokend.sock")),
        0o666
    );
}

// Who the daemon is once it serves.

/// A line of /proc/PID/status, its fields without the name.
fn status(daemon: &Daemon, name: &str) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap()
        .split_whitespace()
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn started_as_root_it_becomes_its_user_for_good() {
    let site = Site::new("starting-drop");
    let daemon = site.start_through(&["setpriv", "--groups", "0,4,2100"]);
    assert_eq!(status(&daemon, "Uid"), ["501"; 4]);
    assert_eq!(status(&daemon, "Gid"), ["501"; 4]);
    assert_eq!(status(&daemon, "Groups"), [""; 0]);
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(&daemon, set), ["0000000000000000"], "{set}");
    }
    assert_eq!(status(&daemon, "NoNewPrivs"), ["1"]);
}

#[test]
fn every_thread_of_the_daemon_is_its_user() {
    let site = Site::new("starting-threads");
    let daemon = site.start();
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let owners: Vec<_> = tasks
        .map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap())
        .collect();
    assert!(owners.len() > 4);
    assert!(
        owners
            .iter()
            .all(|status| status.contains("Uid:\t501\t501\t501\t501\n"))
    );
}

#[test]
fn where_roots_power_would_stay_the_daemon_does_not_serve() {
    let site = Site::new("starting-back");
    let mut command = Daemon::through(site.name, &["setpriv", "--securebits", "+no_setuid_fixup"]);
    let refusal = site.refusal_of(&mut command);
    refusal.one(Path::new("user"), "root's power could be taken back");
}

#[test]
fn neither_its_memory_nor_its_environment_is_for_others() {
    let site = Site::new("starting-dumpable");
    let daemon = site.start();
    let proc = PathBuf::from(format!("/proc/{}", daemon.pid()));
    // The kernel gives these files to root where a process isn't dumpable.
    for file in ["environ", "mem", "maps"] {
        assert_eq!(fs::metadata(proc.join(file)).unwrap().uid(), 0, "{file}");
    }
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<_> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(core, ["0", "0"]);
}

/// What alice needs to run a daemon herself: all of it is hers.
fn of_alice(name: &'static str, user: &str) -> Site {
    let site = Site::new(name);
    let home = PathBuf::from(format!("/var/home/alice/{name}"));
    fs::create_dir(&home).unwrap();
    fs::copy(&*KEY, home.join("key.pem")).unwrap();
    let text = format!(
        "socket = \"{home}/run/slurm-tokend.sock\"\n\
         state_dir = \"{home}/state\"\n\
         slurm_uid = 64030\n\
         user = \"{user}\"\n\
         [signing]\n\
         key = \"{home}/key.pem\"\n\
         algorithm = \"RS256\"\n",
        home = home.display()
    );
    fs::write(home.join("slurm-tokend.toml"), text).unwrap();
    for path in [
        &home,
        &home.join("key.pem"),
        &home.join("slurm-tokend.toml"),
    ] {
        give_to(path, &ALICE);
    }
    site
}

#[test]
fn started_by_an_ordinary_user_it_stays_that_user() {
    let site = of_alice("starting-ordinary", "slurm-tokend");
    let home = Path::new("/var/home/alice/starting-ordinary");
    let mut command = ALICE.runs("/usr/sbin/slurm-tokend");
    command.arg("--config").arg(home.join("slurm-tokend.toml"));
    let daemon = Daemon::spawn(site.name, command);
    assert_eq!(status(&daemon, "Uid"), ["2001"; 4]);
    assert_eq!(status(&daemon, "NoNewPrivs"), ["1"]);
    assert_eq!(
        fs::metadata(format!("/proc/{}/mem", daemon.pid()))
            .unwrap()
            .uid(),
        0
    );
    let socket = home.join("run/slurm-tokend.sock");
    let status = fs::symlink_metadata(&socket).unwrap();
    assert!(status.file_type().is_socket());
    assert_eq!((status.uid(), status.mode() & 0o777), (ALICE.uid, 0o666));
}

#[test]
fn started_by_an_ordinary_user_it_leaves_no_socket_behind() {
    let site = of_alice("starting-leaves", "slurm-tokend");
    let home = Path::new("/var/home/alice/starting-leaves");
    let mut command = ALICE.runs("/usr/sbin/slurm-tokend");
    command.arg("--config").arg(home.join("slurm-tokend.toml"));
    drop(Daemon::spawn(site.name, command));
    assert_eq!(fs::read_dir(home.join("run")).unwrap().count(), 0);
}

#[test]
fn an_ordinary_user_starts_no_daemon_with_files_of_others() {
    let site = of_alice("starting-others", "slurm-tokend");
    let home = Path::new("/var/home/alice/starting-others");
    for (file, says) in [("key.pem", "uid 2002"), ("slurm-tokend.toml", "uid 2002")] {
        give_to(&home.join(file), &BOB);
        mode(&home.join(file), 0o444);
        let mut command = ALICE.runs("/usr/sbin/slurm-tokend");
        command.arg("--config").arg(home.join("slurm-tokend.toml"));
        site.refusal_of(&mut command).one(&home.join(file), says);
        assert!(!home.join("run").exists());
        give_to(&home.join(file), &ALICE);
    }
}
