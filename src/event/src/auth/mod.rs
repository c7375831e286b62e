//! The authorisation rules: whether an event may happen in a given state of its room.
//!
//! [`auth_types`] says which state decides, [`check_auth_events`] checks the list of `auth_events` itself, [`check`]
//! applies the rules against one state. On receipt a server calls `check` up to three times, with the auth events,
//! the state before the event and the current state of the room.
//!
//! Signatures are not checked here, but for third-party invites, whose keys are in the state. The rule that a
//! restricted join is signed by the authorising server is part of [`crate::signature::required_servers`].
//!
//! Source: "Authorisation rules" of each room version. Rule numbers differ; [`Rule::number`] knows them.

mod auth_event;
mod create;
mod member;
mod power_levels;
mod power_levels_change;
mod rule;
mod selection;

pub use auth_event::{AuthEvent, JoinRule, Membership, StateLookup};
pub use create::Creators;
pub use power_levels::{MalformedPowerLevels, PowerLevel, PowerLevels, PowerLevelsContent};
pub use rule::{AuthError, Rule};
pub use selection::{AuthKey, auth_types, auth_types_of, is_auth_type};

use crate::identifier;
use crate::pdu::{Pdu, room_id_of_create};
use crate::room_version::{RoomIdFormat, RoomRules};

/// The state an event is checked against, reduced to what the rules ask for.
struct Context<'a, S: ?Sized> {
    rules: &'a RoomRules,
    pdu: &'a Pdu,
    state: &'a S,
    create: &'a AuthEvent,
    creators: &'a Creators,
}

impl<'a, S: StateLookup + ?Sized> Context<'a, S> {
    fn reject(&self, rule: Rule) -> AuthError {
        AuthError::new(self.rules, rule)
    }

    fn membership(&self, user_id: &str) -> Membership {
        self.state
            .get("m.room.member", user_id)
            .and_then(AuthEvent::membership)
            .unwrap_or(Membership::Leave)
    }

    fn power_levels(&self) -> Result<PowerLevels<'a>, AuthError> {
        let content = match self.state.get("m.room.power_levels", "") {
            Some(event) => Some(
                event
                    .power_levels()
                    .ok_or_else(|| self.reject(Rule::CurrentPowerLevels))?,
            ),
            None => None,
        };
        Ok(PowerLevels::new(self.rules, content, self.creators))
    }
}

/// Checks the rules that concern `auth_events` itself: `auth_events` are the events the list names, all of them.
///
/// Needed once per event, on receipt. Create events have none and are checked wholly by [`check`].
pub fn check_auth_events(
    rules: &RoomRules,
    pdu: &Pdu,
    auth_events: &[&AuthEvent],
) -> Result<(), AuthError> {
    if pdu.event_type() == "m.room.create" {
        return Ok(());
    }
    let reject = |rule| Err(AuthError::new(rules, rule));
    let expected = auth_types_of(rules, pdu);
    let mut has_create = false;
    for (index, event) in auth_events.iter().enumerate() {
        let (event_type, state_key) = (event.pdu().event_type(), event.pdu().state_key());
        let same_key = |other: &&&AuthEvent| {
            other.pdu().event_type() == event_type && other.pdu().state_key() == state_key
        };
        if auth_events[..index].iter().find(same_key).is_some() {
            return reject(Rule::AuthEventsDuplicate);
        }
        let selected = expected
            .iter()
            .any(|(t, k)| *t == event_type && Some(k.as_ref()) == state_key);
        if !selected {
            return reject(Rule::AuthEventsUnexpected);
        }
        if event.is_rejected() {
            return reject(Rule::AuthEventsRejected);
        }
        if event.pdu().room_id() != pdu.room_id() {
            return reject(Rule::AuthEventsOtherRoom);
        }
        has_create |= event_type == "m.room.create";
    }
    if !has_create && rules.room_id == RoomIdFormat::Domain {
        return reject(Rule::AuthEventsNoCreate);
    }
    Ok(())
}

/// Checks an event against a state of its room. The state must answer at least the keys of [`auth_types`] and
/// `m.room.create`, as far as it has them.
pub fn check<S: StateLookup + ?Sized>(
    rules: &RoomRules,
    pdu: &Pdu,
    state: &S,
) -> Result<(), AuthError> {
    let reject = |rule| Err(AuthError::new(rules, rule));
    // 1. If type is m.room.create
    if pdu.event_type() == "m.room.create" {
        return create::check(rules, pdu);
    }
    let Some(create) = state.get("m.room.create", "") else {
        return reject(Rule::NoCreateEvent);
    };
    let Some(creators) = create.creators() else {
        return reject(Rule::NoCreateEvent);
    };
    // 2. (version 12) the room id is that of an accepted create event
    if rules.room_id == RoomIdFormat::CreateHash
        && (create.is_rejected() || room_id_of_create(create.pdu().event_id()) != pdu.room_id())
    {
        return reject(Rule::RoomIdNotCreate);
    }
    // 3. m.federate
    if !creators.federate() && !identifier::same_domain(pdu.sender(), create.pdu().sender()) {
        return reject(Rule::NotFederated);
    }
    // 4. m.room.aliases
    if rules.auth.aliases_rule && pdu.event_type() == "m.room.aliases" {
        return match pdu.state_key() {
            None => reject(Rule::AliasesNoStateKey),
            Some(key) if identifier::domain(pdu.sender()) != Some(key) => {
                reject(Rule::AliasesOtherDomain)
            }
            Some(_) => Ok(()),
        };
    }
    let context = Context {
        rules,
        pdu,
        state,
        create,
        creators,
    };
    // 5. m.room.member
    if pdu.event_type() == "m.room.member" {
        return member::check(&context);
    }
    // 6. the sender is joined
    if context.membership(pdu.sender()) != Membership::Join {
        return reject(Rule::SenderNotJoined);
    }
    let levels = context.power_levels()?;
    let sender_level = levels.user(pdu.sender());
    // 7. m.room.third_party_invite
    if pdu.event_type() == "m.room.third_party_invite" {
        return match sender_level >= levels.invite() {
            true => Ok(()),
            false => reject(Rule::ThirdPartyInviteLevel),
        };
    }
    // 8. the required power level
    if sender_level < levels.to_send(pdu.event_type(), pdu.state_key().is_some()) {
        return reject(Rule::RequiredLevel);
    }
    // 9. state keys that are user ids
    if pdu
        .state_key()
        .is_some_and(|key| key.starts_with('@') && key != pdu.sender())
    {
        return reject(Rule::StateKeyOfOther);
    }
    // 10. m.room.power_levels. As in other servers the rule is for the type, whatever the state key.
    if pdu.event_type() == "m.room.power_levels" {
        return power_levels_change::check(&context, &levels, sender_level);
    }
    // 11. m.room.redaction
    if rules.auth.redaction_rule && pdu.event_type() == "m.room.redaction" {
        let same_domain = pdu
            .redacts()
            .is_some_and(|id| identifier::same_domain(id, pdu.event_id()));
        if sender_level < levels.redact() && !same_domain {
            return reject(Rule::RedactionLevel);
        }
    }
    Ok(())
}
