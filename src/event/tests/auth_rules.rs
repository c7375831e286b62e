//! The authorisation rules of every room version, rule by rule.

mod room;

use event::auth::{self, Rule};
use event::{AuthEvent, Pdu, RoomIdFormat, RoomVersion, SigningKey};
use room::{CREATOR, MEMBER, MODERATOR, Room, STRANGER};
use serde_json::{Value, json};

fn every_version(test: impl Fn(Room)) {
    for version in RoomVersion::ALL {
        test(Room::new(version));
    }
}

fn versions(from: RoomVersion, to: RoomVersion) -> impl Iterator<Item = RoomVersion> {
    RoomVersion::ALL
        .into_iter()
        .filter(move |version| (from..=to).contains(version))
}

/// An event with one member of its JSON changed, as another server could send it.
fn altered(room: &Room, pdu: &Pdu, change: impl Fn(&mut Value)) -> Pdu {
    let mut tree: Value = serde_json::from_str(pdu.json()).unwrap();
    change(&mut tree);
    Pdu::from_stored(
        room.rules,
        pdu.event_id().clone(),
        tree.to_string().as_bytes(),
    )
    .unwrap()
}

#[test]
fn create_has_no_previous_events() {
    every_version(|room| {
        let create = room.state[0].pdu();
        assert_eq!(room.check(create), Ok(()));
        let references = match room.rules.references {
            event::ReferenceFormat::Plain => json!(["$a"]),
            event::ReferenceFormat::WithHash => json!([["$a:b", {"sha256": "x"}]]),
        };
        let child = altered(&room, create, |tree| {
            tree["prev_events"] = references.clone()
        });
        assert_eq!(room.check(&child), Err(Rule::CreateHasPrevEvents));
    });
}

#[test]
fn create_has_the_room_id_its_version_wants() {
    every_version(|room| {
        let elsewhere = altered(&room, room.state[0].pdu(), |tree| {
            tree["room_id"] = "!x:other.org".into()
        });
        let expected = match room.rules.room_id {
            RoomIdFormat::Domain => Rule::CreateRoomIdDomain,
            RoomIdFormat::CreateHash => Rule::CreateHasRoomId,
        };
        assert_eq!(room.check(&elsewhere), Err(expected));
    });
}

#[test]
fn create_names_a_known_room_version() {
    every_version(|room| {
        for bad in [json!("unknown"), json!(10), json!(null)] {
            let event = altered(&room, room.state[0].pdu(), |tree| {
                tree["content"]["room_version"] = bad.clone()
            });
            assert_eq!(room.check(&event), Err(Rule::CreateRoomVersion));
        }
    });
}

#[test]
fn create_names_the_creator_up_to_version_10() {
    every_version(|room| {
        let without = altered(&room, room.state[0].pdu(), |tree| {
            tree["content"].as_object_mut().unwrap().remove("creator");
        });
        let expected = match room.rules.auth.creator_is_sender {
            true => Ok(()),
            false => Err(Rule::CreateNoCreator),
        };
        assert_eq!(room.check(&without), expected);
    });
}

#[test]
fn additional_creators_are_user_ids_in_version_12() {
    every_version(|room| {
        for bad in [
            json!("@a:b"),
            json!([1]),
            json!(["a"]),
            json!([null]),
            json!({}),
        ] {
            let event = altered(&room, room.state[0].pdu(), |tree| {
                tree["content"]["additional_creators"] = bad.clone()
            });
            let expected = match room.rules.auth.creators_privileged {
                true => Err(Rule::CreateAdditionalCreators),
                false => Ok(()),
            };
            assert_eq!(room.check(&event), expected, "{bad}");
        }
    });
}

#[test]
fn the_room_id_is_that_of_an_accepted_create_event_in_version_12() {
    let mut room = Room::new(RoomVersion::V12);
    let message = room.event(MEMBER, "m.room.message", None, json!({}));
    assert_eq!(room.check(&message), Ok(()));
    room.state[0] = AuthEvent::rejected(room.rules, room.state[0].pdu().clone());
    assert_eq!(room.check(&message), Err(Rule::RoomIdNotCreate));
    let other = Room::created_with(RoomVersion::V12, json!({"x": 1}));
    assert_eq!(other.check(&message), Err(Rule::RoomIdNotCreate));
}

#[test]
fn without_a_create_event_nothing_is_allowed() {
    every_version(|mut room| {
        room.unset("m.room.create", "");
        assert_eq!(
            room.message(CREATOR, "m.room.message"),
            Err(Rule::NoCreateEvent)
        );
    });
}

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
fn a_closed_room_takes_no_events_of_other_servers() {
    for version in RoomVersion::ALL {
        let mut room = Room::created_with(version, json!({"m.federate": false}));
        assert_eq!(room.message(CREATOR, "m.room.message"), Ok(()));
        assert_eq!(
            room.message(MEMBER, "m.room.message"),
            Err(Rule::NotFederated)
        );
        assert_eq!(
            room.member(STRANGER, STRANGER, "join"),
            Err(Rule::NotFederated)
        );
        let mut room = Room::created_with(version, json!({"m.federate": true}));
        assert_eq!(room.message(MEMBER, "m.room.message"), Ok(()));
    }
}

#[test]
fn aliases_belong_to_the_senders_server_up_to_version_5() {
    for version in versions(RoomVersion::V1, RoomVersion::V5) {
        let mut room = Room::new(version);
        // Not even membership is asked for.
        assert_eq!(
            room.state(STRANGER, "m.room.aliases", "c.org", json!({})),
            Ok(())
        );
        assert_eq!(
            room.state(STRANGER, "m.room.aliases", "a.org", json!({})),
            Err(Rule::AliasesOtherDomain)
        );
        assert_eq!(
            room.message(STRANGER, "m.room.aliases"),
            Err(Rule::AliasesNoStateKey)
        );
    }
    for version in versions(RoomVersion::V6, RoomVersion::V12) {
        let mut room = Room::new(version);
        assert_eq!(
            room.state(STRANGER, "m.room.aliases", "c.org", json!({})),
            Err(Rule::SenderNotJoined)
        );
        assert_eq!(
            room.state(MEMBER, "m.room.aliases", "b.org", json!({})),
            Err(Rule::RequiredLevel)
        );
    }
}

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

#[test]
fn rules_have_the_numbers_of_the_specification() {
    // Room versions 1 and 3 to 5 share all numbers they both have.
    let v = [
        RoomVersion::V1,
        RoomVersion::V6,
        RoomVersion::V7,
        RoomVersion::V8,
        RoomVersion::V10,
        RoomVersion::V12,
    ];
    let table = [
        (
            Rule::CreateHasPrevEvents,
            ["1.1", "1.1", "1.1", "1.1", "1.1", "1.1"],
        ),
        (
            Rule::AuthEventsDuplicate,
            ["2.1", "2.1", "2.1", "2.1", "2.1", "3.1"],
        ),
        (
            Rule::AuthEventsOtherRoom,
            ["2.5", "2.5", "2.5", "2.5", "2.5", "3.5"],
        ),
        (Rule::NotFederated, ["3", "3", "3", "3", "3", "4"]),
        (
            Rule::MemberIncomplete,
            ["5.1", "4.1", "4.1", "4.1", "4.1", "5.1"],
        ),
        (
            Rule::JoinBanned,
            ["5.2.3", "4.2.3", "4.2.3", "4.3.3", "4.3.3", "5.3.3"],
        ),
        (
            Rule::JoinNotAllowed,
            ["5.2.6", "4.2.6", "4.2.6", "4.3.7", "4.3.7", "5.3.7"],
        ),
        (
            Rule::ThirdPartyBadSignature,
            [
                "5.3.1.8", "4.3.1.8", "4.3.1.8", "4.4.1.8", "4.4.1.8", "5.4.1.8",
            ],
        ),
        (
            Rule::InviteLevel,
            ["5.3.5", "4.3.5", "4.3.5", "4.4.5", "4.4.5", "5.4.5"],
        ),
        (
            Rule::LeaveUnbanLevel,
            ["5.4.3", "4.4.3", "4.4.3", "4.5.3", "4.5.3", "5.5.3"],
        ),
        (
            Rule::BanLevel,
            ["5.5.3", "4.5.3", "4.5.3", "4.6.3", "4.6.3", "5.6.3"],
        ),
        (
            Rule::MembershipUnknown,
            ["5.6", "4.6", "4.7", "4.8", "4.8", "5.8"],
        ),
        (Rule::SenderNotJoined, ["6", "5", "5", "5", "5", "6"]),
        (
            Rule::ThirdPartyInviteLevel,
            ["7.1", "6.1", "6.1", "6.1", "6.1", "7.1"],
        ),
        (Rule::RequiredLevel, ["8", "7", "7", "7", "7", "8"]),
        (Rule::StateKeyOfOther, ["9", "8", "8", "8", "8", "9"]),
        (
            Rule::PowerLevelsUsers,
            ["10.1", "9.1", "9.1", "9.1", "9.3", "10.3"],
        ),
        (
            Rule::PowerLevelsFieldNew,
            ["10.3.2", "9.3.2", "9.3.2", "9.3.2", "9.5.2", "10.6.2"],
        ),
        (
            Rule::PowerLevelsEventNew,
            ["10.5.1", "9.5.1", "9.5.1", "9.5.1", "9.7.1", "10.8.1"],
        ),
        (
            Rule::PowerLevelsUserNew,
            ["10.7.1", "9.7.1", "9.7.1", "9.7.1", "9.9.1", "10.10.1"],
        ),
    ];
    for (rule, numbers) in table {
        for (version, number) in v.into_iter().zip(numbers) {
            assert_eq!(
                rule.number(version.rules()),
                number,
                "{rule:?} in version {version}"
            );
        }
    }
    assert_eq!(Rule::RedactionLevel.number(RoomVersion::V2.rules()), "11.3");
    assert_eq!(
        Rule::AliasesOtherDomain.number(RoomVersion::V5.rules()),
        "4.2"
    );
    assert_eq!(Rule::KnockJoinRule.number(RoomVersion::V7.rules()), "4.6.1");
    assert_eq!(
        Rule::KnockJoinRule.number(RoomVersion::V12.rules()),
        "5.7.1"
    );
    assert_eq!(
        Rule::PowerLevelsCreator.number(RoomVersion::V12.rules()),
        "10.4"
    );
    assert_eq!(Rule::RoomIdNotCreate.number(RoomVersion::V12.rules()), "2");
}
