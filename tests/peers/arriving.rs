//! Events that other servers send, in an order that is not theirs.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;
use testkit::{PeerAnswer, until};

use crate::Scene;

#[test]
fn an_event_counts_if_what_it_follows_comes_by_another_way_while_it_is_asked_for() {
    let scene = Scene::with(json!({"preset": "public_chat"}));
    let (peer, server, room) = (&scene.peer, &scene.server, &scene.joined);
    let bob = peer.user("bob");
    let (first, second) = (room.say(&bob, "First"), room.say(&bob, "Second"));
    let asked = scene.path("get_missing_events", "");
    let (answer, answers) = channel();
    let (answers, given) = (Mutex::new(answers), first.clone());
    peer.on("POST", &asked, move |_| {
        let patience = Duration::from_secs(30);
        let wait = answers.lock().map(|answers| answers.recv_timeout(patience));
        assert!(matches!(wait, Ok(Ok(()))), "the answer is let go");
        PeerAnswer::ok(json!({"events": [given]}))
    });
    std::thread::scope(|scope| {
        let pdus = [second.clone()];
        let sending = scope.spawn(move || peer.send(server, &pdus, &[]).ok());
        until("what is missing is asked for", || {
            (!peer.requests(&asked).is_empty()).then_some(())
        });
        peer.send(server, &[first], &[]).ok();
        answer.send(()).expect("it is waited for");
        let results = sending.join().expect("it was sent");
        let result = &results["pdus"][room.event_id(&second)];
        assert_eq!(*result, json!({}), "{results}");
    });
    let found = scene.alice.event(&scene.room, &room.event_id(&second)).ok();
    assert_eq!(found["content"]["body"], "Second");
}

#[test]
fn a_receipt_may_come_with_the_event_that_it_is_for() {
    let scene = Scene::with(json!({"preset": "public_chat"}));
    let (peer, room) = (&scene.peer, &scene.joined);
    let bob = peer.user("bob");
    for n in 0..5 {
        let event = room.say(&bob, &format!("Read {n}"));
        let event_id = room.event_id(&event);
        let read = json!({bob.clone(): {"data": {"ts": n + 1}, "event_ids": [event_id]}});
        let content = json!({scene.room.clone(): {"m.read": read}});
        let edu = json!({"edu_type": "m.receipt", "content": content});
        peer.send(&scene.server, &[event], &[edu]).ok();
        let answer = scene.alice.sync(None, "");
        let ephemeral = answer.joined(&scene.room)["ephemeral"].to_string();
        assert!(ephemeral.contains(&event_id), "{n}: {ephemeral}");
    }
}
