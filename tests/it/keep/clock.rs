use super::*;
use crate::clock::settable;

/// A keeper of a token for an hour, whose clock can be set, and which hears
/// every tenth of a second that somebody set it: ECANCELED is what the kernel
/// says then to who waits as it does (`timerfd_create(2)`).
struct Clocked {
    keeper: Keeper,
    clock: PathBuf,
    calls: PathBuf,
}

impl Clocked {
    fn start(name: &str) -> Self {
        let file = directory(name).join("token");
        let clock = PathBuf::from(format!("/tmp/{name}.clock"));
        let calls = clock.with_extension("calls");
        crate::node::install();
        let mut strace = Command::new("strace");
        strace
            .args([
                "-qq",
                "-f",
                "-u",
                "alice",
                "-P",
                "anon_inode:[timerfd]",
                "-o",
            ])
            .arg(&calls)
            .args(["-e", "trace=read"])
            .args(["-e", "inject=read:error=ECANCELED:delay_enter=100000"]);
        for (name, value) in settable(&clock) {
            strace
                .arg("-E")
                .arg([name.into(), value].join("=".as_ref()));
        }
        strace
            .args(["slurm-token", "keep", "--lifespan=1h", "--file"])
            .arg(&file)
            .env("SLURM_TOKEND_SOCKET", DAEMON.socket())
            .stderr(Stdio::null());
        let clocked = Self {
            keeper: Keeper {
                child: strace.spawn().unwrap(),
                file,
            },
            clock,
            calls,
        };
        until("the file", || clocked.keeper.file.exists());
        clocked
    }

    /// Waits until it has heard a few times more that the clock was set.
    fn hears(&self) {
        let calls = || fs::read_to_string(&self.calls).unwrap();
        let heard = || calls().matches("ECANCELED").count();
        let before = heard();
        until("ECANCELED", || heard() > before + 3);
    }
}

#[test]
fn it_waits_by_the_wall_clock_and_until_that_is_set() {
    let keeper = Keeper::start(&directory("keep-clock").join("token"), &[]);
    // What the kernel says of its timer: CLOCK_REALTIME, TFD_TIMER_ABSTIME and
    // TFD_TIMER_CANCEL_ON_SET (proc_pid_fdinfo(5)).
    let timers = || {
        let all = fs::read_dir(format!("/proc/{}/fdinfo", keeper.child.id())).unwrap();
        let all = all.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        all.filter(|info| info.contains("clockid: 0\n") && info.contains("settime flags: 03\n"))
            .count()
    };
    until("the timer", || timers() == 1);
}

#[test]
fn a_clock_that_jumps_over_the_renewal_or_back_brings_a_new_token() {
    for (name, jump) in [("keep-clock-ahead", "+50m"), ("keep-clock-back", "-2h")] {
        let clocked = Clocked::start(name);
        let old = clocked.keeper.token();
        clocked.hears();
        assert_eq!(clocked.keeper.token(), old, "nothing has jumped yet");
        fs::write(&clocked.clock, jump).unwrap();
        clocked.keeper.renews(&old);
        // And only one: by the new clock, it's not time again.
        let new = clocked.keeper.token();
        clocked.hears();
        assert_eq!(clocked.keeper.token(), new, "{jump}");
    }
}
