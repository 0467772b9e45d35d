//! The wall clock, and times as people say them.

use std::time::Duration;

/// The time since 1970, by the wall clock, which tokens go by.
#[allow(clippy::disallowed_methods, reason = "the rim of the program")]
pub(super) fn wall() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

/// The same in whole seconds.
pub(super) fn now() -> u64 {
    wall().as_secs()
}

/// Some number below 1000: two processes hardly ever get the same.
pub(super) fn jitter() -> u32 {
    (wall().subsec_micros() ^ std::process::id()) % 1000
}

/// A span of seconds as people say it: `90 s`, `12 min`, `5 h 3 min`, `9 days`.
pub(super) fn rough(seconds: u64) -> String {
    let minutes = seconds / 60;
    let hours = minutes / 60;
    match (hours, minutes) {
        (_, 0..2) => format!("{seconds} s"),
        (0..2, _) => format!("{minutes} min"),
        (2..48, _) if minutes.is_multiple_of(60) => format!("{hours} h"),
        (2..48, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_the_units_that_people_use() {
        for (seconds, told) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (18_180, "5 h 3 min"),
            (172_799, "47 h 59 min"),
            (172_800, "2 days"),
        ] {
            assert_eq!(rough(seconds), told, "{seconds}");
        }
    }
}
