//! Identifiers, keys, hashes and JSON texts: the small parsers that every event goes through.
#![no_main]

use event::{NumberRule, RoomVersion, SigningKey, VerifyKey, canonical, hash, identifier, json};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    identifiers(text);
    keys(text);
    if let Ok(canonical) = canonical::from_text(text, NumberRule::Integers) {
        agree_with_serde_json(&canonical);
    }
});

fn identifiers(text: &str) {
    if identifier::is_user_id(text) {
        let domain = identifier::domain(text).expect("a user id has a server");
        assert!(identifier::is_server_name(domain) && text.len() <= identifier::MAX_BYTES);
        assert!(identifier::same_domain(text, text));
    }
    if identifier::is_server_name(text) {
        for sigil in ['@', '!', '$'] {
            let id = format!("{sigil}a:{text}");
            assert_eq!(identifier::domain(&id), Some(text));
        }
        assert!(text.is_ascii() && text.len() <= identifier::MAX_BYTES + 6);
    }
    if identifier::is_new_user_localpart(text) {
        let id = format!("@{text}:a");
        assert!(identifier::is_user_id(&id) || id.len() > identifier::MAX_BYTES);
    }
    assert!(!(identifier::is_room_id_with_domain(text) && identifier::is_room_id_with_hash(text)));
    let _event_id = identifier::is_event_id(text);
    if let Ok(version) = text.parse::<RoomVersion>() {
        assert_eq!(version.as_str(), text);
    }
}

fn keys(text: &str) {
    if let Ok(key) = SigningKey::from_line("here", text) {
        let again = SigningKey::from_line("here", &key.to_line()).expect("as it was written");
        assert_eq!(again.key_id(), key.key_id());
        assert!(
            key.verify_key()
                .verifies(text.as_bytes(), &key.sign_bytes(text.as_bytes()))
        );
    }
    if let Some(key) = VerifyKey::from_base64(text) {
        assert_eq!(
            VerifyKey::from_base64(&key.to_base64()).map(|key| key.to_base64()),
            Some(key.to_base64())
        );
    }
    if let Some(bytes) = hash::base64_decode(text) {
        let encoded = hash::base64_encode(&bytes);
        assert_eq!(hash::base64_decode(&encoded), Some(bytes));
    }
}

/// The walk over canonical text and a full parser see the same members.
fn agree_with_serde_json(canonical: &str) {
    let Ok(tree) = serde_json::from_str::<Value>(canonical) else {
        return;
    };
    assert_eq!(json::is_object(canonical), tree.is_object());
    assert_eq!(json::is_array(canonical), tree.is_array());
    assert_eq!(json::integer(canonical), tree.as_i64());
    assert_eq!(json::string(canonical).as_deref(), tree.as_str());
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("a part of what was read");
    if let Some(object) = tree.as_object() {
        assert_eq!(json::members(canonical).count(), object.len());
        for (key, value) in json::members(canonical) {
            let key = json::string(&format!("\"{key}\"")).map(|key| key.into_owned());
            let key = key.expect("a key is a string");
            assert_eq!(object.get(&key), Some(&parse(value)));
        }
    }
    if let Some(array) = tree.as_array() {
        let elements: Vec<Value> = json::elements(canonical).map(parse).collect();
        assert_eq!(&elements, array);
    }
}
