//! Push rules: the defaults, one's own, and what they do to the unread counts.

use serde_json::{Value, json};
use testkit::User;

use crate::{column, pair, server};

fn rule_path(kind: &str, rule: &str) -> String {
    format!("/v3/pushrules/global/{kind}/{rule}")
}

fn notifications(user: &User, room: &str) -> (u64, u64) {
    let answer = user.sync(None, "");
    let counts = &answer.joined(room)["unread_notifications"];
    let count = |key: &str| counts[key].as_u64().unwrap_or_default();
    (count("notification_count"), count("highlight_count"))
}

#[test]
fn the_default_rules_are_there_in_their_order() {
    let server = server();
    let user = server.register("alice");
    let rules = user.get("/v3/pushrules/").ok();
    let ids = |kind: &str| column(&rules["global"][kind], "rule_id").join(" ");
    let overrides = ids("override");
    for rule in [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
    ] {
        assert!(overrides.contains(rule), "{rule}: {overrides}");
    }
    assert!(overrides.starts_with(".m.rule.master"), "{overrides}");
    let underrides = ids("underride");
    for rule in [
        ".m.rule.call",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
    ] {
        assert!(underrides.contains(rule), "{rule}: {underrides}");
    }
    let master = user.get(&rule_path("override", ".m.rule.master")).ok();
    assert_eq!(
        (&master["enabled"], &master["default"]),
        (&json!(false), &json!(true))
    );
    let scope = user.get("/v3/pushrules/global/").ok();
    assert_eq!(scope, rules["global"]);
}

#[test]
fn a_rule_is_added_read_changed_and_deleted() {
    let server = server();
    let user = server.register("alice");
    let path = rule_path("content", "org.example.tea");
    let rule = json!({"pattern": "tea", "actions": ["notify", {"set_tweak": "highlight"}]});
    user.put(&path, rule).ok();
    let read = user.get(&path).ok();
    assert_eq!(read["pattern"], "tea");
    assert_eq!(
        (&read["enabled"], &read["default"]),
        (&json!(true), &json!(false))
    );
    user.put(&format!("{path}/enabled"), json!({"enabled": false}))
        .ok();
    assert_eq!(
        user.get(&format!("{path}/enabled")).ok(),
        json!({"enabled": false})
    );
    user.put(&format!("{path}/actions"), json!({"actions": []}))
        .ok();
    assert_eq!(
        user.get(&format!("{path}/actions")).ok(),
        json!({"actions": []})
    );
    user.delete(&path).ok();
    user.get(&path).error(404, "M_NOT_FOUND");
}

#[test]
fn a_rule_can_be_put_before_and_after_another() {
    let server = server();
    let user = server.register("alice");
    let put = |rule: &str, query: &str| {
        let body = json!({"conditions": [], "actions": ["notify"]});
        user.put(&format!("{}{query}", rule_path("override", rule)), body)
    };
    put("one", "").ok();
    put("two", "").ok();
    put("three", "?before=one").ok();
    put("four", "?after=two").ok();
    let rules = user.get("/v3/pushrules/").ok();
    let ids = column(&rules["global"]["override"], "rule_id");
    let own: Vec<&str> = ids.into_iter().filter(|id| !id.starts_with('.')).collect();
    assert_eq!(own, ["two", "four", "three", "one"]);
    let wrong = put("five", "?before=nosuchrule");
    assert!(matches!(wrong.status, 400 | 404), "{wrong}");
}

#[test]
fn rules_that_are_not_understood_are_refused() {
    let server = server();
    let user = server.register("alice");
    let actions = json!({"actions": ["notify"], "conditions": []});
    for (kind, rule, body) in [
        ("override", ".m.rule.mine", actions.clone()),
        ("nonsense", "one", actions.clone()),
        ("override", "one", json!({"conditions": []})),
        ("override", "one", json!({"actions": [7]})),
        ("content", "one", json!({"actions": []})),
    ] {
        let answer = user.put(&rule_path(kind, rule), body);
        assert!(matches!(answer.status, 400 | 404), "{answer}");
    }
    user.get(&rule_path("override", "one"))
        .error(404, "M_NOT_FOUND");
}

#[test]
fn default_rules_can_be_switched_but_not_deleted() {
    let server = server();
    let user = server.register("alice");
    let path = rule_path("underride", ".m.rule.message");
    user.put(&format!("{path}/enabled"), json!({"enabled": false}))
        .ok();
    assert_eq!(user.get(&path).ok()["enabled"], false);
    let answer = user.delete(&path);
    assert!(matches!(answer.status, 400 | 404), "{answer}");
    user.get(&path).ok();
}

#[test]
fn a_changed_rule_comes_down_sync_with_all_the_others() {
    let server = server();
    let user = server.register("alice");
    let first = user.sync(None, "");
    let rules = |events: &[Value]| {
        events
            .iter()
            .find(|event| event["type"] == "m.push_rules")
            .cloned()
    };
    assert!(
        rules(first.account_data()).is_some(),
        "a first sync has the rules"
    );
    user.put(
        &rule_path("room", "!room:test.example"),
        json!({"actions": []}),
    )
    .ok();
    let second = user.sync(Some(first.next_batch()), "");
    let event = rules(second.account_data()).expect("the changed rules");
    assert_eq!(
        column(&event["content"]["global"]["room"], "rule_id"),
        ["!room:test.example"]
    );
    assert!(!column(&event["content"]["global"]["override"], "rule_id").is_empty());
}

#[test]
fn a_muted_room_counts_nothing() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let rule = json!({
        "actions": [],
        "conditions": [{"kind": "event_match", "key": "room_id", "pattern": room}],
    });
    bob.put(&rule_path("override", "mute"), rule).ok();
    alice.say(&room, "hello");
    assert_eq!(notifications(&bob, &room), (0, 0));
}

#[test]
fn a_word_of_ones_own_is_a_highlight() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let rule = json!({"pattern": "teapot", "actions": ["notify", {"set_tweak": "highlight"}]});
    bob.put(&rule_path("content", "teapot"), rule).ok();
    alice.say(&room, "my TEAPOT!");
    alice.say(&room, "my teapots");
    assert_eq!(notifications(&bob, &room), (2, 1));
}

#[test]
fn notices_reactions_edits_and_members_count_nothing() {
    let server = server();
    let (alice, bob, room) = pair(&server);
    let id = alice.say(&room, "counts");
    alice.send(
        &room,
        "m.room.message",
        json!({"msgtype": "m.notice", "body": "notice"}),
    );
    let relation = json!({"rel_type": "m.annotation", "event_id": id, "key": "x"});
    alice.send(&room, "m.reaction", json!({"m.relates_to": relation}));
    let edit = json!({
        "msgtype": "m.text", "body": "* edited", "m.new_content": {"msgtype": "m.text", "body": "edited"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": id},
    });
    alice.send(&room, "m.room.message", edit);
    server.register("carol").join(&room);
    assert_eq!(notifications(&bob, &room), (1, 0));
}

#[test]
fn a_new_account_has_no_pushers() {
    let server = server();
    let user = server.register("alice");
    assert_eq!(user.get("/v3/pushers").ok(), json!({"pushers": []}));
}

#[test]
fn a_pusher_is_set_and_removed() {
    let server = server();
    let user = server.register("alice");
    let mut pusher = json!({
        "kind": "http", "app_id": "org.example.app", "app_display_name": "App",
        "device_display_name": "phone", "pushkey": "key", "lang": "en",
        "data": {"url": "https://push.example.org/_matrix/push/v1/notify"},
    });
    user.post("/v3/pushers/set", pusher.clone()).ok();
    let set = user.get("/v3/pushers").ok()["pushers"].clone();
    assert_eq!(column(&set, "pushkey"), ["key"]);
    assert_eq!(set[0]["data"], pusher["data"]);
    pusher["kind"] = Value::Null;
    user.post("/v3/pushers/set", pusher).ok();
    assert_eq!(user.get("/v3/pushers").ok(), json!({"pushers": []}));
}
