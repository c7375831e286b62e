//! The rules about `auth_events`, and which events belong there.

use crate::room::{CREATOR, MEMBER, MODERATOR, STRANGER};
use crate::{altered, every_version};
use event::auth::{self, Rule};
use event::{AuthEvent, RoomIdFormat};
use serde_json::{Value, json};

#[test]
fn auth_events_are_exactly_the_selected_ones() {
    every_version(|mut room| {
        let message = room.event(MEMBER, "m.room.message", None, json!({}));
        let find = |event_type, key| room.get(event_type, key).unwrap();
        let levels = find("m.room.power_levels", "");
        let member = find("m.room.member", MEMBER);
        let create = find("m.room.create", "");
        let check = |events: &[&AuthEvent]| {
            auth::check_auth_events(room.rules, &message, events).map_err(|error| error.rule)
        };
        let (selected, without_create) = match room.rules.room_id {
            RoomIdFormat::Domain => (vec![create, levels, member], Err(Rule::AuthEventsNoCreate)),
            RoomIdFormat::CreateHash => (vec![levels, member], Ok(())),
        };
        assert_eq!(check(&selected), Ok(()));
        assert_eq!(check(&[levels, member]), without_create);
        if room.rules.room_id == RoomIdFormat::CreateHash {
            assert_eq!(
                check(&[create, levels, member]),
                Err(Rule::AuthEventsUnexpected)
            );
        }
        let with = |extra| [&selected[..], &[extra]].concat();
        assert_eq!(check(&with(levels)), Err(Rule::AuthEventsDuplicate));
        assert_eq!(
            check(&with(find("m.room.member", CREATOR))),
            Err(Rule::AuthEventsUnexpected)
        );
        assert_eq!(
            check(&with(find("m.room.join_rules", ""))),
            Err(Rule::AuthEventsUnexpected)
        );
        let rejected = AuthEvent::rejected(room.rules, member.pdu().clone());
        let without_member = &selected[..selected.len() - 1];
        assert_eq!(
            check(&[without_member, &[&rejected]].concat()),
            Err(Rule::AuthEventsRejected)
        );
        let elsewhere = altered(&room, member.pdu(), |tree| {
            tree["room_id"] = "!elsewhere:a.org".into()
        });
        let elsewhere = AuthEvent::new(room.rules, elsewhere);
        assert_eq!(
            check(&[without_member, &[&elsewhere]].concat()),
            Err(Rule::AuthEventsOtherRoom)
        );
    });
}

#[test]
fn auth_events_selection_follows_the_membership() {
    every_version(|room| {
        let select = |content: Value| {
            let content = content.to_string();
            auth::auth_types(
                room.rules,
                "m.room.member",
                MEMBER,
                Some(STRANGER),
                &content,
            )
            .into_iter()
            .map(|(event_type, key)| {
                format!("{}|{key}", event_type.strip_prefix("m.room.").unwrap())
            })
            .collect::<Vec<_>>()
        };
        let create: &[&'static str] = match room.rules.room_id {
            RoomIdFormat::Domain => &["create|"],
            RoomIdFormat::CreateHash => &[],
        };
        let expect = |more: &[&'static str]| {
            let always = [
                "power_levels|",
                "member|@member:b.org",
                "member|@stranger:c.org",
            ];
            [create, &always, more].concat()
        };
        assert_eq!(select(json!({"membership": "leave"})), expect(&[]));
        assert_eq!(select(json!({"membership": "ban"})), expect(&[]));
        for membership in ["join", "invite", "knock"] {
            assert_eq!(
                select(json!({"membership": membership})),
                expect(&["join_rules|"])
            );
        }
        let invite =
            json!({"membership": "invite", "third_party_invite": {"signed": {"token": "t"}}});
        assert_eq!(
            select(invite),
            expect(&["join_rules|", "third_party_invite|t"])
        );
        for membership in ["join", "invite"] {
            let restricted =
                json!({"membership": membership, "join_authorised_via_users_server": MODERATOR});
            let more: &[&'static str] = match room.rules.auth.restricted && membership == "join" {
                true => &["join_rules|", "member|@moderator:a.org"],
                false => &["join_rules|"],
            };
            assert_eq!(select(restricted), expect(more));
        }
        assert!(auth::auth_types(room.rules, "m.room.create", CREATOR, Some(""), "{}").is_empty());
    });
}
