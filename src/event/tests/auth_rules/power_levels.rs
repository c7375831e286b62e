//! The rule for `m.room.power_levels`.

use crate::room::{CREATOR, MEMBER, MODERATOR, Room};
use crate::{every_version, versions};
use event::RoomVersion;
use event::auth::{self, Rule};
use serde_json::{Value, json};

fn change(room: &mut Room, sender: &str, changes: Value) -> Result<(), Rule> {
    let content = room.levels(changes);
    room.state(sender, "m.room.power_levels", "", content)
}

#[test]
fn power_levels_are_integers_from_version_10_and_may_be_strings_before() {
    every_version(|mut room| {
        let strict = room.rules.auth.integer_power_levels;
        for (value, level) in [("10", 10), (" +0010 ", 10), ("-5", -5)] {
            let content = json!({"users": {CREATOR: "100", MEMBER: value}, "kick": value, "events": {"x": value}});
            let content = if strict {
                json!({"kick": value})
            } else {
                content
            };
            let result = room.state(CREATOR, "m.room.power_levels", "", content.clone());
            assert_eq!(
                result,
                if strict {
                    Err(Rule::PowerLevelsField)
                } else {
                    Ok(())
                }
            );
            if !strict {
                let parsed =
                    auth::PowerLevelsContent::parse(room.rules, &content.to_string()).unwrap();
                let creators = room.state[0].creators().unwrap();
                let levels = auth::PowerLevels::new(room.rules, Some(&parsed), creators);
                assert_eq!((levels.kick(), levels.to_send("x", false)), (level, level));
                assert!(levels.user(MEMBER) == level);
            }
        }
        for bad in [
            json!(null),
            json!(true),
            json!([]),
            json!({}),
            json!("x"),
            json!("1.5"),
            json!(""),
            json!("+-1"),
        ] {
            assert_eq!(
                change(&mut room, CREATOR, json!({"ban": bad})).is_ok(),
                bad.is_null(),
                "{bad}"
            );
            let in_map = json!({"events": {"x": bad}});
            assert_eq!(
                change(&mut room, CREATOR, in_map),
                Err(Rule::PowerLevelsMap),
                "{bad}"
            );
            let in_users = json!({"users": {MEMBER: bad}});
            assert_eq!(
                change(&mut room, CREATOR, in_users),
                Err(Rule::PowerLevelsUsers),
                "{bad}"
            );
        }
        assert_eq!(
            change(&mut room, CREATOR, json!({"events": []})),
            Err(Rule::PowerLevelsMap)
        );
        assert_eq!(
            change(&mut room, CREATOR, json!({"notifications": 1})),
            Err(Rule::PowerLevelsMap)
        );
        assert_eq!(
            change(&mut room, CREATOR, json!({"users": []})),
            Err(Rule::PowerLevelsUsers)
        );
        assert_eq!(
            change(&mut room, CREATOR, json!({"users": {"nobody": 1}})),
            Err(Rule::PowerLevelsUsers)
        );
    });
}

#[test]
fn floats_are_truncated_in_old_rooms() {
    for version in versions(RoomVersion::V1, RoomVersion::V5) {
        let rules = version.rules();
        let parsed =
            auth::PowerLevelsContent::parse(rules, r#"{"users":{"@a:b":50.57,"@b:b":-50.57}}"#)
                .unwrap();
        assert_eq!(
            parsed.users().collect::<Vec<_>>(),
            [("@a:b", 50), ("@b:b", -50)]
        );
        let exponent =
            auth::PowerLevelsContent::parse(rules, r#"{"users":{"@a:b":5.114698E4}}"#).unwrap();
        assert_eq!(exponent.users().collect::<Vec<_>>(), [("@a:b", 51146)]);
        for bad in ["1e400", "1e19", "NaN"] {
            let content = format!(r#"{{"ban":{bad}}}"#);
            assert!(auth::PowerLevelsContent::parse(rules, &content).is_err());
        }
    }
}

#[test]
fn creators_have_no_entry_among_the_levels_and_stand_above_them_in_version_12() {
    let other = "@co:a.org";
    let mut room = Room::created_with(RoomVersion::V12, json!({"additional_creators": [other]}));
    room.set_member(other, "join");
    for creator in [CREATOR, other] {
        assert_eq!(
            change(&mut room, CREATOR, json!({"users": {creator: 100}})),
            Err(Rule::PowerLevelsCreator)
        );
        assert_eq!(
            change(&mut room, creator, json!({"ban": 9_007_199_254_740_991i64})),
            Ok(())
        );
    }
    assert_eq!(
        room.member(CREATOR, other, "leave"),
        Err(Rule::LeaveKickLevel)
    );
    assert_eq!(room.member(MODERATOR, other, "ban"), Err(Rule::BanLevel));
    room.set_levels(json!({"users": {MODERATOR: 9_007_199_254_740_991i64}}));
    assert_eq!(room.member(MODERATOR, other, "ban"), Err(Rule::BanLevel));
    assert_eq!(room.member(other, MODERATOR, "ban"), Ok(()));
}

#[test]
fn single_levels_move_only_up_to_the_senders_own() {
    every_version(|mut room| {
        for field in [
            "users_default",
            "events_default",
            "state_default",
            "ban",
            "redact",
            "kick",
            "invite",
        ] {
            assert_eq!(change(&mut room, MODERATOR, json!({field: 50})), Ok(()));
            assert_eq!(change(&mut room, MODERATOR, json!({field: 49})), Ok(()));
            assert_eq!(
                change(&mut room, MODERATOR, json!({field: 51})),
                Err(Rule::PowerLevelsFieldNew)
            );
            assert_eq!(change(&mut room, MODERATOR, json!({field: null})), Ok(()));
        }
        room.set_levels(json!({"kick": 60, "ban": null}));
        assert_eq!(
            change(&mut room, MODERATOR, json!({"kick": 40, "ban": null})),
            Err(Rule::PowerLevelsFieldCurrent)
        );
        assert_eq!(
            change(&mut room, MODERATOR, json!({"kick": 60, "ban": 50})),
            Ok(())
        );
        assert_eq!(change(&mut room, CREATOR, json!({"kick": 40})), Ok(()));
    });
}

#[test]
fn event_and_notification_levels_move_only_up_to_the_senders_own() {
    every_version(|mut room| {
        for map in ["events", "notifications"] {
            let checked = map == "events" || room.rules.auth.notifications_levels;
            let expect = |rule| if checked { Err(rule) } else { Ok(()) };
            room.set_levels(json!({map: {"high": 60, "low": 10}}));
            assert_eq!(
                change(
                    &mut room,
                    MODERATOR,
                    json!({map: {"high": 60, "low": 50, "new": 50}})
                ),
                Ok(())
            );
            assert_eq!(
                change(&mut room, MODERATOR, json!({map: {"high": 60}})),
                Ok(())
            );
            let lowered = change(&mut room, MODERATOR, json!({map: {"high": 50, "low": 10}}));
            assert_eq!(lowered, expect(Rule::PowerLevelsEventCurrent));
            let removed = change(&mut room, MODERATOR, json!({map: {"low": 10}}));
            assert_eq!(removed, expect(Rule::PowerLevelsEventCurrent));
            let raised = change(&mut room, MODERATOR, json!({map: {"high": 60, "low": 51}}));
            assert_eq!(raised, expect(Rule::PowerLevelsEventNew));
            let added = change(
                &mut room,
                MODERATOR,
                json!({map: {"high": 60, "low": 10, "z": 51}}),
            );
            assert_eq!(added, expect(Rule::PowerLevelsEventNew));
            room.set_levels(json!({}));
        }
    });
}

#[test]
fn user_levels_change_only_below_the_sender_but_ones_own_may_sink() {
    every_version(|mut room| {
        let base = |extra: Value| {
            let mut users = extra;
            users[MODERATOR] = users.get(MODERATOR).cloned().unwrap_or(50.into());
            if !room.rules.auth.creators_privileged {
                users[CREATOR] = 100.into();
            }
            json!({"users": users})
        };
        let [raise, too_high, peer, peer_changed, own_down, own_gone] = [
            base(json!({MEMBER: 50})),
            base(json!({MEMBER: 51})),
            base(json!({"@peer:a.org": 50})),
            base(json!({"@peer:a.org": 49})),
            base(json!({MODERATOR: 10})),
            base(json!({MODERATOR: 0})),
        ];
        assert_eq!(change(&mut room, MODERATOR, raise), Ok(()));
        assert_eq!(
            change(&mut room, MODERATOR, too_high),
            Err(Rule::PowerLevelsUserNew)
        );
        assert_eq!(change(&mut room, MODERATOR, own_down), Ok(()));
        assert_eq!(change(&mut room, MODERATOR, own_gone), Ok(()));
        room.set_levels(peer);
        assert_eq!(
            change(&mut room, MODERATOR, peer_changed),
            Err(Rule::PowerLevelsUserCurrent)
        );
        assert_eq!(
            change(&mut room, MODERATOR, json!({})),
            Err(Rule::PowerLevelsUserCurrent)
        );
        assert_eq!(change(&mut room, CREATOR, json!({})), Ok(()));
    });
}
