//! Headers of media responses: what keeps a stranger's file from doing harm in a browser.

use std::fmt::Write as _;

use crate::content_type;
use crate::id::hex;

/// Sent with every media response. The policy is the one that the content repository section
/// recommends; `nosniff` binds browsers to the declared type, on which the choice between inline and
/// attachment rests; `cross-origin` lets web clients on other origins use the content.
pub const SAFETY: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
         style-src 'unsafe-inline'; object-src 'self';",
    ),
    ("cross-origin-resource-policy", "cross-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-robots-tag", "noindex, nofollow, noarchive, noimageindex"),
];

/// `Cache-Control` of content that needed an access token: content never changes, but a shared cache
/// must not hand it to others, and quarantined or deleted content should go away within a day.
pub const CACHE_AUTHENTICATED: &str = "private, max-age=86400, immutable";

/// `Cache-Control` of content from the deprecated endpoints without authentication.
pub const CACHE_PUBLIC: &str = "public, max-age=86400, immutable";

/// The two headers that depend on the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentHeaders {
    /// `Content-Type`.
    pub content_type: String,
    /// `Content-Disposition`; always printable ASCII.
    pub content_disposition: String,
}

/// Headers of a download: inline for the types that the specification lists, attachment for all
/// others, with the file name of the upload.
pub fn for_download(content_type: Option<&str>, file_name: Option<&str>) -> ContentHeaders {
    let content_type = content_type::accept(content_type);
    let inline = content_type::is_inline(content_type);
    ContentHeaders {
        content_type: content_type.to_owned(),
        content_disposition: disposition(inline, file_name),
    }
}

/// Headers of a thumbnail: always inline, with a generic file name (spec: e.g. `thumbnail.png`).
/// `content_type` is one that the renderer makes.
pub fn for_thumbnail(content_type: &str) -> ContentHeaders {
    let extension = content_type.rsplit('/').next().unwrap_or_default();
    ContentHeaders {
        content_type: content_type.to_owned(),
        content_disposition: disposition(true, Some(&format!("thumbnail.{extension}"))),
    }
}

/// The strong `ETag` of content: equal content has an equal tag, whatever its URI.
pub fn etag(sha256: &[u8; 32]) -> String {
    format!("\"{}\"", hex(sha256))
}

/// `Content-Disposition` (RFC 6266): a plain name as a quoted string, any other in the encoding of
/// RFC 8187, which every reader of today understands.
fn disposition(inline: bool, file_name: Option<&str>) -> String {
    let mut header = String::from(if inline { "inline" } else { "attachment" });
    let Some(file_name) = file_name
        .map(sanitise_file_name)
        .filter(|name| !name.is_empty())
    else {
        return header;
    };
    if file_name.chars().all(is_plain) {
        header.push_str("; filename=\"");
        header.push_str(&file_name);
        header.push('"');
        return header;
    }
    header.push_str("; filename*=UTF-8''");
    for byte in file_name.bytes() {
        // attr-char of RFC 8187, section 3.2.1
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            header.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(header, "%{byte:02X}");
        }
    }
    header
}

/// The file name in a `Content-Disposition` that another server sent, sanitised.
pub fn file_name(disposition: &str) -> Option<String> {
    let mut plain = None;
    for (name, value) in parameters(disposition) {
        if name.eq_ignore_ascii_case("filename*") {
            // RFC 6266: this form goes before the other.
            let encoded = value.split_once("''").map(|(_, encoded)| encoded)?;
            plain = Some(percent_decoded(encoded));
            break;
        }
        if name.eq_ignore_ascii_case("filename") {
            plain = Some(value);
        }
    }
    let name = sanitise_file_name(&plain?);
    (!name.is_empty()).then_some(name)
}

/// The parameters of a header, with quoted values unquoted.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let mut value = String::new();
        let mut end = after.len();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut escaped = false;
            for (at, character) in quoted.char_indices() {
                match character {
                    '\\' if !escaped => escaped = true,
                    '"' if !escaped => {
                        end = at + 2;
                        break;
                    }
                    _ => {
                        value.push(character);
                        escaped = false;
                    }
                }
            }
        } else {
            end = after.find(';').unwrap_or(after.len());
            value.push_str(after[..end].trim_end());
        }
        parameters.push((name.trim().to_owned(), value));
        rest = after.get(end..).unwrap_or_default();
        rest = rest.split_once(';').map_or("", |(_, rest)| rest);
    }
    parameters
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let decoded = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match decoded {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Characters that every reader of a quoted `filename` takes as themselves. RFC 6266, appendix D, warns
/// of `\`, `"` and `%`; a `/` there tempts careless readers to leave their download directory.
fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~') && !matches!(character, '"' | '\\' | '%' | '/')
}

/// A file name as it is stored and served: without control characters and the invisible marks that can
/// turn the direction of text and so disguise an extension, and not longer than file systems allow.
pub fn sanitise_file_name(name: &str) -> String {
    const MAX_BYTES: usize = 255;
    let mut sanitised = String::with_capacity(name.len().min(MAX_BYTES));
    for character in name.chars() {
        let turns_direction = matches!(
            character,
            '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        );
        if character.is_control() || turns_direction {
            continue;
        }
        if sanitised.len() + character.len_utf8() > MAX_BYTES {
            break;
        }
        sanitised.push(character);
    }
    sanitised
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disposition_of(content_type: &str, name: &str) -> String {
        for_download(Some(content_type), Some(name)).content_disposition
    }

    #[test]
    fn the_name_of_a_file_is_read_from_what_was_written_and_from_what_others_write() {
        for name in [
            "plain.txt",
            "with space.png",
            "na\u{ef}ve \u{1f600}.pdf",
            "a\"b\\c;d=e.txt",
            "100%.x",
        ] {
            let written = for_download(None, Some(name)).content_disposition;
            assert_eq!(file_name(&written).as_deref(), Some(name), "{written}");
        }
        let theirs = r#"inline; filename="a\"b;c.txt"; other=x"#;
        assert_eq!(file_name(theirs).as_deref(), Some("a\"b;c.txt"));
        assert_eq!(
            file_name("attachment; filename=x.y ").as_deref(),
            Some("x.y")
        );
        let both = "attachment; filename=\"x\"; filename*=utf-8''%c3%a9";
        assert_eq!(file_name(both).as_deref(), Some("\u{e9}"));
        for none in [
            "inline",
            "",
            "inline; filename=\"\"",
            "inline; filename*=x",
            "a;b;=;\"",
            "a; filename=\"\u{e9}",
        ] {
            let _ = file_name(none);
        }
        assert_eq!(file_name("inline; filename=\"\""), None);
    }

    #[test]
    fn a_listed_type_is_inline_and_any_other_an_attachment() {
        assert_eq!(
            disposition_of("image/png", "a.png"),
            "inline; filename=\"a.png\""
        );
        assert_eq!(
            disposition_of("text/html", "a.html"),
            "attachment; filename=\"a.html\""
        );
        let unknown = for_download(None, None);
        assert_eq!(unknown.content_type, "application/octet-stream");
        assert_eq!(unknown.content_disposition, "attachment");
    }

    #[test]
    fn a_name_beyond_plain_ascii_is_encoded() {
        assert_eq!(
            disposition_of("image/png", "fö \"x\".png"),
            "inline; filename*=UTF-8''f%C3%B6%20%22x%22.png"
        );
        assert_eq!(
            disposition_of("image/png", "../100%.png"),
            "inline; filename*=UTF-8''..%2F100%25.png"
        );
    }

    #[test]
    fn a_name_cannot_add_a_header_or_turn_its_direction() {
        assert_eq!(
            disposition_of("image/png", "a\r\nSet-Cookie: x\u{202e}gnp.exe\0"),
            "inline; filename=\"aSet-Cookie: xgnp.exe\""
        );
    }

    #[test]
    fn an_empty_name_is_left_out() {
        assert_eq!(disposition_of("image/png", ""), "inline");
        assert_eq!(disposition_of("image/png", "\n"), "inline");
    }

    #[test]
    fn a_thumbnail_is_inline_under_a_generic_name() {
        let headers = for_thumbnail("image/webp");
        assert_eq!(
            headers.content_disposition,
            "inline; filename=\"thumbnail.webp\""
        );
    }

    /// Reads the name back as RFC 6266 tells a recipient to.
    fn read_back(header: &str) -> String {
        match header.split_once("filename*=UTF-8''") {
            Some((_, encoded)) => {
                let mut bytes = Vec::new();
                let mut rest = encoded.bytes();
                while let Some(byte) = rest.next() {
                    if byte == b'%' {
                        let digits = [rest.next().unwrap(), rest.next().unwrap()];
                        let digits = std::str::from_utf8(&digits).unwrap();
                        bytes.push(u8::from_str_radix(digits, 16).unwrap());
                    } else {
                        bytes.push(byte);
                    }
                }
                String::from_utf8(bytes).unwrap()
            }
            None => match header.split_once("filename=\"") {
                Some((_, quoted)) => quoted.strip_suffix('"').unwrap().to_owned(),
                None => String::new(),
            },
        }
    }

    proptest! {
        #[test]
        fn a_recipient_reads_back_the_name_that_was_stored(name in any::<String>()) {
            let stored = sanitise_file_name(&name);
            let header = disposition_of("image/png", &name);
            prop_assert!(header.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(read_back(&header), stored);
        }

        #[test]
        fn sanitising_twice_changes_nothing_more(name in any::<String>()) {
            let once = sanitise_file_name(&name);
            prop_assert!(once.len() <= 255);
            prop_assert_eq!(sanitise_file_name(&once), once);
        }
    }
}
