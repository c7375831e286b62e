//! The numbers of the rules that reject, read off the text of each room version.
//! Source: "Authorisation rules" of <https://spec.matrix.org/v1.19/rooms/>.

use event::RoomVersion;

/// The rules that say "reject", or "allow if and only if", of each version.
pub fn numbers(version: RoomVersion) -> String {
    let create = match version {
        RoomVersion::V11 => "1.1 1.2 1.3",
        _ => "1.1 1.2 1.3 1.4",
    };
    let (auth_events, member) = match version {
        RoomVersion::V12 => ("2 3.1 3.2 3.3 3.5 4", 5),
        _ if version <= RoomVersion::V5 => ("2.1 2.2 2.3 2.4 2.5 3 4.1 4.2", 5),
        _ => ("2.1 2.2 2.3 2.4 2.5 3", 4),
    };
    let of_member = match version {
        _ if version <= RoomVersion::V6 => {
            "m.1 m.2.2 m.2.3 m.2.6 m.3.1.1 m.3.1.2 m.3.1.3 m.3.1.4 m.3.1.5 m.3.1.6 m.3.1.8 m.3.2 m.3.3 m.3.5 \
             m.4.1 m.4.2 m.4.3 m.4.5 m.5.1 m.5.3 m.6"
        }
        RoomVersion::V7 => {
            "m.1 m.2.2 m.2.3 m.2.6 m.3.1.1 m.3.1.2 m.3.1.3 m.3.1.4 m.3.1.5 m.3.1.6 m.3.1.8 m.3.2 m.3.3 m.3.5 \
             m.4.1 m.4.2 m.4.3 m.4.5 m.5.1 m.5.3 m.6.1 m.6.2 m.6.4 m.7"
        }
        _ => {
            "m.1 m.2.1 m.3.2 m.3.3 m.3.5.2 m.3.7 m.4.1.1 m.4.1.2 m.4.1.3 m.4.1.4 m.4.1.5 m.4.1.6 m.4.1.8 m.4.2 \
             m.4.3 m.4.5 m.5.1 m.5.2 m.5.3 m.5.5 m.6.1 m.6.3 m.7.1 m.7.2 m.7.4 m.8"
        }
    };
    let rest = match version {
        RoomVersion::V1 | RoomVersion::V2 => {
            "6 7.1 8 9 10.1 10.3.1 10.3.2 10.4.1 10.5.1 10.6.1 10.7.1 11.3"
        }
        RoomVersion::V3 | RoomVersion::V4 | RoomVersion::V5 => {
            "6 7.1 8 9 10.1 10.3.1 10.3.2 10.4.1 10.5.1 10.6.1 10.7.1"
        }
        RoomVersion::V6 | RoomVersion::V7 | RoomVersion::V8 | RoomVersion::V9 => {
            "5 6.1 7 8 9.1 9.3.1 9.3.2 9.4.1 9.5.1 9.6.1 9.7.1"
        }
        RoomVersion::V10 | RoomVersion::V11 => {
            "5 6.1 7 8 9.1 9.2 9.3 9.5.1 9.5.2 9.6.1 9.7.1 9.8.1 9.9.1"
        }
        RoomVersion::V12 => {
            "6 7.1 8 9 10.1 10.2 10.3 10.4 10.6.1 10.6.2 10.7.1 10.8.1 10.9.1 10.10.1"
        }
    };
    let of_member = of_member.replace("m.", &format!("{member}."));
    [create, auth_events, &of_member, rest].join(" ")
}
