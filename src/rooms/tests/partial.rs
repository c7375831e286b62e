//! A room that is entered without its members is, once they are known, what it would be had it been entered whole.

use std::collections::BTreeSet;

use event::auth::Membership;
use event::{EventDraft, Pdu, RoomRules, RoomVersion};
use names::RoomSn;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rooms::graph::{self, StateIds};
use rooms::held::{self, HeldTotal};
use rooms::ingest::{self, Arrival, Entered, Need, Part, Received, Staging, Verdict, Verified};
use rooms::membership::Action;
use rooms::partial::{self, Completed, Omitted};
use rooms::{Error, EventNo, RoomWriter, StoredEvent, event_log, members, servers, state};
use serde_json::{Map, json};
use store::memory::Memory;
use testkit::{World, public_room};

const OWNER: &str = "@owner:here";
const LATE: &str = "@late:there";
const MEMBERS: usize = 7;

fn member(n: usize) -> String {
    format!("@member{}:here", n % MEMBERS)
}

fn verified(world: &World, rules: &RoomRules, json: &str) -> Verified {
    // Every world has the same key.
    let keys = |_: &str, _: &str| Some(world.key.verify_key());
    ingest::verify(rules, json.as_bytes(), &keys).unwrap()
}

fn stored(world: &World, room: RoomSn, id: &str) -> StoredEvent {
    let view = world.store.view();
    let no = event_log::find_in(&view, room, id).unwrap().unwrap();
    event_log::get(&view, room, no).unwrap().unwrap()
}

fn timeline(world: &World, room: RoomSn) -> Vec<StoredEvent> {
    let view = world.store.view();
    let rows = event_log::forwards(&view, room, EventNo::MIN);
    rows.map(|row| row.unwrap().1).collect()
}

/// What somebody does in the room.
#[derive(Clone, Debug)]
enum Deed {
    Say(usize),
    Topic,
    Join(usize),
    Leave(usize),
    Kick(usize, usize),
    Ban(usize, usize),
    Unban(usize),
    Power(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    let some = || 0..MEMBERS;
    prop_oneof![
        3 => some().prop_map(Deed::Say),
        1 => Just(Deed::Topic),
        2 => some().prop_map(Deed::Join),
        2 => some().prop_map(Deed::Leave),
        1 => (some(), some()).prop_map(|(by, to)| Deed::Kick(by, to)),
        1 => (some(), some()).prop_map(|(by, to)| Deed::Ban(by, to)),
        1 => some().prop_map(Deed::Unban),
        1 => some().prop_map(Deed::Power),
    ]
}

fn perform(world: &mut World, room: RoomSn, deed: &Deed) {
    let now = world.now_ms;
    // What is not allowed does not happen.
    let _ = match deed {
        Deed::Say(n) => world.say(room, &member(*n), "Good morning"),
        Deed::Topic => {
            let topic = json!({ "topic": format!("Topic {now}") });
            world.set(room, OWNER, ("m.room.topic", ""), &topic)
        }
        Deed::Join(n) => world.act(room, Action::Join, &member(*n), &member(*n)),
        Deed::Leave(n) => world.act(room, Action::Leave, &member(*n), &member(*n)),
        Deed::Kick(by, to) => world.act(room, Action::Kick, &member(*by), &member(*to)),
        Deed::Ban(by, to) => world.act(room, Action::Ban, &member(*by), &member(*to)),
        Deed::Unban(n) => world.act(room, Action::Unban, OWNER, &member(*n)),
        Deed::Power(n) => {
            let levels = json!({ "users": { OWNER: 100, member(*n): 50 } });
            world.set(room, OWNER, ("m.room.power_levels", ""), &levels)
        }
    };
}

/// What the user does who entered late.
#[derive(Clone, Debug)]
enum Own {
    Say,
    Rename,
}

/// What happens at the server that entered late.
#[derive(Clone, Debug)]
enum Step {
    /// The next event of the others comes, or one of the few after it.
    Arrives(Index),
    Own(Own),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<Index>().prop_map(Step::Arrives),
        1 => Just(Step::Own(Own::Say)),
        1 => Just(Step::Own(Own::Rename)),
    ]
}

/// The member's join, made by hand on the room as it is.
fn join(world: &World, rules: &RoomRules, room: RoomSn) -> Verified {
    let view = world.store.view();
    let head = event_log::head(&view, room).unwrap().unwrap();
    let room_id = names::room_id(&view, room).unwrap();
    let keys = [
        ("m.room.create", ""),
        ("m.room.power_levels", ""),
        ("m.room.join_rules", ""),
        ("m.room.member", LATE),
    ];
    let from = usize::from(rules.version == RoomVersion::V12);
    let numbers = state::current_many(&view, room, &keys[from..]).unwrap();
    let events = numbers.into_iter().flatten();
    let auth: Vec<String> = events
        .map(|no| event_log::get(&view, room, no).unwrap().unwrap())
        .map(|event| event.event_id.to_string())
        .collect();
    let auth: Vec<&str> = auth.iter().map(String::as_str).collect();
    let pdu = EventDraft {
        room_id: Some(&room_id),
        sender: LATE,
        event_type: "m.room.member",
        state_key: Some(LATE),
        content: r#"{"membership":"join"}"#,
        redacts: None,
        origin_server_ts: world.now_ms as i64,
        prev_events: &[&head.extremities[0].1],
        auth_events: &auth,
        depth: head.depth + 1,
        first_format: None,
    };
    let there = event::SigningKey::generate("there", [7; 32]);
    let pdu = pdu.seal(rules, &there).unwrap();
    verified(world, rules, pdu.json())
}

fn receive(world: &World, room: RoomSn, event: &Verified) -> Received {
    loop {
        let mut txn = world.store.begin();
        let mut writer = RoomWriter::open(&mut txn, world.context(), room).unwrap();
        let received = writer.receive(event, Arrival::Live).unwrap();
        writer.finish();
        if let Received::Need(Need::Users(users)) = received {
            world.names.number_users(&world.store, &users).unwrap();
            continue;
        }
        world.store.commit(txn).unwrap();
        return received;
    }
}

/// The server that enters late, and what it is given.
struct Late {
    world: World,
    room: RoomSn,
    rules: &'static RoomRules,
}

impl Late {
    /// Enters the room, with those of the members for whom `keep` is true, or with all of them.
    fn enter(
        rules: &'static RoomRules,
        (at_join, events): &(StateIds, Vec<Verified>),
        join: &Verified,
        keep: Option<&dyn Fn(&str) -> bool>,
    ) -> Self {
        let world = World::named("there", Box::new(Memory::default()));
        let room_id = join.pdu().room_id();
        let room = world.names.room(&world.store, room_id).unwrap();
        let is_member = |event: &Verified| event.pdu().event_type() == "m.room.member";
        let parts: Vec<Part> = (events.iter().enumerate())
            .map(|(n, event)| Part {
                event: event.clone(),
                is_state: n < at_join.state.len(),
            })
            .filter_map(|part| {
                let pdu = part.event.pdu();
                let state_key = pdu.state_key().unwrap_or_default();
                let is_left_out = part.is_state
                    && is_member(&part.event)
                    && keep.is_some_and(|keep| !keep(state_key));
                let is_named = || {
                    join.pdu()
                        .auth_events()
                        .any(|id| id == pdu.event_id().as_str())
                };
                match is_left_out {
                    false => Some(part),
                    // What authorises the join is in the auth chain.
                    true if is_named() => Some(Part {
                        is_state: false,
                        ..part
                    }),
                    true => None,
                }
            })
            .collect();
        let create = events[0].clone();
        assert_eq!(create.pdu().event_type(), "m.room.create");
        let mut staging = match keep {
            None => Staging::new(create),
            Some(_) => {
                let omitted = Omitted {
                    by: "here".to_owned(),
                    servers: ["here", "elsewhere", "there", "no server"]
                        .map(str::to_owned)
                        .to_vec(),
                };
                Staging::without_members(create, omitted)
            }
        };
        let late = Self { world, room, rules };
        late.stage(&mut staging, parts);
        let late_world = &late.world;
        late_world.names.user(&late_world.store, LATE).unwrap();
        let mut txn = late_world.store.begin();
        let context = late_world.context();
        let entered = ingest::enter_staged(&mut txn, context, rules, room, &staging, join).unwrap();
        assert!(matches!(entered, Entered::Done(_)), "{entered:?}");
        late_world.store.commit(txn).unwrap();
        late
    }

    fn stage(&self, staging: &mut Staging, parts: Vec<Part>) {
        let (world, events) = (&self.world, parts.iter().map(|part| &part.event));
        let users = ingest::users_without_number(&world.store.view(), events).unwrap();
        world.names.number_users(&world.store, &users).unwrap();
        let mut txn = world.store.begin();
        let context = world.context();
        staging
            .keep(&mut txn, context, self.rules, self.room, parts)
            .unwrap();
        world.store.commit(txn).unwrap();
    }

    /// Takes an event in, or holds it. Says what became of it if it was taken.
    fn take(&self, event: &Verified) -> Option<Verdict> {
        match receive(&self.world, self.room, event) {
            Received::Stored { verdict, .. } => Some(verdict),
            // What authorises it is fetched once the members are known.
            Received::Need(Need::Members | Need::AuthEvents(_)) => {
                let mut txn = self.world.store.begin();
                assert!(held::hold(&mut txn, self.room, "here", event.pdu()).unwrap());
                assert!(held::hold(&mut txn, self.room, "here", event.pdu()).unwrap());
                self.world.store.commit(txn).unwrap();
                None
            }
            received => panic!("{received:?}"),
        }
    }

    fn complete(&self, (at_join, events): &(StateIds, Vec<Verified>)) {
        let mut staging = Staging::new(events[0].clone());
        let parts = events.iter().map(|event| Part {
            event: event.clone(),
            is_state: true,
        });
        self.stage(&mut staging, parts.collect());
        let mut txn = self.world.store.begin();
        let writer = RoomWriter::open(&mut txn, self.world.context(), self.room).unwrap();
        let completed = writer.complete(&at_join.state).unwrap();
        assert!(matches!(completed, Completed::Done { .. }), "{completed:?}");
        self.world.store.commit(txn).unwrap();
        assert!(!partial::is_partial(&self.world.store.view(), self.room).unwrap());
    }

    /// Lets in what is held, and then what has not come yet, each after what it follows; with what became of each.
    fn let_in(&self, coming: Vec<Verified>) -> Vec<(Verified, Verdict)> {
        let held =
            held::first(&self.world.store.view(), self.room, usize::MAX, usize::MAX).unwrap();
        let mut txn = self.world.store.begin();
        held::let_go(&mut txn, self.room, &held).unwrap();
        self.world.store.commit(txn).unwrap();
        let held = held.iter();
        let mut left: Vec<Verified> = held
            .map(|(_, held)| verified(&self.world, self.rules, &held.json))
            .chain(coming)
            .collect();
        let mut taken = Vec::new();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|event| match receive(&self.world, self.room, event) {
                Received::Stored { verdict, .. } => {
                    taken.push((event.clone(), verdict));
                    false
                }
                Received::Need(Need::PrevEvents(_) | Need::AuthEvents(_)) => true,
                received => panic!("{received:?}"),
            });
            assert!(left.len() < before, "what is held follows what is here");
        }
        taken
    }

    fn act(&mut self, own: &Own) -> Verified {
        let room = self.room;
        match own {
            Own::Say => {
                self.world.say(room, LATE, "Here I am").unwrap();
            }
            Own::Rename => {
                let name = format!("The late {}", self.world.now_ms);
                let content = json!({ "membership": "join", "displayname": name });
                let late = ("m.room.member", LATE);
                self.world.set(room, LATE, late, &content).unwrap();
            }
        }
        let last = timeline(&self.world, room).pop().unwrap();
        verified(&self.world, self.rules, &last.json)
    }

    /// The user who entered leaves; the event of that.
    fn leave(&mut self) -> Verified {
        self.world
            .act(self.room, Action::Leave, LATE, LATE)
            .unwrap();
        let last = timeline(&self.world, self.room).pop().unwrap();
        verified(&self.world, self.rules, &last.json)
    }

    /// The user joins again by way of the resident server, with all that was said meanwhile left out.
    fn come_back(&self, again: &Again) {
        let mut staging = Staging::new(again.state[0].clone());
        let parts = again.state.iter().map(|event| Part {
            event: event.clone(),
            is_state: true,
        });
        self.stage(&mut staging, parts.collect());
        let mut txn = self.world.store.begin();
        let (context, rules, room) = (self.world.context(), self.rules, self.room);
        let entered =
            ingest::enter_staged(&mut txn, context, rules, room, &staging, &again.join).unwrap();
        assert!(matches!(entered, Entered::Done(_)), "{entered:?}");
        self.world.store.commit(txn).unwrap();
    }

    fn check(&self) {
        let view = self.world.store.view();
        let mut problems = Vec::new();
        rooms::check::all(&view, &mut |what| problems.push(what), &mut |_| ()).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
    }

    /// All that the room says of itself, by ids.
    fn picture(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let (view, room) = (self.world.store.view(), self.room);
        let id = |no| {
            let event = event_log::get(&view, room, no).unwrap().unwrap();
            event.event_id.to_string()
        };
        let state: Vec<(String, String, String)> = (state::all_current(&view, room).unwrap())
            .into_iter()
            .map(|entry| (entry.event_type, entry.state_key, id(entry.event)))
            .collect();
        let people: Vec<(String, Membership, String)> = {
            let all = members::all(&view, room).unwrap().into_iter();
            let mut all: Vec<_> = all
                .map(|(user, member)| {
                    let user_id = names::user_id(&view, user).unwrap();
                    (user_id, member.membership(), id(member.event))
                })
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        let head = event_log::head(&view, room).unwrap().unwrap();
        let extremities: BTreeSet<String> =
            head.extremities.into_iter().map(|(_, id)| id).collect();
        let servers = servers::joined(&view, room).unwrap();
        // The state right before every event, and what was found of it.
        let mut events = Vec::new();
        for event in timeline(&self.world, room) {
            let ids = graph::state_ids(&view, room, &event.event_id).unwrap();
            let mut ids = ids.map(|ids| ids.state).unwrap_or_default();
            ids.sort_unstable();
            events.push((event.event_id.to_string(), event.flags, ids));
        }
        events.sort_by(|a, b| a.0.cmp(&b.0));
        let counts = (head.joined, head.invited, head.depth);
        (state, people, extremities, servers, events, counts)
    }
}

/// A second join, and the state before it.
struct Again {
    join: Verified,
    state: Vec<Verified>,
}

/// The room at the server that is in it, its events since the join, and what it answers to that.
struct Resident {
    world: World,
    room: RoomSn,
    join: Verified,
    answer: (StateIds, Vec<Verified>),
    since: Vec<Verified>,
}

impl Resident {
    fn new(version: RoomVersion, invited: bool, before: &[Deed], after: &[Deed]) -> Self {
        let rules = version.rules();
        let mut world = World::new();
        let room = world.create(version, &public_room(world.user(OWNER)), Map::new());
        for n in 0..4 {
            let member = member(n);
            world.act(room, Action::Join, &member, &member).unwrap();
        }
        if invited {
            world.act(room, Action::Invite, OWNER, LATE).unwrap();
        }
        for deed in before {
            perform(&mut world, room, deed);
        }
        let join = join(&world, rules, room);
        world.names.user(&world.store, LATE).unwrap();
        let received = receive(&world, room, &join);
        assert!(matches!(
            received,
            Received::Stored {
                verdict: Verdict::Accepted,
                ..
            }
        ));
        let ids = graph::state_ids(&world.store.view(), room, join.pdu().event_id());
        let mut ids = ids.unwrap().unwrap();
        let is_create =
            |id: &event::EventId| stored(&world, room, id).json.contains("m.room.create");
        let create = ids.state.iter().position(is_create).unwrap();
        ids.state.swap(0, create);
        let all = ids.state.iter().chain(&ids.auth_chain);
        let events = all
            .map(|id| verified(&world, rules, &stored(&world, room, id).json))
            .collect();
        let known = timeline(&world, room).len();
        for deed in after {
            perform(&mut world, room, deed);
        }
        let since = timeline(&world, room).split_off(known);
        let since = since
            .iter()
            .map(|event| verified(&world, rules, &event.json))
            .collect();
        Self {
            world,
            room,
            join,
            answer: (ids, events),
            since,
        }
    }

    /// Takes in what the other server sends.
    fn hear(&self, event: &Verified) {
        let received = receive(&self.world, self.room, event);
        assert!(matches!(received, Received::Stored { .. }), "{received:?}");
    }

    /// The user joins anew, after some have come and gone.
    fn join_again(&mut self) -> Again {
        let (world, room) = (&mut self.world, self.room);
        for deed in [
            Deed::Leave(1),
            Deed::Ban(0, 2),
            Deed::Join(5),
            Deed::Topic,
            Deed::Say(3),
        ] {
            perform(world, room, &deed);
        }
        let rules = RoomVersion::V11.rules();
        let join = join(world, rules, room);
        self.hear(&join);
        let view = self.world.store.view();
        let ids = graph::state_ids(&view, room, join.pdu().event_id());
        let mut state: Vec<Verified> = (ids.unwrap().unwrap().state.iter())
            .map(|id| verified(&self.world, rules, &stored(&self.world, room, id).json))
            .collect();
        let is_create = |event: &Verified| event.pdu().event_type() == "m.room.create";
        let create = state.iter().position(is_create).unwrap();
        state.swap(0, create);
        Again { join, state }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_room_that_was_completed_is_as_if_it_had_been_entered_whole(
        version in prop_oneof![Just(RoomVersion::V6), Just(RoomVersion::V11), Just(RoomVersion::V12)],
        invited: bool,
        before in vec(deed(), 0..12),
        after in vec(deed(), 0..14),
        kept in vec(any::<bool>(), MEMBERS),
        steps in vec(step(), 0..24),
        completed_after in any::<Index>(),
    ) {
        let rules = version.rules();
        let resident = Resident::new(version, invited, &before, &after);
        let keeps = |user_id: &str| match user_id {
            OWNER => kept[0],
            LATE => false,
            _ => (0..MEMBERS).any(|n| member(n) == user_id && kept[n]),
        };
        let mut late = Late::enter(
            rules, &resident.answer, &resident.join, Some(&keeps),
        );
        late.check();

        let mut coming: Vec<Verified> = resident.since.clone();
        let mut taken: Vec<(Verified, Verdict)> = Vec::new();
        let completed_after = completed_after.index(steps.len() + 1);
        for (n, step) in steps.iter().enumerate() {
            if n == completed_after {
                break;
            }
            match step {
                Step::Arrives(index) if !coming.is_empty() => {
                    let event = coming.remove(index.index(coming.len().min(2)));
                    if let Some(verdict) = late.take(&event) {
                        taken.push((event, verdict));
                    }
                }
                Step::Arrives(_) => {}
                Step::Own(own) => taken.push((late.act(own), Verdict::Accepted)),
            }
        }
        late.check();
        late.complete(&resident.answer);
        late.check();
        taken.extend(late.let_in(coming));
        late.check();

        let whole = Late::enter(rules, &resident.answer, &resident.join, None);
        for (event, verdict) in taken {
            let received = receive(&whole.world, whole.room, &event);
            let Received::Stored { verdict: of_whole, .. } = received else {
                panic!("{received:?}");
            };
            prop_assert_eq!(of_whole, verdict);
        }
        whole.check();
        prop_assert!(late.picture() == whole.picture(), "{:#?}\n{:#?}", late.picture(), whole.picture());
    }
}

fn small() -> Resident {
    let after = [Deed::Say(0), Deed::Say(1)];
    Resident::new(RoomVersion::V11, false, &[], &after)
}

#[test]
fn what_is_known_to_hold_is_taken_at_once_and_all_else_is_held() {
    let resident = small();
    let rules = RoomVersion::V11.rules();
    let keeps = |user_id: &str| user_id == member(0);
    let late = Late::enter(rules, &resident.answer, &resident.join, Some(&keeps));
    assert_eq!(late.take(&resident.since[0]), Some(Verdict::Accepted));
    assert_eq!(
        late.take(&resident.since[1]),
        None,
        "of a member who is not known"
    );
    let view = late.world.store.view();
    assert_eq!(held::total(&view, late.room).unwrap().events, 1);
    assert_eq!(held::rooms(&view).unwrap(), [late.room]);
    let known = servers::joined(&view, late.room).unwrap();
    assert_eq!(known, ["elsewhere", "here"], "as the resident server said");
    late.complete(&resident.answer);
    let taken = late.let_in(Vec::new());
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].1, Verdict::Accepted);
    let view = late.world.store.view();
    assert_eq!(servers::joined(&view, late.room).unwrap(), ["here"]);
    assert!(partial::completed(&view, late.room).unwrap().is_some());
    assert!(held::rooms(&view).unwrap().is_empty());
}

#[test]
fn who_is_not_known_can_be_neither_invited_nor_banned_before_they_are() {
    let resident = small();
    let rules = RoomVersion::V11.rules();
    let keeps = |_: &str| false;
    let mut late = Late::enter(rules, &resident.answer, &resident.join, Some(&keeps));
    for action in [Action::Invite, Action::Ban, Action::Kick] {
        let refused = late.world.act(late.room, action, LATE, &member(1));
        assert!(matches!(refused, Err(Error::MembersMissing)), "{refused:?}");
    }
    late.act(&Own::Say);
    late.complete(&resident.answer);
    let refused = late.world.act(late.room, Action::Ban, LATE, &member(1));
    assert!(matches!(refused, Err(Error::NotAllowed(_))), "{refused:?}");
}

#[test]
fn a_room_that_was_left_takes_nothing_in_before_it_is_completed() {
    let mut resident = small();
    let rules = RoomVersion::V11.rules();
    let keeps = |_: &str| false;
    let mut late = Late::enter(rules, &resident.answer, &resident.join, Some(&keeps));
    assert_eq!(late.take(&resident.since[0]), None);
    let leave = late.leave();
    let view = late.world.store.view();
    assert!(
        !partial::any(&view).unwrap(),
        "in the same change as the leaving"
    );
    assert!(partial::abandoned(&view, late.room).unwrap().is_some());
    let left = leave.pdu().event_id().as_str();
    let place = event_log::find_in(&view, late.room, left).unwrap().unwrap();
    let concerned = servers::concerned(&view, late.room, place).unwrap();
    assert_eq!(concerned, ["elsewhere", "here"], "all hear of the leaving");
    assert_eq!(servers::joined(&view, late.room).unwrap(), [""; 0]);
    late.check();

    let mut txn = late.world.store.begin();
    let mut writer = RoomWriter::open(&mut txn, late.world.context(), late.room).unwrap();
    let refused = writer.receive(&resident.since[0], Arrival::Live);
    assert!(matches!(refused, Err(Error::MembersMissing)), "{refused:?}");
    drop(txn);
    let held = held::first(&view, late.room, 10, usize::MAX).unwrap();
    let mut txn = late.world.store.begin();
    assert!(!held::hold(&mut txn, late.room, "here", resident.since[1].pdu()).unwrap());
    held::let_go(&mut txn, late.room, &held).unwrap();
    late.world.store.commit(txn).unwrap();
    assert!(
        held::rooms(&late.world.store.view()).unwrap().is_empty(),
        "what was held before can go"
    );

    // Who comes back finds the room as if it had been whole all the time.
    resident.hear(&leave);
    let again = resident.join_again();
    late.complete(&resident.answer);
    assert!(
        partial::abandoned(&late.world.store.view(), late.room)
            .unwrap()
            .is_none()
    );
    late.check();
    let whole = Late::enter(rules, &resident.answer, &resident.join, None);
    let received = receive(&whole.world, whole.room, &leave);
    assert!(matches!(received, Received::Stored { .. }), "{received:?}");
    for server in [&late, &whole] {
        server.come_back(&again);
        server.check();
    }
    assert!(late.picture() == whole.picture());
}

#[test]
fn a_room_that_is_known_is_not_entered_without_its_members() {
    let resident = small();
    let rules = RoomVersion::V11.rules();
    let late = Late::enter(rules, &resident.answer, &resident.join, None);
    let omitted = Omitted {
        by: "here".to_owned(),
        servers: Vec::new(),
    };
    let staging = Staging::without_members(resident.answer.1[0].clone(), omitted);
    let (mut txn, context) = (late.world.store.begin(), late.world.context());
    let entered = ingest::enter_staged(
        &mut txn,
        context,
        rules,
        late.room,
        &staging,
        &resident.join,
    );
    assert!(matches!(entered, Err(Error::Invalid(_))), "{entered:?}");
}

#[test]
fn no_more_events_are_held_than_there_is_place_for() {
    let resident = small();
    let rules = RoomVersion::V11.rules();
    let keeps = |_: &str| false;
    let late = Late::enter(rules, &resident.answer, &resident.join, Some(&keeps));
    let mut txn = late.world.store.begin();
    let draft = |n: u64| draft(&resident, r#"{"body":"Good morning"}"#, n as i64);
    for n in 0..held::MOST_EVENTS {
        assert!(held::hold(&mut txn, late.room, "here", &draft(n)).unwrap());
    }
    assert!(!held::hold(&mut txn, late.room, "here", &draft(held::MOST_EVENTS)).unwrap());
}

#[test]
fn no_more_bytes_are_held_than_there_is_place_for_and_they_are_read_in_pieces() {
    let resident = small();
    let rules = RoomVersion::V11.rules();
    let keeps = |_: &str| false;
    let late = Late::enter(rules, &resident.answer, &resident.join, Some(&keeps));
    let room = late.room;
    let content = json!({ "body": "x".repeat(60_000) }).to_string();
    let mut txn = late.world.store.begin();
    let mut bytes = 0;
    let mut events = 0;
    loop {
        let pdu = draft(&resident, &content, events as i64);
        if !held::hold(&mut txn, room, "here", &pdu).unwrap() {
            assert!(bytes + pdu.json().len() as u64 > held::MOST_BYTES);
            break;
        }
        bytes += pdu.json().len() as u64;
        events += 1;
    }
    assert_eq!(
        held::total(&txn, room).unwrap(),
        HeldTotal { events, bytes }
    );
    assert_eq!(held::first(&txn, room, 50, 1).unwrap().len(), 1);
    assert_eq!(held::first(&txn, room, 3, usize::MAX).unwrap().len(), 3);
    let piece = held::first(&txn, room, 50, 1 << 20).unwrap();
    assert_eq!(piece.len(), 17);
    held::let_go(&mut txn, room, &piece).unwrap();
    held::let_go(&mut txn, room, &piece).unwrap();
    let left = held::total(&txn, room).unwrap();
    assert_eq!(left.events, events - 17);
    late.world.store.commit(txn).unwrap();
    late.check();
}

/// A message that follows what is not there.
fn draft(resident: &Resident, content: &str, ts: i64) -> Pdu {
    EventDraft {
        room_id: Some(resident.join.pdu().room_id()),
        sender: OWNER,
        event_type: "m.room.message",
        state_key: None,
        content,
        redacts: None,
        origin_server_ts: ts,
        prev_events: &["$somewhere"],
        auth_events: &[],
        depth: 100,
        first_format: None,
    }
    .seal(RoomVersion::V11.rules(), &resident.world.key)
    .unwrap()
}
