//! How much of the machine the work for other servers may take, and whose work is next.
//!
//! Work for other servers (the signatures of their requests, reading and checking and taking in what they send) is cut into pieces of
//! about a millisecond, and each piece needs a [`Turn`]. There are as many turns at once as cores, but while users of this
//! server ask for something a core at least is left to them: a thread that wakes up finds it free and does not wait
//! until the system takes another off its core, which takes milliseconds.
//!
//! Turns go to who has used the least time (start-time fair queueing): one that sends much takes what the others leave. Nobody's
//! share lies idle while somebody wants it.
//!
//! Invariants:
//! - A turn is held for computing, never for the network, a sync or a lock.
//! - What is kept of a server goes when its work is done and what it used is no more than what the others did.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::NodeError;
use crate::pace::Pace;

/// How long after a request of a user a core is kept free for the next.
const QUIET_AFTER: Duration = Duration::from_millis(50);

/// Pieces of one server that may wait before more of it is refused: those of some thousand requests.
const MOST_WAITING: usize = 10_000;

/// The account of what this server fetches for its own users: rooms that they join, history that they read.
pub(crate) const OF_THE_HOUSE: &str = "";

#[derive(Default)]
struct Account {
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// Its turns that are taken.
    running: usize,
    /// The time that it used, counted from when it last had less than all others.
    used_ns: u64,
}

#[derive(Default)]
struct Accounts {
    all: HashMap<Arc<str>, Account>,
    /// Those with work that waits, by what they used.
    queue: BTreeSet<(u64, Arc<str>)>,
    /// What the last that was served had used: who comes anew begins here.
    floor_ns: u64,
    running: usize,
}

/// The turns.
pub struct Budget {
    cores: usize,
    began: Instant,
    /// When a user of this server last asked for something, in nanoseconds since the beginning.
    asked_ns: AtomicU64,
    accounts: Mutex<Accounts>,
}

/// The right to compute for a server, until it is dropped. What it is held for is on that server's account.
pub struct Turn {
    budget: Arc<Budget>,
    account: Arc<str>,
    /// From when the work began to run.
    since: Option<Instant>,
}

impl Budget {
    /// The turns of a machine of so many cores.
    pub fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self {
            cores: cores.max(1),
            began: Instant::now(),
            asked_ns: AtomicU64::new(0),
            accounts: Mutex::default(),
        })
    }

    /// A user of this server asks for something, and expects the answer at once.
    pub fn note_user(&self) {
        self.asked_ns.store(self.now_ns(), Ordering::Relaxed);
    }

    /// Whether users of this server asked for something just now.
    pub fn is_wanted_by_users(&self) -> bool {
        let asked_ns = self.asked_ns.load(Ordering::Relaxed);
        asked_ns > 0 && self.now_ns().saturating_sub(asked_ns) < QUIET_AFTER.as_nanos() as u64
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Turns at once: all cores, or what is left of them by the users, who get a quarter.
    fn places(&self) -> usize {
        if !self.is_wanted_by_users() {
            return self.cores;
        }
        let for_users = self.cores.div_ceil(4);
        self.cores.saturating_sub(for_users).max(1)
    }

    /// Waits for a turn of the account.
    ///
    /// # Errors
    /// [`NodeError::Overloaded`] if too much of it waits.
    pub async fn turn(self: &Arc<Self>, account: &Arc<str>) -> Result<Turn, NodeError> {
        let receiver = {
            let places = self.places();
            let mut accounts = self.accounts.lock();
            if accounts.running < places && accounts.queue.is_empty() {
                return Ok(self.taken(&mut accounts, Arc::clone(account)));
            }
            let (sender, receiver) = oneshot::channel();
            accounts.enqueue(account, sender)?;
            let lost = self.hand_out(&mut accounts, places);
            drop(accounts);
            drop(lost);
            receiver
        };
        receiver.await.map_err(|_| NodeError::Stopped)
    }

    /// A turn at once, over the number of those that there are: for who holds a lock that others wait for.
    pub fn turn_now(self: &Arc<Self>, account: &Arc<str>) -> Turn {
        self.taken(&mut self.accounts.lock(), Arc::clone(account))
    }

    fn taken(self: &Arc<Self>, accounts: &mut Accounts, account: Arc<str>) -> Turn {
        accounts.begin(&account);
        Turn {
            budget: Arc::clone(self),
            account,
            since: None,
        }
    }

    /// Gives turns to who is next. Those whose takers went away this moment are to be dropped without the lock.
    fn hand_out(self: &Arc<Self>, accounts: &mut Accounts, places: usize) -> Vec<Turn> {
        let mut lost = Vec::new();
        while accounts.running < places
            && let Some((account, taker)) = accounts.next()
        {
            if !taker.is_closed() {
                let turn = self.taken(accounts, account);
                lost.extend(taker.send(turn).err());
            }
        }
        lost
    }
}

impl Accounts {
    fn of(&mut self, account: &Arc<str>) -> &mut Account {
        let floor_ns = self.floor_ns;
        let of = self.all.entry(Arc::clone(account)).or_default();
        if of.running == 0 && of.waiting.is_empty() {
            of.used_ns = of.used_ns.max(floor_ns);
        }
        of
    }

    fn enqueue(
        &mut self,
        account: &Arc<str>,
        sender: oneshot::Sender<Turn>,
    ) -> Result<(), NodeError> {
        let of = self.of(account);
        if of.waiting.len() >= MOST_WAITING {
            return Err(NodeError::Overloaded);
        }
        of.waiting.push_back(sender);
        if of.waiting.len() == 1 {
            let place = (of.used_ns, Arc::clone(account));
            self.queue.insert(place);
        }
        Ok(())
    }

    /// The piece that waits longest of the account that used least.
    fn next(&mut self) -> Option<(Arc<str>, oneshot::Sender<Turn>)> {
        let (used_ns, account) = self.queue.pop_first()?;
        self.floor_ns = self.floor_ns.max(used_ns);
        let of = self.all.get_mut(&account)?;
        let sender = of.waiting.pop_front();
        if !of.waiting.is_empty() {
            self.queue.insert((used_ns, Arc::clone(&account)));
        }
        sender.map(|sender| (account, sender))
    }

    /// A turn begins.
    fn begin(&mut self, account: &Arc<str>) {
        self.running += 1;
        self.of(account).running += 1;
    }

    /// A turn ends.
    fn end(&mut self, account: &Arc<str>, used_ns: u64) {
        self.running = self.running.saturating_sub(1);
        let Some(of) = self.all.get_mut(account) else {
            return;
        };
        of.running = of.running.saturating_sub(1);
        let before_ns = of.used_ns;
        of.used_ns = before_ns.saturating_add(used_ns);
        if !of.waiting.is_empty() {
            let after_ns = of.used_ns;
            self.queue.remove(&(before_ns, Arc::clone(account)));
            self.queue.insert((after_ns, Arc::clone(account)));
        }
        if self.running == 0 && self.queue.is_empty() {
            // Nobody wants anything: nobody owes anything.
            *self = Self::default();
        } else if self.all.len() > MOST_WAITING {
            let floor_ns = self.floor_ns;
            let is_needed =
                |of: &Account| of.running > 0 || !of.waiting.is_empty() || of.used_ns > floor_ns;
            self.all.retain(|_, of| is_needed(of));
        }
    }
}

impl Turn {
    /// Does a piece of the work. The turn can be kept until what came of it is written.
    pub(crate) fn run<T>(&mut self, work: impl FnOnce(&mut Pace<'_>) -> T) -> T {
        let running = Running {
            budget: Arc::clone(&self.budget),
            account: Arc::clone(&self.account),
            since: *self.since.get_or_insert_with(Instant::now),
        };
        let _ended = Ended {
            since: &mut self.since,
            outer: RUNNING.replace(Some(running)),
        };
        work(&mut Pace::new(&self.budget))
    }
}

/// What a piece of work leaves behind when it ends, by a panic too.
struct Ended<'a> {
    since: &'a mut Option<Instant>,
    /// What the thread's work ran in before.
    outer: Option<Running>,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if let Some(running) = RUNNING.replace(self.outer.take()) {
            *self.since = Some(running.since);
        }
    }
}

thread_local! {
    /// The turn that this thread's work runs in.
    static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
}

struct Running {
    budget: Arc<Budget>,
    account: Arc<str>,
    since: Instant,
}

/// Between two steps of work that takes long: `others` run, and the turn that this work has, if it has one, is another's
/// while they do.
pub(crate) fn step_aside(others: impl FnOnce()) {
    let Some(mut running) = RUNNING.take() else {
        return others();
    };
    drop(Turn {
        budget: Arc::clone(&running.budget),
        account: Arc::clone(&running.account),
        since: Some(running.since),
    });
    others();
    // The lock that it may hold is waited for: it does not wait itself.
    running.budget.accounts.lock().begin(&running.account);
    running.since = Instant::now();
    RUNNING.set(Some(running));
}

impl Drop for Turn {
    fn drop(&mut self) {
        let used = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        let used_ns = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
        let places = self.budget.places();
        let mut accounts = self.budget.accounts.lock();
        accounts.end(&self.account, used_ns);
        let lost = self.budget.hand_out(&mut accounts, places);
        drop(accounts);
        drop(lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    type Answer = Result<Turn, NodeError>;

    fn poll(future: Pin<&mut impl Future<Output = Answer>>) -> Option<Turn> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn.expect("a turn")),
            Poll::Pending => None,
        }
    }

    fn ends_after(mut turn: Turn, ms: u64) {
        turn.since = Instant::now().checked_sub(Duration::from_millis(ms));
    }

    #[test]
    fn who_used_least_is_next_and_who_is_alone_gets_every_turn() {
        let budget = Budget::new(1);
        let (greedy, modest): (Arc<str>, Arc<str>) = ("greedy".into(), "modest".into());
        let first = poll(pin!(budget.turn(&greedy))).expect("nobody else is there");
        let mut second = pin!(budget.turn(&greedy));
        let mut third = pin!(budget.turn(&greedy));
        assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
        ends_after(first, 1000);
        let second = poll(second.as_mut()).expect("nobody else wants it");
        let mut other = pin!(budget.turn(&modest));
        assert!(poll(other.as_mut()).is_none());
        ends_after(second, 1000);
        assert!(poll(third.as_mut()).is_none(), "the other used less");
        let other = poll(other.as_mut()).expect("used nothing yet");
        let mut again = pin!(budget.turn(&modest));
        assert!(poll(again.as_mut()).is_none());
        ends_after(other, 10);
        let again = poll(again.as_mut()).expect("still used less");
        ends_after(again, 5000);
        ends_after(poll(third.as_mut()).expect("now it is its turn"), 1);
        assert!(
            budget.accounts.lock().all.is_empty(),
            "nothing is left behind"
        );
    }

    #[test]
    fn a_core_is_left_to_users_who_ask_and_taken_again_when_they_do_not() {
        let budget = Budget::new(2);
        let peer: Arc<str> = "peer".into();
        let both = [(); 2].map(|()| poll(pin!(budget.turn(&peer))).expect("all cores"));
        // For as long as the test takes.
        budget.asked_ns.store(u64::MAX, Ordering::Relaxed);
        let mut waiting = pin!(budget.turn(&peer));
        assert!(poll(waiting.as_mut()).is_none());
        let [one, other] = both;
        drop(one);
        assert!(
            poll(waiting.as_mut()).is_none(),
            "one core is for the peer, one for users"
        );
        budget.asked_ns.store(0, Ordering::Relaxed);
        drop(other);
        let one = poll(waiting.as_mut()).expect("a turn");
        assert!(poll(pin!(budget.turn(&peer))).is_some());
        drop(one);
    }

    #[test]
    fn work_that_panics_leaves_no_turn_on_its_thread() {
        let budget = Budget::new(1);
        let peer: Arc<str> = "peer".into();
        let mut turn = poll(pin!(budget.turn(&peer))).expect("a turn");
        let work = std::panic::AssertUnwindSafe(|| turn.run(|_| panic!("as the test wants")));
        assert!(std::panic::catch_unwind(work).is_err());
        assert!(RUNNING.take().is_none());
        drop(turn);
        assert_eq!(budget.accounts.lock().running, 0);
    }

    #[test]
    fn who_goes_away_leaves_the_turn_to_the_next() {
        let budget = Budget::new(1);
        let peer: Arc<str> = "peer".into();
        let first = poll(pin!(budget.turn(&peer))).expect("a turn");
        let mut stays = pin!(budget.turn(&peer));
        {
            let mut goes = pin!(budget.turn(&peer));
            assert!(poll(goes.as_mut()).is_none());
        }
        assert!(poll(stays.as_mut()).is_none());
        drop(first);
        assert!(poll(stays.as_mut()).is_some());
        let over = budget.turn_now(&peer);
        let more = budget.turn_now(&peer);
        drop((over, more));
        assert_eq!(budget.accounts.lock().running, 0);
    }
}
