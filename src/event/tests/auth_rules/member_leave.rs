//! The rule for `m.room.member`: leaving, kicking, banning and knocking.

use crate::every_version;
use crate::room::{CREATOR, MEMBER, MODERATOR, STRANGER};
use event::auth::Rule;
use serde_json::json;

#[test]
fn users_leave_by_themselves_from_join_invite_and_knock() {
    every_version(|mut room| {
        for (membership, may) in [
            ("join", true),
            ("invite", true),
            ("knock", room.rules.auth.knock),
            ("leave", false),
            ("ban", false),
        ] {
            room.set_member(STRANGER, membership);
            let expected = if may {
                Ok(())
            } else {
                Err(Rule::LeaveNotMember)
            };
            assert_eq!(
                room.member(STRANGER, STRANGER, "leave"),
                expected,
                "{membership}"
            );
        }
    });
}

#[test]
fn kicking_and_unbanning_need_the_level_and_a_lower_target() {
    every_version(|mut room| {
        assert_eq!(
            room.member(STRANGER, MEMBER, "leave"),
            Err(Rule::LeaveSenderNotJoined)
        );
        assert_eq!(
            room.member(MEMBER, MODERATOR, "leave"),
            Err(Rule::LeaveKickLevel)
        );
        assert_eq!(room.member(MODERATOR, MEMBER, "leave"), Ok(()));
        assert_eq!(
            room.member(MODERATOR, CREATOR, "leave"),
            Err(Rule::LeaveKickLevel)
        );
        room.set_levels(json!({"users": {MODERATOR: 50, MEMBER: 50}}));
        assert_eq!(
            room.member(MODERATOR, MEMBER, "leave"),
            Err(Rule::LeaveKickLevel)
        );
        room.set_levels(json!({"ban": 60}));
        room.set_member(STRANGER, "ban");
        assert_eq!(
            room.member(MODERATOR, STRANGER, "leave"),
            Err(Rule::LeaveUnbanLevel)
        );
        assert_eq!(room.member(CREATOR, STRANGER, "leave"), Ok(()));
        // Unbanning takes the kick level too.
        room.set_levels(json!({"ban": 0, "kick": 60}));
        assert_eq!(
            room.member(MODERATOR, STRANGER, "leave"),
            Err(Rule::LeaveKickLevel)
        );
    });
}

#[test]
fn banning_needs_the_level_and_a_lower_target() {
    every_version(|mut room| {
        assert_eq!(
            room.member(STRANGER, MEMBER, "ban"),
            Err(Rule::BanSenderNotJoined)
        );
        assert_eq!(room.member(MEMBER, STRANGER, "ban"), Err(Rule::BanLevel));
        assert_eq!(room.member(MODERATOR, STRANGER, "ban"), Ok(()));
        assert_eq!(room.member(MODERATOR, MEMBER, "ban"), Ok(()));
        assert_eq!(
            room.member(MODERATOR, MODERATOR, "ban"),
            Err(Rule::BanLevel)
        );
        assert_eq!(room.member(MODERATOR, CREATOR, "ban"), Err(Rule::BanLevel));
    });
}

#[test]
fn knocking_needs_the_join_rule_and_nothing_standing_in_between() {
    every_version(|mut room| {
        room.set_join_rule("knock");
        if !room.rules.auth.knock {
            assert_eq!(
                room.member(STRANGER, STRANGER, "knock"),
                Err(Rule::MembershipUnknown)
            );
            return;
        }
        assert_eq!(room.member(STRANGER, STRANGER, "knock"), Ok(()));
        assert_eq!(
            room.member(MEMBER, STRANGER, "knock"),
            Err(Rule::KnockNotSelf)
        );
        for (membership, expected) in [
            ("leave", Ok(())),
            ("knock", Ok(())),
            ("ban", Err(Rule::KnockMembership)),
            ("invite", Err(Rule::KnockMembership)),
            ("join", Err(Rule::KnockMembership)),
        ] {
            room.set_member(STRANGER, membership);
            assert_eq!(
                room.member(STRANGER, STRANGER, "knock"),
                expected,
                "{membership}"
            );
        }
        room.set_member(STRANGER, "leave");
        for rule in ["public", "invite", "restricted"] {
            room.set_join_rule(rule);
            assert_eq!(
                room.member(STRANGER, STRANGER, "knock"),
                Err(Rule::KnockJoinRule)
            );
        }
        room.set_join_rule("knock_restricted");
        assert_eq!(
            room.member(STRANGER, STRANGER, "knock").is_ok(),
            room.rules.auth.knock_restricted
        );
    });
}
