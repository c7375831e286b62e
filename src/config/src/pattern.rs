//! Patterns for names of servers, users and rooms.

use std::fmt;
use std::path::Path;

use crate::document::{Value, quoted};
use crate::setting::Scalar;

/// A name, or a name in which `*` stands for anything, nothing included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

/// The longest pattern, in bytes.
const MAX_BYTES: usize = 255;

impl Pattern {
    /// The pattern, or None when it is too long or empty.
    pub fn new(text: &str) -> Option<Self> {
        ((1..=MAX_BYTES).contains(&text.len())).then(|| Pattern(text.to_owned()))
    }

    /// The pattern that everything matches.
    pub(crate) fn anything() -> Self {
        Pattern("*".to_owned())
    }

    /// Whether the whole of `name` is like this. Upper and lower case count.
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes(), |a, b| a == b)
    }

    /// Whether a server's name is like this: without its port, unless the pattern has one, and in any case.
    pub fn matches_server(&self, server_name: &str) -> bool {
        let same = |a: u8, b: u8| a.eq_ignore_ascii_case(&b);
        let (host, port) = split_port(server_name);
        let (_, wanted_port) = split_port(&self.0);
        let name = if wanted_port.is_some() || port.is_none() {
            server_name
        } else {
            host
        };
        matches(self.0.as_bytes(), name.as_bytes(), same)
    }
}

/// The host, with the brackets of an address of IPv6, and the port.
fn split_port(server_name: &str) -> (&str, Option<&str>) {
    match server_name.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (server_name, None),
    }
}

/// Goes back only to the last `*`, so that the work is bounded by the product of the lengths.
fn matches(pattern: &[u8], name: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&wanted) if same(wanted, byte) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Pattern {
    fn allowed() -> String {
        "a name, in which * stands for anything, such as \"*.example.org\"".to_owned()
    }

    fn parse(value: &Value, _base: &Path) -> Option<Self> {
        match value {
            Value::Text(text) => Pattern::new(text),
            _ => None,
        }
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern)
            .expect("a pattern")
            .matches_server(name)
    }

    #[test]
    fn a_star_stands_for_anything_and_the_whole_name_must_fit() {
        let fits = |pattern: &str, name: &str| Pattern(pattern.to_owned()).matches(name);
        assert!(fits("*", "") && fits("*", "abc") && fits("a*c", "ac") && fits("a*c", "abbc"));
        assert!(fits("*b*", "abc") && fits("a**", "a") && fits("@*:a.example", "@x:a.example"));
        assert!(
            !fits("a*c", "abcd") && !fits("abc", "ab") && !fits("ab", "abc") && !fits("a", "A")
        );
        assert!(!fits(&"*a".repeat(60), &"a".repeat(59)));
    }

    #[test]
    fn servers_match_in_any_case_and_with_any_port_unless_one_is_named() {
        assert!(server("a.example", "A.example") && server("a.example", "a.example:8448"));
        assert!(server("a.example:1", "a.example:1") && !server("a.example:1", "a.example:2"));
        assert!(!server("a.example:1", "a.example"));
        assert!(server("*.example", "a.b.example:80") && !server("*.example", "example"));
        assert!(server("[::1]", "[::1]:8448") && server("[::1]", "[::1]"));
        assert!(server("*", "[::1]:8448") && !server("a.example", "evil-a.example"));
    }
}
