//! How many connections and how many tokens a minute: in all, and for each uid.
//! Uids that aren't known to have an account share one small quota: a user
//! namespace gives one person 65,536 of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::caller::Caller;
use crate::config::Room;
use crate::policy::Rate;
use crate::wire::Code;

/// Connections that wait for a place, of all users together.
const MOST_WAITING: usize = 512;
/// Requests of all of those together; refusals beyond get the same answer, and
/// the record counts them.
pub const STRANGERS: Rate = Rate {
    per_minute: 60,
    burst: 20,
};
/// A flood of one kind of refusal is recorded once in this time, with its number.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// So many uids are kept in mind; those with nothing to remember are dropped first.
const MOST_USERS: usize = 16_384;

/// Who shares a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payer {
    /// A uid that has an account, for tokens.
    User(u32),
    /// The same, as a service that asks for tokens of others.
    Delegate(u32),
    /// The same, for verifications.
    Verifier(u32),
    /// The same, for verifications by HTTP: it may be a proxy.
    HttpVerifier(u32),
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
    /// Whose rate it is.
    pub payer: Payer,
    /// The rate.
    pub rate: Rate,
    /// Seconds until one more request is within the rate; at least 1.
    pub retry_after: u32,
}

/// Refusals above the rate: the last of them, which stands for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrecorded {
    /// Whose rate it's above.
    pub payer: Payer,
    /// Who was refused.
    pub caller: Caller,
    /// Why.
    pub code: Code,
    /// So many others before it.
    pub others: u32,
}

/// The counts.
#[derive(Default)]
pub struct Quotas {
    counts: Mutex<Counts>,
}

/// Trees: nobody's choice of uids makes them slow, and to hash one would take
/// longer than to find it.
#[derive(Default)]
struct Counts {
    connections: usize,
    waiting: usize,
    strangers: usize,
    users: BTreeMap<u32, User>,
    buckets: BTreeMap<Payer, Bucket>,
    records: BTreeMap<Payer, Record>,
}

#[derive(Default)]
struct User {
    connections: usize,
    waiting: usize,
    known: bool,
}

struct Bucket {
    /// What was left of the burst then, in requests.
    left: f64,
    at: Instant,
    rate: Rate,
}

impl Bucket {
    fn left_at(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + since * per_second(self.rate)).min(f64::from(self.rate.burst))
    }

    fn is_full(&self, now: Instant) -> bool {
        self.left_at(now) >= f64::from(self.rate.burst)
    }
}

fn per_second(rate: Rate) -> f64 {
    f64::from(rate.per_minute) / 60.0
}

/// The last record of a refusal above the rate, and what came after it.
struct Record {
    at: Instant,
    unrecorded: Option<Unrecorded>,
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

/// Leave to wait for a seat; given back when dropped.
pub struct Waiting {
    quotas: Arc<Quotas>,
    uid: u32,
}

impl Waiting {
    /// A place for the connection that waits; see [`Quotas::admit`].
    pub fn admit(&self, known: bool, room: Room) -> Result<Seat, Full> {
        self.quotas
            .seat(self.quotas.counts(), self.uid, known, room)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut counts = self.quotas.counts();
        counts.waiting -= 1;
        counts.with_user(self.uid, |user| user.waiting -= 1);
    }
}

impl Counts {
    fn settle(&mut self, uid: u32) {
        if let Some(user) = self.users.get_mut(&uid).filter(|user| !user.known) {
            self.strangers -= user.connections;
            user.known = true;
        }
    }

    fn with_user(&mut self, uid: u32, change: impl FnOnce(&mut User)) {
        if let Some(user) = self.users.get_mut(&uid) {
            change(user);
            if user.connections == 0 && user.waiting == 0 {
                self.users.remove(&uid);
            }
        }
    }
}

impl Quotas {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that are open now, those that wait for a place among them.
    pub fn connections(&self) -> usize {
        let counts = self.counts();
        counts.connections + counts.waiting
    }

    /// A place for one more connection of a uid; `known` says that the uid is
    /// known to have an account.
    pub fn admit(self: &Arc<Self>, uid: u32, known: bool, room: Room) -> Result<Seat, Full> {
        let counts = self.counts();
        if counts.connections + counts.waiting >= room.connections {
            return Err(Full::Total);
        }
        self.seat(counts, uid, known, room)
    }

    fn seat(
        self: &Arc<Self>,
        mut counts: MutexGuard<'_, Counts>,
        uid: u32,
        known: bool,
        room: Room,
    ) -> Result<Seat, Full> {
        if known {
            counts.settle(uid);
        }
        let present = counts.users.get(&uid);
        let known = known || present.is_some_and(|user| user.known);
        if present.is_some_and(|user| user.connections >= room.connections_per_user) {
            return Err(Full::User);
        }
        if !known {
            if counts.strangers >= room.connections_per_user {
                return Err(Full::Strangers);
            }
            counts.strangers += 1;
        }
        counts.connections += 1;
        let user = counts.users.entry(uid).or_default();
        user.connections += 1;
        user.known = known;
        drop(counts);
        Ok(Seat {
            quotas: Arc::clone(self),
            uid,
        })
    }

    /// Leave for one more connection to wait until there is a place for it, if
    /// the uid has no more that wait than it may have at once.
    pub fn wait(self: &Arc<Self>, uid: u32, room: Room) -> Option<Waiting> {
        let mut counts = self.counts();
        let waits = counts.users.get(&uid).map_or(0, |user| user.waiting);
        if waits >= room.connections_per_user
            || counts.waiting >= MOST_WAITING
            || counts.connections + counts.waiting >= room.connections
        {
            return None;
        }
        counts.waiting += 1;
        counts.users.entry(uid).or_default().waiting += 1;
        drop(counts);
        Some(Waiting {
            quotas: Arc::clone(self),
            uid,
        })
    }

    /// The uid has an account after all: its connections are its own.
    pub fn settle(&self, uid: u32) {
        self.counts().settle(uid);
    }

    fn leave(&self, uid: u32) {
        let mut counts = self.counts();
        counts.connections -= 1;
        let mut was_stranger = false;
        counts.with_user(uid, |user| {
            user.connections -= 1;
            was_stranger = !user.known;
        });
        counts.strangers -= usize::from(was_stranger);
    }

    /// Takes one request off a payer's rate. A uid that pays for itself has an
    /// account, so its connections are its own.
    pub fn take(&self, payer: Payer, rate: Rate, now: Instant) -> Result<(), TooFast> {
        let mut counts = self.counts();
        match payer {
            Payer::User(uid)
            | Payer::Delegate(uid)
            | Payer::Verifier(uid)
            | Payer::HttpVerifier(uid) => counts.settle(uid),
            Payer::Strangers => {}
        }
        if counts.buckets.len() >= MOST_USERS && !counts.buckets.contains_key(&payer) {
            counts.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = counts.buckets.entry(payer).or_insert(Bucket {
            left: f64::from(rate.burst),
            at: now,
            rate,
        });
        bucket.rate = rate;
        bucket.left = bucket.left_at(now);
        // A request that had to wait may come with an earlier time.
        bucket.at = bucket.at.max(now);
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64(((1.0 - bucket.left) / per_second(rate)).min(86_400.0));
        // Rounded up: whoever waits that long is served.
        let retry_after = u32::try_from(wait.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        Err(TooFast {
            payer,
            rate,
            retry_after,
        })
    }

    /// Notes a refusal above the payer's rate. Some asks for its record, which
    /// stands for so many others; none counts it for a later one.
    pub fn note(&self, payer: Payer, caller: Caller, code: Code, now: Instant) -> Option<u32> {
        let mut counts = self.counts();
        let present = counts.records.get(&payer);
        let others = present
            .and_then(|record| record.unrecorded)
            .map_or(0, |last| last.others.saturating_add(1));
        let (at, unrecorded) = match present {
            Some(Record { at, .. }) if now.saturating_duration_since(*at) < RECORD_EVERY => {
                let last = Unrecorded {
                    payer,
                    caller,
                    code,
                    others,
                };
                (*at, Some(last))
            }
            Some(_) | None => (now, None),
        };
        counts.records.insert(payer, Record { at, unrecorded });
        unrecorded.is_none().then_some(others)
    }

    /// Keeps for a later record what the log had no room for.
    pub fn keep(&self, lost: Unrecorded, now: Instant) {
        let mut counts = self.counts();
        let record = counts.records.entry(lost.payer).or_insert(Record {
            at: now,
            unrecorded: None,
        });
        let others = record
            .unrecorded
            .map_or(0, |last| last.others.saturating_add(1));
        record.unrecorded = Some(Unrecorded {
            others: lost.others.saturating_add(others),
            ..lost
        });
    }

    /// Is there anything that has to be recorded still.
    pub fn has_unrecorded(&self) -> bool {
        let counts = self.counts();
        counts.records.values().any(|r| r.unrecorded.is_some())
    }

    /// What was noted and not recorded a second after the last record; with
    /// `all`, as at the end, whatever was not recorded.
    pub fn unrecorded(&self, now: Instant, all: bool) -> Vec<Unrecorded> {
        let mut overdue = Vec::new();
        self.counts().records.retain(|_, record| {
            if !all && now.saturating_duration_since(record.at) < RECORD_EVERY {
                return true;
            }
            record.at = now;
            let last = record.unrecorded.take();
            overdue.extend(last);
            !all && last.is_some()
        });
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Door;

    const ROOM: Room = Room {
        connections: 300,
        connections_per_user: 2,
    };

    const RATE: Rate = Rate {
        per_minute: 60,
        burst: 3,
    };

    #[test]
    fn a_user_has_no_more_connections_than_the_limit_and_gets_them_back() {
        let quotas = Arc::new(Quotas::default());
        let first = quotas.admit(1001, true, ROOM).ok();
        let second = quotas.admit(1001, true, ROOM).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(quotas.admit(1001, true, ROOM).err(), Some(Full::User));
        assert!(quotas.admit(1002, true, ROOM).is_ok());
        drop(first);
        assert!(quotas.admit(1001, true, ROOM).is_ok());
    }

    #[test]
    fn uids_without_an_account_share_one_quota_until_they_are_known() {
        let quotas = Arc::new(Quotas::default());
        let seats: Vec<Seat> = (0..2)
            .filter_map(|i| quotas.admit(100_000 + i, false, ROOM).ok())
            .collect();
        assert_eq!(seats.len(), 2);
        assert_eq!(
            quotas.admit(200_000, false, ROOM).err(),
            Some(Full::Strangers)
        );
        assert!(quotas.admit(1001, true, ROOM).is_ok());
        quotas.settle(100_000);
        assert!(quotas.admit(200_000, false, ROOM).is_ok());
        drop(seats);
        assert_eq!(quotas.connections(), 0);
        assert_eq!(quotas.counts().strangers, 0);
        assert!(quotas.counts().users.is_empty());
    }

    #[test]
    fn no_more_connections_of_a_user_wait_than_it_may_have() {
        let quotas = Arc::new(Quotas::default());
        let first = quotas.wait(1001, ROOM);
        let second = quotas.wait(1001, ROOM);
        assert!(first.is_some() && second.is_some());
        assert!(quotas.wait(1001, ROOM).is_none());
        assert!(quotas.wait(1002, ROOM).is_some());
        assert_eq!(quotas.connections(), 2);
        drop((first, second));
        assert!(quotas.wait(1001, ROOM).is_some());
        assert!(quotas.counts().users.is_empty());
    }

    #[test]
    fn no_more_connections_wait_in_all_than_there_is_room_for() {
        let quotas = Arc::new(Quotas::default());
        let many = Room {
            connections: 10_000,
            ..ROOM
        };
        let waiting: Vec<Waiting> = (0..1000).filter_map(|uid| quotas.wait(uid, many)).collect();
        assert_eq!(waiting.len(), MOST_WAITING);
        assert!(quotas.admit(1001, true, ROOM).is_err());
        assert!(waiting[0].admit(true, ROOM).is_ok());
    }

    #[test]
    fn a_burst_is_followed_by_the_rate_and_whoever_waits_as_told_is_served() {
        let quotas = Quotas::default();
        let start = Instant::now();
        let payer = Payer::User(1001);
        for _ in 0..3 {
            assert_eq!(quotas.take(payer, RATE, start), Ok(()));
        }
        let refused = quotas.take(payer, RATE, start).unwrap_err();
        assert_eq!(quotas.take(Payer::User(1002), RATE, start), Ok(()));
        let later = start + Duration::from_secs(u64::from(refused.retry_after));
        assert_eq!(quotas.take(payer, RATE, later), Ok(()));
    }

    const CALLER: Caller = Caller {
        uid: 1001,
        pid: 42,
        door: Door::Main,
    };

    #[test]
    fn a_flood_of_refusals_is_recorded_once_a_second_with_its_number() {
        let quotas = Quotas::default();
        let start = Instant::now();
        let note = |payer, at| quotas.note(payer, CALLER, Code::RateLimited, at);
        let records: Vec<_> = (0..100)
            .filter_map(|_| note(Payer::Strangers, start))
            .collect();
        assert_eq!(records, [0]);
        assert_eq!(note(Payer::User(1001), start), Some(0));
        let later = start + Duration::from_millis(1000);
        assert_eq!(note(Payer::Strangers, later), Some(99));
        assert_eq!(note(Payer::Strangers, later), None);
    }

    #[test]
    fn what_a_flood_left_unrecorded_is_handed_over_after_a_second_or_at_the_end() {
        let quotas = Quotas::default();
        let start = Instant::now();
        for _ in 0..100 {
            quotas.note(Payer::Strangers, CALLER, Code::UnknownUser, start);
        }
        let last = Unrecorded {
            payer: Payer::Strangers,
            caller: CALLER,
            code: Code::UnknownUser,
            others: 98,
        };
        assert_eq!(quotas.unrecorded(start, false), []);
        let later = start + Duration::from_millis(1000);
        assert_eq!(quotas.unrecorded(later, false), [last]);
        assert_eq!(quotas.unrecorded(later, false), []);
        quotas.note(Payer::Strangers, CALLER, Code::UnknownUser, later);
        assert_eq!(
            quotas.unrecorded(later, true),
            [Unrecorded { others: 0, ..last }]
        );
        assert!(quotas.counts().records.is_empty());
    }

    #[test]
    fn what_a_full_log_did_not_take_is_counted_in_a_later_record() {
        let quotas = Quotas::default();
        let start = Instant::now();
        let lost = |others| Unrecorded {
            payer: Payer::User(1001),
            caller: CALLER,
            code: Code::NotAllowed,
            others,
        };
        quotas.keep(lost(0), start);
        quotas.keep(lost(3), start);
        assert!(quotas.has_unrecorded());
        let later = start + Duration::from_millis(1000);
        // Five refusals: one line that stands for four more.
        assert_eq!(quotas.unrecorded(later, false), [lost(4)]);
        assert!(!quotas.has_unrecorded());
    }
}
