//! Server access control lists: <https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls>.

use serde_json::json;
use testkit::encode;

use crate::Scene;

#[test]
fn a_server_that_the_room_denies_is_refused_at_every_door() {
    let scene = Scene::with(json!({"preset": "public_chat"}));
    let said = scene.alice.say(&scene.room, "hello");
    let create = scene.joined.state("m.room.create", "").expect("a room");
    let create = scene.joined.event_id(&create);
    let (event, user) = (encode(&said), encode(&scene.peer.user("carol")));
    let at = format!("?event_id={event}");
    let reads = [
        scene.path("state", &at),
        scene.path("state_ids", &at),
        scene.path("event_auth", &format!("/{event}")),
        scene.path("backfill", &format!("?v={event}&limit=1")),
        scene.path("timestamp_to_event", "?ts=0&dir=f"),
        format!("/_matrix/federation/v1/event/{event}"),
        scene.path("make_join", &format!("/{user}?ver=12")),
    ];
    for path in &reads {
        scene.peer.get(&scene.server, path).ok();
    }
    let between = json!({"earliest_events": [create], "latest_events": [said]});
    let missing = scene.path("get_missing_events", "");
    scene
        .peer
        .post(&scene.server, &missing, between.clone())
        .ok();

    let acl = json!({"allow": ["*"], "deny": [], "allow_ip_literals": false});
    scene
        .alice
        .set_state(&scene.room, "m.room.server_acl", "", acl);
    for path in &reads {
        scene
            .peer
            .get(&scene.server, path)
            .error(403, "M_FORBIDDEN");
    }
    scene
        .peer
        .post(&scene.server, &missing, between)
        .error(403, "M_FORBIDDEN");
    // Whoever is here goes on.
    scene.alice.say(&scene.room, "still here");

    let acl = json!({"allow": ["127.0.0.?"], "deny": ["*.example"]});
    scene
        .alice
        .set_state(&scene.room, "m.room.server_acl", "", acl);
    scene.peer.get(&scene.server, &reads[0]).ok();
}
