//! Events as they go over the network, each checked once however many servers it reaches.
//!
//! Format, signatures and hash depend on the bytes alone, so servers with the same keys come to the same result. What is
//! forged is really checked, like everything else.

use std::collections::HashMap;
use std::rc::Rc;

use event::signature::VerifyKeys;
use event::{RoomRules, SigningKey, VerifyKey};
use rooms::ingest::{self, Refusal, Verified};

/// The public keys of all servers.
#[derive(Clone, Default)]
pub struct Keyring(Vec<(String, String, VerifyKey)>);

impl Keyring {
    /// Adds a server's key.
    pub fn add(&mut self, key: &SigningKey) {
        self.0.push((
            key.server_name().to_owned(),
            key.key_id().to_owned(),
            key.verify_key(),
        ));
    }
}

impl VerifyKeys for Keyring {
    fn key(&self, server_name: &str, key_id: &str) -> Option<VerifyKey> {
        let found = self
            .0
            .iter()
            .find(|(server, id, _)| server == server_name && id == key_id);
        found.map(|(_, _, key)| *key)
    }
}

/// An event on the network.
pub struct Wire {
    /// What checks 1 to 3 make of it.
    pub verified: Result<Verified, Refusal>,
}

/// All events that ever went over the network.
pub struct Wires {
    rules: &'static RoomRules,
    keys: Keyring,
    known: HashMap<Rc<str>, Rc<Wire>>,
}

impl Wires {
    /// None yet.
    pub fn new(rules: &'static RoomRules, keys: Keyring) -> Self {
        Wires {
            rules,
            keys,
            known: HashMap::new(),
        }
    }

    /// The keys that signatures are checked with.
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// The event of some bytes.
    pub fn wire(&mut self, bytes: &str) -> Rc<Wire> {
        if let Some(wire) = self.known.get(bytes) {
            return wire.clone();
        }
        let bytes: Rc<str> = bytes.into();
        let verified = ingest::verify(self.rules, bytes.as_bytes(), &self.keys);
        let wire = Rc::new(Wire { verified });
        self.known.insert(bytes, wire.clone());
        wire
    }
}
