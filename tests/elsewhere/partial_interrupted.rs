//! What comes between entering a room and knowing its members: crashes, servers that go away, users who leave or are put out,
//! changes of what is allowed.

use std::collections::BTreeMap;

use event::add_signature;
use serde_json::{Value, json};
use testkit::{Peer, PeerAnswer, Server, User, encode, until};

use crate::partial::{Large, large, lazily, no_problems};
use crate::server;

impl Large {
    /// The peer has left the events out for which this server asked: it does not find it in the room.
    fn refuse(&self) {
        for name in ["state", "state_ids"] {
            let path = format!("/_matrix/federation/v1/{name}/{}", encode(&self.room.id()));
            self.peer
                .on("GET", &path, |_| PeerAnswer::error(403, "M_FORBIDDEN"));
        }
    }

    fn state_requests(&self) -> usize {
        let path = format!(
            "/_matrix/federation/v1/state_ids/{}",
            encode(&self.room.id())
        );
        self.peer.requests(&path).len()
    }

    /// The room's state as a user of the server has it is that of the peer.
    fn is_the_same_for(&self, user: &User) {
        let path = format!("/v3/rooms/{}/state", encode(&self.room.id()));
        let here = user.get(&path).ok();
        let here: BTreeMap<(String, String), String> = (here.as_array().unwrap().iter())
            .map(|event| {
                let text = |name: &str| event[name].as_str().unwrap().to_owned();
                ((text("type"), text("state_key")), text("event_id"))
            })
            .collect();
        for ((of, key), id) in &here {
            let theirs = self.room.state(of, key).unwrap();
            assert_eq!(self.room.event_id(&theirs), *id, "{of} {key}");
        }
        for member in &self.members {
            assert!(here.contains_key(&("m.room.member".to_owned(), member.clone())));
        }
    }
}

fn leaves(large: &Large, user: &User) {
    user.leave(&large.room.id());
    let left = large.peer.pdu("the leaving", |pdu| {
        pdu["content"]["membership"] == "leave" && pdu["sender"] == pdu["state_key"]
    });
    large.room.take(&left);
}

fn no_jobs(server: &Server) {
    until("nothing is worked on", || {
        let jobs = server.run(&["job", "list"]);
        jobs.stdout.is_empty().then_some(())
    });
}

/// Waits until a sync without lazy loading tells that the user is not in the room.
fn is_out(large: &Large, user: &User, since: &str) -> Value {
    let room = large.room.id();
    until("the user is out", || {
        let news = user.sync(Some(since), "");
        let left = news.left(&room);
        left.is_object().then(|| left.clone())
    })
}

#[test]
fn a_room_that_was_left_before_its_members_were_known_is_whole_for_who_comes_back() {
    let mut server = server();
    let alice = server.register("alice");
    let large = large(4);
    let room = &large.room;
    let before = alice.sync(None, "");
    large.join(&alice);
    let unknown = room.say(&large.members[0], "Good morning");
    large.send(&server, &unknown);
    leaves(&large, &alice);
    is_out(&large, &alice, before.next_batch());
    no_jobs(&server);

    // Meanwhile others come, go, and change the room.
    let joins = json!({"membership": "join"});
    let newcomer = large.peer.user("newcomer");
    room.event(&newcomer, "m.room.member", Some(&newcomer), joins);
    let ban = json!({"membership": "ban"});
    let banned = &large.members[1];
    room.event(&large.host, "m.room.member", Some(banned), ban);
    let topic = json!({"topic": "Old friends"});
    room.event(&large.host, "m.room.topic", Some(""), topic);

    // The state of the first time is not told: what would come of the old and the new state together can't be known.
    let path = format!(
        "/v3/join/{}?via={}",
        encode(&room.id()),
        encode(large.peer.name())
    );
    let refused = alice.post(&path, json!({}));
    assert!(refused.status >= 400, "{refused:?}");
    large.tell();
    large.join(&alice);
    let asked = large.peer.requests("/_matrix/federation/v2/send_join/");
    assert_eq!(asked[1].query("omit_members"), ["false"]);
    large.is_the_same_for(&alice);
    let joined = format!("/v3/rooms/{}/joined_members", encode(&room.id()));
    let joined = alice.get(&joined).ok();
    assert!(joined["joined"][&newcomer].is_object());
    assert!(joined["joined"][banned].is_null());
    no_jobs(&server);
    no_problems(&mut server);
}

#[test]
fn what_was_held_comes_in_once_and_in_order_though_the_server_dies_in_between() {
    let mut server = server();
    let alice = server.register("alice");
    let large = large(6);
    let room = &large.room;
    large.join(&alice);
    let mut said = Vec::new();
    for round in 0..4 {
        let batch: Vec<Value> = (0..50)
            .map(|n| {
                let member = &large.members[n % large.members.len()];
                room.say(member, &format!("Message {round} {n}"))
            })
            .collect();
        large.peer.send(&server, &batch, &[]).ok();
        said.extend(batch.iter().map(|event| room.event_id(event)));
    }
    // It dies while it holds them, and while it lets them in.
    server.kill();
    server.start_again();
    large.tell();
    until("the first of them is shown", || {
        let path = format!(
            "/v3/rooms/{}/event/{}",
            encode(&room.id()),
            encode(&said[0])
        );
        (alice.get(&path).status == 200).then_some(())
    });
    server.kill();
    server.start_again();
    until("the last of them is shown", || {
        let path = format!(
            "/v3/rooms/{}/event/{}",
            encode(&room.id()),
            encode(&said[199])
        );
        (alice.get(&path).status == 200).then_some(())
    });
    let path = format!("/v3/rooms/{}/messages?dir=b&limit=200", encode(&room.id()));
    let page = alice.get(&path).ok();
    let shown = page["chunk"].as_array().unwrap().iter().rev();
    let shown: Vec<&str> = shown
        .map(|event| event["event_id"].as_str().unwrap())
        .collect();
    assert_eq!(shown, said);
    large.is_the_same_for(&alice);
    no_problems(&mut server);
}

#[test]
fn another_server_in_the_room_is_asked_if_the_one_that_let_it_in_goes_away() {
    let mut server = server();
    let alice = server.register("alice");
    let mut large = large(6);
    let other = Peer::start();
    let member = other.user("member");
    let joins = json!({"membership": "join"});
    let join = large
        .room
        .draft(&member, "m.room.member", Some(&member), joins);
    let rules = large.room.version().rules();
    let join = add_signature(rules, &join.to_string(), other.key()).unwrap();
    large.room.take(&serde_json::from_str(&join).unwrap());
    large.members.push(member);
    large.join(&alice);
    large.peer.go_away();
    large.room.host(&other);
    large.all_members_are_listed(&alice);
    large.is_the_same_for(&alice);
    no_problems(&mut server);
}

#[test]
fn who_is_put_out_by_somebody_known_is_out_at_once() {
    let mut server = server();
    let alice = server.register("alice");
    let large = large(4);
    let before = alice.sync(None, "");
    large.join(&alice);
    let kick = json!({"membership": "leave", "reason": "No guests"});
    let kick = (large.room).event(&large.host, "m.room.member", Some(&alice.id), kick);
    large.send(&server, &kick);
    let left = is_out(&large, &alice, before.next_batch());
    let last = &left["timeline"]["events"];
    let last = last.as_array().unwrap().last().unwrap();
    assert_eq!(last["sender"], *large.host);
    no_jobs(&server);
    no_problems(&mut server);
}

#[test]
fn who_is_put_out_by_somebody_unknown_is_out_when_the_other_server_says_so_too() {
    let mut server = server();
    let alice = server.register("alice");
    let large = large(4);
    let levels = json!({"users": {&large.host: 100, &large.members[0]: 50}});
    (large.room).event(&large.host, "m.room.power_levels", Some(""), levels);
    let before = alice.sync(None, "");
    large.join(&alice);
    let ban = json!({"membership": "ban", "reason": "Spam"});
    let ban = (large.room).event(&large.members[0], "m.room.member", Some(&alice.id), ban);
    large.send(&server, &ban);
    // It alone is not believed.
    let asked = large.state_requests();
    until("it is asked again", || {
        (large.state_requests() > asked + 1).then_some(())
    });
    assert!(lazily(&alice, None).joined(&large.room.id()).is_object());
    large.refuse();
    let left = is_out(&large, &alice, before.next_batch());
    let last = &left["timeline"]["events"];
    let last = last.as_array().unwrap().last().unwrap();
    assert_eq!(last["content"]["membership"], "leave");
    assert_eq!(last["content"]["reason"], "Spam");
    no_jobs(&server);
    no_problems(&mut server);
}

#[test]
fn power_levels_that_change_in_between_count_for_what_follows_them() {
    let mut server = server();
    let alice = server.register("alice");
    let large = large(4);
    let (room, moderator) = (&large.room, &large.members[0]);
    large.join(&alice);
    let levels = json!({"users": {&large.host: 100, moderator: 50}});
    let levels = room.event(&large.host, "m.room.power_levels", Some(""), levels);
    large.send(&server, &levels);
    let kick = json!({"membership": "leave"});
    let kick = room.event(moderator, "m.room.member", Some(&large.members[1]), kick);
    large.send(&server, &kick);
    let demoted = json!({"users": {&large.host: 100}, "events_default": 50});
    let demoted = room.event(&large.host, "m.room.power_levels", Some(""), demoted);
    large.send(&server, &demoted);
    // What is known of the room counts already: the second change follows what is held.
    let now = alice.state(&room.id(), "m.room.power_levels", "").ok();
    assert_eq!(now["users"][moderator], 50);
    large.tell();
    until("all of it is in", || {
        let now = alice.state(&room.id(), "m.room.power_levels", "").ok();
        (now["events_default"] == 50).then_some(())
    });
    large.is_the_same_for(&alice);
    let text = json!({"msgtype": "m.text", "body": "May I?"});
    let refused = alice.try_send(&room.id(), "m.room.message", text);
    assert_eq!(refused.status, 403);
    no_problems(&mut server);
}
