//! Typing, receipts and presence, out and in.

use serde_json::json;
use testkit::{Peer, PeerRoom, encode};

use crate::{hears, shared};

#[test]
fn typing_and_public_receipts_and_presence_go_out() {
    let all = shared();
    let path = format!(
        "/v3/rooms/{}/typing/{}",
        encode(&all.room),
        encode(&all.user.id)
    );
    all.user
        .put(&path, json!({"typing": true, "timeout": 30_000}))
        .ok();
    all.peer.edu("m.typing", |content| {
        content["user_id"] == all.user.id
            && content["room_id"] == all.room
            && content["typing"] == true
    });
    all.user.put(&path, json!({"typing": false})).ok();
    all.peer
        .edu("m.typing", |content| content["typing"] == false);

    let said = all.theirs.say(&all.other, "Read this");
    let event = all.theirs.event_id(&said);
    all.peer.send(&all.server, &[said], &[]).ok();
    let receipt = |kind: &str, event: &str| {
        let path = format!(
            "/v3/rooms/{}/receipt/{kind}/{}",
            encode(&all.room),
            encode(event)
        );
        all.user.post(&path, json!({"thread_id": "main"})).ok();
    };
    let own = all.user.say(&all.room, "Mine");
    receipt("m.read", &event);
    receipt("m.read.private", &own);
    let edu = all.peer.edu("m.receipt", |content| {
        content[&all.room]["m.read"][&all.user.id]["event_ids"] == json!([event])
    });
    let data = &edu["content"][&all.room]["m.read"][&all.user.id]["data"];
    assert!(data["ts"].is_u64() && data["thread_id"] == "main");

    let path = format!("/v3/presence/{}/status", encode(&all.user.id));
    let status = json!({"presence": "unavailable", "status_msg": "Lunch"});
    all.user.put(&path, status).ok();
    all.peer.edu("m.presence", |content| {
        let mut pushed = content["push"].as_array().into_iter().flatten();
        pushed.any(|push| {
            push["user_id"] == all.user.id
                && push["presence"] == "unavailable"
                && push["status_msg"] == "Lunch"
        })
    });
    hears(&all.peer, "Mine");
    let private = |edu: &serde_json::Value| edu.to_string().contains(&own);
    assert!(!all.peer.edus().iter().any(private));
}

#[test]
fn typing_and_receipts_and_presence_come_in() {
    let all = shared();
    let mut follower = all.user.follow_from_now();
    let typing = json!({"room_id": all.room, "user_id": all.other, "typing": true});
    all.peer.send_edu(&all.server, "m.typing", typing);
    follower.until("typing", |answer| {
        let mut events = answer.ephemeral(&all.room).iter();
        events
            .any(|event| event["content"]["user_ids"] == json!([all.other]))
            .then_some(())
    });
    let event = all.user.say(&all.room, "Read this");
    hears(&all.peer, "Read this");
    let receipt = json!({all.room.clone(): {"m.read": {all.other.clone(): {
        "data": {"ts": 1_500_000_000_000_u64}, "event_ids": [event],
    }}}});
    all.peer.send_edu(&all.server, "m.receipt", receipt);
    follower.until("a receipt", |answer| {
        let mut events = answer.ephemeral(&all.room).iter();
        events
            .any(|edu| edu["content"][&event]["m.read"][&all.other]["ts"] == 1_500_000_000_000_u64)
            .then_some(())
    });
    let presence = json!({"push": [{
        "user_id": all.other, "presence": "online", "status_msg": "Here", "last_active_ago": 10,
    }]});
    all.peer.send_edu(&all.server, "m.presence", presence);
    follower.until("presence", |answer| {
        let mut events = answer.0["presence"]["events"]
            .as_array()
            .into_iter()
            .flatten();
        events
            .any(|event| event["sender"] == all.other && event["content"]["status_msg"] == "Here")
            .then_some(())
    });
}

#[test]
fn a_server_speaks_for_nobody_but_its_own_users_in_their_rooms() {
    let all = shared();
    let stranger = Peer::start();
    let bystander = stranger.user("bystander");
    let elsewhere = all.user.create_public_room();
    PeerRoom::join(&stranger, &all.server, &elsewhere, &bystander);
    let mut follower = all.user.follow_from_now();
    for (user, room) in [
        (&all.other, &all.room),
        (&all.user.id, &all.room),
        (&bystander, &all.room),
    ] {
        let typing = json!({"room_id": room, "user_id": user, "typing": true});
        stranger.send_edu(&all.server, "m.typing", typing);
        let presence =
            json!({"push": [{"user_id": user, "presence": "online", "status_msg": "No"}]});
        if user != &bystander {
            stranger.send_edu(&all.server, "m.presence", presence);
        }
    }
    let typing = json!({"room_id": elsewhere, "user_id": bystander, "typing": true});
    stranger.send_edu(&all.server, "m.typing", typing);
    follower.until("the one typing that is right", |answer| {
        assert!(answer.ephemeral(&all.room).is_empty());
        let presence = answer.0["presence"].to_string();
        assert!(!presence.contains("No\""), "{presence}");
        let mut events = answer.ephemeral(&elsewhere).iter();
        events
            .any(|event| event["content"]["user_ids"] == json!([bystander]))
            .then_some(())
    });
}
