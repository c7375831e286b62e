//! Joining, inviting, leaving, kicking, banning, knocking.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-membership>

use event::EventId;
use event::auth::{JoinRule, Membership};
use event::json;
use names::{RoomSn, UserSn};
use serde_json::{Map, Value};
use store::Read;

use crate::append::string_member;
use crate::{Error, NewEvent, Result, RoomWriter, Sender, members, partial};

/// What a member event shows of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberProfile {
    /// `displayname`.
    pub displayname: Option<String>,
    /// `avatar_url`.
    pub avatar_url: Option<String>,
}

/// The content of a member event.
pub fn member_content(membership: &str, profile: &MemberProfile, reason: Option<&str>) -> String {
    Value::Object(content_of(membership, profile, reason)).to_string()
}

fn content_of(
    membership: &str,
    profile: &MemberProfile,
    reason: Option<&str>,
) -> Map<String, Value> {
    let mut content = Map::new();
    content.insert("membership".to_owned(), membership.into());
    if let Some(displayname) = &profile.displayname {
        content.insert("displayname".to_owned(), displayname.as_str().into());
    }
    if let Some(avatar_url) = &profile.avatar_url {
        content.insert("avatar_url".to_owned(), avatar_url.as_str().into());
    }
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), reason.into());
    }
    content
}

/// The content of a join that another server lets in.
pub fn join_content(
    profile: &MemberProfile,
    reason: Option<&str>,
    custom: &Map<String, Value>,
) -> Map<String, Value> {
    let mut content = content_of("join", profile, reason);
    for (key, value) in custom_part(Some(custom)) {
        content.insert(key.clone(), value.clone());
    }
    content
}

/// What a user does to their own or another's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The user joins.
    Join,
    /// Another is invited.
    Invite,
    /// The user leaves, or refuses an invitation, or takes a knock back.
    Leave,
    /// Another is made to leave.
    Kick,
    /// Another is kept out.
    Ban,
    /// Another may come in again.
    Unban,
    /// The user asks to be let in.
    Knock,
}

/// A change of membership.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// What is done.
    pub action: Action,
    /// Who does it.
    pub sender: Sender<'a>,
    /// To whom; the sender where they do it to themselves.
    pub target: Sender<'a>,
    /// How the target is shown. Used for joins, invitations and knocks.
    pub profile: MemberProfile,
    /// Why.
    pub reason: Option<&'a str>,
    /// The sender is a guest.
    pub is_guest: bool,
    /// Of an invitation: to a direct chat.
    pub is_direct: bool,
    /// Of a join: what the member event says besides, as bridges and sign-ups make use of it. What is
    /// the server's to say is passed over.
    pub custom: Option<&'a Map<String, Value>>,
}

impl Change<'_> {
    fn custom(&self) -> impl Iterator<Item = (&String, &Value)> {
        custom_part(self.custom)
    }
}

fn custom_part(custom: Option<&Map<String, Value>>) -> impl Iterator<Item = (&String, &Value)> {
    let custom = custom.into_iter().flatten();
    custom.filter(|(key, _)| !NOT_CUSTOM.contains(&key.as_str()))
}

const AUTHORISER: &str = "join_authorised_via_users_server";

/// Members of a content or of a request to join that are the server's to say, or mean something else.
const NOT_CUSTOM: [&str; 8] = [
    "avatar_url",
    "displayname",
    "is_direct",
    AUTHORISER,
    "membership",
    "reason",
    "third_party_invite",
    "third_party_signed",
];

/// Changes a membership. Doing once more what the sender did last changes nothing.
///
/// # Errors
/// [`Error::NotAllowed`] and [`Error::Forbidden`], [`Error::GuestForbidden`]; [`Error::UnknownRoom`] for a
/// room that nobody is left in to be joined; [`Error::MembersMissing`].
pub fn change(writer: &mut RoomWriter<'_>, change: &Change<'_>) -> Result<Option<EventId>> {
    let room = writer.room();
    writer.must_know_member(change.target.user_id)?;
    let before = members::membership(writer.txn(), room, change.target.user)?;
    let (membership, profile) = match change.action {
        Action::Join => ("join", &change.profile),
        Action::Invite => ("invite", &change.profile),
        Action::Knock => ("knock", &change.profile),
        Action::Ban => ("ban", &MemberProfile::default()),
        Action::Leave | Action::Kick | Action::Unban => ("leave", &MemberProfile::default()),
    };
    if matches!(change.action, Action::Join | Action::Knock) && writer.head().joined == 0 {
        return Err(Error::UnknownRoom);
    }
    let repeatable = !matches!(change.action, Action::Kick | Action::Unban | Action::Join);
    let mut content = content_of(membership, profile, change.reason);
    if change.action == Action::Invite && change.is_direct {
        content.insert("is_direct".to_owned(), true.into());
    }
    if change.action == Action::Join {
        for (key, value) in change.custom() {
            content.insert(key.clone(), value.clone());
        }
    }
    let mut content = Value::Object(content).to_string();
    if repeatable && same_member(writer, change.sender, change.target, &content)?.is_some() {
        return Ok(None);
    }
    check_before(change, before)?;
    if change.action == Action::Join {
        if change.is_guest && !guests_may_join(writer)? {
            return Err(Error::GuestForbidden);
        }
        if before == Membership::Join && is_shown_so(writer, change)? {
            return Ok(None);
        }
        if let Some(authoriser) = authoriser(writer, change.sender, before)? {
            let authoriser = Value::from(authoriser);
            content.insert_str(
                content.len() - 1,
                &format!(",\"{AUTHORISER}\":{authoriser}"),
            );
        }
    }
    let (_, event_id) = writer.append(&NewEvent::member(change.sender, change.target, &content))?;
    Ok(Some(event_id))
}

/// Appends a member event whose content the client made itself. Who lets a joining user into a
/// restricted room is for the server to say, whatever the content has.
///
/// # Errors
/// As [`change`]; [`Error::BadEvent`] if the content is no object.
pub fn put(
    writer: &mut RoomWriter<'_>,
    sender: Sender<'_>,
    target: Sender<'_>,
    content: &str,
    is_guest: bool,
) -> Result<EventId> {
    let mut content: Map<String, Value> =
        serde_json::from_str(content).map_err(|error| Error::BadEvent(error.to_string()))?;
    let room = writer.room();
    writer.must_know_member(target.user_id)?;
    let before = members::membership(writer.txn(), room, target.user)?;
    let joins = content.get("membership").is_some_and(|of| of == "join");
    if joins {
        content.remove(AUTHORISER);
    }
    if joins && sender.user == target.user && before != Membership::Join {
        if writer.head().joined == 0 {
            return Err(Error::UnknownRoom);
        }
        if is_guest && !guests_may_join(writer)? {
            return Err(Error::GuestForbidden);
        }
        if let Some(authoriser) = authoriser(writer, sender, before)? {
            content.insert(AUTHORISER.to_owned(), authoriser.into());
        }
    }
    let content = Value::Object(content).to_string();
    if let Some(event_id) = same_member(writer, sender, target, &content)? {
        return Ok(event_id);
    }
    Ok(writer
        .append(&NewEvent::member(sender, target, &content))?
        .1)
}

/// The target's member event, if it is one like this by the same sender.
fn same_member(
    writer: &RoomWriter<'_>,
    sender: Sender<'_>,
    target: Sender<'_>,
    content: &str,
) -> Result<Option<EventId>> {
    let Some(event) = writer.state_event("m.room.member", target.user_id)? else {
        return Ok(None);
    };
    let (event, numbers) = (event.pdu(), writer.rules().numbers);
    let same = event::canonical::from_text(content, numbers)
        .is_ok_and(|content| content == event.content());
    let same = same && event.sender() == sender.user_id;
    Ok(same.then(|| event.event_id().clone()))
}

/// What the authorisation rules allow but the endpoints don't.
fn check_before(change: &Change<'_>, before: Membership) -> Result<()> {
    match (change.action, before) {
        (Action::Unban, Membership::Ban) => Ok(()),
        (Action::Unban, _) => Err(Error::Forbidden("the user is not banned")),
        (Action::Kick, Membership::Ban) => Err(Error::Forbidden("the user is banned")),
        (Action::Kick, Membership::Leave) => Err(Error::Forbidden("the user is not in the room")),
        (Action::Leave, Membership::Ban) => Err(Error::Forbidden("the user is banned")),
        (Action::Leave, Membership::Leave) => Err(Error::Forbidden("the user is not in the room")),
        (Action::Knock, Membership::Join) => {
            Err(Error::Forbidden("the user is in the room already"))
        }
        _ => Ok(()),
    }
}

fn guests_may_join(writer: &RoomWriter<'_>) -> Result<bool> {
    let event = writer.state_event("m.room.guest_access", "")?;
    Ok(event.is_some_and(|event| {
        event
            .pdu()
            .content_str("guest_access")
            .is_some_and(|access| access == "can_join")
    }))
}

/// Whether the current member event already shows the joining user so, and says what they add.
fn is_shown_so(writer: &RoomWriter<'_>, change: &Change<'_>) -> Result<bool> {
    let Some(event) = writer.state_event("m.room.member", change.target.user_id)? else {
        return Ok(false);
    };
    let content = event.pdu().content();
    let shown = MemberProfile {
        displayname: string_member(content, "displayname").map(|name| name.into_owned()),
        avatar_url: string_member(content, "avatar_url").map(|url| url.into_owned()),
    };
    let says = |(key, value): (&String, &Value)| {
        let said = json::member(content, key).map(serde_json::from_str::<Value>);
        said.is_some_and(|said| said.is_ok_and(|said| said == *value))
    };
    Ok(shown == change.profile && change.custom().all(says))
}

/// For a restricted room that the user is not invited to: a member who may invite, in whose name the
/// user is let in. <https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms>
fn authoriser(
    writer: &mut RoomWriter<'_>,
    user: Sender<'_>,
    before: Membership,
) -> Result<Option<String>> {
    match admittance(writer, Some(user.user), before)? {
        Admittance::NotNeeded => Ok(None),
        Admittance::By(authoriser) => Ok(Some(authoriser)),
        Admittance::NotAMember => Err(Error::Forbidden(
            "the user is in none of the rooms whose members may join",
        )),
        Admittance::NotHere(why) => Err(Error::NotHere(why)),
    }
}

/// Why this server, which is in a restricted room, can't let a user in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHere {
    /// It is in none of the rooms whose members may join, as far as the user could be in one.
    CannotTell,
    /// None of its users may invite.
    NobodyMayInvite,
}

impl NotHere {
    pub(crate) fn text(self) -> &'static str {
        match self {
            NotHere::CannotTell => "this server can't tell whether the user may join",
            NotHere::NobodyMayInvite => "no member of this server may let others in",
        }
    }
}

/// Whether and by whom a user is let into a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admittance {
    /// The room is not restricted, or the user is in it or invited.
    NotNeeded,
    /// By this user of this server.
    By(String),
    /// Not at all: the user is in none of the rooms whose members may join.
    NotAMember,
    /// Not by this server.
    NotHere(NotHere),
}

/// Whether and by whom a user may be let into the room. A user without a number is in no room here.
///
/// # Errors
/// If the room can't be read.
pub fn admittance(
    writer: &mut RoomWriter<'_>,
    user: Option<UserSn>,
    before: Membership,
) -> Result<Admittance> {
    if matches!(before, Membership::Join | Membership::Invite) {
        return Ok(Admittance::NotNeeded);
    }
    let Some(join_rules) = writer.state_event("m.room.join_rules", "")? else {
        return Ok(Admittance::NotNeeded);
    };
    let restricted = match join_rules.join_rule() {
        Some(JoinRule::Restricted) => writer.rules().auth.restricted,
        Some(JoinRule::KnockRestricted) => writer.rules().auth.knock_restricted,
        _ => false,
    };
    if !restricted {
        return Ok(Admittance::NotNeeded);
    }
    let allowed = allowed_rooms(join_rules.pdu().content());
    let (here, elsewhere) = rooms_here(writer.txn(), &allowed)?;
    let is_member = match user {
        Some(user) => is_in_any(writer.txn(), user, &here)?,
        None => false,
    };
    if !is_member {
        return Ok(match elsewhere {
            false => Admittance::NotAMember,
            true => Admittance::NotHere(NotHere::CannotTell),
        });
    }
    let room = writer.room();
    for member in members::local_joined(writer.txn(), room)? {
        let user_id = names::user_id(writer.txn(), member)?;
        if writer.with_power_levels(|levels| levels.user(&user_id) >= levels.invite())? {
            return Ok(Admittance::By(user_id));
        }
    }
    Ok(Admittance::NotHere(NotHere::NobodyMayInvite))
}

/// Those of the rooms that this server is in; and whether there are others, or some of whose members not all are known.
fn rooms_here(from: &impl Read, rooms: &[String]) -> Result<(Vec<String>, bool)> {
    let mut here = Vec::new();
    let mut any_partial = false;
    for room_id in rooms {
        if let Some(room) = names::room_sn(from, room_id)?
            && !members::local_joined(from, room)?.is_empty()
        {
            any_partial |= partial::is_partial(from, room)?;
            here.push(room_id.clone());
        }
    }
    let elsewhere = any_partial || here.len() < rooms.len();
    Ok((here, elsewhere))
}

/// The rooms in `allow` of join rules.
pub fn allowed_rooms(join_rules: &str) -> Vec<String> {
    let Some(list) = json::member(join_rules, "allow").filter(|list| json::is_array(list)) else {
        return Vec::new();
    };
    json::elements(list)
        .filter(|entry| {
            json::is_object(entry)
                && string_member(entry, "type").is_some_and(|kind| kind == "m.room_membership")
        })
        .filter_map(|entry| string_member(entry, "room_id"))
        .map(|room| room.into_owned())
        .collect()
}

/// Whether a user is joined to any of the rooms.
pub fn is_in_any(from: &impl Read, user: UserSn, rooms: &[String]) -> Result<bool> {
    for room_id in rooms {
        if let Some(room) = names::room_sn(from, room_id)?
            && members::membership(from, room, user)? == Membership::Join
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a user is joined to a room now.
///
/// # Errors
/// [`Error::Forbidden`] if not.
pub fn must_be_joined(from: &impl Read, room: RoomSn, user: Sender<'_>) -> Result<()> {
    match members::membership(from, room, user.user)? {
        Membership::Join => Ok(()),
        _ => Err(Error::Forbidden("the user is not in the room")),
    }
}
