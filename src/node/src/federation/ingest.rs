//! Taking in the events of a room that other servers send. What an event needs and this server does not have is
//! fetched from who sent it: first the events before it, then, where there are too many of these, the state that
//! one of them stands on, and what authorises them.
//!
//! Invariants:
//! - No lock is held while a peer is waited for; so a slow peer delays what it sent itself and nothing else.
//! - The rounds of fetching, the events fetched and the time are bounded for each call.
//! - What was kept before something could not be fetched stays: asked again, it is known.
//! - Of a room whose members are not all known nothing is fetched here: what can't be judged yet is held ([`rooms::partial`]).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event::{EventId, RoomRules};
use names::RoomSn;
use rooms::ingest::{self, Arrival, Need, Received, Refusal, Verdict, Verified};
use rooms::{RoomWriter, event_log, held, partial};
use store::Read;
use tokio::task::JoinSet;

use crate::room::touched;
use crate::{Guard, Lane, Lock, Node, NodeError, Touched, Turn};

/// Requests to the peer for what is missing, for one call.
const MOST_ROUNDS: u32 = 24;

/// Requests for the events before one, before its state is asked for instead.
const MOST_GAP_ROUNDS: u32 = 5;

/// Events asked for in one such request: others give no more.
const GAP_LIMIT: usize = 20;

/// Missing events of a state that are fetched one by one; more are fetched with the whole state.
const MOST_SINGLE_EVENTS: usize = 100;

/// Single events fetched at once.
const AT_ONCE: usize = 8;

/// How long one call may fetch.
const PATIENCE: Duration = Duration::from_secs(90);

/// Events kept in one change.
const EVENTS_PER_CHANGE: usize = 100;

/// Events kept in one change while users of this server write something: about a millisecond.
const EVENTS_BESIDE_USERS: usize = 32;

/// Events kept in one change while others wait for the room: it is theirs again after half a millisecond.
const EVENTS_WHILE_AWAITED: usize = 4;

/// How an event comes into the room.
#[derive(Clone, Debug)]
enum Way {
    Live,
    AfterGap(Arc<[EventId]>),
    Outlier,
}

#[derive(Clone, Debug)]
struct Item {
    event: Verified,
    way: Way,
    /// It was sent, and not only fetched: what becomes of it is answered.
    is_asked: bool,
}

/// What became of one event.
pub type Outcome = Result<Verdict, NodeError>;

/// Outcomes by event id; a known event has none but that it is known, as [`Verdict::Accepted`].
pub type Outcomes = Vec<(EventId, Outcome)>;

/// What is left after some events were kept.
struct Kept {
    rest: VecDeque<Item>,
    outcomes: Outcomes,
    /// Those of the events that were sent, and not only fetched, which are new and count.
    new: Vec<EventId>,
    need: Option<Need>,
}

/// What is fetched from one peer for one call.
pub(super) struct Ingest<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) room: RoomSn,
    pub(super) room_id: &'a str,
    pub(super) rules: &'static RoomRules,
    pub(super) peer: &'a str,
    /// Whom the work is done for.
    account: Arc<str>,
    /// What is kept of the events that were sent is passed on to the other servers of the room.
    passes_on: bool,
    rounds: u32,
    gap_rounds: u32,
    /// The peer does not tell auth chains: their events are asked for.
    tells_no_chains: bool,
    /// Events that could not be had, or what they need: not asked for again.
    lost: HashSet<EventId>,
    /// What can't be judged before the room's members are known is held.
    holds: bool,
    until: Instant,
}

impl Node {
    /// Takes in events of a room that `peer` sent, in their order.
    ///
    /// # Errors
    /// If the room is not known here or the store fails; what is wrong with one event is its own outcome.
    pub async fn take_in(
        self: &Arc<Self>,
        room: RoomSn,
        room_id: &str,
        peer: &str,
        events: Vec<Verified>,
    ) -> Result<Outcomes, NodeError> {
        let mut ingest = Ingest::new(self, room, room_id, peer)?;
        let events = self.with_opinions(room, ingest.rules, events).await?;
        ingest.run(live(events)).await
    }
}

/// Events that were sent.
fn live(events: Vec<Verified>) -> VecDeque<Item> {
    let items = events.into_iter().map(|event| Item {
        event,
        way: Way::Live,
        is_asked: true,
    });
    items.collect()
}

impl Node {
    /// Takes in one event that has to count. It is not held where the members of its room are not known.
    ///
    /// # Errors
    /// As [`Node::take_in`]; [`rooms::Error::NotAllowed`], [`rooms::Error::NotRecommended`] if it does not count;
    /// [`NodeError::MembersMissing`].
    pub async fn take_in_one(
        self: &Arc<Self>,
        room: RoomSn,
        room_id: &str,
        peer: &str,
        event: Verified,
    ) -> Result<(), NodeError> {
        let ingest = Ingest::new(self, room, room_id, peer)?;
        ingest.must_count(event).await
    }

    /// Takes in one event that has to count, and that comes into the room by this server: in the same change it is
    /// noted for the other servers of the room.
    ///
    /// # Errors
    /// As [`Node::take_in_one`].
    pub(crate) async fn take_in_and_pass_on(
        self: &Arc<Self>,
        room: RoomSn,
        room_id: &str,
        peer: &str,
        event: Verified,
    ) -> Result<(), NodeError> {
        let mut ingest = Ingest::new(self, room, room_id, peer)?;
        ingest.passes_on = true;
        ingest.must_count(event).await
    }
}

impl Ingest<'_> {
    async fn must_count(mut self, event: Verified) -> Result<(), NodeError> {
        self.holds = false;
        for (_, outcome) in self.run(live(vec![event])).await? {
            outcome?.must_count()?;
        }
        Ok(())
    }
}

impl<'a> Ingest<'a> {
    pub(super) fn new(
        node: &'a Arc<Node>,
        room: RoomSn,
        room_id: &'a str,
        peer: &'a str,
    ) -> Result<Self, NodeError> {
        let head = event_log::head(&node.store().head(), room)?;
        let head = head.ok_or(rooms::Error::UnknownRoom)?;
        let rules = head
            .rules()
            .ok_or_else(|| rooms::Error::UnsupportedVersion(head.version.clone()))?;
        Ok(Self {
            node,
            room,
            room_id,
            rules,
            peer,
            account: peer.into(),
            passes_on: false,
            rounds: 0,
            gap_rounds: 0,
            tells_no_chains: false,
            lost: HashSet::new(),
            holds: true,
            until: Instant::now() + PATIENCE,
        })
    }

    /// Takes in events, each after what it needs.
    async fn run(&mut self, mut items: VecDeque<Item>) -> Result<Outcomes, NodeError> {
        let mut outcomes = Outcomes::new();
        while !items.is_empty() {
            let kept = self.keep(items).await?;
            items = kept.rest;
            if !kept.outcomes.is_empty() {
                // Each event that was sent may need as much: the time for all of them is what is bounded.
                (self.rounds, self.gap_rounds) = (0, 0);
            }
            outcomes.extend(kept.outcomes);
            let Some(need) = kept.need else { continue };
            if !matches!(need, Need::Users(_)) && self.lacks_members()? {
                outcomes.extend(self.hold(&mut items).await?);
                continue;
            }
            let Some(item) = items.pop_front() else {
                continue;
            };
            if let Need::Opinion(server) = &need {
                let event = item.event;
                let event = self.node.with_opinion(server, self.rules, event).await;
                items.push_front(Item { event, ..item });
                continue;
            }
            match self.provide(&item, need).await {
                Ok(Provided { before, way }) => {
                    items.push_front(Item { way, ..item });
                    for event in before.into_iter().rev() {
                        items.push_front(event);
                    }
                }
                Err(error) => {
                    self.lost.insert(item.event.pdu().event_id().clone());
                    tracing::debug!(
                        room = self.room_id, peer = self.peer, event = %item.event.pdu().event_id(), %error,
                        "an event was dropped for what it needs"
                    );
                    if item.is_asked {
                        outcomes.push((item.event.pdu().event_id().clone(), Err(error)));
                    }
                }
            }
        }
        Ok(outcomes)
    }

    /// Whether the room's members are not all known.
    fn lacks_members(&self) -> Result<bool, NodeError> {
        Ok(partial::is_partial(&self.node.store().head(), self.room)?)
    }

    /// Holds events until the room's members are known: the first, which can't be judged before, and the others, which most
    /// likely follow it. Leaves them if the members are known by now.
    async fn hold(&self, items: &mut VecDeque<Item>) -> Result<Outcomes, NodeError> {
        let guard = self.node.lock(Lock::Room(self.room)).await;
        let mut txn = self.node.begin();
        if !partial::is_partial(&txn, self.room)? {
            return Ok(Outcomes::new());
        }
        let mut outcomes = Outcomes::new();
        for item in items.drain(..) {
            let pdu = item.event.pdu();
            let is_held = self.holds && held::hold(&mut txn, self.room, self.peer, pdu)?;
            if self.holds && !is_held {
                tracing::debug!(room = self.room_id, event = %pdu.event_id(), "there is no place to hold an event");
            }
            if item.is_asked {
                outcomes.push((pdu.event_id().clone(), Err(NodeError::MembersMissing)));
            }
        }
        self.node.commit(guard, txn, Touched::nobody()).await?;
        Ok(outcomes)
    }

    /// Keeps the first events, up to one that needs something, in one change.
    async fn keep(&self, items: VecDeque<Item>) -> Result<Kept, NodeError> {
        let arrivals = self.node.lock(Lock::Arrivals(self.room)).await;
        let (mut turn, guard) = self.turn_in_room().await?;
        let (node, room, passes_on) = (Arc::clone(self.node), self.room, self.passes_on);
        let work = move || -> Result<_, NodeError> {
            turn.run(|pace| {
                let mut txn = node.begin();
                let mut writer = RoomWriter::open(&mut txn, node.room_context(), room)?;
                let is_enough = |kept| {
                    if !guard.is_awaited() {
                        // Who waits for the room waits for this thread.
                        pace.step();
                    }
                    kept >= EVENTS_PER_CHANGE
                        || kept >= EVENTS_BESIDE_USERS && node.budget().is_wanted_by_users()
                        || kept >= EVENTS_WHILE_AWAITED && guard.is_awaited()
                };
                let kept = receive(&mut writer, items, is_enough)?;
                let mut touched = touched(room, &writer.finish());
                for event_id in kept.new.iter().filter(|_| passes_on) {
                    node.note_passed_on(&mut txn, room, event_id, &mut touched)?;
                }
                node.load_audience(&touched)?;
                let touched = match txn.is_empty() {
                    true => Touched::nobody(),
                    false => touched,
                };
                let ticket = node.write_change(txn, &touched)?;
                drop((guard, arrivals));
                Ok((ticket, touched, kept))
            })
        };
        let (ticket, touched, kept) = self.node.run(Lane::Bulk, work).await??;
        self.node.durable(ticket, touched).await?;
        Ok(kept)
    }

    /// The right to change the room, and a turn to do it. Who has the turn does not wait for the room, which may be
    /// in use for long, and who has the room does not wait for the turn.
    async fn turn_in_room(&self) -> Result<(Turn, Guard), NodeError> {
        let budget = self.node.budget();
        let turn = budget.turn(&self.account).await?;
        if let Some(guard) = self.node.try_lock(Lock::Room(self.room)) {
            return Ok((turn, guard));
        }
        drop(turn);
        let guard = self.node.lock(Lock::Room(self.room)).await;
        Ok((budget.turn_now(&self.account), guard))
    }

    /// One more request to the peer, if the bounds allow it.
    pub(super) fn take_round(&mut self) -> Result<(), NodeError> {
        self.rounds += 1;
        if self.rounds > MOST_ROUNDS || Instant::now() > self.until {
            return Err(NodeError::Unobtainable("it would take too many requests"));
        }
        Ok(())
    }

    async fn provide(&mut self, item: &Item, need: Need) -> Result<Provided, NodeError> {
        let event_id = item.event.pdu().event_id();
        let missing = match &need {
            Need::AuthEvents(missing) | Need::State(missing) => missing.as_slice(),
            Need::Users(_) | Need::PrevEvents(_) | Need::Opinion(_) | Need::Members => &[],
        };
        if missing.iter().any(|id| self.lost.contains(id)) {
            return Err(NodeError::Unobtainable("it rests on what can't be had"));
        }
        match need {
            Need::Users(users) => {
                self.node.names().number_users(self.node.store(), &users)?;
                Ok(Provided::same(item))
            }
            Need::Opinion(_) => Ok(Provided::same(item)),
            // They became known between two looks.
            Need::Members => Ok(Provided::same(item)),
            Need::PrevEvents(_) => self.fill_gap(item).await,
            // What it follows brings most of what authorises it.
            Need::AuthEvents(_) if self.follows_a_gap(item)? => self.fill_gap(item).await,
            Need::AuthEvents(missing) => {
                self.take_round()?;
                let before = self.authorising(event_id, &missing).await?;
                self.must_bring_something(item, &missing, before)
            }
            Need::State(missing) => {
                self.take_round()?;
                let before = if missing.len() > MOST_SINGLE_EVENTS {
                    let (node, peer) = (self.node, self.peer);
                    let events = node.fetch_state(peer, self.room_id, event_id).await?;
                    self.outliers(events).await?
                } else {
                    self.single_events(&missing).await?
                };
                self.must_bring_something(item, &missing, before)
            }
        }
    }

    /// Whether an event that came live follows what is not here.
    fn follows_a_gap(&self, item: &Item) -> Result<bool, NodeError> {
        Ok(matches!(item.way, Way::Live) && self.missing_before(item)? > 0)
    }

    /// How many events that one follows are not here.
    fn missing_before(&self, item: &Item) -> Result<usize, NodeError> {
        let head = self.node.store().head();
        let mut missing = 0;
        for id in item.event.pdu().prev_events() {
            missing += usize::from(event_log::find_in(&head, self.room, id)?.is_none());
        }
        Ok(missing)
    }

    /// The events that authorise one, with all that authorise those if the peer tells it.
    async fn authorising(
        &mut self,
        event_id: &EventId,
        missing: &[EventId],
    ) -> Result<Vec<Item>, NodeError> {
        if !self.tells_no_chains {
            let (node, peer) = (self.node, self.peer);
            match node.fetch_event_auth(peer, self.room_id, event_id).await {
                Ok(events) => return self.outliers(events).await,
                Err(error) => {
                    tracing::debug!(%error, peer, "no auth chain, asking for its events");
                    self.tells_no_chains = true;
                }
            }
        }
        self.single_events(missing).await
    }

    /// Something of what was missing, by the peer or by another on the way meanwhile.
    fn must_bring_something(
        &self,
        item: &Item,
        missing: &[EventId],
        before: Vec<Item>,
    ) -> Result<Provided, NodeError> {
        let head = self.node.store().head();
        let still = missing_of(&head, self.room, missing.to_vec())?;
        if before.is_empty() && still.len() == missing.len() {
            return Err(NodeError::Unobtainable("the peer does not have it"));
        }
        Ok(Provided {
            before,
            way: item.way.clone(),
        })
    }

    /// The events before one that came live; or the state that it stands on.
    async fn fill_gap(&mut self, item: &Item) -> Result<Provided, NodeError> {
        let missing = self.missing_before(item)?;
        if missing == 0 {
            return Ok(Provided::same(item));
        }
        if self.gap_rounds < MOST_GAP_ROUNDS
            && let Some(provided) = self.events_before(item, missing).await?
        {
            return Ok(provided);
        }
        if item.is_asked {
            // It could become the only newest event of the room here, with the state that its sender says it has.
            let why = "the events before it are not given";
            return Err(NodeError::Unobtainable(why));
        }
        let (before, state) = self.state_at(item.event.pdu().event_id()).await?;
        Ok(Provided {
            before,
            way: Way::AfterGap(state.into()),
        })
    }

    /// Events that lead to one that came live, of whose predecessors so many were missing; nothing if the peer gives
    /// none of these.
    async fn events_before(
        &mut self,
        item: &Item,
        missing: usize,
    ) -> Result<Option<Provided>, NodeError> {
        self.gap_rounds += 1;
        self.take_round()?;
        let head = event_log::head(&self.node.store().head(), self.room)?;
        let head = head.ok_or(rooms::Error::UnknownRoom)?;
        let known = head.extremities.into_iter().map(|(_, id)| id);
        let known: Vec<String> = known.take(GAP_LIMIT).collect();
        let (node, peer, event_id) = (self.node, self.peer, item.event.pdu().event_id());
        let events = node
            .fetch_missing_events(peer, self.room_id, event_id, &known, GAP_LIMIT)
            .await;
        let (events, malformed) = match events {
            Ok(events) => self.judged(events, Known::ByPlace).await?,
            Err(error) => {
                tracing::debug!(%error, peer, "no missing events");
                (Vec::new(), false)
            }
        };
        let events = ingest::in_prev_order(events)?;
        let is_given = events.iter().any(|event| {
            let mut prev_events = item.event.pdu().prev_events();
            prev_events.any(|id| event.pdu().event_id().as_str() == id)
        });
        // What is missing may have come from who made it, while another was asked for it.
        if !is_given && self.missing_before(item)? == missing {
            if malformed {
                // What follows it would stand on something that can't be told.
                let why = "it follows something that is no event";
                return Err(NodeError::Unobtainable(why));
            }
            return Ok(None);
        }
        let events = node.with_opinions(self.room, self.rules, events).await?;
        let before = events.into_iter().map(|event| Item {
            event,
            way: Way::Live,
            is_asked: false,
        });
        Ok(Some(Provided {
            before: before.collect(),
            way: Way::Live,
        }))
    }

    /// The state before an event, as the peer has it; and those of its events that are not here.
    async fn state_at(
        &mut self,
        event_id: &EventId,
    ) -> Result<(Vec<Item>, Vec<EventId>), NodeError> {
        self.take_round()?;
        let (node, peer) = (self.node, self.peer);
        let state = node.fetch_state_ids(peer, self.room_id, event_id).await?;
        let mut missing = state.auth_chain;
        missing.extend_from_slice(&state.state);
        let missing = missing_of(&node.store().head(), self.room, missing)?;
        let before = if missing.is_empty() {
            Vec::new()
        } else if missing.len() > MOST_SINGLE_EVENTS {
            self.take_round()?;
            let events = node.fetch_state(peer, self.room_id, event_id).await?;
            self.outliers(events).await?
        } else {
            self.single_events(&missing).await?
        };
        Ok((before, state.state))
    }

    /// Keeps the state before an event, as the peer has it, as outliers; its ids.
    pub(super) async fn keep_state_at(
        &mut self,
        event_id: &EventId,
    ) -> Result<Vec<EventId>, NodeError> {
        let (before, state) = self.state_at(event_id).await?;
        self.run(before.into()).await?;
        Ok(state)
    }

    /// Fetches events one by one and keeps them as outliers.
    pub(super) async fn keep_single_events(&mut self, ids: &[EventId]) -> Result<(), NodeError> {
        self.take_round()?;
        let items = self.single_events(ids).await?;
        self.run(items.into()).await?;
        Ok(())
    }

    /// Fetches events one by one; those that can't be had are left out.
    async fn single_events(&mut self, ids: &[EventId]) -> Result<Vec<Item>, NodeError> {
        let mut fetched: Vec<Bytes> = Vec::with_capacity(ids.len());
        for ids in ids.chunks(AT_ONCE) {
            let mut requests = JoinSet::new();
            for id in ids {
                let (node, peer) = (Arc::clone(self.node), self.peer.to_owned());
                let id = id.clone();
                requests.spawn(async move {
                    let event = node.fetch_event(&peer, &id).await;
                    (id, event)
                });
            }
            while let Some(answer) = requests.join_next().await {
                match answer {
                    Ok((_, Ok(event))) => fetched.push(event),
                    Ok((id, Err(error))) => {
                        tracing::debug!(%error, peer = self.peer, "an event is not there");
                        self.lost.insert(id);
                    }
                    Err(error) => tracing::debug!(%error, "a request was broken off"),
                }
            }
            if Instant::now() > self.until {
                break;
            }
        }
        self.outliers(fetched).await
    }

    /// Those of the events that are not here yet, as outliers, each after those that authorise it.
    async fn outliers(&self, events: Vec<Bytes>) -> Result<Vec<Item>, NodeError> {
        let events = self.new_events(events).await?;
        let events = ingest::in_auth_order(events)?;
        let items = events.into_iter().map(|event| Item {
            event,
            way: Way::Outlier,
            is_asked: false,
        });
        Ok(items.collect())
    }

    /// Those of the events that hold, are of the room, and are not here yet.
    pub(super) async fn new_events(&self, events: Vec<Bytes>) -> Result<Vec<Verified>, NodeError> {
        Ok(self.judged(events, Known::AtAll).await?.0)
    }

    /// Those of the events that hold, are of the room, and have no place in its history yet.
    pub(super) async fn events_without_place(
        &self,
        events: Vec<Bytes>,
    ) -> Result<Vec<Verified>, NodeError> {
        Ok(self.judged(events, Known::ByPlace).await?.0)
    }

    /// Those that hold, are of the room and not `known`, and whether anything among them is no event at all.
    async fn judged(
        &self,
        events: Vec<Bytes>,
        known: Known,
    ) -> Result<(Vec<Verified>, bool), NodeError> {
        let verified = self
            .node
            .verify_events_for(&self.account, self.rules, events)
            .await?;
        let mut new: BTreeMap<EventId, Verified> = BTreeMap::new();
        let mut malformed = false;
        for event in verified {
            match event {
                Ok(event) if event.pdu().room_id() == self.room_id => {
                    new.insert(event.pdu().event_id().clone(), event);
                }
                Ok(_) => tracing::debug!(peer = self.peer, "got an event of another room"),
                Err(error) => {
                    malformed |= matches!(error, Refusal::Format(_));
                    tracing::debug!(%error, peer = self.peer, "got a bad event");
                }
            }
        }
        let head = self.node.store().head();
        for id in new.keys().cloned().collect::<Vec<EventId>>() {
            let is_known = match known {
                Known::AtAll => ingest::is_here(&head, self.room, &id)?,
                Known::ByPlace => event_log::find_in(&head, self.room, &id)?.is_some(),
            };
            if is_known {
                new.remove(&id);
            }
        }
        Ok((new.into_values().collect(), malformed))
    }
}

/// Which events are not new.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// All that are here, outliers too.
    AtAll,
    /// Those that have a place in the room's history: an outlier gets one when it comes as part of that.
    ByPlace,
}

/// What an event needed, to be taken in before it; and how it comes then.
struct Provided {
    before: Vec<Item>,
    way: Way,
}

impl Provided {
    fn same(item: &Item) -> Self {
        Self {
            before: Vec::new(),
            way: item.way.clone(),
        }
    }
}

/// The ids of events that are not here at all, in order.
fn missing_of(
    from: &impl Read,
    room: RoomSn,
    mut ids: Vec<EventId>,
) -> Result<Vec<EventId>, NodeError> {
    ids.sort_unstable();
    ids.dedup();
    let mut missing = Vec::new();
    for id in ids {
        if !ingest::is_here(from, room, &id)? {
            missing.push(id);
        }
    }
    Ok(missing)
}

/// Takes in the first events, up to one that needs something, or until so many are kept that it is enough.
fn receive(
    writer: &mut RoomWriter<'_>,
    mut items: VecDeque<Item>,
    mut is_enough: impl FnMut(usize) -> bool,
) -> Result<Kept, NodeError> {
    let mut outcomes = Outcomes::new();
    let mut new = Vec::new();
    let mut need = None;
    let mut kept = 0;
    while let Some(item) = items.front() {
        if is_enough(kept) {
            break;
        }
        let arrival = match &item.way {
            Way::Live => Arrival::Live,
            Way::AfterGap(state) => Arrival::AfterGap { state },
            Way::Outlier => Arrival::Outlier,
        };
        let outcome = match writer.receive(&item.event, arrival) {
            Ok(Received::Need(missing)) => {
                need = Some(missing);
                break;
            }
            Ok(Received::Known(_)) => Ok(Verdict::Accepted),
            Ok(Received::Stored { verdict, .. }) => {
                kept += 1;
                if item.is_asked && matches!(verdict, Verdict::Accepted) {
                    new.push(item.event.pdu().event_id().clone());
                }
                Ok(verdict)
            }
            // Nothing was changed: it is this event alone that is wrong.
            Err(error @ rooms::Error::BadEvent(_)) => Err(error.into()),
            Err(error) => return Err(error.into()),
        };
        if let Ok(verdict) = &outcome
            && let Err(error) = verdict.clone().must_count()
        {
            let event = item.event.pdu().event_id();
            tracing::debug!(%event, %error, "an event does not count");
        }
        if item.is_asked {
            outcomes.push((item.event.pdu().event_id().clone(), outcome));
        }
        items.pop_front();
    }
    Ok(Kept {
        rest: items,
        outcomes,
        new,
        need,
    })
}
