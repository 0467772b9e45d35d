//! Who holds how many live tokens, from where, and how fast: what the daemon
//! has seen since its start. Bounded, and honest about what it dropped.
//!
//! A grant costs one lock of its user's shard and no system call. Processes
//! are sampled: a new one may be looked at, by [`crate::daemon::origin`] and
//! meanwhile, once a second for each user.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::daemon::origin::Sighting;
use crate::token::MAX_TOKEN;
use crate::wire::{Forgotten, Holder, Origin};

/// Users are spread over so many locks.
const SHARDS: usize = 64;
/// So many users are kept in mind: 16,384 in all.
const MOST_USERS_OF_A_SHARD: usize = 256;
/// So many different ends of tokens are told apart for a user; beyond, those
/// closest to each other count as the later of the two.
const MOST_ENDS: usize = 48;
/// So many origins are told apart for a user.
const MOST_ORIGINS: usize = 16;
/// So many processes of a user are remembered with their origin.
const MOST_PROCESSES: usize = 8;
/// A pid stands for the same process for so many seconds: later it's looked at anew.
const PROCESS_LASTS: u64 = 60;
/// What is unusual is told once in so many seconds for a user.
const TOLD_EVERY: u64 = 3600;
/// So many tokens within a minute of the clock are sudden...
const SUDDEN: u64 = 60;
/// ...if they are so many times what the user's minutes had before.
const TIMES_THE_USUAL: u64 = 8;
/// So many new origins within [`TOLD_EVERY`] are many.
const MANY_ORIGINS: u32 = 12;
/// So many refusals within a minute of the clock are many.
const MANY_REFUSALS: u64 = 30;

/// All users.
pub struct Ledger {
    shards: [Mutex<Shard>; SHARDS],
    since: u64,
}

#[derive(Default)]
struct Shard {
    users: BTreeMap<u32, User>,
    forgotten: Forgotten,
    issued: u64,
}

/// One token. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    /// Its `sun`.
    pub user: &'a str,
    /// The uid of that account.
    pub uid: u32,
    /// Its end.
    pub exp: u64,
    /// Who asked for it, where that's a service.
    pub service: Option<(u32, &'a str)>,
    /// The process that asked; 0 where it has no pid here.
    pub pid: i32,
}

/// What follows from an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The process is new, and worth a look.
    pub look: bool,
    /// Something is out of the ordinary, and wasn't told for a while.
    pub unusual: Option<Unusual>,
}

/// What is out of the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusual {
    /// Far more tokens than before.
    Sudden {
        /// Within this minute.
        tokens: u64,
        /// In the minutes before, on average.
        usually: u64,
    },
    /// Requests from many places.
    ManyOrigins(u32),
    /// Many refusals within a minute.
    ManyRefusals(u64),
    /// A token that would have more bytes than it may: so many.
    Outgrown(usize),
}

impl std::fmt::Display for Unusual {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sudden { tokens, usually } => write!(
                f,
                "{tokens} tokens within a minute, where {usually} are usual"
            ),
            Self::ManyOrigins(origins) => {
                write!(f, "requests from {origins} new places within an hour")
            }
            Self::ManyRefusals(refusals) => write!(f, "{refusals} refusals within a minute"),
            Self::Outgrown(bytes) => write!(
                f,
                "no token, for it would have {bytes} bytes with all groups, and {MAX_TOKEN} at most; \
                 raise identity_min_gid"
            ),
        }
    }
}

/// What is known of all users together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// So many are known.
    pub users: usize,
    /// Their live tokens, at most.
    pub live_tokens: u64,
    /// When the last of those expires.
    pub latest_expiry: Option<u64>,
    /// All tokens since the start.
    pub issued: u64,
    /// What had to be forgotten.
    pub forgotten: Forgotten,
}

impl Ledger {
    /// An empty one, begun at `since`.
    pub fn new(since: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            since,
        }
    }

    /// When it begins.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Enters a token that was issued. The note is about who asked for it.
    pub fn issued(&self, token: &Token<'_>, now: u64) -> Note {
        let Token {
            user,
            uid,
            exp,
            service,
            pid,
        } = *token;
        let mut shard = self.shard(uid);
        shard.issued += 1;
        let holder = shard.user(uid, user, now);
        holder.issued += 1;
        holder.ends.add(exp, now);
        let Some((uid, name)) = service else {
            return holder.asks(pid, now);
        };
        drop(shard);
        let mut shard = self.shard(uid);
        let service = shard.user(uid, name, now);
        service.for_others += 1;
        service.asks(pid, now)
    }

    /// Enters a refusal.
    pub fn refused(&self, uid: u32, name: &str, now: u64) -> Option<Unusual> {
        self.shard(uid).user(uid, name, now).is_refused(now)
    }

    /// Enters that a token was refused for its size. A later one is told of
    /// again only after a while.
    pub fn outgrown(&self, uid: u32, name: &str, bytes: usize, now: u64) -> Option<Unusual> {
        let mut shard = self.shard(uid);
        let told = &mut shard.user(uid, name, now).told.outgrown;
        is_due(told, now).then_some(Unusual::Outgrown(bytes))
    }

    /// Enters what a look at a process has shown.
    pub fn seen(&self, uid: u32, sighting: Sighting, now: u64) -> Option<Unusual> {
        let mut shard = self.shard(uid);
        shard.users.get_mut(&uid)?.is_seen(sighting, now)
    }

    /// What is known of one user.
    pub fn holder(&self, uid: u32, now: u64) -> Option<Holder> {
        let shard = self.shard(uid);
        shard.users.get(&uid).map(|user| user.holder(uid, now))
    }

    /// The uids above `after` that are known, in order.
    pub fn uids_after(&self, after: Option<u32>) -> Vec<u32> {
        let mut uids = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            uids.extend(shard.users.keys().filter(|uid| after < Some(**uid)));
        }
        uids.sort_unstable();
        uids
    }

    /// All users together.
    pub fn totals(&self, now: u64) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            totals.users += shard.users.len();
            totals.issued += shard.issued;
            for user in shard.users.values() {
                totals.live_tokens += user.ends.live(now);
                totals.latest_expiry = totals.latest_expiry.max(user.ends.latest(now));
            }
            let forgotten = &shard.forgotten;
            totals.forgotten.users += forgotten.users;
            totals.forgotten.live_tokens += forgotten.live_tokens;
            totals.forgotten.latest_expiry =
                totals.forgotten.latest_expiry.max(forgotten.latest_expiry);
        }
        totals
    }

    fn shard(&self, uid: u32) -> MutexGuard<'_, Shard> {
        // Neighbours among uids are spread.
        let shard = &self.shards[uid as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// The user of a uid, by its present name; another makes room for it where
    /// there is none.
    fn user(&mut self, uid: u32, name: &str, now: u64) -> &mut User {
        if self.users.len() >= MOST_USERS_OF_A_SHARD && !self.users.contains_key(&uid) {
            self.forget_one(now);
        }
        let user = match self.users.entry(uid) {
            Entry::Occupied(user) => user.into_mut(),
            Entry::Vacant(place) => place.insert(User::new(name, now)),
        };
        if user.name != name {
            name.clone_into(&mut user.name);
        }
        user.last = now;
        user
    }

    /// Of those who hold no token, or else of all, the one silent for longest goes.
    fn forget_one(&mut self, now: u64) {
        let oldest = self
            .users
            .iter()
            .min_by_key(|(_, user)| (user.ends.live(now) > 0, user.last))
            .map(|(uid, _)| *uid);
        if let Some(user) = oldest.and_then(|uid| self.users.remove(&uid)) {
            self.forgotten.users += 1;
            self.forgotten.live_tokens += user.ends.live(now);
            let latest = user.ends.latest(now);
            self.forgotten.latest_expiry = self.forgotten.latest_expiry.max(latest);
        }
    }
}

/// What is known of one user.
struct User {
    name: String,
    first: u64,
    last: u64,
    issued: u64,
    for_others: u64,
    refused: u64,
    ends: Ends,
    tokens: Pace,
    refusals: Pace,
    processes: Vec<Process>,
    looked: u64,
    origins: Vec<Origin>,
    new_origins: (u64, u32),
    unseen: u64,
    forgotten_origins: u64,
    told: Told,
}

/// A process that asked.
struct Process {
    pid: i32,
    since: u64,
    /// Its origin, where it has been seen.
    place: Option<String>,
    /// Tokens that wait for that.
    waiting: u64,
}

/// When each kind of the unusual was told.
#[derive(Default)]
struct Told {
    sudden: u64,
    origins: u64,
    refusals: u64,
    outgrown: u64,
}

/// Is it time to tell again; then it's told.
fn is_due(told: &mut u64, now: u64) -> bool {
    let due = *told == 0 || now.abs_diff(*told) >= TOLD_EVERY;
    if due {
        *told = now;
    }
    due
}

impl User {
    fn new(name: &str, now: u64) -> Self {
        Self {
            name: name.to_owned(),
            first: now,
            last: now,
            issued: 0,
            for_others: 0,
            refused: 0,
            ends: Ends::default(),
            tokens: Pace::new(now),
            refusals: Pace::new(now),
            processes: Vec::new(),
            looked: 0,
            origins: Vec::new(),
            new_origins: (now, 0),
            unseen: 0,
            forgotten_origins: 0,
            told: Told::default(),
        }
    }

    fn asks(&mut self, pid: i32, now: u64) -> Note {
        Note {
            look: self.comes_from(pid, now),
            unusual: self.quickens(now),
        }
    }

    /// Counts a token for where it came from. Says whether its process is to
    /// be looked at.
    fn comes_from(&mut self, pid: i32, now: u64) -> bool {
        let known = self
            .processes
            .iter_mut()
            .find(|known| known.pid == pid && now.abs_diff(known.since) < PROCESS_LASTS);
        if let Some(process) = known {
            let place = process.place.as_deref();
            let origin = place.and_then(|p| self.origins.iter_mut().find(|o| o.place == p));
            match origin {
                Some(origin) => {
                    origin.tokens += 1;
                    origin.last = now;
                }
                None => process.waiting += 1,
            }
            return false;
        }
        if pid == 0 || self.looked == now {
            self.unseen += 1;
            return false;
        }
        self.looked = now;
        self.forget_process(pid);
        self.processes.push(Process {
            pid,
            since: now,
            place: None,
            waiting: 1,
        });
        true
    }

    /// Makes room for one more process: the earlier one of its pid goes, or
    /// the oldest.
    fn forget_process(&mut self, pid: i32) {
        let earlier = self.processes.iter().position(|known| known.pid == pid);
        let full = self.processes.len() >= MOST_PROCESSES;
        if let Some(index) = earlier.or(full.then_some(0)) {
            self.unseen += self.processes.remove(index).waiting;
        }
    }

    fn is_seen(&mut self, sighting: Sighting, now: u64) -> Option<Unusual> {
        let process = self
            .processes
            .iter_mut()
            .find(|known| known.pid == sighting.pid)?;
        let waiting = std::mem::take(&mut process.waiting);
        process.place = Some(sighting.place.clone());
        if let Some(origin) = self.origins.iter_mut().find(|o| o.place == sighting.place) {
            origin.pid = sighting.pid;
            origin.pinned = sighting.pinned;
            origin.executable = sighting.executable.or(origin.executable.take());
            origin.terminal = sighting.terminal.or(origin.terminal.take());
            origin.tokens += waiting;
            origin.last = now;
            return None;
        }
        if self.origins.len() >= MOST_ORIGINS {
            let oldest = self.origins.iter().enumerate().min_by_key(|(_, o)| o.last);
            if let Some((index, _)) = oldest {
                self.origins.swap_remove(index);
                self.forgotten_origins += 1;
            }
        }
        self.origins.push(Origin {
            place: sighting.place,
            pid: sighting.pid,
            pinned: sighting.pinned,
            executable: sighting.executable,
            terminal: sighting.terminal,
            tokens: waiting,
            first: now,
            last: now,
        });
        if now.abs_diff(self.new_origins.0) >= TOLD_EVERY {
            self.new_origins = (now, 0);
        }
        self.new_origins.1 += 1;
        let many = self.new_origins.1;
        (many >= MANY_ORIGINS && is_due(&mut self.told.origins, now))
            .then_some(Unusual::ManyOrigins(many))
    }

    fn quickens(&mut self, now: u64) -> Option<Unusual> {
        let tokens = self.tokens.count(now);
        let usually = self.tokens.usually();
        (tokens >= SUDDEN.max(TIMES_THE_USUAL * usually) && is_due(&mut self.told.sudden, now))
            .then_some(Unusual::Sudden { tokens, usually })
    }

    fn is_refused(&mut self, now: u64) -> Option<Unusual> {
        self.refused += 1;
        let refusals = self.refusals.count(now);
        (refusals >= MANY_REFUSALS && is_due(&mut self.told.refusals, now))
            .then_some(Unusual::ManyRefusals(refusals))
    }

    fn holder(&self, uid: u32, now: u64) -> Holder {
        Holder {
            user: self.name.clone(),
            uid,
            live_tokens: self.ends.live(now),
            at_most: self.ends.merged_until >= now,
            latest_expiry: self.ends.latest(now),
            issued: self.issued,
            for_others: self.for_others,
            refused: self.refused,
            first: Some(self.first),
            last: Some(self.last),
            per_minute: self.tokens.per_minute(now),
            peak_per_minute: self.tokens.peak,
            origins: self.origins.clone(),
            unseen: self.unseen + self.processes.iter().map(|p| p.waiting).sum::<u64>(),
            forgotten_origins: self.forgotten_origins,
            blocked: None,
        }
    }
}

/// The ends of a user's tokens, in order, each with the number of its tokens.
#[derive(Default)]
struct Ends {
    ends: Vec<(u64, u64)>,
    /// Until then numbers may be too high.
    merged_until: u64,
}

impl Ends {
    fn add(&mut self, exp: u64, now: u64) {
        if let Some((_, tokens)) = self.ends.last_mut().filter(|(last, _)| *last == exp) {
            *tokens += 1;
            return;
        }
        let over = self.ends.partition_point(|(end, _)| *end < now);
        self.ends.drain(..over);
        match self.ends.binary_search_by_key(&exp, |(end, _)| *end) {
            Ok(at) => self.ends[at].1 += 1,
            Err(at) if self.is_close_to(at, exp) => {
                self.ends[at].1 += 1;
                self.merged_until = self.merged_until.max(self.ends[at].0);
            }
            Err(at) => {
                self.ends.insert(at, (exp, 1));
                self.merge();
            }
        }
    }

    /// There is no room, and the end at this place is little later than `exp`:
    /// to let them count as one loses least, and costs least.
    fn is_close_to(&self, at: usize, exp: u64) -> bool {
        let (Some((first, _)), Some((last, _))) = (self.ends.first(), self.ends.last()) else {
            return false;
        };
        let gap = self.ends.get(at).map(|(end, _)| end - exp);
        let usual = 2 * last.abs_diff(*first) / MOST_ENDS as u64;
        self.ends.len() >= MOST_ENDS && gap.is_some_and(|gap| gap <= usual)
    }

    /// Where there are too many ends, the two closest become the later one: no
    /// live token is left out.
    fn merge(&mut self) {
        if self.ends.len() <= MOST_ENDS {
            return;
        }
        let gap = |at: &usize| self.ends[at + 1].0 - self.ends[*at].0;
        if let Some(at) = (0..self.ends.len() - 1).min_by_key(gap) {
            let (_, tokens) = self.ends.remove(at);
            self.ends[at].1 += tokens;
            self.merged_until = self.merged_until.max(self.ends[at].0);
        }
    }

    /// Slurm accepts a token in the second of its `exp` still.
    fn live(&self, now: u64) -> u64 {
        let live = self.ends.iter().rev().take_while(|(end, _)| *end >= now);
        live.map(|(_, tokens)| tokens).sum()
    }

    fn latest(&self, now: u64) -> Option<u64> {
        let latest = self.ends.last().map(|(end, _)| *end);
        latest.filter(|end| *end >= now)
    }
}

/// How often something happens, by the minutes of the clock.
struct Pace {
    minute: u64,
    this: u64,
    before: u64,
    /// Sixteenths of the average of the minutes before.
    usually: u64,
    peak: u64,
}

impl Pace {
    fn new(now: u64) -> Self {
        Self {
            minute: now / 60,
            this: 0,
            before: 0,
            usually: 0,
            peak: 0,
        }
    }

    /// Counts one more; says how many this minute has now.
    fn count(&mut self, now: u64) -> u64 {
        let minute = now / 60;
        if minute != self.minute {
            let passed = minute.abs_diff(self.minute);
            self.usually += self.this;
            self.usually -= self.usually / 16;
            // Each minute without any takes its sixteenth; after an hour little is left.
            for _ in 1..passed.min(64) {
                self.usually -= self.usually / 16;
            }
            self.before = if passed == 1 { self.this } else { 0 };
            self.this = 0;
            self.minute = minute;
        }
        self.this += 1;
        self.peak = self.peak.max(self.this);
        self.this
    }

    fn usually(&self) -> u64 {
        self.usually / 16
    }

    /// Within the last 60 seconds, as if each minute's were spread evenly.
    fn per_minute(&self, now: u64) -> u64 {
        let into = now % 60;
        match (now / 60).abs_diff(self.minute) {
            0 => self.this + self.before * (60 - into) / 60,
            1 => self.this * (60 - into) / 60,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_020;

    fn token(uid: u32, exp: u64, pid: i32) -> Token<'static> {
        Token {
            user: "alice",
            uid,
            exp,
            service: None,
            pid,
        }
    }

    fn sighting(pid: i32, place: &str) -> Sighting {
        Sighting {
            pid,
            pinned: true,
            place: place.into(),
            executable: None,
            terminal: None,
        }
    }

    #[test]
    fn a_token_is_live_through_the_second_of_its_end() {
        let ledger = Ledger::new(NOW);
        ledger.issued(&token(2001, NOW + 60, 7), NOW);
        ledger.issued(&token(2001, NOW + 90, 7), NOW);
        let live = |now| ledger.holder(2001, now).unwrap().live_tokens;
        assert_eq!(
            [live(NOW), live(NOW + 60), live(NOW + 61), live(NOW + 91)],
            [2, 2, 1, 0]
        );
        let holder = ledger.holder(2001, NOW).unwrap();
        assert_eq!(
            (holder.latest_expiry, holder.at_most, holder.issued),
            (Some(NOW + 90), false, 2)
        );
        assert_eq!(ledger.holder(2001, NOW + 91).unwrap().latest_expiry, None);
    }

    #[test]
    fn more_different_ends_than_there_is_room_for_leave_out_no_live_token_and_say_so() {
        let ledger = Ledger::new(NOW);
        // Ends in no order.
        for i in 0..1000 {
            ledger.issued(&token(2001, NOW + 100 + (i * 37) % 1000, 7), NOW);
        }
        for now in [NOW, NOW + 300, NOW + 700, NOW + 1098] {
            let holder = ledger.holder(2001, now).unwrap();
            let live = (0..1000).filter(|i| NOW + 100 + i >= now).count() as u64;
            assert!(holder.live_tokens >= live, "{} {live}", holder.live_tokens);
            assert!(holder.at_most);
        }
        let holder = ledger.holder(2001, NOW).unwrap();
        assert_eq!(holder.live_tokens, 1000);
        assert_eq!(holder.latest_expiry, Some(NOW + 1099));
        assert!(ledger.shard(2001).users[&2001].ends.ends.len() <= MOST_ENDS);
        assert!(!ledger.holder(2001, NOW + 1100).unwrap().at_most);
    }

    #[test]
    fn a_service_and_whom_it_asks_for_are_told_apart() {
        let ledger = Ledger::new(NOW);
        let token = Token {
            service: Some((500, "portal")),
            ..token(2001, NOW + 60, 7)
        };
        assert!(ledger.issued(&token, NOW).look);
        ledger.seen(500, sighting(7, "portal.service"), NOW);
        let alice = ledger.holder(2001, NOW).unwrap();
        assert_eq!((alice.live_tokens, alice.issued), (1, 1));
        assert!(alice.origins.is_empty());
        let portal = ledger.holder(500, NOW).unwrap();
        assert_eq!(
            (portal.live_tokens, portal.issued, portal.for_others),
            (0, 0, 1)
        );
        assert_eq!(portal.origins[0].place, "portal.service");
    }

    #[test]
    fn tokens_of_a_process_count_for_its_origin_before_and_after_it_is_seen() {
        let ledger = Ledger::new(NOW);
        let ask = |pid, now| ledger.issued(&token(2001, NOW + 60, pid), now).look;
        assert!(ask(7, NOW));
        assert!(!ask(7, NOW));
        ledger.seen(2001, sighting(7, "job_1"), NOW);
        assert!(!ask(7, NOW + 1));
        let holder = ledger.holder(2001, NOW).unwrap();
        assert_eq!(holder.origins.len(), 1);
        assert_eq!(
            (holder.origins[0].tokens, holder.origins[0].last),
            (3, NOW + 1)
        );
        assert_eq!(holder.unseen, 0);
    }

    #[test]
    fn one_new_process_a_second_is_looked_at_and_the_others_are_said_to_be_unseen() {
        let ledger = Ledger::new(NOW);
        let looked = |now| {
            (0..1000)
                .filter(|i| ledger.issued(&token(2001, NOW + 60, 100 + i), now).look)
                .count()
        };
        assert_eq!((looked(NOW), looked(NOW + 1)), (1, 1));
        let holder = ledger.holder(2001, NOW).unwrap();
        assert_eq!(holder.issued, 2000);
        assert_eq!(holder.unseen, 2000);
        ledger.seen(2001, sighting(100, "job_1"), NOW + 1);
        let holder = ledger.holder(2001, NOW).unwrap();
        assert_eq!(holder.unseen + holder.origins[0].tokens, 2000);
    }

    #[test]
    fn a_pid_is_looked_at_anew_after_a_while() {
        let ledger = Ledger::new(NOW);
        let ask = |now| ledger.issued(&token(2001, NOW + 600, 7), now).look;
        assert!(ask(NOW));
        ledger.seen(2001, sighting(7, "job_1"), NOW);
        assert!(!ask(NOW + 59));
        assert!(ask(NOW + 60));
        ledger.seen(2001, sighting(7, "job_2"), NOW + 60);
        assert_eq!(ledger.holder(2001, NOW).unwrap().origins.len(), 2);
    }

    #[test]
    fn a_million_processes_take_no_more_room_than_a_few() {
        let ledger = Ledger::new(NOW);
        for i in 0..1_000_000 {
            let now = NOW + u64::try_from(i / 100).unwrap();
            if ledger.issued(&token(2001, now + 60, i + 1), now).look {
                ledger.seen(2001, sighting(i + 1, &format!("job_{i}")), now);
            }
        }
        let user = &ledger.shard(2001).users[&2001];
        assert_eq!(user.origins.len(), MOST_ORIGINS);
        assert_eq!(user.processes.len(), MOST_PROCESSES);
        assert_eq!(user.forgotten_origins, 10_000 - 16);
        assert!(user.ends.ends.len() <= MOST_ENDS);
        assert_eq!(user.issued, 1_000_000);
    }

    #[test]
    fn of_too_many_users_those_go_who_hold_nothing_and_the_rest_is_told() {
        let ledger = Ledger::new(NOW);
        // All in one shard.
        let uid = |i: u32| i * 64;
        for i in 0..256 {
            ledger.issued(&token(uid(i), NOW + 10 + u64::from(i % 2) * 1000, 7), NOW);
        }
        let later = NOW + 500;
        for i in 256..384 {
            ledger.issued(&token(uid(i), later + 9000, 7), later);
        }
        let totals = ledger.totals(later);
        assert_eq!((totals.users, totals.live_tokens), (256, 256));
        assert_eq!(
            totals.forgotten,
            Forgotten {
                users: 128,
                live_tokens: 0,
                latest_expiry: None
            }
        );
        ledger.issued(&token(uid(400), later + 9000, 7), later);
        let totals = ledger.totals(later);
        assert_eq!(
            totals.forgotten,
            Forgotten {
                users: 129,
                live_tokens: 1,
                latest_expiry: Some(NOW + 1010)
            }
        );
        assert_eq!(totals.issued, 385);
    }

    #[test]
    fn a_sudden_rate_is_told_once_an_hour_and_a_steady_one_never() {
        let ledger = Ledger::new(NOW);
        let ask = |now| ledger.issued(&token(2001, now + 60, 7), now).unusual;
        for minute in 0..100 {
            for _ in 0..50 {
                assert_eq!(ask(NOW + minute * 60), None);
            }
        }
        let told: Vec<Unusual> = (0..1000).filter_map(|_| ask(NOW + 6000)).collect();
        assert!(
            matches!(told[..], [Unusual::Sudden { tokens, usually }]
                if (350..=400).contains(&tokens) && (40..=50).contains(&usually)),
            "{told:?}"
        );
        let told = (0..10_000).filter_map(|_| ask(NOW + 6060)).count();
        assert_eq!(told, 0);
    }

    #[test]
    fn many_refusals_are_told_once_an_hour() {
        let ledger = Ledger::new(NOW);
        let told = |now| {
            (0..1000)
                .filter_map(|_| ledger.refused(2001, "alice", now))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(NOW), [Unusual::ManyRefusals(30)]);
        assert_eq!(told(NOW + 3599), []);
        assert_eq!(told(NOW + 3600), [Unusual::ManyRefusals(30)]);
        assert_eq!(ledger.holder(2001, NOW).unwrap().refused, 3000);
    }

    #[test]
    fn many_new_origins_are_told_once_an_hour() {
        let ledger = Ledger::new(NOW);
        let mut told = Vec::new();
        for i in 0..100 {
            let now = NOW + u64::try_from(i).unwrap();
            ledger.issued(&token(2001, now + 60, 100 + i), now);
            told.extend(ledger.seen(2001, sighting(100 + i, &format!("job_{i}")), now));
        }
        assert_eq!(told, [Unusual::ManyOrigins(12)]);
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let ledger = Ledger::new(NOW);
        let start = NOW / 60 * 60;
        for _ in 0..60 {
            ledger.issued(&token(2001, NOW + 60, 7), start + 30);
        }
        let rate = |now| ledger.holder(2001, now).unwrap().per_minute;
        assert_eq!(
            [rate(start + 59), rate(start + 90), rate(start + 120)],
            [60, 30, 0]
        );
    }

    #[test]
    fn a_clock_that_jumps_loses_no_live_token() {
        let ledger = Ledger::new(NOW);
        ledger.issued(&token(2001, NOW + 60, 7), NOW);
        ledger.issued(&token(2001, NOW + 86_400 * 365, 7), NOW + 86_400 * 364);
        ledger.issued(&token(2001, NOW + 70, 7), NOW + 10);
        assert!(ledger.holder(2001, NOW + 10).unwrap().live_tokens >= 2);
    }
}
