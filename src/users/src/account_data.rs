//! Account data: what clients keep for a user, globally or for a room (client-server API, "Client
//! Config"), tags and ignored users among it.
//!
//! Each item has one row in the log, at the position of its last change, so that what is new since a
//! position is one range scan. `m.push_rules` stands in the log, too; its content is made from the
//! user's push rules. Content is a JSON object, kept as the bytes that came.

use std::collections::BTreeMap;

use names::{RoomSn, UserSn};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{At, Blob, Direction, Position, Read, StoreError, Txn};

use crate::push::rules;
use crate::schema::{ACCOUNT_DATA, ACCOUNT_DATA_LOG, ROOM_ACCOUNT_DATA};
use crate::{Error, Result};

/// The type of the list of ignored users.
pub const IGNORED_USER_LIST: &str = "m.ignored_user_list";
/// The type of a room's tags.
pub const TAG: &str = "m.tag";
/// The type of the read marker.
pub const FULLY_READ: &str = "m.fully_read";
/// The type under which push rules are told.
pub const PUSH_RULES: &str = "m.push_rules";

/// The longest type, in bytes.
pub const MAX_TYPE_BYTES: usize = 255;
/// The largest content, in bytes.
pub const MAX_CONTENT_BYTES: usize = 1024 * 1024;
/// The longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 255;

/// Stands for "no room" in the log.
pub(crate) const GLOBAL: RoomSn = RoomSn(0);

/// An item of account data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The event type.
    pub kind: String,
    /// The content, a JSON object.
    pub content: Vec<u8>,
}

/// The items that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those outside rooms.
    pub global: Vec<Item>,
    /// Those of rooms.
    pub rooms: BTreeMap<RoomSn, Vec<Item>>,
}

/// True for types that the server manages: clients set them by other endpoints.
pub fn is_managed(kind: &str) -> bool {
    kind == FULLY_READ || kind == PUSH_RULES
}

fn check(kind: &str, content: &[u8]) -> Result<()> {
    if kind.is_empty() || kind.len() > MAX_TYPE_BYTES {
        return Err(Error::invalid("The type has 1 to 255 bytes"));
    }
    if content.len() > MAX_CONTENT_BYTES {
        return Err(Error::TooLarge("Account data has at most 1 MiB".into()));
    }
    Ok(())
}

/// Sets an item outside rooms.
///
/// # Errors
/// [`Error::Invalid`] for the type, [`Error::TooLarge`] for the content.
pub fn put(txn: &mut Txn, user: UserSn, kind: &str, content: &[u8]) -> Result<()> {
    check(kind, content)?;
    let key = (user, kind.to_owned());
    let before = ACCOUNT_DATA.get(txn, &key)?.map(|row| row.position);
    log(txn, user, GLOBAL, kind, before);
    ACCOUNT_DATA.put(txn, &key, &At::now(Blob(content.to_vec())));
    Ok(())
}

/// Sets an item in a room.
///
/// # Errors
/// As [`put`].
pub fn put_room(
    txn: &mut Txn,
    user: UserSn,
    room: RoomSn,
    kind: &str,
    content: &[u8],
) -> Result<()> {
    check(kind, content)?;
    let key = (user, room, kind.to_owned());
    let before = ROOM_ACCOUNT_DATA.get(txn, &key)?.map(|row| row.position);
    log(txn, user, room, kind, before);
    ROOM_ACCOUNT_DATA.put(txn, &key, &At::now(Blob(content.to_vec())));
    Ok(())
}

/// Moves the item's row in the log to the position of this change.
pub(crate) fn log_push_rules(txn: &mut Txn, user: UserSn, before: Option<Position>) {
    log(txn, user, GLOBAL, PUSH_RULES, before);
}

fn log(txn: &mut Txn, user: UserSn, room: RoomSn, kind: &str, before: Option<Position>) {
    if let Some(before) = before {
        ACCOUNT_DATA_LOG.delete(txn, &(user, before, room, kind.to_owned()));
    }
    let key = (user, Position::PENDING, room, kind.to_owned());
    ACCOUNT_DATA_LOG.put(txn, &key, &());
}

/// An item outside rooms. Push rules need the user's id, because default rules name it: see
/// [`rules::get`].
pub fn get(from: &impl Read, user: UserSn, kind: &str) -> Result<Option<Vec<u8>>> {
    let row = ACCOUNT_DATA.get(from, &(user, kind.to_owned()))?;
    Ok(row.map(|row| row.value.0))
}

/// An item in a room.
pub fn get_room(
    from: &impl Read,
    user: UserSn,
    room: RoomSn,
    kind: &str,
) -> Result<Option<Vec<u8>>> {
    let row = ROOM_ACCOUNT_DATA.get(from, &(user, room, kind.to_owned()))?;
    Ok(row.map(|row| row.value.0))
}

/// All items outside rooms, the push rules included.
pub fn all(from: &impl Read, user: UserSn, user_id: &str) -> Result<Vec<Item>> {
    let mut items = vec![push_rules(from, user, user_id)?];
    for row in ACCOUNT_DATA.scan(from, &(user,), Direction::Forward) {
        let ((_, kind), content) = row?;
        items.push(Item {
            kind,
            content: content.value.0,
        });
    }
    Ok(items)
}

/// All items in a room.
pub fn all_room(from: &impl Read, user: UserSn, room: RoomSn) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for row in ROOM_ACCOUNT_DATA.scan(from, &(user, room), Direction::Forward) {
        let ((_, _, kind), content) = row?;
        items.push(Item {
            kind,
            content: content.value.0,
        });
    }
    Ok(items)
}

/// The items that changed after `since`.
pub fn since(from: &impl Read, user: UserSn, user_id: &str, since: Position) -> Result<Changes> {
    let mut changes = Changes::default();
    let start = (
        user,
        Position(since.0.saturating_add(1)),
        GLOBAL,
        String::new(),
    );
    for row in ACCOUNT_DATA_LOG.scan_from(from, &(user,), &start) {
        let ((_, _, room, kind), ()) = row?;
        if room != GLOBAL {
            if let Some(content) = get_room(from, user, room, &kind)? {
                let items = changes.rooms.entry(room).or_default();
                items.push(Item { kind, content });
            }
        } else if kind == PUSH_RULES {
            changes.global.push(push_rules(from, user, user_id)?);
        } else if let Some(content) = get(from, user, &kind)? {
            changes.global.push(Item { kind, content });
        }
    }
    Ok(changes)
}

fn push_rules(from: &impl Read, user: UserSn, user_id: &str) -> Result<Item> {
    Ok(Item {
        kind: PUSH_RULES.to_owned(),
        content: rules::get(from, user)?.to_account_data(user_id),
    })
}

/// Removes everything a user keeps, push rules aside.
pub fn clear(txn: &mut Txn, user: UserSn) -> Result<()> {
    let rows = ACCOUNT_DATA
        .scan(txn, &(user,), Direction::Forward)
        .collect::<store::Result<Vec<_>>>()?;
    for (key, row) in rows {
        ACCOUNT_DATA_LOG.delete(txn, &(user, row.position, GLOBAL, key.1.clone()));
        ACCOUNT_DATA.delete(txn, &key);
    }
    let rows = ROOM_ACCOUNT_DATA
        .scan(txn, &(user,), Direction::Forward)
        .collect::<store::Result<Vec<_>>>()?;
    for (key, row) in rows {
        ACCOUNT_DATA_LOG.delete(txn, &(user, row.position, key.1, key.2.clone()));
        ROOM_ACCOUNT_DATA.delete(txn, &key);
    }
    Ok(())
}

/// The content of `m.tag`: each tag with its object as it came.
#[derive(Default, Serialize, Deserialize)]
struct Tags {
    #[serde(default)]
    tags: BTreeMap<String, Box<RawValue>>,
}

/// The content of a room's `m.tag`, an object with `tags`.
pub fn tags(from: &impl Read, user: UserSn, room: RoomSn) -> Result<Vec<u8>> {
    let tags = read_tags(from, user, room)?;
    to_json(&tags)
}

/// The names of a room's tags.
pub fn tag_names(from: &impl Read, user: UserSn, room: RoomSn) -> Result<Vec<String>> {
    Ok(read_tags(from, user, room)?.tags.into_keys().collect())
}

fn read_tags(from: &impl Read, user: UserSn, room: RoomSn) -> Result<Tags> {
    let content = get_room(from, user, room, TAG)?.unwrap_or_default();
    // Clients may have written anything as `m.tag` by the endpoint of account data.
    Ok(serde_json::from_slice(&content).unwrap_or_default())
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(value).map_err(|_| StoreError::Corrupt {
        table: ROOM_ACCOUNT_DATA.name(),
        why: "tags that can't be written",
    })?;
    Ok(json)
}

/// Puts a tag on a room; `info` is its JSON object.
///
/// # Errors
/// [`Error::Invalid`] for a tag that is too long.
pub fn put_tag(
    txn: &mut Txn,
    user: UserSn,
    room: RoomSn,
    tag: &str,
    info: Box<RawValue>,
) -> Result<()> {
    if tag.is_empty() || tag.len() > MAX_TAG_BYTES {
        return Err(Error::invalid("A tag has 1 to 255 bytes"));
    }
    let mut tags = read_tags(txn, user, room)?;
    tags.tags.insert(tag.to_owned(), info);
    let content = to_json(&tags)?;
    put_room(txn, user, room, TAG, &content)
}

/// Takes a tag off a room; returns false if it was not there.
pub fn delete_tag(txn: &mut Txn, user: UserSn, room: RoomSn, tag: &str) -> Result<bool> {
    let mut tags = read_tags(txn, user, room)?;
    if tags.tags.remove(tag).is_none() {
        return Ok(false);
    }
    let content = to_json(&tags)?;
    put_room(txn, user, room, TAG, &content)?;
    Ok(true)
}

/// The user ids that a user ignores (client-server API, "Ignoring Users").
pub fn ignored_users(from: &impl Read, user: UserSn) -> Result<Vec<String>> {
    #[derive(Default, Deserialize)]
    struct List {
        #[serde(default)]
        ignored_users: BTreeMap<String, serde::de::IgnoredAny>,
    }
    let Some(content) = get(from, user, IGNORED_USER_LIST)? else {
        return Ok(Vec::new());
    };
    // A list that a client wrote in another shape ignores nobody.
    let list: List = serde_json::from_slice(&content).unwrap_or_default();
    Ok(list.ignored_users.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;

    const ALICE: UserSn = UserSn(1);
    const ROOM: RoomSn = RoomSn(7);

    fn kinds(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.kind.as_str()).collect()
    }

    #[test]
    fn what_changed_since_a_position_is_told_once_with_its_last_content() {
        let store = store();
        let mut txn = store.begin();
        put(&mut txn, ALICE, "a", b"{}").unwrap();
        put(&mut txn, ALICE, "b", b"{}").unwrap();
        put_room(&mut txn, ALICE, ROOM, "r", b"{}").unwrap();
        put(&mut txn, UserSn(2), "other", b"{}").unwrap();
        let first = store.commit(txn).unwrap().position;
        let mut txn = store.begin();
        put(&mut txn, ALICE, "a", br#"{"n":1}"#).unwrap();
        let second = store.commit(txn).unwrap().position;
        let head = store.head();

        let all = since(&head, ALICE, "@a:b", Position::ZERO).unwrap();
        assert_eq!(kinds(&all.global), ["b", "a"]);
        assert_eq!(all.global[1].content, br#"{"n":1}"#);
        assert_eq!(kinds(&all.rooms[&ROOM]), ["r"]);
        let new = since(&head, ALICE, "@a:b", first).unwrap();
        assert_eq!(kinds(&new.global), ["a"]);
        assert!(new.rooms.is_empty());
        assert_eq!(
            since(&head, ALICE, "@a:b", second).unwrap(),
            Changes::default()
        );
        assert_eq!(
            ACCOUNT_DATA_LOG
                .scan(&head, &(ALICE,), Direction::Forward)
                .count(),
            3
        );

        let mut txn = store.begin();
        clear(&mut txn, ALICE).unwrap();
        assert_eq!(
            ACCOUNT_DATA_LOG
                .scan(&txn, &(ALICE,), Direction::Forward)
                .count(),
            0
        );
    }

    #[test]
    fn an_item_written_twice_in_one_change_has_one_row_in_the_log() {
        let store = store();
        let mut txn = store.begin();
        put(&mut txn, ALICE, "a", b"{}").unwrap();
        put(&mut txn, ALICE, "a", br#"{"n":2}"#).unwrap();
        store.commit(txn).unwrap();
        let changes = since(&store.head(), ALICE, "@a:b", Position::ZERO).unwrap();
        assert_eq!(kinds(&changes.global), ["a"]);
    }

    #[test]
    fn tags_are_added_and_removed_one_by_one() {
        let store = store();
        let mut txn = store.begin();
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        assert_eq!(tags(&txn, ALICE, ROOM).unwrap(), br#"{"tags":{}}"#);
        put_tag(&mut txn, ALICE, ROOM, "u.work", raw(r#"{"order":0.5}"#)).unwrap();
        put_tag(&mut txn, ALICE, ROOM, "m.favourite", raw("{}")).unwrap();
        let both = br#"{"tags":{"m.favourite":{},"u.work":{"order":0.5}}}"#;
        assert_eq!(tags(&txn, ALICE, ROOM).unwrap(), both);
        assert!(delete_tag(&mut txn, ALICE, ROOM, "u.work").unwrap());
        assert!(!delete_tag(&mut txn, ALICE, ROOM, "u.work").unwrap());
        let one = get_room(&txn, ALICE, ROOM, TAG).unwrap().unwrap();
        assert_eq!(one, br#"{"tags":{"m.favourite":{}}}"#);
        assert!(put_tag(&mut txn, ALICE, ROOM, &"x".repeat(256), raw("{}")).is_err());
    }

    #[test]
    fn the_list_of_ignored_users_survives_any_content() {
        let store = store();
        let mut txn = store.begin();
        assert!(ignored_users(&txn, ALICE).unwrap().is_empty());
        let list = br#"{"ignored_users":{"@b:c":{},"@a:c":{}}}"#;
        put(&mut txn, ALICE, IGNORED_USER_LIST, list).unwrap();
        assert_eq!(ignored_users(&txn, ALICE).unwrap(), ["@a:c", "@b:c"]);
        put(
            &mut txn,
            ALICE,
            IGNORED_USER_LIST,
            br#"{"ignored_users":[1]}"#,
        )
        .unwrap();
        assert!(ignored_users(&txn, ALICE).unwrap().is_empty());
    }
}
