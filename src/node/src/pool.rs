//! Threads for core work, in three lanes: bulk work (first syncs, password hashes, thumbnails) can't
//! keep interactive work waiting, as one thread at least never takes any. Computation that nobody holds a lock for
//! (signatures of other servers) has threads of its own, one for each core, which the system runs when nothing
//! else wants to run.
//!
//! Work whose length nobody knows before is done in steps, with [`pause`] between them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::{NodeError, budget};

/// Which queue work goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits and expects an answer in milliseconds.
    Interactive,
    /// Takes long, or may.
    Bulk,
    /// Takes what the others leave of all cores. Never with a lock held: those who wait for it would wait behind
    /// everybody else.
    Spare,
}

/// Work that may wait in each lane before more is refused.
const MOST_WAITING: usize = 10_000;

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queues {
    interactive: VecDeque<Work>,
    bulk: VecDeque<Work>,
    spare: VecDeque<Work>,
    bulk_running: usize,
    stop: bool,
}

struct Shared {
    queues: Mutex<Queues>,
    wake: Condvar,
    wake_spare: Condvar,
    most_bulk: usize,
}

/// The threads.
pub struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool of `threads`, all but one of which may take bulk work, and as many for spare work.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            queues: Mutex::default(),
            wake: Condvar::new(),
            wake_spare: Condvar::new(),
            most_bulk: threads.saturating_sub(1).max(1),
        });
        for n in 0..threads {
            let (of_core, of_spare) = (Arc::clone(&shared), Arc::clone(&shared));
            start(format!("core-{n}"), move || {
                HERE.set(Some((Arc::clone(&of_core), MOST_BEGUN - 1)));
                of_core.run();
            });
            start(format!("spare-{n}"), move || of_spare.run_spare());
        }
        Self { shared }
    }

    /// Runs `work` on a thread of the lane.
    ///
    /// # Errors
    /// [`NodeError::Overloaded`], [`NodeError::Panicked`].
    pub async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NodeError> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            // Nobody may be waiting any more.
            let _ = sender.send(result);
        });
        {
            let mut queues = self.shared.queues.lock();
            let queue = match lane {
                Lane::Interactive => &mut queues.interactive,
                Lane::Bulk => &mut queues.bulk,
                Lane::Spare => &mut queues.spare,
            };
            if queue.len() >= MOST_WAITING {
                return Err(NodeError::Overloaded);
            }
            queue.push_back(work);
        }
        match lane {
            Lane::Interactive | Lane::Bulk => self.shared.wake.notify_one(),
            Lane::Spare => self.shared.wake_spare.notify_one(),
        };
        match receiver.await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(_)) => Err(NodeError::Panicked),
            Err(_) => Err(NodeError::Stopped),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.queues.lock().stop = true;
        self.shared.wake.notify_all();
        self.shared.wake_spare.notify_all();
    }
}

fn start(name: String, run: impl FnOnce() + Send + 'static) {
    let spawned = std::thread::Builder::new().name(name).spawn(run);
    if let Err(error) = spawned {
        tracing::error!(%error, "a core thread could not be started");
    }
}

/// How far spare work stands back, as `nice` counts it.
#[cfg(target_os = "linux")]
const SPARE_NICE: i32 = 5;

thread_local! {
    /// On a thread of the pool: what it takes work from, and how much more it may begin before what it has begun is done.
    static HERE: RefCell<Option<(Arc<Shared>, usize)>> = const { RefCell::new(None) };
}

/// Pieces of work that one thread has begun at most: each but the last in a pause.
const MOST_BEGUN: usize = 4;

/// Between two steps of work that takes long: what waits meanwhile gets a thread, this one if no other is free. Nothing may
/// be locked that other work needs to be done in one go. Without effect elsewhere than on the pool's threads.
pub fn pause() {
    budget::step_aside(|| {
        let here = HERE.take();
        if let Some((shared, left)) = &here
            && *left > 0
            && let Some(work) = shared.next_waiting()
        {
            HERE.set(Some((Arc::clone(shared), left - 1)));
            work();
        }
        HERE.set(here);
    });
}

impl Shared {
    fn next_waiting(&self) -> Option<Work> {
        let mut queues = self.queues.lock();
        let interactive = queues.interactive.pop_front();
        interactive.or_else(|| queues.bulk.pop_front())
    }

    fn run_spare(&self) {
        // Elsewhere it would be the whole process that stands back.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(SPARE_NICE) {
            tracing::debug!(%error, "spare work runs like any other");
        }
        let mut queues = self.queues.lock();
        loop {
            if let Some(work) = queues.spare.pop_front() {
                drop(queues);
                work();
                queues = self.queues.lock();
            } else if queues.stop {
                return;
            } else {
                self.wake_spare.wait(&mut queues);
            }
        }
    }

    fn run(&self) {
        let mut queues = self.queues.lock();
        loop {
            let (work, bulk) = if let Some(work) = queues.interactive.pop_front() {
                (work, false)
            } else if queues.bulk_running < self.most_bulk
                && let Some(work) = queues.bulk.pop_front()
            {
                queues.bulk_running += 1;
                (work, true)
            } else if queues.stop {
                return;
            } else {
                self.wake.wait(&mut queues);
                continue;
            };
            drop(queues);
            work();
            queues = self.queues.lock();
            if bulk {
                queues.bulk_running -= 1;
                if !queues.bulk.is_empty() {
                    self.wake.notify_one();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bulk_work_leaves_a_thread_for_interactive_work() {
        let pool = Arc::new(Pool::new(2));
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let hold = Arc::new(Mutex::new(hold));
        let bulk: Vec<_> = (0..4)
            .map(|_| {
                let (pool, hold) = (Arc::clone(&pool), Arc::clone(&hold));
                tokio::spawn(async move {
                    pool.run(Lane::Bulk, move || hold.lock().recv().is_ok())
                        .await
                })
            })
            .collect();
        assert_eq!(pool.run(Lane::Interactive, || 7).await.unwrap(), 7);
        for _ in 0..4 {
            release.send(()).unwrap();
        }
        for task in bulk {
            assert!(task.await.unwrap().unwrap());
        }
    }

    #[tokio::test]
    async fn work_that_pauses_lets_others_go_first() {
        let pool = Arc::new(Pool::new(2));
        let budget = crate::budget::Budget::new(1);
        let account: Arc<str> = "peer".into();
        let mut turn = budget.turn(&account).await.unwrap();
        let (began, begun) = oneshot::channel();
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let long = tokio::spawn({
            let pool = Arc::clone(&pool);
            let work = move || {
                turn.run(|| {
                    began.send(()).unwrap();
                    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
                    let mut pauses = 0;
                    while hold.try_recv().is_err() && std::time::Instant::now() < end {
                        pause();
                        pauses += 1;
                    }
                    pauses
                })
            };
            async move { pool.run(Lane::Bulk, work).await }
        });
        begun.await.unwrap();
        // There is one thread for such work and one turn, and the long work has both.
        let other: Arc<str> = "other".into();
        let mut turn = budget.turn(&other).await.unwrap();
        let done = pool.run(Lane::Bulk, move || turn.run(|| release.send(()).is_ok()));
        assert!(done.await.unwrap());
        assert!(long.await.unwrap().unwrap() > 0);
        assert!(budget.turn(&account).await.is_ok());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_thread_lives_on() {
        let pool = Pool::new(1);
        let panicked = pool
            .run(Lane::Interactive, || panic!("as the test wants"))
            .await;
        assert!(matches!(panicked, Err(NodeError::Panicked)));
        assert_eq!(pool.run(Lane::Bulk, || 1).await.unwrap(), 1);
        assert_eq!(pool.run(Lane::Spare, || 2).await.unwrap(), 2);
    }
}
