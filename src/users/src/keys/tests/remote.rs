//! Keys of users of other servers.

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::keys::remote::{self, DeviceUpdate, RemoteKeys, SigningKeyUpdate};

const ANN: Owner<'static> = Owner {
    user: UserSn(1 << 31 | 1),
    user_id: "@ann:there",
};

fn answer(devices: &Value, master: Option<Value>, self_signing: Option<Value>) -> RemoteKeys {
    let one = |key: Option<Value>| key.map_or(json!({}), |key| json!({ ANN.user_id: key }));
    let answer = json!({
        "device_keys": {ANN.user_id: devices, "@other:there": {}},
        "master_keys": one(master),
        "self_signing_keys": one(self_signing),
    });
    let asked = [ANN.user_id.to_owned()];
    let mut users = RemoteKeys::read_answer(answer.to_string().as_bytes(), &asked).unwrap();
    assert_eq!(users.len(), 1);
    users.remove(ANN.user_id).unwrap()
}

fn named(device: &str, seed: u8, name: &str) -> Value {
    let mut keys = Pair::new(seed).as_device(ANN, device);
    keys["unsigned"] = json!({"device_display_name": name});
    keys
}

fn keep(store: &Store, keys: &RemoteKeys, as_of: Position, followed: Option<Position>) -> bool {
    let mut told = false;
    commit(store, |txn| {
        told = remote::keep(txn, ANN.user, keys, as_of, followed)?;
        Ok(())
    });
    told
}

fn update(store: &Store, content: &Value) -> bool {
    let update = DeviceUpdate::read(&content.to_string()).unwrap();
    let mut news = false;
    commit(store, |txn| {
        news = remote::apply_update(txn, ANN.user, Position::ZERO, &update)?;
        Ok(())
    });
    news
}

fn is_current(store: &Store) -> bool {
    remote::is_current(&store.view(), ANN.user, Position::ZERO).unwrap()
}

fn shown(store: &Store) -> UserKeys {
    user_keys(&store.view(), Viewer::User(BOB), ANN.user, &[]).unwrap()
}

fn device_ids(store: &Store) -> Vec<String> {
    let devices = shown(store).devices.into_iter();
    devices.map(|(device, _)| device).collect()
}

#[test]
fn an_answer_that_is_kept_is_shown_as_it_was_answered() {
    let store = store();
    let identity = Identity::new(ANN, 10);
    let devices = json!({"ONE": named("ONE", 1, "Phone"), "TWO": named("TWO", 2, "\"2\"")});
    let keys = answer(
        &devices,
        Some(identity.master_key()),
        Some(identity.self_signing_key()),
    );
    assert!(!keep(&store, &keys, Position::ZERO, Some(Position::ZERO)));
    assert!(is_current(&store));
    let kept = shown(&store);
    let view = store.view();
    assert_eq!(
        kept,
        keys.as_seen_by(&view, BOB, Some(ANN.user), &[]).unwrap()
    );
    let parsed: Value = serde_json::from_str(&kept.devices[0].1).unwrap();
    assert_eq!(parsed, devices["ONE"]);
    assert!(kept.master.is_some() && kept.self_signing.is_some());
    let some = keys
        .as_seen_by(&view, BOB, None, &["TWO".to_owned()])
        .unwrap();
    assert_eq!(some.devices.len(), 1);
    // Another answer replaces it, and who has seen the first is told.
    let keys = answer(&json!({"TWO": named("TWO", 3, "Two")}), None, None);
    assert!(keep(&store, &keys, Position::ZERO, Some(Position::ZERO)));
    assert_eq!(device_ids(&store), ["TWO"]);
    assert_eq!(shown(&store).master, None);
}

#[test]
fn what_is_not_well_formed_in_an_answer_is_not_taken() {
    let (ann, other) = (Identity::new(ANN, 10), Identity::new(ANN, 20));
    let devices = json!({
        "GOOD": named("GOOD", 1, "Phone"),
        "OTHER": named("GOOD", 1, "Phone"),
        "BOBS": Pair::new(1).as_device(BOB, "BOBS"),
        "EMPTY": {},
        "TEXT": "text",
    });
    let keys = answer(
        &devices,
        Some(ann.master_key()),
        Some(other.self_signing_key()),
    );
    let seen = keys.as_seen_by(&store().view(), BOB, None, &[]).unwrap();
    assert_eq!(seen.devices.len(), 1);
    // One that the master key did not sign is as good as none.
    assert!(seen.master.is_some() && seen.self_signing.is_none());
    let asked = [ANN.user_id.to_owned()];
    assert!(RemoteKeys::read_answer(b"{}", &asked).is_err());
    assert!(
        RemoteKeys::read_answer(b"{\"device_keys\":{}}", &asked)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_list_is_current_only_for_as_long_as_its_user_is_followed() {
    let store = store();
    let keys = answer(&json!({"ONE": named("ONE", 1, "Phone")}), None, None);
    let at = store.view().position();
    keep(&store, &keys, at, Some(at));
    let current = |followed| remote::is_current(&store.view(), ANN.user, followed).unwrap();
    assert!(current(at));
    assert!(!current(Position(at.0 + 1)));
    // Asked before the user was followed anew, or of one who is not followed: not kept.
    for followed in [Some(Position(at.0 + 1)), None] {
        keep(&store, &keys, at, followed);
        assert!(!current(Position::ZERO));
        assert_eq!(device_ids(&store), [""; 0]);
        keep(&store, &keys, at, Some(at));
    }
}

#[test]
fn updates_carry_a_list_on_until_one_is_missing() {
    let store = store();
    let keys = answer(&json!({"ONE": named("ONE", 1, "Phone")}), None, None);
    let content = |stream_id: u64, previous: &[u64], device: &str| {
        json!({
            "user_id": ANN.user_id, "device_id": device, "stream_id": stream_id, "prev_id": previous,
            "keys": Pair::new(3).as_device(ANN, device), "device_display_name": "Named",
        })
    };
    // The first names no update that is known here: the list is asked for, and holds what it said.
    assert!(update(&store, &content(5, &[], "ONE")));
    assert!(!is_current(&store));
    let asked_at = store.view().position();
    keep(&store, &keys, asked_at, Some(Position::ZERO));
    assert!(update(&store, &content(6, &[5], "TWO")));
    assert!(is_current(&store));
    assert_eq!(device_ids(&store), ["ONE", "TWO"]);
    assert!(shown(&store).devices[1].1.contains("Named"));
    // The same again is no news.
    assert!(!update(&store, &content(6, &[5], "TWO")));
    let mut gone = content(7, &[6], "ONE");
    gone["deleted"] = true.into();
    assert!(update(&store, &gone));
    assert_eq!(device_ids(&store), ["TWO"]);
    // 8 is missing.
    assert!(update(&store, &content(9, &[8], "ONE")));
    assert!(!is_current(&store));
    let told = device_lists::last_changed(&store.view(), ANN.user).unwrap();
    assert_eq!(told, Some(store.view().position()));
    // An answer that was asked for before that is not the last word.
    keep(&store, &keys, asked_at, Some(Position::ZERO));
    assert!(!is_current(&store));
    // Ids as text, and updates that can't be read.
    let mut text = content(10, &[9], "ONE");
    text["stream_id"] = "10".into();
    assert!(update(&store, &text));
    for broken in [
        json!({}),
        json!({"user_id": "@a:b", "device_id": "D", "stream_id": -1}),
    ] {
        assert!(DeviceUpdate::read(&broken.to_string()).is_err());
    }
}

#[test]
fn new_cross_signing_keys_replace_the_kept_ones_and_what_can_t_be_read_ends_them() {
    let store = store();
    let (before, after) = (Identity::new(ANN, 10), Identity::new(ANN, 20));
    let devices = json!({"ONE": named("ONE", 1, "Phone")});
    let keys = answer(
        &devices,
        Some(before.master_key()),
        Some(before.self_signing_key()),
    );
    keep(&store, &keys, Position::ZERO, Some(Position::ZERO));
    let apply = |content: &Value| {
        let update = SigningKeyUpdate::read(&content.to_string()).unwrap();
        let mut news = false;
        commit(&store, |txn| {
            news = remote::apply_signing_keys(txn, ANN.user, Position::ZERO, &update)?;
            Ok(())
        });
        news
    };
    assert!(!apply(
        &json!({"user_id": ANN.user_id, "master_key": before.master_key()})
    ));
    assert!(apply(
        &json!({"user_id": ANN.user_id, "master_key": after.master_key()})
    ));
    assert!(shown(&store).self_signing.is_none());
    assert!(apply(
        &json!({"user_id": ANN.user_id, "self_signing_key": after.self_signing_key()})
    ));
    assert!(shown(&store).self_signing.is_some());
    assert!(is_current(&store));
    assert!(apply(
        &json!({"user_id": ANN.user_id, "self_signing_key": before.self_signing_key()})
    ));
    assert!(!is_current(&store));
}

#[test]
fn a_viewer_sees_their_own_signature_under_a_kept_master_key() {
    let store = store();
    let (ann, bob) = (Identity::new(ANN, 10), Identity::new(BOB, 30));
    bob.upload(&store);
    let keys = answer(&json!({}), Some(ann.master_key()), None);
    keep(&store, &keys, store.view().position(), Some(Position::ZERO));
    let signed = bob.user_signing.sign(BOB, &ann.master_key()).to_string();
    commit(&store, |txn| {
        assert!(signatures::upload(
            txn,
            BOB,
            ANN.user,
            &ann.master.public(),
            &signed
        )?);
        Ok(())
    });
    let seen = shown(&store).master.unwrap();
    assert!(seen.contains(BOB.user_id));
    let asked = keys
        .as_seen_by(&store.view(), BOB, Some(ANN.user), &[])
        .unwrap();
    assert_eq!(asked.master.as_ref(), Some(&seen));
    let others = Viewer::Server { sees_names: true };
    let others = user_keys(&store.view(), others, ANN.user, &[]).unwrap();
    assert!(!others.master.unwrap().contains(BOB.user_id));
}

/// What happens between the two servers.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A device of theirs is new, changed, or deleted; an update is on its way.
    Change(u8, bool),
    /// The oldest update on its way arrives.
    Arrive,
    /// The oldest update on its way is lost.
    Lose,
    /// Their list is asked for.
    Ask,
    /// The answer comes.
    Answer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8, any::<bool>()).prop_map(|(device, deleted)| Step::Change(device, deleted)),
        5 => Just(Step::Arrive),
        1 => Just(Step::Lose),
        2 => Just(Step::Ask),
        2 => Just(Step::Answer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_current_list_is_theirs_once_no_update_is_on_its_way(steps in vec(step(), 1..40)) {
        let store = store();
        let mut theirs: BTreeMap<String, Value> = BTreeMap::new();
        let mut under_way: VecDeque<Value> = VecDeque::new();
        let mut asked: Option<(Position, RemoteKeys)> = None;
        let (mut stream_id, mut last_is_lost) = (0u64, false);
        for step in steps {
            match step {
                Step::Change(device, deleted) => {
                    let id = format!("D{device}");
                    stream_id += 1;
                    let mut content = json!({
                        "user_id": ANN.user_id, "device_id": &id,
                        "stream_id": stream_id, "prev_id": [stream_id - 1],
                    });
                    if deleted {
                        theirs.remove(&id);
                        content["deleted"] = true.into();
                    } else {
                        let keys = Pair::new(stream_id as u8).as_device(ANN, &id);
                        content["keys"] = keys.clone();
                        theirs.insert(id, keys);
                    }
                    under_way.push_back(content);
                    last_is_lost = false;
                }
                Step::Arrive => {
                    if let Some(content) = under_way.pop_front() {
                        update(&store, &content);
                    }
                }
                Step::Lose => {
                    if under_way.pop_front().is_some() {
                        last_is_lost = under_way.is_empty();
                    }
                }
                Step::Ask => {
                    asked = Some((store.view().position(), answer(&json!(theirs), None, None)));
                    // They have told all in it.
                    last_is_lost = false;
                }
                Step::Answer => {
                    if let Some((as_of, keys)) = asked.take() {
                        keep(&store, &keys, as_of, Some(Position::ZERO));
                    }
                }
            }
            if is_current(&store) && under_way.is_empty() && !last_is_lost && asked.is_none() {
                let kept: BTreeMap<String, Value> = shown(&store)
                    .devices
                    .into_iter()
                    .map(|(device, json)| (device, serde_json::from_str(&json).unwrap()))
                    .collect();
                prop_assert_eq!(kept, theirs.clone());
            }
        }
    }
}

#[test]
fn a_device_without_keys_is_no_news_while_nothing_is_known() {
    let store = store();
    let bare = |stream_id: u64, previous: u64| json!({"user_id": ANN.user_id, "device_id": "BARE", "stream_id": stream_id, "prev_id": [previous]});
    assert!(!update(&store, &bare(5, 4)));
    let keys = answer(&json!({"ONE": named("ONE", 1, "Phone")}), None, None);
    keep(&store, &keys, Position::ZERO, Some(Position::ZERO));
    assert!(is_current(&store));
    assert!(update(&store, &bare(9, 8)));
}
