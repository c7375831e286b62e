//! The rules of the house for other servers: with whom this server talks at all, and what it shares with whom
//! (`federation.allow`, `federation.deny`, `[[federation.partner]]`).
//!
//! Requests in both directions are judged by their target alone: rooms and users of this server that it names, and
//! whether it is about files. What is in them is judged where it is made and taken in, by [`Node::may_share_room`] and
//! [`Node::may_share_user`]: events by their room, invitations by the user of this server as well, EDUs by the rooms and
//! users that they name. In a room that is shared, events of all its members are.

use config::{Federation, Partner};
use percent_encoding::percent_decode_str;

use crate::Node;

/// Why nothing is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// This server does not talk with that one.
    #[error("this server does not federate with that one")]
    Server,
    /// The room is not shared with that server.
    #[error("this room is not shared with that server")]
    Room,
    /// The user is not shown to that server.
    #[error("this user is not shared with that server")]
    User,
    /// Files are not shared with that server.
    #[error("files are not shared with that server")]
    Media,
}

/// Which way a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From another server.
    In,
    /// To another server.
    Out,
}

impl Direction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }
}

impl Node {
    /// Whether a request from or to a server may pass.
    ///
    /// # Errors
    /// Why not.
    pub fn judge_request(&self, server_name: &str, target: &str) -> Result<(), Forbidden> {
        let federation = &self.config().federation;
        judge(federation, self.server_name(), server_name, target)
    }

    /// Whether events of a room may go to a server and come from it.
    pub fn may_share_room(&self, server_name: &str, room_id: &str) -> bool {
        let federation = &self.config().federation;
        admits(federation, server_name)
            && partner(federation, server_name).is_none_or(|partner| shares_room(partner, room_id))
    }

    /// Whether only some rooms, users or files are for a server.
    pub fn is_limited_partner(&self, server_name: &str) -> bool {
        partner(&self.config().federation, server_name).is_some()
    }

    /// Whether a user of this server may be seen by another server.
    pub fn may_share_user(&self, server_name: &str, user_id: &str) -> bool {
        let federation = &self.config().federation;
        admits(federation, server_name)
            && partner(federation, server_name).is_none_or(|partner| shares_user(partner, user_id))
    }

    /// Whether this server talks with that one at all.
    pub fn may_federate(&self, server_name: &str) -> bool {
        admits(&self.config().federation, server_name)
    }
}

/// As [`Node::judge_request`], by the configuration alone.
pub(crate) fn judge(
    federation: &Federation,
    own_name: &str,
    server_name: &str,
    target: &str,
) -> Result<(), Forbidden> {
    if !admits(federation, server_name) {
        return Err(Forbidden::Server);
    }
    let Some(partner) = partner(federation, server_name) else {
        return Ok(());
    };
    let subject = Subject::of(own_name, target);
    if let Some(room) = &subject.room
        && !shares_room(partner, room)
    {
        return Err(Forbidden::Room);
    }
    if let Some(user) = &subject.user
        && !shares_user(partner, user)
    {
        return Err(Forbidden::User);
    }
    if subject.is_media && !partner.media {
        return Err(Forbidden::Media);
    }
    Ok(())
}

fn admits(federation: &Federation, server_name: &str) -> bool {
    let mut allow = federation.allow.iter();
    let mut deny = federation.deny.iter();
    allow.any(|pattern| pattern.matches_server(server_name))
        && !deny.any(|pattern| pattern.matches_server(server_name))
}

fn partner<'a>(federation: &'a Federation, server_name: &str) -> Option<&'a Partner> {
    federation.partner.iter().find(|partner| {
        let mut servers = partner.servers.iter();
        servers.any(|pattern| pattern.matches_server(server_name))
    })
}

fn shares_room(partner: &Partner, room_id: &str) -> bool {
    partner.rooms.iter().any(|pattern| pattern.matches(room_id))
}

fn shares_user(partner: &Partner, user_id: &str) -> bool {
    partner.users.iter().any(|pattern| pattern.matches(user_id))
}

/// What a request is about, as far as its target tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// The first part of the path after the version: `send`, `make_join`, `media`.
    pub(super) endpoint: String,
    pub(super) room: Option<String>,
    /// A user of this server.
    pub(super) user: Option<String>,
    is_media: bool,
}

impl Subject {
    pub(super) fn of(own_name: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut subject = Self {
            endpoint: path.split('/').nth(4).unwrap_or_default().to_owned(),
            room: None,
            user: None,
            is_media: false,
        };
        subject.is_media = matches!(
            subject.endpoint.as_str(),
            "media" | "download" | "thumbnail"
        ) || path.starts_with("/_matrix/media/");
        let values = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(_, value)| value);
        for part in path.split('/').skip(5).chain(values) {
            let part = percent_decode_str(part).decode_utf8_lossy();
            if part.starts_with('!') {
                subject.room.get_or_insert_with(|| part.into_owned());
            } else if part.starts_with('@') && event::identifier::domain(&part) == Some(own_name) {
                subject.user.get_or_insert_with(|| part.into_owned());
            }
        }
        subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Pattern;

    const OWN: &str = "here.example";

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().filter_map(|text| Pattern::new(text)).collect()
    }

    fn judged(federation: &Federation, server: &str, target: &str) -> Result<(), Forbidden> {
        judge(federation, OWN, server, target)
    }

    #[test]
    fn all_may_come_unless_they_are_denied_or_not_among_the_allowed() {
        let target = "/_matrix/federation/v1/version";
        let mut federation = Federation::default();
        assert_eq!(judged(&federation, "a.example", target), Ok(()));
        federation.deny = patterns(&["*.spam.example"]);
        let denied = judged(&federation, "x.spam.example:8448", target);
        assert_eq!(denied, Err(Forbidden::Server));
        federation.allow = patterns(&["a.example"]);
        assert_eq!(judged(&federation, "a.example:1", target), Ok(()));
        assert_eq!(
            judged(&federation, "b.example", target),
            Err(Forbidden::Server)
        );
        federation.allow = Vec::new();
        assert_eq!(
            judged(&federation, "a.example", target),
            Err(Forbidden::Server)
        );
    }

    #[test]
    fn a_partner_sees_the_rooms_users_and_files_that_are_for_it() {
        let partner = Partner {
            servers: patterns(&["*.partner.example"]),
            rooms: patterns(&["!open*:here.example"]),
            users: patterns(&["@guide-*:here.example"]),
            media: false,
        };
        let federation = Federation {
            partner: vec![partner],
            ..Federation::default()
        };
        for (target, expected) in [
            ("/_matrix/federation/v1/state/!open1:here.example", Ok(())),
            (
                "/_matrix/federation/v1/state/%21shut:here.example?event_id=x",
                Err(Forbidden::Room),
            ),
            (
                "/_matrix/federation/v1/make_join/!open:here.example/@x:a.partner.example",
                Ok(()),
            ),
            (
                "/_matrix/federation/v1/user/devices/%40guide-1:here.example",
                Ok(()),
            ),
            (
                "/_matrix/federation/v1/user/devices/@boss:here.example",
                Err(Forbidden::User),
            ),
            (
                "/_matrix/federation/v1/query/profile?user_id=%40boss%3Ahere.example",
                Err(Forbidden::User),
            ),
            (
                "/_matrix/federation/v1/media/download/x",
                Err(Forbidden::Media),
            ),
            ("/_matrix/federation/v1/send/1", Ok(())),
        ] {
            assert_eq!(
                judged(&federation, "a.partner.example", target),
                expected,
                "{target}"
            );
            assert_eq!(judged(&federation, "b.example", target), Ok(()), "{target}");
        }
    }
}
