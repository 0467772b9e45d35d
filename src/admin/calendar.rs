//! Times in words.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// The time, in seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "this is the rim")]
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A time in words: `Wednesday 25 November 2026, 14:00:00 UTC`.
pub(super) fn words(seconds: u64) -> String {
    let Some(at) = utc(seconds) else {
        return format!("{seconds} seconds after 1970");
    };
    let (hour, minute, second) = at.to_hms();
    format!(
        "{} {} {} {}, {hour:02}:{minute:02}:{second:02} UTC",
        at.weekday(),
        at.day(),
        at.month(),
        at.year()
    )
}

/// Year, month and day of a time, in UTC.
pub(super) fn date(seconds: u64) -> Option<(i32, u8, u8)> {
    let at = utc(seconds)?;
    Some((at.year(), at.month().into(), at.day()))
}

fn utc(seconds: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_words_and_in_utc() {
        assert_eq!(
            words(1_795_615_200),
            "Wednesday 25 November 2026, 14:00:00 UTC"
        );
        assert_eq!(words(0), "Thursday 1 January 1970, 00:00:00 UTC");
        assert_eq!(words(u64::MAX), "18446744073709551615 seconds after 1970");
    }
}
