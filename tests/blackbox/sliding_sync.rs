//! Simplified sliding sync (MSC4186): connections and their positions, lists with windows and filters,
//! subscriptions, and what is told of a room.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Response, User, encode};

use crate::{column, pair, server, strings};

const UNSTABLE: &str = "/unstable/org.matrix.simplified_msc3575/sync";

/// A connection, in the words of `org.matrix.simplified_msc3575`.
pub struct Sliding<'a> {
    user: &'a User,
    pos: Option<String>,
    pub body: Value,
}

impl<'a> Sliding<'a> {
    pub fn new(user: &'a User, body: Value) -> Self {
        let pos = None;
        Self { user, pos, body }
    }

    /// A connection with one list of all rooms.
    pub fn all(user: &'a User, timeline_limit: u64, required_state: Value) -> Self {
        let list = json!({"timeline_limit": timeline_limit, "required_state": required_state});
        Self::new(user, json!({"lists": {"all": list}}))
    }

    #[track_caller]
    pub fn try_next(&self, timeout_ms: u64) -> Response {
        let pos = match &self.pos {
            Some(pos) => format!("&pos={}", encode(pos)),
            None => String::new(),
        };
        let path = format!("{UNSTABLE}?timeout={timeout_ms}{pos}");
        self.user.post(&path, self.body.clone())
    }

    /// The next answer, from where the last ended.
    #[track_caller]
    pub fn next(&mut self) -> Value {
        self.wait(0)
    }

    #[track_caller]
    pub fn wait(&mut self, timeout_ms: u64) -> Value {
        let answer = self.try_next(timeout_ms).ok();
        self.pos = Some(answer["pos"].as_str().expect("a pos").to_owned());
        answer
    }
}

fn rooms(answer: &Value) -> Vec<&str> {
    let rooms = answer["rooms"].as_object().into_iter().flatten();
    rooms.map(|(id, _)| id.as_str()).collect()
}

fn bodies(room: &Value) -> Vec<&str> {
    let events = room["timeline"].as_array().into_iter().flatten();
    events
        .filter_map(|event| event["content"]["body"].as_str())
        .collect()
}

#[test]
fn servers_say_that_they_can() {
    let server = server();
    let versions = server.client().get("/versions").ok();
    let features = &versions["unstable_features"];
    assert_eq!(features["org.matrix.simplified_msc3575"], true);
}

#[test]
fn a_first_answer_describes_the_rooms_of_the_window() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({"name": "The room"}));
    for number in 0..5 {
        user.say(&room, &format!("message {number}"));
    }
    let mut sliding = Sliding::all(
        &user,
        3,
        json!([["m.room.create", ""], ["m.room.name", ""]]),
    );
    let answer = sliding.next();
    assert_eq!(answer["lists"]["all"]["count"], 1);
    let told = &answer["rooms"][&room];
    assert_eq!(told["initial"], true);
    assert_eq!(told["membership"], "join");
    assert_eq!(told["name"], "The room");
    assert_eq!(told["joined_count"], 1);
    assert_eq!(told["invited_count"], 0);
    assert_eq!(told["limited"], true);
    assert_eq!(told["num_live"], 0);
    assert_eq!(strings(&told["lists"]), ["all"]);
    assert!(told["bump_stamp"].is_u64(), "{told}");
    assert!(
        told["heroes"].is_null(),
        "a room with a name has none: {told}"
    );
    assert_eq!(bodies(told), ["message 2", "message 3", "message 4"]);
    let state = column(&told["required_state"], "type");
    assert_eq!(state, ["m.room.create", "m.room.name"]);
    assert!(told["timeline"][0]["room_id"].is_null(), "{told}");
}

#[test]
fn what_follows_is_only_what_is_new() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sliding = Sliding::all(&alice, 10, json!([["m.room.name", ""]]));
    sliding.next();
    assert!(rooms(&sliding.next()).is_empty());
    bob.say(&room, "news");
    let answer = sliding.next();
    let told = &answer["rooms"][&room];
    assert_eq!(bodies(told), ["news"]);
    assert_eq!(told["num_live"], 1);
    assert_eq!(told["limited"], false);
    assert!(
        told["initial"].is_null() && told["joined_count"].is_null(),
        "{told}"
    );
    alice.set_state(&room, "m.room.name", "", json!({"name": "Named"}));
    let answer = sliding.next();
    let told = &answer["rooms"][&room];
    assert_eq!(told["name"], "Named");
    assert_eq!(column(&told["required_state"], "type"), ["m.room.name"]);
    assert!(
        told["bump_stamp"].is_null(),
        "a name brings no room up: {told}"
    );
}

#[test]
fn a_long_poll_ends_with_the_news() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sliding = Sliding::all(&alice, 10, json!([]));
    sliding.next();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sliding.wait(30_000));
        bob.say(&room, "wake up");
        let answer = waiting.join().expect("an answer");
        assert_eq!(bodies(&answer["rooms"][&room]), ["wake up"]);
    });
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_answer_that_was_lost_comes_again() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sliding = Sliding::all(&alice, 10, json!([]));
    sliding.next();
    bob.say(&room, "first");
    let lost = sliding.try_next(0).ok();
    assert_eq!(bodies(&lost["rooms"][&room]), ["first"]);
    bob.say(&room, "second");
    let again = sliding.next();
    assert_eq!(bodies(&again["rooms"][&room]), ["first", "second"]);
    assert!(rooms(&sliding.next()).is_empty());
}

#[test]
fn a_position_that_is_not_the_connection_s_is_unknown() {
    let server = server();
    let (alice, bob, _) = pair(&server);
    let mut of_alice = Sliding::all(&alice, 1, json!([]));
    of_alice.next();
    let mut of_bob = Sliding::all(&bob, 1, json!([]));
    of_bob.pos = of_alice.pos.clone();
    of_bob.try_next(0).error(400, "M_UNKNOWN_POS");
    let mut other = Sliding::all(&alice, 1, json!([]));
    other.body["conn_id"] = json!("other");
    other.pos = of_alice.pos.clone();
    other.try_next(0).error(400, "M_UNKNOWN_POS");
    for pos in ["s1", "p1.1", "x", "p18446744073709551616.1"] {
        other.pos = Some(pos.to_owned());
        other.try_next(0).error(400, "M_UNKNOWN_POS");
    }
    // What came before the last two answers is not kept.
    let first = of_alice.pos.clone();
    of_alice.next();
    of_alice.next();
    of_alice.pos = first;
    of_alice.try_next(0).error(400, "M_UNKNOWN_POS");
}

#[test]
fn connections_of_one_device_go_their_own_ways() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut one = Sliding::all(&alice, 10, json!([]));
    one.body["conn_id"] = json!("one");
    let mut two = Sliding::all(&alice, 10, json!([]));
    two.body["conn_id"] = json!("two");
    one.next();
    bob.say(&room, "hello");
    assert_eq!(two.next()["rooms"][&room]["initial"], true);
    assert_eq!(bodies(&one.next()["rooms"][&room]), ["hello"]);
    assert!(rooms(&two.next()).is_empty());
}

#[test]
fn a_window_shows_the_most_active_rooms_and_grows() {
    let server = server();
    let user = server.register("alice");
    let all: Vec<String> = (0..4).map(|_| user.create_room(json!({}))).collect();
    user.say(&all[0], "now the most active");
    let mut sliding = Sliding::all(&user, 1, json!([]));
    sliding.body["lists"]["all"]["ranges"] = json!([[0, 1]]);
    let answer = sliding.next();
    assert_eq!(answer["lists"]["all"]["count"], 4);
    let mut shown = rooms(&answer);
    shown.sort_unstable();
    let mut expected = [all[0].as_str(), all[3].as_str()];
    expected.sort_unstable();
    assert_eq!(shown, expected);
    sliding.body["lists"]["all"]["ranges"] = json!([[0, 2]]);
    assert_eq!(rooms(&sliding.next()), [all[2].as_str()]);
    // A room that comes into the window brings what it missed.
    sliding.body["lists"]["all"]["ranges"] = json!([[0, 0]]);
    user.say(&all[1], "hello");
    assert_eq!(sliding.next()["rooms"][&all[1]]["initial"], true);
    user.say(&all[0], "out of sight");
    user.say(&all[1], "in sight");
    let answer = sliding.next();
    assert_eq!(rooms(&answer), [all[1].as_str()]);
    user.say(&all[0], "back");
    let answer = sliding.next();
    let told = &answer["rooms"][&all[0]];
    assert!(told["initial"].is_null(), "{told}");
    assert_eq!(told["limited"], true);
    assert_eq!(bodies(told), ["back"]);
}

#[test]
fn a_larger_timeline_is_told_at_once_and_says_that_it_is_expanded() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    for text in ["a", "b", "c"] {
        bob.say(&room, text);
    }
    let mut sliding = Sliding::all(&alice, 1, json!([]));
    assert_eq!(bodies(&sliding.next()["rooms"][&room]), ["c"]);
    bob.say(&room, "d");
    assert_eq!(bodies(&sliding.next()["rooms"][&room]), ["d"]);
    // Both of the newest two were told.
    sliding.body["lists"]["all"]["timeline_limit"] = json!(2);
    assert!(rooms(&sliding.next()).is_empty());
    sliding.body["lists"]["all"]["timeline_limit"] = json!(3);
    let answer = sliding.next();
    let told = &answer["rooms"][&room];
    assert_eq!(bodies(told), ["b", "c", "d"]);
    assert_eq!(told["unstable_expanded_timeline"], true);
    assert_eq!(told["num_live"], 0);
    assert!(told["initial"].is_null(), "{told}");
    assert!(rooms(&sliding.next()).is_empty());
}

#[test]
fn more_required_state_is_told_at_once() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({"name": "N", "topic": "T"}));
    let mut sliding = Sliding::all(&user, 1, json!([["m.room.name", ""]]));
    sliding.next();
    sliding.body["lists"]["all"]["required_state"] =
        json!([["m.room.name", ""], ["m.room.topic", "*"]]);
    let answer = sliding.next();
    let told = &answer["rooms"][&room];
    assert_eq!(column(&told["required_state"], "type"), ["m.room.topic"]);
    assert!(rooms(&sliding.next()).is_empty());
}

#[test]
fn wildcards_ask_for_all_of_the_state_and_names_narrow_them() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let required = json!([["*", "*"], ["m.room.member", "$ME"]]);
    let answer = Sliding::all(&alice, 1, required).next();
    let state = &answer["rooms"][&room]["required_state"];
    let types = column(state, "type");
    assert!(types.contains(&"m.room.power_levels"), "{types:?}");
    assert!(types.contains(&"m.room.join_rules"), "{types:?}");
    let members: Vec<&Value> = state
        .as_array()
        .into_iter()
        .flatten()
        .filter(|event| event["type"] == "m.room.member")
        .collect();
    assert_eq!(members.len(), 1, "{members:?}");
    assert_eq!(members[0]["state_key"], alice.id.as_str());
    let answer = Sliding::all(&alice, 1, json!([["m.room.member", "*"]])).next();
    let mut members = column(&answer["rooms"][&room]["required_state"], "state_key");
    members.sort_unstable();
    assert_eq!(members, [alice.id.as_str(), bob.id.as_str()]);
}

#[test]
fn lazily_loaded_members_come_once_with_their_first_message() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    alice.say(&room, "mine");
    let required = json!([["m.room.member", "$LAZY"]]);
    let mut sliding = Sliding::all(&alice, 1, required);
    let members = |answer: &Value| {
        let state = &answer["rooms"][&room]["required_state"];
        let keys = column(state, "state_key").into_iter().map(str::to_owned);
        keys.collect::<Vec<String>>()
    };
    assert_eq!(members(&sliding.next()), [alice.id.as_str()]);
    bob.say(&room, "first");
    assert_eq!(members(&sliding.next()), [bob.id.as_str()]);
    bob.say(&room, "second");
    assert!(members(&sliding.next()).is_empty());
    // Without a gap every change of a member is told, whoever writes.
    bob.leave(&room);
    assert_eq!(members(&sliding.next()), [bob.id.as_str()]);
}

#[test]
fn a_subscription_shows_a_room_outside_every_window() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    bob.say(&room, "first");
    let mut sliding = Sliding::new(&alice, json!({}));
    assert!(rooms(&sliding.next()).is_empty());
    let config = json!({"timeline_limit": 1, "required_state": [["m.room.create", ""]]});
    sliding.body["room_subscriptions"] = json!({&room: config, "!not:here": config});
    let answer = sliding.next();
    assert_eq!(rooms(&answer), [room.as_str()]);
    assert!(answer["rooms"][&room]["lists"].is_null());
    assert_eq!(bodies(&answer["rooms"][&room]), ["first"]);
    bob.say(&room, "second");
    assert_eq!(bodies(&sliding.next()["rooms"][&room]), ["second"]);
    // A stranger's subscription is ignored.
    let stranger = server.register("carol");
    let mut sliding = Sliding::new(&stranger, json!({"room_subscriptions": {&room: config}}));
    assert!(rooms(&sliding.next()).is_empty());
}

#[test]
fn an_invitation_has_stripped_state_until_it_is_accepted() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"name": "Secret plans"}));
    let mut sliding = Sliding::all(&bob, 10, json!([["m.room.name", ""]]));
    sliding.next();
    alice.invite(&room, &bob);
    let answer = sliding.next();
    let told = &answer["rooms"][&room];
    assert_eq!(told["membership"], "invite");
    assert_eq!(told["initial"], true);
    assert!(column(&told["invite_state"], "type").contains(&"m.room.name"));
    assert!(
        told["timeline"].is_null() && told["required_state"].is_null(),
        "{told}"
    );
    assert!(rooms(&sliding.next()).is_empty());
    bob.join(&room);
    let answer = sliding.next();
    let told = &answer["rooms"][&room];
    assert_eq!(
        (&told["membership"], &told["initial"]),
        (&json!("join"), &json!(true))
    );
    assert_eq!(told["name"], "Secret plans");
    assert!(told["invite_state"].is_null(), "{told}");
}

#[test]
fn a_refused_invitation_is_told_as_left() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"name": "Secret plans"}));
    alice.invite(&room, &bob);
    let mut sliding = Sliding::all(
        &bob,
        10,
        json!([["m.room.member", "$ME"], ["m.room.name", ""]]),
    );
    sliding.next();
    bob.leave(&room);
    let answer = sliding.next();
    let told = &answer["rooms"][&room];
    assert_eq!(told["membership"], "leave");
    assert_eq!(column(&told["required_state"], "type"), ["m.room.member"]);
    assert!(told["name"].is_null(), "{told}");
    // A connection that never showed the room does not begin with it.
    assert!(rooms(&Sliding::all(&bob, 10, json!([])).next()).is_empty());
}

#[test]
fn a_room_that_was_left_is_told_up_to_the_leaving() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sliding = Sliding::all(&bob, 10, json!([["m.room.topic", ""]]));
    sliding.next();
    alice.say(&room, "before");
    bob.leave(&room);
    alice.say(&room, "after");
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "not for bob"}));
    let answer = sliding.next();
    let told = &answer["rooms"][&room];
    assert_eq!(told["membership"], "leave");
    assert_eq!(bodies(told), ["before"]);
    assert!(told["required_state"].is_null(), "{told}");
    alice.say(&room, "long after");
    assert!(rooms(&sliding.next()).is_empty());
    assert!(rooms(&Sliding::all(&bob, 10, json!([])).next()).is_empty());
    // Who was kicked may not know it yet.
    bob.join(&room);
    alice.membership(&room, "kick", &bob).ok();
    let answer = Sliding::all(&bob, 1, json!([])).next();
    assert_eq!(answer["rooms"][&room]["membership"], "leave");
}

#[test]
fn heroes_name_a_room_without_a_name() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let path = format!("/v3/profile/{}/displayname", encode(&bob.id));
    bob.put(&path, json!({"displayname": "Bob"})).ok();
    let room = alice.create_room(json!({"preset": "public_chat"}));
    bob.join(&room);
    let mut sliding = Sliding::all(&alice, 1, json!([]));
    let answer = sliding.next();
    let expected = json!([{"user_id": bob.id, "displayname": "Bob"}]);
    assert_eq!(answer["rooms"][&room]["heroes"], expected);
    assert_eq!(answer["rooms"][&room]["joined_count"], 2);
    bob.leave(&room);
    assert_eq!(sliding.next()["rooms"][&room]["joined_count"], 1);
}

#[test]
fn direct_rooms_are_marked_when_they_become_so() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sliding = Sliding::all(&alice, 1, json!([]));
    assert!(sliding.next()["rooms"][&room]["is_dm"].is_null());
    let path = format!("/v3/user/{}/account_data/m.direct", encode(&alice.id));
    alice.put(&path, json!({&bob.id: [&room]})).ok();
    assert_eq!(sliding.next()["rooms"][&room]["is_dm"], true);
    assert!(rooms(&sliding.next()).is_empty());
    alice.put(&path, json!({})).ok();
    assert_eq!(sliding.next()["rooms"][&room]["is_dm"], false);
}

#[test]
fn unread_counts_follow_messages_and_receipts() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sliding = Sliding::all(&alice, 1, json!([]));
    sliding.next();
    let event = bob.say(&room, "read me");
    assert_eq!(sliding.next()["rooms"][&room]["notification_count"], 1);
    let path = format!(
        "/v3/rooms/{}/receipt/m.read/{}",
        encode(&room),
        encode(&event)
    );
    alice.post(&path, json!({})).ok();
    assert_eq!(sliding.next()["rooms"][&room]["notification_count"], 0);
    assert!(rooms(&sliding.next()).is_empty());
}

#[test]
fn filters_choose_the_rooms_of_a_list() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let plain = alice.create_room(json!({"name": "Plain Sailing"}));
    let encryption =
        json!({"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}});
    let encrypted = alice.create_room(json!({"initial_state": [encryption]}));
    let space = alice.create_room(json!({"creation_content": {"type": "m.space"}}));
    let via = json!({"via": [alice.server_name()]});
    alice.set_state(&space, "m.space.child", &encrypted, via);
    let invited = bob.create_room(json!({}));
    bob.invite(&invited, &alice);
    let user = encode(&alice.id);
    let direct = json!({&bob.id: [&encrypted]});
    alice
        .put(&format!("/v3/user/{user}/account_data/m.direct"), direct)
        .ok();
    let tag = format!("/v3/user/{user}/rooms/{}/tags/m.favourite", encode(&plain));
    alice.put(&tag, json!({})).ok();
    let cases = [
        (json!({}), vec![&plain, &encrypted, &space, &invited]),
        (json!({"is_dm": true}), vec![&encrypted]),
        (json!({"is_dm": false}), vec![&plain, &space, &invited]),
        (json!({"is_encrypted": true}), vec![&encrypted]),
        (
            json!({"is_encrypted": false, "is_invite": false}),
            vec![&plain, &space],
        ),
        (json!({"is_invite": true}), vec![&invited]),
        (json!({"room_types": ["m.space"]}), vec![&space]),
        (
            json!({"room_types": [null]}),
            vec![&plain, &encrypted, &invited],
        ),
        (
            json!({"not_room_types": ["m.space"]}),
            vec![&plain, &encrypted, &invited],
        ),
        (json!({"room_name_like": "SAIL"}), vec![&plain]),
        (json!({"tags": ["m.favourite"]}), vec![&plain]),
        (
            json!({"not_tags": ["m.favourite"]}),
            vec![&encrypted, &space, &invited],
        ),
        (json!({"spaces": [&space]}), vec![&encrypted]),
        (json!({"spaces": ["!none:here"]}), vec![]),
    ];
    for (filters, mut expected) in cases {
        let mut sliding = Sliding::all(&alice, 1, json!([]));
        sliding.body["lists"]["all"]["filters"] = filters.clone();
        let answer = sliding.next();
        let mut shown = rooms(&answer);
        shown.sort_unstable();
        expected.sort_unstable();
        assert_eq!(shown, expected, "{filters}");
        assert_eq!(answer["lists"]["all"]["count"], shown.len(), "{filters}");
    }
}

#[test]
fn a_filter_follows_what_it_asks_for() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let mut sliding = Sliding::all(&user, 1, json!([]));
    sliding.body["lists"]["all"]["filters"] = json!({"tags": ["u.work"]});
    assert_eq!(sliding.next()["lists"]["all"]["count"], 0);
    let of = encode(&user.id);
    let tag = format!("/v3/user/{of}/rooms/{}/tags/u.work", encode(&room));
    user.put(&tag, json!({})).ok();
    let answer = sliding.next();
    assert_eq!(answer["lists"]["all"]["count"], 1);
    assert_eq!(rooms(&answer), [room.as_str()]);
    user.delete(&tag).ok();
    assert_eq!(sliding.next()["lists"]["all"]["count"], 0);
    sliding.body["lists"]["all"]["filters"] = json!({"is_encrypted": true});
    assert_eq!(sliding.next()["lists"]["all"]["count"], 0);
    let encryption = json!({"algorithm": "m.megolm.v1.aes-sha2"});
    user.set_state(&room, "m.room.encryption", "", encryption);
    assert_eq!(sliding.next()["lists"]["all"]["count"], 1);
}

#[test]
fn the_stable_endpoint_has_the_fields_of_the_proposal() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"name": "The room", "invite": [bob.id]}));
    let state =
        json!({"include": [{}], "exclude": [{"type": "m.room.create"}], "lazy_members": true});
    let list = json!({"timeline_limit": 1, "required_state": state, "range": [0, 9]});
    let mut body = json!({"conn_id": "main", "lists": {"all": list}});
    let invited = bob.post("/v4/sync", body.clone()).ok();
    let told = &invited["rooms"][&room];
    assert!(
        column(&told["stripped_state"], "type").contains(&"m.room.name"),
        "{told}"
    );
    let answer = alice.post("/v4/sync", body.clone()).ok();
    let told = &answer["rooms"][&room];
    let types = column(&told["required_state"], "type");
    assert!(types.contains(&"m.room.power_levels"), "{types:?}");
    assert!(!types.contains(&"m.room.create"), "{types:?}");
    assert!(told["notification_count"].is_null(), "{told}");
    alice.set_state(&room, "m.room.name", "", json!({}));
    alice.say(&room, "hello");
    body["pos"] = answer["pos"].clone();
    body["timeout"] = json!(0);
    let answer = alice.post("/v4/sync", body.clone()).ok();
    assert_eq!(answer["rooms"][&room].get("name"), Some(&Value::Null));
    // A position can be paginated from.
    let path = format!("/v3/rooms/{}/messages?dir=b&limit=1", encode(&room));
    let from = encode(answer["pos"].as_str().expect("a pos"));
    let messages = alice.get(&format!("{path}&from={from}")).ok();
    assert_eq!(messages["chunk"][0]["content"]["body"], "hello");
    body["lists"]["all"]["timeline_limit"] = json!(5);
    body["pos"] = answer["pos"].clone();
    let answer = alice.post("/v4/sync", body).ok();
    assert_eq!(answer["rooms"][&room]["expanded_timeline"], true);
}

#[test]
fn a_bad_request_gets_its_code() {
    let server = server();
    let user = server.register("alice");
    let list = |key: &str, value: Value| {
        let mut list = json!({"timeline_limit": 1, "required_state": []});
        list[key] = value;
        json!({"lists": {"all": list}})
    };
    let cases = [
        (json!([]), "M_BAD_JSON"),
        (list("timeline_limit", json!(-1)), "M_BAD_JSON"),
        (list("timeline_limit", json!(1001)), "M_INVALID_PARAM"),
        (
            list("required_state", json!([["only a type"]])),
            "M_BAD_JSON",
        ),
        (list("ranges", json!([[5, 2]])), "M_INVALID_PARAM"),
        (list("ranges", json!([[0, -1]])), "M_BAD_JSON"),
        (json!({"lists": {"all": {}}}), "M_MISSING_PARAM"),
        (json!({"conn_id": "x".repeat(256)}), "M_INVALID_PARAM"),
        (
            json!({"extensions": {"to_device": {"enabled": true, "since": "x"}}}),
            "M_INVALID_PARAM",
        ),
    ];
    for (body, code) in cases {
        user.post(&format!("{UNSTABLE}?timeout=0"), body)
            .error(400, code);
    }
    let lists: serde_json::Map<String, Value> = (0..101)
        .map(|n| {
            (
                n.to_string(),
                json!({"timeline_limit": 1, "required_state": []}),
            )
        })
        .collect();
    user.post(UNSTABLE, json!({"lists": lists}))
        .error(400, "M_INVALID_PARAM");
    user.post("/v4/sync", json!({"set_presence": "dancing"}))
        .error(400, "M_INVALID_PARAM");
    let stable = json!({"timeline_limit": 1, "required_state": {}});
    user.post("/v4/sync", json!({"lists": {"not opaque": stable}}))
        .error(400, "M_INVALID_PARAM");
    user.without_token()
        .post(UNSTABLE, json!({}))
        .error(401, "M_MISSING_TOKEN");
    user.post(&format!("{UNSTABLE}?timeout=soon"), json!({}))
        .error(400, "M_INVALID_PARAM");
    // An extension that the server does not know is none of its business.
    let unknown = json!({"extensions": {"org.example.unknown": {"enabled": true}}});
    user.post(&format!("{UNSTABLE}?timeout=0"), unknown).ok();
}
