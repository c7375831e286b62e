//! Jobs over a crash: whatever was written when the process ended, the next one does the rest, once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use event::{RoomVersion, SigningKey};
use names::UserSn;
use node::jobs::{self, Task};
use node::room::{CreateRoom, member_profile};
use node::{Node, Touched};
use rooms::create::Preset;
use rooms::{EventNo, event_log, members};
use serde_json::{Map, Value, json};
use store::memory::Memory;
use store::{Options, Read, Store, SyncMode};
use tempfile::TempDir;
use users::accounts::{Account, Kind};
use users::{accounts, profile};

const ALICE: &str = "@alice:example.org";
const ROOMS: usize = 7;
const PATIENCE: Duration = Duration::from_secs(30);

fn node_on(memory: &Memory, folder: &Path) -> Arc<Node> {
    let path = folder.join("meyrin.toml");
    std::fs::write(
        &path,
        "server_name = \"example.org\"\ndata_dir = \"data\"\n",
    )
    .unwrap();
    let config = Config::load(Some(&path), []).unwrap();
    let options = Options {
        sync: SyncMode::Never,
        schema: 1,
        migrations: &[],
        reserve_bytes: 0,
        on_fatal: Box::new(|error| panic!("{error}")),
    };
    let store = Store::open(Box::new(memory.clone()), options).unwrap();
    let key = SigningKey::generate("example.org", [7; 32]);
    Node::new(config, store, key).unwrap()
}

/// Alice, called Alice, in rooms of her own, all of it on the disk.
async fn house(folder: &Path) -> Memory {
    let memory = Memory::default();
    let node = node_on(&memory, folder);
    let alice = node.names().user(node.store(), ALICE).unwrap();
    let mut txn = node.begin();
    let account = Account::new(Kind::User, 1, None);
    accounts::create(&mut txn, alice, &account).unwrap();
    profile::set(&mut txn, alice, profile::DISPLAYNAME, json!("Alice")).unwrap();
    node.commit((), txn, Touched::user(alice)).await.unwrap();
    for _ in 0..ROOMS {
        let room = CreateRoom {
            creator: alice,
            creator_id: ALICE.into(),
            version: RoomVersion::V12,
            creation_content: Map::new(),
            preset: Preset::PublicChat,
            name: None,
            topic: None,
            alias: None,
            published: false,
            invite: Vec::new(),
            is_direct: false,
            initial_state: Vec::new(),
            power_level_override: Map::new(),
        };
        node.create_room(room).await.unwrap();
    }
    drop(node);
    memory
}

fn alice(node: &Node) -> UserSn {
    let view = node.view();
    node.names().known_user(&view, ALICE).unwrap().unwrap()
}

/// How often each room has a member event of Alice's with `content`.
fn times_told(node: &Node, content: &Value) -> Vec<usize> {
    let view = node.view();
    let rooms = members::rooms_of(&view, alice(node)).unwrap();
    let mut times = Vec::new();
    for (room, _) in rooms {
        let events = event_log::forwards(&view, room, EventNo::MIN);
        let told = events.filter(|event| {
            let (_, event) = event.as_ref().unwrap();
            let event: Value = serde_json::from_str(&event.json).unwrap();
            event["type"] == "m.room.member" && event["content"] == *content
        });
        times.push(told.count());
    }
    times
}

/// Changes what `change` says together with the job, has the job done, and then sees what is left after a
/// crash at every moment: nothing of the change, or all that follows from it.
async fn done_once_whatever_is_lost(
    task: fn(UserSn) -> Task,
    change: fn(&mut store::Txn, UserSn),
    told: Value,
) {
    let folder = TempDir::new().unwrap();
    let memory = house(folder.path()).await;
    let node = node_on(&memory, folder.path());
    let user = alice(&node);
    let before = node.view().position();
    let mut txn = node.begin();
    change(&mut txn, user);
    let job = jobs::schedule(&mut txn, task(user), 5);
    let position = node.commit((), txn, Touched::user(user)).await.unwrap();
    assert!(node.start_job(job, position).wait(PATIENCE).await);
    assert_eq!(times_told(&node, &told), [1; ROOMS]);
    let writes = node.view().position().0 - before.0;
    assert!(writes > ROOMS as u64, "a step is a change");

    for kept in 0..=writes {
        // What follows from a crash may be cut off by another.
        for kept_again in [0, 1, 3] {
            let once = memory.after_power_loss(kept);
            let node = node_on(&once, folder.path());
            node.resume_jobs().unwrap();
            node.finish_jobs().await;
            let memory = once.after_power_loss(kept_again);
            let node = node_on(&memory, folder.path());
            node.resume_jobs().unwrap();
            node.finish_jobs().await;
            let expected = if kept == 0 { [0; ROOMS] } else { [1; ROOMS] };
            assert_eq!(
                times_told(&node, &told),
                expected,
                "{kept} writes, then {kept_again}"
            );
            assert!(jobs::list(&node.view()).unwrap().is_empty());
            let report = &mut |problem: String| panic!("{problem}");
            rooms::check::all(&node.view(), report, &mut |_| {}).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_changed_profile_reaches_every_room_once() {
    done_once_whatever_is_lost(
        Task::ShowProfile,
        |txn, user| {
            profile::set(txn, user, profile::DISPLAYNAME, json!("Alice Z")).unwrap();
            assert_eq!(
                member_profile(txn, user).unwrap().displayname.as_deref(),
                Some("Alice Z")
            );
        },
        json!({"membership": "join", "displayname": "Alice Z"}),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_closes_an_account_leaves_every_room_once() {
    done_once_whatever_is_lost(
        Task::LeaveRooms,
        |txn, user| accounts::deactivate(txn, user, false).unwrap(),
        json!({"membership": "leave"}),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_job_waits_for_room_on_a_full_disk_and_for_the_next_start_when_the_server_stops() {
    let folder = TempDir::new().unwrap();
    let memory = house(folder.path()).await;
    let node = node_on(&memory, folder.path());
    let user = alice(&node);
    let mut txn = node.begin();
    let job = jobs::schedule(&mut txn, Task::LeaveRooms(user), 5);
    let position = node.commit((), txn, Touched::nobody()).await.unwrap();
    memory.fill_disk(true);
    let running = node.start_job(job, position);
    assert!(!running.wait(Duration::from_millis(20)).await);
    memory.fill_disk(false);
    node.shutdown().cancel();
    node.finish_jobs().await;
    let left = jobs::list(&node.view()).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0.task, Task::LeaveRooms(user));
    drop(node);

    let node = node_on(&memory, folder.path());
    node.resume_jobs().unwrap();
    node.finish_jobs().await;
    assert!(jobs::list(&node.view()).unwrap().is_empty());
    assert_eq!(
        times_told(&node, &json!({"membership": "leave"})),
        [1; ROOMS]
    );
}
