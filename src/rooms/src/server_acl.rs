//! Which servers a room admits: `m.room.server_acl`.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-access-control-lists-acls-for-rooms>
//!
//! The answer is a function of the event and of the server's name without its port. A room without the event admits
//! everybody; one whose event was redacted, or says nothing that can be understood, nobody.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use event::{EventId, json};
use names::RoomSn;
use store::Read;

use crate::{Cache, Result, event_log, state};

/// The type of the event.
const EVENT_TYPE: &str = "m.room.server_acl";

/// A list as it is asked: patterns without wildcards are looked up, the others tried one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Patterns {
    exact: HashSet<Box<str>>,
    globs: Vec<Box<str>>,
}

impl Patterns {
    fn of(content: &str, key: &str) -> Self {
        let mut patterns = Self::default();
        let list = json::member(content, key).filter(|list| json::is_array(list));
        let entries = list.into_iter().flat_map(json::elements);
        for entry in entries.filter_map(json::string) {
            let entry = entry.to_ascii_lowercase().into_boxed_str();
            if entry.contains(['*', '?']) {
                patterns.globs.push(entry);
            } else {
                patterns.exact.insert(entry);
            }
        }
        patterns
    }

    fn match_host(&self, host: &str) -> bool {
        self.exact.contains(host) || self.globs.iter().any(|glob| matches_glob(glob, host))
    }
}

/// The content of an `m.room.server_acl` event, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAcl {
    allow_ip_literals: bool,
    allow: Patterns,
    deny: Patterns,
}

impl ServerAcl {
    /// Reads the content. Lists that are none are empty; what is no text in them matches nothing.
    pub fn of_content(content: &str) -> Self {
        Self {
            allow_ip_literals: json::member(content, "allow_ip_literals") != Some("false"),
            allow: Patterns::of(content, "allow"),
            deny: Patterns::of(content, "deny"),
        }
    }

    /// Whether a server may take part in the room.
    pub fn allows(&self, server_name: &str) -> bool {
        let host = without_port(server_name).to_ascii_lowercase();
        if !self.allow_ip_literals && is_ip_literal(&host) {
            return false;
        }
        !self.deny.match_host(&host) && self.allow.match_host(&host)
    }
}

/// Whether a room admits a server now. Three reads at most; lists are parsed once.
///
/// # Errors
/// If the room can't be read.
pub fn allows(from: &impl Read, cache: &Cache, room: RoomSn, server_name: &str) -> Result<bool> {
    let Some(no) = state::current(from, room, EVENT_TYPE, "")? else {
        return Ok(true);
    };
    let Some(listed) = cache.server_acl(from, room, no)? else {
        return Ok(true);
    };
    // Redaction leaves nothing of the content, and an empty list of those allowed is a list of nobody.
    let marks = event_log::marks(from, room, listed.event_id.as_str())?;
    Ok(marks.redacted_by.is_none() && listed.acl.allows(server_name))
}

/// The lists of an event, which do not change, and its id, by which is known whether it was redacted.
pub(crate) struct Listed {
    event_id: EventId,
    acl: ServerAcl,
}

impl Listed {
    pub(crate) fn of(event: &crate::StoredEvent) -> Arc<Self> {
        let content = json::member(&event.json, "content").unwrap_or("{}");
        Arc::new(Self {
            event_id: event.event_id.clone(),
            acl: ServerAcl::of_content(content),
        })
    }
}

/// A server name without its port: patterns are for hosts.
fn without_port(server_name: &str) -> &str {
    if server_name.starts_with('[') {
        let end = server_name.find(']').map(|end| end + 1);
        return &server_name[..end.unwrap_or(server_name.len())];
    }
    server_name.split(':').next().unwrap_or(server_name)
}

fn is_ip_literal(host: &str) -> bool {
    host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok()
}

/// `*` stands for any number of characters, `?` for exactly one. The time is at most the product of the lengths.
fn matches_glob(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at, mut of) = (0, 0);
    // Where to go on when what follows the last star does not fit here.
    let mut star: Option<(usize, usize)> = None;
    while of < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at + 1, of));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[of] => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (at, of) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(content: &str) -> ServerAcl {
        ServerAcl::of_content(content)
    }

    #[test]
    fn whoever_is_denied_stays_out_even_if_allowed() {
        let acl = acl(r#"{"allow":["*"],"deny":["evil.example","*.evil.example"]}"#);
        assert!(acl.allows("good.example") && acl.allows("notevil.example"));
        assert!(!acl.allows("evil.example") && !acl.allows("a.b.evil.example"));
    }

    #[test]
    fn whoever_is_not_named_stays_out() {
        let acl = acl(r#"{"allow":["a.example","b?.example"]}"#);
        assert!(acl.allows("a.example") && acl.allows("b1.example"));
        for out in ["b.example", "b12.example", "aa.example", "a.example.org"] {
            assert!(!acl.allows(out), "{out}");
        }
    }

    #[test]
    fn ports_and_capitals_make_no_difference() {
        let acl = acl(r#"{"allow":["*"],"deny":["Evil.example","[2001:db8::1]"]}"#);
        for out in ["evil.example", "EVIL.example:8448", "[2001:DB8::1]:443"] {
            assert!(!acl.allows(out), "{out}");
        }
        assert!(acl.allows("[2001:db8::2]:443"));
    }

    #[test]
    fn a_pattern_is_for_a_host_and_never_for_its_port() {
        let acl = acl(r#"{"allow":["*"],"deny":["evil.example:8448","*:8448"]}"#);
        assert!(acl.allows("evil.example:8448"));
    }

    #[test]
    fn ip_literals_can_be_kept_out_altogether() {
        let none = acl(r#"{"allow":["*"],"allow_ip_literals":false}"#);
        for out in ["1.2.3.4", "1.2.3.4:8448", "[::1]", "[::1]:80"] {
            assert!(!none.allows(out), "{out}");
        }
        assert!(none.allows("1.2.3.4.example") && none.allows("1.2.3.400"));
        for any in [
            r#"{"allow":["*"]}"#,
            r#"{"allow":["*"],"allow_ip_literals":"false"}"#,
        ] {
            assert!(acl(any).allows("1.2.3.4"), "{any}");
        }
    }

    #[test]
    fn what_is_no_list_is_empty() {
        for content in ["{}", r#"{"allow":"*"}"#, r#"{"allow":[1,null]}"#] {
            assert!(!acl(content).allows("a.example"), "{content}");
        }
        assert!(acl(r#"{"allow":["*"],"deny":"a.example"}"#).allows("a.example"));
    }

    #[test]
    fn stars_match_nothing_and_everything_and_cost_little() {
        for (glob, text) in [
            ("*", ""),
            ("**", "a"),
            ("a*", "a"),
            ("*a*b*", "xaxbx"),
            ("*ab", "aab"),
        ] {
            assert!(matches_glob(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("a*b", "a"), ("?", ""), ("", "a"), ("*a", "ab")] {
            assert!(!matches_glob(glob, text), "{glob} {text}");
        }
        assert!(!matches_glob(&"*a".repeat(100), &"a".repeat(99)));
        assert!(!matches_glob(
            &format!("{}b", "*a".repeat(1000)),
            &"a".repeat(10_000)
        ));
    }
}
