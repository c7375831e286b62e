//! Power levels that were misread.

use event::RoomVersion;
use event::auth::{PowerLevels, PowerLevelsContent, Rule};
use serde_json::{Value, json};

use crate::room::{CREATOR, MEMBER, MODERATOR, Room, STRANGER};
use crate::versions_from;

/// Synapse, CVE-2018-12423: without power levels anybody could set state, and take the room.
#[test]
fn a_room_without_power_levels_is_its_creators() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        room.unset("m.room.power_levels", "");
        let all = json!({"users": {MEMBER: 100}});
        assert_eq!(
            room.state(MEMBER, "m.room.power_levels", "", all),
            Err(Rule::RequiredLevel)
        );
        let taken = room.state(MEMBER, "m.room.join_rules", "", json!({}));
        assert_eq!(taken, Err(Rule::RequiredLevel));
    }
}

/// Dendrite, CVE-2022-36009: `events_default` was not read and always 0. And gomatrixserverlib, pull request 416:
/// `invite` was 50 where it is not said, instead of 0.
#[test]
fn levels_that_are_said_count_and_those_that_are_not_have_their_defaults() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        room.set_levels(json!({"events_default": 50, "invite": null}));
        assert_eq!(
            room.message(MEMBER, "m.room.message"),
            Err(Rule::RequiredLevel)
        );
        assert_eq!(room.message(MODERATOR, "m.room.message"), Ok(()));
        assert_eq!(room.member(MEMBER, STRANGER, "invite"), Ok(()));
    }
}

/// Synapse, pull request 2552: power levels without `users` or `events` were an internal error.
#[test]
fn empty_power_levels_are_power_levels() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let emptied = json!({"users": {}, "events": {}});
        assert_eq!(
            room.state(CREATOR, "m.room.power_levels", "", emptied),
            Ok(())
        );
        room.unset("m.room.power_levels", "");
        assert_eq!(
            room.state(CREATOR, "m.room.power_levels", "", json!({})),
            Ok(())
        );
        room.set(CREATOR, "m.room.power_levels", "", json!({}));
        assert_eq!(room.message(MEMBER, "m.room.message"), Ok(()));
        assert_eq!(
            room.state(MODERATOR, "m.room.topic", "", json!({})),
            Err(Rule::RequiredLevel)
        );
    }
}

/// Synapse, issues 1237, 7592 and 9267: a level that is a string worked on some servers and in some places. Version 10
/// ended it (MSC3667); there `true`, which Python takes for 1, had to be refused as well.
#[test]
fn levels_of_the_wrong_type_are_refused_from_version_10() {
    let odd = [
        json!("50"),
        json!(true),
        json!(null),
        json!([50]),
        json!({"level": 50}),
        json!(50.5),
    ];
    for version in versions_from(RoomVersion::V10) {
        let mut room = Room::new(version);
        for value in &odd {
            // The test's events are made of canonical JSON, which has no floats.
            if value.is_f64() {
                let content = json!({"ban": value}).to_string();
                assert!(PowerLevelsContent::parse(room.rules, &content).is_err());
                continue;
            }
            let mut with = |changes: Value| {
                let mut content = room.levels(json!({}));
                content
                    .as_object_mut()
                    .unwrap()
                    .extend(changes.as_object().unwrap().clone());
                room.state(CREATOR, "m.room.power_levels", "", content)
            };
            assert_eq!(
                with(json!({"ban": value})),
                Err(Rule::PowerLevelsField),
                "{value}"
            );
            assert_eq!(
                with(json!({"events": {"x": value}})),
                Err(Rule::PowerLevelsMap),
                "{value}"
            );
            assert_eq!(
                with(json!({"users": {MEMBER: value}})),
                Err(Rule::PowerLevelsUsers),
                "{value}"
            );
        }
    }
}

/// A level of `null`, or one beyond 64 bits, brought servers and clients down when they read it. In old rooms such an
/// event is not allowed, and where one is in force nobody has a level.
#[test]
fn levels_out_of_range_are_no_levels() {
    let bad = [
        "null",
        "9223372036854775808",
        "-9223372036854775809",
        "1e19",
        "-1e19",
        r#""9223372036854775808""#,
    ];
    let good = [
        ("9223372036854775807", i64::MAX),
        (r#""-9223372036854775808""#, i64::MIN),
    ];
    for version in RoomVersion::ALL
        .into_iter()
        .filter(|version| *version < RoomVersion::V6)
    {
        let mut room = Room::new(version);
        for value in bad {
            let content = format!(r#"{{"users":{{"{CREATOR}":100,"{MEMBER}":{value}}}}}"#);
            assert!(
                PowerLevelsContent::parse(room.rules, &content).is_err(),
                "{value}"
            );
        }
        for (value, level) in good {
            let content = format!(r#"{{"users":{{"{CREATOR}":100,"{MEMBER}":{value}}}}}"#);
            let content = PowerLevelsContent::parse(room.rules, &content).unwrap();
            let creators = room.state[0].creators().unwrap();
            let levels = PowerLevels::new(room.rules, Some(&content), creators);
            assert!(levels.user(MEMBER) == level);
        }
        room.set(
            CREATOR,
            "m.room.power_levels",
            "",
            json!({"users": {CREATOR: 100}, "ban": null}),
        );
        assert_eq!(
            room.state(CREATOR, "m.room.topic", "", json!({})),
            Err(Rule::CurrentPowerLevels)
        );
        assert_eq!(
            room.member(MEMBER, MEMBER, "leave"),
            Ok(()),
            "which takes no level"
        );
    }
}

/// Project Hydra, MSC4289: in a fight for power the creator could lose the room to an administrator of the same level.
/// From version 12 on creators stand above all levels, and no level can be written for them.
#[test]
fn nobody_takes_a_room_from_its_creators_in_version_12() {
    let mut room = Room::created_with(
        RoomVersion::V12,
        json!({"additional_creators": ["@second:b.org"]}),
    );
    room.set_member("@second:b.org", "join");
    room.set_levels(json!({"users": {MODERATOR: 9_007_199_254_740_991i64}}));
    for creator in [CREATOR, "@second:b.org"] {
        assert_eq!(
            room.member(MODERATOR, creator, "leave"),
            Err(Rule::LeaveKickLevel)
        );
        assert_eq!(room.member(MODERATOR, creator, "ban"), Err(Rule::BanLevel));
        let content = room.levels(json!({"users": {creator: 0}}));
        let demoted = room.state(MODERATOR, "m.room.power_levels", "", content);
        assert_eq!(demoted, Err(Rule::PowerLevelsCreator));
    }
    assert_eq!(room.member("@second:b.org", MODERATOR, "ban"), Ok(()));
}
