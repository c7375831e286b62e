//! Sync: tokens, timelines and gaps, state before and after the timeline, long-polling.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{User, encode};

use crate::{column, pair, server};

fn filter(filter: Value) -> String {
    format!("&filter={}", encode(&filter.to_string()))
}

fn limit(limit: usize) -> String {
    filter(json!({"room": {"timeline": {"limit": limit}}}))
}

/// The (type, state key) pairs of some state events; none may come twice.
fn pairs(events: &[Value]) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all: Vec<_> = events
        .iter()
        .map(|event| (text(&event["type"]), text(&event["state_key"])))
        .collect();
    let distinct: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(
        all.len(),
        distinct.len(),
        "a state entry comes once: {all:?}"
    );
    distinct
}

#[test]
fn a_first_sync_has_the_rooms_with_state_and_timeline_apart() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({"name": "The room"}));
    for number in 0..5 {
        user.say(&room, &format!("message {number}"));
    }
    let answer = user.sync(None, &limit(3));
    assert_eq!(answer.timeline(&room).len(), 3);
    assert_eq!(answer.joined(&room)["timeline"]["limited"], true);
    let state = pairs(answer.state(&room));
    assert!(
        state.contains(&("m.room.create".to_owned(), String::new())),
        "{state:?}"
    );
    assert!(
        state.contains(&("m.room.name".to_owned(), String::new())),
        "{state:?}"
    );
    assert!(
        state.contains(&("m.room.member".to_owned(), user.id.clone())),
        "{state:?}"
    );
    for event in answer.timeline(&room) {
        assert!(
            event["room_id"].is_null(),
            "the room is known from the place: {event}"
        );
    }
}

#[test]
fn a_room_that_fits_in_the_timeline_has_no_state_beside_it() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    let answer = user.sync(None, &limit(50));
    assert_eq!(answer.timeline(&room)[0]["type"], "m.room.create");
    assert!(answer.state(&room).is_empty(), "{:?}", answer.state(&room));
    assert_ne!(answer.joined(&room)["timeline"]["limited"], true);
}

#[test]
fn an_incremental_sync_has_only_what_is_new() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let quiet = alice.create_room(json!({}));
    let first = alice.sync(None, "");
    assert!(!first.joined(&quiet).is_null());
    let id = bob.say(&room, "hello");
    let second = alice.sync(Some(first.next_batch()), "");
    assert_eq!(second.event_ids(&room), [id.as_str()]);
    assert!(second.state(&room).is_empty());
    assert!(second.joined(&quiet).is_null(), "nothing happened there");
    let third = alice.sync(Some(second.next_batch()), "");
    assert!(third.joined(&room).is_null(), "{third:?}");
}

#[test]
fn the_same_token_gives_the_same_events_again() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = alice.sync(None, "").next_batch().to_owned();
    let id = bob.say(&room, "hello");
    for _ in 0..3 {
        assert_eq!(alice.sync(Some(&since), "").event_ids(&room), [id.as_str()]);
    }
}

#[test]
fn a_gap_says_so_and_brings_the_state_that_changed_in_it() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = bob.sync(None, "").next_batch().to_owned();
    let topic = alice.set_state(&room, "m.room.topic", "", json!({"topic": "in the gap"}));
    for number in 0..5 {
        alice.say(&room, &format!("message {number}"));
    }
    let answer = bob.sync(Some(&since), &limit(2));
    let timeline = &answer.joined(&room)["timeline"];
    assert_eq!(timeline["limited"], true);
    assert!(timeline["prev_batch"].is_string());
    assert_eq!(answer.timeline(&room).len(), 2);
    let ids: Vec<_> = answer
        .state(&room)
        .iter()
        .map(|event| &event["event_id"])
        .collect();
    assert_eq!(ids, [&json!(topic)]);
}

#[test]
fn state_in_the_timeline_is_not_repeated_before_it() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = bob.sync(None, "").next_batch().to_owned();
    let first = alice.set_state(&room, "m.room.topic", "", json!({"topic": "first"}));
    for number in 0..5 {
        alice.say(&room, &format!("message {number}"));
    }
    let second = alice.set_state(&room, "m.room.topic", "", json!({"topic": "second"}));
    let answer = bob.sync(Some(&since), &limit(1));
    assert_eq!(answer.event_ids(&room), [second.as_str()]);
    // Before the timeline the topic was the first one, which a server may leave out, as it is
    // replaced at once.
    let ids: Vec<_> = answer
        .state(&room)
        .iter()
        .map(|event| &event["event_id"])
        .collect();
    assert!(ids.is_empty() || ids == [&json!(first)], "{ids:?}");
}

#[test]
fn state_after_has_the_state_at_the_end_of_the_timeline() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let first = bob.sync(None, "&use_state_after=true");
    let joined = first.joined(&room);
    assert!(
        joined["state"].is_null() && joined["state_after"].is_object(),
        "{joined}"
    );
    let after = joined["state_after"]["events"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(pairs(&after).contains(&("m.room.create".to_owned(), String::new())));
    alice.set_state(&room, "m.room.topic", "", json!({"topic": "first"}));
    let last = alice.set_state(&room, "m.room.topic", "", json!({"topic": "second"}));
    let second = bob.sync(Some(first.next_batch()), "&use_state_after=true");
    let joined = second.joined(&room);
    assert!(joined["state"].is_null());
    assert_eq!(
        column(&joined["state_after"]["events"], "event_id"),
        [last.as_str()]
    );
    alice.say(&room, "no state");
    let third = bob.sync(Some(second.next_batch()), "&use_state_after=true");
    let after = &third.joined(&room)["state_after"];
    assert!(after.is_object(), "it is there also when empty: {third:?}");
    assert_eq!(column(&after["events"], "event_id"), [""; 0]);
}

#[test]
fn full_state_brings_all_state_with_only_new_events() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = bob.sync(None, "").next_batch().to_owned();
    let id = alice.say(&room, "hello");
    let answer = bob.sync(Some(&since), "&full_state=true");
    assert_eq!(answer.event_ids(&room), [id.as_str()]);
    let state = pairs(answer.state(&room));
    for member in [&alice, &bob] {
        assert!(
            state.contains(&("m.room.member".to_owned(), member.id.clone())),
            "{state:?}"
        );
    }
}

#[test]
fn a_long_poll_waits_until_something_happens() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut follower = bob.follow_from_now();
    let begin = Instant::now();
    let quiet = follower.next(300);
    assert!(
        begin.elapsed() >= Duration::from_millis(300),
        "it waits as long as it may"
    );
    assert!(quiet.joined(&room).is_null());
    let id = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| follower.next(20_000));
        let id = alice.say(&room, "wake up");
        let answer = waiting.join().expect("a sync");
        assert_eq!(answer.event_ids(&room), [id.as_str()]);
        id
    });
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "it did not wait for its timeout"
    );
    assert_eq!(bob.event(&room, &id).ok()["content"]["body"], "wake up");
}

#[test]
fn a_first_sync_answers_at_once_whatever_its_timeout() {
    let server = server();
    let user = server.register("alice");
    let begin = Instant::now();
    user.get("/v3/sync?timeout=20000").ok();
    assert!(begin.elapsed() < Duration::from_secs(15));
}

#[test]
fn tokens_that_are_none_and_parameters_of_the_wrong_kind_are_refused() {
    let server = server();
    let user = server.register("alice");
    for query in [
        "since=no-token-of-ours",
        "timeout=long",
        "full_state=perhaps",
        "filter=9999",
    ] {
        let answer = user.get(&format!("/v3/sync?{query}"));
        assert!(matches!(answer.status, 400 | 404), "{answer}");
    }
}

#[test]
fn lazy_loading_brings_the_members_who_speak() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let (carol, dan) = (server.register("carol"), server.register("dan"));
    carol.join(&room);
    dan.join(&room);
    // Beyond the timelines of this test, so that no join stands in one.
    for number in 0..4 {
        alice.say(&room, &format!("message {number}"));
    }
    bob.say(&room, "hello");
    let lazy = |limit: usize| {
        filter(json!({"room": {
            "state": {"lazy_load_members": true}, "timeline": {"limit": limit},
        }}))
    };
    let members = |events: &[Value]| -> BTreeSet<String> {
        pairs(events)
            .into_iter()
            .filter(|pair| pair.0 == "m.room.member")
            .map(|pair| pair.1)
            .collect()
    };
    let first = dan.sync(None, &lazy(1));
    let known = members(first.state(&room));
    assert!(known.contains(&bob.id), "the sender: {known:?}");
    assert!(known.contains(&dan.id), "oneself: {known:?}");
    let heroes: Vec<String> =
        serde_json::from_value(first.joined(&room)["summary"]["m.heroes"].clone())
            .expect("the heroes of a room without a name");
    for hero in &heroes {
        assert!(
            known.contains(hero),
            "the heroes' members come too: {hero} {known:?}"
        );
    }
    carol.say(&room, "hello too");
    let second = dan.sync(Some(first.next_batch()), &lazy(1));
    let sent = members(second.state(&room));
    assert!(
        sent.contains(&carol.id) || known.contains(&carol.id),
        "{sent:?} {known:?}"
    );
    carol.say(&room, "again");
    let third = dan.sync(Some(second.next_batch()), &lazy(1));
    assert!(
        members(third.state(&room)).is_empty(),
        "carol is known by now"
    );
    let redundant = filter(json!({"room": {"state": {
        "lazy_load_members": true, "include_redundant_members": true,
    }}}));
    let again = dan.sync(Some(second.next_batch()), &redundant);
    assert!(
        members(again.state(&room)).contains(&carol.id),
        "redundant ones on demand"
    );
}

#[test]
fn a_summary_names_the_heroes_and_counts_the_members() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let carol = server.register("carol");
    alice.invite(&room, &carol);
    let answer = alice.sync(None, "");
    let summary = &answer.joined(&room)["summary"];
    assert_eq!(summary["m.joined_member_count"], 2, "{summary}");
    assert_eq!(summary["m.invited_member_count"], 1, "{summary}");
    let heroes: BTreeSet<&str> = crate::strings(&summary["m.heroes"]).into_iter().collect();
    assert_eq!(heroes, BTreeSet::from([bob.id.as_str(), carol.id.as_str()]));
    carol.join(&room);
    let answer = alice.sync(Some(answer.next_batch()), "");
    let summary = &answer.joined(&room)["summary"];
    assert_eq!(summary["m.joined_member_count"], 3, "{answer:?}");
    assert_eq!(summary["m.invited_member_count"], 0, "{answer:?}");
}

#[test]
fn events_come_in_the_order_of_the_room_to_everybody() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since =
        [alice.sync(None, ""), bob.sync(None, "")].map(|answer| answer.next_batch().to_owned());
    let mut sent: Vec<String> = Vec::new();
    for number in 0..5 {
        sent.push(alice.say(&room, &format!("alice {number}")));
        sent.push(bob.say(&room, &format!("bob {number}")));
    }
    for (user, since) in [(&alice, &since[0]), (&bob, &since[1])] {
        let answer = user.sync(Some(since), &limit(50));
        assert_eq!(answer.event_ids(&room), sent);
    }
}

#[test]
fn the_old_event_format_of_federation_can_be_asked_for() {
    let server = server();
    let user: User = server.register("alice");
    let room = user.create_room(json!({}));
    user.say(&room, "hello");
    let answer = user.sync(None, &filter(json!({"event_format": "federation"})));
    let event = answer.timeline(&room).last().cloned().expect("an event");
    assert!(
        event["prev_events"].is_array() && event["hashes"].is_object(),
        "{event}"
    );
}

#[test]
fn fields_can_be_chosen() {
    let server = server();
    let user = server.register("alice");
    let room = user.create_room(json!({}));
    user.say(&room, "hello");
    let chosen = filter(json!({"event_fields": ["type", "content.body"]}));
    let answer = user.sync(None, &chosen);
    let event = answer.timeline(&room).last().cloned().expect("an event");
    assert_eq!(
        event,
        json!({"type": "m.room.message", "content": {"body": "hello"}})
    );
}
