//! Texts of other people and other servers, for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

use event::json;
use rooms::StoredEvent;

/// `text` with every control character written as JSON writes it, so that it neither moves the cursor nor begins a
/// line. What was JSON before is the same JSON after.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter.is_control() {
            // Control characters end at U+009F.
            true => drop(write!(out, "\\u{:04x}", u32::from(letter))),
            false => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// How long ago something was, in the largest unit that says something.
pub fn age(now_ms: u64, then_ms: u64) -> String {
    let Some(ago_ms) = now_ms.checked_sub(then_ms) else {
        return "in the future".to_owned();
    };
    let seconds = ago_ms / 1000;
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    for (length, unit) in units {
        if seconds >= 2 * length {
            return format!("{} {unit} ago", seconds / length);
        }
    }
    format!("{seconds} s ago")
}

/// A string member of an event.
pub fn member<'a>(event: &'a StoredEvent, key: &str) -> Option<Cow<'a, str>> {
    json::member(&event.json, key).and_then(json::string)
}

/// A number that is not negative, of an event; 0 without one.
pub fn number(event: &StoredEvent, key: &str) -> u64 {
    json::member(&event.json, key)
        .and_then(json::integer)
        .and_then(|number| u64::try_from(number).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printed_moves_the_cursor_and_json_stays_json() {
        assert_eq!(printable("a \u{1f600}"), "a \u{1f600}");
        assert_eq!(printable("a\n\u{1b}[2J\u{9b}"), "a\\u000a\\u001b[2J\\u009b");
        let line = serde_json::json!({ "key": "\u{9b}2J\u{7f}" });
        let text = line.to_string();
        let parsed: serde_json::Value = serde_json::from_str(&printable(&text)).expect("JSON");
        assert_eq!(parsed, line);
    }

    #[test]
    fn ages_are_told_in_the_largest_unit_that_fits_twice() {
        assert_eq!(age(1_000, 2_000), "in the future");
        assert_eq!(age(90_000, 0), "90 s ago");
        assert_eq!(age(7_200_000, 0), "2 h ago");
        assert_eq!(age(400 * 86_400_000, 0), "400 d ago");
    }
}
