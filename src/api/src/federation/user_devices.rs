//! The devices of this server's users, for other servers.
//! <https://spec.matrix.org/v1.19/server-server-api/#device-management>

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use event::json::write_string;
use names::UserSn;
use store::{Read, View};
use users::keys::device_lists;
use users::keys::query::{Viewer, user_keys};
use users::{accounts, devices};

use crate::app::App;
use crate::error::ApiError;
use crate::federation::Signed;
use crate::json::JsonBytes;
use crate::key_answers::write_name;
use crate::request::Params;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/federation/v1/user/devices/{user_id}", get(list))
}

async fn list(
    State(app): State<App>,
    Params(user_id): Params<String>,
    _: Signed,
) -> Result<JsonBytes, ApiError> {
    let view = app.node().view();
    let user = local_user(&app, &view, &user_id)?
        .ok_or_else(|| ApiError::not_found("There is no such user here"))?;
    render(&app, &view, user, &user_id).map(JsonBytes)
}

/// A user of this server who has an account.
pub(super) fn local_user(
    app: &App,
    from: &impl Read,
    user_id: &str,
) -> Result<Option<UserSn>, ApiError> {
    let names = app.node().names();
    if !user_id.starts_with('@') || !names.is_local_id(user_id) {
        return Ok(None);
    }
    match names.known_user(from, user_id)? {
        Some(user) if accounts::exists(from, user)? => Ok(Some(user)),
        _ => Ok(None),
    }
}

/// How other servers see keys.
pub(super) fn viewer(app: &App) -> Viewer<'static> {
    Viewer::Server {
        sees_names: app.config().federation.share_device_names,
    }
}

fn render(app: &App, view: &View, user: UserSn, user_id: &str) -> Result<Bytes, ApiError> {
    let viewer = viewer(app);
    let keys = user_keys(view, viewer, user, &[])?;
    // Where the list changed last is its version: the same number that its updates carry.
    let stream_id = device_lists::last_changed(view, user)?.unwrap_or_default();
    let mut out = Vec::with_capacity(2048);
    out.push(b'{');
    write_name(&mut out, "user_id");
    write_string(&mut out, user_id);
    write_name(&mut out, "stream_id");
    out.extend_from_slice(stream_id.0.to_string().as_bytes());
    write_name(&mut out, "devices");
    out.push(b'[');
    for (number, (device, json)) in keys.devices.iter().enumerate() {
        out.extend_from_slice(if number > 0 { b",{" } else { b"{" });
        write_name(&mut out, "device_id");
        write_string(&mut out, device);
        write_name(&mut out, "keys");
        out.extend_from_slice(json.as_bytes());
        let name = match viewer {
            Viewer::Server { sees_names: false } => None,
            _ => devices::get(view, user, device)?.and_then(|device| device.display_name),
        };
        if let Some(name) = name {
            write_name(&mut out, "device_display_name");
            write_string(&mut out, &name);
        }
        out.push(b'}');
    }
    out.push(b']');
    for (name, key) in [
        ("master_key", &keys.master),
        ("self_signing_key", &keys.self_signing),
    ] {
        if let Some(json) = key {
            write_name(&mut out, name);
            out.extend_from_slice(json.as_bytes());
        }
    }
    out.push(b'}');
    Ok(out.into())
}
