//! Room versions as data: every difference between versions 1 to 12 is a field of [`RoomRules`].
//!
//! Nothing else in the crate compares versions. To add one, add a constant to the table at the end of this file.
//!
//! Source: the room version specifications, <https://spec.matrix.org/v1.19/rooms/>.

use std::fmt;
use std::str::FromStr;

use crate::json;

/// A room version this server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoomVersion {
    V1,
    V2,
    V3,
    V4,
    V5,
    V6,
    V7,
    V8,
    V9,
    V10,
    V11,
    V12,
}

/// The text is not the identifier of a known room version (`M_UNSUPPORTED_ROOM_VERSION`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("room version {0:?} is not known")]
pub struct UnknownRoomVersion(pub String);

impl RoomVersion {
    /// All versions, oldest first.
    pub const ALL: [RoomVersion; 12] = [
        RoomVersion::V1,
        RoomVersion::V2,
        RoomVersion::V3,
        RoomVersion::V4,
        RoomVersion::V5,
        RoomVersion::V6,
        RoomVersion::V7,
        RoomVersion::V8,
        RoomVersion::V9,
        RoomVersion::V10,
        RoomVersion::V11,
        RoomVersion::V12,
    ];

    /// The identifier as it stands in `m.room.create` and in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            RoomVersion::V1 => "1",
            RoomVersion::V2 => "2",
            RoomVersion::V3 => "3",
            RoomVersion::V4 => "4",
            RoomVersion::V5 => "5",
            RoomVersion::V6 => "6",
            RoomVersion::V7 => "7",
            RoomVersion::V8 => "8",
            RoomVersion::V9 => "9",
            RoomVersion::V10 => "10",
            RoomVersion::V11 => "11",
            RoomVersion::V12 => "12",
        }
    }

    /// The version that the content of an `m.room.create` event names; "1" where it names none.
    pub fn of_create(content: &str) -> Result<RoomVersion, UnknownRoomVersion> {
        match json::member(content, "room_version") {
            None => Ok(RoomVersion::V1),
            Some(value) => match json::string(value) {
                Some(version) => version.parse(),
                None => Err(UnknownRoomVersion(value.to_owned())),
            },
        }
    }

    /// What this version prescribes.
    pub fn rules(self) -> &'static RoomRules {
        match self {
            RoomVersion::V1 => &V1,
            RoomVersion::V2 => &V2,
            RoomVersion::V3 => &V3,
            RoomVersion::V4 => &V4,
            RoomVersion::V5 => &V5,
            RoomVersion::V6 => &V6,
            RoomVersion::V7 => &V7,
            RoomVersion::V8 => &V8,
            RoomVersion::V9 => &V9,
            RoomVersion::V10 => &V10,
            RoomVersion::V11 => &V11,
            RoomVersion::V12 => &V12,
        }
    }
}

impl fmt::Display for RoomVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RoomVersion {
    type Err = UnknownRoomVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        RoomVersion::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| UnknownRoomVersion(text.to_owned()))
    }
}

/// How events of a room get their identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventIdFormat {
    /// `$opaque:domain`, chosen by the sending server and carried in the event (versions 1, 2).
    Chosen,
    /// `$` and the reference hash in standard unpadded base64 (version 3).
    HashStandard,
    /// `$` and the reference hash in URL-safe unpadded base64 (version 4 and later).
    HashUrlSafe,
}

/// How `prev_events` and `auth_events` name events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceFormat {
    /// `[event_id, {"sha256": reference hash}]` pairs (versions 1, 2).
    WithHash,
    /// Event ids (version 3 and later).
    Plain,
}

/// Where room ids come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomIdFormat {
    /// `!opaque:domain`, carried by every event including `m.room.create`.
    Domain,
    /// `!` and the reference hash of the create event, which has no `room_id` itself and is never among
    /// `auth_events` (version 12 and later).
    CreateHash,
}

/// Which numbers an event may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberRule {
    /// Whatever JSON allows (versions 1 to 5, which must not enforce canonical JSON).
    Any,
    /// Integers of at most 53 bits only (version 6 and later).
    Integers,
}

/// Which state resolution algorithm applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateResolution {
    /// Version 1: by depth and the SHA-1 of the event id.
    V1,
    /// Versions 2 to 11.
    V2,
    /// Version 12: starts from the empty state and adds the conflicted state subgraph.
    V2_1,
}

/// What redaction keeps, beyond what every version keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedactionRules {
    /// Top-level `origin`, `membership` and `prev_state` stay (up to version 10).
    pub keep_origin_membership_prev_state: bool,
    /// `aliases` of `m.room.aliases` stays (up to version 5).
    pub keep_aliases: bool,
    /// `allow` of `m.room.join_rules` stays (from version 8).
    pub keep_join_rules_allow: bool,
    /// `join_authorised_via_users_server` of `m.room.member` stays (from version 9).
    pub keep_member_authorised_via: bool,
    /// `third_party_invite.signed` of `m.room.member` stays (from version 11).
    pub keep_member_third_party_signed: bool,
    /// The whole content of `m.room.create` stays (from version 11), not only `creator`.
    pub keep_create_content: bool,
    /// `redacts` in the content of `m.room.redaction` stays (from version 11).
    pub keep_redaction_redacts: bool,
    /// `invite` of `m.room.power_levels` stays (from version 11).
    pub keep_power_levels_invite: bool,
    /// A redaction names its target in `content.redacts` (from version 11), not at the top level.
    pub redacts_in_content: bool,
}

/// Where the authorisation rules differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthRules {
    /// `m.room.redaction` has a rule of its own (versions 1, 2).
    pub redaction_rule: bool,
    /// `m.room.aliases` has a rule of its own (versions 1 to 5).
    pub aliases_rule: bool,
    /// Changes of `notifications` are compared with the sender's level (from version 6).
    pub notifications_levels: bool,
    /// `knock` exists as a membership and a join rule (from version 7).
    pub knock: bool,
    /// The `restricted` join rule exists (from version 8).
    pub restricted: bool,
    /// The `knock_restricted` join rule exists (from version 10).
    pub knock_restricted: bool,
    /// Power levels are JSON integers, nothing else (from version 10).
    pub integer_power_levels: bool,
    /// The creator is the sender of `m.room.create` (from version 11), not `content.creator`.
    pub creator_is_sender: bool,
    /// Creators stand above all levels, and `additional_creators` exists (from version 12).
    pub creators_privileged: bool,
}

/// Everything a room version prescribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomRules {
    pub version: RoomVersion,
    pub event_id: EventIdFormat,
    pub references: ReferenceFormat,
    pub room_id: RoomIdFormat,
    pub numbers: NumberRule,
    /// The greatest `depth` an event may have; where it is reached, further events stay at it.
    pub max_depth: u64,
    /// A signing key must have been valid at the event's `origin_server_ts` (from version 5).
    pub enforce_key_validity: bool,
    /// The sizes of the type, the state key and the identifiers are limited in bytes. Before version 11 servers
    /// counted characters, and rooms hold events that are longer in bytes.
    pub sizes_in_bytes: bool,
    pub redaction: RedactionRules,
    pub auth: AuthRules,
    pub state_resolution: StateResolution,
}

const V1: RoomRules = RoomRules {
    version: RoomVersion::V1,
    event_id: EventIdFormat::Chosen,
    references: ReferenceFormat::WithHash,
    room_id: RoomIdFormat::Domain,
    numbers: NumberRule::Any,
    max_depth: (1 << 63) - 1,
    enforce_key_validity: false,
    sizes_in_bytes: false,
    redaction: RedactionRules {
        keep_origin_membership_prev_state: true,
        keep_aliases: true,
        keep_join_rules_allow: false,
        keep_member_authorised_via: false,
        keep_member_third_party_signed: false,
        keep_create_content: false,
        keep_redaction_redacts: false,
        keep_power_levels_invite: false,
        redacts_in_content: false,
    },
    auth: AuthRules {
        redaction_rule: true,
        aliases_rule: true,
        notifications_levels: false,
        knock: false,
        restricted: false,
        knock_restricted: false,
        integer_power_levels: false,
        creator_is_sender: false,
        creators_privileged: false,
    },
    state_resolution: StateResolution::V1,
};

const V2: RoomRules = RoomRules {
    version: RoomVersion::V2,
    state_resolution: StateResolution::V2,
    ..V1
};

const V3: RoomRules = RoomRules {
    version: RoomVersion::V3,
    event_id: EventIdFormat::HashStandard,
    references: ReferenceFormat::Plain,
    auth: AuthRules {
        redaction_rule: false,
        ..V2.auth
    },
    ..V2
};

const V4: RoomRules = RoomRules {
    version: RoomVersion::V4,
    event_id: EventIdFormat::HashUrlSafe,
    ..V3
};

const V5: RoomRules = RoomRules {
    version: RoomVersion::V5,
    enforce_key_validity: true,
    ..V4
};

const V6: RoomRules = RoomRules {
    version: RoomVersion::V6,
    numbers: NumberRule::Integers,
    max_depth: (1 << 53) - 1,
    redaction: RedactionRules {
        keep_aliases: false,
        ..V5.redaction
    },
    auth: AuthRules {
        aliases_rule: false,
        notifications_levels: true,
        ..V5.auth
    },
    ..V5
};

const V7: RoomRules = RoomRules {
    version: RoomVersion::V7,
    auth: AuthRules {
        knock: true,
        ..V6.auth
    },
    ..V6
};

const V8: RoomRules = RoomRules {
    version: RoomVersion::V8,
    redaction: RedactionRules {
        keep_join_rules_allow: true,
        ..V7.redaction
    },
    auth: AuthRules {
        restricted: true,
        ..V7.auth
    },
    ..V7
};

const V9: RoomRules = RoomRules {
    version: RoomVersion::V9,
    redaction: RedactionRules {
        keep_member_authorised_via: true,
        ..V8.redaction
    },
    ..V8
};

const V10: RoomRules = RoomRules {
    version: RoomVersion::V10,
    auth: AuthRules {
        knock_restricted: true,
        integer_power_levels: true,
        ..V9.auth
    },
    ..V9
};

const V11: RoomRules = RoomRules {
    version: RoomVersion::V11,
    sizes_in_bytes: true,
    redaction: RedactionRules {
        keep_origin_membership_prev_state: false,
        keep_member_third_party_signed: true,
        keep_create_content: true,
        keep_redaction_redacts: true,
        keep_power_levels_invite: true,
        redacts_in_content: true,
        ..V10.redaction
    },
    auth: AuthRules {
        creator_is_sender: true,
        ..V10.auth
    },
    ..V10
};

const V12: RoomRules = RoomRules {
    version: RoomVersion::V12,
    room_id: RoomIdFormat::CreateHash,
    auth: AuthRules {
        creators_privileged: true,
        ..V11.auth
    },
    state_resolution: StateResolution::V2_1,
    ..V11
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_parsed_from_its_own_text_and_names_itself_in_its_rules() {
        for version in RoomVersion::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
            assert_eq!(version.rules().version, version);
        }
        assert!("13".parse::<RoomVersion>().is_err());
        assert!("01".parse::<RoomVersion>().is_err());
    }

    #[test]
    fn a_create_event_without_a_version_is_of_version_1() {
        assert_eq!(RoomVersion::of_create("{}"), Ok(RoomVersion::V1));
        assert_eq!(
            RoomVersion::of_create(r#"{"room_version":"12"}"#),
            Ok(RoomVersion::V12)
        );
        assert!(RoomVersion::of_create(r#"{"room_version":12}"#).is_err());
        assert!(RoomVersion::of_create(r#"{"room_version":"x"}"#).is_err());
    }
}
