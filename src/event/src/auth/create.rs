//! The create event: rule 1, and what it fixes for the life of the room.

use super::rule::{AuthError, Rule};
use crate::identifier;
use crate::json;
use crate::pdu::Pdu;
use crate::room_version::{RoomIdFormat, RoomRules, RoomVersion};

/// What `m.room.create` says about who made the room and who may take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creators {
    creator: Option<Box<str>>,
    additional: Vec<Box<str>>,
    federate: bool,
}

impl Creators {
    /// Reads them out of the sender and content of a create event.
    pub fn of(rules: &RoomRules, sender: &str, content: &str) -> Self {
        let creator = match rules.auth.creator_is_sender {
            true => Some(sender.into()),
            false => json::member(content, "creator")
                .and_then(json::string)
                .map(|text| text.into()),
        };
        let additional = match json::member(content, "additional_creators") {
            Some(list) if rules.auth.creators_privileged => json::elements(list)
                .filter_map(json::string)
                .map(|text| text.into())
                .collect(),
            _ => Vec::new(),
        };
        let federate = json::member(content, "m.federate") != Some("false");
        Creators {
            creator,
            additional,
            federate,
        }
    }

    /// The user who made the room. Missing only in malformed create events of old rooms.
    pub fn creator(&self) -> Option<&str> {
        self.creator.as_deref()
    }

    /// Whether the user is the creator or one of `additional_creators`.
    pub fn contains(&self, user_id: &str) -> bool {
        self.creator.as_deref() == Some(user_id)
            || self.additional.iter().any(|id| **id == *user_id)
    }

    /// All of them, the creator first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.creator.iter().chain(&self.additional).map(|id| &**id)
    }

    /// Whether users of other servers may take part (`m.federate`).
    pub fn federate(&self) -> bool {
        self.federate
    }
}

pub(super) fn check(rules: &RoomRules, pdu: &Pdu) -> Result<(), AuthError> {
    let reject = |rule| Err(AuthError::new(rules, rule));
    if pdu.prev_events().len() > 0 {
        return reject(Rule::CreateHasPrevEvents);
    }
    match rules.room_id {
        RoomIdFormat::Domain if !identifier::same_domain(pdu.room_id(), pdu.sender()) => {
            return reject(Rule::CreateRoomIdDomain);
        }
        RoomIdFormat::CreateHash if pdu.has_room_id() => return reject(Rule::CreateHasRoomId),
        _ => {}
    }
    if RoomVersion::of_create(pdu.content()).is_err() {
        return reject(Rule::CreateRoomVersion);
    }
    if !rules.auth.creator_is_sender && json::member(pdu.content(), "creator").is_none() {
        return reject(Rule::CreateNoCreator);
    }
    if rules.auth.creators_privileged
        && let Some(list) = json::member(pdu.content(), "additional_creators")
    {
        let users = json::is_array(list)
            && json::elements(list)
                .all(|id| json::string(id).is_some_and(|id| identifier::is_user_id(&id)));
        if !users {
            return reject(Rule::CreateAdditionalCreators);
        }
    }
    Ok(())
}
