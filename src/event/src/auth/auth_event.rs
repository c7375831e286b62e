//! A state event together with what the authorisation rules read in it, parsed once.

use super::create::Creators;
use super::power_levels::PowerLevelsContent;
use crate::json;
use crate::pdu::Pdu;
use crate::room_version::RoomRules;

/// A state event as the authorisation rules use it. Keep it: parsing happens when it is made.
#[derive(Clone, Debug)]
pub struct AuthEvent {
    pdu: Pdu,
    rejected: bool,
    facts: Facts,
}

/// What the rules read in an event of each type.
#[derive(Clone, Debug)]
enum Facts {
    Create(Creators),
    Member(Membership),
    JoinRules(JoinRule),
    PowerLevels(Option<Box<PowerLevelsContent>>),
    Other,
}

/// `membership` of an `m.room.member` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Membership {
    Join,
    Invite,
    Leave,
    Ban,
    Knock,
    /// Something the specification does not know; no rule allows anything for it.
    Other,
}

impl Membership {
    pub fn parse(text: &str) -> Self {
        match text {
            "join" => Membership::Join,
            "invite" => Membership::Invite,
            "leave" => Membership::Leave,
            "ban" => Membership::Ban,
            "knock" => Membership::Knock,
            _ => Membership::Other,
        }
    }

    /// The membership in the content of an `m.room.member` event; `None` without a string there.
    pub fn of_content(content: &str) -> Option<Self> {
        json::member(content, "membership")
            .and_then(json::string)
            .map(|text| Membership::parse(&text))
    }
}

/// `join_rule` of an `m.room.join_rules` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinRule {
    Public,
    Invite,
    Knock,
    Restricted,
    KnockRestricted,
    /// `private`, or something unknown: nobody joins by it.
    Other,
}

impl JoinRule {
    /// What holds where nothing is said. The specification leaves it open; this is what rooms have always lived by.
    pub const DEFAULT: JoinRule = JoinRule::Invite;

    pub fn parse(text: &str) -> Self {
        match text {
            "public" => JoinRule::Public,
            "invite" => JoinRule::Invite,
            "knock" => JoinRule::Knock,
            "restricted" => JoinRule::Restricted,
            "knock_restricted" => JoinRule::KnockRestricted,
            _ => JoinRule::Other,
        }
    }
}

impl AuthEvent {
    /// Takes an event that was accepted.
    pub fn new(rules: &RoomRules, pdu: Pdu) -> Self {
        let facts = Facts::of(rules, &pdu);
        AuthEvent {
            pdu,
            rejected: false,
            facts,
        }
    }

    /// Takes an event that was rejected on receipt.
    pub fn rejected(rules: &RoomRules, pdu: Pdu) -> Self {
        AuthEvent {
            rejected: true,
            ..AuthEvent::new(rules, pdu)
        }
    }

    pub fn pdu(&self) -> &Pdu {
        &self.pdu
    }

    /// Whether the event was rejected on receipt (soft-failed events were not).
    pub fn is_rejected(&self) -> bool {
        self.rejected
    }

    /// What a create event says; `None` for other types.
    pub fn creators(&self) -> Option<&Creators> {
        match &self.facts {
            Facts::Create(creators) => Some(creators),
            _ => None,
        }
    }

    /// The membership of a member event; `None` for other types.
    pub fn membership(&self) -> Option<Membership> {
        match self.facts {
            Facts::Member(membership) => Some(membership),
            _ => None,
        }
    }

    /// The rule of a join rules event; `None` for other types.
    pub fn join_rule(&self) -> Option<JoinRule> {
        match self.facts {
            Facts::JoinRules(join_rule) => Some(join_rule),
            _ => None,
        }
    }

    /// The content of a power levels event; `None` for other types and for content that is malformed.
    pub fn power_levels(&self) -> Option<&PowerLevelsContent> {
        match &self.facts {
            Facts::PowerLevels(content) => content.as_deref(),
            _ => None,
        }
    }
}

impl Facts {
    fn of(rules: &RoomRules, pdu: &Pdu) -> Self {
        if pdu.state_key().is_none() {
            return Facts::Other;
        }
        match pdu.event_type() {
            "m.room.create" => Facts::Create(Creators::of(rules, pdu.sender(), pdu.content())),
            "m.room.member" => {
                Facts::Member(Membership::of_content(pdu.content()).unwrap_or(Membership::Other))
            }
            "m.room.join_rules" => {
                let rule = json::member(pdu.content(), "join_rule");
                Facts::JoinRules(rule.map_or(JoinRule::DEFAULT, |rule| {
                    json::string(rule).map_or(JoinRule::Other, |rule| JoinRule::parse(&rule))
                }))
            }
            "m.room.power_levels" => Facts::PowerLevels(
                PowerLevelsContent::parse(rules, pdu.content())
                    .ok()
                    .map(Box::new),
            ),
            _ => Facts::Other,
        }
    }
}

/// A state of a room, asked for the few entries the rules need.
pub trait StateLookup {
    /// The state event of this type and state key.
    fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent>;
}

impl StateLookup for [&AuthEvent] {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent> {
        self.iter()
            .copied()
            .find(|event| event.pdu.is_state(event_type, state_key))
    }
}

impl StateLookup for [AuthEvent] {
    fn get(&self, event_type: &str, state_key: &str) -> Option<&AuthEvent> {
        self.iter()
            .find(|event| event.pdu.is_state(event_type, state_key))
    }
}
