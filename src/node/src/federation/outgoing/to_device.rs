//! Messages to devices of other servers' users, as they are put into the queues of these servers.
//! <https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>

use std::collections::BTreeMap;

use event::identifier;
use event::json::write_string;
use serde_json::value::RawValue;
use servers::outbox;
use store::Txn;

use crate::{Node, Touched};

/// The contents of one EDU have about as many bytes, before the last; a single message may have more.
const MOST_BYTES: usize = 48 * 1024;

/// The contents of one change have about as many bytes.
const MOST_CHANGE_BYTES: usize = 256 * 1024;

/// Messages of one device, by user id and device id or `*`: JSON objects.
pub type Messages<'a> = BTreeMap<&'a str, &'a BTreeMap<String, Box<RawValue>>>;

/// The content of an `m.direct_to_device` EDU and the server that it is for.
pub struct ToServer {
    server: String,
    content: Vec<u8>,
}

impl Node {
    /// What other servers are to be sent of the messages that a device sends: those that the sender is shared with.
    pub fn to_servers(
        &self,
        sender: &str,
        event_type: &str,
        messages: &Messages<'_>,
    ) -> Vec<ToServer> {
        let mut by_server: BTreeMap<&str, Vec<(&str, &str, &RawValue)>> = BTreeMap::new();
        for (user_id, by_device) in messages {
            let server = identifier::domain(user_id);
            let Some(server) = server.filter(|_| identifier::is_user_id(user_id)) else {
                continue;
            };
            if !self.may_share_user(server, sender) {
                continue;
            }
            for (device, content) in *by_device {
                let to = by_server.entry(server).or_default();
                to.push((user_id, device, content));
            }
        }
        let mut found = Vec::new();
        for (server, messages) in by_server {
            let mut rest = messages.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fitting(rest));
                let content = self.direct_to_device(sender, event_type, now);
                let server = server.to_owned();
                found.push(ToServer { server, content });
                rest = later;
            }
        }
        found
    }

    fn direct_to_device(
        &self,
        sender: &str,
        event_type: &str,
        messages: &[(&str, &str, &RawValue)],
    ) -> Vec<u8> {
        // 32 characters, as many as the specification allows.
        let message_id = format!("{:032x}", u128::from_be_bytes(self.random()));
        let mut out = b"{\"message_id\":".to_vec();
        write_string(&mut out, &message_id);
        out.extend_from_slice(b",\"messages\":{");
        let mut last_user = None;
        for (user_id, device, content) in messages {
            if last_user == Some(user_id) {
                out.push(b',');
            } else {
                if last_user.is_some() {
                    out.extend_from_slice(b"},");
                }
                write_string(&mut out, user_id);
                out.extend_from_slice(b":{");
                last_user = Some(user_id);
            }
            write_string(&mut out, device);
            out.push(b':');
            out.extend_from_slice(content.get().as_bytes());
        }
        out.extend_from_slice(b"}},\"sender\":");
        write_string(&mut out, sender);
        out.extend_from_slice(b",\"type\":");
        write_string(&mut out, event_type);
        out.push(b'}');
        out
    }
}

/// How many of the messages go into one EDU.
fn fitting(messages: &[(&str, &str, &RawValue)]) -> usize {
    let mut bytes = 0;
    for (count, (user_id, device, content)) in messages.iter().enumerate() {
        bytes += user_id.len() + device.len() + content.get().len();
        if count > 0 && bytes > MOST_BYTES {
            return count;
        }
    }
    messages.len()
}

/// Cuts what goes to servers into parts that each fit one change.
pub fn changes(messages: Vec<ToServer>) -> Vec<Vec<ToServer>> {
    let mut parts: Vec<Vec<ToServer>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        if parts.is_empty() || bytes > MOST_CHANGE_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += message.content.len();
        if let Some(part) = parts.last_mut() {
            part.push(message);
        }
    }
    parts
}

/// Puts messages into the queues of their servers. Says whom the change concerns.
pub fn note_to_servers(txn: &mut Txn, messages: Vec<ToServer>) -> Touched {
    let mut servers: Vec<String> = Vec::new();
    for (number, message) in (0..).zip(messages) {
        outbox::note_to_device(txn, &message.server, number, vec![message.content]);
        if servers.last() != Some(&message.server) {
            servers.push(message.server);
        }
    }
    Touched {
        servers,
        ..Touched::nobody()
    }
}
