use std::time::Duration;

/// The part of its life after which a token is renewed, in percent.
const RENEWAL: u32 = 80;
/// The least time between two renewals, however short a token lives.
const LEAST: Duration = Duration::from_millis(500);
/// The pauses between attempts that fail: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Attempts that fail between a renewal's time and the token's end, at the
/// least, where tokens live short.
const ATTEMPTS: u32 = 4;
/// How far back the clock may have been set without a new token: Slurm takes
/// tokens from the future, other verifiers not much of one.
const BACKWARDS: Duration = Duration::from_secs(1);

/// When the next attempt is due. All times are the wall clock's, since 1970.
pub(super) struct Schedule {
    /// When this was last settled: a clock that stands before it was set back.
    settled: Duration,
    next: Duration,
    /// The life of the token in the file, and its end.
    token: Option<(Duration, Duration)>,
    failures: u32,
}

impl Schedule {
    /// The first attempt is due at once.
    pub(super) fn begin(now: Duration) -> Self {
        Self {
            settled: now,
            next: now,
            token: None,
            failures: 0,
        }
    }

    /// When the next attempt is due, unless the clock is set back.
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// Is it time: by the clock, or because the clock was set back, and the
    /// token is from the future.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.next || now + BACKWARDS < self.settled
    }

    /// Was there ever a token.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Has the token in the file expired.
    pub(super) fn has_expired(&self, now: Duration) -> bool {
        self.token.is_some_and(|(_, end)| now >= end)
    }

    /// A new token is in the file, which expires at `end`.
    pub(super) fn renewed(&mut self, now: Duration, end: Duration) {
        let life = end.saturating_sub(now);
        self.settled = now;
        self.next = now + (life * RENEWAL / 100).max(LEAST);
        self.token = Some((life, end));
        self.failures = 0;
    }

    /// There was none to be had. The pauses double, and are stretched by up
    /// to a half, by `jitter` in thousandths, so that those whom one daemon
    /// refused don't all come back at once; and nobody comes back before the
    /// daemon's `least`.
    pub(super) fn failed(&mut self, now: Duration, least: Duration, jitter: u32) {
        let left = self.token.map_or(LONGEST_PAUSE, |(life, _)| {
            life * (100 - RENEWAL) / 100 / ATTEMPTS
        });
        let longest = left.clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let doubled = FIRST_PAUSE * 2_u32.pow(self.failures.min(6));
        let pause = doubled.min(longest).max(least);
        self.settled = now;
        self.next = now + pause + pause * jitter.min(1000) / 2000;
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_795_305_600 + seconds)
    }

    fn with_token(life: u64) -> Schedule {
        let mut schedule = Schedule::begin(at(0));
        schedule.renewed(at(0), at(life));
        schedule
    }

    /// The pauses of attempts that fail, one after the other.
    fn pauses(mut schedule: Schedule, jitter: u32) -> Vec<u64> {
        let pause = |_| {
            schedule.failed(at(0), Duration::ZERO, jitter);
            schedule.next().saturating_sub(at(0)).as_secs()
        };
        (0..9).map(pause).collect()
    }

    #[test]
    fn the_first_attempt_is_due_at_once() {
        assert!(Schedule::begin(at(0)).is_due(at(0)));
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life() {
        let schedule = with_token(1800);
        assert!(!schedule.is_due(at(1439)));
        assert!(schedule.is_due(at(1440)));
    }

    #[test]
    fn a_clock_that_jumps_forwards_makes_the_renewal_due() {
        assert!(with_token(1800).is_due(at(1_000_000)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_the_renewal_due() {
        let mut schedule = with_token(1800);
        schedule.renewed(at(5000), at(6800));
        assert!(!schedule.is_due(at(4999)));
        assert!(schedule.is_due(at(4998)));
        schedule.renewed(at(4998), at(6798));
        assert!(!schedule.is_due(at(4998)));
    }

    #[test]
    fn tokens_that_hardly_live_are_not_asked_for_without_a_pause() {
        for life in [0, 1] {
            assert!(!with_token(life).is_due(at(0)), "{life}");
        }
    }

    #[test]
    fn the_pauses_between_attempts_double_up_to_a_minute() {
        let all = [1, 2, 4, 8, 16, 32, 60, 60, 60];
        assert_eq!(pauses(with_token(1800), 0), all);
        assert_eq!(pauses(Schedule::begin(at(0)), 0), all);
    }

    #[test]
    fn where_tokens_live_short_the_pauses_leave_room_for_more_attempts() {
        assert_eq!(pauses(with_token(100), 0), [1, 2, 4, 5, 5, 5, 5, 5, 5]);
    }

    #[test]
    fn pauses_are_stretched_by_up_to_a_half() {
        assert_eq!(pauses(with_token(1800), 500)[3..6], [10, 20, 40]);
        assert_eq!(pauses(with_token(1800), 1000)[3..6], [12, 24, 48]);
    }

    #[test]
    fn nobody_comes_back_before_the_daemon_said() {
        let mut schedule = with_token(1800);
        schedule.failed(at(1440), Duration::from_secs(90), 0);
        assert!(!schedule.is_due(at(1440 + 89)));
        assert!(schedule.is_due(at(1440 + 90)));
    }

    #[test]
    fn a_renewal_forgets_the_failures_before() {
        let mut schedule = with_token(1800);
        for _ in 0..5 {
            schedule.failed(at(1440), Duration::ZERO, 0);
        }
        schedule.renewed(at(1500), at(3300));
        assert_eq!(pauses(schedule, 0)[0], 1);
    }

    #[test]
    fn a_token_expires_at_its_end() {
        assert!(!Schedule::begin(at(0)).has_expired(at(9)));
        let schedule = with_token(1800);
        assert!(!schedule.has_expired(at(1799)));
        assert!(schedule.has_expired(at(1800)));
    }
}
