//! The client as its users meet it: their shells, their mistakes, their
//! daemons, and sockets that others have laid out for them.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::node::{ALICE, BOB, Daemon, User, generate_key, stdout, until};
use crate::slurm::RS256;

const PORTAL: User = User {
    name: "portal",
    uid: 500,
};

/// The client as it was built: for what needs no daemon.
const CLIENT: &str = env!("CARGO_BIN_EXE_slurm-token");

/// A daemon that lets the portal ask for users.
static DAEMON: LazyLock<Daemon> = LazyLock::new(|| {
    let key = generate_key("HS256", "client.key");
    let tables = "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\n\
                  max_lifespan = \"2h\"\ntokens_per_minute = 500\nburst = 50\n";
    Daemon::with("client", "HS256", &key, "", tables)
});

fn run(user: &User, args: &[&str]) -> Output {
    let mut client = user.runs("slurm-token");
    client
        .args(args)
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    client.output().unwrap()
}

/// What standard error says of a run that ended with `status` and printed
/// nothing.
fn complaint(output: Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert_eq!(output.stdout, b"", "something was printed");
    String::from_utf8(output.stderr).unwrap()
}

/// The claims of a token; it must be one by its form.
fn claims(token: &str) -> Value {
    let parts: Vec<_> = token
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
        .collect();
    assert_eq!(parts.len(), 3, "{token}");
    serde_json::from_slice(&parts[1]).unwrap()
}

fn user_of(token: &str) -> String {
    claims(token)["sun"].as_str().unwrap().to_owned()
}

// What it prints.

#[test]
fn alone_it_prints_the_token_as_scontrol_does_and_nothing_else() {
    let output = run(&ALICE, &[]);
    assert_eq!(output.stderr, b"");
    let line = stdout(output);
    let token = line.strip_prefix("SLURM_JWT=").unwrap();
    let token = token.strip_suffix('\n').unwrap();
    assert_eq!(user_of(token), "alice");
}

#[test]
fn shells_export_what_it_prints() {
    for shell in ["sh", "bash", "zsh"] {
        for export in [
            "export $(slurm-token)",
            "eval \"$(slurm-token --format export)\"",
            "jwt=$(slurm-token) && export \"$jwt\"",
        ] {
            let mut user = ALICE.runs(shell);
            user.args(["-c", &format!("{export} && printenv SLURM_JWT")])
                .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
            let token = stdout(user.output().unwrap());
            assert_eq!(user_of(token.trim_end()), "alice", "{shell}: {export}");
        }
    }
}

#[test]
fn json_says_what_the_token_says() {
    let json: Value = serde_json::from_str(&DAEMON.client(&ALICE, &["--format=json"])).unwrap();
    let claims = claims(json["token"].as_str().unwrap());
    assert_eq!(json["user"], claims["sun"]);
    assert_eq!(json["expires_at"], claims["exp"]);
    assert_eq!(json["jti"], claims["jti"]);
    assert_eq!(json["kid"], "client");
}

#[test]
fn whoami_says_what_the_policy_gives() {
    assert_eq!(
        DAEMON.client(&ALICE, &["whoami"]),
        "user         alice (uid 2001)\n\
         token        yes\n\
         lifespan     30m unless you say otherwise, at most 12h\n\
         decided by   default\n\
         refreshed    until 7d after the first token\n\
         signed by    client"
    );
    let portal = DAEMON.client(&PORTAL, &["whoami"]);
    assert!(portal.contains("\ntoken        no: "), "{portal}");
    assert!(
        portal.contains(
            "\nmay ask for  members of hpcusers\n\
             \x20            for 2h at most\n\
             \x20            500 tokens a minute at most, 50 of them at once\n"
        ),
        "{portal}"
    );
    let json: Value =
        serde_json::from_str(&DAEMON.client(&ALICE, &["whoami", "--format=json"])).unwrap();
    assert_eq!(json["user"], "alice");
    assert_eq!(json["max_lifespan"], 43200);
    assert_eq!(json["max_session"], 604_800);
    assert_eq!(json["delegate_burst"], Value::Null);
}

// What it asks for.

#[test]
fn a_lifespan_is_taken_in_every_form_that_the_daemon_reads() {
    for (args, seconds) in [
        (&["lifespan=600"][..], 600),
        (&["LIFESPAN=90s"], 90),
        (&["--lifespan", "1h30m"], 5400),
        (&["--lifespan=00:10:00"], 600),
        (&["--lifespan=max"], 43200),
        (&[], 1800),
    ] {
        let args = [args, &["--format=raw"]].concat();
        let claims = claims(&DAEMON.client(&ALICE, &args));
        let lives = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(lives, seconds, "{args:?}");
    }
}

#[test]
fn ones_own_name_may_be_given() {
    for own in ["username=alice", "--for=alice"] {
        let token = DAEMON.client(&ALICE, &[own, "--format=raw"]);
        assert_eq!(user_of(&token), "alice");
        assert_eq!(claims(&token)["act"], Value::Null);
    }
}

#[test]
fn a_service_gets_the_token_of_the_user_it_names() {
    for other in ["UserName=bob", "--for=bob"] {
        let token = DAEMON.client(&PORTAL, &[other, "--format=raw"]);
        assert_eq!(user_of(&token), "bob");
        assert_eq!(claims(&token)["act"]["sub"], "portal");
    }
}

#[test]
fn a_cluster_has_a_daemon_of_its_own() {
    LazyLock::force(&DAEMON);
    let mut client = ALICE.runs("slurm-token");
    client.args(["-M", "client", "--format=json"]);
    let json: Value = serde_json::from_str(&stdout(client.output().unwrap())).unwrap();
    assert_eq!(json["kid"], "client");
}

#[test]
fn other_programs_get_the_public_keys_through_it() {
    let site = &RS256;
    let jwks = slurm_tokend::client::jwks(site.daemon.socket()).unwrap();
    assert_eq!(jwks, site.daemon.jwks());
    assert_eq!(jwks["keys"][0]["kty"], "RSA");
}

// Whether it says no, and how.

#[test]
fn a_refusal_says_what_happened_and_what_to_do() {
    assert_eq!(
        complaint(run(&ALICE, &["lifespan=24h"]), 4),
        "slurm-token: 1d is longer than the 12h that alice may have.\n\
         slurm-token: Your limit is 12h: try --lifespan max.\n"
    );
    let refused = complaint(run(&ALICE, &["--for=bob"]), 4);
    assert!(
        refused.starts_with("slurm-token: alice may ask for a token of its own only"),
        "{refused}"
    );
    let refused = complaint(run(&ALICE, &["lifespan=infinite"]), 4);
    assert!(refused.contains("every token expires"), "{refused}");
}

#[test]
fn a_mistake_on_the_command_line_asks_nobody() {
    let mut client = Command::new(CLIENT);
    client.args(["--lifespam", "5"]);
    assert_eq!(
        complaint(client.output().unwrap(), 2),
        "slurm-token: there is no option --lifespam; did you mean --lifespan?\n\
         slurm-token: see slurm-token --help\n"
    );
}

#[test]
fn a_daemon_that_does_not_run_is_named_by_its_unit() {
    for (args, socket, unit) in [
        (&[][..], "slurm-tokend", "slurm-tokend.socket"),
        (&["-Mnone"], "slurm-tokend-none", "slurm-tokend@none.socket"),
    ] {
        let mut client = Command::new(CLIENT);
        client.args(args).env_remove("SLURM_TOKEND_SOCKET");
        assert_eq!(
            complaint(client.output().unwrap(), 3),
            format!(
                "slurm-token: /run/{socket}/slurm-tokend.sock: there is no such socket: no daemon runs here\n\
                 slurm-token: ask your administrator to start it (systemctl start {unit}), \
                 or name another socket with --socket\n"
            )
        );
    }
}

#[test]
fn a_socket_that_a_daemon_left_behind_is_nobodys() {
    let socket = Path::new("/run/left-behind.sock");
    drop(UnixListener::bind(socket).unwrap());
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    let mut client = ALICE.runs("/usr/bin/slurm-token");
    client.arg("--socket").arg(socket);
    let said = complaint(client.output().unwrap(), 3);
    assert!(said.contains("no daemon listens on this socket"), "{said}");
}

#[test]
fn a_token_that_could_not_be_printed_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (reader, closed) = io::pipe().unwrap();
    drop(reader);
    for (to, why) in [
        (Stdio::from(full), "No space left on device"),
        (Stdio::from(closed), "Broken pipe"),
    ] {
        let mut client = ALICE.runs("slurm-token");
        client
            .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
            .stdout(to)
            .stderr(Stdio::piped());
        let output = client.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(
            complaint(output, 1),
            format!(
                "slurm-token: standard output: can't be written: {why}\n\
                 slurm-token: what was printed is incomplete, don't use it\n"
            )
        );
    }
}

#[test]
fn a_closed_standard_output_is_as_dev_null_and_the_token_goes_nowhere_else() {
    let mut sh = ALICE.runs("sh");
    // Whatever is opened first would take the place of what is closed.
    let script = "slurm-token <&- >&- 2>&- 3> ~/closed; echo $?; wc -c < ~/closed
        slurm-token keep --once --file ~/closed-kept <&- >&- 2>&-; echo $?; cat ~/closed-kept";
    sh.args(["-c", script])
        .env("SLURM_TOKEND_SOCKET", DAEMON.socket());
    let said = stdout(sh.output().unwrap());
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["0", "0", "0"], "{said}");
    assert_eq!(user_of(lines[3]), "alice");
    assert_eq!(lines.len(), 4);
}

// Which socket it asks.

#[test]
fn an_option_counts_more_than_the_environment() {
    for environment in ["/nonexistent", ""] {
        let mut client = ALICE.runs("slurm-token");
        client
            .arg("--socket")
            .arg(DAEMON.socket())
            .env("SLURM_TOKEND_SOCKET", environment);
        stdout(client.output().unwrap());
    }
}

#[test]
fn an_empty_environment_variable_is_none() {
    let mut client = Command::new(CLIENT);
    client.env("SLURM_TOKEND_SOCKET", "");
    let said = complaint(client.output().unwrap(), 3);
    assert!(
        said.contains("/run/slurm-tokend/slurm-tokend.sock: "),
        "{said}"
    );
}

#[test]
fn the_environment_counts_for_nothing_where_another_lends_its_identity() {
    LazyLock::force(&DAEMON);
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755)] {
        let program = format!("/usr/bin/slurm-token-{name}");
        fs::copy("/usr/bin/slurm-token", &program).unwrap();
        chown(&program, Some(BOB.uid), Some(BOB.uid)).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
        let mut client = ALICE.runs(&program);
        client.env("SLURM_TOKEND_SOCKET", DAEMON.socket());
        let said = complaint(client.output().unwrap(), 3);
        assert!(
            said.contains("/run/slurm-tokend/slurm-tokend.sock: "),
            "{name}: {said}"
        );
    }
}

// Whom it trusts.

/// Whatever bob laid out: it takes one connection and keeps what it's told.
struct Trap {
    child: Child,
    socket: PathBuf,
    told: PathBuf,
}

impl Trap {
    fn in_directory(directory: &Path) -> Self {
        let socket = directory.join("slurm-tokend.sock");
        let told = directory.join("told");
        let child = BOB
            .runs("socat")
            .arg("-u")
            .arg(format!("UNIX-LISTEN:{},mode=666", socket.display()))
            .arg(format!("CREATE:{}", told.display()))
            .spawn()
            .unwrap();
        let trap = Self {
            child,
            socket,
            told,
        };
        until("the trap to be laid", || {
            let table = fs::read_to_string("/proc/net/unix").unwrap();
            // Flag 00010000: it listens.
            table.lines().any(|line| {
                line.contains(" 00010000 ") && line.ends_with(trap.socket.to_str().unwrap())
            })
        });
        trap
    }

    /// What the client that `command` runs says of it, and what it tells it.
    fn catches(mut self, mut command: Command) -> (Output, String) {
        command.arg("--socket").arg(&self.socket);
        let output = command.output().unwrap();
        self.child.wait().unwrap();
        (output, fs::read_to_string(&self.told).unwrap())
    }
}

fn directory(path: &str, owner: u32, mode: u32) -> PathBuf {
    fs::create_dir(path).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    path.into()
}

#[test]
fn a_socket_that_another_user_laid_out_is_told_nothing() {
    directory("/run/of-all", 0, 0o1777);
    directory("/run/of-all/too", 0, 0o777);
    for directory in [
        // Bob made it himself, where anybody may.
        directory("/tmp/of-bob", BOB.uid, 0o755),
        // Root made it, but not for bob.
        directory("/run/of-root", 0, 0o777),
        // Root made it for bob, where bob could have put another.
        directory("/run/of-all/of-bob", BOB.uid, 0o755),
        directory("/run/of-all/too/of-bob", BOB.uid, 0o755),
    ] {
        let trap = Trap::in_directory(&directory);
        let (output, told) = trap.catches(ALICE.runs("slurm-token"));
        let said = complaint(output, 3);
        assert!(
            said.contains("the listener is uid 2002, who is neither root nor you"),
            "{said}"
        );
        assert_eq!(told, "", "{}", directory.display());
    }
}

#[test]
fn ones_own_socket_is_trusted() {
    // As for anybody who tries a daemon of their own.
    let trap = Trap::in_directory(&directory("/tmp/of-bob-himself", BOB.uid, 0o700));
    let (output, told) = trap.catches(BOB.runs("slurm-token"));
    complaint(output, 3);
    assert_eq!(told, "{\"v\":1,\"op\":\"issue\"}\n");
}

#[test]
fn the_owner_of_a_directory_that_root_made_is_trusted() {
    // A service user's daemon, which nobody started as root.
    let service = User {
        name: "slurm-tokend",
        uid: 501,
    };
    let name = "client-service";
    let key = generate_key("HS256", "client-service.key");
    chown(&key, Some(service.uid), None).unwrap();
    Daemon::configure(name, "HS256", &key, "", "");
    let socket = Daemon::socket_of(name);
    let directory = socket.parent().unwrap();
    chown(directory, Some(service.uid), Some(service.uid)).unwrap();
    self::directory("/var/lib/slurm-tokend-client-service", service.uid, 0o700);
    let mut daemon = Daemon::command(name)
        .uid(service.uid)
        .gid(service.uid)
        .spawn()
        .unwrap();
    until("the daemon to listen", || {
        assert!(daemon.try_wait().unwrap().is_none(), "the daemon ended");
        socket.exists()
    });

    let ask = |mut client: Command| client.args(["-M", name]).output().unwrap();
    let trusted = ask(ALICE.runs("slurm-token"));
    // In a user namespace that knows root alone, every other uid looks the same.
    let mut within = Command::new("unshare");
    within.args(["--user", "--map-root-user", "slurm-token"]);
    let unknown = ask(within);
    fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    let open_to_all = ask(ALICE.runs("slurm-token"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    assert!(stdout(trusted).starts_with("SLURM_JWT="));
    let said = complaint(unknown, 3);
    assert!(
        said.contains("in a user namespace may be anybody"),
        "{said}"
    );
    let said = complaint(open_to_all, 3);
    assert!(said.contains("the listener is uid 501"), "{said}");
}

#[test]
fn no_other_process_of_its_user_can_read_its_memory() {
    let socket = Path::new("/run/silent.sock");
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    LazyLock::force(&DAEMON);
    let mut client = ALICE.runs("slurm-token");
    let mut client = client.arg("--socket").arg(socket).spawn().unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    connection.read_exact(&mut [0; 20]).unwrap();
    let memory = fs::metadata(format!("/proc/{}/mem", client.id())).unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(memory.uid(), 0, "it's alice's to open");
}

#[test]
fn a_refusal_by_a_newer_daemon_is_told_whatever_its_code() {
    let socket = Path::new("/run/newer.sock");
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    let mut client = ALICE.runs("slurm-token");
    client.arg("--socket").arg(socket);
    let client = client.stdout(Stdio::piped()).stderr(Stdio::piped());
    let client = client.spawn().unwrap();
    let (mut connection, _) = listener.accept().unwrap();
    io::copy(&mut connection, &mut io::sink()).unwrap();
    let answer = br#"{"v":1,"error":{"code":"too_early","message":"Not yet.","help":"Come at 9.","opens":9}}"#;
    connection
        .write_all(&[&answer[..], b"\n"].concat())
        .unwrap();
    assert_eq!(
        complaint(client.wait_with_output().unwrap(), 4),
        "slurm-token: Not yet.\nslurm-token: Come at 9.\n"
    );
}

// What it's made of.

/// Which of the daemon's libraries have code in the program.
///
/// Of aws-lc, its algorithms count. Its constructor and destructors, which ask
/// the processor what it can and clear random numbers, stay in what is linked
/// without link-time optimisation.
fn linked(program: &str) -> BTreeSet<&'static str> {
    let mut nm = Command::new("nm");
    let symbols = stdout(nm.args(["--demangle", program]).output().unwrap());
    assert!(
        symbols.contains("slurm_tokend::"),
        "{program} has no symbols"
    );
    let words: BTreeSet<&str> = symbols
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    let crates = [
        "tokio",
        "tokio_util",
        "jsonwebtoken",
        "aws_lc_rs",
        "rsa",
        "toml",
        "syslog",
        "clap_builder",
    ];
    let algorithms = ["RSA_", "EVP_", "HMAC_", "SHA256_", "BN_", "EC_"];
    let of_aws_lc = |word: &&str| word.starts_with("aws_lc_");
    crates
        .into_iter()
        .filter(|name| words.contains(name))
        .chain(algorithms.into_iter().filter(|algorithm| {
            words
                .iter()
                .filter(|word| of_aws_lc(word))
                .any(|word| word.contains(&format!("_{algorithm}")))
        }))
        .collect()
}

#[test]
fn it_links_neither_the_daemons_libraries_nor_cryptography() {
    assert_eq!(linked(CLIENT), BTreeSet::new());
    let daemon = linked(env!("CARGO_BIN_EXE_slurm-tokend"));
    assert!(
        daemon.is_superset(&BTreeSet::from(["tokio", "aws_lc_rs", "RSA_", "HMAC_"])),
        "{daemon:?}"
    );
}

// What is said of it.

const PAGE: &str = include_str!("../../packaging/man/slurm-token.1");

/// What `slurm-token COMMAND --help` prints, for each command and for none.
fn helps() -> Vec<String> {
    let help = |command: &[&str]| {
        let mut client = Command::new(CLIENT);
        stdout(client.args(command).arg("--help").output().unwrap())
    };
    let own = help(&[]);
    let (_, commands) = own.split_once("of its own:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let commands = commands
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let mut helps: Vec<_> = commands.map(|command| help(&[command])).collect();
    helps.push(own);
    helps
}

/// The lines of the page that begin with this, as words.
fn items(macros: &str) -> impl Iterator<Item = Vec<&'static str>> {
    PAGE.lines()
        .filter_map(move |line| Some(line.strip_prefix(macros)?.split_whitespace().collect()))
}

#[test]
fn help_and_page_tell_of_the_same_options() {
    let in_help: BTreeSet<String> = helps()
        .iter()
        .flat_map(|help| help.lines())
        .filter(|line| line.starts_with("  -"))
        .filter_map(|line| line.trim_start().split("  ").next())
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with('-'))
        .map(|word| {
            word.trim_end_matches(',')
                .split('[')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    let in_page: BTreeSet<String> = items(".It Fl ")
        .flatten()
        .filter(|word| {
            word.starts_with('-') || word.len() == 1 && word.chars().all(char::is_alphabetic)
        })
        .map(|word| format!("-{word}"))
        .collect();
    assert_eq!(in_help, in_page);
    assert!(in_help.len() >= 12, "{in_help:?}");
}

#[test]
fn help_and_page_tell_of_the_same_formats_and_each_is_taken() {
    let in_page: Vec<&str> = items(".It Cm ").map(|words| words[0]).collect();
    let help = helps().pop().unwrap();
    let (_, formats) = help.split_once("--format FORMAT").unwrap();
    let (formats, _) = formats.split_once("  --json").unwrap();
    let in_help: Vec<&str> = formats
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(in_help, in_page);
    for format in in_page {
        let token = DAEMON.client(&ALICE, &["--format", format]);
        assert!(token.contains("eyJ"), "{format}");
    }
}

#[test]
fn the_pages_examples_work_as_they_stand() {
    let site = &RS256;
    let mut bridge = Command::new("socat")
        .arg("TCP-LISTEN:6820,bind=127.0.0.1,reuseaddr,fork")
        .arg(format!("UNIX-CONNECT:{}", site.bed.slurmrestd()))
        .spawn()
        .unwrap();
    until("port 6820", || {
        std::net::TcpStream::connect("127.0.0.1:6820").is_ok()
    });
    let (_, examples) = PAGE.split_once(".Sh EXAMPLES\n").unwrap();
    let examples: Vec<&str> = examples
        .split(".Bd -literal -offset indent\n")
        .skip(1)
        .map(|example| example.split_once(".Ed").unwrap().0)
        .collect();
    assert!(examples.len() >= 6);
    for example in examples {
        let script = example.replace("v0.0.38", site.bed.api());
        let mut sh = ALICE.runs("sh");
        sh.args(["-e", "-c", &script])
            .env("SLURM_TOKEND_SOCKET", site.daemon.socket())
            .env("SLURM_CONF", site.bed.users_conf());
        let output = sh.output().unwrap();
        assert!(output.status.success(), "{script}\n{output:?}");
        assert!(!output.stdout.is_empty(), "{script}");
    }
    bridge.kill().unwrap();
    bridge.wait().unwrap();
}
