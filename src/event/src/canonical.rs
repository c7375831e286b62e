//! Canonical JSON: the one byte form in which events are hashed, signed, stored and compared.
//!
//! [`from_text`] turns any JSON text into it, [`to_bytes`] does the same for a `serde_json` tree, [`is_canonical`]
//! recognises it. Text that is already canonical is recognised in one pass and copied.
//!
//! Of members with the same key the last one counts, as in the other servers' parsers: a peer that sends one event
//! in two readings would otherwise split the room.
//!
//! Source: <https://spec.matrix.org/v1.19/appendices/#canonical-json>.

use std::borrow::Cow;

use serde_json::Value;

use crate::json::write_string;
use crate::room_version::NumberRule;

/// Deeper nesting is refused: it carries no meaning in Matrix and costs stack.
pub const MAX_NESTING: usize = 256;

/// The greatest number, and the least when negated.
pub const MAX_INTEGER: i64 = (1 << 53) - 1;

/// Whether an integer has at most 53 bits. The least `i64` has no absolute value among the `i64`.
fn fits(integer: i64) -> bool {
    integer.unsigned_abs() <= MAX_INTEGER.unsigned_abs()
}

/// Why a text has no canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// Not JSON at all (`M_NOT_JSON`).
    #[error("not JSON: {what} at byte {at}")]
    Syntax { what: &'static str, at: usize },
    /// Not UTF-8 (`M_NOT_JSON`).
    #[error("not UTF-8")]
    Encoding,
    /// A number with a fraction or exponent, or outside of ±(2^53 - 1) (`M_BAD_JSON`).
    #[error("{0} is not an integer between -2^53+1 and 2^53-1")]
    Number(String),
    /// Nested deeper than [`MAX_NESTING`] (`M_BAD_JSON`).
    #[error("nested deeper than {MAX_NESTING} levels")]
    Nesting,
}

/// The canonical form of a tree.
///
/// A float without fraction counts as the integer it is (the specification's example turns `1e10` into
/// `10000000000`); the tree has forgotten how the number was written. [`from_text`] is strict about that.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::with_capacity(256);
    write_tree(value, &mut out, 0)?;
    Ok(out)
}

fn write_tree(value: &Value, out: &mut Vec<u8>, nesting: usize) -> Result<(), CanonicalError> {
    if nesting > MAX_NESTING {
        return Err(CanonicalError::Nesting);
    }
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let integer = number.as_i64().or_else(|| {
                let float = number.as_f64()?;
                (float.fract() == 0.0 && float.abs() <= MAX_INTEGER as f64).then_some(float as i64)
            });
            match integer {
                Some(integer) if fits(integer) => {
                    out.extend_from_slice(integer.to_string().as_bytes());
                }
                _ => return Err(CanonicalError::Number(number.to_string())),
            }
        }
        Value::String(text) => write_string(out, text),
        Value::Array(elements) => {
            out.push(b'[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_tree(element, out, nesting + 1)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (index, (key, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(out, key);
                out.push(b':');
                write_tree(member, out, nesting + 1)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// The canonical form of a JSON text. Under [`NumberRule::Any`] numbers that canonical JSON does not know are written
/// as the reference implementation writes them, since that is what such events were signed as.
pub fn from_text(text: &str, numbers: NumberRule) -> Result<Cow<'_, str>, CanonicalError> {
    let mut parser = Parser {
        text,
        bytes: text.as_bytes(),
        at: 0,
        numbers,
    };
    if parser.canonical_value(0).is_some() && parser.at == text.len() {
        return Ok(Cow::Borrowed(text));
    }
    parser.at = 0;
    parser.white_space();
    let node = parser.value(0)?;
    parser.white_space();
    if parser.at != text.len() {
        return Err(parser.syntax("text after the value"));
    }
    let mut out = Vec::with_capacity(text.len());
    node.write(&mut out);
    // Written from `str` pieces only, so the check can't fail.
    String::from_utf8(out)
        .map(Cow::Owned)
        .map_err(|_| CanonicalError::Encoding)
}

/// Whether the bytes are canonical JSON.
pub fn is_canonical(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut parser = Parser {
        text,
        bytes,
        at: 0,
        numbers: NumberRule::Integers,
    };
    parser.canonical_value(0).is_some() && parser.at == bytes.len()
}

/// A parsed value; strings borrow from the text where nothing is escaped.
enum Node<'a> {
    /// `null`, `true`, `false` or a number, in canonical spelling.
    Plain(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl Node<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Plain(text) => out.extend_from_slice(text.as_bytes()),
            Node::String(text) => write_string(out, text),
            Node::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    element.write(out);
                }
                out.push(b']');
            }
            Node::Object(members) => {
                out.push(b'{');
                for (index, (key, member)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_string(out, key);
                    out.push(b':');
                    member.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// One pass over a text. Recursion is bounded by [`MAX_NESTING`].
struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    numbers: NumberRule,
}

impl<'a> Parser<'a> {
    fn syntax(&self, what: &'static str) -> CanonicalError {
        CanonicalError::Syntax { what, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn literal(&mut self, word: &'static str) -> bool {
        let found = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Steps over a value if it is canonical already; `None` if it is not, or is no JSON.
    fn canonical_value(&mut self, nesting: usize) -> Option<()> {
        if nesting > MAX_NESTING {
            return None;
        }
        match self.peek()? {
            b'"' => self.canonical_string(),
            b'{' => self.canonical_object(nesting),
            b'[' => {
                self.at += 1;
                if self.take(b']') {
                    return Some(());
                }
                loop {
                    self.canonical_value(nesting + 1)?;
                    if self.take(b']') {
                        return Some(());
                    }
                    self.take(b',').then_some(())?;
                }
            }
            b't' => self.literal("true").then_some(()),
            b'f' => self.literal("false").then_some(()),
            b'n' => self.literal("null").then_some(()),
            _ => self.canonical_integer(),
        }
    }

    fn canonical_object(&mut self, nesting: usize) -> Option<()> {
        self.at += 1;
        if self.take(b'}') {
            return Some(());
        }
        let mut previous: Option<Cow<'a, str>> = None;
        loop {
            let start = self.at;
            self.canonical_string()?;
            // Keys are sorted by what they mean, not by how they are escaped.
            let key = crate::json::string(self.text.get(start..self.at)?)?;
            if previous.is_some_and(|previous| previous >= key) {
                return None;
            }
            previous = Some(key);
            self.take(b':').then_some(())?;
            self.canonical_value(nesting + 1)?;
            if self.take(b'}') {
                return Some(());
            }
            self.take(b',').then_some(())?;
        }
    }

    /// Steps over a string whose escapes are the canonical ones.
    fn canonical_string(&mut self) -> Option<()> {
        self.take(b'"').then_some(())?;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => {
                    self.at += 1;
                    match self.peek()? {
                        b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r' => self.at += 1,
                        b'u' => {
                            let digits = self.text.get(self.at + 1..self.at + 5)?;
                            let lower = digits
                                .bytes()
                                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                            let code = u8::try_from(u32::from_str_radix(digits, 16).ok()?).ok()?;
                            let short = matches!(code, 0x08 | b'\t' | b'\n' | 0x0c | b'\r');
                            (lower && code < 0x20 && !short).then_some(())?;
                            self.at += 5;
                        }
                        _ => return None,
                    }
                }
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
    }

    fn canonical_integer(&mut self) -> Option<()> {
        let start = self.at;
        let negative = self.take(b'-');
        let digits_start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = self.text.get(digits_start..self.at)?;
        let plain = match digits {
            "" => false,
            "0" => !negative,
            _ => !digits.starts_with('0'),
        };
        let more = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        let small = || {
            let value: Option<i64> = self.text.get(start..self.at).and_then(|n| n.parse().ok());
            value.is_some_and(fits)
        };
        (plain && !more && (self.numbers == NumberRule::Any || small())).then_some(())
    }

    fn value(&mut self, nesting: usize) -> Result<Node<'a>, CanonicalError> {
        if nesting > MAX_NESTING {
            return Err(CanonicalError::Nesting);
        }
        match self.peek() {
            Some(b'"') => Ok(Node::String(self.string()?)),
            Some(b'{') => self.object(nesting),
            Some(b'[') => self.array(nesting),
            Some(b't') if self.literal("true") => Ok(Node::Plain("true".into())),
            Some(b'f') if self.literal("false") => Ok(Node::Plain("false".into())),
            Some(b'n') if self.literal("null") => Ok(Node::Plain("null".into())),
            Some(b'-' | b'0'..=b'9') => Ok(Node::Plain(self.number()?)),
            Some(_) => Err(self.syntax("no value")),
            None => Err(self.syntax("end of text")),
        }
    }

    fn array(&mut self, nesting: usize) -> Result<Node<'a>, CanonicalError> {
        self.at += 1;
        let mut elements = Vec::new();
        self.white_space();
        if self.take(b']') {
            return Ok(Node::Array(elements));
        }
        loop {
            self.white_space();
            elements.push(self.value(nesting + 1)?);
            self.white_space();
            if self.take(b']') {
                return Ok(Node::Array(elements));
            }
            if !self.take(b',') {
                return Err(self.syntax("neither comma nor end of array"));
            }
        }
    }

    fn object(&mut self, nesting: usize) -> Result<Node<'a>, CanonicalError> {
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Node<'a>)> = Vec::new();
        self.white_space();
        if self.take(b'}') {
            return Ok(Node::Object(members));
        }
        loop {
            self.white_space();
            if self.peek() != Some(b'"') {
                return Err(self.syntax("no key"));
            }
            let key = self.string()?;
            self.white_space();
            if !self.take(b':') {
                return Err(self.syntax("no colon after a key"));
            }
            self.white_space();
            members.push((key, self.value(nesting + 1)?));
            self.white_space();
            if self.take(b'}') {
                break;
            }
            if !self.take(b',') {
                return Err(self.syntax("neither comma nor end of object"));
            }
        }
        if !members.is_sorted_by(|a, b| a.0 < b.0) {
            // Stable, and `dedup_by` keeps the earlier of two: reversed, that is the last written one.
            members.reverse();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            members.dedup_by(|later, earlier| later.0 == earlier.0);
        }
        Ok(Node::Object(members))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, CanonicalError> {
        let start = self.at;
        self.at += 1;
        let mut escaped = false;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 2;
                }
                Some(0..0x20) => return Err(self.syntax("control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.syntax("end of text in a string")),
            }
        }
        self.at += 1;
        let quoted = self
            .text
            .get(start..self.at)
            .ok_or_else(|| self.syntax("bad escape"))?;
        if !escaped {
            return Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1]));
        }
        // serde_json refuses unknown escapes and lone surrogates, which have no UTF-8 form.
        serde_json::from_str::<String>(quoted)
            .map(Cow::Owned)
            .map_err(|_| CanonicalError::Syntax {
                what: "bad escape",
                at: start,
            })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Cow<'a, str>, CanonicalError> {
        let start = self.at;
        self.take(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let digits = self.digits();
        if digits == 0 || (leading_zero && digits > 1) {
            return Err(self.syntax("bad number"));
        }
        let mut integer = true;
        if self.take(b'.') {
            integer = false;
            if self.digits() == 0 {
                return Err(self.syntax("bad number"));
            }
        }
        if self.take(b'e') || self.take(b'E') {
            integer = false;
            let _sign = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return Err(self.syntax("bad number"));
            }
        }
        let number = &self.text[start..self.at];
        let refused = || CanonicalError::Number(number.to_owned());
        if integer {
            let small = number.parse().is_ok_and(fits);
            return match self.numbers {
                _ if number == "-0" => Ok("0".into()),
                NumberRule::Integers if !small => Err(refused()),
                _ => Ok(number.into()),
            };
        }
        let float = number.parse::<f64>().ok().filter(|float| float.is_finite());
        match self.numbers {
            NumberRule::Any => float
                .map(|float| float_text(float).into())
                .ok_or_else(refused),
            NumberRule::Integers => Err(refused()),
        }
    }
}

/// A float as Python's `repr` writes it: the shortest digits that read back the same, plain between 1e-4 and 1e16, else
/// with a signed exponent of at least two digits.
fn float_text(float: f64) -> String {
    let scientific = format!("{float:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let Ok(exponent) = exponent.parse::<i32>() else {
        return scientific;
    };
    if (-4..16).contains(&exponent) {
        let plain = format!("{float}");
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
