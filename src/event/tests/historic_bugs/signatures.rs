//! Who vouches for an event, and what for.

use event::auth::Rule;
use event::signature::{self, Integrity, SignatureError};
use event::{AuthEvent, Pdu, RoomVersion};
use serde_json::{Value, json};

use crate::room::{CREATOR, MEMBER, MODERATOR, Room};
use crate::{own_keys, receive, tree};

/// Synapse, issue 10923: the signature of the authorising server was asked for in room versions that do not know it. And
/// where it is known, a name that is no user's was no reason to refuse.
#[test]
fn the_authorising_server_signs_from_version_8_on() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let mut verified = |authoriser: Value| {
            let content =
                json!({"membership": "join", "join_authorised_via_users_server": authoriser});
            let pdu = room.event("@new:a.org", "m.room.member", Some("@new:a.org"), content);
            signature::verify_event(room.rules, &pdu, &own_keys).is_ok()
        };
        assert!(verified(json!(MODERATOR)));
        for other in [
            json!(MEMBER),
            json!("a.org"),
            json!(""),
            json!(1),
            json!({"a.org": 1}),
        ] {
            assert_eq!(
                verified(other.clone()),
                version < RoomVersion::V8,
                "{other}"
            );
        }
    }
}

/// Synapse, CVE-2019-18835 (pull request 6262), and Dendrite, CVE-2022-39200: events that came by some ways were not
/// checked for the signature of their sender's server.
#[test]
fn a_signature_of_another_server_is_none() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let missing = |pdu: &Pdu| signature::verify_event(room.rules, pdu, &own_keys);
        let server_name = "b.org".to_owned();
        let forged = room
            .clone()
            .event(MEMBER, "m.room.message", None, json!({}));
        assert_eq!(
            missing(&forged),
            Err(SignatureError::Missing { server_name })
        );
        let mut stripped = tree(&room.event(CREATOR, "m.room.message", None, json!({})));
        stripped["signatures"] = json!({});
        let stripped = receive(&room, &stripped).unwrap();
        let server_name = "a.org".to_owned();
        assert_eq!(
            missing(&stripped),
            Err(SignatureError::Missing { server_name })
        );
    }
}

/// Conduit, CVE-2024-6299: keys that had expired before an event was made were good for its signature. Version 5 wants
/// them valid; the caller, who knows when, does not answer such a key.
#[test]
fn a_key_that_is_not_answered_is_not_used() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        assert_eq!(room.rules.enforce_key_validity, version >= RoomVersion::V5);
        let message = room.event(CREATOR, "m.room.message", None, json!({}));
        let valid_until_ts = message.origin_server_ts() - 1;
        let valid_keys = |server: &str, id: &str| {
            own_keys(server, id).filter(|_| message.origin_server_ts() <= valid_until_ts)
        };
        let refused = signature::verify_event(room.rules, &message, &valid_keys);
        assert!(matches!(refused, Err(SignatureError::UnknownKeys { .. })));
    }
}

/// matrix-spec issue 277: `redacts` is not covered by the signature before version 11, so whoever passes a redaction on
/// could aim it at another event. The content hash covers it: such an event comes in redacted, and aims at nothing.
#[test]
fn a_redaction_can_not_be_given_another_target() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let prev_events = &["$p:a.org"];
        let target = Some("$target:a.org");
        let redaction = room.event_with(
            prev_events,
            target,
            CREATOR,
            "m.room.redaction",
            None,
            json!({}),
        );
        assert_eq!(redaction.redacts(), target);
        let turned = redaction.json().replace("$target:a.org", "$victim:a.org");
        let turned = Pdu::from_federation(room.rules, turned.as_bytes()).unwrap();
        let integrity = signature::verify_event(room.rules, &turned, &own_keys);
        if version < RoomVersion::V11 {
            assert_eq!(turned.event_id(), redaction.event_id());
            assert_eq!(integrity, Ok(Integrity::Redacted));
            assert_eq!(turned.redacted(room.rules).unwrap().redacts(), None);
        } else {
            assert_ne!(turned.event_id(), redaction.event_id());
            assert!(matches!(integrity, Err(SignatureError::Wrong { .. })));
        }
    }
}

/// Synapse, issue 1831: redaction took away what the rules read: `m.federate` of the create event, and the signed part
/// of a third-party invite. Version 11 keeps them.
#[test]
fn a_redacted_create_event_keeps_a_closed_room_closed_from_version_11() {
    for version in RoomVersion::ALL {
        let mut room = Room::created_with(version, json!({"m.federate": false}));
        let redacted = room.state[0].pdu().redacted(room.rules).unwrap();
        room.state[0] = AuthEvent::new(room.rules, redacted);
        let expected = match version >= RoomVersion::V11 {
            true => Err(Rule::NotFederated),
            false => Ok(()),
        };
        assert_eq!(room.message(MEMBER, "m.room.message"), expected);
        assert_eq!(room.message(CREATOR, "m.room.message"), Ok(()));
    }
}
