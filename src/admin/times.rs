//! Times as people read them.

/// Seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the rim of the program")]
pub(super) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// `3 min ago`.
pub(super) fn ago(now: u64, at: u64) -> String {
    if at > now {
        until(now, at)
    } else {
        format!("{} ago", span(now - at))
    }
}

/// `in 3 min`.
pub(super) fn until(now: u64, at: u64) -> String {
    if at < now {
        ago(now, at)
    } else {
        format!("in {}", span(at - now))
    }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `2026-11-25 02:11:02 UTC`.
pub(super) fn utc(at: u64) -> String {
    let (mut days, second) = (at / 86_400, at % 86_400);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Whole cycles of the Gregorian calendar first: any number is a date.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    loop {
        let length = 365 + u64::from(is_leap(year));
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let day = days + 1;
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_date() {
        for (at, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (68_169_599, "1972-02-28 23:59:59 UTC"),
            (68_169_600, "1972-02-29 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_305_600, "2026-11-22 00:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (32_503_679_999, "2999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(at), date, "{at}");
        }
        assert!(utc(u64::MAX).starts_with("584554"));
    }

    #[test]
    fn a_time_lies_ahead_or_behind() {
        assert_eq!(ago(1000, 900), "100 s ago");
        assert_eq!(ago(1000, 1130), "in 2 min");
        assert_eq!(until(1000, 1000 + 7200), "in 2 h");
        assert_eq!(until(1000, 999), "1 s ago");
        assert_eq!(until(0, 172_800), "in 2 days");
    }
}
