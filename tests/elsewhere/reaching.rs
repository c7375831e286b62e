//! Which of the servers that may help are asked first.

use event::RoomVersion;
use serde_json::{Map, Value, json};
use testkit::{encode, until};

use crate::{hosted, server};

#[test]
fn servers_that_are_known_to_be_away_are_asked_last() {
    let (server, (peer, room, _)) = (server(), hosted(RoomVersion::V11));
    room.host(&peer);
    let alice = server.register("alice");
    // Nobody listens there. As many are asked before a join is given up.
    let away: Vec<String> = (1..=10).map(|port| format!("127.0.0.1:{port}")).collect();
    let messages: Map<String, Value> = away
        .iter()
        .map(|server| (format!("@bob:{server}"), json!({"*": {"n": 1}})))
        .collect();
    let messages = json!({ "messages": messages });
    alice
        .put("/v3/sendToDevice/org.example.note/1", messages)
        .ok();
    until("they are known to be away", || {
        let listed = server.run(&["federation", "list", "--json"]).stdout;
        let listed = String::from_utf8(listed).expect("text");
        let failing = listed.lines().filter(|line| {
            let status: Value = serde_json::from_str(line).expect("JSON");
            status["failures"] != 0
        });
        (failing.count() == away.len()).then_some(())
    });
    let via: String = away.iter().map(|server| format!("via={server}&")).collect();
    let path = format!("/v3/join/{}?{via}via={}", encode(&room.id()), peer.name());
    alice.post(&path, json!({})).ok();
}
