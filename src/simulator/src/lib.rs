//! A simulator of many homeservers in one process: the cores of rooms on stores in memory, on a network that delays, loses,
//! doubles and reorders what they say, parts them and takes their power away, with members who do what they may and what
//! they may not, and with one server that builds events by hand.
//!
//! Everything follows from a seed, so a run that fails can be repeated exactly. After every event and at the end all is
//! compared with a reference that works out the room in the plainest way; see [`reference`] and [`comparison`].
//!
//! Deliberately not here: clients, HTTP, real time.

pub mod comparison;
mod draft;
mod exchange;
mod forger;
mod homeserver;
mod inbox;
mod join;
mod network;
mod other;
pub mod people;
pub mod picture;
pub mod random;
mod reading;
pub mod reference;
mod setup;
mod simulation;
mod wire;

use std::fmt;
use std::ops::AddAssign;
use std::panic::{self, AssertUnwindSafe};

use event::RoomVersion;
pub use simulation::Simulation;

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What everything follows from.
    pub seed: u64,
    /// How many steps there are before the end.
    pub steps: u64,
    /// How many servers there are.
    pub servers: usize,
    /// The room version; otherwise it follows from the seed.
    pub version: Option<RoomVersion>,
    /// Whether the states at all events are compared on all servers, not only on one and some on the others.
    pub thorough: bool,
    /// What is done wrongly on purpose.
    pub fault: Option<Fault>,
}

impl Plan {
    /// A run of the usual size.
    pub fn new(seed: u64) -> Self {
        Plan {
            seed,
            steps: 2000,
            servers: 5,
            version: None,
            thorough: false,
            fault: None,
        }
    }

    /// The room version of the run.
    pub fn version(&self) -> RoomVersion {
        let of_seed = RoomVersion::ALL[(self.seed % RoomVersion::ALL.len() as u64) as usize];
        self.version.unwrap_or(of_seed)
    }
}

/// Something done wrongly on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A server does not take in some memberships.
    LosesAnEvent,
    /// A server tells others before its disk is synced.
    SendsBeforeSync,
    /// A server's disk forgets in a crash what it said was safe.
    ForgetsWhatIsSafe,
    /// A server leaves out one event of the states that it answers.
    AnswersAFalseState,
    /// Events are not checked by the state before them. It is the reference that errs, which comes to the same.
    OracleSkipsStateBefore,
    /// States are not resolved, the newest event wins.
    OracleTakesTheNewest,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 6] = [
        Fault::LosesAnEvent,
        Fault::SendsBeforeSync,
        Fault::ForgetsWhatIsSafe,
        Fault::AnswersAFalseState,
        Fault::OracleSkipsStateBefore,
        Fault::OracleTakesTheNewest,
    ];
}

/// Something is not as it must be.
#[derive(Clone, Debug)]
pub struct Trouble(pub String);

impl From<rooms::Error> for Trouble {
    fn from(error: rooms::Error) -> Self {
        Trouble(format!("the core fails: {error}"))
    }
}

impl From<store::StoreError> for Trouble {
    fn from(error: store::StoreError) -> Self {
        Trouble(format!("the store fails: {error}"))
    }
}

impl From<reference::Disagreement> for Trouble {
    fn from(error: reference::Disagreement) -> Self {
        Trouble(error.0)
    }
}

/// What happened in runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Runs.
    pub runs: u64,
    /// Steps, those of the end not counted.
    pub steps: u64,
    /// Events of the rooms.
    pub events: u64,
    /// Things that members did.
    pub acts: u64,
    /// Things that members were refused.
    pub refused: u64,
    /// Events built by hand.
    pub forged: u64,
    /// Of these, what no server may have.
    pub dropped: u64,
    /// Messages between servers.
    pub messages: u64,
    /// Events that servers took in from others.
    pub received: u64,
    /// Of these, rejected.
    pub rejected: u64,
    /// Of these, soft-failed.
    pub soft_failed: u64,
    /// States before an event that were asked for.
    pub gaps: u64,
    /// Events filled in as history from before what a server had.
    pub paged_back: u64,
    /// Rooms taken over with a join.
    pub entered: u64,
    /// Crashes.
    pub crashes: u64,
    /// Merges that had something to resolve.
    pub resolutions: u64,
    /// States compared with the reference.
    pub states_compared: u64,
    /// Runs after which all servers whose users may still speak had the same extremities.
    pub agreeing: u64,
    /// Runs after which they had not, because they had soft-failed different events.
    pub apart_by_soft_failure: u64,
}

impl AddAssign for Statistics {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.events += other.events;
        self.acts += other.acts;
        self.refused += other.refused;
        self.forged += other.forged;
        self.dropped += other.dropped;
        self.messages += other.messages;
        self.received += other.received;
        self.rejected += other.rejected;
        self.soft_failed += other.soft_failed;
        self.gaps += other.gaps;
        self.paged_back += other.paged_back;
        self.entered += other.entered;
        self.crashes += other.crashes;
        self.resolutions += other.resolutions;
        self.states_compared += other.states_compared;
        self.agreeing += other.agreeing;
        self.apart_by_soft_failure += other.apart_by_soft_failure;
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs of {} steps in all: {} events ({} forged, {} more dropped), {} acts and {} refusals; {} messages, {} \
             events received ({} rejected, {} soft-failed), {} states fetched, {} events paged back to, {} rooms entered, {} crashes; {} \
             resolutions, {} states compared; all servers agree in {}, apart by soft failure in {}",
            self.runs,
            self.steps,
            self.events,
            self.forged,
            self.dropped,
            self.acts,
            self.refused,
            self.messages,
            self.received,
            self.rejected,
            self.soft_failed,
            self.gaps,
            self.paged_back,
            self.entered,
            self.crashes,
            self.resolutions,
            self.states_compared,
            self.agreeing,
            self.apart_by_soft_failure,
        )
    }
}

/// A run that ended badly.
#[derive(Debug)]
pub struct Failure {
    /// What was run.
    pub plan: Plan,
    /// The step after which it showed; at the end if it is that of the plan.
    pub step: u64,
    /// What is not as it must be.
    pub trouble: String,
    /// The graph, one event a line.
    pub text: String,
    /// The graph for Graphviz.
    pub graphviz: String,
}

/// Runs a plan to its end.
///
/// # Errors
/// If something is not as it must be, or something panics.
pub fn run(plan: &Plan) -> Result<Statistics, Box<Failure>> {
    let failure = |step, Trouble(trouble), simulation: Option<&Simulation>| {
        Box::new(Failure {
            plan: plan.clone(),
            step,
            trouble,
            text: simulation.map_or_else(String::new, |of| picture::text(of.reference())),
            graphviz: simulation.map_or_else(String::new, |of| picture::graphviz(of.reference())),
        })
    };
    let made = caught(|| Simulation::new(plan));
    let mut simulation = made.map_err(|trouble| failure(0, trouble, None))?;
    for step in 0..plan.steps {
        let moved = caught(|| simulation.step());
        moved.map_err(|trouble| failure(step, trouble, Some(&simulation)))?;
    }
    let ended = caught(|| simulation.finish());
    ended.map_err(|trouble| failure(plan.steps, trouble, Some(&simulation)))?;
    let mut statistics = *simulation.statistics();
    statistics.runs = 1;
    statistics.steps = plan.steps;
    statistics.events = simulation.reference().entries().len() as u64;
    statistics.resolutions = simulation.reference().resolutions as u64;
    Ok(statistics)
}

/// A panic is trouble like any other.
fn caught<T>(work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Trouble(format!("panic: {}", text.unwrap_or("?"))))
    })
}

/// The shortest run of the same seed that fails too, by trying ever fewer steps.
pub fn shrink(failure: Box<Failure>) -> Box<Failure> {
    let mut shortest = failure;
    // What shows in a step needs no end; what shows at the end may do so after fewer steps.
    for _ in 0..MOST_SHRINKS {
        let steps = shortest.plan.steps;
        let tried = [
            steps / 2,
            steps * 3 / 4,
            steps * 9 / 10,
            steps.saturating_sub(1),
        ];
        let shorter = tried
            .into_iter()
            .filter(|fewer| *fewer < steps)
            .find_map(|steps| {
                let plan = Plan {
                    steps,
                    ..shortest.plan.clone()
                };
                run(&plan).err()
            });
        match shorter {
            Some(shorter) => shortest = shorter,
            None => break,
        }
    }
    shortest
}

const MOST_SHRINKS: usize = 60;
