//! The rules for events of any type: membership, level, state key; redactions.

use crate::every_version;
use crate::room::{CREATOR, MEMBER, MODERATOR, Room, STRANGER};
use event::auth::Rule;
use serde_json::json;

#[test]
fn other_events_need_membership_level_and_a_state_key_of_ones_own() {
    every_version(|mut room| {
        for membership in ["leave", "invite", "ban", "knock"] {
            room.set_member(STRANGER, membership);
            assert_eq!(
                room.message(STRANGER, "m.room.message"),
                Err(Rule::SenderNotJoined)
            );
        }
        assert_eq!(room.message(MEMBER, "m.room.message"), Ok(()));
        assert_eq!(
            room.state(MEMBER, "m.room.topic", "", json!({})),
            Err(Rule::RequiredLevel)
        );
        assert_eq!(room.state(MODERATOR, "m.room.topic", "", json!({})), Ok(()));
        room.set_levels(
            json!({"events": {"m.room.topic": 0, "m.room.message": 60}, "state_default": null}),
        );
        assert_eq!(room.state(MEMBER, "m.room.topic", "", json!({})), Ok(()));
        assert_eq!(
            room.message(MODERATOR, "m.room.message"),
            Err(Rule::RequiredLevel)
        );
        assert_eq!(room.message(CREATOR, "m.room.message"), Ok(()));
        assert_eq!(
            room.state(MEMBER, "org.other", "", json!({})),
            Err(Rule::RequiredLevel)
        );
        room.set_levels(json!({"state_default": 0}));
        assert_eq!(room.state(MEMBER, "org.own", MEMBER, json!({})), Ok(()));
        assert_eq!(
            room.state(MEMBER, "org.own", CREATOR, json!({})),
            Err(Rule::StateKeyOfOther)
        );
        assert_eq!(
            room.state(MEMBER, "org.own", "@", json!({})),
            Err(Rule::StateKeyOfOther)
        );
        assert_eq!(
            room.state(CREATOR, "org.own", MEMBER, json!({})),
            Err(Rule::StateKeyOfOther)
        );
    });
}

#[test]
fn without_power_levels_the_creator_has_100_and_state_needs_50() {
    every_version(|mut room| {
        room.unset("m.room.power_levels", "");
        assert_eq!(room.state(CREATOR, "m.room.topic", "", json!({})), Ok(()));
        assert_eq!(
            room.state(MODERATOR, "m.room.topic", "", json!({})),
            Err(Rule::RequiredLevel)
        );
        assert_eq!(room.message(MODERATOR, "m.room.message"), Ok(()));
        let first = json!({"users": {MODERATOR: 100}, "ban": 1000});
        assert_eq!(
            room.state(CREATOR, "m.room.power_levels", "", first),
            Ok(())
        );
    });
}

#[test]
fn redactions_have_a_rule_in_versions_1_and_2() {
    every_version(|mut room| {
        let redaction = |room: &mut Room, sender: &str, target: &str| {
            let pdu = room.event_with(
                &["$p:a.org"],
                Some(target),
                sender,
                "m.room.redaction",
                None,
                json!({}),
            );
            room.check(&pdu)
        };
        let expected = match room.rules.auth.redaction_rule {
            true => Err(Rule::RedactionLevel),
            false => Ok(()),
        };
        assert_eq!(redaction(&mut room, MEMBER, "$x:a.org"), expected);
        assert_eq!(redaction(&mut room, MEMBER, "$x:b.org"), Ok(()));
        assert_eq!(redaction(&mut room, MODERATOR, "$x:b.org"), Ok(()));
        room.set_levels(json!({"events": {"m.room.redaction": 50}}));
        assert_eq!(
            redaction(&mut room, MEMBER, "$x:b.org"),
            Err(Rule::RequiredLevel)
        );
    });
}
