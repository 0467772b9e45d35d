//! How many connections and how many tokens a minute: in all, and for each uid.
//! Uids that aren't known to have an account share one small quota: a user
//! namespace gives one person 65,536 of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limits;

/// Connections of all uids together that aren't known to have an account.
const STRANGERS_CONNECTIONS: usize = 256;
/// Refusals a minute of all of those together; what is beyond gets the same
/// answer, and the record counts it.
const STRANGERS_PER_MINUTE: u32 = 60;
/// Requests at once of all of those together.
const STRANGERS_BURST: u32 = 20;
/// A flood of one kind of refusal is recorded once in this time, with its number.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// So many uids are kept in mind; those with nothing to remember are dropped first.
const MOST_USERS: usize = 16_384;

/// Who shares a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// A uid that has an account.
    User(u32),
    /// All others together.
    Strangers,
}

/// Why a connection isn't served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All connections are taken.
    Total,
    /// This uid has all that it may have.
    User,
    /// Uids without an account have all that they may have together.
    Strangers,
}

/// A request above the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast {
    /// Seconds until one more request is within the rate; at least 1.
    pub retry_after: u32,
    /// Should this refusal be recorded, and standing for how many others.
    pub record: Option<u32>,
}

/// The counts.
#[derive(Default)]
pub struct Quotas {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    strangers: usize,
    users: HashMap<u32, User>,
    buckets: HashMap<Payer, Bucket>,
}

#[derive(Default)]
struct User {
    connections: usize,
    known: bool,
}

struct Bucket {
    /// What is left of the burst, in requests.
    left: f64,
    at: Instant,
    unrecorded: u32,
    recorded_at: Option<Instant>,
}

/// A connection's place; given back when dropped.
pub struct Seat {
    quotas: Arc<Quotas>,
    uid: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.quotas.leave(self.uid);
    }
}

impl Quotas {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.counts().connections
    }

    /// A place for one more connection of a uid; `known` says that the uid is
    /// known to have an account.
    pub fn admit(self: &Arc<Self>, uid: u32, known: bool, limits: &Limits) -> Result<Seat, Full> {
        let mut counts = self.counts();
        let Counts {
            connections,
            strangers,
            users,
            ..
        } = &mut *counts;
        if *connections >= limits.connections {
            return Err(Full::Total);
        }
        let user = users.entry(uid).or_default();
        if known && !user.known {
            *strangers -= user.connections;
            user.known = true;
        }
        if user.connections >= limits.connections_per_user {
            return Err(Full::User);
        }
        if !user.known {
            if *strangers >= STRANGERS_CONNECTIONS {
                if user.connections == 0 {
                    users.remove(&uid);
                }
                return Err(Full::Strangers);
            }
            *strangers += 1;
        }
        user.connections += 1;
        *connections += 1;
        drop(counts);
        Ok(Seat {
            quotas: Arc::clone(self),
            uid,
        })
    }

    /// The uid has an account after all: its connections are its own.
    pub fn settle(&self, uid: u32) {
        let mut counts = self.counts();
        let Counts {
            strangers, users, ..
        } = &mut *counts;
        if let Some(user) = users.get_mut(&uid).filter(|user| !user.known) {
            *strangers -= user.connections;
            user.known = true;
        }
    }

    fn leave(&self, uid: u32) {
        let mut counts = self.counts();
        let Counts {
            connections,
            strangers,
            users,
            ..
        } = &mut *counts;
        *connections -= 1;
        if let Some(user) = users.get_mut(&uid) {
            user.connections -= 1;
            if !user.known {
                *strangers -= 1;
            }
            if user.connections == 0 {
                users.remove(&uid);
            }
        }
    }

    /// Takes one request off a payer's rate.
    pub fn take(&self, payer: Payer, limits: &Limits, now: Instant) -> Result<(), TooFast> {
        let (per_minute, burst) = match payer {
            Payer::User(_) => (limits.tokens_per_minute, limits.burst),
            Payer::Strangers => (STRANGERS_PER_MINUTE, STRANGERS_BURST),
        };
        let (per_second, burst) = (f64::from(per_minute) / 60.0, f64::from(burst));
        let mut counts = self.counts();
        if counts.buckets.len() >= MOST_USERS && !counts.buckets.contains_key(&payer) {
            counts.buckets.retain(|_, bucket| {
                bucket.left + now.duration_since(bucket.at).as_secs_f64() * per_second < burst
            });
        }
        let bucket = counts.buckets.entry(payer).or_insert(Bucket {
            left: burst,
            at: now,
            unrecorded: 0,
            recorded_at: None,
        });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * per_second).min(burst);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64(((1.0 - bucket.left) / per_second).min(86_400.0));
        // Rounded up: whoever waits that long is served.
        let retry_after = u32::try_from(wait.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let due = bucket
            .recorded_at
            .is_none_or(|t| now.saturating_duration_since(t) >= RECORD_EVERY);
        let record = due.then(|| std::mem::take(&mut bucket.unrecorded));
        if due {
            bucket.recorded_at = Some(now);
        } else {
            bucket.unrecorded = bucket.unrecorded.saturating_add(1);
        }
        Err(TooFast {
            retry_after,
            record,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            connections: 300,
            connections_per_user: 2,
            tokens_per_minute: 60,
            burst: 3,
            ..Limits::default()
        }
    }

    #[test]
    fn a_user_has_no_more_connections_than_the_limit_and_gets_them_back() {
        let quotas = Arc::new(Quotas::default());
        let first = quotas.admit(1001, true, &limits()).ok();
        let second = quotas.admit(1001, true, &limits()).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(quotas.admit(1001, true, &limits()).err(), Some(Full::User));
        assert!(quotas.admit(1002, true, &limits()).is_ok());
        drop(first);
        assert!(quotas.admit(1001, true, &limits()).is_ok());
    }

    #[test]
    fn uids_without_an_account_share_one_quota_until_they_are_known() {
        let quotas = Arc::new(Quotas::default());
        let seats: Vec<Seat> = (0..256)
            .filter_map(|i| quotas.admit(100_000 + i, false, &limits()).ok())
            .collect();
        assert_eq!(seats.len(), STRANGERS_CONNECTIONS);
        assert_eq!(
            quotas.admit(200_000, false, &limits()).err(),
            Some(Full::Strangers)
        );
        assert!(quotas.admit(1001, true, &limits()).is_ok());
        quotas.settle(100_000);
        assert!(quotas.admit(200_000, false, &limits()).is_ok());
        drop(seats);
        assert_eq!(quotas.connections(), 0);
        assert_eq!(quotas.counts().strangers, 0);
    }

    #[test]
    fn a_burst_is_followed_by_the_rate_and_whoever_waits_as_told_is_served() {
        let quotas = Quotas::default();
        let start = Instant::now();
        let payer = Payer::User(1001);
        for _ in 0..3 {
            assert_eq!(quotas.take(payer, &limits(), start), Ok(()));
        }
        let refused = quotas.take(payer, &limits(), start).unwrap_err();
        assert_eq!(refused.record, Some(0));
        assert_eq!(
            quotas.take(payer, &limits(), start).unwrap_err().record,
            None
        );
        assert_eq!(quotas.take(Payer::User(1002), &limits(), start), Ok(()));
        let later = start + Duration::from_secs(u64::from(refused.retry_after));
        assert_eq!(quotas.take(payer, &limits(), later), Ok(()));
    }

    #[test]
    fn a_flood_of_refusals_is_recorded_once_a_second_with_its_number() {
        let quotas = Quotas::default();
        let start = Instant::now();
        let slow = Limits {
            tokens_per_minute: 1,
            burst: 1,
            ..limits()
        };
        assert_eq!(quotas.take(Payer::Strangers, &slow, start), Ok(()));
        let refusals: Vec<_> = (0..100)
            .filter_map(|_| quotas.take(Payer::Strangers, &slow, start).err())
            .filter_map(|refused| refused.record)
            .collect();
        assert_eq!(refusals, [0]);
        let next = quotas.take(Payer::Strangers, &slow, start + Duration::from_millis(1000));
        // The strangers' burst is 20 of the 101 requests.
        assert!(next.is_ok());
        let next = quotas.take(Payer::Strangers, &slow, start + Duration::from_millis(1001));
        assert_eq!(next.unwrap_err().record, Some(80));
    }
}
