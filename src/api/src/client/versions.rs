//! What the server can do: versions of the specification and capabilities.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use event::RoomVersion;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::auth::Session;
use crate::json::{Json, JsonBytes};

/// The endpoints of this file.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/_matrix/client/versions", get(versions))
        .route("/_matrix/client/v3/capabilities", get(capabilities))
}

/// Fixed, so that the answer costs nothing. Features are those that clients look for by name; the
/// `.stable` ones tell that the stable form is there.
const VERSIONS: &str = concat!(
    r#"{"versions":["r0.0.1","r0.1.0","r0.2.0","r0.3.0","r0.4.0","r0.5.0","r0.6.0","r0.6.1","#,
    r#""v1.1","v1.2","v1.3","v1.4","v1.5","v1.6","v1.7","v1.8","v1.9","v1.10","v1.11","v1.12","#,
    r#""v1.13","v1.14","v1.15","v1.16","v1.17","v1.18","v1.19"],"unstable_features":{"#,
    r#""org.matrix.e2e_cross_signing":true,"#,
    r#""org.matrix.msc2285.stable":true,"#,
    r#""org.matrix.msc2432":true,"#,
    r#""org.matrix.msc3440.stable":true,"#,
    r#""org.matrix.msc3771":true,"#,
    r#""org.matrix.msc3827.stable":true,"#,
    r#""org.matrix.msc3916.stable":true,"#,
    r#""org.matrix.msc3981":true,"#,
    r#""org.matrix.msc4222":true,"#,
    r#""org.matrix.simplified_msc3575":true,"#,
    r#""uk.tcpip.msc4133.stable":true}}"#,
);

async fn versions() -> JsonBytes {
    JsonBytes(bytes::Bytes::from_static(VERSIONS.as_bytes()))
}

async fn capabilities(State(app): State<App>, session: Session) -> Json<Value> {
    let config = app.config();
    let available: Map<String, Value> = RoomVersion::ALL
        .iter()
        .map(|version| (version.as_str().to_owned(), "stable".into()))
        .collect();
    let mut capabilities = json!({
        "m.room_versions": {
            "default": config.rooms.default_version.as_str(),
            "available": available,
        },
        "m.change_password": {"enabled": config.password.login},
        "m.profile_fields": {"enabled": true},
        "m.set_displayname": {"enabled": true},
        "m.set_avatar_url": {"enabled": true},
        "m.3pid_changes": {"enabled": false},
        "m.get_login_token": {"enabled": true},
        "m.forget_forced_upon_leave": {"enabled": false},
    });
    if session.admin {
        capabilities["m.account_moderation"] = json!({"suspend": true, "lock": true});
    }
    Json(json!({"capabilities": capabilities}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_json_up_to_v1_19() {
        let versions: Value = serde_json::from_str(VERSIONS).expect("JSON");
        let last = versions["versions"].as_array().and_then(|list| list.last());
        assert_eq!(last, Some(&json!("v1.19")));
        assert_eq!(
            versions["unstable_features"]["org.matrix.msc3916.stable"],
            true
        );
    }
}
