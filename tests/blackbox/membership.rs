//! Room membership: joining, inviting, leaving, kicking, banning, knocking, forgetting.

use serde_json::{Value, json};
use testkit::{Response, User, encode};

use crate::{pair, server};

/// Refused because of how the user stands to the room.
#[track_caller]
fn refused(answer: &Response) {
    assert_eq!(answer.status, 403, "{answer}");
    let code = answer.value()["errcode"].clone();
    assert!(code == "M_FORBIDDEN" || code == "M_BAD_STATE", "{answer}");
}

fn membership(by: &User, room: &str, of: &User) -> Value {
    by.state(room, "m.room.member", &of.id).ok()["membership"].clone()
}

#[test]
fn anyone_joins_a_public_room_by_id_and_by_alias() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let name = format!("open-{}", alice.localpart());
    let room = alice.create_room(json!({"preset": "public_chat", "room_alias_name": name}));
    let by_alias = format!(
        "/v3/join/{}",
        encode(&format!("#{name}:{}", alice.server_name()))
    );
    assert_eq!(
        bob.post(&by_alias, json!({})).ok(),
        json!({"room_id": room})
    );
    let carol = server.register("carol");
    let by_id = format!("/v3/rooms/{room}/join");
    assert_eq!(
        carol.post(&by_id, json!({"reason": "curious"})).ok(),
        json!({"room_id": room})
    );
    let member = alice.state(&room, "m.room.member", &carol.id).ok();
    assert_eq!(member["reason"], "curious");
    let joined = alice.get(&format!("/v3/rooms/{room}/joined_members")).ok();
    let ids: Vec<&String> = joined["joined"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|m| m.0)
        .collect();
    assert_eq!(ids.len(), 3, "{joined}");
}

#[test]
fn joining_twice_changes_nothing() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let since = alice.sync(None, "").next_batch().to_owned();
    bob.join(&room);
    assert!(alice.sync(Some(&since), "").timeline(&room).is_empty());
}

#[test]
fn what_a_join_says_besides_stands_in_the_member_event() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"preset": "public_chat"}));
    let join = |body: Value| bob.post(&format!("/v3/join/{room}"), body);
    join(json!({"org.example.ratio": 0.5})).error(400, "M_BAD_JSON");
    alice
        .state(&room, "m.room.member", &bob.id)
        .error(404, "M_NOT_FOUND");
    let body = json!({
        "org.example.colour": "blue",
        "reason": "curious",
        "membership": "ban",
        "displayname": "Root",
        "join_authorised_via_users_server": alice.id,
        "third_party_signed": {"sender": alice.id, "mxid": bob.id, "token": "t", "signatures": {}},
    });
    join(body.clone()).ok();
    let member = alice.state(&room, "m.room.member", &bob.id).ok();
    let shown = bob.get(&format!("/v3/profile/{}", bob.id)).ok()["displayname"].clone();
    let mut expected = json!({
        "membership": "join", "org.example.colour": "blue", "reason": "curious",
    });
    if shown.is_string() {
        expected["displayname"] = shown;
    }
    assert_eq!(member, expected);
    // The same once more, and less, is no news; something else is.
    let since = alice.sync(None, "").next_batch().to_owned();
    join(body).ok();
    join(json!({})).ok();
    join(json!({"org.example.colour": "red"})).ok();
    let sync = alice.sync(Some(&since), "");
    let news = sync.timeline(&room);
    assert_eq!(news.len(), 1, "{news:?}");
    assert_eq!(news[0]["content"]["org.example.colour"], "red");
}

#[test]
fn a_private_room_is_joined_only_with_an_invitation() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"preset": "private_chat"}));
    bob.post(&format!("/v3/join/{room}"), json!({}))
        .error(403, "M_FORBIDDEN");
    alice.invite(&room, &bob);
    assert_eq!(membership(&alice, &room, &bob), "invite");
    bob.join(&room);
    assert_eq!(membership(&bob, &room, &bob), "join");
}

#[test]
fn an_unknown_alias_is_not_found() {
    let server = server();
    let user = server.register("alice");
    let alias = format!("#no-such-alias:{}", user.server_name());
    user.post(&format!("/v3/join/{}", encode(&alias)), json!({}))
        .error(404, "M_NOT_FOUND");
    let answer = user.post("/v3/join/neither-room-nor-alias", json!({}));
    assert_eq!(answer.status, 400, "{answer}");
}

#[test]
fn an_invitation_can_be_declined() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"invite": [bob.id]}));
    let invited = bob.sync(None, "");
    assert!(!invited.invited(&room).is_null());
    bob.leave(&room);
    assert_eq!(membership(&alice, &room, &bob), "leave");
    let after = bob.sync(Some(invited.next_batch()), "");
    assert!(after.invited(&room).is_null());
    assert!(!after.left(&room).is_null(), "{after:?}");
    bob.post(&format!("/v3/join/{room}"), json!({}))
        .error(403, "M_FORBIDDEN");
}

#[test]
fn an_invitation_can_be_withdrawn_by_a_kick() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"invite": [bob.id]}));
    alice.membership(&room, "kick", &bob).ok();
    bob.post(&format!("/v3/join/{room}"), json!({}))
        .error(403, "M_FORBIDDEN");
}

#[test]
fn members_cannot_be_invited_and_strangers_cannot_invite() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    alice
        .membership(&room, "invite", &bob)
        .error(403, "M_FORBIDDEN");
    let (carol, dan) = (server.register("carol"), server.register("dan"));
    carol
        .membership(&room, "invite", &dan)
        .error(403, "M_FORBIDDEN");
}

#[test]
fn inviting_needs_the_power_that_the_room_asks_for() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let carol = server.register("carol");
    let mut levels = alice.state(&room, "m.room.power_levels", "").ok();
    levels["invite"] = json!(50);
    alice.set_state(&room, "m.room.power_levels", "", levels);
    bob.membership(&room, "invite", &carol)
        .error(403, "M_FORBIDDEN");
    alice.membership(&room, "invite", &carol).ok();
}

#[test]
fn a_kick_removes_a_member_who_may_come_back() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let body = json!({"user_id": bob.id, "reason": "too loud"});
    alice.post(&format!("/v3/rooms/{room}/kick"), body).ok();
    let member = alice.state(&room, "m.room.member", &bob.id).ok();
    assert_eq!(
        (&member["membership"], &member["reason"]),
        (&json!("leave"), &json!("too loud"))
    );
    bob.try_send(&room, "m.room.message", json!({}))
        .error(403, "M_FORBIDDEN");
    bob.join(&room);
    assert_eq!(membership(&alice, &room, &bob), "join");
}

#[test]
fn kicking_and_banning_need_power() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    bob.membership(&room, "kick", &alice)
        .error(403, "M_FORBIDDEN");
    bob.membership(&room, "ban", &alice)
        .error(403, "M_FORBIDDEN");
    assert_eq!(membership(&bob, &room, &alice), "join");
}

#[test]
fn who_is_not_there_cannot_be_kicked() {
    let server = server();
    let (alice, _, room) = pair(&server);
    let carol = server.register("carol");
    alice
        .membership(&room, "kick", &carol)
        .error(403, "M_FORBIDDEN");
}

#[test]
fn a_ban_keeps_one_out_until_it_is_lifted() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    alice.membership(&room, "ban", &bob).ok();
    assert_eq!(membership(&alice, &room, &bob), "ban");
    refused(&bob.post(&format!("/v3/join/{room}"), json!({})));
    refused(&alice.membership(&room, "invite", &bob));
    alice.membership(&room, "unban", &bob).ok();
    assert_eq!(membership(&alice, &room, &bob), "leave");
    bob.join(&room);
}

#[test]
fn who_is_not_banned_cannot_be_unbanned() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    refused(&alice.membership(&room, "unban", &bob));
    assert_eq!(membership(&alice, &room, &bob), "join");
}

#[test]
fn a_ban_can_come_before_any_visit() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    alice.membership(&room, "ban", &bob).ok();
    refused(&bob.post(&format!("/v3/join/{room}"), json!({})));
}

#[test]
fn knocking_asks_for_an_invitation_and_is_seen_by_the_members() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let rule = json!({"type": "m.room.join_rules", "content": {"join_rule": "knock"}});
    let room = alice.create_room(json!({"initial_state": [rule], "name": "Behind the door"}));
    bob.post(&format!("/v3/join/{room}"), json!({}))
        .error(403, "M_FORBIDDEN");
    let knock = bob
        .post(&format!("/v3/knock/{room}"), json!({"reason": "let me in"}))
        .ok();
    assert_eq!(knock["room_id"], room);
    let member = alice.state(&room, "m.room.member", &bob.id).ok();
    assert_eq!(
        (&member["membership"], &member["reason"]),
        (&json!("knock"), &json!("let me in"))
    );
    let answer = bob.sync(None, "");
    let stripped = answer.0["rooms"]["knock"][&room]["knock_state"]["events"].clone();
    let has_name = |event: &Value| event["content"]["name"] == "Behind the door";
    assert!(
        stripped
            .as_array()
            .is_some_and(|events| events.iter().any(has_name)),
        "{answer:?}"
    );
    alice.invite(&room, &bob);
    bob.join(&room);
}

#[test]
fn knocking_is_refused_where_the_room_does_not_allow_it() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_room(json!({"preset": "private_chat"}));
    bob.post(&format!("/v3/knock/{room}"), json!({}))
        .error(403, "M_FORBIDDEN");
}

#[test]
fn a_restricted_room_lets_in_members_of_the_rooms_it_names() {
    let server = server();
    let (alice, bob, allowed) = pair(&server);
    let rule = json!({
        "join_rule": "restricted",
        "allow": [{"type": "m.room_membership", "room_id": allowed}],
    });
    let state = json!([{"type": "m.room.join_rules", "content": rule}]);
    let room = alice.create_room(json!({"preset": "private_chat", "initial_state": state}));
    bob.join(&room);
    let member = alice.state(&room, "m.room.member", &bob.id).ok();
    assert_eq!(member["join_authorised_via_users_server"], alice.id);
    let carol = server.register("carol");
    carol
        .post(&format!("/v3/join/{room}"), json!({}))
        .error(403, "M_FORBIDDEN");
}

#[test]
fn a_left_room_is_forgotten_only_after_leaving() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let forget = format!("/v3/rooms/{room}/forget");
    let answer = bob.post(&forget, json!({}));
    assert_eq!(answer.status, 400, "{answer}");
    bob.leave(&room);
    bob.post(&forget, json!({})).ok();
    let filter = encode(&json!({"room": {"include_leave": true}}).to_string());
    assert!(
        bob.sync(None, &format!("&filter={filter}"))
            .left(&room)
            .is_null()
    );
    bob.get(&format!("/v3/rooms/{room}/messages?dir=b"))
        .error(403, "M_FORBIDDEN");
    assert_eq!(membership(&alice, &room, &bob), "leave");
    bob.join(&room);
    bob.get(&format!("/v3/rooms/{room}/messages?dir=b")).ok();
}

#[test]
fn members_are_listed_and_filtered_by_membership() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let carol = server.register("carol");
    alice.membership(&room, "ban", &carol).ok();
    bob.leave(&room);
    let members = |query: &str| {
        let list = alice.get(&format!("/v3/rooms/{room}/members{query}")).ok();
        let mut ids: Vec<String> = list["chunk"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|event| event["state_key"].as_str().map(str::to_owned))
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(members("").len(), 3);
    assert_eq!(members("?membership=join"), [alice.id.as_str()]);
    assert_eq!(members("?membership=ban"), [carol.id.as_str()]);
    assert_eq!(members("?not_membership=join").len(), 2);
}

#[test]
fn membership_events_obey_the_same_rules_as_the_endpoints() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let content = json!({"membership": "ban"});
    let answer = bob.try_set_state(&room, "m.room.member", &alice.id, content);
    answer.error(403, "M_FORBIDDEN");
    let content = json!({"membership": "leave"});
    alice.set_state(&room, "m.room.member", &bob.id, content);
    assert_eq!(membership(&alice, &room, &bob), "leave");
}

#[test]
fn joining_with_a_body_that_is_no_json_is_refused() {
    let server = server();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let room = alice.create_public_room();
    let answer = bob.exchange("POST", &format!("/v3/join/{room}"), &[], b"{".to_vec());
    answer.error(400, "M_NOT_JSON");
    let empty = bob.exchange("POST", &format!("/v3/join/{room}"), &[], Vec::new());
    assert_eq!(empty.status, 200, "{empty}");
}
