//! Which bytes of a file answer a GET: conditional and range requests (RFC 9110, sections 13 and 14).
//!
//! One range is honoured; several at once are answered with the whole content, which section 14.2
//! allows and which keeps a request from asking for the same bytes a thousand times.

/// Bytes `first..=last` of some content; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte, included.
    pub last: u64,
}

impl ByteRange {
    /// Number of bytes.
    pub fn length(&self) -> u64 {
        self.last - self.first + 1
    }

    /// The `Content-Range` of a 206 response for content of `length` bytes.
    pub fn content_range(&self, length: u64) -> String {
        format!("bytes {}-{}/{length}", self.first, self.last)
    }
}

/// The `Content-Range` of a 416 response.
pub fn unsatisfied_content_range(length: u64) -> String {
    format!("bytes */{length}")
}

/// The request's headers that select what is sent; `None` where absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// `If-None-Match`
    pub if_none_match: Option<&'a str>,
    /// `Range`
    pub range: Option<&'a str>,
    /// `If-Range`
    pub if_range: Option<&'a str>,
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200 with everything.
    Whole,
    /// 206 with a part.
    Part(ByteRange),
    /// 304: the client has it.
    NotModified,
    /// 416: the range begins behind the end.
    Unsatisfiable,
}

/// Chooses what to send of content with this strong `etag` and `length` in bytes, in the order of
/// RFC 9110, section 13.2.2.
pub fn select(conditions: Conditions<'_>, etag: &str, length: u64) -> Selection {
    if conditions
        .if_none_match
        .is_some_and(|tags| names_tag(tags, etag))
    {
        return Selection::NotModified;
    }
    let Some(range) = conditions.range else {
        return Selection::Whole;
    };
    // A date in If-Range never matches: no Last-Modified is sent that a client could repeat.
    if conditions.if_range.is_some_and(|tag| tag.trim() != etag) {
        return Selection::Whole;
    }
    match parse(range) {
        None => Selection::Whole,
        Some(requested) => resolve(requested, length),
    }
}

/// Section 13.1.2: weak comparison, `*` matches any.
fn names_tag(tags: &str, etag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag) == etag;
    tags.trim() == "*" || tags.split(',').any(|tag| opaque(tag.trim()))
}

/// One `range-spec` of section 14.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requested {
    /// `first-` or `first-last`
    From { first: u64, last: u64 },
    /// `-length`: the last so many bytes
    Suffix { length: u64 },
}

/// Reads the header; `None` when it must be ignored: another unit, malformed, or several ranges.
fn parse(header: &str) -> Option<Requested> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    if first.is_empty() {
        return Some(Requested::Suffix {
            length: number(last)?,
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        number(last)?
    };
    (first <= last).then_some(Requested::From { first, last })
}

/// Digits only. A number beyond 64 bits counts as the largest one: both lie behind any file's end.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// Section 14.1.2.
fn resolve(requested: Requested, length: u64) -> Selection {
    let Some(end) = length.checked_sub(1) else {
        return Selection::Unsatisfiable;
    };
    match requested {
        Requested::From { first, .. } if first > end => Selection::Unsatisfiable,
        Requested::From { first, last } => Selection::Part(ByteRange {
            first,
            last: last.min(end),
        }),
        Requested::Suffix { length: 0 } => Selection::Unsatisfiable,
        Requested::Suffix { length: suffix } => Selection::Part(ByteRange {
            first: length.saturating_sub(suffix),
            last: end,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ETAG: &str = "\"abc\"";

    fn ask(range: &str, length: u64) -> Selection {
        select(
            Conditions {
                range: Some(range),
                ..Conditions::default()
            },
            ETAG,
            length,
        )
    }

    fn part(first: u64, last: u64) -> Selection {
        Selection::Part(ByteRange { first, last })
    }

    #[test]
    fn each_form_of_a_range_selects_its_bytes() {
        assert_eq!(ask("bytes=0-0", 10), part(0, 0));
        assert_eq!(ask("bytes=2-5", 10), part(2, 5));
        assert_eq!(ask("bytes=5-", 10), part(5, 9));
        assert_eq!(ask("bytes=5-100", 10), part(5, 9));
        assert_eq!(ask("bytes=-3", 10), part(7, 9));
        assert_eq!(ask("bytes=-30", 10), part(0, 9));
        assert_eq!(ask("Bytes=1-2", 10), part(1, 2));
        assert_eq!(ask("bytes=1-99999999999999999999999", 10), part(1, 9));
    }

    #[test]
    fn a_range_behind_the_end_cannot_be_satisfied() {
        assert_eq!(ask("bytes=10-", 10), Selection::Unsatisfiable);
        assert_eq!(
            ask("bytes=99999999999999999999999-", 10),
            Selection::Unsatisfiable
        );
        assert_eq!(ask("bytes=-0", 10), Selection::Unsatisfiable);
        assert_eq!(ask("bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(ask("bytes=-1", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn malformed_foreign_and_multiple_ranges_get_the_whole() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "items=0-1",
        ] {
            assert_eq!(ask(range, 10), Selection::Whole, "{range:?}");
        }
        for range in [
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes=0-1,",
        ] {
            assert_eq!(ask(range, 10), Selection::Whole, "{range:?}");
        }
    }

    #[test]
    fn content_the_client_has_is_not_sent_again() {
        for tags in [ETAG, "*", "\"x\", \"abc\"", "W/\"abc\""] {
            let conditions = Conditions {
                if_none_match: Some(tags),
                range: Some("bytes=0-1"),
                ..Conditions::default()
            };
            assert_eq!(
                select(conditions, ETAG, 10),
                Selection::NotModified,
                "{tags}"
            );
        }
        let other = Conditions {
            if_none_match: Some("\"x\""),
            ..Conditions::default()
        };
        assert_eq!(select(other, ETAG, 10), Selection::Whole);
    }

    #[test]
    fn a_range_of_other_content_gets_the_whole() {
        let ask_if = |tag| {
            let conditions = Conditions {
                range: Some("bytes=0-1"),
                if_range: Some(tag),
                ..Conditions::default()
            };
            select(conditions, ETAG, 10)
        };
        assert_eq!(ask_if(ETAG), part(0, 1));
        assert_eq!(ask_if("\"old\""), Selection::Whole);
        assert_eq!(ask_if("W/\"abc\""), Selection::Whole);
        assert_eq!(ask_if("Sat, 29 Oct 1994 19:43:31 GMT"), Selection::Whole);
    }

    #[test]
    fn content_range_names_the_part_and_the_whole() {
        assert_eq!(
            ByteRange { first: 2, last: 5 }.content_range(10),
            "bytes 2-5/10"
        );
        assert_eq!(unsatisfied_content_range(10), "bytes */10");
    }

    proptest! {
        #[test]
        fn a_selected_part_always_lies_within_the_content(range in "bytes=[0-9]{0,4}-[0-9]{0,4}", length in 0_u64..5000) {
            if let Selection::Part(part) = ask(&range, length) {
                prop_assert!(part.first <= part.last && part.last < length);
                prop_assert!(part.length() >= 1 && part.length() <= length);
            }
        }

        #[test]
        fn no_header_makes_the_arithmetic_fail(range in any::<String>(), tag in any::<String>(), length: u64) {
            let conditions = Conditions {
                if_none_match: Some(&tag),
                range: Some(&range),
                if_range: None,
            };
            select(conditions, ETAG, length);
        }

        #[test]
        fn a_range_selects_the_same_bytes_as_a_walk_over_all_of_them(first in 0_u64..40, last in 0_u64..40, length in 0_u64..40) {
            let wanted: Vec<u64> = (0..length).filter(|at| (first..=last).contains(at)).collect();
            let selection = ask(&format!("bytes={first}-{last}"), length);
            match (wanted.first(), wanted.last()) {
                (Some(&first), Some(&last)) => prop_assert_eq!(selection, part(first, last)),
                _ if first > last => prop_assert_eq!(selection, Selection::Whole),
                _ => prop_assert_eq!(selection, Selection::Unsatisfiable),
            }
        }
    }
}
