//! Answers of `/sync`, and following them as a client does.

use std::time::Instant;

use serde_json::Value;

use crate::client::encode;
use crate::user::User;
use crate::wait::LIMIT;

/// One answer.
#[derive(Debug)]
pub struct SyncAnswer(pub Value);

impl SyncAnswer {
    #[track_caller]
    pub(crate) fn new(value: Value) -> Self {
        assert!(
            value["next_batch"].is_string(),
            "a sync has a next_batch: {value}"
        );
        Self(value)
    }

    /// The token to go on with.
    pub fn next_batch(&self) -> &str {
        self.0["next_batch"].as_str().unwrap_or_default()
    }

    /// What it says about a room that the user is in; null where it says nothing.
    pub fn joined(&self, room: &str) -> &Value {
        &self.0["rooms"]["join"][room]
    }

    /// What it says about a room that the user has left; null where it says nothing.
    pub fn left(&self, room: &str) -> &Value {
        &self.0["rooms"]["leave"][room]
    }

    /// What it says about an invitation; null where it says nothing.
    pub fn invited(&self, room: &str) -> &Value {
        &self.0["rooms"]["invite"][room]
    }

    /// The new events of a room that the user is in.
    pub fn timeline(&self, room: &str) -> &[Value] {
        list(&self.joined(room)["timeline"]["events"])
    }

    /// The state of a room that comes before the timeline.
    pub fn state(&self, room: &str) -> &[Value] {
        list(&self.joined(room)["state"]["events"])
    }

    /// Receipts and typing in a room.
    pub fn ephemeral(&self, room: &str) -> &[Value] {
        list(&self.joined(room)["ephemeral"]["events"])
    }

    /// Messages from other devices.
    pub fn to_device(&self) -> &[Value] {
        list(&self.0["to_device"]["events"])
    }

    /// The user's own account data.
    pub fn account_data(&self) -> &[Value] {
        list(&self.0["account_data"]["events"])
    }

    /// The event with this id in a room's timeline.
    pub fn event(&self, room: &str, event: &str) -> Option<&Value> {
        self.timeline(room)
            .iter()
            .find(|candidate| candidate["event_id"] == event)
    }

    /// The ids of the events in a room's timeline.
    pub fn event_ids(&self, room: &str) -> Vec<&str> {
        self.timeline(room)
            .iter()
            .filter_map(|event| event["event_id"].as_str())
            .collect()
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A device that long-polls, each request from where the last ended.
pub struct Follower {
    user: User,
    since: Option<String>,
}

impl Follower {
    pub(crate) fn new(user: User, since: Option<String>) -> Self {
        Self { user, since }
    }

    /// The token of the last answer.
    pub fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// The next answer; the server may wait this long for it.
    #[track_caller]
    pub fn next(&mut self, timeout_ms: u64) -> SyncAnswer {
        let since = match &self.since {
            Some(since) => format!("&since={}", encode(since)),
            None => String::new(),
        };
        let answer = self
            .user
            .get(&format!("/v3/sync?timeout={timeout_ms}{since}"))
            .ok();
        let answer = SyncAnswer::new(answer);
        self.since = Some(answer.next_batch().to_owned());
        answer
    }

    /// Follows until an answer has what is looked for.
    ///
    /// # Panics
    /// When nothing like it has come within [`LIMIT`].
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, find: impl Fn(&SyncAnswer) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            let answer = self.next(1000);
            if let Some(found) = find(&answer) {
                return found;
            }
            assert!(
                begin.elapsed() < LIMIT,
                "waited {LIMIT:?} in vain for a sync: {what}"
            );
        }
    }

    /// Follows until a room's timeline has this event, and gives it.
    #[track_caller]
    pub fn until_event(&mut self, room: &str, event: &str) -> Value {
        self.until("an event arrives", |answer| {
            answer.event(room, event).cloned()
        })
    }
}
