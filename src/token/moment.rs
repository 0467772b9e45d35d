//! Times as people read them.

use std::fmt;

/// A time in seconds since 1970, told in UTC: `2026-11-25 02:30:00 UTC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc(pub u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = date(days);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    /// Days of 400 years: the calendar repeats itself after them.
    const CYCLE: u64 = 146_097;
    // Counted from 0000-03-01, so that a leap day ends its year.
    let days = days + 719_468;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    let year = (day - day / 1_460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (year, month + 3)
    } else {
        (year + 1, month - 9)
    };
    (cycle * 400 + year, month, day)
}

/// How far a time is from now: `in 12 min`, `3 days ago`, `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// The time, in seconds since 1970.
    pub time: u64,
    /// The present, likewise.
    pub now: u64,
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = Span(self.time.abs_diff(self.now));
        match self.time.cmp(&self.now) {
            std::cmp::Ordering::Less => write!(f, "{span} ago"),
            std::cmp::Ordering::Equal => f.write_str("now"),
            std::cmp::Ordering::Greater => write!(f, "in {span}"),
        }
    }
}

/// So many seconds, roughly: `90 s`, `12 min`, `5 h 3 min`, `9 days`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        let (minutes, hours) = (seconds / 60, seconds / 3600);
        match (hours, minutes) {
            (_, 0..2) => write!(f, "{seconds} s"),
            (0..2, _) => write!(f, "{minutes} min"),
            (2..48, _) if minutes % 60 == 0 => write!(f, "{hours} h"),
            (2..48, _) => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{} days", hours / 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_date_tells_it() {
        for seconds in [
            0,
            951_782_399,
            951_782_400,
            951_868_800,
            1_300_819_380,
            1_800_000_000,
            4_107_542_399,
            4_107_542_400,
            99_999_999_999,
        ] {
            let mut date = std::process::Command::new("date");
            let told = date.args(["-u", "+%F %T UTC", "-d", &format!("@{seconds}")]);
            let told = String::from_utf8(told.output().unwrap().stdout).unwrap();
            assert_eq!(Utc(seconds).to_string(), told.trim_end());
        }
    }

    #[test]
    fn every_day_of_400_years_is_another_date_and_in_order() {
        let mut last = date(0);
        for day in 1..146_097 {
            let next = date(day);
            assert!(next > last && (1..=12).contains(&next.1) && (1..=31).contains(&next.2));
            last = next;
        }
        assert_eq!(last, (2369, 12, 31));
    }

    #[test]
    fn a_distance_is_told_in_the_units_that_people_use() {
        for (seconds, told) in [
            (1, "1 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7199, "119 min"),
            (7200, "2 h"),
            (18_180, "5 h 3 min"),
            (172_799, "47 h 59 min"),
            (172_800, "2 days"),
        ] {
            let now = 1_800_000_000;
            let away = |time| Away { time, now }.to_string();
            assert_eq!(away(now + seconds), format!("in {told}"));
            assert_eq!(away(now - seconds), format!("{told} ago"));
            assert_eq!(away(now), "now");
        }
    }
}
