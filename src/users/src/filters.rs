//! Filters: what a client wants to see of a sync (client-server API, "Filtering").
//!
//! A stored filter never changes, and its id is made from its content, so that a client that uploads
//! the same filter at each start gets the same id.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use names::UserSn;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use store::{Blob, Read, Txn};

use crate::schema::FILTERS;
use crate::{Error, Result};

/// The largest filter, in bytes.
pub const MAX_FILTER_BYTES: usize = 64 * 1024;

/// A whole filter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Filter {
    /// Dot-separated paths of the fields to show; none: all.
    pub event_fields: Option<Vec<String>>,
    /// How events look.
    pub event_format: EventFormat,
    /// Presence to show.
    pub presence: EventFilter,
    /// Global account data to show.
    pub account_data: EventFilter,
    /// What to show of rooms.
    pub room: RoomFilter,
}

/// How events look.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum EventFormat {
    /// As clients know them.
    #[default]
    Client,
    /// As servers exchange them.
    Federation,
}

/// What to show of rooms.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct RoomFilter {
    /// Rooms to leave out, even if they are in `rooms`.
    pub not_rooms: Vec<String>,
    /// Rooms to show; none: all.
    pub rooms: Option<Vec<String>>,
    /// Typing and receipts to show.
    pub ephemeral: RoomEventFilter,
    /// Whether to show rooms that the user has left.
    pub include_leave: bool,
    /// State to show.
    pub state: RoomEventFilter,
    /// The timeline to show.
    pub timeline: RoomEventFilter,
    /// Account data of rooms to show.
    pub account_data: RoomEventFilter,
}

/// Which events to show.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct EventFilter {
    /// The most events to show.
    #[serde(deserialize_with = "limit")]
    pub limit: Option<u64>,
    /// Senders to leave out, even if they are in `senders`.
    pub not_senders: Vec<String>,
    /// Types to leave out, even if they are in `types`; `*` stands for any characters.
    pub not_types: Vec<String>,
    /// Senders to show; none: all.
    pub senders: Option<Vec<String>>,
    /// Types to show; none: all. `*` stands for any characters.
    pub types: Option<Vec<String>>,
}

/// Which events of rooms to show.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct RoomEventFilter {
    /// What goes for any event.
    #[serde(flatten)]
    pub event: EventFilter,
    /// Count unread events by thread.
    pub unread_thread_notifications: bool,
    /// Show the member events of those who wrote something, not all.
    pub lazy_load_members: bool,
    /// Show member events again that the client has.
    pub include_redundant_members: bool,
    /// Rooms to leave out, even if they are in `rooms`.
    pub not_rooms: Vec<String>,
    /// Rooms to show; none: all.
    pub rooms: Option<Vec<String>>,
    /// Only events with, or only events without, a `url` in their content.
    pub contains_url: Option<bool>,
    /// Only events with one of these relations to the event of the request (MSC3440).
    #[serde(alias = "io.element.relation_types")]
    pub related_by_rel_types: Option<Vec<String>>,
    /// Only events related to by one of these senders (MSC3440).
    #[serde(alias = "io.element.relation_senders")]
    pub related_by_senders: Option<Vec<String>>,
}

/// A number of events; some clients write it as a float.
fn limit<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<u64>, D::Error> {
    let number = Option::<serde_json::Number>::deserialize(from)?;
    let Some(number) = number else {
        return Ok(None);
    };
    let whole = number.as_u64().or_else(|| {
        let float = number.as_f64()?;
        (float >= 0.0 && float.fract() == 0.0).then_some(float as u64)
    });
    match whole {
        Some(limit) => Ok(Some(limit)),
        None => Err(serde::de::Error::custom("limit is a whole number above 0")),
    }
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    if json.len() > MAX_FILTER_BYTES {
        return Err(Error::TooLarge("A filter has at most 64 KiB".into()));
    }
    // Of an array, serde would take the fields in their order.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::invalid("A filter is a JSON object"));
    }
    serde_json::from_slice(json).map_err(|error| Error::invalid(error.to_string()))
}

impl Filter {
    /// Reads a filter from JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has the wrong shape, or names users or rooms that can't be.
    pub fn parse(json: &[u8]) -> Result<Filter> {
        let filter: Filter = read(json)?;
        filter.check()?;
        Ok(filter)
    }

    fn check(&self) -> Result<()> {
        self.presence.check()?;
        self.account_data.check()?;
        let room = &self.room;
        check_ids(room.rooms.iter().flatten().chain(&room.not_rooms), '!')?;
        for part in [
            &room.ephemeral,
            &room.state,
            &room.timeline,
            &room.account_data,
        ] {
            part.check()?;
        }
        Ok(())
    }
}

impl EventFilter {
    fn check(&self) -> Result<()> {
        check_ids(self.senders.iter().flatten().chain(&self.not_senders), '@')
    }

    /// Whether an event of this type and sender is shown. Account data has no sender.
    pub fn shows(&self, kind: &str, sender: Option<&str>) -> bool {
        let is_listed = |patterns: &[String]| patterns.iter().any(|p| type_matches(p, kind));
        if is_listed(&self.not_types) || self.types.as_deref().is_some_and(|t| !is_listed(t)) {
            return false;
        }
        let Some(sender) = sender else {
            return true;
        };
        let is_listed = |senders: &[String]| senders.iter().any(|s| s == sender);
        !is_listed(&self.not_senders) && self.senders.as_deref().is_none_or(is_listed)
    }

    /// True if every event is shown.
    pub fn shows_everything(&self) -> bool {
        self.not_senders.is_empty()
            && self.not_types.is_empty()
            && self.senders.is_none()
            && self.types.is_none()
    }
}

impl RoomEventFilter {
    /// Reads the filter of an endpoint of one room, such as `/messages`.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse(json: &[u8]) -> Result<RoomEventFilter> {
        let filter: RoomEventFilter = read(json)?;
        filter.check()?;
        Ok(filter)
    }

    fn check(&self) -> Result<()> {
        self.event.check()?;
        check_ids(self.rooms.iter().flatten().chain(&self.not_rooms), '!')
    }

    /// Whether anything of this room is shown.
    pub fn shows_room(&self, room_id: &str) -> bool {
        room_is_shown(&self.rooms, &self.not_rooms, room_id)
    }

    /// Whether an event of a room is shown; `has_url` says if its content has a `url`.
    pub fn shows(&self, kind: &str, sender: &str, has_url: impl FnOnce() -> bool) -> bool {
        self.event.shows(kind, Some(sender))
            && self.contains_url.is_none_or(|wanted| wanted == has_url())
    }

    /// True if every event of a shown room is shown.
    pub fn shows_everything(&self) -> bool {
        self.event.shows_everything() && self.contains_url.is_none()
    }
}

impl RoomFilter {
    /// Whether anything of this room is shown.
    pub fn shows_room(&self, room_id: &str) -> bool {
        room_is_shown(&self.rooms, &self.not_rooms, room_id)
    }
}

fn room_is_shown(rooms: &Option<Vec<String>>, not_rooms: &[String], room_id: &str) -> bool {
    let is_listed = |rooms: &[String]| rooms.iter().any(|room| room == room_id);
    !is_listed(not_rooms) && rooms.as_deref().is_none_or(is_listed)
}

fn check_ids<'a>(ids: impl Iterator<Item = &'a String>, sigil: char) -> Result<()> {
    for id in ids {
        // Rooms of version 12 have no server name in their ids.
        if !id.starts_with(sigil) || (sigil == '@' && !id.contains(':')) {
            return Err(Error::invalid(format!("{id} is not an identifier")));
        }
    }
    Ok(())
}

/// Matches a type against a pattern in which `*` stands for any characters.
fn type_matches(pattern: &str, kind: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == kind;
    };
    let Some(mut kind) = kind.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match kind.find(part) {
            Some(at) => kind = &kind[at + part.len()..],
            None => return false,
        }
    }
    kind.ends_with(end)
}

/// Keeps a filter, and returns its id.
///
/// # Errors
/// As [`Filter::parse`].
pub fn put(txn: &mut Txn, user: UserSn, json: &[u8]) -> Result<String> {
    Filter::parse(json)?;
    let digest = Sha256::digest(json);
    let id = URL_SAFE_NO_PAD.encode(digest.get(..12).unwrap_or_default());
    let key = (user, id);
    if !FILTERS.contains(txn, &key)? {
        FILTERS.put(txn, &key, &Blob(json.to_vec()));
    }
    Ok(key.1)
}

/// A stored filter as JSON.
pub fn get(from: &impl Read, user: UserSn, id: &str) -> Result<Option<Vec<u8>>> {
    let row = FILTERS.get(from, &(user, id.to_owned()))?;
    Ok(row.map(|Blob(json)| json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::store;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_filter_panic(
            start in "[\\{\\[\"]?", rest in proptest::collection::vec(any::<u8>(), 0..60),
            kind in "\\PC{0,12}",
        ) {
            let bytes = [start.as_bytes(), &rest].concat();
            if let Ok(filter) = Filter::parse(&bytes) {
                filter.room.timeline.shows(&kind, &kind, || true);
            }
            if let Ok(filter) = RoomEventFilter::parse(&bytes) {
                filter.shows(&kind, &kind, || true);
            }
        }

        #[test]
        fn a_type_filter_hides_exactly_what_it_names(kind in "[a-z.]{1,8}", other in "[a-z.]{1,8}") {
            let json = serde_json::json!({"types": [&kind]}).to_string();
            let filter = RoomEventFilter::parse(json.as_bytes()).unwrap();
            prop_assert!(filter.shows(&kind, "@a:b", || false));
            prop_assert_eq!(filter.shows(&other, "@a:b", || false), kind == other);
        }
    }

    #[test]
    fn a_filter_of_one_room_is_an_object_of_bounded_size_as_well() {
        assert!(matches!(
            RoomEventFilter::parse(b"[]"),
            Err(Error::Invalid(_))
        ));
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_FILTER_BYTES));
        let refused = RoomEventFilter::parse(large.as_bytes());
        assert!(matches!(refused, Err(Error::TooLarge(_))));
    }

    const ALICE: UserSn = UserSn(1);

    #[test]
    fn the_same_filter_has_the_same_id_and_belongs_to_its_user() {
        let store = store();
        let mut txn = store.begin();
        let json = br#"{"room":{"timeline":{"limit":20}}}"#;
        let id = put(&mut txn, ALICE, json).unwrap();
        assert_eq!(put(&mut txn, ALICE, json).unwrap(), id);
        assert_ne!(put(&mut txn, ALICE, b"{}").unwrap(), id);
        assert!(!id.starts_with('{'));
        assert_eq!(get(&txn, ALICE, &id).unwrap().unwrap(), json);
        assert_eq!(get(&txn, UserSn(2), &id).unwrap(), None);
    }

    #[test]
    fn filters_of_the_wrong_shape_are_refused() {
        for json in [
            r#"[]"#,
            r#"{"presence":"not_an_object"}"#,
            r#"{"room":{"timeline":"not_an_object"}}"#,
            r#"{"room":{"timeline":{"limit":-1}}}"#,
            r#"{"room":{"timeline":{"types":{}}}}"#,
            r#"{"room":{"timeline":{"rooms":["not_a_room"]}}}"#,
            r#"{"room":{"timeline":{"senders":["not_a_sender"]}}}"#,
            r##"{"room":{"not_rooms":["#alias:x"]}}"##,
            r#"{"event_format":"other"}"#,
            r#"{"event_fields":"content"}"#,
        ] {
            assert!(Filter::parse(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn senders_types_rooms_and_urls_decide_what_is_shown() {
        let json = br#"{"room":{"rooms":["!a:x","!b:x"],"not_rooms":["!b:x"],"timeline":{
            "limit":5.0,"types":["m.room.*","*.poll.*.end","m.sticker"],"not_types":["m.room.topic"],
            "not_senders":["@spam:x"],"contains_url":true,"lazy_load_members":true}}}"#;
        let filter = Filter::parse(json).unwrap();
        assert!(filter.room.shows_room("!a:x"));
        assert!(!filter.room.shows_room("!b:x") && !filter.room.shows_room("!c:x"));
        let timeline = &filter.room.timeline;
        assert_eq!(timeline.event.limit, Some(5));
        assert!(timeline.lazy_load_members);
        assert!(timeline.shows("m.room.message", "@a:x", || true));
        assert!(timeline.shows("m.poll.x.end", "@a:x", || true));
        for (kind, sender, url) in [
            ("m.room.message", "@a:x", false),
            ("m.room.topic", "@a:x", true),
            ("m.room", "@a:x", true),
            ("m.poll.end", "@a:x", true),
            ("m.stickers", "@a:x", true),
            ("m.sticker", "@spam:x", true),
        ] {
            assert!(
                !timeline.shows(kind, sender, || url),
                "{kind} {sender} {url}"
            );
        }
        assert!(Filter::default().presence.shows("m.presence", None));
        assert!(Filter::default().room.state.shows_everything());
    }
}
