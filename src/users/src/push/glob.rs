//! Glob-style matching (appendices): `*` stands for any characters, `?` for one; case does not count.
//!
//! Both patterns and texts come from users, so matching takes time in proportion to the product of
//! their lengths at worst, whatever they are.

/// A pattern in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    /// The pattern itself, if it has no wildcards.
    literal: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Many,
}

/// True for characters of words.
fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// True if a word may begin or end between the two characters; none is the end of the text.
fn is_boundary(before: Option<char>, after: Option<char>) -> bool {
    before.is_none_or(|c| !in_word(c)) || after.is_none_or(|c| !in_word(c))
}

impl Glob {
    /// Reads a pattern.
    pub fn new(pattern: &str) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        for c in pattern.chars().flat_map(char::to_lowercase) {
            let token = match c {
                '*' => Token::Many,
                '?' => Token::One,
                c => Token::Char(c),
            };
            if token != Token::Many || tokens.last() != Some(&Token::Many) {
                tokens.push(token);
            }
        }
        let literal = tokens
            .iter()
            .all(|token| matches!(token, Token::Char(_)))
            .then(|| pattern.to_lowercase());
        Self { tokens, literal }
    }

    /// A pattern without wildcards, whatever is in it.
    pub fn literal(text: &str) -> Self {
        let lower = text.to_lowercase();
        Self {
            tokens: lower.chars().map(Token::Char).collect(),
            literal: Some(lower),
        }
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        match &self.literal {
            // Event types, user ids and the like: without a copy in small letters.
            Some(literal) if text.is_ascii() => literal.eq_ignore_ascii_case(text),
            Some(literal) => *literal == text.to_lowercase(),
            None => self.search(&text.to_lowercase(), true),
        }
    }

    /// Whether a part of `text`, in small letters, that begins and ends at word boundaries matches.
    pub fn matches_words(&self, text: &str) -> bool {
        let Some(literal) = &self.literal else {
            return self.search(text, false);
        };
        if literal.is_empty() {
            return true;
        }
        text.match_indices(literal.as_str()).any(|(at, found)| {
            let (before, after) = (&text[..at], &text[at + found.len()..]);
            is_boundary(before.chars().next_back(), found.chars().next())
                && is_boundary(found.chars().next_back(), after.chars().next())
        })
    }

    /// Follows all ways to match at once: `alive[n]` says that the first `n` tokens have matched what
    /// was read since some possible beginning.
    fn search(&self, text: &str, whole: bool) -> bool {
        let end = self.tokens.len();
        let mut alive = vec![false; end + 1];
        let mut next = vec![false; end + 1];
        let mut before = None;
        let mut chars = text.chars().peekable();
        loop {
            let after = chars.peek().copied();
            let may_begin = before.is_none() || (!whole && is_boundary(before, after));
            alive[0] |= may_begin;
            // `*` matches nothing as well.
            for (at, token) in self.tokens.iter().enumerate() {
                if *token == Token::Many && alive[at] {
                    alive[at + 1] = true;
                }
            }
            let may_end = after.is_none() || (!whole && is_boundary(before, after));
            if alive[end] && may_end {
                return true;
            }
            let Some(c) = chars.next() else {
                return false;
            };
            next.fill(false);
            for (at, token) in self.tokens.iter().enumerate() {
                match token {
                    _ if !alive[at] => {}
                    Token::Many => next[at] = true,
                    Token::One => next[at + 1] = true,
                    Token::Char(wanted) => next[at + 1] |= *wanted == c,
                }
            }
            std::mem::swap(&mut alive, &mut next);
            before = Some(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_values_match_as_the_specification_shows() {
        let lunch = Glob::new("lunc?*");
        assert!(lunch.matches("lunch plans") && lunch.matches("lunch"));
        assert!(!lunch.matches(" lunch") && !lunch.matches("lunc"));
        assert!(Glob::new("*").matches("") && Glob::new("").matches(""));
        assert!(!Glob::new("").matches("x"));
        assert!(Glob::literal("a*b").matches("a*b") && !Glob::literal("a*b").matches("axb"));
    }

    #[test]
    fn words_match_as_the_specification_shows() {
        let example = Glob::new("ex*ple");
        for body in ["an example event.", "exple", "an exciting triple-whammy"] {
            assert!(example.matches_words(body), "{body}");
        }
        assert!(!example.matches_words("anexample") && !example.matches_words("examples"));
        let cake = Glob::new("Cake");
        assert!(cake.matches_words("a cake!") && cake.matches_words("cheesecake, or cake"));
        assert!(!cake.matches_words("cheesecake") && !cake.matches_words("cake_1"));
        assert!(Glob::new("müller").matches_words("frau müller"));
    }

    #[test]
    fn a_pattern_of_many_stars_takes_bounded_time() {
        let pattern = Glob::new(&"a*".repeat(100));
        assert!(!pattern.matches(&format!("{}b", "c".repeat(20_000))));
        assert!(pattern.matches_words(&"a".repeat(20_000)));
    }

    /// The plainest matcher there is.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => {
                naive(rest, text) || (!text.is_empty() && naive(pattern, &text[1..]))
            }
            (Some(('?', rest)), Some((_, text))) => naive(rest, text),
            (Some((p, rest)), Some((t, text))) => p == t && naive(rest, text),
            _ => false,
        }
    }

    fn naive_words(pattern: &[char], text: &[char]) -> bool {
        let boundary = |at: usize| {
            let before = at.checked_sub(1).and_then(|at| text.get(at));
            is_boundary(before.copied(), text.get(at).copied())
        };
        (0..=text.len()).any(|from| {
            (from..=text.len())
                .any(|to| boundary(from) && boundary(to) && naive(pattern, &text[from..to]))
        })
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_plainest_matcher(
            pattern in "[ab?* ]{0,6}", text in "[ab _]{0,8}",
        ) {
            let glob = Glob::new(&pattern);
            let (p, t): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(glob.matches(&text), naive(&p, &t));
            prop_assert_eq!(glob.matches_words(&text), naive_words(&p, &t));
        }
    }
}
