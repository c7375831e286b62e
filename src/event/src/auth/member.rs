//! The rules for `m.room.member`: join, invite, leave, ban, knock.
//!
//! Comments give the rule's number within the member rule of room version 12.

use super::Context;
use super::auth_event::{JoinRule, Membership, StateLookup};
use super::rule::{AuthError, Rule};
use crate::json;
use crate::signing_key::{VerifyKey, signed_bytes};

pub(super) fn check<S: StateLookup + ?Sized>(context: &Context<'_, S>) -> Result<(), AuthError> {
    // 1. state_key and membership are there
    let target = context.pdu.state_key();
    let membership = Membership::of_content(context.pdu.content());
    let (Some(target), Some(membership)) = (target, membership) else {
        return Err(context.reject(Rule::MemberIncomplete));
    };
    match membership {
        Membership::Join => join(context, target),
        Membership::Invite => invite(context, target),
        Membership::Leave => leave(context, target),
        Membership::Ban => ban(context, target),
        Membership::Knock if context.rules.auth.knock => knock(context, target),
        _ => Err(context.reject(Rule::MembershipUnknown)),
    }
}

/// The room's join rule, as far as the room version knows it.
fn join_rule<S: StateLookup + ?Sized>(context: &Context<'_, S>) -> JoinRule {
    let event = context.state.get("m.room.join_rules", "");
    let rule = event.map_or(JoinRule::DEFAULT, |event| {
        event.join_rule().unwrap_or(JoinRule::Other)
    });
    let auth = &context.rules.auth;
    match rule {
        JoinRule::Knock if !auth.knock => JoinRule::Other,
        JoinRule::Restricted if !auth.restricted => JoinRule::Other,
        JoinRule::KnockRestricted if !auth.knock_restricted => JoinRule::Other,
        rule => rule,
    }
}

fn join<S: StateLookup + ?Sized>(context: &Context<'_, S>, target: &str) -> Result<(), AuthError> {
    // 3.1. the creator's first join
    let mut prev_events = context.pdu.prev_events();
    if let (Some(only), None) = (prev_events.next(), prev_events.next())
        && only == context.create.pdu().event_id().as_str()
        && context.creators.creator() == Some(target)
    {
        return Ok(());
    }
    // 3.2.
    if context.pdu.sender() != target {
        return Err(context.reject(Rule::JoinNotSelf));
    }
    // 3.3.
    let current = context.membership(target);
    if current == Membership::Ban {
        return Err(context.reject(Rule::JoinBanned));
    }
    let invited = matches!(current, Membership::Invite | Membership::Join);
    match join_rule(context) {
        // 3.4. and 3.6.
        JoinRule::Invite | JoinRule::Knock if invited => Ok(()),
        JoinRule::Public => Ok(()),
        // 3.5.
        JoinRule::Restricted | JoinRule::KnockRestricted => {
            if invited || authorised(context)? {
                return Ok(());
            }
            Err(context.reject(Rule::JoinNotAuthorised))
        }
        // 3.7.
        _ => Err(context.reject(Rule::JoinNotAllowed)),
    }
}

/// Whether `join_authorised_via_users_server` names a joined member who may invite.
fn authorised<S: StateLookup + ?Sized>(context: &Context<'_, S>) -> Result<bool, AuthError> {
    let Some(authoriser) = context.pdu.content_str("join_authorised_via_users_server") else {
        return Ok(false);
    };
    let levels = context.power_levels()?;
    Ok(context.membership(&authoriser) == Membership::Join
        && levels.user(&authoriser) >= levels.invite())
}

fn invite<S: StateLookup + ?Sized>(
    context: &Context<'_, S>,
    target: &str,
) -> Result<(), AuthError> {
    // 4.1.
    if let Some(invite) = json::member(context.pdu.content(), "third_party_invite") {
        return third_party_invite(context, target, invite);
    }
    // 4.2.
    if context.membership(context.pdu.sender()) != Membership::Join {
        return Err(context.reject(Rule::InviteSenderNotJoined));
    }
    // 4.3.
    if matches!(
        context.membership(target),
        Membership::Join | Membership::Ban
    ) {
        return Err(context.reject(Rule::InviteTargetJoinedOrBanned));
    }
    // 4.4. and 4.5.
    let levels = context.power_levels()?;
    match levels.user(context.pdu.sender()) >= levels.invite() {
        true => Ok(()),
        false => Err(context.reject(Rule::InviteLevel)),
    }
}

fn third_party_invite<S: StateLookup + ?Sized>(
    context: &Context<'_, S>,
    target: &str,
    invite: &str,
) -> Result<(), AuthError> {
    // 4.1.1.
    if context.membership(target) == Membership::Ban {
        return Err(context.reject(Rule::ThirdPartyBanned));
    }
    // 4.1.2.
    let Some(signed) = json::member(invite, "signed") else {
        return Err(context.reject(Rule::ThirdPartyNotSigned));
    };
    // 4.1.3.
    let string = |key| json::member(signed, key).and_then(json::string);
    let (Some(mxid), Some(token)) = (string("mxid"), string("token")) else {
        return Err(context.reject(Rule::ThirdPartyIncomplete));
    };
    // 4.1.4.
    if mxid != target {
        return Err(context.reject(Rule::ThirdPartyOtherUser));
    }
    // 4.1.5.
    let Some(offer) = context.state.get("m.room.third_party_invite", &token) else {
        return Err(context.reject(Rule::ThirdPartyUnknownToken));
    };
    // 4.1.6.
    if offer.pdu().sender() != context.pdu.sender() {
        return Err(context.reject(Rule::ThirdPartyOtherSender));
    }
    // 4.1.7. and 4.1.8.
    match signed_by_any(signed, &public_keys(offer.pdu().content())) {
        true => Ok(()),
        false => Err(context.reject(Rule::ThirdPartyBadSignature)),
    }
}

/// `public_key`, and the keys of `public_keys`, of an `m.room.third_party_invite` event.
fn public_keys(content: &str) -> Vec<VerifyKey> {
    let single = json::member(content, "public_key");
    let list = json::member(content, "public_keys")
        .into_iter()
        .flat_map(json::elements);
    single
        .into_iter()
        .chain(list.filter_map(|entry| json::member(entry, "public_key")))
        .filter_map(json::string)
        .filter_map(|key| VerifyKey::from_any_base64(&key))
        .collect()
}

fn signed_by_any(signed: &str, keys: &[VerifyKey]) -> bool {
    let bytes = signed_bytes(signed);
    json::member(signed, "signatures")
        .into_iter()
        .flat_map(json::members)
        .flat_map(|(_, of_server)| json::members(of_server))
        .filter(|(key_id, _)| key_id.starts_with("ed25519:"))
        .filter_map(|(_, signature)| json::string(signature))
        .any(|signature| keys.iter().any(|key| key.verifies(&bytes, &signature)))
}

fn leave<S: StateLookup + ?Sized>(context: &Context<'_, S>, target: &str) -> Result<(), AuthError> {
    let sender_membership = context.membership(context.pdu.sender());
    // 5.1.
    if context.pdu.sender() == target {
        let may_leave = match sender_membership {
            Membership::Invite | Membership::Join => true,
            Membership::Knock => context.rules.auth.knock,
            _ => false,
        };
        return match may_leave {
            true => Ok(()),
            false => Err(context.reject(Rule::LeaveNotMember)),
        };
    }
    // 5.2.
    if sender_membership != Membership::Join {
        return Err(context.reject(Rule::LeaveSenderNotJoined));
    }
    let levels = context.power_levels()?;
    let sender_level = levels.user(context.pdu.sender());
    // 5.3.
    if context.membership(target) == Membership::Ban && sender_level < levels.ban() {
        return Err(context.reject(Rule::LeaveUnbanLevel));
    }
    // 5.4. and 5.5.
    match sender_level >= levels.kick() && levels.user(target) < sender_level {
        true => Ok(()),
        false => Err(context.reject(Rule::LeaveKickLevel)),
    }
}

fn ban<S: StateLookup + ?Sized>(context: &Context<'_, S>, target: &str) -> Result<(), AuthError> {
    // 6.1.
    if context.membership(context.pdu.sender()) != Membership::Join {
        return Err(context.reject(Rule::BanSenderNotJoined));
    }
    // 6.2. and 6.3.
    let levels = context.power_levels()?;
    let sender_level = levels.user(context.pdu.sender());
    match sender_level >= levels.ban() && levels.user(target) < sender_level {
        true => Ok(()),
        false => Err(context.reject(Rule::BanLevel)),
    }
}

fn knock<S: StateLookup + ?Sized>(context: &Context<'_, S>, target: &str) -> Result<(), AuthError> {
    // 7.1.
    if !matches!(
        join_rule(context),
        JoinRule::Knock | JoinRule::KnockRestricted
    ) {
        return Err(context.reject(Rule::KnockJoinRule));
    }
    // 7.2.
    if context.pdu.sender() != target {
        return Err(context.reject(Rule::KnockNotSelf));
    }
    // 7.3. and 7.4.
    match context.membership(target) {
        Membership::Ban | Membership::Invite | Membership::Join => {
            Err(context.reject(Rule::KnockMembership))
        }
        _ => Ok(()),
    }
}
