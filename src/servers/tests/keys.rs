//! Keys of other servers: what is believed, what is kept, and which key counts when.

use event::SigningKey;
use serde_json::{Value, json};
use servers::keys::{
    KeyDocument, LONGEST_VALIDITY_MS, Purpose, ServerKeys, Source, answer_of, keep, of_server,
};
use store::memory::Memory;
use store::{Options, Store, SyncMode};

const SERVER: &str = "a.example";
const NOW: u64 = 1_000_000_000_000;
const HOUR: u64 = 3_600_000;

fn key(version: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(SERVER, version, [seed; 32]).expect("a key")
}

fn public(key: &SigningKey) -> Value {
    json!({"key": key.verify_key().to_base64()})
}

/// What `signer` publishes, with keys that it had before.
fn document(signer: &SigningKey, valid_until_ms: u64, old: &[(&SigningKey, u64)]) -> KeyDocument {
    let mut value = json!({
        "server_name": SERVER,
        "valid_until_ts": valid_until_ms,
        "verify_keys": {(signer.key_id()): public(signer)},
        "old_verify_keys": {},
    });
    for (key, expired_ms) in old {
        let mut told = public(key);
        told["expired_ts"] = json!(expired_ms);
        value["old_verify_keys"][key.key_id()] = told;
    }
    let signed = signer.sign_object(&value.to_string()).expect("signed");
    KeyDocument::read(&signed).expect("a document")
}

struct House(Store);

impl House {
    fn new() -> Self {
        let options = Options {
            sync: SyncMode::Never,
            schema: 1,
            migrations: &[],
            reserve_bytes: 0,
            on_fatal: Box::new(|error| panic!("{error}")),
        };
        Self(Store::open(Box::new(Memory::default()), options).expect("a store"))
    }

    fn keep(&self, document: &KeyDocument, source: Source, now_ms: u64) {
        let mut txn = self.0.begin();
        keep(&mut txn, document, source, now_ms).expect("kept");
        self.0.commit(txn).expect("written");
    }

    fn keys(&self) -> ServerKeys {
        of_server(&self.0.head(), SERVER).expect("keys")
    }
}

#[test]
fn a_document_must_be_signed_by_a_key_that_it_names() {
    let (own, other) = (key("1", 1), key("2", 2));
    let value = json!({
        "server_name": SERVER, "valid_until_ts": NOW, "verify_keys": {"ed25519:1": public(&own)},
    });
    let text = value.to_string();
    let read = |bytes: &[u8]| KeyDocument::read(bytes).map(|document| document.valid_until_ms());
    let signed = own.sign_object(&text).expect("signed");
    assert_eq!(read(&signed), Ok(NOW));
    assert!(read(text.as_bytes()).is_err());
    assert!(read(&other.sign_object(&text).expect("signed")).is_err());
    let changed = String::from_utf8(signed).expect("text");
    let changed = changed.replace(&NOW.to_string(), &(NOW + 1).to_string());
    assert!(read(changed.as_bytes()).is_err());
    for broken in ["", "[]", "{}", r#"{"server_name":"a b"}"#] {
        assert!(read(broken.as_bytes()).is_err(), "{broken}");
    }
}

#[test]
fn keys_of_unknown_kinds_are_left_out_and_too_many_are_refused() {
    let own = key("1", 1);
    let signed = |keys: Value| {
        let value = json!({"server_name": SERVER, "valid_until_ts": NOW, "verify_keys": keys});
        own.sign_object(&value.to_string()).expect("signed")
    };
    let mixed = json!({
        "ed25519:1": public(&own), "ed25519:bad": {"key": "!"}, "rsa:1": {"key": "AAAA"},
    });
    assert!(KeyDocument::read(&signed(mixed)).is_ok());
    let many: serde_json::Map<String, Value> = (0..600)
        .map(|n| (format!("ed25519:{n}"), public(&own)))
        .collect();
    assert!(KeyDocument::read(&signed(many.into())).is_err());
}

#[test]
fn a_key_counts_for_requests_and_events_until_its_end_and_for_old_rooms_for_ever() {
    let house = House::new();
    let own = key("1", 1);
    house.keep(&document(&own, NOW + HOUR, &[]), Source::Direct, NOW);
    let keys = house.keys();
    let counts = |purpose| keys.key("ed25519:1", purpose).is_some();
    assert!(counts(Purpose::Now(NOW + HOUR)) && !counts(Purpose::Now(NOW + HOUR + 1)));
    assert!(counts(Purpose::EventOf(0)) && !counts(Purpose::EventOf(NOW + HOUR + 1)));
    assert!(counts(Purpose::OldEvent));
    assert!(keys.key("ed25519:2", Purpose::OldEvent).is_none());
    assert_eq!(keys.refresh_at_ms(), NOW + HOUR / 2);
}

#[test]
fn no_key_counts_for_longer_than_seven_days_whatever_is_said() {
    let house = House::new();
    house.keep(&document(&key("1", 1), 1 << 52, &[]), Source::Direct, NOW);
    let keys = house.keys();
    let end = NOW + LONGEST_VALIDITY_MS;
    assert!(keys.key("ed25519:1", Purpose::Now(end)).is_some());
    assert!(keys.key("ed25519:1", Purpose::EventOf(end + 1)).is_none());
    assert_eq!(keys.refresh_at_ms(), NOW + LONGEST_VALIDITY_MS / 2);
}

#[test]
fn an_old_key_counts_for_events_of_its_time_and_for_no_request() {
    let house = House::new();
    let (old, new) = (key("1", 1), key("2", 2));
    let rotated = document(&new, NOW + HOUR, &[(&old, NOW - HOUR)]);
    house.keep(&document(&old, NOW + HOUR, &[]), Source::Direct, NOW);
    house.keep(&rotated, Source::Direct, NOW);
    let keys = house.keys();
    let counts = |purpose| keys.key("ed25519:1", purpose).is_some();
    assert!(!counts(Purpose::Now(NOW - HOUR)));
    assert!(counts(Purpose::EventOf(NOW - HOUR)) && !counts(Purpose::EventOf(NOW)));
}

#[test]
fn a_key_that_is_not_published_any_more_stays() {
    let house = House::new();
    house.keep(
        &document(&key("1", 1), NOW + HOUR, &[]),
        Source::Direct,
        NOW,
    );
    house.keep(
        &document(&key("2", 2), NOW + HOUR, &[]),
        Source::Direct,
        NOW,
    );
    let keys = house.keys();
    assert!(keys.key("ed25519:1", Purpose::EventOf(NOW)).is_some());
    assert!(keys.key("ed25519:2", Purpose::EventOf(NOW)).is_some());
}

#[test]
fn what_notaries_tell_fills_gaps_and_replaces_nothing_that_came_from_the_server() {
    let house = House::new();
    let (own, forged) = (key("1", 1), key("1", 9));
    let known = |keys: &ServerKeys| keys.key("ed25519:1", Purpose::OldEvent);
    house.keep(&document(&own, NOW, &[]), Source::Notary, NOW);
    assert_eq!(known(&house.keys()), Some(own.verify_key()));
    house.keep(&document(&own, NOW + HOUR, &[]), Source::Direct, NOW);
    // The same key for longer is taken, and stays one that the server told.
    house.keep(&document(&own, NOW + 2 * HOUR, &[]), Source::Notary, NOW);
    house.keep(&document(&forged, NOW + 3 * HOUR, &[]), Source::Notary, NOW);
    let keys = house.keys();
    assert_eq!(known(&keys), Some(own.verify_key()));
    let later = Purpose::Now(NOW + 2 * HOUR);
    assert!(keys.key("ed25519:1", later).is_some());
    house.keep(&document(&forged, NOW, &[]), Source::Direct, NOW);
    assert_eq!(known(&house.keys()), Some(forged.verify_key()));
}

#[test]
fn the_last_answer_is_kept_as_it_was_signed() {
    let house = House::new();
    let newest = document(&key("1", 1), NOW + HOUR, &[]);
    house.keep(&newest, Source::Direct, NOW);
    house.keep(&document(&key("1", 1), NOW, &[]), Source::Notary, NOW);
    let answer = answer_of(&house.0.head(), SERVER).expect("read");
    assert_eq!(answer.expect("an answer").json, newest.json());
    assert!(
        answer_of(&house.0.head(), "b.example")
            .expect("read")
            .is_none()
    );
}
