//! The audit record as the real logs read it: rsyslogd and systemd-journald;
//! and that no token leaves unrecorded whatever becomes of them.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::audit::{Log, assert_unrecorded};
use crate::node::{ALICE, BOB, Daemon, send, stdout, stop, until};
use crate::peer::code;

const ISSUE: &str = r#"{"v":1,"op":"issue","lifespan":600}"#;
const PORTAL: u32 = 500;
const DELEGATE: &str = "[[policy.delegate]]\ncaller = \"portal\"\nfor_groups = [\"hpcusers\"]\n";
/// What a service may ask for, to confuse whoever reads the record.
const ODD: &str =
    r#"{"v":1,"op":"issue","for":"bob x=\"1'\\\n<34>su: \u0007\u001b[2J\u00e9\u2028%s"}"#;
/// The same in a record, with which each log has to come up.
const ODD_TEXT: &str = r"bob\x20x\x3d\x221\x27\x5c\x0a<34>su:\x20\x07\x1b[2J\xc3\xa9\xe2\x80\xa8%s";

/// rsyslogd, which reads the log and writes authpriv to a file.
struct Rsyslog {
    process: Child,
    file: PathBuf,
}

impl Rsyslog {
    fn start(log: &Log, round: u32) -> Self {
        let to_file = |file: &Path| {
            format!(
                "authpriv.* action(type=\"omfile\" file=\"{}\")",
                file.display()
            )
        };
        Self::with(log, round, to_file)
    }

    /// One that does with authpriv what `action` says of a file.
    fn with(log: &Log, round: u32, action: impl Fn(&Path) -> String) -> Self {
        let at = |name: &str| log.path().with_extension(format!("{round}.{name}"));
        let file = at("auth");
        let configuration = format!(
            "module(load=\"imuxsock\" SysSock.Name=\"{}\")\n{}\n",
            log.path().display(),
            action(&file)
        );
        fs::write(at("conf"), configuration).unwrap();
        let process = Command::new("rsyslogd")
            .args(["-n", "-f"])
            .arg(at("conf"))
            .arg("-i")
            .arg(at("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(at("err")).unwrap())
            .spawn()
            .unwrap();
        until("rsyslogd to listen", || {
            let probe = UnixDatagram::unbound().unwrap();
            probe.connect(log.path()).is_ok()
        });
        Self { process, file }
    }

    fn signal(&self, signal: Signal) {
        send(&self.process, signal).unwrap();
    }

    /// Lets it end as the system does.
    fn stop(&mut self) {
        stop(&mut self.process);
    }

    fn lines_with(&self, text: &str) -> Vec<String> {
        let lines = || fs::read_to_string(&self.file).unwrap_or_default();
        until("the line in rsyslogd's file", || lines().contains(text));
        let lines = lines();
        let with = lines.lines().filter(|line| line.contains(text));
        with.map(ToOwned::to_owned).collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn jti(answer: &Value) -> &str {
    answer["ok"]["jti"].as_str().unwrap()
}

#[test]
fn rsyslogd_writes_the_record_under_our_name_and_finds_us_again_after_a_restart() {
    let log = Log::of("rsyslog");
    let mut rsyslog = Rsyslog::start(&log, 1);
    let daemon = log.daemon("rsyslog", "");
    let ident = format!(" slurm-tokend[{}]: op=issue", daemon.pid());
    for round in [2, 3] {
        let answer = daemon.ask_as(ALICE.uid, ISSUE);
        assert_eq!(code(&answer), "ok", "{answer}");
        let lines = rsyslog.lines_with(jti(&answer));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(&ident), "{lines:?}");
        rsyslog.stop();
        rsyslog = Rsyslog::start(&log, round);
    }
}

/// Asks until the log takes no more; gives the tokens that were given.
fn ask_until_unrecorded(daemon: &Daemon) -> Vec<String> {
    let mut given = Vec::new();
    loop {
        let answer = daemon.ask_as(ALICE.uid, ISSUE);
        if code(&answer) != "ok" {
            assert_unrecorded(&answer);
            return given;
        }
        given.push(jti(&answer).to_owned());
    }
}

#[test]
fn whatever_becomes_of_rsyslogd_no_token_leaves_unrecorded_and_service_goes_on_by_itself() {
    let log = Log::of("rsyslog-fails");
    let limits = "[limits]\ntokens_per_minute = 1000000\nburst = 1000000\n";
    let mut first = Rsyslog::start(&log, 1);
    let daemon = log.daemon("rsyslog-fails", limits);
    let mut given = vec![jti(&daemon.ask_as(ALICE.uid, ISSUE)).to_owned()];

    // It hangs, and its queue gets full.
    first.signal(Signal::SIGSTOP);
    given.extend(ask_until_unrecorded(&daemon));
    assert!(given.len() > 1);
    // It's slow: now and then it reads a few. Who waits is served then.
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let mut peer = daemon.peer(BOB.uid);
            thread::spawn(move || {
                peer.say(format!("{ISSUE}\n"));
                peer.hear().unwrap()
            })
        })
        .collect();
    first.signal(Signal::SIGCONT);
    for peer in waiting {
        let answer = peer.join().unwrap();
        assert_eq!(code(&answer), "ok", "{answer}");
        given.push(jti(&answer).to_owned());
    }
    for jti in &given {
        assert_eq!(first.lines_with(&format!("jti={jti} ")).len(), 1, "{jti}");
    }

    // It's gone, and so is its socket.
    first.stop();
    assert_unrecorded(&daemon.ask_as(ALICE.uid, ISSUE));
    let _ = fs::remove_file(log.path());
    assert_unrecorded(&daemon.ask_as(ALICE.uid, ISSUE));

    // Another one takes its place.
    let second = Rsyslog::start(&log, 2);
    let answer = daemon.ask_as(ALICE.uid, ISSUE);
    assert_eq!(code(&answer), "ok", "{answer}");
    assert_eq!(second.lines_with(jti(&answer)).len(), 1);
    assert!(
        daemon.journal().contains("record was lost"),
        "{}",
        daemon.journal()
    );
}

#[test]
fn a_flood_of_refusals_is_recorded_in_few_lines_and_hides_no_grant() {
    let log = Log::of("rsyslog-flood");
    let rsyslog = Rsyslog::start(&log, 1);
    let limits = "[limits]\ntokens_per_minute = 60\nburst = 5\n";
    let daemon = log.daemon("rsyslog-flood", limits);
    let flood: Vec<_> = [BOB.uid, 100_000]
        .map(|uid| {
            let mut peer = daemon.peer(uid);
            thread::spawn(move || {
                for _ in 0..5000 {
                    peer.say(format!("{ISSUE}\n"));
                    peer.hear().unwrap();
                }
            })
        })
        .into_iter()
        .collect();
    let given: Vec<String> = (0..5)
        .map(|_| jti(&daemon.ask_as(ALICE.uid, ISSUE)).to_owned())
        .collect();
    for flood in flood {
        flood.join().unwrap();
    }
    for jti in given {
        assert_eq!(rsyslog.lines_with(&format!("jti={jti} ")).len(), 1);
    }
    // At the end it tells what is left to tell.
    drop(daemon);
    let all = || rsyslog.lines_with("result=refused uid=");
    let told = |line: &String| {
        let others = line.split_once("suppressed=").map_or("0", |(_, n)| n);
        1 + others.trim().parse::<u64>().unwrap()
    };
    let strangers = || -> Vec<String> {
        all()
            .into_iter()
            .filter(|line| line.contains("uid=100000"))
            .collect()
    };
    until("all refusals to be told of", || {
        strangers().iter().map(told).sum::<u64>() == 5000
    });
    let lines = strangers();
    assert!(lines.len() < 200, "{} lines", lines.len());
}

#[test]
fn a_regular_expression_reads_each_record_whole() {
    const READ: &str = r"
import re, sys
line = re.compile(r'[a-z]+=[^ ]*(?: [a-z]+=[^ ]*)*')
for record in sys.stdin:
    fields = record.rstrip('\n').split(']: ', 1)[1]
    assert line.fullmatch(fields), fields
    found = re.findall(r'([a-z]+)=([^ ]*)', fields)
    assert len(dict(found)) == len(found), fields
    print(dict(found).get('for', ''))";
    let log = Log::of("regex");
    let rsyslog = Rsyslog::start(&log, 1);
    let daemon = log.daemon("regex", DELEGATE);
    daemon.ask_as(PORTAL, ODD);
    daemon.ask_as(PORTAL, "hello");
    daemon.ask_as(PORTAL, r#"{"v":1,"op":"issue","for":"bob"}"#);
    daemon.ask(r#"{"v":1,"op":"block","user":"bob","reason":"a b=c"}"#);
    let lines = rsyslog.lines_with("op=block");
    assert_eq!(lines.len(), 1);
    let reader = Command::new("/usr/bin/python3")
        .args(["-c", READ])
        .stdin(File::open(&rsyslog.file).unwrap())
        .output();
    let read = stdout(reader.unwrap());
    let mut told: Vec<&str> = read.lines().collect();
    told.sort_unstable();
    let mut wanted = vec!["", "bob", "bob", ODD_TEXT];
    wanted.sort_unstable();
    assert_eq!(told, wanted);
}

#[test]
fn rsyslogd_extracts_the_fields_of_a_record() {
    let log = Log::of("rsyslog-fields");
    let rsyslog = Rsyslog::with(&log, 1, |file| {
        let field = |name: &str| {
            format!("set $!{name} = re_extract($msg, \" {name}=([^ ]*)\", 0, 1, \"-\");")
        };
        let fields: String = ["result", "user", "for", "code"].map(field).join("\n");
        format!(
            "{fields}\n\
             template(name=\"four\" type=\"string\" string=\"%$!result%|%$!user%|%$!for%|%$!code%\\n\")\n\
             authpriv.* action(type=\"omfile\" file=\"{}\" template=\"four\")",
            file.display()
        )
    });
    let daemon = log.daemon("rsyslog-fields", DELEGATE);
    daemon.ask_as(PORTAL, ODD);
    let lines = rsyslog.lines_with("refused");
    assert_eq!(
        lines,
        [format!("refused|portal|{ODD_TEXT}|privileged_user")]
    );
}

#[test]
fn rsyslogd_reads_the_record_that_is_json() {
    let log = Log::of("rsyslog-json");
    let rsyslog = Rsyslog::with(&log, 1, |file| {
        format!(
            "module(load=\"mmjsonparse\")\n\
             action(type=\"mmjsonparse\" cookie=\"\")\n\
             template(name=\"all\" type=\"string\" string=\"%$.parsed% %$!all-json%\\n\")\n\
             set $.parsed = $parsesuccess;\n\
             authpriv.* action(type=\"omfile\" file=\"{}\" template=\"all\")",
            file.display()
        )
    });
    let tables = format!("{DELEGATE}[audit]\nformat = \"json\"\n");
    let daemon = log.daemon("rsyslog-json", &tables);
    daemon.ask_as(PORTAL, ODD);
    let answer = daemon.ask_as(PORTAL, r#"{"v":1,"op":"issue","for":"bob"}"#);
    let line = rsyslog.lines_with(jti(&answer)).remove(0);
    let (parsed, granted) = line.split_once(' ').unwrap();
    assert_eq!(parsed, "OK");
    let granted: Value = serde_json::from_str(granted).unwrap();
    assert_eq!(granted["result"], "granted");
    assert_eq!(granted["uid"], 500);
    assert_eq!(granted["sun"], "bob");
    assert_eq!(granted["exp"], answer["ok"]["expires_at"]);
    let line = rsyslog.lines_with("privileged_user").remove(0);
    let refused: Value = serde_json::from_str(line.split_once(' ').unwrap().1).unwrap();
    let asked: Value = serde_json::from_str(ODD).unwrap();
    assert_eq!(refused["for"], asked["for"]);
}

/// systemd-journald, and a daemon whose `/dev/log` is its socket.
struct Journald(Child);

impl Journald {
    fn start() -> Self {
        for directory in ["/run/systemd/journal", "/run/log/journal"] {
            fs::create_dir_all(directory).unwrap();
        }
        let child = Command::new("/lib/systemd/systemd-journald")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("journald to listen", || {
            let probe = UnixDatagram::unbound().unwrap();
            probe.connect("/run/systemd/journal/dev-log").is_ok()
        });
        Self(child)
    }

    /// The entries of ours, as journalctl tells them.
    fn entries() -> Vec<Value> {
        let journalctl = Command::new("journalctl")
            .args(["-D", "/run/log/journal", "-t", "slurm-tokend", "-o", "json"])
            .output();
        let told = stdout(journalctl.unwrap());
        told.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn journald_reads_the_record_as_it_is_in_both_forms() {
    let log = Log::of("journald");
    symlink("/run/systemd/journal/dev-log", log.path()).unwrap();
    let _journald = Journald::start();
    let text = log.daemon("journald-text", DELEGATE);
    text.ask_as(PORTAL, ODD);
    let tables = format!("{DELEGATE}[audit]\nformat = \"json\"\n");
    let json = log.daemon("journald-json", &tables);
    json.ask_as(PORTAL, ODD);
    until("both records", || Journald::entries().len() == 2);
    let entries = Journald::entries();
    for (entry, daemon) in entries.iter().zip([&text, &json]) {
        assert_eq!(entry["SYSLOG_PID"], daemon.pid().to_string(), "{entry}");
        assert_eq!(entry["SYSLOG_FACILITY"], "10", "{entry}");
        assert_eq!(entry["PRIORITY"], "5", "{entry}");
    }
    let own = std::process::id();
    let message = format!(
        "op=issue result=refused uid=500 user=portal pid={own} for={ODD_TEXT} code=privileged_user"
    );
    assert_eq!(entries[0]["MESSAGE"], message);
    let read: Value = serde_json::from_str(entries[1]["MESSAGE"].as_str().unwrap()).unwrap();
    let asked: Value = serde_json::from_str(ODD).unwrap();
    assert_eq!(read["for"], asked["for"]);
    assert_eq!(read["pid"], own);
}
