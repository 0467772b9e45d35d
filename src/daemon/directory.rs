//! Accounts for those who can't wait: remembered for a short time, looked up
//! in a bounded number of threads, once for many who ask, with a limit on how
//! long anybody waits. A hung directory service delays only those who need it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::account::{self, Account, GroupNames};
use crate::config::Limits;
use crate::daemon::metrics::{Lookup, Metrics};
use crate::policy::{Names, Policy};

/// Whom to look up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The account of a uid.
    Uid(u32),
    /// The account of a name.
    Name(String),
}

/// A look-up. An account is remembered apart for each use of its groups' names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sought {
    who: Who,
    group_names: GroupNames,
}

impl Sought {
    /// With the groups' names where the policy puts them into tokens.
    pub fn by(policy: &Policy, who: Who) -> Self {
        Self {
            who,
            group_names: GroupNames::if_carried(policy.needs_group_names()),
        }
    }

    /// With the groups' names as far as each leads back to its group.
    pub fn with_roles(name: String) -> Self {
        Self {
            who: Who::Name(name),
            group_names: GroupNames::Unambiguous,
        }
    }
}

/// An account, or the knowledge that there is none.
pub type Found = Option<Arc<Account>>;

/// Why a look-up gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// All look-up threads are at work, most likely on a service that hangs.
    NoRoom,
    /// The service did not answer in time.
    TimedOut,
    /// The service answered with an error.
    Failed(Errno),
}

/// What is known of a uid or name without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquaintance {
    /// It had an account when last looked up.
    Account,
    /// It had none, a moment ago.
    NoAccount,
    /// Nothing.
    Unknown,
}

/// So many accounts are remembered; what is beyond is looked up again.
const MOST_REMEMBERED: usize = 16_384;
/// So many uids and names without an account are remembered: there are more of
/// them than of accounts, and they come from whoever likes.
const MOST_ABSENT: usize = 1024;
/// So many look-ups are under way, or wait for a thread.
const MOST_UNDER_WAY: usize = 1024;
/// How long the knowledge that there is no account lasts: a new account
/// should not have to wait for it.
const ABSENCE: Duration = Duration::from_secs(5);
/// Threads for the names in the policy, one for each configuration that may
/// have a look-up under way.
const THREADS_FOR_NAMES: usize = 2;

/// The accounts, and what the policy's names mean.
pub struct Directory {
    accounts: Arc<Lookups<Sought, Account>>,
    names: Arc<Lookups<u64, Names>>,
    runtime: Handle,
    /// For those who had an account before.
    regulars: Arc<Semaphore>,
    /// For all others: they may not take every thread, as many of them may
    /// have no account, and a service that hangs hangs on those first.
    newcomers: Arc<Semaphore>,
    /// Nothing is decided without these names.
    policy: Arc<Semaphore>,
}

impl Directory {
    /// An empty memory. Look-ups run on `runtime`'s threads for blocking work,
    /// at most [`Self::threads`] at once.
    pub fn new(runtime: Handle, limits: &Limits, metrics: &Arc<Metrics>) -> Self {
        let newcomers = (limits.lookups / 2).max(1);
        let regulars = (limits.lookups - newcomers).max(1);
        Self {
            accounts: Arc::new(Lookups::new(metrics)),
            names: Arc::new(Lookups::new(metrics)),
            runtime,
            regulars: Arc::new(Semaphore::new(regulars)),
            newcomers: Arc::new(Semaphore::new(newcomers)),
            policy: Arc::new(Semaphore::new(THREADS_FOR_NAMES)),
        }
    }

    /// How many threads look-ups may take.
    pub fn threads(limits: &Limits) -> usize {
        limits.lookups.max(2) + THREADS_FOR_NAMES
    }

    /// What is remembered of an account.
    pub fn remembered(&self, sought: &Sought, now: Instant) -> Option<Found> {
        self.accounts.remembered(sought, now)
    }

    /// Who this is, as far as it's known.
    pub fn acquaintance(&self, sought: &Sought, now: Instant) -> Acquaintance {
        self.accounts.acquaintance(sought, now)
    }

    /// Does somebody wait for the same look-up already.
    pub fn is_under_way(&self, sought: &Sought) -> bool {
        self.accounts.is_under_way(sought)
    }

    /// So many look-ups are under way, or wait for a thread.
    pub fn under_way(&self) -> usize {
        self.accounts.slots().under_way + self.names.slots().under_way
    }

    /// What is remembered of the policy's names; `generation` tells one
    /// configuration from the next.
    pub fn remembered_names(&self, generation: u64, now: Instant) -> Option<Arc<Names>> {
        self.names.remembered(&generation, now).flatten()
    }

    /// The same, however long ago that was, for who is not to wait for a
    /// service that hangs; unless `SlurmUser` had no uid then.
    pub fn last_names(&self, generation: u64, now: Instant) -> Option<Arc<Names>> {
        let last = || self.names.last(&generation);
        self.remembered_names(generation, now)
            .or_else(|| last().filter(|names| names.slurm_uid.is_some()))
    }

    /// Finds an account.
    pub async fn account(&self, sought: Sought, limits: &Limits) -> Result<Found, Unavailable> {
        let keep = limits.account_cache;
        let Sought { who, group_names } = sought.clone();
        let work = move || {
            let found = match who {
                Who::Uid(uid) => account::by_uid(uid, group_names),
                Who::Name(name) => account::by_name(&name, group_names),
            }?;
            let keep = if found.is_some() {
                keep
            } else {
                ABSENCE.min(keep)
            };
            Ok((found, keep))
        };
        let room = match self.accounts.acquaintance(&sought, Instant::now()) {
            Acquaintance::Account => &self.regulars,
            Acquaintance::NoAccount | Acquaintance::Unknown => &self.newcomers,
        };
        self.accounts
            .find(&self.runtime, room, sought, limits.lookup_timeout, work)
            .await
    }

    /// Finds out what the policy's names mean.
    pub async fn names(
        &self,
        generation: u64,
        policy: &Policy,
        limits: &Limits,
    ) -> Result<Arc<Names>, Unavailable> {
        let keep = limits.account_cache;
        let slurm_user = policy.slurm_user.clone();
        let users: BTreeSet<String> = policy.named_users().map(ToOwned::to_owned).collect();
        let groups: BTreeSet<String> = policy.named_groups().map(ToOwned::to_owned).collect();
        let admin_group = policy.admin_group.clone();
        let proxies = policy.proxies.clone();
        let work = move || {
            let wanted = groups.len();
            let mut names = look_up_names(&slurm_user, users, groups)?;
            // Callers are refused for what is missing, and it may be there in a moment.
            let are_there = proxies.iter().all(|p| names.users.contains_key(p));
            let keep = if names.slurm_uid.is_some() && names.groups.len() == wanted && are_there {
                keep
            } else {
                ABSENCE.min(keep)
            };
            // For want of administrators nobody is refused a token.
            if let Some(gid) = account::group(&admin_group)? {
                names.groups.insert(admin_group, gid);
            }
            Ok((Some(names), keep))
        };
        let names = self
            .names
            .find(
                &self.runtime,
                &self.policy,
                generation,
                limits.lookup_timeout,
                work,
            )
            .await?;
        // `work` always finds names, be they without meaning.
        names.ok_or(Unavailable::Failed(Errno::ENOENT))
    }
}

/// What the names in a policy mean now. It may take as long as the account
/// service likes.
pub fn look_up_names(
    slurm_user: &str,
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
) -> Result<Names, Errno> {
    let mut names = Names {
        slurm_uid: account::uid_of(slurm_user)?,
        ..Names::default()
    };
    for user in users {
        if let Some(uid) = account::uid_of(&user)? {
            names.users.insert(user, uid);
        }
    }
    for group in groups {
        if let Some(gid) = account::group(&group)? {
            names.groups.insert(group, gid);
        }
    }
    Ok(names)
}

type Maybe<V> = Option<Arc<V>>;
type Answer<V> = Result<Maybe<V>, Unavailable>;

/// Answers by key: remembered, or under way with any number waiting.
struct Lookups<K, V> {
    slots: Mutex<Slots<K, V>>,
    metrics: Arc<Metrics>,
}

struct Slots<K, V> {
    by_key: BTreeMap<K, Slot<V>>,
    under_way: usize,
    absent: usize,
}

enum Slot<V> {
    /// Kept beyond its time, to know who had an account before.
    Known { answer: Maybe<V>, until: Instant },
    UnderWay {
        answer: watch::Receiver<Option<Answer<V>>>,
        before: Maybe<V>,
    },
}

enum Joined<V> {
    Known(Maybe<V>),
    UnderWay(watch::Receiver<Option<Answer<V>>>),
    NoRoom,
}

impl<K, V> Lookups<K, V> {
    fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            slots: Mutex::new(Slots {
                by_key: BTreeMap::new(),
                under_way: 0,
                absent: 0,
            }),
            metrics: Arc::clone(metrics),
        }
    }
}

impl<V> Slot<V> {
    fn acquaintance(&self, now: Instant) -> Acquaintance {
        match self {
            Self::Known {
                answer: Some(_), ..
            }
            | Self::UnderWay {
                before: Some(_), ..
            } => Acquaintance::Account,
            Self::Known {
                answer: None,
                until,
            } if *until > now => Acquaintance::NoAccount,
            Self::Known { .. } | Self::UnderWay { .. } => Acquaintance::Unknown,
        }
    }
}

impl<K: Clone + Ord, V> Slots<K, V> {
    /// Puts what is known in a slot's place; keeps the counts.
    fn put(&mut self, key: K, slot: Slot<V>) {
        self.remove(&key);
        match slot {
            Slot::UnderWay { .. } => self.under_way += 1,
            Slot::Known { answer: None, .. } => self.absent += 1,
            Slot::Known { .. } => {}
        }
        self.by_key.insert(key, slot);
    }

    fn remove(&mut self, key: &K) {
        match self.by_key.remove(key) {
            Some(Slot::UnderWay { .. }) => self.under_way -= 1,
            Some(Slot::Known { answer: None, .. }) => self.absent -= 1,
            Some(Slot::Known { .. }) | None => {}
        }
    }

    /// Makes room for one more answer: first goes what is out of date, then
    /// whatever else can be looked up again.
    fn make_room(&mut self, now: Instant) {
        if self.absent >= MOST_ABSENT {
            self.forget(|answer, until| answer.is_none() && until <= now);
        }
        if self.absent >= MOST_ABSENT {
            self.forget(|answer, _| answer.is_none());
        }
        if self.by_key.len() >= MOST_REMEMBERED {
            self.forget(|_, until| until <= now);
        }
        if self.by_key.len() >= MOST_REMEMBERED {
            self.forget(|_, _| true);
        }
    }

    fn forget(&mut self, which: impl Fn(&Maybe<V>, Instant) -> bool) {
        let absent = &mut self.absent;
        self.by_key.retain(|_, slot| match slot {
            Slot::Known { answer, until } if which(answer, *until) => {
                *absent -= usize::from(answer.is_none());
                false
            }
            Slot::Known { .. } | Slot::UnderWay { .. } => true,
        });
    }
}

impl<K, V> Lookups<K, V>
where
    K: Clone + Ord + Send + 'static,
    V: Send + Sync + 'static,
{
    fn slots(&self) -> MutexGuard<'_, Slots<K, V>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, key: &K, now: Instant) -> Option<Maybe<V>> {
        match self.slots().by_key.get(key) {
            Some(Slot::Known { answer, until }) if *until > now => Some(answer.clone()),
            _ => None,
        }
    }

    /// What was found last.
    fn last(&self, key: &K) -> Maybe<V> {
        match self.slots().by_key.get(key)? {
            Slot::Known { answer, .. } => answer.clone(),
            Slot::UnderWay { before, .. } => before.clone(),
        }
    }

    fn acquaintance(&self, key: &K, now: Instant) -> Acquaintance {
        self.slots()
            .by_key
            .get(key)
            .map_or(Acquaintance::Unknown, |slot| slot.acquaintance(now))
    }

    fn is_under_way(&self, key: &K) -> bool {
        matches!(self.slots().by_key.get(key), Some(Slot::UnderWay { .. }))
    }

    /// The answer for `key`: remembered, or from the look-up under way, or
    /// from `work`, which says how long its answer is worth remembering, and
    /// runs once there is `room`.
    async fn find<W>(
        self: &Arc<Self>,
        runtime: &Handle,
        room: &Arc<Semaphore>,
        key: K,
        patience: Duration,
        work: W,
    ) -> Answer<V>
    where
        W: FnOnce() -> Result<(Option<V>, Duration), Errno> + Send + 'static,
    {
        let mut answer = match self.join_or_start(runtime, room, key, patience, work) {
            Joined::Known(answer) => return Ok(answer),
            Joined::UnderWay(answer) => answer,
            Joined::NoRoom => return Err(Unavailable::NoRoom),
        };
        let waited = timeout(patience, answer.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(answer)) => answer.clone().unwrap_or(Err(Unavailable::TimedOut)),
            // The runtime ends, and the look-up with it.
            Ok(Err(_)) => Err(Unavailable::Failed(Errno::EIO)),
            Err(_) => Err(Unavailable::TimedOut),
        }
    }

    fn join_or_start<W>(
        self: &Arc<Self>,
        runtime: &Handle,
        room: &Arc<Semaphore>,
        key: K,
        patience: Duration,
        work: W,
    ) -> Joined<V>
    where
        W: FnOnce() -> Result<(Option<V>, Duration), Errno> + Send + 'static,
    {
        let now = Instant::now();
        let mut slots = self.slots();
        let before = match slots.by_key.get(&key) {
            Some(Slot::Known { answer, until }) if *until > now => {
                return Joined::Known(answer.clone());
            }
            Some(Slot::UnderWay { answer, .. }) => return Joined::UnderWay(answer.clone()),
            Some(Slot::Known { answer, .. }) => answer.clone(),
            None => None,
        };
        if slots.under_way >= MOST_UNDER_WAY {
            return Joined::NoRoom;
        }
        let (tell, answer) = watch::channel(None);
        let under_way = Slot::UnderWay {
            answer: answer.clone(),
            before,
        };
        slots.put(key.clone(), under_way);
        drop(slots);
        let (lookups, room) = (Arc::clone(self), Arc::clone(room));
        runtime.spawn(async move {
            let result = match timeout(patience, room.acquire_owned()).await {
                Ok(Ok(permit)) => tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    work().map_err(Unavailable::Failed)
                })
                .await
                .unwrap_or(Err(Unavailable::Failed(Errno::EIO))),
                Ok(Err(_)) | Err(_) => Err(Unavailable::NoRoom),
            };
            let outcome = match &result {
                Ok((Some(_), _)) => Lookup::Found,
                Ok((None, _)) => Lookup::Absent,
                Err(_) => Lookup::Failed,
            };
            lookups.metrics.looked_up(outcome, now.elapsed());
            tell.send_replace(Some(lookups.keep(key, result)));
        });
        Joined::UnderWay(answer)
    }

    /// Remembers an answer, if there is one.
    fn keep(&self, key: K, result: Result<(Option<V>, Duration), Unavailable>) -> Answer<V> {
        let mut slots = self.slots();
        let now = Instant::now();
        match result {
            Ok((answer, keep)) => {
                let answer = answer.map(Arc::new);
                slots.make_room(now);
                let known = Slot::Known {
                    answer: answer.clone(),
                    until: now + keep,
                };
                slots.put(key, known);
                Ok(answer)
            }
            Err(why) => {
                let before = match slots.by_key.get(&key) {
                    Some(Slot::UnderWay { before, .. }) => before.clone(),
                    _ => None,
                };
                slots.remove(&key);
                if before.is_some() {
                    let known = Slot::Known {
                        answer: before,
                        until: now,
                    };
                    slots.put(key, known);
                }
                Err(why)
            }
        }
    }
}
