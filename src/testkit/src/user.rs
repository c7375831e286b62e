//! A registered, logged-in user, with the requests that nearly every test makes.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::client::{Client, Response, encode};
use crate::sync::{Follower, SyncAnswer};

/// A user on one device. Requests are those of [`Client`], made with the user's token.
#[derive(Clone)]
pub struct User {
    client: Client,
    pub id: String,
    pub device: String,
    pub password: String,
}

impl Deref for User {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl User {
    /// Registers a user, whose localpart begins with `name`, in the way of open registration.
    #[track_caller]
    pub fn register(client: &Client, name: &str) -> Self {
        let localpart = unique(name);
        let password = format!("the password of {localpart}");
        let account = client
            .post(
                "/v3/register",
                json!({
                    "username": localpart, "password": password,
                    "auth": {"type": "m.login.dummy"},
                }),
            )
            .ok();
        Self::from_login(client, &account, password)
    }

    /// Logs the same user in on a new device.
    #[track_caller]
    pub fn login_again(&self) -> Self {
        let body = json!({
            "type": "m.login.password", "password": self.password,
            "identifier": {"type": "m.id.user", "user": self.id},
        });
        let client = self.without_token();
        let login = client.post("/v3/login", body).ok();
        Self::from_login(&client, &login, self.password.clone())
    }

    #[track_caller]
    fn from_login(client: &Client, answer: &Value, password: String) -> Self {
        let text = |key: &str| match answer[key].as_str() {
            Some(text) => text.to_owned(),
            None => panic!("the answer has a {key}: {answer}"),
        };
        Self {
            client: client.with_token(&text("access_token")),
            id: text("user_id"),
            device: text("device_id"),
            password,
        }
    }

    /// The part of the user's id before the server's name, without the `@`.
    pub fn localpart(&self) -> &str {
        self.id
            .split(':')
            .next()
            .unwrap_or_default()
            .trim_start_matches('@')
    }

    /// The name of the server.
    pub fn server_name(&self) -> &str {
        self.id.split_once(':').map_or("", |(_, server)| server)
    }

    /// The body that answers interactive authentication with the password.
    pub fn password_auth(&self, session: &Value) -> Value {
        json!({
            "type": "m.login.password", "password": self.password, "session": session,
            "identifier": {"type": "m.id.user", "user": self.id},
        })
    }

    /// Creates a room and gives its id.
    #[track_caller]
    pub fn create_room(&self, options: Value) -> String {
        let answer = self.post("/v3/createRoom", options).ok();
        answer["room_id"].as_str().expect("a room id").to_owned()
    }

    /// A room that anyone may join.
    #[track_caller]
    pub fn create_public_room(&self) -> String {
        self.create_room(json!({"preset": "public_chat"}))
    }

    #[track_caller]
    pub fn join(&self, room: &str) {
        self.post(&format!("/v3/join/{}", encode(room)), json!({}))
            .ok();
    }

    #[track_caller]
    pub fn invite(&self, room: &str, user: &User) {
        self.membership(room, "invite", user).ok();
    }

    #[track_caller]
    pub fn leave(&self, room: &str) {
        self.post(&format!("/v3/rooms/{}/leave", encode(room)), json!({}))
            .ok();
    }

    /// `POST /rooms/{room}/{action}` about another user: invite, kick, ban or unban.
    #[track_caller]
    pub fn membership(&self, room: &str, action: &str, user: &User) -> Response {
        let path = format!("/v3/rooms/{}/{action}", encode(room));
        self.post(&path, json!({"user_id": user.id}))
    }

    /// Sends an event under a new transaction id and gives the answer.
    #[track_caller]
    pub fn try_send(&self, room: &str, kind: &str, content: Value) -> Response {
        let transaction = unique("t");
        let path = format!(
            "/v3/rooms/{}/send/{}/{transaction}",
            encode(room),
            encode(kind)
        );
        self.put(&path, content)
    }

    /// Sends an event and gives its id.
    #[track_caller]
    pub fn send(&self, room: &str, kind: &str, content: Value) -> String {
        event_id(&self.try_send(room, kind, content).ok())
    }

    /// The ids of a room's messages by their text, from its whole history.
    #[track_caller]
    pub fn messages_by_text(&self, room: &str) -> BTreeMap<String, Vec<String>> {
        let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut from = String::new();
        loop {
            let path = format!("/v3/rooms/{}/messages?dir=b&limit=100{from}", encode(room));
            let page = self.get(&path).ok();
            for event in page["chunk"].as_array().into_iter().flatten() {
                let body = event["content"]["body"].as_str();
                if let (Some(body), Some(id)) = (body, event["event_id"].as_str()) {
                    ids.entry(body.to_owned()).or_default().push(id.to_owned());
                }
            }
            match page["end"].as_str() {
                Some(end) => from = format!("&from={}", encode(end)),
                None => return ids,
            }
        }
    }

    /// Sends a text and gives the event's id.
    #[track_caller]
    pub fn say(&self, room: &str, text: &str) -> String {
        self.send(
            room,
            "m.room.message",
            json!({"msgtype": "m.text", "body": text}),
        )
    }

    /// Sends a state event and gives the answer.
    #[track_caller]
    pub fn try_set_state(&self, room: &str, kind: &str, key: &str, content: Value) -> Response {
        self.put(&state_path(room, kind, key), content)
    }

    /// Sends a state event and gives its id.
    #[track_caller]
    pub fn set_state(&self, room: &str, kind: &str, key: &str, content: Value) -> String {
        event_id(&self.try_set_state(room, kind, key, content).ok())
    }

    /// The content of a state event, as an answer.
    #[track_caller]
    pub fn state(&self, room: &str, kind: &str, key: &str) -> Response {
        self.get(&state_path(room, kind, key))
    }

    /// Redacts an event and gives the redaction's id.
    #[track_caller]
    pub fn redact(&self, room: &str, event: &str) -> String {
        let (room, event, transaction) = (encode(room), encode(event), unique("t"));
        let path = format!("/v3/rooms/{room}/redact/{event}/{transaction}");
        event_id(&self.put(&path, json!({})).ok())
    }

    /// One event, as the user sees it.
    #[track_caller]
    pub fn event(&self, room: &str, event: &str) -> Response {
        self.get(&format!(
            "/v3/rooms/{}/event/{}",
            encode(room),
            encode(event)
        ))
    }

    /// A sync that does not wait. `options` is the rest of the query: `&filter=...`.
    #[track_caller]
    pub fn sync(&self, since: Option<&str>, options: &str) -> SyncAnswer {
        let since = since.map_or(String::new(), |since| format!("&since={}", encode(since)));
        SyncAnswer::new(
            self.get(&format!("/v3/sync?timeout=0{since}{options}"))
                .ok(),
        )
    }

    /// Follows `/sync` from the beginning.
    pub fn follow(&self) -> Follower {
        Follower::new(self.clone(), None)
    }

    /// Follows `/sync` from now on.
    #[track_caller]
    pub fn follow_from_now(&self) -> Follower {
        let now = self.sync(None, "").next_batch().to_owned();
        Follower::new(self.clone(), Some(now))
    }
}

fn state_path(room: &str, kind: &str, key: &str) -> String {
    format!(
        "/v3/rooms/{}/state/{}/{}",
        encode(room),
        encode(kind),
        encode(key)
    )
}

#[track_caller]
fn event_id(answer: &Value) -> String {
    answer["event_id"].as_str().expect("an event id").to_owned()
}

/// A word that begins with `prefix` and that no test, of this run or another, has had before.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let time_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{:x}-{number}", time_ns / 1000)
}
