//! Searching messages, the list of notifications, and the rooms that one shares with somebody.

use serde_json::{Value, json};
use testkit::{User, encode};

use crate::{column, pair, server};

fn search(user: &User, room: &str, term: &str, more: Value) -> Value {
    search_page(user, room, term, more, "")
}

fn search_page(user: &User, room: &str, term: &str, more: Value, query: &str) -> Value {
    let mut criteria = json!({
        "search_term": term, "filter": {"rooms": [room]}, "order_by": "recent",
    });
    if let (Some(criteria), Some(more)) = (criteria.as_object_mut(), more.as_object()) {
        criteria.extend(more.clone());
    }
    let body = json!({"search_categories": {"room_events": criteria}});
    let answer = user.post(&format!("/v3/search{query}"), body).ok();
    answer["search_categories"]["room_events"].clone()
}

fn found(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().map_or(&[][..], Vec::as_slice);
    let ids = results.iter().map(|it| it["result"]["event_id"].as_str());
    ids.map(Option::unwrap_or_default).collect()
}

#[test]
fn messages_are_found_by_their_words() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let first = alice.say(&room, "Hello, World");
    let second = bob.say(&room, "the world goes round");
    alice.say(&room, "worldwide is another word");
    let answer = search(&alice, &room, "world", json!({}));
    assert_eq!(found(&answer), [second.as_str(), first.as_str()]);
    assert_eq!(answer["count"], 2);
    assert_eq!(answer["highlights"], json!(["world"]));
    assert!(answer["next_batch"].is_null(), "{answer}");
    assert_eq!(
        found(&search(&bob, &room, "hello WORLD", json!({}))),
        [first.as_str()]
    );
    let topic = json!({"topic": "a world of its own"});
    let topic = alice.set_state(&room, "m.room.topic", "", topic);
    let only_topics = json!({"keys": ["content.topic"]});
    assert_eq!(
        found(&search(&bob, &room, "world", only_topics)),
        [topic.as_str()]
    );
}

#[test]
fn what_was_redacted_or_is_not_ones_own_is_not_found() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let id = alice.say(&room, "a needle");
    let kept = alice.say(&room, "another needle");
    alice.redact(&room, &id);
    for order in ["recent", "rank"] {
        let answer = search(&alice, &room, "needle", json!({"order_by": order}));
        assert_eq!(found(&answer), [kept.as_str()]);
    }
    let carol = server.register("carol");
    let answer = search(&carol, &room, "needle", json!({}));
    assert_eq!(
        (&answer["count"], &answer["results"]),
        (&json!(0), &json!([]))
    );
}

#[test]
fn results_come_in_pages_that_new_messages_do_not_shift() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sent: Vec<String> = (0..5)
        .map(|n| alice.say(&room, &format!("page {n}")))
        .collect();
    sent.reverse();
    let limited = json!({"filter": {"rooms": [room], "limit": 2}});
    let first = search(&alice, &room, "page", limited.clone());
    assert_eq!(found(&first), sent[..2]);
    assert_eq!(first["count"], 5);
    bob.say(&room, "one more page");
    let next = encode(first["next_batch"].as_str().expect("there are more"));
    let query = format!("?next_batch={next}");
    let second = search_page(&alice, &room, "page", limited, &query);
    assert_eq!(found(&second), sent[2..4]);
}

#[test]
fn a_result_comes_with_what_stands_around_it() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let sent: Vec<String> = ["one", "two", "three", "four", "five"]
        .map(|text| alice.say(&room, text))
        .into();
    let more = json!({
        "event_context": {"before_limit": 1, "after_limit": 1, "include_profile": true},
        "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]},
        "include_state": true,
    });
    let answer = search(&alice, &room, "three", more);
    let context = &answer["results"][0]["context"];
    assert_eq!(column(&context["events_before"], "event_id"), [&sent[1]]);
    assert_eq!(column(&context["events_after"], "event_id"), [&sent[3]]);
    assert!(context["profile_info"][&alice.id].is_object(), "{context}");
    assert_eq!(
        answer["groups"]["room_id"][&room]["results"],
        json!([sent[2]])
    );
    assert_eq!(
        answer["groups"]["sender"][&alice.id]["results"],
        json!([sent[2]])
    );
    assert!(
        answer["state"][&room]
            .as_array()
            .is_some_and(|all| all.len() > 3)
    );
}

#[test]
fn a_search_without_a_term_is_refused() {
    let server = server();
    let alice = server.register("alice");
    let body = json!({"search_categories": {"room_events": {}}});
    let answer = alice.post("/v3/search", body);
    assert_eq!(answer.status, 400, "{answer}");
    let answer = alice.post("/v3/search", json!({"search_categories": {}}));
    assert_eq!(answer.ok(), json!({"search_categories": {}}));
}

#[test]
fn notifications_are_listed_newest_first() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mention = json!({"msgtype": "m.text", "body": "you", "m.mentions": {"user_ids": [bob.id]}});
    let mentioned = alice.send(&room, "m.room.message", mention);
    let plain = alice.say(&room, "plain");
    bob.say(&room, "my own");
    let listed = |query: &str| bob.get(&format!("/v3/notifications{query}")).ok();
    let ids = |answer: &Value| -> Vec<String> {
        let all = answer["notifications"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        all.iter()
            .map(|it| {
                it["event"]["event_id"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
    };
    let all = listed("");
    assert_eq!(ids(&all), [plain.clone(), mentioned.clone()]);
    assert_eq!(all["notifications"][0]["room_id"], room);
    assert_eq!(all["notifications"][0]["actions"][0], "notify");
    assert_eq!(
        ids(&listed("?only=highlight")),
        std::slice::from_ref(&mentioned)
    );
    let first = listed("?limit=1");
    let next = encode(first["next_token"].as_str().expect("there are more"));
    let second = listed(&format!("?from={next}"));
    assert_eq!(
        (ids(&first), ids(&second)),
        (vec![plain.clone()], vec![mentioned])
    );
    let path = format!("/v3/rooms/{room}/receipt/m.read/{plain}");
    bob.post(&path, json!({})).ok();
    assert_eq!(listed("")["notifications"][0]["read"], true);
}

#[test]
fn mutual_rooms_are_those_that_both_are_in() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    alice.create_room(json!({}));
    let shared = |other: &str| alice.get(&format!("/v1/mutual_rooms?user_id={}", encode(other)));
    let answer = shared(&bob.id).ok();
    assert_eq!(answer, json!({"joined": [room], "count": 1}));
    bob.leave(&room);
    assert_eq!(shared(&bob.id).ok()["joined"], json!([]));
    let nobody = format!("@nobody:{}", alice.server_name());
    assert_eq!(shared(&nobody).ok()["joined"], json!([]));
    shared(&alice.id).error(400, "M_INVALID_PARAM");
    shared("bob").error(400, "M_INVALID_PARAM");
}
