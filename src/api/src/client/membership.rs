//! Changing memberships, one's own and those of others: invite, leave, kick, ban, unban, forget.
//! <https://spec.matrix.org/v1.19/client-server-api/#room-membership>

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use event::identifier;
use names::{RoomSn, UserSn};
use node::federation::{InviteElsewhere, accepts_invites, invite_content};
use node::room::member_profile;
use node::{Lock, Touched};
use rooms::membership::{Action, Change, MemberProfile, change};
use rooms::{Sender, members};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::app::App;
use crate::auth::{GuestSession, Session};
use crate::client::address_invites::{AddressParts, invite_address};
use crate::client::room_names::{find_room, room, sender, user};
use crate::client::room_reader::members_known;
use crate::error::{ApiError, ErrCode};
use crate::json::{JsonBody, JsonBodyOrEmpty, JsonBytes};
use crate::limits::{Class, Key};
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/rooms/{room_id}/invite", post(invite))
        .route("/_matrix/client/v3/rooms/{room_id}/leave", post(leave))
        .route("/_matrix/client/v3/rooms/{room_id}/kick", post(kick))
        .route("/_matrix/client/v3/rooms/{room_id}/ban", post(ban))
        .route("/_matrix/client/v3/rooms/{room_id}/unban", post(unban))
        .route("/_matrix/client/v3/rooms/{room_id}/forget", post(forget))
}

#[derive(Deserialize)]
struct Reason {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Whom {
    user_id: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Invited {
    user_id: Option<String>,
    reason: Option<String>,
    #[serde(flatten)]
    address: AddressParts,
}

async fn invite(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    JsonBody(body): JsonBody<Invited>,
) -> Result<JsonBytes, ApiError> {
    session.must_not_be_suspended()?;
    app.limiter()
        .check(Class::Invite, Key::Name(&session.user_id))?;
    let (room, reason) = (room(&app, &room_id)?, body.reason.as_deref());
    match body.user_id {
        Some(user_id) => invite_user(&app, &session, room, &user_id, reason, false).await?,
        None if body.address.says_nothing() => {
            return Err(ApiError::missing_param("user_id is missing"));
        }
        None => {
            let address = body.address.checked(&app)?;
            invite_address(&app, &session, room, &address, reason, false).await?;
        }
    }
    Ok(JsonBytes::EMPTY)
}

/// Invites a user of this server or of another.
pub async fn invite_user(
    app: &App,
    session: &Session,
    room: RoomSn,
    user_id: &str,
    reason: Option<&str>,
    is_direct: bool,
) -> Result<(), ApiError> {
    members_known(app, room).await?;
    let node = app.node();
    if identifier::is_user_id(user_id) && !node.names().is_local_id(user_id) {
        let wanted = InviteElsewhere {
            room,
            sender: session.user,
            sender_id: &session.user_id,
            target_id: user_id,
            content: invite_content(reason, is_direct),
        };
        // Its number is only given once that server has agreed.
        return Ok(node.invite_elsewhere(&wanted).await?);
    }
    let target = user(app, user_id)?;
    must_accept_invites(app, target)?;
    node.change_room(room, |writer| -> Result<(), ApiError> {
        let target = Sender {
            user: target,
            user_id,
        };
        let wanted = Change {
            action: Action::Invite,
            sender: sender(session),
            target,
            profile: member_profile(writer.txn(), target.user)?,
            reason,
            is_guest: session.is_guest(),
            is_direct,
            custom: None,
        };
        change(writer, &wanted)?;
        Ok(())
    })
    .await
}

/// Refuses invitations that their user does not want at all:
/// <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>. What users of other servers want, those know.
pub fn must_accept_invites(app: &App, target: UserSn) -> Result<(), ApiError> {
    if target.is_local() && !accepts_invites(&app.node().view(), target)? {
        return Err(ApiError::new(
            ErrCode::InviteBlocked,
            "The user does not accept invitations",
        ));
    }
    Ok(())
}

async fn leave(
    State(app): State<App>,
    GuestSession(session): GuestSession,
    Params(room_id): Params<String>,
    JsonBodyOrEmpty(body): JsonBodyOrEmpty<Reason>,
) -> Result<JsonBytes, ApiError> {
    let room =
        find_room(&app, &room_id)?.ok_or_else(|| ApiError::not_found("There is no such room"))?;
    if app.node().is_outside(room, session.user)? {
        let reason = body.reason.as_deref();
        let node = app.node();
        node.leave_outside(room, session.user, reason).await?;
        return Ok(JsonBytes::EMPTY);
    }
    let me = sender(&session);
    act(&app, &session, room, Action::Leave, me, body.reason).await
}

async fn kick(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    JsonBody(body): JsonBody<Whom>,
) -> Result<JsonBytes, ApiError> {
    act_on_member(&app, &session, &room_id, Action::Kick, body).await
}

async fn unban(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    JsonBody(body): JsonBody<Whom>,
) -> Result<JsonBytes, ApiError> {
    act_on_member(&app, &session, &room_id, Action::Unban, body).await
}

async fn ban(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    JsonBody(body): JsonBody<Whom>,
) -> Result<JsonBytes, ApiError> {
    session.must_not_be_suspended()?;
    let room = room(&app, &room_id)?;
    let whom = Sender {
        user: user(&app, &body.user_id)?,
        user_id: &body.user_id,
    };
    act(&app, &session, room, Action::Ban, whom, body.reason).await
}

/// What can only be done to one who has a membership: an id that was never seen is not given a number.
async fn act_on_member(
    app: &App,
    session: &Session,
    room_id: &str,
    action: Action,
    body: Whom,
) -> Result<JsonBytes, ApiError> {
    session.must_not_be_suspended()?;
    let room = room(app, room_id)?;
    if !identifier::is_user_id(&body.user_id) {
        return Err(ApiError::invalid_param("user_id is not a user id"));
    }
    let node = app.node();
    let user = node
        .names()
        .known_user(&node.store().head(), &body.user_id)?
        .ok_or_else(|| ApiError::forbidden("The user is not in the room"))?;
    let whom = Sender {
        user,
        user_id: &body.user_id,
    };
    act(app, session, room, action, whom, body.reason).await
}

async fn act(
    app: &App,
    session: &Session,
    room: RoomSn,
    action: Action,
    target: Sender<'_>,
    reason: Option<String>,
) -> Result<JsonBytes, ApiError> {
    if target.user != session.user {
        members_known(app, room).await?;
    }
    app.node()
        .change_room(room, |writer| -> Result<(), ApiError> {
            let wanted = Change {
                action,
                sender: sender(session),
                target,
                profile: MemberProfile::default(),
                reason: reason.as_deref(),
                is_guest: session.is_guest(),
                is_direct: false,
                custom: None,
            };
            change(writer, &wanted)?;
            Ok(())
        })
        .await?;
    Ok(JsonBytes::EMPTY)
}

async fn forget(
    State(app): State<App>,
    session: Session,
    Params(room_id): Params<String>,
    JsonBodyOrEmpty(_): JsonBodyOrEmpty<Map<String, Value>>,
) -> Result<JsonBytes, ApiError> {
    let room =
        find_room(&app, &room_id)?.ok_or_else(|| ApiError::not_found("There is no such room"))?;
    let node = app.node();
    let guard = node.lock(Lock::Room(room)).await;
    let mut txn = node.begin();
    if let Err(error) = members::forget(&mut txn, session.user, room) {
        return match error {
            // Nothing to forget.
            rooms::Error::UnknownRoom => Ok(JsonBytes::EMPTY),
            rooms::Error::Invalid(why) => Err(ApiError::bad_request(why)),
            error => Err(error.into()),
        };
    }
    node.commit(guard, txn, Touched::user(session.user)).await?;
    Ok(JsonBytes::EMPTY)
}
