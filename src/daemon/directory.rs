//! Accounts for those who can't wait: remembered for a short time, looked up
//! in a bounded number of threads, once for many who ask, with a limit on how
//! long anybody waits. A hung directory service delays only those who need it.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::account::{self, Account};
use crate::config::Limits;
use crate::daemon::quotas::Bucket;
use crate::policy::{Names, Policy};

/// Whom to look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The account of a uid.
    Uid(u32),
    /// The account of a name.
    Name(String),
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
    /// Too many callers that turn out to have no account.
    Strangers,
    /// The service answered with an error.
    Failed(Errno),
}

/// So many answers are remembered; what is beyond is looked up again.
const MOST_REMEMBERED: usize = 16_384;
/// How long the knowledge that there is no account lasts: a new account
/// should not have to wait for it.
const ABSENCE: Duration = Duration::from_secs(5);

/// Of each four look-ups at once, one is kept for uids that had an account
/// before: those who were never seen can't take all of them.
const KEPT: usize = 4;
/// So many uids a second may turn out to have no account; then uids that were
/// never seen with one are not looked up for a moment.
const STRANGERS_PER_SECOND: f64 = 50.0;
/// So many of them at once.
const STRANGERS_BURST: u32 = 200;

/// The accounts, and what the policy's names mean.
pub struct Directory {
    strangers: Mutex<Bucket>,
    kept: usize,
    accounts: Arc<Lookups<Who, Found>>,
    names: Arc<Lookups<u64, Arc<Names>>>,
    runtime: Handle,
}

impl Directory {
    /// An empty memory. Look-ups run on `runtime`'s threads for blocking work,
    /// at most `limits.lookups` at once.
    pub fn new(runtime: Handle, limits: &Limits) -> Self {
        let room = Arc::new(Semaphore::new(limits.lookups));
        Self {
            strangers: Mutex::new(Bucket::full(STRANGERS_BURST, Instant::now())),
            kept: limits.lookups / KEPT,
            accounts: Arc::new(Lookups::new(Arc::clone(&room))),
            names: Arc::new(Lookups::new(room)),
            runtime,
        }
    }

    /// What is remembered of an account.
    pub fn remembered(&self, who: &Who, now: Instant) -> Option<Found> {
        self.accounts.remembered(who, now)
    }

    /// What is remembered of the policy's names; `generation` tells one
    /// configuration from the next.
    pub fn remembered_names(&self, generation: u64, now: Instant) -> Option<Arc<Names>> {
        self.names.remembered(&generation, now)
    }

    /// Finds an account, with its groups' names where asked for.
    pub async fn account(
        &self,
        who: Who,
        group_names: bool,
        limits: &Limits,
    ) -> Result<Found, Unavailable> {
        if let Some(found) = self.remembered(&who, Instant::now()) {
            return Ok(found);
        }
        let keep = limits.account_cache;
        let known = matches!(self.accounts.last(&who), Some(Some(_)));
        let reserve = if known { 0 } else { self.kept };
        if !known && !self.accounts.is_under_way(&who) {
            self.strangers()
                .take(STRANGERS_PER_SECOND, STRANGERS_BURST, Instant::now())
                .map_err(|_| Unavailable::Strangers)?;
        }
        let asked = who.clone();
        let work = move || {
            let found = match asked {
                Who::Uid(uid) => account::by_uid(uid, group_names),
                Who::Name(name) => account::by_name(&name, group_names),
            }?;
            let keep = if found.is_some() {
                keep
            } else {
                ABSENCE.min(keep)
            };
            Ok((found.map(Arc::new), keep))
        };
        let found = self
            .accounts
            .find(&self.runtime, who, limits.lookup_timeout, reserve, work)
            .await;
        if !known && matches!(found, Ok(Some(_))) {
            // No stranger after all: its look-up isn't counted.
            self.strangers().put_back();
        }
        found
    }

    fn strangers(&self) -> MutexGuard<'_, Bucket> {
        self.strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        let work = move || {
            let mut names = Names {
                slurm_uid: account::uid_of(&slurm_user)?,
                ..Names::default()
            };
            for user in users {
                if let Some(uid) = account::uid_of(&user)? {
                    names.users.insert(user, uid);
                }
            }
            let wanted = groups.len();
            for group in groups {
                if let Some(gid) = account::group(&group)? {
                    names.groups.insert(group, gid);
                }
            }
            // Callers are refused for what is missing, and it may be there in a moment.
            let keep = if names.slurm_uid.is_some() && names.groups.len() == wanted {
                keep
            } else {
                ABSENCE.min(keep)
            };
            Ok((Arc::new(names), keep))
        };
        self.names
            .find(&self.runtime, generation, limits.lookup_timeout, 0, work)
            .await
    }
}

type Answer<V> = Result<V, Unavailable>;

/// Answers by key: remembered, or under way with any number waiting.
struct Lookups<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    room: Arc<Semaphore>,
}

enum Slot<V> {
    Known { answer: V, until: Instant },
    UnderWay(watch::Receiver<Option<Answer<V>>>),
}

impl<K, V> Lookups<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new(room: Arc<Semaphore>) -> Self {
        Self {
            slots: Mutex::new(HashMap::new()),
            room,
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<K, Slot<V>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, key: &K, now: Instant) -> Option<V> {
        match self.slots().get(key) {
            Some(Slot::Known { answer, until }) if *until > now => Some(answer.clone()),
            _ => None,
        }
    }

    /// The last answer, however old.
    fn last(&self, key: &K) -> Option<V> {
        match self.slots().get(key) {
            Some(Slot::Known { answer, .. }) => Some(answer.clone()),
            _ => None,
        }
    }

    fn is_under_way(&self, key: &K) -> bool {
        matches!(self.slots().get(key), Some(Slot::UnderWay(_)))
    }

    /// The answer for `key`: remembered, or from the look-up under way, or
    /// from `work`, which says how long its answer is worth remembering.
    async fn find<W>(
        self: &Arc<Self>,
        runtime: &Handle,
        key: K,
        patience: Duration,
        reserve: usize,
        work: W,
    ) -> Answer<V>
    where
        W: FnOnce() -> Result<(V, Duration), Errno> + Send + 'static,
    {
        let mut answer = match self.join_or_start(runtime, key, reserve, work) {
            Ok(joined) => joined?,
            Err(known) => return Ok(known),
        };
        let waited = tokio::time::timeout(patience, answer.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(answer)) => answer.clone().unwrap_or(Err(Unavailable::TimedOut)),
            // The look-up's thread ended without an answer.
            Ok(Err(_)) => Err(Unavailable::Failed(Errno::EIO)),
            Err(_) => Err(Unavailable::TimedOut),
        }
    }

    /// `Err` holds an answer that is known already.
    #[allow(clippy::type_complexity, reason = "said once, read once, right above")]
    fn join_or_start<W>(
        self: &Arc<Self>,
        runtime: &Handle,
        key: K,
        reserve: usize,
        work: W,
    ) -> Result<Result<watch::Receiver<Option<Answer<V>>>, Unavailable>, V>
    where
        W: FnOnce() -> Result<(V, Duration), Errno> + Send + 'static,
    {
        let now = Instant::now();
        let mut slots = self.slots();
        match slots.get(&key) {
            Some(Slot::Known { answer, until }) if *until > now => return Err(answer.clone()),
            Some(Slot::UnderWay(answer)) => return Ok(Ok(answer.clone())),
            Some(Slot::Known { .. }) | None => {}
        }
        if self.room.available_permits() <= reserve {
            return Ok(Err(Unavailable::NoRoom));
        }
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            return Ok(Err(Unavailable::NoRoom));
        };
        if slots.len() >= MOST_REMEMBERED {
            slots.retain(|_, slot| match slot {
                Slot::Known { until, .. } => *until > now,
                Slot::UnderWay(_) => true,
            });
            if slots.len() >= MOST_REMEMBERED {
                slots.retain(|_, slot| matches!(slot, Slot::UnderWay(_)));
            }
        }
        let (tell, answer) = watch::channel(None);
        slots.insert(key.clone(), Slot::UnderWay(answer.clone()));
        drop(slots);
        let lookups = Arc::clone(self);
        runtime.spawn_blocking(move || {
            let _permit = permit;
            let told = match work() {
                Ok((answer, keep)) => {
                    let until = Instant::now() + keep;
                    lookups.slots().insert(
                        key,
                        Slot::Known {
                            answer: answer.clone(),
                            until,
                        },
                    );
                    Ok(answer)
                }
                Err(errno) => {
                    lookups.slots().remove(&key);
                    Err(Unavailable::Failed(errno))
                }
            };
            tell.send_replace(Some(told));
        });
        Ok(Ok(answer))
    }
}
