//! The wall clock.

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
