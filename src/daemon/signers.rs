//! One signing thread a core. RSA signatures are the only long computation
//! here: on the threads that read requests they would delay everybody. Users
//! take turns: one who floods waits for itself only.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What a job leaves to be done: to hear the peer that it answered. While more
/// jobs wait than there are threads, a thread leaves that until it has done the
/// next one: by then an eager peer has asked again, and nobody had to be woken
/// for it. Measured with eight busy connections, that saves two of seven changes
/// of thread a signature.
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
    /// How many jobs those are.
    length: usize,
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
        self.length += 1;
    }

    fn pop(&mut self) -> Option<Job> {
        let uid = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&uid)?;
        let job = jobs.pop_front()?;
        self.length -= 1;
        if jobs.is_empty() {
            self.jobs.remove(&uid);
        } else {
            self.turns.push_back(uid);
        }
        Some(job)
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
        self.queue().length
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the next job, and what the one before it left: after the job while
    /// all threads are busy, else at once, and that may be all that it does.
    fn work(&self, thread: usize, left: &mut Option<Afterwards>) {
        let (job, all_are_busy) = self.next(thread, left.is_none());
        if !all_are_busy {
            finish(left.take());
        }
        if let Some(job) = job {
            let leaves = job();
            finish(std::mem::replace(left, leaves));
        }
    }

    /// The next job, waited for or not, and whether every thread has another
    /// one to do after it.
    fn next(&self, thread: usize, waits: bool) -> (Option<Job>, bool) {
        let mut queue = self.queue();
        loop {
            queue.heard[thread] = queue.roll;
            let job = queue.pop();
            if job.is_some() || !waits {
                let all_are_busy = queue.length >= queue.heard.len();
                return (job, all_are_busy);
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

fn finish(left: Option<Afterwards>) {
    if let Some(afterwards) = left {
        afterwards();
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

    /// Jobs that leave something, done by one thread; what was done, in order.
    fn done(jobs: &'static [(&str, &str)]) -> Vec<&'static str> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let signers = Signers::default();
        signers.queue().heard = vec![0];
        for (job, afterwards) in jobs {
            let told = Arc::clone(&told);
            signers.submit(1001, move || {
                told.lock().unwrap().push(*job);
                Some(Box::new(move || told.lock().unwrap().push(afterwards)))
            });
        }
        let mut left = None;
        for _ in jobs {
            signers.work(0, &mut left);
        }
        drop(left);
        Arc::into_inner(told).unwrap().into_inner().unwrap()
    }

    #[test]
    fn what_a_job_leaves_is_done_after_the_next_while_more_jobs_wait() {
        assert_eq!(
            done(&[
                ("1", "1 is heard"),
                ("2", "2 is heard"),
                ("3", "3 is heard")
            ]),
            ["1", "2", "1 is heard", "2 is heard", "3"]
        );
    }

    #[test]
    fn nothing_is_left_while_a_thread_waits() {
        let signers = Arc::new(Signers::default());
        signers.queue().heard = vec![0];
        let (tell, told) = std::sync::mpsc::channel();
        let again = Arc::clone(&signers);
        let mut left: Option<Afterwards> = Some(Box::new(move || {
            again.submit(1001, move || {
                tell.send("heard, and done").unwrap();
                None
            });
        }));
        for _ in 0..2 {
            signers.work(0, &mut left);
        }
        assert_eq!(told.try_recv(), Ok("heard, and done"));
    }
}
