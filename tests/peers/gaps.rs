//! A room's history with a gap in its middle: more was missed than is fetched before what comes next is taken in.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use testkit::{PeerAnswer, SyncAnswer, encode};

use crate::Scene;

/// Messages while the server hears nothing: more than it asks for at once.
const MISSED: usize = 160;

/// A room in whose middle messages were missed.
struct Missed {
    scene: Scene,
    /// Where alice had read to.
    since: String,
    /// The member event of the peer's user, in the part that is missing.
    member: String,
    /// All texts, oldest first.
    texts: Vec<String>,
}

impl Missed {
    /// Nearly everything is missing: the peer gives one event at first.
    fn nearly_all() -> Self {
        Self::with(|scene| {
            let (room, is_first) = (scene.joined.clone(), AtomicBool::new(true));
            let path = scene.path("get_missing_events", "");
            scene.peer.on("POST", &path, move |request| {
                let latest = request.json()["latest_events"][0].clone();
                let latest = room
                    .get(latest.as_str().expect("an id"))
                    .expect("it is ours");
                let prev = room.get(latest["prev_events"][0].as_str().expect("an id"));
                let given = prev.filter(|_| is_first.swap(false, Ordering::Relaxed));
                PeerAnswer::ok(json!({"events": Vec::from_iter(given)}))
            });
        })
    }

    /// The newest of what was missed is fetched at once.
    fn some() -> Self {
        Self::with(|_| {})
    }

    fn with(prepare: impl FnOnce(&Scene)) -> Self {
        let scene = Scene::with(json!({"preset": "public_chat"}));
        let (peer, server, room) = (&scene.peer, &scene.server, &scene.joined);
        room.host(peer);
        prepare(&scene);
        let bob = peer.user("bob");
        let mut texts = vec!["Before".to_owned()];
        peer.send(server, &[room.say(&bob, "Before")], &[]).ok();
        let since = scene.alice.sync(None, "").next_batch().to_owned();
        let mut say = |text: String| {
            texts.push(text.clone());
            room.say(&bob, &text)
        };
        say("Missed at first".to_owned());
        let content = json!({"membership": "join", "displayname": "Bob"});
        let member = room.event(&bob, "m.room.member", Some(&bob), content);
        let member = room.event_id(&member);
        for n in 1..MISSED {
            say(format!("Missed {n}"));
        }
        let last = say("After".to_owned());
        peer.send(server, &[last], &[]).ok();
        Self {
            scene,
            since,
            member,
            texts,
        }
    }

    fn sync(&self) -> SyncAnswer {
        let filter = json!({"room": {"timeline": {"limit": 100}}}).to_string();
        let options = format!("&filter={}", encode(&filter));
        self.scene.alice.sync(Some(&self.since), &options)
    }

    /// The texts of a page, in its order, and where it ends.
    fn page(&self, query: &str) -> (Vec<String>, Option<String>) {
        let room = encode(&self.scene.room);
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?{query}");
        let answer = self.scene.alice.get(&path).ok();
        let end = answer["end"].as_str().map(str::to_owned);
        (texts(&answer["chunk"]), end)
    }

    /// The texts of all pages from a token on.
    fn pages(&self, dir: &str, token: &str) -> Vec<String> {
        let (mut all, mut token) = (Vec::new(), token.to_owned());
        for _ in 0..50 {
            let (texts, end) = self.page(&format!("dir={dir}&limit=30&from={}", encode(&token)));
            let is_over = texts.is_empty() && all.len() >= self.texts.len() - 1;
            all.extend(texts);
            match end {
                Some(end) if !is_over => token = end,
                _ => break,
            }
        }
        all
    }
}

fn texts(events: &Value) -> Vec<String> {
    let events = events.as_array().into_iter().flatten();
    let texts = events.filter_map(|event| event["content"]["body"].as_str());
    texts.map(str::to_owned).collect()
}

#[test]
fn a_timeline_says_that_events_were_missed_and_what_they_changed() {
    let missed = Missed::nearly_all();
    let answer = missed.sync();
    let timeline = &answer.joined(&missed.scene.room)["timeline"];
    assert_eq!(timeline["limited"], true);
    assert_eq!(
        texts(&timeline["events"]),
        [format!("Missed {}", MISSED - 1), "After".to_owned()]
    );
    let state = answer.state(&missed.scene.room);
    let ids: Vec<&str> = state
        .iter()
        .filter_map(|event| event["event_id"].as_str())
        .collect();
    assert_eq!(ids, [missed.member.as_str()]);
}

#[test]
fn who_pages_back_gets_what_was_missed_where_it_belongs() {
    let missed = Missed::some();
    let answer = missed.sync();
    let timeline = &answer.joined(&missed.scene.room)["timeline"];
    let mut all = texts(&timeline["events"]);
    all.reverse();
    let token = timeline["prev_batch"].as_str().expect("a token");
    all.extend(missed.pages("b", token));
    all.reverse();
    assert_eq!(all, missed.texts);
    // It is there for all from now on.
    let requests = missed
        .scene
        .peer
        .requests(&missed.scene.path("backfill", ""));
    let (page, _) = missed.page("dir=b&limit=500");
    assert_eq!(page.len(), missed.texts.len());
    let again = missed
        .scene
        .peer
        .requests(&missed.scene.path("backfill", ""));
    assert_eq!(again.len(), requests.len());
    let answer = missed.sync();
    assert_eq!(
        answer.joined(&missed.scene.room)["unread_notifications"]["notification_count"],
        102
    );
}

#[test]
fn who_pages_forward_gets_what_was_missed_where_it_belongs() {
    let missed = Missed::some();
    let all = missed.pages("f", &missed.since);
    assert_eq!(all, missed.texts[1..]);
}

#[test]
fn what_nobody_can_give_is_passed_over_until_somebody_can() {
    let missed = Missed::some();
    let (peer, room) = (&missed.scene.peer, &missed.scene.joined);
    let path = missed.scene.path("backfill", "");
    peer.on("GET", &path, |_| PeerAnswer::error(403, "M_FORBIDDEN"));
    let (page, _) = missed.page("dir=b&limit=500");
    assert!(page.len() > 50 && page.len() < missed.texts.len());
    assert_eq!(page.last().map(String::as_str), Some("Before"));
    room.host(peer);
    let (page, _) = missed.page("dir=b&limit=500");
    assert_eq!(page.len(), missed.texts.len());
}

#[test]
fn the_context_of_an_event_ends_at_what_was_missed() {
    let missed = Missed::nearly_all();
    let answer = missed.sync();
    let events = answer.timeline(&missed.scene.room);
    let first = events[0]["event_id"].as_str().expect("an id");
    let path = format!(
        "/_matrix/client/v3/rooms/{}/context/{}?limit=10",
        encode(&missed.scene.room),
        encode(first)
    );
    let context = missed.scene.alice.get(&path).ok();
    assert_eq!(context["events_before"], json!([]));
    let (page, _) = missed.page(&format!(
        "dir=b&limit=1&from={}",
        encode(context["start"].as_str().expect("a token"))
    ));
    assert_eq!(page, [missed.texts[missed.texts.len() - 3].clone()]);
}
