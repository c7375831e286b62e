//! Push rules (client-server API, "Push Rules: API").

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use node::{Lock, Touched};
use serde::Deserialize;
use serde_json::{Value, json};
use users::push::rules::{self, Kind, NewRule, UserRules};

use crate::app::App;
use crate::auth::{Identity, Session};
use crate::error::{ApiError, ErrCode};
use crate::json::{Json, JsonBody, JsonBytes};
use crate::request::{Params, Query};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/v3/pushrules/", get(all))
        .route("/_matrix/client/v3/pushrules", get(all))
        .route("/_matrix/client/v3/pushrules/global/", get(global))
        .route("/_matrix/client/v3/pushrules/global", get(global))
        .route("/_matrix/client/v3/pushrules/global/{kind}", get(of_kind))
        .route("/_matrix/client/v3/pushrules/global/{kind}/", get(of_kind))
        .route(
            "/_matrix/client/v3/pushrules/global/{kind}/{rule_id}",
            get(one).put(put).delete(delete),
        )
        .route(
            "/_matrix/client/v3/pushrules/global/{kind}/{rule_id}/{attribute}",
            get(attribute).put(put_attribute),
        )
}

fn kind(name: &str) -> Result<Kind, ApiError> {
    Kind::of_name(name).ok_or_else(|| ApiError::not_found("There is no such kind of rule"))
}

fn rules_of(app: &App, session: &Session) -> Result<UserRules, ApiError> {
    Ok(rules::get(&app.node().view(), session.user)?)
}

async fn all(State(app): State<App>, session: Session) -> Result<Json<Value>, ApiError> {
    let global = rules_of(&app, &session)?.global(&session.user_id);
    Ok(Json(json!({"global": global})))
}

async fn global(State(app): State<App>, session: Session) -> Result<Json<rules::Global>, ApiError> {
    Ok(Json(rules_of(&app, &session)?.global(&session.user_id)))
}

async fn of_kind(
    State(app): State<App>,
    session: Session,
    Params(name): Params<String>,
) -> Result<Json<Vec<rules::Rule>>, ApiError> {
    let kind = kind(&name)?;
    let rules = rules_of(&app, &session)?;
    Ok(Json(rules.of_kind(kind, &session.user_id)))
}

async fn one(
    State(app): State<App>,
    session: Session,
    Params((name, rule_id)): Params<(String, String)>,
) -> Result<Json<rules::Rule>, ApiError> {
    let rules = rules_of(&app, &session)?;
    let rule = rules.rule(kind(&name)?, &rule_id, &session.user_id)?;
    Ok(Json(rule))
}

#[derive(Deserialize)]
struct Place {
    before: Option<String>,
    after: Option<String>,
}

#[derive(Deserialize)]
struct PutRule {
    actions: Vec<Value>,
    conditions: Option<Vec<Value>>,
    pattern: Option<String>,
}

async fn put(
    State(app): State<App>,
    session: Session,
    Params((name, rule_id)): Params<(String, String)>,
    Query(place): Query<Place>,
    JsonBody(body): JsonBody<PutRule>,
) -> Result<JsonBytes, ApiError> {
    let kind = kind(&name)?;
    let new = NewRule {
        actions: body.actions,
        conditions: body.conditions,
        pattern: body.pattern,
        before: place.before,
        after: place.after,
    };
    let changed = change(&app, &session, |rules| rules.put(kind, &rule_id, new)).await;
    changed.map_err(|error| match error.code() {
        // Of all codes, the specification has this one for a rule to stand beside that is not there.
        Some(ErrCode::NotFound) => {
            let why = "The rule to stand before or after is not there";
            ApiError::new(ErrCode::Unknown, why).with_status(http::StatusCode::BAD_REQUEST)
        }
        _ => error,
    })
}

async fn delete(
    State(app): State<App>,
    session: Session,
    Params((name, rule_id)): Params<(String, String)>,
) -> Result<JsonBytes, ApiError> {
    let kind = kind(&name)?;
    change(&app, &session, |rules| rules.delete(kind, &rule_id)).await
}

async fn change(
    app: &App,
    who: &Identity,
    change: impl FnOnce(&mut UserRules) -> users::Result<()>,
) -> Result<JsonBytes, ApiError> {
    let guard = app.node().lock(Lock::User(who.user)).await;
    let mut txn = app.node().begin();
    rules::update(&mut txn, who.user, change)?;
    app.node()
        .commit(guard, txn, Touched::user(who.user))
        .await?;
    Ok(JsonBytes::EMPTY)
}

async fn attribute(
    State(app): State<App>,
    session: Session,
    Params((name, rule_id, attribute)): Params<(String, String, String)>,
) -> Result<Json<Value>, ApiError> {
    let rules = rules_of(&app, &session)?;
    let rule = rules.rule(kind(&name)?, &rule_id, &session.user_id)?;
    match attribute.as_str() {
        "enabled" => Ok(Json(json!({"enabled": rule.enabled}))),
        "actions" => Ok(Json(json!({"actions": rule.actions}))),
        _ => Err(ApiError::unrecognized()),
    }
}

#[derive(Deserialize)]
struct PutAttribute {
    enabled: Option<bool>,
    actions: Option<Vec<Value>>,
}

async fn put_attribute(
    State(app): State<App>,
    session: Session,
    Params((name, rule_id, attribute)): Params<(String, String, String)>,
    JsonBody(body): JsonBody<PutAttribute>,
) -> Result<JsonBytes, ApiError> {
    let kind = kind(&name)?;
    let missing = || ApiError::missing_param(format!("{attribute} is missing"));
    match attribute.as_str() {
        "enabled" => {
            let enabled = body.enabled.ok_or_else(missing)?;
            change(&app, &session, |rules| {
                rules.set_enabled(kind, &rule_id, enabled)
            })
            .await
        }
        "actions" => {
            let actions = body.actions.ok_or_else(missing)?;
            change(&app, &session, |rules| {
                rules.set_actions(kind, &rule_id, actions)
            })
            .await
        }
        _ => Err(ApiError::unrecognized()),
    }
}
