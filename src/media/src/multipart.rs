//! The form in which servers hand media to each other: `multipart/mixed` of two parts, metadata and the content itself
//! or where it is.
//!
//! [`Reader`] takes an answer in pieces as they come and holds on to no more of it than a boundary and the head of a
//! part; [`head`] and [`tail`] are what stands around content that is sent.
//!
//! Source: <https://spec.matrix.org/v1.19/server-server-api/#content-repository>, RFC 2046, section 5.1.

use crate::headers::ContentHeaders;

/// The longest boundary (RFC 2046).
const MAX_BOUNDARY_BYTES: usize = 70;

/// The most that comes before the content, part for part.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What is not such an answer; says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not two parts of multipart/mixed: {0}")]
pub struct Malformed(&'static str);

/// The head of the part that holds the content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Location`: where the content is, if it is not here.
    pub location: Option<String>,
}

/// What a [`Reader`] has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The head of the content's part: comes first, once.
    Head(Part),
    /// Some of the content.
    Content(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first boundary, or in a part that is passed over.
    Between,
    /// Behind a boundary.
    Boundary,
    Head,
    /// Behind the head of the content, which may be missing, line break and all.
    Beginning,
    Content,
    End,
}

/// Reads an answer.
#[derive(Debug)]
pub struct Reader {
    /// What ends a part: a line break, two hyphens, the boundary.
    delimiter: Vec<u8>,
    /// What was not read yet.
    buffer: Vec<u8>,
    state: State,
    parts: u32,
    /// Bytes passed over since the last boundary.
    passed_over: usize,
}

impl Reader {
    /// A reader of an answer of this `Content-Type`.
    ///
    /// # Errors
    /// If it is not `multipart/mixed` with a boundary.
    pub fn new(content_type: &str) -> Result<Self, Malformed> {
        let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        if !essence.trim().eq_ignore_ascii_case("multipart/mixed") {
            return Err(Malformed("another content type"));
        }
        let boundary = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            let value = value.trim();
            let unquoted = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'));
            name.trim()
                .eq_ignore_ascii_case("boundary")
                .then_some(unquoted.unwrap_or(value))
        });
        match boundary {
            Some(boundary) if (1..=MAX_BOUNDARY_BYTES).contains(&boundary.len()) => Ok(Self {
                delimiter: format!("\r\n--{boundary}").into_bytes(),
                // So that a boundary at the very beginning is one as well.
                buffer: b"\r\n".to_vec(),
                state: State::Between,
                parts: 0,
                passed_over: 0,
            }),
            _ => Err(Malformed("no boundary")),
        }
    }

    /// Takes the next piece of the answer.
    ///
    /// # Errors
    /// If it can't be such an answer any more.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, Malformed> {
        self.buffer.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        while self.step(&mut pieces)? {}
        Ok(pieces)
    }

    /// The answer ended.
    ///
    /// # Errors
    /// If the content did not.
    pub fn finish(self) -> Result<(), Malformed> {
        match self.state {
            State::End if self.parts >= 2 => Ok(()),
            _ => Err(Malformed("it ends early")),
        }
    }

    /// Goes on as far as one state goes; false if more has to come first.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> Result<bool, Malformed> {
        match self.state {
            State::Between => {
                let (passed, found) = self.upto_delimiter();
                self.passed_over += passed.len();
                if self.passed_over > MAX_HEAD_BYTES {
                    return Err(Malformed("too much before the content"));
                }
                Ok(found)
            }
            State::Content => {
                let (content, found) = self.upto_delimiter();
                if !content.is_empty() {
                    pieces.push(Piece::Content(content));
                }
                Ok(found)
            }
            State::Beginning => {
                // At least so much follows, be it the delimiter itself.
                let delimiter = &self.delimiter[2..];
                if self.buffer.len() < delimiter.len() {
                    return Ok(false);
                }
                if self.buffer.starts_with(delimiter) {
                    self.buffer.splice(..0, *b"\r\n");
                }
                self.state = State::Content;
                Ok(true)
            }
            State::Boundary => self.behind_boundary(),
            State::Head => self.head(pieces),
            State::End => {
                self.buffer.clear();
                Ok(false)
            }
        }
    }

    /// Takes out what certainly comes before the next delimiter; whether that was found.
    fn upto_delimiter(&mut self) -> (Vec<u8>, bool) {
        if let Some(at) = find(&self.buffer, &self.delimiter) {
            let before = self.buffer.drain(..at).collect();
            self.buffer.drain(..self.delimiter.len());
            self.state = State::Boundary;
            return (before, true);
        }
        let certain = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
        (self.buffer.drain(..certain).collect(), false)
    }

    fn behind_boundary(&mut self) -> Result<bool, Malformed> {
        if self.buffer.starts_with(b"--") {
            self.state = State::End;
            return Ok(true);
        }
        let Some(at) = find(&self.buffer, b"\r\n") else {
            return match self.buffer.len() <= MAX_HEAD_BYTES {
                true => Ok(false),
                false => Err(Malformed("a boundary goes on")),
            };
        };
        if !self.buffer[..at].iter().all(|byte| b" \t".contains(byte)) {
            return Err(Malformed("a boundary goes on"));
        }
        // The line break stays: it may be the first of the two that end a head without fields.
        self.buffer.drain(..at);
        self.state = State::Head;
        Ok(true)
    }

    fn head(&mut self, pieces: &mut Vec<Piece>) -> Result<bool, Malformed> {
        let Some(end) = find(&self.buffer, b"\r\n\r\n") else {
            return match self.buffer.len() <= MAX_HEAD_BYTES {
                true => Ok(false),
                false => Err(Malformed("a part's head is too long")),
            };
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        // The last line break may begin the delimiter of an empty part.
        self.buffer.drain(..2);
        self.parts += 1;
        self.passed_over = 0;
        self.state = State::Between;
        if self.parts == 2 {
            self.buffer.drain(..2);
            self.state = State::Beginning;
            pieces.push(Piece::Head(Part::read(&head)));
        }
        Ok(true)
    }
}

impl Part {
    fn read(head: &[u8]) -> Self {
        let mut part = Self::default();
        for line in String::from_utf8_lossy(head).split("\r\n") {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = Some(value.trim().to_owned());
            match name.trim().to_ascii_lowercase().as_str() {
                "content-type" => part.content_type = value,
                "content-disposition" => part.content_disposition = value,
                "location" => part.location = value,
                _ => {}
            }
        }
        part
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|byte| *byte == first) {
        let at = from + at;
        if haystack[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// What comes before content that is sent. The boundary is random, so that it is not in the content.
pub fn head(boundary: &str, named: &ContentHeaders) -> Vec<u8> {
    let (content_type, disposition) = (&named.content_type, &named.content_disposition);
    format!(
        "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n\
         Content-Type: {content_type}\r\nContent-Disposition: {disposition}\r\n\r\n"
    )
    .into_bytes()
}

/// What comes after it.
pub fn tail(boundary: &str) -> Vec<u8> {
    format!("\r\n--{boundary}--\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads an answer in pieces of the given lengths.
    fn read(answer: &[u8], lengths: &[usize]) -> Result<(Option<Part>, Vec<u8>), Malformed> {
        let mut reader = Reader::new("multipart/mixed; boundary=\"b-1\"")?;
        let (mut part, mut content) = (None, Vec::new());
        let mut rest = answer;
        let mut lengths = lengths.iter().cycle();
        while !rest.is_empty() {
            let length = lengths.next().copied().unwrap_or(1).clamp(1, rest.len());
            for piece in reader.push(&rest[..length])? {
                match piece {
                    Piece::Head(head) => part = Some(head),
                    Piece::Content(bytes) => content.extend(bytes),
                }
            }
            rest = &rest[length..];
        }
        reader.finish()?;
        Ok((part, content))
    }

    fn whole(content: &[u8]) -> Vec<u8> {
        let named = ContentHeaders {
            content_type: "text/plain".to_owned(),
            content_disposition: "inline".to_owned(),
        };
        [&head("b-1", &named), content, &tail("b-1")].concat()
    }

    proptest! {
        #[test]
        fn content_comes_out_as_it_went_in_however_it_is_cut(
            content in "[-\r\nb1x]{0,60}", lengths in proptest::collection::vec(1..20usize, 1..8),
        ) {
            prop_assume!(!content.contains("\r\n--b-1"));
            prop_assume!(!content.starts_with("--b-1"));
            let (part, read) = read(&whole(content.as_bytes()), &lengths).unwrap();
            let content_type = part.unwrap().content_type;
            prop_assert_eq!(content_type.as_deref(), Some("text/plain"));
            prop_assert_eq!(read, content.into_bytes());
        }

        #[test]
        fn nothing_that_comes_makes_it_panic(
            answer in "(\r\n|--|b-1|:|a|\\{\\}){0,40}", lengths in proptest::collection::vec(1..9usize, 1..4),
        ) {
            let _ = read(answer.as_bytes(), &lengths);
        }
    }

    #[test]
    fn a_location_stands_for_the_content_and_heads_may_be_empty() {
        let answer =
            b"--b-1\r\n\r\n{}\r\n--b-1\r\nlocation: https://cdn.example/x\r\n\r\n\r\n--b-1--";
        let (part, content) = read(answer, &[answer.len()]).unwrap();
        let location = part.unwrap().location;
        assert_eq!(location.as_deref(), Some("https://cdn.example/x"));
        assert_eq!(content, b"");
        // Without the empty line of a body.
        let answer = b"--b-1\r\n\r\n{}\r\n--b-1\r\nLocation: https://cdn.example/x\r\n\r\n--b-1--";
        assert!(read(answer, &[3]).is_ok());
    }

    #[test]
    fn what_ends_early_or_is_something_else_is_refused() {
        let answer = whole(b"content");
        for end in 1..answer.len() - 4 {
            assert!(read(&answer[..end], &[7]).is_err(), "{end}");
        }
        assert!(Reader::new("application/json").is_err());
        assert!(Reader::new("multipart/mixed").is_err());
        assert!(Reader::new("multipart/mixed; boundary=").is_err());
        assert!(Reader::new("Multipart/Mixed;charset=x; Boundary=abc").is_ok());
        let endless = vec![b'x'; MAX_HEAD_BYTES + 100];
        assert!(read(&endless, &[1000]).is_err());
    }
}
