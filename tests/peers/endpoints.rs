//! Every endpoint of the server-server specification is there, refuses who does not sign, and answers who does.

use serde_json::{Value, json};
use testkit::{Response, encode};

use crate::Scene;

/// API, method, path and authentication of every endpoint that a homeserver serves.
const ENDPOINTS: &str = include_str!("../blackbox/endpoints.tsv");

/// Method, path and authentication of those for other servers.
fn endpoints() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    ENDPOINTS.lines().filter_map(|line| {
        let mut columns = line.split('\t');
        let api = columns.next()?;
        let (method, path, auth) = (columns.next()?, columns.next()?, columns.next()?);
        (api == "server-server").then_some((method, path, auth))
    })
}

#[test]
fn every_endpoint_that_wants_a_signature_refuses_a_request_without_one() {
    let scene = Scene::with(json!({"preset": "public_chat"}));
    let client = scene.server.client();
    let mut wrong = Vec::new();
    let mut signed = 0;
    for (method, path, _) in endpoints().filter(|(_, _, auth)| *auth == "server-signature") {
        signed += 1;
        let concrete = Asked::of(&scene, method, path).path;
        let body = match method {
            "GET" => Vec::new(),
            _ => b"{}".to_vec(),
        };
        let wrong_destination =
            scene
                .peer
                .authorization("elsewhere.example", method, &concrete, None);
        for headers in [
            &[][..],
            &[("Authorization", "X-Matrix origin=x,key=\"ed25519:1\",sig=x")],
            &[("Authorization", wrong_destination.as_str())],
            &[("Authorization", "Bearer token")],
        ] {
            let answer = client.exchange(method, &concrete, headers, body.clone());
            let error: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if (answer.status, &error["errcode"]) != (401, &json!("M_UNAUTHORIZED")) {
                wrong.push(format!("{path}: {answer}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(signed >= 28, "only {signed} endpoints are in the list");
}

/// A well-formed request to an endpoint.
struct Asked {
    path: String,
    body: Option<Value>,
    /// What the answer must be: a member of a successful one, or the code of the refusal that the specification has
    /// for it.
    expected: Expected,
}

enum Expected {
    Member(&'static str),
    Code(u16, &'static str),
}

impl Asked {
    /// A request about the scene's room, users and events.
    fn of(scene: &Scene, method: &str, path: &str) -> Self {
        use Expected::{Code, Member};
        let (room, bob) = (encode(&scene.room), scene.peer.user("bob"));
        let create = scene.joined.state("m.room.create", "").expect("a room");
        let create = scene.joined.event_id(&create);
        let event = encode(&create);
        let alice = encode(&scene.alice.id);
        let (query, body, expected) = match (method, path) {
            (_, "/.well-known/matrix/server") => (String::new(), None, Code(404, "M_NOT_FOUND")),
            (_, "/_matrix/federation/v1/3pid/onbind") => {
                let bound = json!({"medium": "email", "address": "a@example", "mxid": scene.alice.id, "invites": []});
                (String::new(), Some(bound), Member(""))
            }
            (_, "/_matrix/federation/v1/backfill/{roomId}") => {
                (format!("?v={event}&limit=1"), None, Member("pdus"))
            }
            (_, "/_matrix/federation/v1/event/{eventId}") => (String::new(), None, Member("pdus")),
            (_, "/_matrix/federation/v1/event_auth/{roomId}/{eventId}") => {
                (String::new(), None, Member("auth_chain"))
            }
            (_, "/_matrix/federation/v1/exchange_third_party_invite/{roomId}") => {
                (String::new(), Some(json!({})), Code(400, ""))
            }
            (_, "/_matrix/federation/v1/get_missing_events/{roomId}") => {
                let between = json!({"earliest_events": [], "latest_events": [create]});
                (String::new(), Some(between), Member("events"))
            }
            (_, "/_matrix/federation/v1/hierarchy/{roomId}") => {
                (String::new(), None, Member("inaccessible_children"))
            }
            (_, "/_matrix/federation/v1/make_join/{roomId}/{userId}")
            | (_, "/_matrix/federation/v1/make_leave/{roomId}/{userId}") => {
                ("?ver=12".to_owned(), None, Member("event"))
            }
            (_, "/_matrix/federation/v1/make_knock/{roomId}/{userId}") => {
                ("?ver=12".to_owned(), None, Code(403, "M_FORBIDDEN"))
            }
            (_, "/_matrix/federation/v1/media/download/{mediaId}") => {
                (String::new(), None, Code(404, "M_NOT_FOUND"))
            }
            (_, "/_matrix/federation/v1/media/thumbnail/{mediaId}") => (
                "?width=8&height=8".to_owned(),
                None,
                Code(404, "M_NOT_FOUND"),
            ),
            (_, "/_matrix/federation/v1/openid/userinfo") => (
                "?access_token=none".to_owned(),
                None,
                Code(401, "M_UNKNOWN_TOKEN"),
            ),
            ("GET", "/_matrix/federation/v1/publicRooms") => (String::new(), None, Member("chunk")),
            (_, "/_matrix/federation/v1/publicRooms") => {
                (String::new(), Some(json!({})), Member("chunk"))
            }
            (_, "/_matrix/federation/v1/query/directory") => {
                let alias = encode(&format!("#none:{}", scene.server.name()));
                (
                    format!("?room_alias={alias}"),
                    None,
                    Code(404, "M_NOT_FOUND"),
                )
            }
            (_, "/_matrix/federation/v1/query/profile") => {
                (format!("?user_id={alice}"), None, Member("displayname"))
            }
            (_, "/_matrix/federation/v1/query/{queryType}") => {
                (String::new(), None, Code(404, "M_UNRECOGNIZED"))
            }
            (_, "/_matrix/federation/v1/send/{txnId}") => {
                let nothing =
                    json!({"origin": scene.peer.name(), "origin_server_ts": 1, "pdus": []});
                (String::new(), Some(nothing), Member("pdus"))
            }
            (_, "/_matrix/federation/v1/state/{roomId}") => {
                (format!("?event_id={event}"), None, Member("pdus"))
            }
            (_, "/_matrix/federation/v1/state_ids/{roomId}") => {
                (format!("?event_id={event}"), None, Member("pdu_ids"))
            }
            (_, "/_matrix/federation/v1/timestamp_to_event/{roomId}") => {
                ("?ts=0&dir=f".to_owned(), None, Member("event_id"))
            }
            (_, "/_matrix/federation/v1/user/devices/{userId}") => {
                (String::new(), None, Member("devices"))
            }
            (_, "/_matrix/federation/v1/user/keys/claim") => (
                String::new(),
                Some(json!({"one_time_keys": {}})),
                Member("one_time_keys"),
            ),
            (_, "/_matrix/federation/v1/user/keys/query") => (
                String::new(),
                Some(json!({"device_keys": {}})),
                Member("device_keys"),
            ),
            (_, "/_matrix/federation/v1/version") => (String::new(), None, Member("server")),
            (_, "/_matrix/key/v2/query") => {
                let wanted = json!({"server_keys": {scene.server.name(): {}}});
                (String::new(), Some(wanted), Member("server_keys"))
            }
            (_, "/_matrix/key/v2/query/{serverName}") => {
                (String::new(), None, Member("server_keys"))
            }
            (_, "/_matrix/key/v2/server") => (String::new(), None, Member("verify_keys")),
            (_, "/_matrix/policy/v1/sign") => {
                (String::new(), Some(json!({})), Code(404, "M_UNRECOGNIZED"))
            }
            // What has to be signed as an event and is none.
            (_, path) if path.contains("/send_") || path.contains("/invite/") => {
                (String::new(), Some(json!({})), Code(400, ""))
            }
            (method, path) => panic!("{method} {path} is new: say what it answers"),
        };
        let user = match path.contains("/user/") {
            true => alice,
            false => encode(&bob),
        };
        let path = path
            .replace("{roomId}", &room)
            .replace("{userId}", &user)
            .replace("{eventId}", &event)
            .replace("{mediaId}", "none")
            .replace("{txnId}", "one")
            .replace("{queryType}", "weather")
            .replace("{serverName}", &encode(scene.server.name()));
        Self {
            path: path + &query,
            body,
            expected,
        }
    }

    /// Whether the answer is as expected.
    fn is_answered_by(&self, answer: &Response) -> bool {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match self.expected {
            Expected::Member("") => answer.status == 200,
            Expected::Member(key) => answer.status == 200 && body.get(key).is_some(),
            Expected::Code(status, "") => {
                let code = body["errcode"].as_str();
                answer.status == status && code.is_some_and(|code| code != "M_UNRECOGNIZED")
            }
            Expected::Code(status, code) => answer.status == status && body["errcode"] == code,
        }
    }
}

#[test]
fn every_endpoint_answers_a_well_formed_request_by_the_specification() {
    let scene = Scene::with(json!({"preset": "public_chat"}));
    let mut wrong = Vec::new();
    let mut all = 0;
    for (method, path, auth) in endpoints() {
        all += 1;
        let asked = Asked::of(&scene, method, path);
        let answer = match auth {
            "server-signature" => {
                let body = asked.body.clone();
                scene.peer.request(&scene.server, method, &asked.path, body)
            }
            _ => {
                let body = asked.body.as_ref().map(Value::to_string);
                let body = body.unwrap_or_default().into_bytes();
                scene
                    .server
                    .client()
                    .exchange(method, &asked.path, &[], body)
            }
        };
        if !asked.is_answered_by(&answer) {
            wrong.push(answer.to_string());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(all, 36, "the list has every endpoint");
}
