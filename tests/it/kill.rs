//! Kills a command at each system call with which it changes a file, or leaves
//! it no room on its disk.

use std::fs;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What changes files, their modes and their names, and what hands a record
/// over. Between two of these calls nobody sees a difference: who is killed at
/// an fsync leaves what they leave who are killed at the next of these.
const CALLS: &str = "openat,write,pwrite64,ftruncate,fchmod,fchmodat,fchown,fchownat,link,linkat,\
                     rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,sendto,sendmsg";

/// Where there is no /proc, a file can't be given its name afterwards: as where
/// the file system has no files without names.
pub const WITHOUT_PROC: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-ec",
    "mount -t tmpfs none /proc; exec \"$@\"",
    "sh",
];

/// For a shell with mounts of its own: `disk` gives a directory a small disk,
/// `fill` leaves no room there, and `all` tells every other file by its hash.
pub const FULL_DISK: &str = "\
disk() { mount -t tmpfs -o \"size=256k,$(stat -c uid=%u,gid=%g,mode=0%a \"$1\")\" none \"$1\"; }
fill() { head -c 1M /dev/zero >\"$1/fill\" 2>/dev/null || :; }
all() { find \"$@\" -type f ! -name fill -exec sha256sum {} + | sort; }
";

/// One of these calls: the `number`-th of its kind that a command makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    call: String,
    number: usize,
    /// As strace tells it.
    pub told: String,
}

impl Change {
    /// The changes that a command makes, in their order: it's run whole, by
    /// strace, whose words `run` puts before the command's.
    pub fn all(run: impl FnOnce(&[&str]) -> Output) -> Vec<Self> {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let run_number = RUNS.fetch_add(1, Ordering::Relaxed);
        let file = format!("/tmp/changes-{}-{run_number}", std::process::id());
        let trace = format!("trace={CALLS}");
        let strace = ["strace", "-qq", "-s", "0", "-e", "signal=none", "-o", &file];
        let output = run(&[&strace[..], &["-e", &trace]].concat());
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}");
        let changes = Self::read(&fs::read_to_string(&file).unwrap());
        fs::remove_file(&file).unwrap();
        assert!(!changes.is_empty());
        changes
    }

    fn read(trace: &str) -> Vec<Self> {
        let mut changes: Vec<Self> = Vec::new();
        let mut made = std::collections::HashMap::new();
        for line in trace.lines() {
            let (call, arguments) = line.split_once('(').unwrap();
            let number = made.entry(call).or_insert(0);
            *number += 1;
            let opens = call == "openat" && !arguments.contains("O_CREAT");
            let opens = opens && !arguments.contains("O_TMPFILE");
            // To standard output or error.
            let tells = call == "write" && arguments.starts_with(['1', '2']);
            let tells = tells && arguments[1..].starts_with(',');
            if !opens && !tells {
                changes.push(Self {
                    call: call.to_owned(),
                    number: *number,
                    told: line.to_owned(),
                });
            }
        }
        changes
    }

    /// Runs the same command and kills it before it makes this change: then it
    /// ends without a status.
    pub fn prevent(&self, run: impl FnOnce(&[&str]) -> Output) -> Output {
        let Self { call, number, .. } = self;
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:error=EINTR:signal=KILL:when={number}");
        run(&[
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
        ])
    }
}
