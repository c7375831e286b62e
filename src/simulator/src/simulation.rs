//! One run: servers, members and a network, moved on by one step at a time, all by chance of one seed.
//!
//! A step is one action of the scheduler: a message arrives, a member acts, a disk is synced, a server crashes or starts,
//! the network parts or heals. What a server is to do with what it gets is in [`crate::exchange`], what must hold then
//! in [`crate::comparison`].

use std::rc::Rc;

use event::{RoomRules, SigningKey};

use crate::comparison::Holding;
use crate::forger::{Forger, KEY_VERSION};
use crate::homeserver::{Done, Homeserver, Made};
use crate::network::{Message, Network, Parcel};
use crate::people::{Intention, People, server_name};
use crate::random::Random;
use crate::reference::{Learned, Reference};
use crate::setup::NewRoom;
use crate::wire::{Keyring, Wire, Wires};
use crate::{Fault, Plan, Statistics, Trouble};

/// When the simulated time begins, in ms since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// Users on each server.
const USERS: usize = 3;
/// The server that a fault is in.
pub(crate) const FAULTY: usize = 1;

/// A run.
pub struct Simulation {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) now_ms: u64,
    pub(crate) rules: &'static RoomRules,
    pub(crate) people: People,
    pub(crate) servers: Vec<Homeserver>,
    pub(crate) holdings: Vec<Holding>,
    pub(crate) network: Network,
    pub(crate) wires: Wires,
    pub(crate) reference: Reference,
    /// By server: events that it made and that are not safe yet.
    unsafe_yet: Vec<Vec<usize>>,
    forger: Option<usize>,
    /// Ids of events of other rooms, one on each server.
    elsewhere: Vec<String>,
    parted: bool,
    pub(crate) statistics: Statistics,
}

#[derive(Clone, Copy)]
enum Step {
    Act,
    Forge,
    ForgeMany,
    JoinFromAfar,
    Sync,
    Nudge,
    PageBack,
    Crash,
    Start,
    Part,
    Heal,
}

const STEPS: [(u32, Step); 11] = [
    (200, Step::Act),
    (45, Step::Forge),
    (1, Step::ForgeMany),
    (6, Step::JoinFromAfar),
    (50, Step::Sync),
    (12, Step::Nudge),
    (16, Step::PageBack),
    (3, Step::Crash),
    (20, Step::Start),
    (3, Step::Part),
    (8, Step::Heal),
];

impl Simulation {
    /// Makes the servers and the room, and lets most servers join.
    ///
    /// # Errors
    /// If something is not as it must be.
    pub fn new(plan: &Plan) -> Result<Self, Trouble> {
        let mut random = Random::new(plan.seed);
        let version = plan.version();
        let people = People::new(plan.servers, USERS);
        let mut keys = Keyring::default();
        let mut servers = Vec::with_capacity(plan.servers);
        for server in 0..plan.servers {
            let key = SigningKey::from_seed(&server_name(server), KEY_VERSION, random.bytes())
                .map_err(|error| Trouble(error.to_string()))?;
            keys.add(&key);
            servers.push(Homeserver::new(key, random.below(120_000) as u64)?);
        }
        let mut elsewhere = Vec::new();
        for (host, users) in servers.iter_mut().zip(&people.of) {
            let room = NewRoom::any(&mut random, version, &users[0], &people);
            // Not at the same time as the room of the run, of which it could be the twin.
            let made = host.create(BEGIN_MS - 1000, &room)?;
            elsewhere.extend(made.into_iter().map(|event| event.event_id.to_string()));
        }
        let room = NewRoom::any(&mut random, version, &people.of[0][0], &people);
        let made = servers[0].create(BEGIN_MS, &room)?;
        let room_id = servers[0].room_id().to_owned();
        for server in &mut servers {
            server.set_room(&room_id);
        }
        let forger = (plan.servers > 2 && random.chance(800)).then_some(plan.servers - 1);
        let network = Network::new(random.one_of([0, 20, 50, 150]), random.one_of([0, 30, 100]));
        let mut simulation = Simulation {
            plan: plan.clone(),
            now_ms: BEGIN_MS + 1000,
            rules: version.rules(),
            holdings: (0..plan.servers).map(|_| Holding::default()).collect(),
            unsafe_yet: vec![Vec::new(); plan.servers],
            people,
            servers,
            network,
            wires: Wires::new(version.rules(), keys),
            reference: Reference::new(version.rules(), &room_id, plan.fault),
            forger,
            elsewhere,
            parted: false,
            random,
            statistics: Statistics::default(),
        };
        simulation.made(0, made, "setup")?;
        simulation.sync(0)?;
        for server in 1..plan.servers {
            if simulation.random.chance(850) {
                let user = simulation.people.of[server][0].clone();
                simulation.join_from_afar(0, server, &user)?;
            }
        }
        Ok(simulation)
    }

    /// What the room must be.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What happened so far.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Moves on by one step.
    ///
    /// # Errors
    /// If something is not as it must be.
    pub fn step(&mut self) -> Result<(), Trouble> {
        self.now_ms += 1 + self.random.below(30) as u64;
        let deliver = (500 + 10 * self.network.len() as u64).min(950);
        if !self.network.is_empty() && self.random.chance(deliver) {
            return self.deliver();
        }
        let server = self.random.below(self.servers.len());
        match self.random.weighted(&STEPS).unwrap_or(Step::Act) {
            Step::Act => self.act(server),
            Step::Forge => self.forge(),
            Step::ForgeMany => {
                // More extremities than an event may follow. Seldom, as it takes long to resolve.
                for _ in 0..self.random.one_of([0, 0, 5, 25]) {
                    self.forge()?;
                }
                Ok(())
            }
            Step::JoinFromAfar => {
                let joining = self.random.below(self.servers.len());
                let user = self.random.pick(&self.people.of[joining]).cloned();
                self.join_from_afar(server, joining, &user.unwrap_or_default())
            }
            Step::Sync => self.sync(server),
            Step::Nudge => {
                let (random, count) = (&mut self.random, self.servers.len());
                self.servers[server].inbox.nudge(|| random.below(count));
                self.work(server)
            }
            Step::PageBack => {
                let other = self.random.below(self.servers.len());
                self.page_back(server, other)
            }
            Step::Crash => self.crash(server),
            Step::Start => self.start(server),
            Step::Part => {
                let sides = self
                    .servers
                    .iter()
                    .map(|_| self.random.chance(500))
                    .collect();
                self.network.part(sides);
                self.parted = true;
                Ok(())
            }
            Step::Heal => {
                self.network.heal();
                self.parted = false;
                Ok(())
            }
        }
    }

    /// A member does something at their server.
    pub(crate) fn act(&mut self, server: usize) -> Result<(), Trouble> {
        if !self.servers[server].is_in_room() {
            return Ok(());
        }
        let sight = &self.servers[server];
        let actor = self.people.actor(&mut self.random, server, sight);
        let wanted = self
            .people
            .intention(&mut self.random, self.rules, actor, sight);
        self.try_out(server, &wanted)?;
        if self.random.chance(600) || self.plan.fault == Some(Fault::SendsBeforeSync) {
            self.sync(server)?;
        }
        Ok(())
    }

    /// Whether something that a user wants was done.
    pub(crate) fn try_out(&mut self, server: usize, wanted: &Intention) -> Result<bool, Trouble> {
        match self.servers[server].act(self.now_ms, wanted)? {
            Done::Made(made) => {
                self.statistics.acts += 1;
                self.made(server, made, wanted.name)?;
                Ok(true)
            }
            Done::Refused(error) => {
                self.statistics.refused += 1;
                self.check_refusal(server, wanted, error)?;
                Ok(false)
            }
            Done::Impossible => Ok(false),
        }
    }

    /// A server made events: they are learned, and stand on everything that it had.
    fn made(
        &mut self,
        server: usize,
        made: Vec<Made>,
        intent: &'static str,
    ) -> Result<(), Trouble> {
        for event in made {
            let number = self.learn(&event.bytes, intent)?.ok_or_else(|| {
                Trouble(format!(
                    "server {server} made {} which nobody may have",
                    event.event_id
                ))
            })?;
            let entry = self.reference.entry(number);
            if let Some(error) = &entry.rejected {
                return Err(Trouble(format!(
                    "server {server} made #{number}, which is to be rejected: {error}"
                )));
            }
            if *entry.pdu().event_id() != event.event_id {
                return Err(Trouble(format!(
                    "server {server} has another id for #{number}: {}",
                    event.event_id
                )));
            }
            self.holdings[server].place(number, false);
            self.unsafe_yet[server].push(number);
        }
        self.check_extremities(server)
    }

    /// Learns an event; nothing if no server may have it.
    pub(crate) fn learn(
        &mut self,
        bytes: &str,
        intent: &'static str,
    ) -> Result<Option<usize>, Trouble> {
        match self.reference.learn(bytes, self.wires.keys(), intent)? {
            Learned::Known(number) => Ok(Some(number)),
            Learned::Dropped(_) => Ok(None),
        }
    }

    /// The disk is synced, and whoever was to be told is told.
    pub(crate) fn sync(&mut self, server: usize) -> Result<(), Trouble> {
        if !self.servers[server].is_up() {
            return Ok(());
        }
        let faulty = self.plan.fault == Some(Fault::SendsBeforeSync) && server == FAULTY;
        if !faulty {
            self.servers[server].sync()?;
            self.holdings[server].make_safe();
        }
        for number in std::mem::take(&mut self.unsafe_yet[server]) {
            self.reference.publish(number);
            self.holdings[server].acknowledged.push(number);
            let wire = self.wire_of(number);
            self.broadcast(server, &wire);
        }
        Ok(())
    }

    /// An event as a server that has it sends it.
    pub(crate) fn wire_of(&mut self, number: usize) -> Rc<Wire> {
        self.wires.wire(self.reference.entry(number).pdu().json())
    }

    pub(crate) fn broadcast(&mut self, from: usize, wire: &Rc<Wire>) {
        for to in 0..self.servers.len() {
            if to != from {
                self.send(from, to, Message::Push(vec![wire.clone()]));
            }
        }
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, message: Message) {
        self.statistics.messages += 1;
        self.network
            .send(&mut self.random, self.now_ms, Parcel { from, to, message });
    }

    /// A server builds an event by hand and shows it to some.
    fn forge(&mut self) -> Result<(), Trouble> {
        let Some(server) = self.forger else {
            return Ok(());
        };
        if !self.servers[server].is_in_room() {
            return Ok(());
        }
        self.sync(server)?;
        let forger = Forger {
            people: &self.people,
            server,
            key: &self.servers[server].key,
            held: self.holdings[server].placed().collect(),
            elsewhere: &self.elsewhere,
            now_ms: self.now_ms,
        };
        let Some(forgery) = forger.forge(&mut self.random, &mut self.reference)? else {
            return Ok(());
        };
        self.statistics.forged += 1;
        let number = self.learn(&forgery.bytes, forgery.intent)?;
        let wire = self.wires.wire(&forgery.bytes);
        if number.is_some() != wire.verified.is_ok() && number.is_some() {
            return Err(Trouble(format!(
                "{}: it is refused by its form: {}",
                forgery.intent, forgery.bytes
            )));
        }
        self.servers[server].inbox.put(&wire, server, false);
        self.work(server)?;
        self.servers[server].sync()?;
        self.holdings[server].make_safe();
        match number {
            Some(number) if self.holdings[server].is_placed(number) => {
                self.reference.publish(number)
            }
            Some(number) => {
                return Err(Trouble(format!(
                    "server {server} does not take in its own #{number}"
                )));
            }
            None => self.statistics.dropped += 1,
        }
        for to in 0..self.servers.len() {
            if to != server && self.random.chance(600) {
                self.send(server, to, Message::Push(vec![wire.clone()]));
            }
        }
        Ok(())
    }

    /// The power goes, and a server with it.
    fn crash(&mut self, server: usize) -> Result<(), Trouble> {
        if !self.servers[server].is_up() {
            return Ok(());
        }
        self.statistics.crashes += 1;
        let forgets = self.plan.fault == Some(Fault::ForgetsWhatIsSafe) && server == FAULTY;
        self.servers[server].crash(&mut self.random, forgets);
        self.unsafe_yet[server].clear();
        Ok(())
    }

    /// A server comes back.
    pub(crate) fn start(&mut self, server: usize) -> Result<(), Trouble> {
        if self.servers[server].is_up() {
            return Ok(());
        }
        self.servers[server].start()?;
        let safe = std::mem::take(&mut self.holdings[server].safe);
        self.rescan(server)?;
        for number in safe
            .iter()
            .copied()
            .chain(self.holdings[server].acknowledged.clone())
        {
            if !self.holdings[server].has(number) {
                return Err(Trouble(format!(
                    "server {server} lost #{number} in a crash, though it was safe"
                )));
            }
        }
        self.servers[server].sync()?;
        self.holdings[server].make_safe();
        if self.servers[server].is_in_room() {
            self.check_extremities(server)?;
            self.check_tables(server)?;
        }
        Ok(())
    }

    /// The network is whole again and loses nothing, and all servers run.
    pub(crate) fn recover(&mut self) -> Result<(), Trouble> {
        self.network.heal();
        self.network.lost = 0;
        self.network.doubled = 0;
        for server in 0..self.servers.len() {
            self.start(server)?;
            self.sync(server)?;
        }
        Ok(())
    }
}
