//! TURN credentials (client-server API, "Voice over IP").

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::Turn;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::app::App;
use crate::auth::GuestSession;
use crate::error::ApiError;
use crate::json::Json;

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new().route("/_matrix/client/v3/voip/turnServer", get(turn_server))
}

async fn turn_server(
    State(app): State<App>,
    GuestSession(session): GuestSession,
) -> Result<Json<Value>, ApiError> {
    let config = app.config();
    if session.is_guest() && !config.turn.allow_guests {
        return Err(ApiError::guest_access_forbidden());
    }
    let now_s = app.node().now_ms() / 1000;
    Ok(Json(credentials(&config.turn, &session.user_id, now_s)))
}

/// Empty where no TURN server is configured, or none of the ways to log in to it.
fn credentials(turn: &Turn, user_id: &str, now_s: u64) -> Value {
    let ttl_s = turn.lifetime.as_secs();
    let (username, password) = match (&turn.shared_secret, &turn.username, &turn.password) {
        (Some(secret), _, _) => {
            // The convention of coturn's `use-auth-secret`: expiry and user, signed.
            let username = format!("{}:{user_id}", now_s + ttl_s);
            let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.reveal().as_bytes()) else {
                return json!({});
            };
            mac.update(username.as_bytes());
            let password = STANDARD.encode(mac.finalize().into_bytes());
            (username, password)
        }
        (None, Some(username), Some(password)) => (username.clone(), password.reveal().to_owned()),
        _ => return json!({}),
    };
    if turn.uris.is_empty() {
        return json!({});
    }
    json!({"username": username, "password": password, "uris": turn.uris, "ttl": ttl_s})
}

#[cfg(test)]
mod tests {
    use config::Secret;

    use super::*;

    #[test]
    fn each_user_gets_a_password_that_expires() {
        let turn = Turn {
            uris: vec!["turn:t.example".to_owned()],
            shared_secret: Some(Secret::new("secret")),
            ..Turn::default()
        };
        let told = credentials(&turn, "@a:b", 1_000);
        assert_eq!(told["username"], format!("{}:@a:b", 1_000 + 24 * 3600));
        assert_eq!(told["ttl"], 24 * 3600);
        assert_eq!(told["password"].as_str().map(str::len), Some(28));
        assert_eq!(credentials(&Turn::default(), "@a:b", 1_000), json!({}));
    }
}
