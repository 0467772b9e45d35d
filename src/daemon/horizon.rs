//! No token outlives what is on record of its key: `slurm-tokenctl rotate
//! retire` goes by that when it lets a key go.
//!
//! The record is kept ahead of the time by the longest lifespan and more, so
//! that a request compares two numbers and never waits for a disk. Only where
//! the clock has jumped, or the disk took nothing for an hour, a token's end
//! lies beyond the record; then it waits until the record is raised, or is
//! refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::daemon::engine::Engine;
use crate::daemon::{Daemon, unix_now};
use crate::report::Problem;
use crate::state::StateDir;

/// So far ahead a new record reaches beyond the longest token of now, in
/// seconds...
const AHEAD: u64 = 2 * 3600;
/// ...and it's renewed when it reaches no further than this.
const RENEWAL: u64 = 3600;
/// How often we look whether that is so.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// How long a token waits for its record.
const PATIENCE: Duration = Duration::from_secs(2);

/// Until when tokens of any of the keys may live, by what is on the disk.
#[derive(Default)]
pub struct Horizon(AtomicU64);

impl Horizon {
    /// May a token live until `exp`.
    pub fn reaches(&self, exp: u64) -> bool {
        exp <= self.0.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Records how long tokens may live that are signed from now on.
    pub fn extend_horizon(&self, state: &StateDir, now: u64) -> Result<(), Problem> {
        let longest = self.config.policy.longest_lifespan().seconds();
        let exp = now.saturating_add(u64::from(longest) + RENEWAL);
        if self.horizon.reaches(exp) {
            return Ok(());
        }
        let mut recorded = u64::MAX;
        for issuer in self.keys.all() {
            let of_key = state.raise_latest_exp(issuer.key().kid(), exp, AHEAD - RENEWAL)?;
            recorded = recorded.min(of_key);
        }
        self.horizon.0.fetch_max(recorded, Ordering::Relaxed);
        Ok(())
    }
}

impl Daemon {
    /// Keeps the record ahead of the time, for ever.
    pub(super) async fn keep_horizon(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let turn = self.state_turn.lock().await;
            self.extend_horizon(&self.engine()).await;
            drop(turn);
        }
    }

    /// Waits until a token of this engine may live until `exp`; not for ever.
    pub(super) async fn reach(&self, engine: &Arc<Engine>, exp: u64) -> bool {
        let until = Instant::now() + PATIENCE;
        // One after the other: the first does it for all.
        let Ok(_turn) = tokio::time::timeout_at(until.into(), self.state_turn.lock()).await else {
            return engine.horizon.reaches(exp);
        };
        if !engine.horizon.reaches(exp) {
            let extended = self.extend_horizon(engine);
            let _ = tokio::time::timeout_at(until.into(), extended).await;
        }
        engine.horizon.reaches(exp)
    }

    async fn extend_horizon(&self, engine: &Arc<Engine>) {
        let (engine, state) = (Arc::clone(engine), Arc::clone(&self.state));
        let extended =
            tokio::task::spawn_blocking(move || engine.extend_horizon(&state, unix_now())).await;
        if let Ok(Err(problem)) = extended {
            self.complain(format_args!(
                "{problem}: tokens are refused that would outlive their record"
            ));
        }
    }
}
