//! The rule for `m.room.member`: inviting, also by third parties.

use crate::every_version;
use crate::room::{CREATOR, MEMBER, MODERATOR, Room, STRANGER};
use event::SigningKey;
use event::auth::Rule;
use serde_json::{Value, json};

#[test]
fn members_invite_who_is_neither_there_nor_banned() {
    every_version(|mut room| {
        assert_eq!(room.member(MEMBER, STRANGER, "invite"), Ok(()));
        assert_eq!(
            room.member(STRANGER, "@x:a.org", "invite"),
            Err(Rule::InviteSenderNotJoined)
        );
        for membership in ["join", "ban"] {
            room.set_member(STRANGER, membership);
            assert_eq!(
                room.member(MEMBER, STRANGER, "invite"),
                Err(Rule::InviteTargetJoinedOrBanned)
            );
        }
        for membership in ["leave", "invite", "knock"] {
            room.set_member(STRANGER, membership);
            assert_eq!(room.member(MEMBER, STRANGER, "invite"), Ok(()));
        }
        room.set_levels(json!({"invite": 50}));
        assert_eq!(
            room.member(MEMBER, STRANGER, "invite"),
            Err(Rule::InviteLevel)
        );
        assert_eq!(room.member(MODERATOR, STRANGER, "invite"), Ok(()));
        room.unset("m.room.power_levels", "");
        assert_eq!(room.member(MEMBER, STRANGER, "invite"), Ok(()));
    });
}

#[test]
fn a_third_party_invite_is_checked_step_by_step() {
    every_version(|mut room| {
        let identity = SigningKey::generate("identity.org", [9; 32]);
        let public = identity.verify_key().to_base64();
        let signed = |content: Value| {
            let mut content = content;
            identity.sign_value(&mut content).unwrap();
            content
        };
        let good = signed(json!({"mxid": STRANGER, "token": "token"}));
        let offer = json!({"display_name": "s", "public_key": public});
        let invite = |room: &mut Room, third_party: Value| {
            let content = json!({"membership": "invite", "third_party_invite": third_party});
            room.state(MEMBER, "m.room.member", STRANGER, content)
        };
        let good_invite = json!({"display_name": "s", "signed": good});

        assert_eq!(
            invite(&mut room, good_invite.clone()),
            Err(Rule::ThirdPartyUnknownToken)
        );
        room.set(MEMBER, "m.room.third_party_invite", "token", offer.clone());
        assert_eq!(invite(&mut room, good_invite.clone()), Ok(()));
        // The sender need not be in the room any more.
        room.set_member(MEMBER, "leave");
        assert_eq!(invite(&mut room, good_invite.clone()), Ok(()));
        room.set_member(MEMBER, "join");

        assert_eq!(
            invite(&mut room, json!({"display_name": "s"})),
            Err(Rule::ThirdPartyNotSigned)
        );
        assert_eq!(
            invite(&mut room, json!({"signed": {"mxid": STRANGER}})),
            Err(Rule::ThirdPartyIncomplete)
        );
        let other_user = signed(json!({"mxid": MODERATOR, "token": "token"}));
        assert_eq!(
            invite(&mut room, json!({"signed": other_user})),
            Err(Rule::ThirdPartyOtherUser)
        );
        let unsigned = json!({"mxid": STRANGER, "token": "token"});
        assert_eq!(
            invite(&mut room, json!({"signed": unsigned})),
            Err(Rule::ThirdPartyBadSignature)
        );
        let mut forged = good.clone();
        forged["extra"] = 1.into();
        assert_eq!(
            invite(&mut room, json!({"signed": forged})),
            Err(Rule::ThirdPartyBadSignature)
        );

        let listed = json!({"public_keys": [{"public_key": "AAAA"}, {"public_key": public}]});
        room.set(MEMBER, "m.room.third_party_invite", "token", listed);
        assert_eq!(invite(&mut room, good_invite.clone()), Ok(()));
        room.set(CREATOR, "m.room.third_party_invite", "token", offer.clone());
        assert_eq!(
            invite(&mut room, good_invite.clone()),
            Err(Rule::ThirdPartyOtherSender)
        );
        room.set_member(STRANGER, "ban");
        assert_eq!(invite(&mut room, good_invite), Err(Rule::ThirdPartyBanned));
    });
}

#[test]
fn third_party_invite_events_need_the_invite_level_only() {
    every_version(|mut room| {
        assert_eq!(
            room.state(MEMBER, "m.room.third_party_invite", "t", json!({})),
            Ok(())
        );
        assert_eq!(
            room.state(STRANGER, "m.room.third_party_invite", "t", json!({})),
            Err(Rule::SenderNotJoined)
        );
        room.set_levels(json!({"invite": 1}));
        assert_eq!(
            room.state(MEMBER, "m.room.third_party_invite", "t", json!({})),
            Err(Rule::ThirdPartyInviteLevel)
        );
    });
}
