//! Pushers (client-server API, "Push Notifications"); only kept so far, nothing is sent.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use node::{Lock, Touched};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use users::pushers::{self, Pusher};

use crate::app::App;
use crate::auth::Session;
use crate::error::ApiError;
use crate::json::{Json, JsonBody, JsonBytes};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/pushers", get(list))
        .route("/_matrix/client/v3/pushers/set", post(set))
}

async fn list(State(app): State<App>, session: Session) -> Result<Json<Value>, ApiError> {
    let mut found = Vec::new();
    for (app_id, pushkey, pusher) in pushers::list(&app.node().view(), session.user)? {
        let data: Value = serde_json::from_str(&pusher.data).map_err(ApiError::internal)?;
        let mut body = json!({
            "app_id": app_id,
            "pushkey": pushkey,
            "kind": pusher.kind,
            "app_display_name": pusher.app_display_name,
            "device_display_name": pusher.device_display_name,
            "lang": pusher.lang,
            "data": data,
        });
        if let Some(tag) = pusher.profile_tag {
            body["profile_tag"] = tag.into();
        }
        found.push(body);
    }
    Ok(Json(json!({"pushers": found})))
}

#[derive(Deserialize)]
struct SetPusher {
    app_id: String,
    pushkey: String,
    /// Null deletes. The field itself must be there.
    #[serde(deserialize_with = "Option::deserialize")]
    kind: Option<String>,
    app_display_name: Option<String>,
    device_display_name: Option<String>,
    profile_tag: Option<String>,
    lang: Option<String>,
    data: Option<Box<RawValue>>,
    #[serde(default)]
    append: bool,
}

async fn set(
    State(app): State<App>,
    session: Session,
    JsonBody(request): JsonBody<SetPusher>,
) -> Result<JsonBytes, ApiError> {
    // Without `append` other users may lose theirs: one at a time per pushkey.
    let name = format!("pushkey {}", request.pushkey);
    let guards = (
        app.node().lock(Lock::Named(name)).await,
        app.node().lock(Lock::User(session.user)).await,
    );
    let mut txn = app.node().begin();
    match &request.kind {
        None => pushers::delete(&mut txn, session.user, &request.app_id, &request.pushkey),
        Some(kind) => {
            let pusher = read(&app, &session, &request, kind)?;
            pushers::set(
                &mut txn,
                session.user,
                &request.app_id,
                &request.pushkey,
                &pusher,
                request.append,
            )?;
        }
    }
    app.node().commit(guards, txn, Touched::nobody()).await?;
    Ok(JsonBytes::EMPTY)
}

fn read(app: &App, session: &Session, request: &SetPusher, kind: &str) -> Result<Pusher, ApiError> {
    let required = |field: &Option<String>, name: &str| {
        field
            .clone()
            .ok_or_else(|| ApiError::missing_param(format!("{name} is missing")))
    };
    let data = request
        .data
        .as_ref()
        .ok_or_else(|| ApiError::missing_param("data is missing"))?;
    check_data(kind, data)?;
    Ok(Pusher {
        kind: kind.to_owned(),
        app_display_name: required(&request.app_display_name, "app_display_name")?,
        device_display_name: required(&request.device_display_name, "device_display_name")?,
        profile_tag: request.profile_tag.clone(),
        lang: required(&request.lang, "lang")?,
        data: data.get().to_owned(),
        device: session.device.to_string(),
        since_ms: app.node().now_ms(),
    })
}

fn check_data(kind: &str, data: &RawValue) -> Result<(), ApiError> {
    let data: Value = serde_json::from_str(data.get()).map_err(ApiError::internal)?;
    if !data.is_object() {
        return Err(ApiError::bad_json("data is an object"));
    }
    match kind {
        "email" => Ok(()),
        "http" => {
            let url = data.get("url").and_then(Value::as_str);
            let url = url.ok_or_else(|| ApiError::missing_param("data.url is missing"))?;
            let uri: http::Uri = url
                .parse()
                .map_err(|_| ApiError::invalid_param("data.url is not a URL"))?;
            let is_http = matches!(uri.scheme_str(), Some("https" | "http"));
            if !is_http || uri.path() != "/_matrix/push/v1/notify" {
                return Err(ApiError::invalid_param(
                    "data.url must be an HTTPS URL with the path /_matrix/push/v1/notify",
                ));
            }
            Ok(())
        }
        _ => Err(ApiError::invalid_param("kind is http, email or null")),
    }
}
