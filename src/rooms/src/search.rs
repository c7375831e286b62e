//! Searching messages, names and topics of rooms for words.
//! <https://spec.matrix.org/v1.19/client-server-api/#server-side-search>
//!
//! A search reads the newest events first and stops when it has looked at as many as it was allowed to:
//! sending costs nothing for it, a search costs what it looks at. All words of the term must be in the
//! text, as words, in whatever case. Encrypted rooms have nothing that could be found.

use event::{EventId, json};
use names::RoomSn;
use store::{Position, Read};

use crate::append::string_member;
use crate::{EventNo, Result, StoredEvent, event_log};

/// Which texts are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// `body` of messages.
    pub body: bool,
    /// `name` of `m.room.name`.
    pub name: bool,
    /// `topic` of `m.room.topic`.
    pub topic: bool,
}

impl Keys {
    /// All of them.
    pub const ALL: Keys = Keys {
        body: true,
        name: true,
        topic: true,
    };

    /// The searched text of an event.
    fn text<'e>(self, event: &'e str) -> Option<std::borrow::Cow<'e, str>> {
        let key = match json::member(event, "type")? {
            "\"m.room.message\"" if self.body => "body",
            "\"m.room.name\"" if self.name => "name",
            "\"m.room.topic\"" if self.topic => "topic",
            _ => return None,
        };
        string_member(json::member(event, "content")?, key)
    }
}

/// What is searched for.
#[derive(Clone, Debug)]
pub struct Term {
    words: Vec<String>,
    keys: Keys,
}

/// An event that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// The room.
    pub room: RoomSn,
    /// The event's place.
    pub no: EventNo,
    /// Where it was committed.
    pub position: Position,
    /// How well it fits: the part of the text that the words make up.
    pub rank: f32,
}

/// Words of a term; further ones are left out.
const MOST_WORDS: usize = 20;
/// Matches whose redactions are looked up at once.
const PIECE: usize = 256;

impl Term {
    /// Takes a term apart. Nothing is found by a term without words.
    pub fn new(term: &str, keys: Keys) -> Self {
        let lower = term.to_lowercase();
        let mut words: Vec<String> = Vec::new();
        for word in lower.split(|c: char| !c.is_alphanumeric()) {
            if !word.is_empty() && words.len() < MOST_WORDS && !words.iter().any(|w| w == word) {
                words.push(word.to_owned());
            }
        }
        Term { words, keys }
    }

    /// The words, for highlighting.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// How well an event fits; nothing if it does not.
    fn rank(&self, event: &str) -> Option<f32> {
        if self.words.is_empty() {
            return None;
        }
        let text = self.keys.text(event)?.to_lowercase();
        let mut covered = 0;
        for word in &self.words {
            let times = occurrences(&text, word);
            if times == 0 {
                return None;
            }
            covered += times * word.len();
        }
        Some(covered as f32 / text.len().max(1) as f32)
    }
}

/// How often `word` is in `text` as a whole word.
fn occurrences(text: &str, word: &str) -> usize {
    text.match_indices(word)
        .filter(|(at, _)| {
            let before = text[..*at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !goes_on(before, word.chars().next()) && !goes_on(after, word.chars().next_back())
        })
        .count()
}

/// Whether a word goes on from one character to the other.
fn goes_on(outside: Option<char>, inside: Option<char>) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() && !is_unspaced(c));
    is_word(outside) && is_word(inside)
}

/// Scripts that put no space between words: Thai, Lao, Chinese, Japanese.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Searches a room's events before `end`, newest first, until `left` have been looked at.
pub fn in_room(
    from: &impl Read,
    room: RoomSn,
    end: EventNo,
    term: &Term,
    left: &mut usize,
    mut accept: impl FnMut(EventNo, &StoredEvent) -> Result<bool>,
) -> Result<Vec<Match>> {
    let mut found = Vec::new();
    let mut fresh: Vec<(Match, EventId)> = Vec::new();
    for row in event_log::backwards(from, room, end) {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let (no, event) = row?;
        let Some(rank) = term.rank(&event.json) else {
            continue;
        };
        if !accept(no, &event)? {
            continue;
        }
        let position = event.position;
        let hit = Match {
            room,
            no,
            position,
            rank,
        };
        fresh.push((hit, event.event_id));
        if fresh.len() == PIECE {
            keep(from, room, &mut fresh, &mut found)?;
        }
    }
    keep(from, room, &mut fresh, &mut found)?;
    Ok(found)
}

/// Moves those that were not redacted.
fn keep(
    from: &impl Read,
    room: RoomSn,
    fresh: &mut Vec<(Match, EventId)>,
    found: &mut Vec<Match>,
) -> Result<()> {
    let marks = event_log::marks_of(from, room, fresh.iter().map(|(_, id)| id))?;
    for ((hit, _), marks) in fresh.drain(..).zip(marks) {
        if marks.redacted_by.is_none() {
            found.push(hit);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> String {
        let body = serde_json::Value::from(body);
        format!(r#"{{"content":{{"body":{body}}},"type":"m.room.message"}}"#)
    }

    fn fits(term: &str, body: &str) -> bool {
        Term::new(term, Keys::ALL).rank(&message(body)).is_some()
    }

    #[test]
    fn all_words_must_be_there_as_words_in_whatever_case() {
        assert!(fits("hello", "Hello, world"));
        assert!(fits("Message 4", "message number 4"));
        assert!(fits(
            "größe STRASSE",
            "Die Straße, nein: strasse, hat GRÖSSE und Größe"
        ));
        assert!(!fits("message 4", "Message number 14"));
        assert!(!fits("ell", "hello"));
        assert!(!fits("hello there", "hello"));
        assert!(fits("天气", "今天天气很好"), "no spaces between words");
        for empty in ["", " ", "?!"] {
            assert!(!fits(empty, "anything ?!"), "{empty:?}");
        }
    }

    #[test]
    fn only_the_texts_asked_for_are_searched() {
        let topic = r#"{"content":{"topic":"about tea"},"type":"m.room.topic"}"#;
        let only = |keys| Term::new("tea", keys).rank(topic).is_some();
        assert!(only(Keys::ALL));
        let body = Keys {
            body: true,
            ..Keys::default()
        };
        assert!(!only(body));
        let other = r#"{"content":{"body":"tea"},"type":"m.sticker"}"#;
        assert_eq!(Term::new("tea", Keys::ALL).rank(other), None);
    }

    #[test]
    fn a_text_that_is_little_else_ranks_higher() {
        let term = Term::new("tea", Keys::ALL);
        let short = term.rank(&message("tea!"));
        let long = term.rank(&message("we talked of many things and of tea"));
        assert!(short > long && long.is_some());
    }
}
