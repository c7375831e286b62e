//! Events from other servers: whatever the bytes, nothing panics, and what is accepted stays what it is.
#![no_main]

use event::render::{self, RenderOptions};
use event::{AuthEvent, Pdu, RoomVersion, auth, canonical, signature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((version, bytes)) = data.split_first() else {
        return;
    };
    let rules = RoomVersion::ALL[usize::from(*version) % RoomVersion::ALL.len()].rules();
    let Ok(pdu) = Pdu::from_federation(rules, bytes) else {
        return;
    };
    let again = Pdu::from_federation(rules, pdu.json().as_bytes()).expect("accepted once");
    assert_eq!(again, pdu);
    let redacted = pdu
        .redacted(rules)
        .expect("the redaction of an event is an event");
    assert_eq!(redacted.redacted(rules).as_ref(), Ok(&redacted));
    let received =
        Pdu::from_federation(rules, redacted.json().as_bytes()).expect("and can be received");
    assert_eq!(received.event_id(), pdu.event_id());
    let mut shown = Vec::new();
    let options = RenderOptions {
        with_room_id: true,
        unsigned: "",
    };
    render::client_event(&mut shown, rules, pdu.event_id(), pdu.json(), options);
    serde_json::from_slice::<serde_json::Value>(&shown).expect("clients get JSON");
    let _known = signature::verify_event(rules, &pdu, &|_: &str, _: &str| None);
    let event = AuthEvent::new(rules, pdu.clone());
    let _allowed = auth::check(rules, &pdu, [&event].as_slice());
    let _allowed = auth::check_auth_events(rules, &pdu, &[&event, &event]);
    if rules.numbers == event::NumberRule::Integers {
        assert!(canonical::is_canonical(pdu.json().as_bytes()));
    }
});
