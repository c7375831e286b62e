//! What other servers say of themselves: the `Authorization` of their requests, their names, their keys. Nothing panics,
//! and what was understood is understood again when it is written down.
#![no_main]

use event::canonical::{from_text, is_canonical};
use event::NumberRule;
use libfuzzer_sys::fuzz_target;
use remote::authority::Authority;
use remote::authorization::{Authorization, signed_bytes};
use servers::keys::KeyDocument;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    for header in [text.to_string(), format!("X-Matrix {text}")] {
        if let Some(read) = Authorization::parse(&header) {
            assert_eq!(Authorization::parse(&read.to_header()), Some(read));
        }
    }
    if let Some(authority) = Authority::parse(&text) {
        let written = authority.to_string();
        assert_eq!(Authority::parse(&written), Some(authority));
    }
    if let Ok(content) = from_text(&text, NumberRule::Any) {
        assert_eq!(from_text(&content, NumberRule::Any).as_deref(), Ok(&*content));
        if from_text(&text, NumberRule::Integers).is_ok() {
            assert!(is_canonical(content.as_bytes()));
        }
        let bytes = signed_bytes("PUT", "/x", "a", "b", Some(&text)).expect("it was read");
        assert!(bytes.starts_with(format!("{{\"content\":{content},").as_bytes()));
    }
    let _keys = KeyDocument::read(data);
});
