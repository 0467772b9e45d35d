//! What the daemon counts. Each thread has counters of its own, as far as
//! there are enough: to count costs a few relaxed increments that no other
//! thread waits for.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::wire::Code;

/// So many threads count without meeting: the fronts, the attendants, the
/// signers of a small machine, the runtime.
const SHARDS: usize = 32;

/// The upper ends of a histogram's buckets, in nanoseconds; above is one more.
pub const BOUNDS: [u64; 15] = [
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// What requests are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A token asked for.
    Issue,
    /// Everything else that can be asked.
    Other,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Issue, Self::Other];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Other => "other",
        }
    }
}

/// How an account look-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// With an account, or with the meaning of names.
    Found,
    /// There is none.
    Absent,
    /// The service failed, or there was no thread for it in time.
    Failed,
}

impl Lookup {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Found, Self::Absent, Self::Failed];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Failed => "failed",
        }
    }
}

/// All counters.
#[derive(Default)]
pub struct Metrics {
    shards: [Shard; SHARDS],
}

/// The counters of one thread; two such never share a line of the cache.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    requests: [Times; Kind::ALL.len()],
    /// By code; the last is for one that no daemon says.
    refusals: [AtomicU64; Code::ALL.len() + 1],
    lookups: [AtomicU64; Lookup::ALL.len()],
    lookup_times: Times,
    tokens: AtomicU64,
    records_lost: AtomicU64,
    records_waited: AtomicU64,
}

/// A histogram of times.
#[derive(Default)]
struct Times {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// What a histogram has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// In each bucket, those of the buckets below not included.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Their sum, in nanoseconds.
    pub nanoseconds: u64,
}

impl Times {
    fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Metrics {
    fn own(&self) -> &Shard {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
        }
        let index = SHARD.with(|shard| {
            shard.get().unwrap_or_else(|| {
                let index = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
                shard.set(Some(index));
                index
            })
        });
        &self.shards[index]
    }

    /// A request was answered.
    pub fn answered(&self, kind: Kind, after: Duration) {
        self.own().requests[kind as usize].add(after);
    }

    /// Something was refused, be it a request or a connection.
    pub fn refused(&self, code: Code) {
        self.own().refusals[code as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A token was issued.
    pub fn issued(&self) {
        self.own().tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// The account service was asked.
    pub fn looked_up(&self, lookup: Lookup, after: Duration) {
        let own = self.own();
        own.lookups[lookup as usize].fetch_add(1, Ordering::Relaxed);
        own.lookup_times.add(after);
    }

    /// A record was lost.
    pub fn record_lost(&self) {
        self.own().records_lost.fetch_add(1, Ordering::Relaxed);
    }

    /// A token waited for a log that was full.
    pub fn record_waited(&self) {
        self.own().records_waited.fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        let counters = self.shards.iter().map(counter);
        counters.map(|c| c.load(Ordering::Relaxed)).sum()
    }

    fn counted(&self, times: impl Fn(&Shard) -> &Times) -> Counted {
        Counted {
            buckets: std::array::from_fn(|bucket| self.sum(|shard| &times(shard).buckets[bucket])),
            nanoseconds: self.sum(|shard| &times(shard).nanoseconds),
        }
    }

    /// How long requests took.
    pub fn requests(&self, kind: Kind) -> Counted {
        self.counted(|shard| &shard.requests[kind as usize])
    }

    /// Refusals with this code.
    pub fn refusals(&self, code: Code) -> u64 {
        self.sum(|shard| &shard.refusals[code as usize])
    }

    /// Tokens.
    pub fn tokens(&self) -> u64 {
        self.sum(|shard| &shard.tokens)
    }

    /// Look-ups that ended so.
    pub fn lookups(&self, lookup: Lookup) -> u64 {
        self.sum(|shard| &shard.lookups[lookup as usize])
    }

    /// How long look-ups took.
    pub fn lookup_times(&self) -> Counted {
        self.counted(|shard| &shard.lookup_times)
    }

    /// Records that were lost.
    pub fn records_lost(&self) -> u64 {
        self.sum(|shard| &shard.records_lost)
    }

    /// Tokens that waited for their record.
    pub fn records_waited(&self) -> u64 {
        self.sum(|shard| &shard.records_waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_adds_up() {
        let metrics = Metrics::default();
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        metrics.refused(Code::Busy);
                        metrics.answered(Kind::Issue, Duration::from_micros(100));
                    }
                });
            }
        });
        assert_eq!(metrics.refusals(Code::Busy), 10_000);
        assert_eq!(metrics.refusals(Code::Internal), 0);
        let counted = metrics.requests(Kind::Issue);
        assert_eq!(counted.buckets[2], 10_000);
        assert_eq!(counted.nanoseconds, 1_000_000_000);
        assert_eq!(metrics.requests(Kind::Other), Counted::default());
    }

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_it_does_not_exceed() {
        let metrics = Metrics::default();
        for nanoseconds in [
            0,
            20_000,
            20_001,
            10_000_000_000,
            10_000_000_001,
            u64::MAX / 4,
        ] {
            metrics.answered(Kind::Other, Duration::from_nanos(nanoseconds));
        }
        let buckets = metrics.requests(Kind::Other).buckets;
        assert_eq!(buckets[..2], [2, 1]);
        assert_eq!(buckets[BOUNDS.len() - 1..], [1, 2]);
    }

    #[test]
    fn each_code_has_a_counter_of_its_own() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index);
        }
        assert_eq!(Code::Unknown as usize, Code::ALL.len());
    }
}
