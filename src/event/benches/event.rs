//! The hot paths of a send and of a sync: seal, read, check, render.
//!
//! `cargo bench -p event`

#[path = "../tests/room/mod.rs"]
mod room;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use event::render::{self, RenderOptions};
use event::{AuthEvent, EventDraft, Pdu, RoomVersion, auth, canonical, hash, signature};
use room::{CREATOR, MEMBER, Room, key};
use serde_json::json;

const CONTENT: &str = r#"{"msgtype": "m.text", "body": "The quick brown fox jumps over the lazy dog, and then it does it again.",
    "m.mentions": {}, "format": "org.matrix.custom.html", "formatted_body": "<p>The quick <b>brown</b> fox</p>"}"#;

fn benches(c: &mut Criterion) {
    let room = Room::new(RoomVersion::V11);
    let rules = room.rules;
    let key = key();
    let ids: Vec<String> = room
        .state
        .iter()
        .take(4)
        .map(|event| event.pdu().event_id().to_string())
        .collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let draft = EventDraft {
        room_id: Some(&room.room_id),
        sender: MEMBER,
        event_type: "m.room.message",
        state_key: None,
        content: CONTENT,
        redacts: None,
        origin_server_ts: 1_700_000_000_000,
        prev_events: &ids[3..],
        auth_events: &ids[..3],
        depth: 1000,
        first_format: None,
    };
    let pdu = draft.seal(rules, &key).unwrap();
    let json = pdu.json().to_owned();

    c.bench_function("seal a message (hash, sign)", |b| {
        b.iter(|| black_box(&draft).seal(rules, &key))
    });
    c.bench_function("sign alone", |b| {
        b.iter(|| key.sign_bytes(black_box(json.as_bytes())))
    });
    c.bench_function("canonical form of content", |b| {
        b.iter(|| canonical::from_text(black_box(CONTENT), rules.numbers).map(|text| text.len()))
    });
    c.bench_function("read from store", |b| {
        b.iter(|| Pdu::from_stored(rules, pdu.event_id().clone(), black_box(json.as_bytes())))
    });
    c.bench_function("read from federation (format, event id)", |b| {
        b.iter(|| Pdu::from_federation(rules, black_box(json.as_bytes())))
    });
    c.bench_function("verify signature and content hash", |b| {
        let keys = |_: &str, _: &str| Some(key.verify_key());
        let own = Room::new(RoomVersion::V11).event(
            CREATOR,
            "m.room.message",
            None,
            json!({"body": "b"}),
        );
        b.iter(|| signature::verify_event(rules, black_box(&own), &keys))
    });
    c.bench_function("content hash", |b| {
        b.iter(|| hash::content_hash(black_box(&json)))
    });
    c.bench_function("check a message", |b| {
        b.iter(|| auth::check(rules, black_box(&pdu), &room.state[..]))
    });
    c.bench_function("render for a client", |b| {
        let mut out = Vec::with_capacity(4096);
        let options = RenderOptions {
            with_room_id: false,
            unsigned: r#""age":5"#,
        };
        b.iter(|| {
            out.clear();
            render::client_event(&mut out, rules, pdu.event_id(), black_box(&json), options);
            out.len()
        })
    });

    let mut large = Room::new(RoomVersion::V11);
    let users: serde_json::Map<_, _> = (0..1000)
        .map(|i| (format!("@user{i}:a.org"), json!(i % 100)))
        .collect();
    large.set_levels(json!({"users": users}));
    let message = large.event(MEMBER, "m.room.message", None, json!({}));
    c.bench_function("check a message, 1000 users with levels", |b| {
        b.iter(|| auth::check(rules, black_box(&message), &large.state[..]))
    });
    let levels = large.get("m.room.power_levels", "").unwrap().pdu().clone();
    c.bench_function("parse power levels of 1000 users", |b| {
        b.iter(|| AuthEvent::new(rules, black_box(&levels).clone()))
    });
}

criterion_group!(group, benches);
criterion_main!(group);
