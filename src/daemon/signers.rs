//! One signing thread a core. RSA signatures are the only long computation
//! here: on the threads that read requests they would delay everybody. Users
//! take turns: one who floods waits for itself only.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What a job leaves to be done once its thread has done the next one, or has
/// nothing else to do: to hear the peer that it answered, who by then has asked
/// again if it's eager. Nobody has to be woken for that; measured with eight
/// busy connections, it saves two of seven changes of thread a signature.
pub type Afterwards = Box<dyn FnOnce() + Send>;

type Job = Box<dyn FnOnce() -> Option<Afterwards> + Send>;

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
    /// So many threads wait for a job.
    idle: usize,
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
                    let mut left = None;
                    loop {
                        signers.work(i, &mut left);
                    }
                })?;
        }
        Ok(signers)
    }

    /// Puts a job of a uid's in line.
    pub fn submit(&self, uid: u32, job: impl FnOnce() -> Option<Afterwards> + Send + 'static) {
        let mut queue = self.queue();
        queue.push(uid, Box::new(job));
        let wanted = queue.idle > 0;
        drop(queue);
        if wanted {
            self.waiting.notify_one();
        }
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

    /// Does the next job, and then what the one before it left.
    fn work(&self, thread: usize, left: &mut Option<Afterwards>) {
        let job = self.next(thread, left);
        let leaves = job();
        if let Some(afterwards) = std::mem::replace(left, leaves) {
            afterwards();
        }
    }

    /// The next job. What is left is done before waiting for one.
    fn next(&self, thread: usize, left: &mut Option<Afterwards>) -> Job {
        let mut queue = self.queue();
        loop {
            queue.heard[thread] = queue.roll;
            if let Some(job) = queue.pop() {
                return job;
            }
            if let Some(afterwards) = left.take() {
                drop(queue);
                afterwards();
                queue = self.queue();
                continue;
            }
            queue.idle += 1;
            queue = self
                .waiting
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
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
                queue.push(
                    uid,
                    Box::new(move || {
                        order.lock().unwrap().push(uid);
                        None
                    }),
                );
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

    #[test]
    fn what_a_job_leaves_is_done_after_the_next_or_when_there_is_none() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = |what: &'static str| {
            let told = Arc::clone(&told);
            move || told.lock().unwrap().push(what)
        };
        let signers = Arc::new(Signers::default());
        signers.queue().heard = vec![0];
        let (first, heard) = (tell("first"), tell("first is heard"));
        signers.submit(1001, move || {
            first();
            Some(Box::new(heard))
        });
        let (second, third, queue) = (tell("second"), tell("third"), Arc::clone(&signers));
        let heard = tell("second is heard");
        signers.submit(1001, move || {
            second();
            Some(Box::new(move || {
                heard();
                queue.submit(1001, move || {
                    third();
                    None
                });
            }))
        });
        let mut left = None;
        for _ in 0..3 {
            signers.work(0, &mut left);
        }
        assert!(left.is_none());
        assert_eq!(
            *told.lock().unwrap(),
            [
                "first",
                "second",
                "first is heard",
                "second is heard",
                "third"
            ]
        );
    }
}
