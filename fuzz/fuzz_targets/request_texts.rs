//! The small texts of requests: tokens, ranges, types and names of content, relations. Nothing panics; what
//! is read is within its bounds, and what is written into headers is fit for them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::range::{Conditions, Selection, select};
use media::{content_type, headers};
use sync::sliding::Pos;
use sync::{PaginationToken, SyncToken};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Some(token) = SyncToken::parse(&text) {
        assert_eq!(SyncToken::parse(&token.to_string()), Some(token));
    }
    if let Some(token) = PaginationToken::parse(&text) {
        assert_eq!(PaginationToken::parse(&token.to_string()), Some(token));
    }
    if let Some(pos) = Pos::parse(&text) {
        assert_eq!(Pos::parse(&pos.to_string()), Some(pos));
    }
    for length in [0, 1, 1000, u64::MAX] {
        let conditions = Conditions {
            range: Some(&text),
            ..Conditions::default()
        };
        if let Selection::Part(part) = select(conditions, "\"tag\"", length) {
            assert!(part.first <= part.last && part.last < length);
        }
    }
    let conditions = Conditions {
        if_none_match: Some(&text),
        range: Some("bytes=0-0"),
        if_range: Some(&text),
    };
    let _selection = select(conditions, "\"tag\"", 10);
    let sent = headers::for_download(Some(&text), Some(&text));
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
    assert!(sent.content_disposition.bytes().all(is_printable));
    // White space around parameters may be a tab.
    let mut content_type = sent.content_type.bytes();
    assert!(content_type.all(|byte| is_printable(byte) || byte == b'\t'));
    let name = headers::sanitise_file_name(&text);
    assert_eq!(headers::sanitise_file_name(&name), name);
    let accepted = content_type::accept(Some(&text));
    assert_eq!(content_type::accept(Some(accepted)), accepted);
    let _relation = rooms::relations::parse(&text);
});
