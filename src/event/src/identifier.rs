//! The grammar of identifiers as events are held to it: user ids, server names, room ids and event ids.
//!
//! What a server may still *create* is narrower than what it must accept (historical user ids); this file answers the
//! second question, and [`is_new_user_localpart`] the first.
//!
//! Source: <https://spec.matrix.org/v1.19/appendices/#identifier-grammar>.

use std::net::{Ipv4Addr, Ipv6Addr};

/// No identifier is longer, in bytes, sigil and domain included.
pub const MAX_BYTES: usize = 255;

/// The server name in `&localpart:domain`, if there is one. The localpart can't contain a colon, the domain can.
pub fn domain(id: &str) -> Option<&str> {
    id.split_once(':').map(|(_, domain)| domain)
}

/// Whether two identifiers belong to the same server.
pub fn same_domain(a: &str, b: &str) -> bool {
    matches!((domain(a), domain(b)), (Some(a), Some(b)) if a == b)
}

/// Whether this is a user id that events may carry, historical ones included.
pub fn is_user_id(id: &str) -> bool {
    id.len() <= MAX_BYTES
        && id
            .strip_prefix('@')
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(localpart, server_name)| {
                !localpart.contains('\0') && is_server_name(server_name)
            })
}

/// Whether a new account may have this localpart.
pub fn is_new_user_localpart(localpart: &str) -> bool {
    !localpart.is_empty()
        && localpart.bytes().all(|byte| {
            matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' | b'/' | b'+')
        })
}

/// Whether this is a room id with a domain (room versions 1 to 11).
pub fn is_room_id_with_domain(id: &str) -> bool {
    id.len() <= MAX_BYTES
        && id
            .strip_prefix('!')
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(opaque, server_name)| {
                !opaque.contains('\0') && is_server_name(server_name)
            })
}

/// Whether this is a room id of any room version.
pub fn is_room_id(id: &str) -> bool {
    is_room_id_with_domain(id) || is_room_id_with_hash(id)
}

/// Whether this is a room id made of the create event's hash (room version 12 and later).
pub fn is_room_id_with_hash(id: &str) -> bool {
    id.strip_prefix('!').is_some_and(|hash| {
        hash.len() == 43
            && hash
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

/// Whether this could be an event id of some room version.
pub fn is_event_id(id: &str) -> bool {
    id.len() <= MAX_BYTES && id.len() > 1 && id.starts_with('$') && !id.contains('\0')
}

/// Whether this is a server name: a DNS name, an IPv4 or a bracketed IPv6 address, and perhaps a port.
pub fn is_server_name(name: &str) -> bool {
    let (host, port) = match name.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return false,
            }
        }
        None => match name.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(name), None),
        },
    };
    let host_fits = host.is_none_or(|host| {
        (1..=MAX_BYTES).contains(&host.len())
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
            && (!looks_like_ipv4(host) || host.parse::<Ipv4Addr>().is_ok())
    });
    let port_fits = port.is_none_or(|port| {
        (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
    });
    host_fits && port_fits
}

fn looks_like_ipv4(host: &str) -> bool {
    host.ends_with(|last: char| last.is_ascii_digit())
        && host.split('.').count() == 4
        && host
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_follow_the_grammar() {
        for name in [
            "matrix.org",
            "matrix.org:8888",
            "1.2.3.4",
            "1.2.3.4:1234",
            "[1234:5678::abcd]",
            "[1234:5678::abcd]:5678",
            "localhost",
            "A-b.c",
        ] {
            assert!(is_server_name(name), "{name}");
        }
        for name in [
            "",
            ":80",
            "a b",
            "a:",
            "a:123456",
            "a:b",
            "a:1:2",
            "[::1",
            "[::1]x",
            "[g::]",
            "a_b.org",
            "a/b",
            "999.1.1.1",
            "[]",
            "é.org",
        ] {
            assert!(!is_server_name(name), "{name}");
        }
    }

    #[test]
    fn user_ids_may_be_historical_in_events_but_not_in_new_accounts() {
        for id in ["@a:b", "@Alice:example.org", "@:b", "@a b@c!é:b.org:8448"] {
            assert!(is_user_id(id), "{id}");
        }
        for id in ["", "a:b", "@a", "@a:", "@a:b c", "#a:b", "@a\0:b"] {
            assert!(!is_user_id(id), "{id}");
        }
        assert!(is_user_id(&format!("@{}:b", "a".repeat(252))));
        assert!(!is_user_id(&format!("@{}:b", "a".repeat(253))));
        assert!(is_new_user_localpart("a.b_c=d-e/f+1"));
        assert!(!is_new_user_localpart("A") && !is_new_user_localpart(""));
    }

    #[test]
    fn room_ids_have_a_domain_or_a_hash() {
        assert!(is_room_id_with_domain("!x:b.org"));
        assert!(is_room_id_with_hash(
            "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM"
        ));
        assert!(!is_room_id("!x") && !is_room_id("x:b.org") && !is_room_id("!x:b c"));
    }
}
