//! Events and room versions as ruma's resolver and authorisation rules want them: a second opinion for tests and
//! benchmarks, made by others from the same specification.

use event::{Pdu, RoomVersion};
use ruma_common::room_version_rules::RoomVersionRules;
use ruma_common::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
};
use ruma_events::TimelineEventType;
use serde_json::value::RawValue;

/// An event as the other implementation wants it.
#[derive(Debug)]
pub struct Theirs {
    /// Its id.
    pub event_id: OwnedEventId,
    /// What it names in `auth_events`.
    pub auth_events: Vec<OwnedEventId>,
    /// Its type.
    pub event_type: TimelineEventType,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    state_key: Option<String>,
    content: Box<RawValue>,
    time: MilliSecondsSinceUnixEpoch,
    prev_events: Vec<OwnedEventId>,
    rejected: bool,
}

impl Theirs {
    /// The same event; `None` if it has something in it that the other implementation can't hold.
    pub fn read(pdu: &Pdu, rejected: bool) -> Option<Theirs> {
        let ids = |ids: Vec<&str>| -> Option<Vec<OwnedEventId>> {
            ids.into_iter().map(|id| id.try_into().ok()).collect()
        };
        Some(Theirs {
            event_id: pdu.event_id().as_str().try_into().ok()?,
            room_id: match pdu.has_room_id() {
                true => Some(pdu.room_id().try_into().ok()?),
                false => None,
            },
            sender: pdu.sender().try_into().ok()?,
            event_type: pdu.event_type().into(),
            state_key: pdu.state_key().map(str::to_owned),
            content: RawValue::from_string(pdu.content().to_owned()).ok()?,
            time: serde_json::from_value(pdu.origin_server_ts().into()).ok()?,
            prev_events: ids(pdu.prev_events().collect())?,
            auth_events: ids(pdu.auth_events().collect())?,
            rejected,
        })
    }
}

impl ruma_state_res::Event for Theirs {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }
    fn room_id(&self) -> Option<&RoomId> {
        self.room_id.as_deref()
    }
    fn sender(&self) -> &UserId {
        &self.sender
    }
    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.time
    }
    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }
    fn content(&self) -> &RawValue {
        &self.content
    }
    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }
    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }
    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }
    fn redacts(&self) -> Option<&OwnedEventId> {
        None
    }
    fn rejected(&self) -> bool {
        self.rejected
    }
}

/// The rules of a room version. It has no state resolution of version 1.
pub fn rules(version: RoomVersion) -> RoomVersionRules {
    match version {
        RoomVersion::V1 => RoomVersionRules::V1,
        RoomVersion::V2 => RoomVersionRules::V2,
        RoomVersion::V3 => RoomVersionRules::V3,
        RoomVersion::V4 => RoomVersionRules::V4,
        RoomVersion::V5 => RoomVersionRules::V5,
        RoomVersion::V6 => RoomVersionRules::V6,
        RoomVersion::V7 => RoomVersionRules::V7,
        RoomVersion::V8 => RoomVersionRules::V8,
        RoomVersion::V9 => RoomVersionRules::V9,
        RoomVersion::V10 => RoomVersionRules::V10,
        RoomVersion::V11 => RoomVersionRules::V11,
        RoomVersion::V12 => RoomVersionRules::V12,
    }
}
