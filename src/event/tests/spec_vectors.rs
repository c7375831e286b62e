//! The test vectors of the specification for base64, signatures and hashes. Those for canonical JSON are in
//! `canonical_json.rs`.
//! <https://spec.matrix.org/v1.19/appendices/#cryptographic-test-vectors>

use event::{RoomVersion, SigningKey, hash, hash_and_sign, signature};
use serde_json::{Value, json};

fn key() -> SigningKey {
    SigningKey::from_line(
        "domain",
        "ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1",
    )
    .unwrap()
}

/// <https://spec.matrix.org/v1.19/appendices/#unpadded-base64>
#[test]
fn base64_is_written_without_padding_and_read_with_or_without() {
    let cases = [
        ("", ""),
        ("f", "Zg"),
        ("fo", "Zm8"),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg"),
        ("fooba", "Zm9vYmE"),
        ("foobar", "Zm9vYmFy"),
    ];
    for (plain, encoded) in cases {
        assert_eq!(hash::base64_encode(plain.as_bytes()), encoded);
        let padded = format!("{encoded}{}", &"=="[..(4 - encoded.len() % 4) % 4]);
        for text in [encoded, &padded] {
            assert_eq!(hash::base64_decode(text).as_deref(), Some(plain.as_bytes()));
        }
    }
    assert_eq!(hash::base64_decode("Zm9v!"), None);
}

#[test]
fn json_objects_are_signed_as_the_specification_shows() {
    let cases = [
        (
            json!({}),
            "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ",
        ),
        (
            json!({"one": 1, "two": "Two"}),
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ];
    for (object, expected) in cases {
        let signed = key().sign_object(&object.to_string()).unwrap();
        let tree: Value = serde_json::from_slice(&signed).unwrap();
        assert_eq!(tree["signatures"]["domain"]["ed25519:1"], expected);
        assert!(event::canonical::is_canonical(&signed));

        let mut signed_tree = object.clone();
        key().sign_value(&mut signed_tree).unwrap();
        assert_eq!(signed_tree, tree);

        let keys = |server: &str, id: &str| {
            ((server, id) == ("domain", "ed25519:1")).then(|| key().verify_key())
        };
        let text = String::from_utf8(signed).unwrap();
        assert_eq!(signature::verify_object(&text, "domain", &keys), Ok(()));
        assert!(signature::verify_object(&text, "other", &keys).is_err());
        assert!(
            signature::verify_object(
                &text
                    .replace("Two", "Tow")
                    .replace("{\"sig", "{\"x\":1,\"sig"),
                "domain",
                &keys
            )
            .is_err()
        );
    }
}

#[test]
fn events_are_hashed_and_signed_as_the_specification_shows() {
    let minimal = json!({
        "room_id": "!x:domain", "sender": "@a:domain", "origin": "domain", "origin_server_ts": 1000000,
        "signatures": {}, "hashes": {}, "type": "X", "content": {}, "prev_events": [], "auth_events": [],
        "depth": 3, "unsigned": {"age_ts": 1000000}
    });
    let redactable = json!({
        "content": {"body": "Here is the message content"}, "event_id": "$0:domain", "origin": "domain",
        "origin_server_ts": 1000000, "type": "m.room.message", "room_id": "!r:domain",
        "sender": "@u:domain", "signatures": {}, "unsigned": {"age_ts": 1000000}
    });
    let cases = [
        (
            minimal,
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            redactable,
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ];
    for (event, content_hash, event_signature) in cases {
        let signed = hash_and_sign(RoomVersion::V1.rules(), &event.to_string(), &key()).unwrap();
        let mut expected = event.clone();
        expected["hashes"]["sha256"] = content_hash.into();
        expected["signatures"]["domain"]["ed25519:1"] = event_signature.into();
        assert_eq!(serde_json::from_str::<Value>(&signed).unwrap(), expected);
        assert!(hash::content_hash_matches(&signed));
    }
}

#[test]
fn a_key_survives_its_line_in_the_key_file_and_hides_in_debug_output() {
    let made = SigningKey::generate("example.org", [7; 32]);
    let line = made.to_line();
    let read = SigningKey::from_line("example.org", &line).unwrap();
    assert_eq!(
        (read.key_id(), read.verify_key()),
        (made.key_id(), made.verify_key())
    );
    assert!(made.key_id().starts_with("ed25519:a_"));
    let seed = line.rsplit(' ').next().unwrap();
    assert!(!format!("{made:?}").contains(seed));
    for bad in [
        "",
        "ed25519 a",
        "rsa a b",
        "ed25519 a! AAAA",
        "ed25519 a AAAA",
        "ed25519 a b c",
    ] {
        assert!(SigningKey::from_line("example.org", bad).is_err(), "{bad}");
    }
}
