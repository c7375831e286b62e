//! How clients and servers find this server, and its users help ("Well-known URIs").

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::ApiError;
use crate::json::Json;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/.well-known/matrix/client", get(client))
        .route("/.well-known/matrix/server", get(server))
        .route("/.well-known/matrix/support", get(support))
}

fn none() -> ApiError {
    ApiError::not_found("There is no such file")
}

async fn client(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let config = app.config();
    let url = config.well_known.client.as_ref().ok_or_else(none)?;
    Ok(Json(json!({"m.homeserver": {"base_url": url}})))
}

async fn server(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let config = app.config();
    let server = config.well_known.server.as_ref().ok_or_else(none)?;
    Ok(Json(json!({"m.server": server})))
}

async fn support(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let config = app.config();
    let well_known = &config.well_known;
    let mut body = Map::new();
    if let Some(page) = &well_known.support_page {
        body.insert("support_page".to_owned(), page.as_str().into());
    }
    let mut contacts = Vec::new();
    for contact in &well_known.contacts {
        let mut told = Map::new();
        told.insert("role".to_owned(), contact.role.as_str().into());
        if let Some(address) = &contact.email_address {
            told.insert("email_address".to_owned(), address.as_str().into());
        }
        if let Some(id) = &contact.matrix_id {
            told.insert("matrix_id".to_owned(), id.as_str().into());
        }
        contacts.push(Value::Object(told));
    }
    if !contacts.is_empty() {
        body.insert("contacts".to_owned(), contacts.into());
    }
    if body.is_empty() {
        return Err(none());
    }
    Ok(Json(body.into()))
}
