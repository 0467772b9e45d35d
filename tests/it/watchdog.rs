//! systemd hears that the daemon lives as long as all of it serves, and how it
//! stands. Here the test is systemd: it listens where the daemon reports.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::node::{ALICE, Daemon, generate_key, until};

/// Short, so that a test needn't wait for what is seconds long elsewhere.
const LIMIT: Duration = Duration::from_millis(800);

/// A daemon that reports to us.
struct Watched {
    daemon: Daemon,
    reports: UnixDatagram,
}

impl Watched {
    fn start(name: &str, algorithm: &str) -> Self {
        Self::with(name, algorithm, "")
    }

    fn with(name: &str, algorithm: &str, tables: &str) -> Self {
        let place = PathBuf::from(format!("/run/notify-{name}"));
        let reports = UnixDatagram::bind(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o666)).unwrap();
        reports.set_nonblocking(true).unwrap();
        let key = generate_key(algorithm, &format!("{name}.pem"));
        Daemon::configure(name, algorithm, &key, "", tables);
        let mut command = Daemon::command(name);
        command
            .env("NOTIFY_SOCKET", &place)
            .env("WATCHDOG_USEC", LIMIT.as_micros().to_string());
        Self {
            daemon: Daemon::spawn(name, command),
            reports,
        }
    }

    /// What the daemon has reported since we last asked.
    fn reported(&self) -> Vec<String> {
        let mut reported = Vec::new();
        let mut report = [0; 4096];
        loop {
            match self.reports.recv(&mut report) {
                Ok(size) => reported.push(String::from_utf8(report[..size].to_vec()).unwrap()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return reported,
                Err(e) => panic!("{e}"),
            }
        }
    }

    fn lives(&self) -> bool {
        self.reported()
            .iter()
            .any(|said| said.contains("WATCHDOG=1"))
    }

    /// The thread of that name, the first if there are more.
    fn thread(&self, name: &str) -> Pid {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.daemon.pid())).unwrap();
        let named = tasks.map(|task| task.unwrap().path()).filter(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        });
        let threads =
            named.map(|task| task.file_name().unwrap().to_str().unwrap().parse().unwrap());
        Pid::from_raw(threads.min().unwrap_or_else(|| panic!("no thread {name}")))
    }

    /// Stops one thread, sees systemd hear nothing for it, and lets it go on.
    fn is_found_dead_without(&self, thread: &str, called: &str) {
        until("the first report", || self.lives());
        let stopped = self.thread(thread);
        ptrace::seize(stopped, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(stopped).unwrap();
        waitpid(stopped, Some(WaitPidFlag::__WALL)).unwrap();

        let complaints = || {
            let wanted = format!("no answer from {called} within ");
            self.daemon.journal().matches(&wanted).count()
        };
        until("the first complaint", || complaints() > 0);
        self.reported();
        let before = complaints();
        until("more complaints", || complaints() >= before + 2);
        assert!(
            !self.lives(),
            "{thread} is stopped, and systemd is told all is well"
        );

        ptrace::detach(stopped, None).unwrap();
        until("a report after all", || self.lives());
    }
}

#[test]
fn systemd_is_told_that_a_daemon_lives_which_serves() {
    let watched = Watched::start("watched", "RS256");
    for _ in 0..3 {
        until("a report", || watched.lives());
    }
    assert!(watched.daemon.client(&ALICE, &[]).starts_with("SLURM_JWT="));
    assert!(!watched.daemon.journal().contains("no answer"));
}

#[test]
fn systemd_is_not_told_so_while_a_front_hangs() {
    Watched::start("front-hangs", "RS256").is_found_dead_without("front-2", "front-2");
}

#[test]
fn systemd_is_not_told_so_while_a_signer_hangs() {
    Watched::start("signer-hangs", "RS256").is_found_dead_without("sign-0", "sign-0");
}

#[test]
fn systemd_is_not_told_so_while_the_runtime_hangs() {
    Watched::start("runtime-hangs", "HS256").is_found_dead_without("runtime", "the runtime");
}

#[test]
fn the_status_tells_of_a_refused_reload_until_one_is_taken() {
    let watched = Watched::start("status-reload", "HS256");
    let status_after_a_reload = || {
        watched.daemon.signal(Signal::SIGHUP);
        let mut status = String::new();
        until("the daemon to be ready again", || {
            let reported = watched.reported();
            let ready = reported.iter().find(|said| said.contains("READY=1"));
            ready.is_some_and(|said| {
                status.clone_from(said);
                true
            })
        });
        status
    };
    watched.reported();
    let file = Daemon::configuration_of("status-reload");
    let sound = fs::read_to_string(&file).unwrap();

    fs::write(&file, format!("{sound}[limits]\nburts = 7\n")).unwrap();
    let status = status_after_a_reload();
    assert!(
        status.contains("STATUS=signing HS256 with kid status-reload; not reloaded: ")
            && status.contains("burts"),
        "{status}"
    );

    fs::write(&file, sound).unwrap();
    let status = status_after_a_reload();
    let last = status.lines().last();
    assert_eq!(last, Some("STATUS=signing HS256 with kid status-reload"));
}

#[test]
fn systemd_is_not_told_so_while_a_thread_of_the_http_door_hangs() {
    let door = "[http]\nsocket = \"/run/slurm-tokend-http-hangs/http.sock\"";
    Watched::with("http-hangs", "RS256", door).is_found_dead_without("http-1", "http-1");
}
