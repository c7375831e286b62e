//! For every rule that rejects, by its number in the specification: an event that this rule refuses, and one next to it
//! that is allowed. A rule of a version without a case, and a case for a rule that the version does not have, fail.

use std::collections::BTreeSet;

use event::auth::{self, Rule};
use event::{
    AuthEvent, Pdu, RoomIdFormat, RoomVersion, SignatureError, SigningKey, VerifyKey, signature,
};
use serde_json::{Value, json};

use crate::altered;
use crate::numbers::numbers;
use crate::room::{self, CREATOR, MEMBER, MODERATOR, Room, STRANGER};

type Verdict = Result<(), Rule>;

/// The cases of one version.
struct Cases {
    version: RoomVersion,
    covered: BTreeSet<String>,
}

impl Cases {
    fn room(&self) -> Room {
        Room::new(self.version)
    }

    fn case(&mut self, rule: Rule, refused: Verdict, allowed: Verdict) {
        let number = rule.number(self.version.rules());
        assert_eq!(
            refused,
            Err(rule),
            "rule {number} of version {}",
            self.version
        );
        assert_eq!(
            allowed,
            Ok(()),
            "beside rule {number} of version {}",
            self.version
        );
        self.covered.insert(number);
    }
}

#[test]
fn every_rule_of_every_version_refuses_one_event_and_allows_the_one_next_to_it() {
    for version in RoomVersion::ALL {
        let mut cases = Cases {
            version,
            covered: BTreeSet::new(),
        };
        create(&mut cases);
        auth_events(&mut cases);
        servers(&mut cases);
        signatures(&mut cases);
        join(&mut cases);
        invite(&mut cases);
        third_party_invite(&mut cases);
        leave_and_ban(&mut cases);
        knock(&mut cases);
        any_type(&mut cases);
        power_levels_form(&mut cases);
        power_levels_changes(&mut cases);
        redaction(&mut cases);
        let numbers = numbers(version);
        let expected: BTreeSet<String> = numbers.split_whitespace().map(str::to_owned).collect();
        assert_eq!(cases.covered, expected, "version {version}");
    }
}

fn create(cases: &mut Cases) {
    let room = cases.room();
    let create = room.state[0].pdu();
    let allowed = room.check(create);
    let with = |change: &dyn Fn(&mut Value)| room.check(&altered(&room, create, change));
    let reference = match room.rules.references {
        event::ReferenceFormat::Plain => json!(["$a"]),
        event::ReferenceFormat::WithHash => json!([["$a:b", {"sha256": "x"}]]),
    };
    let child = with(&|tree| tree["prev_events"] = reference.clone());
    cases.case(Rule::CreateHasPrevEvents, child, allowed);
    let elsewhere = with(&|tree| tree["room_id"] = "!x:b.org".into());
    match room.rules.room_id {
        RoomIdFormat::Domain => cases.case(Rule::CreateRoomIdDomain, elsewhere, allowed),
        RoomIdFormat::CreateHash => cases.case(Rule::CreateHasRoomId, elsewhere, allowed),
    }
    let unknown = with(&|tree| tree["content"]["room_version"] = "0".into());
    // Absent means version 1.
    let absent = with(&|tree| {
        drop(
            tree["content"]
                .as_object_mut()
                .unwrap()
                .remove("room_version"),
        )
    });
    cases.case(Rule::CreateRoomVersion, unknown, absent);
    if !room.rules.auth.creator_is_sender {
        let nobody = with(&|tree| drop(tree["content"].as_object_mut().unwrap().remove("creator")));
        cases.case(Rule::CreateNoCreator, nobody, allowed);
    }
    if room.rules.auth.creators_privileged {
        let additional =
            |ids: Value| with(&|tree| tree["content"]["additional_creators"] = ids.clone());
        let allowed = additional(json!(["@b:b.org"]));
        cases.case(
            Rule::CreateAdditionalCreators,
            additional(json!(["b"])),
            allowed,
        );
    }
}

fn auth_events(cases: &mut Cases) {
    let mut room = cases.room();
    let message = room.event(MEMBER, "m.room.message", None, json!({}));
    let find = |event_type, key| room.get(event_type, key).unwrap();
    let [create, levels, member] = [
        find("m.room.create", ""),
        find("m.room.power_levels", ""),
        find("m.room.member", MEMBER),
    ];
    let check = |events: &[&AuthEvent]| {
        auth::check_auth_events(room.rules, &message, events).map_err(|error| error.rule)
    };
    let mut base = vec![levels, member];
    if room.rules.room_id == RoomIdFormat::Domain {
        cases.case(
            Rule::AuthEventsNoCreate,
            check(&base),
            check(&[create, levels, member]),
        );
        base.push(create);
    } else {
        let allowed = room.check(&message);
        let mut without = room.clone();
        without.state[0] = AuthEvent::rejected(room.rules, create.pdu().clone());
        cases.case(Rule::RoomIdNotCreate, without.check(&message), allowed);
        cases.case(
            Rule::AuthEventsUnexpected,
            check(&[create, levels, member]),
            check(&base),
        );
    }
    let allowed = check(&base);
    let with = |extra| check(&[&base[..], &[extra]].concat());
    cases.case(Rule::AuthEventsDuplicate, with(levels), allowed);
    let stranger = find("m.room.member", CREATOR);
    cases.case(Rule::AuthEventsUnexpected, with(stranger), allowed);
    let replaced = |other: &AuthEvent| {
        let events: Vec<&AuthEvent> = base
            .iter()
            .map(|event| {
                if std::ptr::eq(*event, member) {
                    other
                } else {
                    *event
                }
            })
            .collect();
        check(&events)
    };
    let rejected = AuthEvent::rejected(room.rules, member.pdu().clone());
    cases.case(Rule::AuthEventsRejected, replaced(&rejected), allowed);
    let elsewhere = altered(&room, member.pdu(), |tree| {
        tree["room_id"] = "!x:a.org".into()
    });
    let elsewhere = AuthEvent::new(room.rules, elsewhere);
    cases.case(Rule::AuthEventsOtherRoom, replaced(&elsewhere), allowed);
}

fn servers(cases: &mut Cases) {
    let mut room = Room::created_with(cases.version, json!({"m.federate": false}));
    let [refused, allowed] =
        [MEMBER, MODERATOR].map(|sender| room.message(sender, "m.room.message"));
    cases.case(Rule::NotFederated, refused, allowed);
    let mut room = cases.room();
    if room.rules.auth.aliases_rule {
        let allowed = room.state(STRANGER, "m.room.aliases", "c.org", json!({}));
        let other = room.state(STRANGER, "m.room.aliases", "a.org", json!({}));
        cases.case(Rule::AliasesOtherDomain, other, allowed);
        cases.case(
            Rule::AliasesNoStateKey,
            room.message(STRANGER, "m.room.aliases"),
            allowed,
        );
    }
}

/// The one rule that is decided where signatures are checked.
fn signatures(cases: &mut Cases) {
    let mut room = cases.room();
    if !room.rules.auth.restricted {
        return;
    }
    room.set_join_rule("restricted");
    let mut verified = |authoriser: &str| {
        let content = json!({"membership": "join", "join_authorised_via_users_server": authoriser});
        let pdu: Pdu = room.event("@new:a.org", "m.room.member", Some("@new:a.org"), content);
        let keys = |server: &str, _: &str| -> Option<VerifyKey> {
            (server == "a.org").then(|| room::key().verify_key())
        };
        signature::verify_event(room.rules, &pdu, &keys).map(|_| room.check(&pdu))
    };
    assert_eq!(verified(MODERATOR), Ok(Ok(())));
    let server_name = "b.org".to_owned();
    assert_eq!(
        verified(MEMBER),
        Err(SignatureError::Missing { server_name })
    );
    let member = Rule::MemberIncomplete.number(cases.version.rules());
    cases.covered.insert(member.replace(".1", ".2.1"));
}

fn join(cases: &mut Cases) {
    let mut room = cases.room();
    let auth = room.rules.auth;
    let allowed = room.member(STRANGER, STRANGER, "join");
    let nothing = room.state(STRANGER, "m.room.member", STRANGER, json!({}));
    cases.case(Rule::MemberIncomplete, nothing, allowed);
    let no_key = room.message(STRANGER, "m.room.member");
    cases.case(Rule::MemberIncomplete, no_key, allowed);
    cases.case(
        Rule::MembershipUnknown,
        room.member(STRANGER, STRANGER, "jion"),
        allowed,
    );
    cases.case(
        Rule::JoinNotSelf,
        room.member(CREATOR, STRANGER, "join"),
        allowed,
    );
    room.set_member(STRANGER, "ban");
    cases.case(
        Rule::JoinBanned,
        room.member(STRANGER, STRANGER, "join"),
        allowed,
    );
    room.set_join_rule("invite");
    let [left, invited] = ["leave", "invite"].map(|membership| {
        room.set_member(STRANGER, membership);
        room.member(STRANGER, STRANGER, "join")
    });
    cases.case(Rule::JoinNotAllowed, left, invited);
    for (rule, exists) in [
        ("restricted", auth.restricted),
        ("knock_restricted", auth.knock_restricted),
    ] {
        if exists {
            room.set_join_rule(rule);
            let [by_member, by_outsider] = [CREATOR, STRANGER].map(|authoriser| {
                room.set_member(STRANGER, "leave");
                let content =
                    json!({"membership": "join", "join_authorised_via_users_server": authoriser});
                room.state(STRANGER, "m.room.member", STRANGER, content)
            });
            cases.case(Rule::JoinNotAuthorised, by_outsider, by_member);
        }
    }
}

fn invite(cases: &mut Cases) {
    let mut room = cases.room();
    let allowed = room.member(MEMBER, STRANGER, "invite");
    let outside = room.member("@outside:a.org", STRANGER, "invite");
    cases.case(Rule::InviteSenderNotJoined, outside, allowed);
    for membership in ["join", "ban"] {
        room.set_member(STRANGER, membership);
        let there = room.member(MEMBER, STRANGER, "invite");
        cases.case(Rule::InviteTargetJoinedOrBanned, there, allowed);
    }
    room.set_member(STRANGER, "leave");
    room.set_levels(json!({"invite": 50}));
    let [low, enough] = [MEMBER, MODERATOR].map(|sender| room.member(sender, STRANGER, "invite"));
    cases.case(Rule::InviteLevel, low, enough);
}

fn third_party_invite(cases: &mut Cases) {
    let mut room = cases.room();
    let identity = SigningKey::generate("identity.org", [9; 32]);
    let signed = |mut content: Value| {
        identity.sign_value(&mut content).unwrap();
        json!({"signed": content})
    };
    let offer = json!({"public_key": identity.verify_key().to_base64()});
    room.set(MEMBER, "m.room.third_party_invite", "token", offer.clone());
    room.set(CREATOR, "m.room.third_party_invite", "other's", offer);
    let invite = |room: &mut Room, third_party: &Value| {
        let content = json!({"membership": "invite", "third_party_invite": third_party});
        room.state(MEMBER, "m.room.member", STRANGER, content)
    };
    let good = signed(json!({"mxid": STRANGER, "token": "token"}));
    let allowed = invite(&mut room, &good);
    let mut forged = good.clone();
    forged["signed"]["signatures"]["identity.org"]["x"] = 1.into();
    forged["signed"]["x"] = 1.into();
    let bad = [
        (Rule::ThirdPartyNotSigned, json!({"display_name": "s"})),
        (
            Rule::ThirdPartyIncomplete,
            signed(json!({"mxid": STRANGER})),
        ),
        (
            Rule::ThirdPartyIncomplete,
            signed(json!({"token": "token"})),
        ),
        (
            Rule::ThirdPartyOtherUser,
            signed(json!({"mxid": MODERATOR, "token": "token"})),
        ),
        (
            Rule::ThirdPartyUnknownToken,
            signed(json!({"mxid": STRANGER, "token": "?"})),
        ),
        (
            Rule::ThirdPartyOtherSender,
            signed(json!({"mxid": STRANGER, "token": "other's"})),
        ),
        (Rule::ThirdPartyBadSignature, forged),
    ];
    for (rule, third_party) in bad {
        cases.case(rule, invite(&mut room, &third_party), allowed);
    }
    room.set_member(STRANGER, "ban");
    cases.case(Rule::ThirdPartyBanned, invite(&mut room, &good), allowed);
}

fn leave_and_ban(cases: &mut Cases) {
    let mut room = cases.room();
    let [left, invited] = ["leave", "invite"].map(|membership| {
        room.set_member(STRANGER, membership);
        room.member(STRANGER, STRANGER, "leave")
    });
    cases.case(Rule::LeaveNotMember, left, invited);
    room.set_levels(json!({"users": {MODERATOR: 50, "@out:a.org": 50}}));
    for (membership, outside) in [
        ("leave", Rule::LeaveSenderNotJoined),
        ("ban", Rule::BanSenderNotJoined),
    ] {
        let allowed = room.member(MODERATOR, MEMBER, membership);
        cases.case(
            outside,
            room.member("@out:a.org", MEMBER, membership),
            allowed,
        );
    }
    for (membership, field, rule) in [
        ("leave", "kick", Rule::LeaveKickLevel),
        ("ban", "ban", Rule::BanLevel),
    ] {
        room.set_levels(json!({field: 51}));
        let low = room.member(MODERATOR, MEMBER, membership);
        room.set_levels(json!({field: 50}));
        cases.case(rule, low, room.member(MODERATOR, MEMBER, membership));
        let [peer, below] = [50, 49].map(|level| {
            room.set_levels(json!({"users": {MODERATOR: 50, MEMBER: level}}));
            room.member(MODERATOR, MEMBER, membership)
        });
        cases.case(rule, peer, below);
    }
    room.set_member(STRANGER, "ban");
    let [low, enough] = [51, 50].map(|level| {
        room.set_levels(json!({"ban": level}));
        room.member(MODERATOR, STRANGER, "leave")
    });
    cases.case(Rule::LeaveUnbanLevel, low, enough);
}

fn knock(cases: &mut Cases) {
    let mut room = cases.room();
    if !room.rules.auth.knock {
        return;
    }
    let [closed, open] = ["invite", "knock"].map(|rule| {
        room.set_join_rule(rule);
        room.member(STRANGER, STRANGER, "knock")
    });
    cases.case(Rule::KnockJoinRule, closed, open);
    cases.case(
        Rule::KnockNotSelf,
        room.member(MEMBER, STRANGER, "knock"),
        open,
    );
    for membership in ["ban", "invite", "join"] {
        room.set_member(STRANGER, membership);
        let again = room.member(STRANGER, STRANGER, "knock");
        cases.case(Rule::KnockMembership, again, open);
    }
}

fn any_type(cases: &mut Cases) {
    let mut room = cases.room();
    let [outside, inside] = [STRANGER, MEMBER].map(|sender| room.message(sender, "m.room.message"));
    cases.case(Rule::SenderNotJoined, outside, inside);
    let [low, enough] =
        [MEMBER, MODERATOR].map(|sender| room.state(sender, "m.room.topic", "", json!({})));
    cases.case(Rule::RequiredLevel, low, enough);
    let [other, own] =
        [MEMBER, MODERATOR].map(|key| room.state(MODERATOR, "org.own", key, json!({})));
    cases.case(Rule::StateKeyOfOther, other, own);
    let [low, enough] = [1, 0].map(|level| {
        room.set_levels(json!({"invite": level}));
        room.state(MEMBER, "m.room.third_party_invite", "t", json!({}))
    });
    cases.case(Rule::ThirdPartyInviteLevel, low, enough);
}

/// Whether `sender` may set the usual levels with these changes.
fn change(room: &mut Room, sender: &str, changes: Value) -> Verdict {
    let content = room.levels(changes);
    room.state(sender, "m.room.power_levels", "", content)
}

/// Levels of the moderator, the creator and some others.
fn users(room: &Room, mut levels: Value) -> Value {
    levels[MODERATOR] = 50.into();
    if !room.rules.auth.creators_privileged {
        levels[CREATOR] = 100.into();
    }
    json!({"users": levels})
}

fn power_levels_form(cases: &mut Cases) {
    let mut room = cases.room();
    let auth = room.rules.auth;
    let mut by_creator = |changes: Value| change(&mut room, CREATOR, changes);
    for bad in [
        json!({MEMBER: true}),
        json!({"member": 1}),
        json!([]),
        json!({MEMBER: null}),
    ] {
        let allowed = by_creator(json!({"users": {MEMBER: 1}}));
        cases.case(
            Rule::PowerLevelsUsers,
            by_creator(json!({"users": bad})),
            allowed,
        );
    }
    if auth.integer_power_levels {
        for field in [
            "users_default",
            "events_default",
            "state_default",
            "ban",
            "redact",
            "kick",
            "invite",
        ] {
            let allowed = by_creator(json!({field: 1}));
            cases.case(
                Rule::PowerLevelsField,
                by_creator(json!({field: "1"})),
                allowed,
            );
        }
        for map in ["events", "notifications"] {
            let allowed = by_creator(json!({map: {"x": 1}}));
            cases.case(
                Rule::PowerLevelsMap,
                by_creator(json!({map: {"x": "1"}})),
                allowed,
            );
            cases.case(Rule::PowerLevelsMap, by_creator(json!({map: 1})), allowed);
        }
        cases.case(
            Rule::PowerLevelsUsers,
            by_creator(json!({"users": {MEMBER: "1"}})),
            by_creator(json!({"users": {MEMBER: 1}})),
        );
    }
    if auth.creators_privileged {
        cases.case(
            Rule::PowerLevelsCreator,
            by_creator(json!({"users": {CREATOR: 1}})),
            by_creator(json!({"users": {MEMBER: 1}})),
        );
    }
}

fn power_levels_changes(cases: &mut Cases) {
    let mut room = cases.room();
    let maps: &[&str] = match room.rules.auth.notifications_levels {
        true => &["events", "notifications"],
        false => &["events"],
    };
    for field in [
        "users_default",
        "events_default",
        "state_default",
        "ban",
        "redact",
        "kick",
        "invite",
    ] {
        room.set_levels(json!({field: 50}));
        let [high, own] = [51, 49].map(|level| change(&mut room, MODERATOR, json!({field: level})));
        cases.case(Rule::PowerLevelsFieldNew, high, own);
        // The event itself takes level 50, whatever `state_default` is.
        let [lowered, kept] = [50, 51].map(|level| {
            room.set_levels(json!({field: 51, "events": {"m.room.power_levels": 50}}));
            let changes = json!({field: level, "events": {"m.room.power_levels": 50}});
            change(&mut room, MODERATOR, changes)
        });
        cases.case(Rule::PowerLevelsFieldCurrent, lowered, kept);
    }
    for &map in maps {
        room.set_levels(json!({map: {"x": 51}}));
        let mut to = |levels: Value| change(&mut room, MODERATOR, json!({map: levels}));
        let (kept, lowered, removed) = (to(json!({"x": 51})), to(json!({"x": 50})), to(json!({})));
        cases.case(Rule::PowerLevelsEventCurrent, lowered, kept);
        cases.case(Rule::PowerLevelsEventCurrent, removed, kept);
        let [high, own] = [51, 50].map(|level| to(json!({"x": 51, "y": level})));
        cases.case(Rule::PowerLevelsEventNew, high, own);
    }
    let [peer, below] = [50, 49].map(|level| {
        let there = users(&room, json!({MEMBER: level}));
        room.set_levels(there);
        let lowered = users(&room, json!({MEMBER: 1}));
        change(&mut room, MODERATOR, lowered)
    });
    cases.case(Rule::PowerLevelsUserCurrent, peer, below);
    let [high, own] = [51, 50].map(|level| {
        let raised = users(&room, json!({MEMBER: level}));
        change(&mut room, MODERATOR, raised)
    });
    cases.case(Rule::PowerLevelsUserNew, high, own);
}

fn redaction(cases: &mut Cases) {
    let mut room = cases.room();
    if !room.rules.auth.redaction_rule {
        return;
    }
    let mut redact = |sender: &str, target: &str| {
        let prev_events = &["$p:a.org"];
        let pdu = room.event_with(
            prev_events,
            Some(target),
            sender,
            "m.room.redaction",
            None,
            json!({}),
        );
        room.check(&pdu)
    };
    let refused = redact(MEMBER, "$x:a.org");
    cases.case(Rule::RedactionLevel, refused, redact(MEMBER, "$x:b.org"));
    cases.case(Rule::RedactionLevel, refused, redact(MODERATOR, "$x:a.org"));
}
