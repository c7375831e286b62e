//! The other authorisation rules.

use event::auth::{self, Rule};
use event::{AuthEvent, Pdu, RoomIdFormat, RoomVersion, SigningKey};
use serde_json::{Value, json};

use crate::room::{CREATOR, MEMBER, Room, STRANGER};
use crate::tree;

/// Descendants of Conduit: `predecessor` of a well-known room's create event is a string. Servers that parsed the
/// whole content could not take part in the room.
#[test]
fn members_of_a_create_event_that_no_rule_reads_may_be_anything() {
    for version in RoomVersion::ALL {
        let odd = json!({"predecessor": "!x:a.org", "type": 1, "m.federate": "no"});
        let mut room = Room::created_with(version, odd);
        assert_eq!(room.check(&room.state[0].pdu().clone()), Ok(()));
        assert_eq!(room.message(MEMBER, "m.room.message"), Ok(()));
    }
}

/// Up to version 10 the creator is whatever `creator` says. One that is no string is nobody: servers that took the
/// sender instead let different people in.
#[test]
fn a_creator_that_is_no_string_is_nobody() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let mut create = tree(room.state[0].pdu());
        create["content"]["creator"] = json!([CREATOR]);
        let id = room.state[0].pdu().event_id().clone();
        let create =
            Pdu::from_stored(room.rules, id.clone(), create.to_string().as_bytes()).unwrap();
        assert_eq!(room.check(&create), Ok(()));
        room.state[0] = AuthEvent::new(room.rules, create);
        room.set_join_rule("invite");
        room.unset("m.room.member", CREATOR);
        let content = json!({"membership": "join"});
        let join = room.event_after(&[&id], CREATOR, "m.room.member", Some(CREATOR), content);
        let expected = match room.rules.auth.creator_is_sender {
            true => Ok(()),
            false => Err(Rule::JoinNotAllowed),
        };
        assert_eq!(room.check(&join), expected);
    }
}

/// A member event whose membership is missing, no string or unknown was an internal error, or a user in a state that no
/// other server knew.
#[test]
fn a_membership_is_one_that_the_room_version_knows() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        for bad in [
            json!(null),
            json!(1),
            json!(["join"]),
            json!({"join": 1}),
            json!(true),
        ] {
            let content = json!({"membership": bad});
            let verdict = room.state(MEMBER, "m.room.member", MEMBER, content);
            assert_eq!(verdict, Err(Rule::MemberIncomplete));
        }
        for bad in ["", "Join", "joined", "join ", "peek"] {
            assert_eq!(
                room.member(MEMBER, MEMBER, bad),
                Err(Rule::MembershipUnknown)
            );
        }
        // One that is in force all the same makes nobody a member.
        room.set(
            MEMBER,
            "m.room.member",
            MEMBER,
            json!({"membership": ["join"]}),
        );
        assert_eq!(
            room.message(MEMBER, "m.room.message"),
            Err(Rule::SenderNotJoined)
        );
    }
}

/// Synapse, pull request 6472 and the security release 1.7.1; gomatrixserverlib, pull request 343; matrix-spec issue
/// 2165: events named auth events of a room where their sender has more power.
#[test]
fn power_in_another_room_does_not_count() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let mut other = Room::created_with(version, json!({"other": true}));
        other.room_id = match room.rules.room_id {
            RoomIdFormat::Domain => "!other:a.org".into(),
            RoomIdFormat::CreateHash => other.room_id,
        };
        other.set_levels(json!({"users": {MEMBER: 100}}));
        let topic = room.event(MEMBER, "m.room.topic", Some(""), json!({}));
        let mut named: Vec<&AuthEvent> = vec![
            room.get("m.room.member", MEMBER).unwrap(),
            other.get("m.room.power_levels", "").unwrap(),
        ];
        if room.rules.room_id == RoomIdFormat::Domain {
            named.push(&room.state[0]);
        }
        let refused = auth::check_auth_events(room.rules, &topic, &named);
        assert_eq!(
            refused.map_err(|error| error.rule),
            Err(Rule::AuthEventsOtherRoom)
        );
    }
}

/// Synapse, CVE-2022-31152 and pull request 11009: of two auth events with one type and key the later one hid the
/// earlier, which could be a rejected one.
#[test]
fn no_auth_event_hides_another() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let message = room.event(MEMBER, "m.room.message", None, json!({}));
        let accepted = room.get("m.room.member", MEMBER).unwrap();
        let rejected = AuthEvent::rejected(room.rules, accepted.pdu().clone());
        let mut named = vec![room.get("m.room.power_levels", "").unwrap()];
        if room.rules.room_id == RoomIdFormat::Domain {
            named.push(&room.state[0]);
        }
        for two in [[accepted, &rejected], [&rejected, accepted]] {
            let named = [&named[..], &two].concat();
            let verdict = auth::check_auth_events(room.rules, &message, &named);
            let rule = verdict.unwrap_err().rule;
            assert!(matches!(
                rule,
                Rule::AuthEventsDuplicate | Rule::AuthEventsRejected
            ));
        }
    }
}

/// Synapse, pull request 3999: the refusal of a third-party invite failed where the invite lacked something. Offers that
/// were withdrawn have empty content, and any part may be `null`.
#[test]
fn broken_third_party_invites_are_refused() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let identity = SigningKey::generate("identity.org", [9; 32]);
        let mut signed = json!({"mxid": STRANGER, "token": "t"});
        identity.sign_value(&mut signed).unwrap();
        let mut invite = |offer: &Value, third_party: Value| {
            room.set(MEMBER, "m.room.third_party_invite", "t", offer.clone());
            let content = json!({"membership": "invite", "third_party_invite": third_party});
            room.state(MEMBER, "m.room.member", STRANGER, content)
        };
        let public = identity.verify_key().to_base64();
        let offer = json!({"public_key": public});
        assert_eq!(invite(&offer, json!({"signed": signed})), Ok(()));
        for third_party in [json!(null), json!({}), json!("x"), json!([])] {
            assert_eq!(invite(&offer, third_party), Err(Rule::ThirdPartyNotSigned));
        }
        for signed in [
            json!(null),
            json!([]),
            json!({"mxid": null, "token": null}),
            json!({"mxid": STRANGER}),
        ] {
            let verdict = invite(&offer, json!({"signed": signed}));
            assert_eq!(verdict, Err(Rule::ThirdPartyIncomplete));
        }
        let mut odd = signed.clone();
        for signatures in [
            json!(null),
            json!([]),
            json!({"identity.org": null}),
            json!({"identity.org": {"ed25519:1": 1}}),
        ] {
            odd["signatures"] = signatures;
            let verdict = invite(&offer, json!({"signed": odd}));
            assert_eq!(verdict, Err(Rule::ThirdPartyBadSignature));
        }
        for offer in [
            json!({}),
            json!({"public_key": null}),
            json!({"public_keys": {}}),
            json!({"public_keys": [null, 1]}),
        ] {
            let verdict = invite(&offer, json!({"signed": signed}));
            assert_eq!(verdict, Err(Rule::ThirdPartyBadSignature));
        }
    }
}
