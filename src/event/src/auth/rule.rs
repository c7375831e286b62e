//! The authorisation rules by name, and their numbers in each room version.

use std::fmt;

use crate::room_version::{RoomIdFormat, RoomRules, RoomVersion};

/// An event is not authorised. It changes nothing; `Display` says which rule of the room version forbids it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule} (rule {} of room version {version})", self.number())]
pub struct AuthError {
    pub version: RoomVersion,
    pub rule: Rule,
}

impl AuthError {
    pub(super) fn new(rules: &RoomRules, rule: Rule) -> Self {
        AuthError {
            version: rules.version,
            rule,
        }
    }

    /// The rule's number in the specification of the room version.
    pub fn number(&self) -> String {
        self.rule.number(self.version.rules())
    }
}

/// A rule that rejects events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    CreateHasPrevEvents,
    CreateRoomIdDomain,
    CreateHasRoomId,
    CreateRoomVersion,
    CreateNoCreator,
    CreateAdditionalCreators,
    RoomIdNotCreate,
    AuthEventsDuplicate,
    AuthEventsUnexpected,
    AuthEventsRejected,
    AuthEventsNoCreate,
    AuthEventsOtherRoom,
    /// The state has no create event: there is no room.
    NoCreateEvent,
    NotFederated,
    AliasesNoStateKey,
    AliasesOtherDomain,
    MemberIncomplete,
    JoinNotSelf,
    JoinBanned,
    JoinNotAuthorised,
    JoinNotAllowed,
    ThirdPartyBanned,
    ThirdPartyNotSigned,
    ThirdPartyIncomplete,
    ThirdPartyOtherUser,
    ThirdPartyUnknownToken,
    ThirdPartyOtherSender,
    ThirdPartyBadSignature,
    InviteSenderNotJoined,
    InviteTargetJoinedOrBanned,
    InviteLevel,
    LeaveNotMember,
    LeaveSenderNotJoined,
    LeaveUnbanLevel,
    LeaveKickLevel,
    BanSenderNotJoined,
    BanLevel,
    KnockJoinRule,
    KnockNotSelf,
    KnockMembership,
    MembershipUnknown,
    SenderNotJoined,
    ThirdPartyInviteLevel,
    RequiredLevel,
    StateKeyOfOther,
    /// The current power levels can't be read, so no level is known (possible up to room version 9 only).
    CurrentPowerLevels,
    PowerLevelsField,
    PowerLevelsMap,
    PowerLevelsUsers,
    PowerLevelsCreator,
    PowerLevelsFieldCurrent,
    PowerLevelsFieldNew,
    PowerLevelsEventCurrent,
    PowerLevelsEventNew,
    PowerLevelsUserCurrent,
    PowerLevelsUserNew,
    RedactionLevel,
}

impl Rule {
    /// Whether the rule looks at nothing but what the power levels say, so that no level would help the sender. It is
    /// asked of the members of a room alone.
    pub fn is_of_power_levels_form(self) -> bool {
        matches!(
            self,
            Rule::PowerLevelsField
                | Rule::PowerLevelsMap
                | Rule::PowerLevelsUsers
                | Rule::PowerLevelsCreator
        )
    }

    /// The number under which the specification of a room version has this rule. Where it has none (a state without
    /// a create event, levels that are not numbers before version 10) the number of the enclosing rule.
    pub fn number(self, rules: &RoomRules) -> String {
        let hashed = rules.room_id == RoomIdFormat::CreateHash;
        // The top-level rules after "Considering the event's auth_events", and those after the alias rule.
        let auth_events = if hashed { 3 } else { 2 };
        let federate = auth_events + 1;
        let member = federate + 1 + u32::from(rules.auth.aliases_rule);
        // Within the member rule, restricted rooms and knocking push the later ones down.
        let join = 2 + u32::from(rules.auth.restricted);
        let join_otherwise = 6 + u32::from(rules.auth.restricted);
        let unknown = join + 4 + u32::from(rules.auth.knock);
        // Within the power levels rule, so do the two integer rules and the creators rule.
        let levels = member + 5;
        let users = if rules.auth.integer_power_levels {
            3
        } else {
            1
        };
        let fields = users + 2 + u32::from(rules.auth.creators_privileged);
        match self {
            Rule::CreateHasPrevEvents => "1.1".to_owned(),
            Rule::CreateRoomIdDomain | Rule::CreateHasRoomId => "1.2".to_owned(),
            Rule::CreateRoomVersion => "1.3".to_owned(),
            Rule::CreateNoCreator | Rule::CreateAdditionalCreators => "1.4".to_owned(),
            Rule::RoomIdNotCreate => "2".to_owned(),
            Rule::AuthEventsDuplicate => format!("{auth_events}.1"),
            Rule::AuthEventsUnexpected => format!("{auth_events}.2"),
            Rule::AuthEventsRejected => format!("{auth_events}.3"),
            Rule::AuthEventsNoCreate | Rule::NoCreateEvent => match hashed {
                true => "2".to_owned(),
                false => format!("{auth_events}.4"),
            },
            // Version 12 leaves out number 4 and keeps number 5.
            Rule::AuthEventsOtherRoom => format!("{auth_events}.5"),
            Rule::NotFederated => format!("{federate}"),
            Rule::AliasesNoStateKey => format!("{}.1", federate + 1),
            Rule::AliasesOtherDomain => format!("{}.2", federate + 1),
            Rule::MemberIncomplete => format!("{member}.1"),
            Rule::JoinNotSelf => format!("{member}.{join}.2"),
            Rule::JoinBanned => format!("{member}.{join}.3"),
            Rule::JoinNotAuthorised => format!("{member}.{join}.5.2"),
            Rule::JoinNotAllowed => format!("{member}.{join}.{join_otherwise}"),
            Rule::ThirdPartyBanned => format!("{member}.{}.1.1", join + 1),
            Rule::ThirdPartyNotSigned => format!("{member}.{}.1.2", join + 1),
            Rule::ThirdPartyIncomplete => format!("{member}.{}.1.3", join + 1),
            Rule::ThirdPartyOtherUser => format!("{member}.{}.1.4", join + 1),
            Rule::ThirdPartyUnknownToken => format!("{member}.{}.1.5", join + 1),
            Rule::ThirdPartyOtherSender => format!("{member}.{}.1.6", join + 1),
            Rule::ThirdPartyBadSignature => format!("{member}.{}.1.8", join + 1),
            Rule::InviteSenderNotJoined => format!("{member}.{}.2", join + 1),
            Rule::InviteTargetJoinedOrBanned => format!("{member}.{}.3", join + 1),
            Rule::InviteLevel => format!("{member}.{}.5", join + 1),
            Rule::LeaveNotMember => format!("{member}.{}.1", join + 2),
            Rule::LeaveSenderNotJoined => format!("{member}.{}.2", join + 2),
            Rule::LeaveUnbanLevel => format!("{member}.{}.3", join + 2),
            Rule::LeaveKickLevel => format!("{member}.{}.5", join + 2),
            Rule::BanSenderNotJoined => format!("{member}.{}.1", join + 3),
            Rule::BanLevel => format!("{member}.{}.3", join + 3),
            Rule::KnockJoinRule => format!("{member}.{}.1", join + 4),
            Rule::KnockNotSelf => format!("{member}.{}.2", join + 4),
            Rule::KnockMembership => format!("{member}.{}.4", join + 4),
            Rule::MembershipUnknown => format!("{member}.{unknown}"),
            Rule::SenderNotJoined => format!("{}", member + 1),
            Rule::ThirdPartyInviteLevel => format!("{}.1", member + 2),
            Rule::RequiredLevel | Rule::CurrentPowerLevels => format!("{}", member + 3),
            Rule::StateKeyOfOther => format!("{}", member + 4),
            Rule::PowerLevelsField if users == 1 => format!("{levels}"),
            Rule::PowerLevelsField => format!("{levels}.1"),
            Rule::PowerLevelsMap if users == 1 => format!("{levels}"),
            Rule::PowerLevelsMap => format!("{levels}.2"),
            Rule::PowerLevelsUsers => format!("{levels}.{users}"),
            Rule::PowerLevelsCreator => format!("{levels}.{}", users + 1),
            Rule::PowerLevelsFieldCurrent => format!("{levels}.{fields}.1"),
            Rule::PowerLevelsFieldNew => format!("{levels}.{fields}.2"),
            Rule::PowerLevelsEventCurrent => format!("{levels}.{}.1", fields + 1),
            Rule::PowerLevelsEventNew => format!("{levels}.{}.1", fields + 2),
            Rule::PowerLevelsUserCurrent => format!("{levels}.{}.1", fields + 3),
            Rule::PowerLevelsUserNew => format!("{levels}.{}.1", fields + 4),
            Rule::RedactionLevel => format!("{}.3", levels + 1),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::CreateHasPrevEvents => "the create event has previous events",
            Rule::CreateRoomIdDomain => "the room id is not of the sender's domain",
            Rule::CreateHasRoomId => "the create event has a room id",
            Rule::CreateRoomVersion => "the room version is not known",
            Rule::CreateNoCreator => "the create event names no creator",
            Rule::CreateAdditionalCreators => "additional_creators is not an array of user ids",
            Rule::RoomIdNotCreate => "the room id is not that of an accepted create event",
            Rule::AuthEventsDuplicate => "auth_events has two entries for one type and state key",
            Rule::AuthEventsUnexpected => "auth_events has an entry that does not belong there",
            Rule::AuthEventsRejected => "auth_events has a rejected event",
            Rule::AuthEventsNoCreate => "auth_events lacks the create event",
            Rule::AuthEventsOtherRoom => "auth_events has an event of another room",
            Rule::NoCreateEvent => "the room has no create event",
            Rule::NotFederated => "the room is closed to other servers",
            Rule::AliasesNoStateKey => "an alias event without state key",
            Rule::AliasesOtherDomain => "the state key is not the sender's domain",
            Rule::MemberIncomplete => "a member event without state key or membership",
            Rule::JoinNotSelf => "nobody can join for somebody else",
            Rule::JoinBanned => "the user is banned",
            Rule::JoinNotAuthorised => "the join is not authorised by a member who may invite",
            Rule::JoinNotAllowed => "the join rule does not let the user in",
            Rule::ThirdPartyBanned => "the invited user is banned",
            Rule::ThirdPartyNotSigned => "the third-party invite is not signed",
            Rule::ThirdPartyIncomplete => "the third-party invite lacks mxid or token",
            Rule::ThirdPartyOtherUser => "the third-party invite is for another user",
            Rule::ThirdPartyUnknownToken => "the room has no third-party invite with this token",
            Rule::ThirdPartyOtherSender => "the third-party invite is of another sender",
            Rule::ThirdPartyBadSignature => "the third-party invite is signed by no known key",
            Rule::InviteSenderNotJoined => "the inviting user is not in the room",
            Rule::InviteTargetJoinedOrBanned => "the invited user is in the room or banned",
            Rule::InviteLevel => "the sender's power level does not allow to invite",
            Rule::LeaveNotMember => "the user is neither joined nor invited nor knocking",
            Rule::LeaveSenderNotJoined => "the sender is not in the room",
            Rule::LeaveUnbanLevel => "the sender's power level does not allow to unban",
            Rule::LeaveKickLevel => "the sender's power level does not allow to kick this user",
            Rule::BanSenderNotJoined => "the sender is not in the room",
            Rule::BanLevel => "the sender's power level does not allow to ban this user",
            Rule::KnockJoinRule => "the join rule does not allow to knock",
            Rule::KnockNotSelf => "nobody can knock for somebody else",
            Rule::KnockMembership => "the user is joined, invited or banned",
            Rule::MembershipUnknown => "the membership is unknown",
            Rule::SenderNotJoined => "the sender is not in the room",
            Rule::ThirdPartyInviteLevel => "the sender's power level does not allow to invite",
            Rule::RequiredLevel => "the sender's power level does not allow this event type",
            Rule::StateKeyOfOther => "the state key is another user's id",
            Rule::CurrentPowerLevels => "the room's power levels are malformed",
            Rule::PowerLevelsField => "a power level is not an integer",
            Rule::PowerLevelsMap => "events or notifications is not an object of integers",
            Rule::PowerLevelsUsers => "users is not an object of user ids and integers",
            Rule::PowerLevelsCreator => "users names a creator of the room",
            Rule::PowerLevelsFieldCurrent => "a level above the sender's own is changed",
            Rule::PowerLevelsFieldNew => "a level is set above the sender's own",
            Rule::PowerLevelsEventCurrent => "an event level above the sender's own is changed",
            Rule::PowerLevelsEventNew => "an event level is set above the sender's own",
            Rule::PowerLevelsUserCurrent => "the level of a user not below the sender is changed",
            Rule::PowerLevelsUserNew => "a user's level is set above the sender's own",
            Rule::RedactionLevel => "the sender may not redact this event",
        })
    }
}
