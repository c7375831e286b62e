//! Memberships in rooms that this server is not in, and what becomes of them when it enters.

use event::auth::Membership;
use event::{RoomVersion, SigningKey};
use names::RoomSn;
use rooms::ingest::{self, Answer, Entered, Need, Verified};
use rooms::membership::Action;
use rooms::outside::{self, Outside};
use rooms::{Outline, RoomWriter};
use rooms::{check, event_log, members, template};
use serde_json::{Map, Value, json};
use store::memory::Memory;
use testkit::{World, public_room};

const OWNER: &str = "@owner:here";
const BOB: &str = "@bob:there";
const CAROL: &str = "@carol:there";
const VERSION: RoomVersion = RoomVersion::V11;

/// A room of one server, and the other server.
struct Two {
    here: World,
    there: World,
    room: RoomSn,
    room_id: String,
}

impl Two {
    fn new() -> Self {
        let mut here = World::new();
        let room = here.create(VERSION, &public_room(here.user(OWNER)), Map::new());
        let room_id = names::room_id(&here.store.head(), room).unwrap();
        let there = World::named("there", Box::new(Memory::default()));
        Self {
            here,
            there,
            room,
            room_id,
        }
    }

    fn verified(&self, json: &str) -> Verified {
        let keys = |_: &str, _: &str| Some(self.here.key.verify_key());
        ingest::verify(VERSION.rules(), json.as_bytes(), &keys).unwrap()
    }

    /// The current member event of a user in the room.
    fn member(&self, user: &str) -> Verified {
        let head = self.here.store.head();
        let no = rooms::state::current(&head, self.room, "m.room.member", user);
        let event = event_log::get(&head, self.room, no.unwrap().unwrap()).unwrap();
        self.verified(&event.unwrap().json)
    }

    /// The room's number on the other server.
    fn room_there(&self) -> RoomSn {
        self.there
            .names
            .room(&self.there.store, &self.room_id)
            .unwrap()
    }

    /// Tells the other server of a membership.
    fn tell(&self, user: &str) {
        let member = self.member(user);
        let outside = Outside::new(VERSION.rules(), member.pdu(), vec!["here".to_owned()]);
        let stripped = outside::stripped_state([], member.pdu());
        let stripped = matches!(outside.membership(), Membership::Invite).then_some(stripped);
        let (room, number) = (self.room_there(), self.there.user(user).user);
        let mut txn = self.there.store.begin();
        outside::put(&mut txn, room, number, &outside, stripped).unwrap();
        self.there.store.commit(txn).unwrap();
    }

    /// A user of the other server enters, with that server.
    fn enter(&mut self, user: &str) {
        let mut txn = self.here.store.begin();
        let mut writer = RoomWriter::open(&mut txn, self.here.context(), self.room).unwrap();
        let content = r#"{"membership":"join"}"#;
        let template = template::template(&mut writer, &Outline::member(user, user, content));
        let key = SigningKey::generate("there", [7; 32]);
        let join = event::hash_and_sign(VERSION.rules(), &template.unwrap(), &key).unwrap();
        drop(txn);
        let join = self.verified(&join);
        let head = self.here.store.head();
        let latest = event_log::head(&head, self.room)
            .unwrap()
            .unwrap()
            .extremities;
        let (no, _) = &latest[0];
        let ids: Vec<_> = rooms::state::all_current(&head, self.room).unwrap();
        assert!(ids.iter().all(|entry| entry.event <= *no));
        let state: Vec<Verified> = ids
            .iter()
            .map(|entry| {
                event_log::get(&head, self.room, entry.event)
                    .unwrap()
                    .unwrap()
            })
            .map(|event| self.verified(&event.json))
            .collect();
        let chain: Vec<Verified> = event_log::forwards(&head, self.room, rooms::EventNo::MIN)
            .map(|row| self.verified(&row.unwrap().1.json))
            .filter(|event| event.pdu().state_key().is_some())
            .collect();
        let room = self.room_there();
        let answer = Answer {
            state: &state,
            auth_chain: &chain,
            join: &join,
        };
        loop {
            let mut txn = self.there.store.begin();
            let context = self.there.context();
            match ingest::enter(&mut txn, context, VERSION.rules(), room, &answer).unwrap() {
                Entered::Done(_) => {
                    self.there.store.commit(txn).unwrap();
                    break;
                }
                Entered::Need(Need::Users(users)) => {
                    for user in &users {
                        self.there.user(user);
                    }
                }
                Entered::Need(need) => panic!("{need:?}"),
            }
        }
    }

    fn membership_there(&self, user: &str) -> Option<Membership> {
        let user = self.there.user(user).user;
        let entry = members::room_of(&self.there.store.head(), user, self.room_there());
        entry.unwrap().map(|entry| entry.value.membership())
    }

    fn must_be_sound(&self) {
        let mut found = Vec::new();
        check::all(
            &self.there.store.head(),
            &mut |what| found.push(what),
            &mut |_| {},
        )
        .unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn an_invitation_is_among_the_users_rooms_until_it_ends() {
    let mut two = Two::new();
    two.here.act(two.room, Action::Invite, OWNER, BOB).unwrap();
    two.tell(BOB);
    assert_eq!(two.membership_there(BOB), Some(Membership::Invite));
    let (room, bob) = (two.room_there(), two.there.user(BOB).user);
    let head = two.there.store.head();
    assert!(outside::is_open(&head, room, bob).unwrap());
    let stripped = members::stripped_state(&head, bob, room).unwrap().unwrap();
    let stripped: Value = serde_json::from_slice(&stripped).unwrap();
    assert_eq!(stripped[0]["state_key"], BOB);
    two.must_be_sound();

    two.here.act(two.room, Action::Kick, OWNER, BOB).unwrap();
    two.tell(BOB);
    let head = two.there.store.head();
    assert_eq!(two.membership_there(BOB), Some(Membership::Leave));
    assert!(!outside::is_open(&head, room, bob).unwrap());
    assert_eq!(members::stripped_state(&head, bob, room).unwrap(), None);
    two.must_be_sound();
    let mut txn = two.there.store.begin();
    members::forget(&mut txn, bob, room).unwrap();
}

#[test]
fn what_the_room_says_takes_the_place_of_what_was_told_from_outside() {
    let mut two = Two::new();
    for user in [BOB, CAROL] {
        two.here.act(two.room, Action::Invite, OWNER, user).unwrap();
        two.tell(user);
    }
    two.enter(BOB);
    let (room, head) = (two.room_there(), two.there.store.head());
    assert_eq!(two.membership_there(BOB), Some(Membership::Join));
    assert_eq!(two.membership_there(CAROL), Some(Membership::Invite));
    assert!(outside::users(&head, room).unwrap().is_empty());
    let carol = two.there.user(CAROL).user;
    let stripped = members::stripped_state(&head, carol, room)
        .unwrap()
        .unwrap();
    let stripped: Value = serde_json::from_slice(&stripped).unwrap();
    assert_eq!(stripped[0]["type"], "m.room.create", "it is made here now");
    two.must_be_sound();
}

#[test]
fn who_was_in_the_room_once_is_invited_again_from_outside() {
    let mut two = Two::new();
    two.enter(BOB);
    let (room, bob) = (two.room_there(), two.there.user(BOB).user);
    two.there.act(room, Action::Leave, BOB, BOB).unwrap();
    let left = members::room_of(&two.there.store.head(), bob, room);
    let left = left.unwrap().unwrap().value;
    two.here.act(two.room, Action::Invite, OWNER, BOB).unwrap();
    two.tell(BOB);
    let invited = members::room_of(&two.there.store.head(), bob, room);
    let invited = invited.unwrap().unwrap().value;
    assert_eq!(invited.membership(), Membership::Invite);
    assert_eq!(invited.place, left.place, "what was readable stays so");
    two.must_be_sound();
    two.enter(BOB);
    assert_eq!(two.membership_there(BOB), Some(Membership::Join));
    assert_eq!(
        outside::get(&two.there.store.head(), room, bob).unwrap(),
        None
    );
    two.must_be_sound();
}

#[test]
fn what_a_stranger_says_of_a_room_is_cut_to_what_can_be_shown() {
    let mut two = Two::new();
    two.here.act(two.room, Action::Invite, OWNER, BOB).unwrap();
    let member = two.member(BOB);
    let name = |text: &str| {
        json!({"type": "m.room.name", "state_key": "", "sender": OWNER, "content": {"name": text},
               "event_id": "$more", "unsigned": {"age": 5}})
        .to_string()
    };
    let large = json!({"type": "m.room.topic", "state_key": "", "sender": OWNER,
                       "content": {"topic": "x".repeat(70_000)}})
    .to_string();
    let of_target = json!({"type": "m.room.member", "state_key": BOB, "sender": OWNER,
                           "content": {"membership": "join"}})
    .to_string();
    let message = json!({"type": "m.room.message", "sender": OWNER, "content": {}}).to_string();
    let described = [
        "[]",
        "{",
        "{\"type\":5,\"content\":[]}",
        &name("One"),
        &name("Two"),
        &large,
        &of_target,
        &message,
    ];
    let stripped = outside::stripped_state(described, member.pdu());
    let stripped: Value = serde_json::from_slice(&stripped).unwrap();
    let wanted = json!([
        {"type": "m.room.name", "state_key": "", "sender": OWNER, "content": {"name": "One"}},
        {"type": "m.room.member", "state_key": BOB, "sender": OWNER, "content": {"membership": "invite"}},
    ]);
    assert_eq!(stripped, wanted);
}
