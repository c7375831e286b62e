//! Jobs: work that grows with what is stored, and so does not fit into the one change of a request.
//!
//! A job is a row, written in the change that makes it necessary. It is worked off in steps; a step is one
//! change, which also moves the row's cursor, and the last one removes the row. Whatever happens in between,
//! the next start finds the row and goes on behind the last step that is on the disk.
//!
//! Invariants:
//! - A row is written by who schedules the job, and from then on by the one task that works on it.
//! - A step that is done twice does no more than once: a step without a change does not move the row.
//! - Steps take their locks and give them back before they wait for the disk.
//!
//! Deliberately not here: what a step does (`own_memberships`, `backup_sweep`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use names::UserSn;
use parking_lot::Mutex;
use rooms::membership::Action;
use serde::{Deserialize, Serialize};
use store::{Direction, Family, Position, Read, Record, Table, TableInfo, Ticket, Txn};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use crate::{Node, NodeError, Touched};

/// Jobs that are worked on at once; the others wait their turn.
const MOST_AT_WORK: usize = 8;

/// Steps of a job that may wait for the disk at once.
const STEPS_PER_WAIT: u64 = 64;

/// Steps between two lines in the log about a long job.
const STEPS_PER_LINE: u64 = 1000;

/// How long a job that failed rests before it is tried again; doubled each time.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Between two looks for jobs that nobody works on: a request that went away could not start its own.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How long a request waits for the job it made necessary; then it goes on alone.
pub const JOB_PATIENCE: Duration = Duration::from_secs(10);

/// (what is done, to whom, where scheduled): how far it is.
const JOBS: Table<(u8, u32, Position), Progress> = Table::source(Family::Work, 1, "jobs");

/// The tables of this crate.
pub const TABLES: &[TableInfo] = &[JOBS.info()];

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Brings a user's profile into the member events of all rooms the user is joined to.
    ShowProfile(UserSn),
    /// Has a user leave all rooms, and refuse all invitations.
    LeaveRooms(UserSn),
    /// Removes the keys of a user's key backups that were deleted.
    SweepBackups(UserSn),
}

impl Task {
    fn stored(self) -> (u8, u32) {
        match self {
            Task::ShowProfile(user) => (1, user.0),
            Task::LeaveRooms(user) => (2, user.0),
            Task::SweepBackups(user) => (3, user.0),
        }
    }

    fn read((kind, argument): (u8, u32)) -> Option<Self> {
        match kind {
            1 => Some(Task::ShowProfile(UserSn(argument))),
            2 => Some(Task::LeaveRooms(UserSn(argument))),
            3 => Some(Task::SweepBackups(UserSn(argument))),
            _ => None,
        }
    }

    /// Its name, for logs and lists.
    pub fn name(self) -> &'static str {
        match self {
            Task::ShowProfile(_) => "show_profile",
            Task::LeaveRooms(_) => "leave_rooms",
            Task::SweepBackups(_) => "sweep_backups",
        }
    }

    /// The user it is about.
    pub fn user(self) -> UserSn {
        match self {
            Task::ShowProfile(user) | Task::LeaveRooms(user) | Task::SweepBackups(user) => user,
        }
    }
}

/// A job that was scheduled: what it does, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// What it does.
    pub task: Task,
    /// The position of the change that made it necessary.
    pub scheduled: Position,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Behind what the task has dealt with, such as the last room that was changed; zero at the beginning.
    pub cursor: u32,
    /// Steps that changed something.
    pub steps: u64,
    /// When it was scheduled, in milliseconds since 1970.
    pub scheduled_ms: u64,
}

impl Record for Progress {}

impl Progress {
    /// After one more step, up to `cursor`.
    pub(crate) fn after_step(self, cursor: u32) -> Self {
        Self {
            cursor,
            steps: self.steps + 1,
            ..self
        }
    }
}

impl Job {
    fn key(self) -> (u8, u32, Position) {
        let (kind, argument) = self.task.stored();
        (kind, argument, self.scheduled)
    }

    /// Moves the row, in the change of a step.
    pub(crate) fn put(self, txn: &mut Txn, progress: &Progress) {
        JOBS.put(txn, &self.key(), progress);
    }
}

/// What became of a step.
pub(crate) enum Step {
    /// There was nothing left to do.
    Done,
    /// Nothing was to be changed up to this cursor.
    Passed(u32),
    /// A change was written, and the row moved with it.
    Written(Progress, Ticket, Touched),
}

/// A job in the making: it is there once the change is committed.
#[must_use = "a job is started after its change was committed"]
pub struct Scheduled(Task);

/// Schedules a job in the change that makes it necessary.
pub fn schedule(txn: &mut Txn, task: Task, now_ms: u64) -> Scheduled {
    let job = Job {
        task,
        scheduled: Position::PENDING,
    };
    let progress = Progress {
        cursor: 0,
        steps: 0,
        scheduled_ms: now_ms,
    };
    job.put(txn, &progress);
    Scheduled(task)
}

/// All jobs that are not done, by what they do.
///
/// # Errors
/// If they can't be read.
pub fn list(from: &impl Read) -> Result<Vec<(Job, Progress)>, NodeError> {
    let mut jobs = Vec::new();
    for row in JOBS.scan(from, &(), Direction::Forward) {
        let ((kind, argument, scheduled), progress) = row?;
        match Task::read((kind, argument)) {
            Some(task) => jobs.push((Job { task, scheduled }, progress)),
            None => tracing::error!(kind, argument, "a job of an unknown kind is left alone"),
        }
    }
    Ok(jobs)
}

/// The jobs that are worked on.
pub(crate) struct Jobs {
    tasks: TaskTracker,
    at_work: Mutex<HashSet<Job>>,
    turns: Semaphore,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            tasks: TaskTracker::new(),
            at_work: Mutex::default(),
            turns: Semaphore::new(MOST_AT_WORK),
        }
    }
}

/// A job that is worked on, whether or not anybody waits for it.
pub struct Running(oneshot::Receiver<()>);

impl Running {
    /// Waits until it is done and can be seen, but no longer than `patience`. True if it is done.
    pub async fn wait(self, patience: Duration) -> bool {
        matches!(tokio::time::timeout(patience, self.0).await, Ok(Ok(())))
    }
}

impl Node {
    /// Starts a job, once its change is committed at `position`.
    pub fn start_job(self: &Arc<Self>, scheduled: Scheduled, position: Position) -> Running {
        self.start(Job {
            task: scheduled.0,
            scheduled: position,
        })
    }

    fn start(self: &Arc<Self>, job: Job) -> Running {
        let (done, heard) = oneshot::channel();
        if self.jobs.at_work.lock().insert(job) {
            let node = Arc::clone(self);
            self.jobs.tasks.spawn(async move {
                let is_done = node.work(job).await;
                node.jobs.at_work.lock().remove(&job);
                if is_done {
                    // Nobody may be waiting any more.
                    let _ = done.send(());
                }
            });
        }
        Running(heard)
    }

    /// Takes up the jobs that an earlier process or a request that went away left, now and every half
    /// minute, until the server stops.
    pub async fn run_jobs(self: &Arc<Self>) {
        loop {
            if let Err(error) = self.resume_jobs() {
                tracing::error!(%error, "the jobs can't be read");
            }
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        self.finish_jobs().await;
    }

    /// Starts every job that nobody works on.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn resume_jobs(self: &Arc<Self>) -> Result<(), NodeError> {
        for (job, progress) in list(&self.view())? {
            if self.jobs.at_work.lock().contains(&job) {
                continue;
            }
            let user_id = names::user_id(&self.view(), job.task.user())?;
            tracing::info!(job = job.task.name(), %user_id, steps = progress.steps, "resuming a job");
            self.start(job);
        }
        Ok(())
    }

    /// Returns when no job is worked on any more: when all are done, or soon after the server was told to
    /// stop.
    pub async fn finish_jobs(&self) {
        self.jobs.tasks.close();
        self.jobs.tasks.wait().await;
    }

    /// Works on a job until it is done, or until the server stops: then it returns false.
    async fn work(&self, job: Job) -> bool {
        let mut rest = FIRST_REST;
        loop {
            let Ok(turn) = self.jobs.turns.acquire().await else {
                return false;
            };
            match self.work_off(job).await {
                Ok(is_done) => return is_done,
                Err(error) => {
                    let name = job.task.name();
                    tracing::warn!(%error, job = name, "a job failed and will be tried again");
                }
            }
            drop(turn);
            tokio::select! {
                () = self.shutdown.cancelled() => return false,
                () = tokio::time::sleep(rest) => {}
            }
            rest = (rest * 2).min(LONGEST_REST);
        }
    }

    async fn work_off(&self, job: Job) -> Result<bool, NodeError> {
        let Some(mut progress) = JOBS.get(&self.store.head(), &job.key())? else {
            return Ok(true);
        };
        loop {
            if self.shutdown.is_cancelled() {
                return Ok(false);
            }
            let (moved, ticket, touched) = match self.step(job, &progress).await? {
                Step::Done => break,
                Step::Passed(cursor) => {
                    progress.cursor = cursor;
                    continue;
                }
                Step::Written(moved, ticket, touched) => (moved, ticket, touched),
            };
            progress = moved;
            if progress.steps.is_multiple_of(STEPS_PER_WAIT) {
                self.durable(ticket, touched).await?;
            } else {
                self.wake_when_durable(ticket, touched);
            }
            if progress.steps.is_multiple_of(STEPS_PER_LINE) {
                let (name, steps) = (job.task.name(), progress.steps);
                tracing::info!(job = name, user = job.task.user().0, steps, "a job goes on");
            }
        }
        let mut txn = self.begin();
        JOBS.delete(&mut txn, &job.key());
        self.commit((), txn, Touched::nobody()).await?;
        let (name, steps) = (job.task.name(), progress.steps);
        tracing::debug!(job = name, user = job.task.user().0, steps, "a job is done");
        Ok(true)
    }

    async fn step(&self, job: Job, progress: &Progress) -> Result<Step, NodeError> {
        match job.task {
            Task::ShowProfile(user) => {
                self.change_next_own(job, progress, user, Action::Join)
                    .await
            }
            Task::LeaveRooms(user) => {
                self.change_next_own(job, progress, user, Action::Leave)
                    .await
            }
            Task::SweepBackups(user) => self.sweep_backups(job, progress, user).await,
        }
    }
}
