//! Reading JSON text by slices, without a tree: members of an object, elements of an array, strings and integers.
//!
//! Invariants: the text given here has passed [`crate::canonical`] (or `serde_json`), so it is well formed. On text
//! that is not, the iterators end early and the accessors answer `None`: wrong, never a panic and never a hang.
//! Insignificant white space is not skipped: canonical JSON has none. Checking text is `canonical`'s work.

use std::borrow::Cow;

/// The members of a JSON object: `(raw key without its quotes, raw value)`, in the order of the text.
///
/// Keys are not unescaped; the keys this crate looks for contain nothing to escape.
pub fn members(object: &str) -> Members<'_> {
    Members {
        text: object,
        at: usize::from(object.starts_with('{')),
        open: object.starts_with('{'),
    }
}

/// The elements of a JSON array as raw text. Empty if `array` is not an array.
pub fn elements(array: &str) -> Elements<'_> {
    Elements {
        text: array,
        at: usize::from(array.starts_with('[')),
        open: array.starts_with('['),
    }
}

/// The raw value of the last member of `object` whose raw key is `key`.
pub fn member<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    members(object)
        .filter(|(name, _)| *name == key)
        .last()
        .map(|(_, value)| value)
}

/// The text of a JSON string; `None` if the value is not a string.
pub fn string(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(value).ok().map(Cow::Owned)
}

/// A JSON integer that fits 64 bits; `None` for anything else, fractions and exponents included.
pub fn integer(value: &str) -> Option<i64> {
    value.parse().ok().filter(|_| !value.starts_with('+'))
}

/// Whether the value is an object.
pub fn is_object(value: &str) -> bool {
    value.starts_with('{')
}

/// Whether the value is an array.
pub fn is_array(value: &str) -> bool {
    value.starts_with('[')
}

/// See [`members`].
#[derive(Clone)]
pub struct Members<'a> {
    text: &'a str,
    at: usize,
    open: bool,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.open {
            return None;
        }
        self.open = false;
        let bytes = self.text.as_bytes();
        let key_end = string_end(bytes, self.at)?;
        let key = self.text.get(self.at + 1..key_end - 1)?;
        if bytes.get(key_end) != Some(&b':') {
            return None;
        }
        let value_end = value_end(bytes, key_end + 1)?;
        let value = self.text.get(key_end + 1..value_end)?;
        self.open = bytes.get(value_end) == Some(&b',');
        self.at = value_end + 1;
        Some((key, value))
    }
}

/// See [`elements`].
#[derive(Clone)]
pub struct Elements<'a> {
    text: &'a str,
    at: usize,
    open: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.open {
            return None;
        }
        self.open = false;
        let bytes = self.text.as_bytes();
        let end = value_end(bytes, self.at)?;
        let value = self.text.get(self.at..end)?;
        self.open = bytes.get(end) == Some(&b',');
        self.at = end + 1;
        if value.is_empty() { None } else { Some(value) }
    }
}

/// The index after the closing quote of the string that opens at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The index after the value that starts at `start`.
fn value_end(bytes: &[u8], start: usize) -> Option<usize> {
    match bytes.get(start)? {
        b'"' => string_end(bytes, start),
        b'{' | b'[' => container_end(bytes, start),
        _ => {
            let rest = bytes.get(start..)?;
            let length = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']'));
            Some(start + length.unwrap_or(rest.len()))
        }
    }
}

fn container_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = start;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Appends `text` as a JSON string in canonical escaping: the shortest form, everything but `"`, `\` and control
/// characters as it is.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// A canonical object with the member `key` (which needs no escaping) set to the raw value `value`, in its place.
pub(crate) fn with_member(object: &str, key: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len() + key.len() + value.len() + 4);
    let mut writer = ObjectWriter::open(&mut out);
    let mut written = false;
    for (name, present) in members(object) {
        if !written && name >= key {
            writer.raw(key, value);
            written = true;
        }
        if name != key {
            writer.raw(name, present);
        }
    }
    if !written {
        writer.raw(key, value);
    }
    writer.close();
    out
}

/// A canonical object without the member `key`.
pub(crate) fn without_member(object: &str, key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(object.len());
    let mut writer = ObjectWriter::open(&mut out);
    for (name, value) in members(object) {
        if name != key {
            writer.raw(name, value);
        }
    }
    writer.close();
    out
}

/// Writes the members of one object, with the commas between them.
pub(crate) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> ObjectWriter<'a> {
    pub(crate) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        ObjectWriter { out, empty: true }
    }

    /// Starts a member whose raw key is `key`; the caller appends the value to the returned buffer.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A member whose raw key and raw value are copied.
    pub(crate) fn raw(&mut self, key: &str, value: &str) {
        self.key(key).extend_from_slice(value.as_bytes());
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_elements_are_sliced_out_whatever_they_contain() {
        let text = r#"{"a":[1,"]}",{"x":"\"}"}],"b":null,"c\"":"","d":-5}"#;
        let found: Vec<_> = members(text).collect();
        assert_eq!(
            found,
            [
                ("a", r#"[1,"]}",{"x":"\"}"}]"#),
                ("b", "null"),
                ("c\\\"", "\"\""),
                ("d", "-5")
            ]
        );
        let inner: Vec<_> = elements(found[0].1).collect();
        assert_eq!(inner, ["1", "\"]}\"", r#"{"x":"\"}"}"#]);
        assert_eq!(members("{}").count(), 0);
        assert_eq!(elements("[]").count(), 0);
    }

    #[test]
    fn text_that_is_no_json_ends_the_iteration() {
        for text in [
            "", "{", "{\"", "{\"a", "{\"a\":", "{\"a\":{", "[", "[[", "[\"\\", "5", "}", "{,}",
            "[,]",
        ] {
            assert!(members(text).count() <= 1, "{text}");
            assert!(elements(text).count() <= 2, "{text}");
        }
    }

    #[test]
    fn strings_are_unescaped_and_written_back_in_shortest_form() {
        assert_eq!(string(r#""a\u65E5\n\u0001""#).unwrap(), "a日\n\u{1}");
        assert_eq!(string("5"), None);
        let mut out = Vec::new();
        write_string(&mut out, "a日\n\u{1}\"\\\u{7f}");
        assert_eq!(out, "\"a日\\n\\u0001\\\"\\\\\u{7f}\"".as_bytes());
    }

    #[test]
    fn only_integers_are_integers() {
        assert_eq!(integer("-12"), Some(-12));
        for text in ["+1", "1.0", "1e3", "", "\"1\"", "9223372036854775808"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }
}
