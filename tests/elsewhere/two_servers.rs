//! Two servers of our own.

use serde_json::json;
use testkit::{Server, User, encode, until};

use crate::server;

struct Pair {
    _here: Server,
    there: Server,
    alice: User,
    bob: User,
}

fn pair() -> Pair {
    let (here, there) = (server(), server());
    let (alice, bob) = (here.register("alice"), there.register("bob"));
    Pair {
        _here: here,
        there,
        alice,
        bob,
    }
}

fn membership_becomes(of: &User, seen_by: &User, room: &str, membership: &str) {
    until(&format!("{} is {membership}", of.id), || {
        let member = seen_by.state(room, "m.room.member", &of.id);
        (member.status == 200 && member.value()["membership"] == membership).then_some(())
    });
}

#[test]
fn an_invitation_is_refused_several_times_and_then_taken() {
    let Pair {
        alice, bob, there, ..
    } = &pair();
    let room = alice.create_room(json!({"preset": "private_chat", "name": "Here"}));
    for _ in 0..3 {
        alice.invite(&room, bob);
        assert!(bob.sync(None, "").invited(&room).is_object());
        bob.leave(&room);
        assert!(bob.sync(None, "").invited(&room).is_null());
        membership_becomes(bob, alice, &room, "leave");
    }
    alice.invite(&room, bob);
    bob.join(&room);
    membership_becomes(bob, alice, &room, "join");
    // Whoever comes now is invited into a room that their server is in.
    let carol = there.register("carol");
    alice.invite(&room, &carol);
    until("carol's invitation", || {
        carol
            .sync(None, "")
            .invited(&room)
            .is_object()
            .then_some(())
    });
    carol.leave(&room);
    membership_becomes(&carol, bob, &room, "leave");
}

#[test]
fn a_knock_is_let_in() {
    let Pair { alice, bob, .. } = &pair();
    let room = alice.create_room(json!({"preset": "private_chat", "room_version": "11"}));
    let path = format!(
        "/v3/knock/{}?via={}",
        encode(&room),
        encode(alice.server_name())
    );
    bob.post(&path, json!({})).error(403, "M_FORBIDDEN");
    alice.set_state(
        &room,
        "m.room.join_rules",
        "",
        json!({"join_rule": "knock"}),
    );
    bob.post(&path, json!({"reason": "Please"})).ok();
    bob.post(&path, json!({"reason": "Please, please"})).ok();
    membership_becomes(bob, alice, &room, "knock");
    bob.leave(&room);
    membership_becomes(bob, alice, &room, "leave");
    bob.post(&path, json!({})).ok();
    alice.invite(&room, bob);
    assert!(bob.sync(None, "").invited(&room).is_object());
    bob.join(&room);
    membership_becomes(bob, alice, &room, "join");
}

#[test]
fn settings_go_along_into_the_room_that_replaces_one_of_another_server() {
    let Pair { alice, bob, .. } = &pair();
    let room = alice.create_room(json!({"preset": "private_chat"}));
    alice.invite(&room, bob);
    bob.join(&room);
    let rule = |room: &str| format!("/v3/pushrules/global/room/{}", encode(room));
    bob.put(&rule(&room), json!({"actions": []})).ok();
    let path = format!("/v3/rooms/{}/upgrade", encode(&room));
    let upgraded = alice.post(&path, json!({"new_version": "11"})).ok();
    let new_room = upgraded["replacement_room"].as_str().expect("a room id");
    alice.invite(new_room, bob);
    bob.join(new_room);
    assert_eq!(bob.get(&rule(new_room)).ok()["actions"], json!([]));
}

/// Servers that know the old key ask for others at most every half minute. Those that know none show that both count.
#[test]
fn what_was_signed_before_and_after_a_rotation_of_the_key_is_believed() {
    let mut here = server();
    let alice = here.register("alice");
    let room = alice.create_public_room();
    let old = alice.say(&room, "signed by the old key");
    assert!(here.terminate().success());
    assert!(here.run(&["key", "rotate"]).status.success());
    here.start_again();
    let there = server();
    let bob = there.register("bob");
    join_by(&bob, &room, here.name());
    let new = alice.say(&room, "signed by the new key");
    arrives(&bob, &room, &new);
    let read = bob.messages_by_text(&room);
    assert_eq!(read.get("signed by the old key"), Some(&vec![old]));
    let back = bob.say(&room, "heard");
    arrives(&alice, &room, &back);
}

fn join_by(user: &User, room: &str, server: &str) {
    let (room, server) = (encode(room), encode(server));
    let path = format!("/v3/join/{room}?server_name={server}");
    user.post(&path, json!({})).ok();
}

fn arrives(at: &User, room: &str, event_id: &str) {
    let path = format!("/v3/rooms/{}/event/{}", encode(room), encode(event_id));
    until("an event arrives", || {
        (at.get(&path).status == 200).then_some(())
    });
}
