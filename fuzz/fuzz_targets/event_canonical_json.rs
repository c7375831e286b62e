//! Canonical JSON: it agrees with serde_json about what JSON is and means, and is a fixed point.
#![no_main]

use event::{NumberRule, canonical};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(!canonical::is_canonical(data));
        return;
    };
    for numbers in [NumberRule::Any, NumberRule::Integers] {
        let Ok(out) = canonical::from_text(text, numbers) else {
            continue;
        };
        assert_eq!(canonical::from_text(&out, numbers).as_deref(), Ok(&*out));
    }
    if let Ok(out) = canonical::from_text(text, NumberRule::Integers) {
        assert!(canonical::is_canonical(out.as_bytes()));
        // serde_json stops at 128 levels.
        if let Ok(tree) = serde_json::from_str::<Value>(text) {
            assert_eq!(canonical::to_bytes(&tree).as_deref(), Ok(out.as_bytes()));
        }
    }
    assert_eq!(
        canonical::is_canonical(data),
        canonical::from_text(text, NumberRule::Integers).is_ok_and(|out| out == text)
    );
});
