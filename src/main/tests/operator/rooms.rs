//! The rooms in the operator's hands: a room with a fork, hidden events and a gap, looked at and checked while the server
//! runs and while it does not, and found out where it was damaged.

use std::fs;
use std::rc::Rc;

use event::{EventDraft, EventId, RoomVersion, SigningKey, identifier};
use names::RoomSn;
use rooms::aliases::{self, Alias};
use rooms::ingest::{self, Arrival, Received, Verdict};
use rooms::membership::Action;
use rooms::{EventNo, event_log, state};
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use store::rocks::{Limits, Rocks};
use store::{Batch, Direction, Family, Op, Read};
use tempfile::TempDir;
use testkit::{World, public_room};

use crate::supervised::{Supervised, meyrin, write_config};

const OWNER: &str = "@owner:example.org";
const FAR: &str = "@far:other.example";
const STRANGER: &str = "@stranger:other.example";
const VERSION: RoomVersion = RoomVersion::V12;
/// An event that is nowhere.
const MISSING: &str = "$missingmissingmissingmissingmissingmissing1";

/// A room in the data of a server that does not run.
struct Story {
    folder: Rc<TempDir>,
    room_id: String,
    /// The event at which the graph parts, the topics that were set on both sides, and the event that joins them.
    fork: EventId,
    this_topic: EventId,
    other_topic: EventId,
    join: EventId,
    rejected: EventId,
    soft_failed: EventId,
}

fn open(folder: &TempDir) -> World {
    let database = folder.path().join("data/db");
    fs::create_dir_all(&database).expect("a folder");
    let engine = Rocks::open(&database, Limits::default()).expect("a database");
    World::named("example.org", Box::new(engine))
}

fn last_event(world: &World, room: RoomSn) -> EventId {
    let head = event_log::head(&world.store.view(), room).expect("readable");
    let (_, id) = head.expect("a room").extremities.pop().expect("an end");
    EventId::from(id)
}

/// The ids of the events that are `keys` in the current state.
fn state_ids(world: &World, room: RoomSn, keys: &[(&str, &str)]) -> Vec<EventId> {
    let view = world.store.view();
    let numbers = state::current_many(&view, room, keys).expect("readable");
    let numbers: Vec<EventNo> = numbers.into_iter().flatten().collect();
    let events = event_log::get_many(&view, room, &numbers).expect("readable");
    events
        .into_iter()
        .map(|(_, event)| event.event_id)
        .collect()
}

/// An event of another server, or of this one as another has it.
struct Incoming<'a> {
    sender: &'a str,
    /// Sets the topic; a message without.
    topic: Option<&'a str>,
    follows: &'a str,
    auth_events: Vec<EventId>,
}

fn receive(
    world: &mut World,
    room: RoomSn,
    incoming: &Incoming<'_>,
    arrival: Arrival<'_>,
) -> (EventId, Verdict) {
    world.now_ms += 1;
    world.user(incoming.sender);
    let room_id = names::room_id(&world.store.view(), room).expect("an id");
    let server = identifier::domain(incoming.sender).expect("a user id");
    let key = SigningKey::generate(server, [1; 32]);
    let auth: Vec<&str> = incoming.auth_events.iter().map(EventId::as_str).collect();
    let content = match incoming.topic {
        Some(topic) => json!({ "topic": topic }),
        None => json!({ "msgtype": "m.text", "body": "from elsewhere" }),
    };
    let event = EventDraft {
        room_id: Some(&room_id),
        sender: incoming.sender,
        event_type: incoming.topic.map_or("m.room.message", |_| "m.room.topic"),
        state_key: incoming.topic.map(|_| ""),
        content: &content.to_string(),
        redacts: None,
        origin_server_ts: world.now_ms as i64,
        prev_events: &[incoming.follows],
        auth_events: &auth,
        depth: 1_000,
        first_format: None,
    }
    .seal(VERSION.rules(), &key)
    .expect("an event");
    let keys = |_: &str, _: &str| Some(key.verify_key());
    let verified = ingest::verify(VERSION.rules(), event.json().as_bytes(), &keys).expect("signed");
    let mut verdict = None;
    let received = world.change(room, |writer| {
        if let Received::Stored { verdict: found, .. } = writer.receive(&verified, arrival)? {
            verdict = Some(found);
        }
        Ok(())
    });
    received.expect("of this room");
    (event.event_id().clone(), verdict.expect("all is there"))
}

/// The events of the current state by which a user may speak.
fn auth_events(world: &World, room: RoomSn, sender: &str) -> Vec<EventId> {
    let keys = [("m.room.power_levels", ""), ("m.room.member", sender)];
    state_ids(world, room, &keys)
}

fn story() -> Story {
    let folder = Rc::new(tempfile::tempdir().expect("a temporary folder"));
    write_config(&folder, "");
    let mut world = open(&folder);
    let room = world.create(VERSION, &public_room(world.user(OWNER)), Map::new());
    world.act(room, Action::Join, FAR, FAR).expect("allowed");
    let fork = last_event(&world, room);
    let topic = json!({ "topic": "this side" });
    world
        .set(room, OWNER, ("m.room.topic", ""), &topic)
        .expect("allowed");
    let this_topic = last_event(&world, room);
    let other = Incoming {
        sender: OWNER,
        topic: Some("that side"),
        follows: &fork,
        auth_events: auth_events(&world, room, OWNER),
    };
    let (other_topic, verdict) = receive(&mut world, room, &other, Arrival::Live);
    assert_eq!(verdict, Verdict::Accepted);
    world.say(room, OWNER, "Both sides").expect("allowed");
    let join = last_event(&world, room);
    let from = |world: &World, sender, follows| Incoming {
        sender,
        topic: None,
        follows,
        auth_events: auth_events(world, room, sender),
    };
    let stranger = from(&world, STRANGER, &join);
    let (rejected, verdict) = receive(&mut world, room, &stranger, Arrival::Live);
    assert!(matches!(verdict, Verdict::Rejected(_)), "{verdict:?}");
    let far = from(&world, FAR, &join);
    world.act(room, Action::Ban, OWNER, FAR).expect("allowed");
    let (soft_failed, verdict) = receive(&mut world, room, &far, Arrival::Live);
    assert!(matches!(verdict, Verdict::SoftFailed(_)), "{verdict:?}");
    let entries = state::all_current(&world.store.view(), room).expect("readable");
    let keys: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| (entry.event_type.as_str(), entry.state_key.as_str()))
        .collect();
    let given = state_ids(&world, room, &keys);
    let after_gap = Arrival::AfterGap { state: &given };
    let owner = from(&world, OWNER, MISSING);
    let (_, verdict) = receive(&mut world, room, &owner, after_gap);
    assert_eq!(verdict, Verdict::Accepted);
    let creator = world.user(OWNER).user;
    let mut txn = world.store.begin();
    aliases::add(&mut txn, "#story:example.org", Alias { room, creator }).expect("free");
    world.store.commit(txn).expect("a commit");
    Story {
        room_id: names::room_id(&world.store.view(), room).expect("an id"),
        folder,
        fork,
        this_topic,
        other_topic,
        join,
        rejected,
        soft_failed,
    }
}

impl Story {
    fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        let mut all = vec!["room"];
        all.extend(arguments);
        meyrin(&all, &self.folder)
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        let (good, output, log) = self.run(arguments);
        assert!(good, "{arguments:?}: {output}{log}");
        output
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let (good, output, log) = self.run(arguments);
        assert!(!good, "{arguments:?}: {output}{log}");
        output + &log
    }

    /// What `look` sees is the same with and without a running server.
    fn running_and_stopped(&self, look: impl Fn()) {
        look();
        let server = Supervised::start_in(self.folder.clone());
        look();
        assert!(server.stop(Signal::TERM).0.success());
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_room_is_found_by_id_and_alias_and_shown_as_it_is() {
    let story = story();
    story.running_and_stopped(|| {
        let list = story.succeeds(&["list"]);
        assert!(list.contains(&story.room_id), "{list}");
        let listed = parsed(&story.succeeds(&["list", "--by", "side-lines", "--json"]));
        assert_eq!(listed["extremities"], 2, "{listed}");
        let shown = story.succeeds(&["show", &story.room_id]);
        assert!(shown.contains("1 rejected, 1 soft-failed"), "{shown}");
        assert!(
            shown.contains(&format!("{MISSING} is missing before $")),
            "{shown}"
        );
        let bare = story.room_id.trim_start_matches('!');
        for name in [bare, "#story", "#story:example.org", &story.room_id] {
            let shape = parsed(&story.succeeds(&["show", name, "--json"]));
            assert_eq!(shape["room_id"], story.room_id, "{shape}");
            assert_eq!(shape["creators"], json!([OWNER]), "{shape}");
            assert_eq!(shape["topic"], "that side", "{shape}");
            assert_eq!(shape["aliases"], json!(["#story:example.org"]), "{shape}");
            assert_eq!(shape["members"]["joined"], json!([1, 0]), "{shape}");
            assert_eq!(shape["members"]["banned"], json!([0, 1]), "{shape}");
            assert_eq!(shape["servers"]["largest"], json!([["example.org", 1]]));
            assert_eq!(shape["events"]["rejected"], 1, "{shape}");
            assert_eq!(shape["hidden"][0]["event_id"], story.rejected.as_str());
            assert_eq!(shape["hidden"][1]["event_id"], story.soft_failed.as_str());
            assert_eq!(shape["extremities"]["total"], 2, "{shape}");
            assert_eq!(shape["gaps"]["first"][0]["missing"], MISSING, "{shape}");
            assert_eq!(shape["state_history"]["side_lines"], 1, "{shape}");
        }
    });
}

#[test]
fn lists_are_cut_where_the_operator_says_and_counts_are_not() {
    let story = story();
    let shape = parsed(&story.succeeds(&["show", "#story", "--limit", "1", "--json"]));
    assert_eq!(shape["extremities"]["total"], 2, "{shape}");
    assert_eq!(
        shape["extremities"]["first"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(shape["hidden"].as_array().map(Vec::len), Some(1), "{shape}");
    let whole = story.succeeds(&["state", "#story"]);
    let lines: Vec<&str> = whole.lines().collect();
    let page = story.succeeds(&["state", "#story", "--skip", "1", "--limit", "2"]);
    let page: Vec<&str> = page.lines().collect();
    assert_eq!(page[..2], lines[1..3]);
    let left = format!("{} more of {}", lines.len() - 3, lines.len());
    assert!(page[2].starts_with(&left), "{page:?}");
    let members = story.succeeds(&["state", "#story", "--type", "m.room.member"]);
    assert_eq!(members.lines().count(), 2, "{members}");
    let one = story.succeeds(&["state", "#story", "--type", "m.room.member", "--key", FAR]);
    assert_eq!(one.lines().count(), 1, "{one}");
}

#[test]
fn the_state_is_told_at_any_event_and_compared() {
    let story = story();
    let topic = |at: &[&str]| {
        let mut arguments = vec!["state", "#story", "--type", "m.room.topic", "--json"];
        arguments.extend(at);
        let output = story.succeeds(&arguments);
        (!output.is_empty()).then(|| parsed(&output)["event_id"].clone())
    };
    let [fork, this, other] =
        [&story.fork, &story.this_topic, &story.other_topic].map(EventId::as_str);
    story.running_and_stopped(|| {
        assert_eq!(topic(&[]), Some(other.into()));
        assert_eq!(topic(&["--at", fork]), None);
        assert_eq!(topic(&["--before", this]), None);
        assert_eq!(topic(&["--at", this]), Some(this.into()));
        // Without the $ that the shell takes away.
        assert_eq!(topic(&["--at", &other[1..]]), Some(other.into()));
        assert_eq!(topic(&["--before", other]), None);
        assert_eq!(topic(&["--before", &story.join]), Some(other.into()));
        let diff = story.succeeds(&["state", "#story", "--diff", this, other]);
        let lines: Vec<&str> = diff.lines().collect();
        let topic = r#"m.room.topic """#;
        assert_eq!(lines[0], format!("- {topic}  {this}  {OWNER}"));
        assert_eq!(lines[1], format!("+ {topic}  {other}  {OWNER}"));
        assert_eq!(lines.len(), 2);
        let new = story.succeeds(&[
            "state",
            "#story",
            "--diff",
            fork,
            this,
            "--json",
            "--content",
        ]);
        assert_eq!(parsed(&new)["first"], Value::Null);
        assert_eq!(parsed(&new)["second"]["content"]["topic"], "this side");
    });
}

#[test]
fn the_graph_marks_what_is_special_and_is_the_same_every_time() {
    let story = story();
    let graph = story.succeeds(&["graph", &story.room_id]);
    assert_eq!(graph, story.succeeds(&["graph", "#story"]));
    assert!(
        graph.starts_with("digraph \"!") && graph.ends_with("}\n"),
        "{graph}"
    );
    let node = |id: &str| {
        let start = format!("  \"{id}\" [");
        let line = graph.lines().find(|line| line.starts_with(&start));
        line.unwrap_or_else(|| panic!("no {id}: {graph}"))
            .to_owned()
    };
    assert!(node(&story.rejected).contains("color=red"), "{graph}");
    assert!(node(&story.soft_failed).contains("color=orange"), "{graph}");
    assert!(node(MISSING).contains("style=dashed"), "{graph}");
    assert!(node(&story.other_topic).contains("line 1"), "{graph}");
    assert!(node(&story.this_topic).contains("shape=box"), "{graph}");
    assert!(!node(&story.this_topic).contains("line"), "{graph}");
    assert_eq!(graph.matches("peripheries=2").count(), 2, "{graph}");
    for prev in [&story.this_topic, &story.other_topic] {
        let edge = format!("\"{}\" -> \"{prev}\";", story.join);
        assert!(graph.contains(&edge), "{graph}");
    }
    let around = ["graph", "#story", "--around", &story.join, "--span", "1"];
    let part = story.succeeds(&around);
    assert_eq!(part.matches("place ").count(), 3, "{part}");
    assert_eq!(part.matches("style=dotted").count(), 2, "{part}");
    let last = story.succeeds(&["graph", "#story", "--last", "1"]);
    assert_eq!(last.matches("place ").count(), 1, "{last}");
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let story = story();
    let log = story.fails(&["show", "!nowhere"]);
    assert!(
        log.contains("no room !nowhere") && log.contains("room list"),
        "{log}"
    );
    let log = story.fails(&["show", "#nowhere"]);
    assert!(log.contains("the alias #nowhere:example.org"), "{log}");
    // What a shell makes of "$ID".
    let log = story.fails(&["state", "#story", "--at", ""]);
    assert!(log.contains("single quotes"), "{log}");
    let log = story.fails(&["state", "#story", "--at", MISSING]);
    assert!(log.contains(&format!("no event {MISSING}")), "{log}");
    let log = story.fails(&["graph", "#story", "--around", MISSING]);
    assert!(log.contains(&format!("no event {MISSING}")), "{log}");
    let log = story.fails(&["check", ""]);
    assert!(log.contains("single quotes"), "{log}");
}

#[test]
fn a_room_that_is_whole_passes_its_check() {
    let story = story();
    story.running_and_stopped(|| {
        let output = story.succeeds(&["check", "#story"]);
        assert!(output.contains("1 states resolved again"), "{output}");
        assert!(output.contains("1 after gaps: no problems"), "{output}");
        let quick = story.succeeds(&["check", "#story", "--quick"]);
        assert!(quick.contains("no states resolved again"), "{quick}");
    });
}

/// A row as it is kept.
type Row = (Vec<u8>, Vec<u8>);

/// Harms the database of a story: `change` gets the rows of a table and gives those that are put in their place; an
/// empty value takes a row away.
fn damage(story: &Story, family: Family, table: u8, change: impl Fn(&[Row]) -> Vec<Row>) {
    let world = open(&story.folder);
    let view = world.store.view();
    let mut cursor = view.scan_raw(family, &[table], &[table + 1], Direction::Forward);
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.next().expect("readable") {
        rows.push((key.to_vec(), value.to_vec()));
    }
    let mut ops = Vec::new();
    for (key, value) in change(&rows) {
        ops.push(Op {
            family,
            key,
            value: Some(value).filter(|value| !value.is_empty()),
            key_position: None,
            value_position: None,
        });
    }
    assert!(!ops.is_empty(), "nothing was harmed");
    let ticket = world.store.commit_batch(Batch { ops }).expect("written");
    world.store.wait(ticket).expect("synced");
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|at| at == part.as_bytes())
}

/// The line and the place at the end of a key of the state's history, the place inverted.
fn line_of(key: &[u8]) -> u32 {
    let end = &key[key.len() - 12..key.len() - 8];
    u32::from_be_bytes(end.try_into().expect("four bytes"))
}

#[test]
fn an_event_that_was_altered_is_found() {
    let story = story();
    damage(&story, Family::Events, 1, |rows| {
        let row = rows.iter().find(|(_, value)| contains(value, "Both sides"));
        let (key, value) = row.expect("the message").clone();
        let at = value.windows(10).position(|at| at == b"Both sides");
        let mut value = value;
        value[at.expect("the text") + 4] = b'_';
        vec![(key, value)]
    });
    for arguments in [&["check", "#story"][..], &["check", "#story", "--quick"]] {
        let output = story.fails(arguments);
        let wanted = format!("event {}: its content hash does not match", story.join);
        assert!(output.contains(&wanted), "{output}");
        assert!(output.contains("is damaged: 1 problems"), "{output}");
    }
}

#[test]
fn a_state_entry_that_was_altered_is_found() {
    let story = story();
    damage(&story, Family::State, 2, |rows| {
        let of = |of: &str| {
            let row = rows.iter().find(|(key, _)| contains(key, of));
            row.expect("an entry").clone()
        };
        // The topic of the side line is set by the event of the create entry.
        let create = of("m.room.create");
        let topic = rows
            .iter()
            .find(|(key, _)| contains(key, "m.room.topic") && line_of(key) == 1);
        vec![(topic.expect("an entry").0.clone(), create.1)]
    });
    let output = story.fails(&["check", "#story"]);
    let wanted = format!(
        "event {}: the state after it does not have it",
        story.other_topic
    );
    assert!(output.contains(&wanted), "{output}");
    assert!(
        output.contains(r#"the state has it as m.room.topic """#),
        "{output}"
    );
}

#[test]
fn a_current_state_that_resolution_would_not_give_is_found_and_quick_does_not_look() {
    let story = story();
    // The history loses, in all its tables, that the other side's topic came to count.
    let lost = std::cell::Cell::new(None);
    let kept = std::cell::RefCell::new(Vec::new());
    damage(&story, Family::State, 2, |rows| {
        let mut topics: Vec<&Row> = rows
            .iter()
            .filter(|(key, _)| contains(key, "m.room.topic") && line_of(key) == 0)
            .collect();
        assert_eq!(topics.len(), 2);
        // Newest first.
        let (key, _) = topics.remove(0);
        let inverted = key[key.len() - 8..].try_into().expect("eight bytes");
        lost.set(Some(!u64::from_be_bytes(inverted)));
        *kept.borrow_mut() = topics[0].1.clone();
        vec![(key.clone(), Vec::new())]
    });
    damage(&story, Family::State, 3, |rows| {
        let place = lost.get().expect("a place").to_be_bytes();
        let main = |(key, _): &&Row| key.ends_with(&place) && key[5..9] == [0; 4];
        let row = rows.iter().find(main);
        vec![(row.expect("a change").0.clone(), Vec::new())]
    });
    damage(&story, Family::State, 1, |rows| {
        let row = rows.iter().find(|(key, _)| contains(key, "m.room.topic"));
        vec![(row.expect("the topic").0.clone(), kept.borrow().clone())]
    });
    let output = story.fails(&["check", "#story"]);
    let wanted = format!(
        "event {}: the state before it has m.room.topic \"\" by {}, it follows from the events before by {}",
        story.join, story.this_topic, story.other_topic
    );
    assert!(output.contains(&wanted), "{output}");
    story.succeeds(&["check", "#story", "--quick"]);
}
