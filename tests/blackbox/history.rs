//! Reading history: messages, context, single events, and finding an event by time.

use serde_json::{Value, json};
use testkit::{User, encode};

use crate::{column, pair, server};

/// The ids of a page of messages, and where the next page begins.
fn page(user: &User, room: &str, query: &str) -> (Vec<String>, Option<String>) {
    let answer = user.get(&format!("/v3/rooms/{room}/messages?{query}")).ok();
    assert!(answer["start"].is_string(), "{answer}");
    let ids = column(&answer["chunk"], "event_id")
        .into_iter()
        .map(str::to_owned)
        .collect();
    (ids, answer["end"].as_str().map(str::to_owned))
}

/// Every page from an end of the room to the other.
fn pages(user: &User, room: &str, direction: &str, limit: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut from = String::new();
    loop {
        let query = format!("dir={direction}&limit={limit}{from}");
        let (ids, end) = page(user, room, &query);
        assert!(ids.len() <= limit, "{ids:?}");
        all.extend(ids);
        match end {
            Some(end) => from = format!("&from={}", encode(&end)),
            None => return all,
        }
    }
}

fn messages(user: &User, room: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| user.say(room, &format!("message {number}")))
        .collect()
}

#[test]
fn history_is_read_backwards_page_by_page_to_its_beginning() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let mut sent = messages(&alice, &room, 25);
    let mut read = pages(&bob, &room, "b", 7);
    let first = read.last().cloned().expect("an event");
    assert_eq!(bob.event(&room, &first).ok()["type"], "m.room.create");
    read.truncate(25);
    sent.reverse();
    assert_eq!(read, sent);
}

#[test]
fn history_reads_the_same_in_both_directions() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    messages(&alice, &room, 15);
    let mut backwards = pages(&bob, &room, "b", 4);
    backwards.reverse();
    let mut forwards = Vec::new();
    let mut from = String::new();
    // Forwards there is always a next page: what has not happened yet.
    loop {
        let (ids, end) = page(&bob, &room, &format!("dir=f&limit=6{from}"));
        if ids.is_empty() {
            break;
        }
        forwards.extend(ids);
        let Some(end) = end else { break };
        from = format!("&from={}", encode(&end));
    }
    assert_eq!(forwards, backwards);
}

#[test]
fn the_gap_of_a_limited_sync_is_filled_from_its_token() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = bob.sync(None, "").next_batch().to_owned();
    let sent = messages(&alice, &room, 20);
    let filter = encode(&json!({"room": {"timeline": {"limit": 5}}}).to_string());
    let answer = bob.sync(Some(&since), &format!("&filter={filter}"));
    let timeline = &answer.joined(&room)["timeline"];
    assert_eq!(timeline["limited"], true);
    let newest: Vec<&str> = sent[15..].iter().map(String::as_str).collect();
    assert_eq!(answer.event_ids(&room), newest);
    let token = encode(timeline["prev_batch"].as_str().expect("a token"));
    let (mut before, _) = page(&bob, &room, &format!("dir=b&limit=15&from={token}"));
    before.reverse();
    assert_eq!(before, sent[..15]);
    let (gap, _) = page(
        &bob,
        &room,
        &format!("dir=b&limit=100&from={token}&to={}", encode(&since)),
    );
    assert_eq!(gap.len(), 15, "the page ends at the token `to`");
}

#[test]
fn messages_are_filtered() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let of_alice = alice.say(&room, "of alice");
    let of_bob = bob.say(&room, "of bob");
    let filter = |filter: Value| format!("dir=b&filter={}", encode(&filter.to_string()));
    let (ids, _) = page(&alice, &room, &filter(json!({"types": ["m.room.message"]})));
    assert_eq!(ids, [of_bob.clone(), of_alice]);
    let (ids, _) = page(
        &alice,
        &room,
        &filter(json!({"senders": [bob.id], "not_types": ["m.room.member"]})),
    );
    assert_eq!(ids, [of_bob]);
}

#[test]
fn a_page_that_the_filter_cut_short_has_an_end_to_go_on_from() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let before = alice.say(&room, "of alice");
    let of_bob = bob.say(&room, "of bob");
    let after = alice.say(&room, "of alice again");
    let filter = format!(
        "&filter={}",
        encode(&json!({"types": ["m.room.message"], "senders": [bob.id]}).to_string())
    );
    for (direction, next) in [("b", before), ("f", after)] {
        let (ids, end) = page(&alice, &room, &format!("dir={direction}{filter}"));
        assert_eq!(ids, std::slice::from_ref(&of_bob));
        let from = format!("&from={}", encode(&end.expect("an end")));
        // Without the filter there is more, with it there is not.
        let (ids, _) = page(&alice, &room, &format!("dir={direction}&limit=1{from}"));
        assert_eq!(ids, [next]);
        let nothing = page(&alice, &room, &format!("dir={direction}{filter}{from}"));
        assert_eq!(nothing, (Vec::new(), None));
    }
}

#[test]
fn lazily_loaded_messages_come_with_their_senders() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    server.register("carol").join(&room);
    bob.say(&room, "hello");
    let filter = encode(&json!({"lazy_load_members": true}).to_string());
    let path = format!("/v3/rooms/{room}/messages?dir=b&limit=1&filter={filter}");
    let answer = alice.get(&path).ok();
    assert_eq!(column(&answer["state"], "state_key"), [bob.id.as_str()]);
}

#[test]
fn a_page_with_a_wrong_direction_token_or_limit_is_refused() {
    let server = server();
    let (alice, _, room) = pair(&server);
    for query in [
        "dir=sideways",
        "dir=b&from=no-token-of-ours",
        "dir=b&limit=many",
    ] {
        let answer = alice.get(&format!("/v3/rooms/{room}/messages?{query}"));
        assert_eq!(answer.status, 400, "{answer}");
    }
}

#[test]
fn strangers_read_no_history() {
    let server = server();
    let (alice, carol) = (server.register("alice"), server.register("carol"));
    let room = alice.create_room(json!({"preset": "private_chat"}));
    let id = alice.say(&room, "private");
    carol
        .get(&format!("/v3/rooms/{room}/messages?dir=b"))
        .error(403, "M_FORBIDDEN");
    carol
        .get(&format!("/v3/rooms/{room}/state"))
        .error(403, "M_FORBIDDEN");
    carol
        .get(&format!("/v3/rooms/{room}/members"))
        .error(403, "M_FORBIDDEN");
    carol
        .get(&format!("/v3/rooms/{room}/joined_members"))
        .error(403, "M_FORBIDDEN");
    carol
        .state(&room, "m.room.create", "")
        .error(403, "M_FORBIDDEN");
    carol.event(&room, &id).error(404, "M_NOT_FOUND");
    let context = carol.get(&format!("/v3/rooms/{room}/context/{id}"));
    assert!(matches!(context.status, 403 | 404), "{context}");
}

#[test]
fn the_context_of_an_event_is_what_stands_around_it() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let sent = messages(&alice, &room, 11);
    let answer = bob
        .get(&format!("/v3/rooms/{room}/context/{}?limit=4", sent[5]))
        .ok();
    assert_eq!(answer["event"]["event_id"], sent[5]);
    assert_eq!(
        column(&answer["events_before"], "event_id"),
        [&sent[4], &sent[3]]
    );
    assert_eq!(
        column(&answer["events_after"], "event_id"),
        [&sent[6], &sent[7]]
    );
    let state = answer["state"].as_array().map_or(0, Vec::len);
    assert!(state > 3, "{answer}");
    let token = |key: &str| encode(answer[key].as_str().expect("a token"));
    let (before, _) = page(
        &bob,
        &room,
        &format!("dir=b&limit=2&from={}", token("start")),
    );
    assert_eq!(before, [sent[2].clone(), sent[1].clone()]);
    let (after, _) = page(&bob, &room, &format!("dir=f&limit=2&from={}", token("end")));
    assert_eq!(after, [sent[8].clone(), sent[9].clone()]);
}

#[test]
fn a_context_without_a_limit_of_events_has_only_the_event() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let sent = messages(&alice, &room, 3);
    let answer = alice
        .get(&format!("/v3/rooms/{room}/context/{}?limit=0", sent[1]))
        .ok();
    assert_eq!(answer["event"]["event_id"], sent[1]);
    assert_eq!(
        (&answer["events_before"], &answer["events_after"]),
        (&json!([]), &json!([]))
    );
}

#[test]
fn an_event_is_found_by_its_time() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let sent = messages(&alice, &room, 3);
    let time = bob.event(&room, &sent[1]).ok()["origin_server_ts"]
        .as_u64()
        .expect("a time");
    let find = |time: u64, direction: &str| {
        bob.get(&format!(
            "/v1/rooms/{room}/timestamp_to_event?ts={time}&dir={direction}"
        ))
    };
    let found = find(time, "b").ok();
    assert!(
        found["origin_server_ts"]
            .as_u64()
            .is_some_and(|at| at <= time),
        "{found}"
    );
    let found = find(time, "f").ok();
    assert!(
        found["origin_server_ts"]
            .as_u64()
            .is_some_and(|at| at >= time),
        "{found}"
    );
    find(time + 1_000_000_000, "f").error(404, "M_NOT_FOUND");
    find(1, "b").error(404, "M_NOT_FOUND");
    let first = find(1, "f").ok()["event_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(bob.event(&room, &first).ok()["type"], "m.room.create");
}

#[test]
fn messages_keep_their_order_while_tokens_stay_valid() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let sent = messages(&alice, &room, 6);
    let (_, end) = page(&bob, &room, "dir=b&limit=3");
    messages(&alice, &room, 4);
    let (ids, _) = page(
        &bob,
        &room,
        &format!("dir=b&limit=3&from={}", encode(&end.expect("more"))),
    );
    assert_eq!(ids, [sent[2].clone(), sent[1].clone(), sent[0].clone()]);
}

#[test]
fn the_members_of_a_room_are_listed_as_they_were() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    alice.say(&room, "alone");
    let before = alice.sync(None, "").next_batch().to_owned();
    bob.join(&room);
    let members = |user: &User, query: &str| -> Vec<String> {
        let answer = user.get(&format!("/v3/rooms/{room}/members{query}")).ok();
        let mut ids: Vec<String> = column(&answer["chunk"], "state_key")
            .into_iter()
            .map(str::to_owned)
            .collect();
        ids.sort();
        ids
    };
    let at = format!("?at={}", encode(&before));
    let mut both = vec![alice.id.clone(), bob.id.clone()];
    both.sort();
    assert_eq!(members(&alice, &at), std::slice::from_ref(&alice.id));
    assert_eq!(members(&alice, ""), both);
    bob.leave(&room);
    server.register("carol").join(&room);
    assert_eq!(
        members(&bob, ""),
        both,
        "who has left sees the members of then"
    );
    assert_eq!(
        members(&bob, "?membership=join"),
        std::slice::from_ref(&alice.id)
    );
    assert_eq!(
        members(&bob, "?not_membership=join"),
        std::slice::from_ref(&bob.id)
    );
    let answer = alice.get(&format!("/v3/rooms/{room}/members?membership=nothing"));
    answer.error(400, "M_INVALID_PARAM");
}

#[test]
fn old_clients_are_told_of_a_room_at_once() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let sent = messages(&alice, &room, 3);
    let answer = bob
        .get(&format!("/v3/rooms/{room}/initialSync?limit=2"))
        .ok();
    assert_eq!(
        column(&answer["messages"]["chunk"], "event_id"),
        [&sent[1], &sent[2]]
    );
    assert_eq!(
        (&answer["room_id"], &answer["membership"]),
        (&json!(room), &json!("join"))
    );
    let token = encode(answer["messages"]["start"].as_str().expect("a token"));
    let (before, _) = page(&bob, &room, &format!("dir=b&limit=1&from={token}"));
    assert_eq!(before, sent[..1]);
}
