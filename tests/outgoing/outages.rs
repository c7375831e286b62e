//! Nothing is lost when a peer is away, or when the server ends with things to send.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use servers::outbox::{self, Destination};
use store::rocks::{Limits, Rocks};
use store::{Engine, Position};
use testkit::{World, until};

use crate::{Shared, hears, shared, texts};

const HOUR_MS: u64 = 60 * 60 * 1_000;

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

/// Has the peer fail for so long, in the data of a server that does not run.
fn has_failed_for(all: &Shared, ms: u64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = since.expect("it is after 1970").as_millis() as u64;
    let row = Destination {
        cursor: Position::ZERO,
        failing_since_ms: now_ms - ms,
        retry_at_ms: now_ms + HOUR_MS,
        failures: 200,
        error: "it was away".to_owned(),
    };
    let world = World::new();
    let mut txn = world.store.begin();
    outbox::put_destination(&mut txn, all.peer.name(), &row);
    let database = all.server.data_directory().join("db");
    let engine = Rocks::open(&database, Limits::default()).expect("a database");
    engine.write(&txn.into_batch()).expect("written");
    engine.sync().expect("synced");
}

/// What `meyrin federation` prints.
fn federation(all: &Shared, arguments: &[&str]) -> String {
    let arguments: Vec<&str> = ["federation"].iter().chain(arguments).copied().collect();
    let output = all.server.run(&arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn status(all: &Shared) -> Value {
    let printed = federation(all, &["show", "--json", all.peer.name()]);
    serde_json::from_str(&printed).expect("JSON")
}

#[test]
fn the_operator_sees_whom_something_waits_for_and_has_it_tried() {
    let mut all = shared();
    all.user.say(&all.room, "Before");
    hears(&all.peer, "Before");
    until("nothing waits", || {
        federation(&all, &["list"]).is_empty().then_some(())
    });
    let nothing = federation(&all, &["retry", all.peer.name()]);
    assert!(nothing.starts_with("nothing waits"), "{nothing}");
    all.peer.go_away();
    all.user.say(&all.room, "Away");
    let status = until("the peer fails", || {
        Some(status(&all)).filter(|status| status["failures"] != 0)
    });
    assert_eq!(status["rooms"], 1, "{status}");
    assert_eq!(status["shared_rooms"], json!([all.room]), "{status}");
    assert_eq!(status["is_given_up"], false, "{status}");
    assert!(status["error"].is_string(), "{status}");
    let listed = federation(&all, &["list"]);
    assert!(
        listed.starts_with(&format!("{}\t", all.peer.name())),
        "{listed}"
    );
    all.peer.come_back();
    let trying = federation(&all, &["retry", all.peer.name()]);
    assert!(trying.starts_with("trying"), "{trying}");
    hears(&all.peer, "Away");
}

#[test]
fn who_is_put_out_during_a_long_outage_is_told_afterwards() {
    let mut all = shared();
    all.peer.go_away();
    let kick = json!({"user_id": all.other});
    all.user
        .post(&format!("/v3/rooms/{}/kick", all.room), kick)
        .ok();
    until("the peer fails", || {
        (status(&all)["failures"] != 0).then_some(())
    });
    all.server.terminate();
    has_failed_for(&all, 2 * HOUR_MS);
    all.server.start_again();
    all.peer.come_back();
    federation(&all, &["retry", all.peer.name()]);
    all.peer.pdu("the kick", |pdu| {
        pdu["state_key"] == all.other.as_str() && pdu["content"]["membership"] == "leave"
    });
}

#[test]
fn a_server_that_fails_for_a_month_is_given_up() {
    let mut all = shared();
    all.peer.go_away();
    let messages = json!({"messages": {all.other.clone(): {"DEVICE": {"n": 1}}}});
    all.user
        .put("/v3/sendToDevice/org.example.note/1", messages)
        .ok();
    let waiting = until("the peer fails", || {
        Some(status(&all)).filter(|status| status["failures"] != 0)
    });
    assert_eq!(waiting["to_device"], 1, "{waiting}");
    all.server.terminate();
    has_failed_for(&all, 31 * 24 * HOUR_MS);
    all.server.start_again();
    federation(&all, &["retry", all.peer.name()]);
    let given_up = until("the message is dropped", || {
        Some(status(&all)).filter(|status| status["to_device"] == 0)
    });
    assert_eq!(given_up["is_given_up"], true, "{given_up}");
    // Nothing is shared with it any more.
    all.user.leave(&all.room);
    federation(&all, &["retry", all.peer.name()]);
    until("it is forgotten", || {
        federation(&all, &["list"]).is_empty().then_some(())
    });
}
