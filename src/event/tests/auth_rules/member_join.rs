//! The rule for `m.room.member`: joining.

use crate::room::{CREATOR, MEMBER, MODERATOR, Room, STRANGER};
use crate::{every_version, versions};
use event::RoomVersion;
use event::auth::Rule;
use serde_json::{Value, json};

#[test]
fn member_events_have_a_state_key_and_a_membership() {
    every_version(|mut room| {
        assert_eq!(
            room.message(MEMBER, "m.room.member"),
            Err(Rule::MemberIncomplete)
        );
        for content in [json!({}), json!({"membership": 1})] {
            assert_eq!(
                room.state(MEMBER, "m.room.member", MEMBER, content),
                Err(Rule::MemberIncomplete)
            );
        }
        assert_eq!(
            room.member(MEMBER, MEMBER, "dancing"),
            Err(Rule::MembershipUnknown)
        );
    });
}

#[test]
fn the_creator_joins_first_whatever_the_state() {
    every_version(|mut room| {
        room.set_join_rule("invite");
        room.unset("m.room.member", CREATOR);
        let create = room.state[0].pdu().event_id().to_string();
        let join = |room: &mut Room, prev: &[&str], user: &str| {
            let content = json!({"membership": "join"});
            let pdu = room.event_after(prev, user, "m.room.member", Some(user), content);
            room.check(&pdu)
        };
        assert_eq!(join(&mut room, &[&create], CREATOR), Ok(()));
        assert_eq!(
            join(&mut room, &[&create], STRANGER),
            Err(Rule::JoinNotAllowed)
        );
        assert_eq!(
            join(&mut room, &[&create, "$other:a.org"], CREATOR),
            Err(Rule::JoinNotAllowed)
        );
        assert_eq!(
            join(&mut room, &["$other:a.org"], CREATOR),
            Err(Rule::JoinNotAllowed)
        );
    });
}

#[test]
fn users_join_by_themselves_and_not_when_banned() {
    every_version(|mut room| {
        assert_eq!(room.member(STRANGER, STRANGER, "join"), Ok(()));
        assert_eq!(
            room.member(CREATOR, STRANGER, "join"),
            Err(Rule::JoinNotSelf)
        );
        room.set_member(STRANGER, "ban");
        assert_eq!(
            room.member(STRANGER, STRANGER, "join"),
            Err(Rule::JoinBanned)
        );
    });
}

#[test]
fn join_rules_let_in_whom_they_say() {
    every_version(|mut room| {
        let auth = room.rules.auth;
        let rules = [
            ("public", true, true),
            ("invite", true, false),
            ("knock", auth.knock, false),
            ("restricted", auth.restricted, false),
            ("knock_restricted", auth.knock_restricted, false),
            ("private", false, false),
            ("unheard_of", false, false),
        ];
        for (rule, invited_may, stranger_may) in rules {
            room.set_join_rule(rule);
            for membership in ["invite", "join"] {
                room.set_member(STRANGER, membership);
                assert_eq!(
                    room.member(STRANGER, STRANGER, "join").is_ok(),
                    invited_may,
                    "{rule}"
                );
            }
            for membership in ["leave", "knock"] {
                room.set_member(STRANGER, membership);
                let expected = match (stranger_may, rule) {
                    (true, _) => Ok(()),
                    (false, "restricted") if auth.restricted => Err(Rule::JoinNotAuthorised),
                    (false, "knock_restricted") if auth.knock_restricted => {
                        Err(Rule::JoinNotAuthorised)
                    }
                    _ => Err(Rule::JoinNotAllowed),
                };
                assert_eq!(
                    room.member(STRANGER, STRANGER, "join"),
                    expected,
                    "{rule} {membership}"
                );
            }
        }
        // Without join rules a room is joined by invitation.
        room.unset("m.room.join_rules", "");
        assert_eq!(
            room.member(STRANGER, STRANGER, "join"),
            Err(Rule::JoinNotAllowed)
        );
        room.set_member(STRANGER, "invite");
        assert_eq!(room.member(STRANGER, STRANGER, "join"), Ok(()));
    });
}

#[test]
fn a_restricted_join_is_authorised_by_a_member_who_may_invite() {
    for version in versions(RoomVersion::V8, RoomVersion::V12) {
        let mut room = Room::new(version);
        let rules: &[&str] = match room.rules.auth.knock_restricted {
            true => &["restricted", "knock_restricted"],
            false => &["restricted"],
        };
        for rule in rules {
            room.set_join_rule(rule);
            let join = |room: &mut Room, authoriser: Value| {
                let content =
                    json!({"membership": "join", "join_authorised_via_users_server": authoriser});
                room.state(STRANGER, "m.room.member", STRANGER, content)
            };
            assert_eq!(join(&mut room, json!(MEMBER)), Ok(()));
            assert_eq!(
                join(&mut room, json!("@nobody:a.org")),
                Err(Rule::JoinNotAuthorised)
            );
            assert_eq!(join(&mut room, json!(1)), Err(Rule::JoinNotAuthorised));
            room.set_levels(json!({"invite": 50}));
            assert_eq!(join(&mut room, json!(MEMBER)), Err(Rule::JoinNotAuthorised));
            assert_eq!(join(&mut room, json!(MODERATOR)), Ok(()));
            room.set_levels(json!({"invite": 101}));
            let creator = join(&mut room, json!(CREATOR));
            assert_eq!(creator.is_ok(), room.rules.auth.creators_privileged);
            room.set_levels(json!({}));
        }
    }
}
