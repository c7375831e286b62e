//! Nothing is lost when a peer is away, or when the server ends with things to send.

use serde_json::{Value, json};
use testkit::until;

use crate::{hears, shared, texts};

#[test]
fn what_was_said_while_a_peer_was_away_comes_when_it_is_back_and_heard_of() {
    let mut all = shared();
    all.user.say(&all.room, "Before");
    hears(&all.peer, "Before");
    all.peer.go_away();
    for n in 0..3 {
        all.user.say(&all.room, &format!("Away {n}"));
    }
    all.peer.come_back();
    // A sign of life; or else the back-off would have to end.
    let typing = json!({"room_id": all.room, "user_id": all.other, "typing": true});
    all.peer.send_edu(&all.server, "m.typing", typing);
    hears(&all.peer, "Away 2");
    assert_eq!(texts(&all.peer), ["Before", "Away 0", "Away 1", "Away 2"]);
}

#[test]
fn a_transaction_is_repeated_as_it_was_until_it_is_answered() {
    let all = shared();
    let path = "/_matrix/federation/v1/send/";
    all.peer.on("PUT", path, |_| {
        testkit::PeerAnswer::error(502, "M_UNKNOWN")
    });
    all.user.say(&all.room, "Once");
    let tries = until("it is tried again", || {
        let tries = all.peer.requests(path);
        (tries.len() >= 2).then_some(tries)
    });
    let pdus = |n: usize| -> Value { tries[n].json()["pdus"].clone() };
    assert_eq!(tries[0].path, tries[1].path);
    assert_eq!(pdus(0), pdus(1));
    all.peer.on("PUT", path, |_| {
        testkit::PeerAnswer::ok(json!({"pdus": {}}))
    });
    all.user.say(&all.room, "Twice");
    hears(&all.peer, "Twice");
    let transactions = all.peer.requests(path);
    let last = transactions.last().unwrap();
    assert_ne!(last.path, tries[0].path);
}

#[test]
fn what_waits_survives_the_end_of_the_server() {
    let mut all = shared();
    let (device, note) = ("DEVICE", json!({"n": 1}));
    all.peer.go_away();
    all.user.say(&all.room, "Before the end");
    let messages = json!({"messages": {all.other.clone(): {device: note}}});
    all.user
        .put("/v3/sendToDevice/org.example.note/1", messages)
        .ok();
    all.server.kill();
    all.server.start_again();
    all.user.say(&all.room, "After the end");
    all.server.terminate();
    all.server.start_again();
    all.peer.come_back();
    let typing = json!({"room_id": all.room, "user_id": all.other, "typing": true});
    all.peer.send_edu(&all.server, "m.typing", typing);
    hears(&all.peer, "After the end");
    assert_eq!(texts(&all.peer), ["Before the end", "After the end"]);
    let edu = all.peer.edu("m.direct_to_device", |content| {
        content["messages"][&all.other][device] == note_of(1)
    });
    assert_eq!(edu["content"]["sender"], all.user.id);
}

fn note_of(n: u64) -> Value {
    json!({"n": n})
}
