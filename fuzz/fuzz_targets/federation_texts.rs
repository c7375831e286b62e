//! What other servers say of themselves: the `Authorization` of their requests, their names, their keys. Nothing panics,
//! and what was understood is understood again when it is written down.
#![no_main]

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
    if let Ok(bytes) = signed_bytes("PUT", "/x", "a", "b", Some(&text)) {
        assert!(event::canonical::is_canonical(&bytes) || text.contains(['.', 'e', 'E']));
    }
    let _keys = KeyDocument::read(data);
});
