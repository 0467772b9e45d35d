use std::fs;

use nix::sys::signal::Signal;
use signal_hook::iterator::Signals;

use crate::report::Problem;

/// Takes these signals into our own hands, all but those that the caller has
/// ignored: nohup(1) and a shell's background keep what they promise.
///
/// Handlers take them, and none is blocked: a program that is started later
/// has each of them as the caller had it, from its first moment on.
pub(super) fn take(wanted: &[Signal]) -> Result<Signals, Problem> {
    let ignored = ignored();
    let wanted = wanted.iter().map(|signal| *signal as i32);
    Signals::new(wanted.filter(|signal| ignored & 1 << (signal - 1) == 0)).map_err(|error| {
        let remedy = "check the limit of open files: ulimit -n";
        Problem::new("signals", format!("can't be waited for: {error}"), remedy)
    })
}

/// The signals that this process ignores, a bit for each, the lowest for 1:
/// `SigIgn` of proc(5). None where there is no `/proc`.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
