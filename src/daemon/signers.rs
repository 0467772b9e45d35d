//! One signing thread a core. RSA signatures are the only long computation
//! here: on the threads that read requests they would delay everybody. Users
//! take turns: one who floods waits for itself only.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// The jobs that wait, and the threads that do them.
#[derive(Default)]
pub struct Signers {
    queue: Mutex<Queue>,
    waiting: Condvar,
}

/// Bounded by the number of connections: each has one request under way.
#[derive(Default)]
struct Queue {
    /// Whose turn it is; a uid is here once, as long as it has jobs.
    turns: VecDeque<u32>,
    jobs: HashMap<u32, VecDeque<Job>>,
    /// How often the roll was called, and the last call that each thread heard.
    roll: u64,
    heard: Vec<u64>,
}

impl Queue {
    fn push(&mut self, uid: u32, job: Job) {
        let jobs = self.jobs.entry(uid).or_default();
        if jobs.is_empty() {
            self.turns.push_back(uid);
        }
        jobs.push_back(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let uid = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&uid)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&uid);
        } else {
            self.turns.push_back(uid);
        }
        job
    }
}

impl Signers {
    /// Starts `threads` threads, which live as long as the process.
    pub fn start(threads: usize) -> io::Result<Arc<Self>> {
        let threads = threads.max(1);
        let signers = Arc::new(Self::default());
        signers.queue().heard = vec![0; threads];
        for i in 0..threads {
            let signers = Arc::clone(&signers);
            thread::Builder::new()
                .name(format!("sign-{i}"))
                .spawn(move || {
                    loop {
                        signers.next(i)();
                    }
                })?;
        }
        Ok(signers)
    }

    /// Puts a job of a uid's in line.
    pub fn submit(&self, uid: u32, job: impl FnOnce() + Send + 'static) {
        self.queue().push(uid, Box::new(job));
        self.waiting.notify_one();
    }

    /// Calls every thread: to be heard by each before it takes its next job.
    pub fn call_the_roll(&self) -> u64 {
        let mut queue = self.queue();
        queue.roll += 1;
        self.waiting.notify_all();
        queue.roll
    }

    /// A thread that hasn't heard this call yet.
    pub fn absent(&self, roll: u64) -> Option<usize> {
        self.queue().heard.iter().position(|heard| *heard < roll)
    }

    /// Jobs that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.queue().jobs.values().map(VecDeque::len).sum()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, thread: usize) -> Job {
        let mut queue = self.queue();
        loop {
            queue.heard[thread] = queue.roll;
            if let Some(job) = queue.pop() {
                return job;
            }
            queue = self
                .waiting
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_turns_however_many_jobs_one_of_them_has() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut queue = Queue::default();
        for (uid, times) in [(1001, 5), (1002, 1), (1003, 2)] {
            for _ in 0..times {
                let order = Arc::clone(&order);
                queue.push(uid, Box::new(move || order.lock().unwrap().push(uid)));
            }
        }
        while let Some(job) = queue.pop() {
            job();
        }
        assert_eq!(
            *order.lock().unwrap(),
            [1001, 1002, 1003, 1001, 1003, 1001, 1001, 1001]
        );
        assert!(queue.turns.is_empty() && queue.jobs.is_empty());
    }
}
