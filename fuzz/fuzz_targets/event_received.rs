//! Events as other servers make and sign them, in every room version: what was signed is received whole, what was
//! changed on the way is not, and redaction, storage and hashes agree about what the event is.
#![no_main]

use event::render::{self, RenderOptions};
use event::signature::{self, Integrity};
use event::{Pdu, RoomRules, RoomVersion, canonical, hash, redaction};
use libfuzzer_sys::fuzz_target;
use meyrin_fuzz::{Choices, Graph, seal};

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let version = choices.pick(&RoomVersion::ALL);
    let graph = match choices.one_in(2) {
        false => Graph::with_beginning(version),
        true => Graph::new(version),
    };
    let rules = graph.rules;
    let (event, _) = graph.choose(&mut choices);
    let Some(Ok(pdu)) = seal::hashed(rules, &event) else {
        return;
    };
    let Some(signed) = seal::signed(rules, &pdu) else {
        return;
    };
    let Ok(signed) = Pdu::from_federation(rules, signed.as_bytes()) else {
        return;
    };
    assert_eq!(signed.event_id(), pdu.event_id());
    whole(rules, &signed, event["hashes"] == "{}");
    changed(rules, &signed, &mut choices);
});

/// What holds of every event.
fn whole(rules: &RoomRules, pdu: &Pdu, is_hashed: bool) {
    let verified = signature::verify_event(rules, pdu, &seal::known_keys);
    let known = signature::required_servers(rules, pdu)
        .iter()
        .all(|server_name| seal::key_of(server_name).is_some());
    if known {
        let integrity = match is_hashed {
            true => Integrity::Whole,
            false => Integrity::Redacted,
        };
        assert_eq!(verified, Ok(integrity), "{}", pdu.json());
    }
    assert_eq!(hash::content_hash_matches(pdu.json()), is_hashed);
    let again = Pdu::from_federation(rules, pdu.json().as_bytes());
    assert_eq!(again.as_ref(), Ok(pdu));
    let stored = Pdu::from_stored(rules, pdu.event_id().clone(), pdu.json().as_bytes());
    assert_eq!(stored.as_ref(), Ok(pdu));
    let redacted = redaction::redact(rules, pdu.json());
    let redacted = std::str::from_utf8(&redacted).expect("pieces of text");
    assert_eq!(
        redaction::redact(rules, redacted),
        redacted.as_bytes(),
        "a redacted event is redacted already"
    );
    assert_eq!(
        hash::reference_hash(rules, redacted),
        hash::reference_hash(rules, pdu.json())
    );
    let received = Pdu::from_federation(rules, redacted.as_bytes()).expect("still an event");
    assert_eq!(received.event_id(), pdu.event_id());
    assert_eq!(Ok(received), pdu.redacted(rules));
    if let Ok(canonical) = canonical::from_text(pdu.json(), rules.numbers) {
        assert_eq!(canonical, pdu.json());
    }
    let mut shown = Vec::new();
    let options = RenderOptions {
        with_room_id: true,
        unsigned: "",
    };
    render::client_event(&mut shown, rules, pdu.event_id(), pdu.json(), options);
    render::stripped_state(&mut shown, pdu.json());
}

/// An event of which a byte was changed on the way is another one, is refused, or lost its content.
fn changed(rules: &RoomRules, pdu: &Pdu, choices: &mut Choices<'_>) {
    let mut bytes = pdu.json().as_bytes().to_vec();
    let at = (choices.below(256) * 256 + choices.below(256)) % bytes.len();
    bytes[at] = choices.byte();
    let Ok(other) = Pdu::from_federation(rules, &bytes) else {
        return;
    };
    if other == *pdu {
        return;
    }
    if let Ok(Integrity::Whole) = signature::verify_event(rules, &other, &seal::known_keys) {
        // Only what nothing covers may differ: signatures that were not needed, and hashes by other names.
        let needed = signature::required_servers(rules, &other);
        assert!(
            needed.is_empty() || hash::content_hash(other.json()) == hash::content_hash(pdu.json()),
            "{}",
            other.json()
        );
    }
}
