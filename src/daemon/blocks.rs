//! The blocks in force, and on the disk.
//!
//! Who is to be blocked is blocked at once, and stays so until the next start
//! even where the disk takes nothing; who is to be let in again waits for the
//! disk. A file that can't be read whole is no reason to let anybody in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::account::Account;
use crate::block::{Block, Blocks, MOST_BLOCKS};
use crate::daemon::{Daemon, unix_now};
use crate::keys::file::quoted;
use crate::report::Problem;
use crate::state::{Found, StateDir};
use crate::wire::{Code, Refusal};

/// The file in the state directory.
const FILE: &str = "blocks.json";
/// Its largest size, in bytes: each block has less than 1 KiB.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The blocks in force.
pub struct Keeper {
    in_force: RwLock<Arc<Blocks>>,
    /// Nobody is blocked: nothing has to be looked at.
    none: AtomicBool,
    /// One change at a time.
    turn: Mutex<()>,
}

/// Why a change was not made, or not made to last.
#[derive(Debug)]
pub enum NotKept {
    /// There is no room for one more.
    Full,
    /// It can't be written.
    Disk(Problem),
    /// The daemon is about to end.
    Stopped,
}

impl Keeper {
    /// The blocks of a state directory; one that is yet to be made has none.
    pub fn of(state: &Found) -> Result<Self, Problem> {
        let (state, text) = match state {
            Found::Missing(..) => return Ok(Self::with(Blocks::default())),
            Found::There(state) => (state, state.read(FILE, MOST_BYTES)?),
        };
        let blocks = match text {
            None => Blocks::default(),
            Some(text) => Blocks::parse(&text).map_err(|what| {
                let place = state.place(FILE);
                Problem::at(
                    &place,
                    format!("the blocks can't be read: {what}"),
                    format!(
                        "restore the file; or, if nobody is to be blocked, move it away: mv {0} {0}.bad",
                        quoted(&place)
                    ),
                )
            })?,
        };
        Ok(Self::with(blocks))
    }

    fn with(blocks: Blocks) -> Self {
        Self {
            none: AtomicBool::new(blocks.is_empty()),
            in_force: RwLock::new(Arc::new(blocks)),
            turn: Mutex::default(),
        }
    }

    /// Those in force.
    pub fn in_force(&self) -> Arc<Blocks> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The refusal of a user who is blocked.
    pub fn refusal(&self, uid: u32, name: &str) -> Option<Refusal> {
        if self.none.load(Ordering::Acquire) {
            return None;
        }
        self.in_force().of(uid, name, unix_now()).map(refusal)
    }

    /// Does something, unless one of these accounts is blocked, each a uid and a
    /// name. It must not wait: a block that comes meanwhile is in force after it.
    pub fn unless_blocked<T>(
        &self,
        accounts: [(u32, &str); 2],
        work: impl FnOnce() -> T,
    ) -> Result<T, Refusal> {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        if !in_force.is_empty() {
            let now = unix_now();
            let mut accounts = accounts.iter();
            if let Some(block) = accounts.find_map(|(uid, name)| in_force.of(*uid, name, now)) {
                return Err(refusal(block));
            }
        }
        Ok(work())
    }

    /// Blocks from now on, and through restarts.
    pub fn block(&self, state: &StateDir, block: Block) -> Result<(), NotKept> {
        let _turn = self.turn();
        let blocks = self.in_force().with(block).ok_or(NotKept::Full)?;
        self.put_in_force(blocks);
        state
            .replace(FILE, &self.in_force().to_text())
            .map_err(NotKept::Disk)
    }

    /// Lifts blocks; gives those that were lifted, if any.
    pub fn unblock(
        &self,
        state: &StateDir,
        name: &str,
        uid: Option<u32>,
        now: u64,
    ) -> Result<Vec<Block>, NotKept> {
        let _turn = self.turn();
        let Some((blocks, lifted)) = self.in_force().without(name, uid, now) else {
            return Ok(Vec::new());
        };
        state
            .replace(FILE, &blocks.to_text())
            .map_err(NotKept::Disk)?;
        self.put_in_force(blocks);
        Ok(lifted)
    }

    fn put_in_force(&self, blocks: Blocks) {
        let none = blocks.is_empty();
        *self
            .in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(blocks);
        self.none.store(none, Ordering::Release);
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    /// Refuses a caller who is blocked, or whoever it asks for.
    pub(super) fn refuse_blocked(
        &self,
        caller: &Account,
        target: Option<&Account>,
    ) -> Result<(), Refusal> {
        [Some(caller), target]
            .into_iter()
            .flatten()
            .find_map(|account| self.blocks.refusal(account.uid, &account.name))
            .map_or(Ok(()), Err)
    }
}

/// What a user is told. The reason is for administrators: whoever stole an
/// account must not read what is known of it.
fn refusal(block: &Block) -> Refusal {
    Refusal::new(
        Code::Blocked,
        format!("An administrator has blocked {} on this node.", block.user),
        "Ask your administrator.",
    )
}

impl NotKept {
    /// What an administrator is told, who wanted `user` to be `blocked`.
    pub fn refusal(&self, user: &str, blocked: bool) -> Refusal {
        match self {
            Self::Full => Refusal::new(
                Code::Internal,
                format!("{user} is not blocked: there are {MOST_BLOCKS} blocks already."),
                "Lift some with slurm-tokenctl unblock, or deny a group in slurm-tokend.toml.",
            ),
            Self::Stopped => Refusal::new(
                Code::ShuttingDown,
                "The daemon is stopping.",
                "Ask again when it's back.",
            ),
            Self::Disk(problem) => Refusal::new(
                Code::Internal,
                if blocked {
                    format!(
                        "{user} is blocked until the daemon ends, and not beyond: {}: {}.",
                        problem.place, problem.what
                    )
                } else {
                    format!("{user} stays blocked: {}: {}.", problem.place, problem.what)
                },
                format!("Mend this and ask again: {}.", problem.remedy),
            ),
        }
    }
}
