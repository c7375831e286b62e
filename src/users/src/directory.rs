//! The user directory: finding users by the words of their display name and user id.
//!
//! Every user with an entry has a row per word, so that a search is a few short scans however many
//! users there are. Who may find whom (shared and public rooms) is the caller's to say: it passes a
//! predicate, because rooms are not known here. Users of other servers have no entry: they are looked for among the
//! members of rooms, by [`Term::finds`].

use std::collections::BTreeSet;

use names::UserSn;
use serde::{Deserialize, Serialize};
use store::{Direction, Read, Record, Txn};

use crate::schema::{DIRECTORY_ENTRIES, DIRECTORY_WORDS};
use crate::{Result, profile};

/// Words of one user that are kept.
const MAX_WORDS: usize = 32;
/// The longest part of a word that is kept and searched, in bytes.
const MAX_WORD_BYTES: usize = 64;
/// Rows of one word that a search looks at.
const MAX_ROWS: usize = 10_000;

/// What a user is found by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The user id.
    pub user_id: String,
    /// The words, in order.
    words: Vec<String>,
}

impl Record for Entry {}

impl Entry {
    /// The words that the user is found by.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }
}

/// A user who was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The user.
    pub user: UserSn,
    /// The user id.
    pub user_id: String,
    /// The display name.
    pub display_name: Option<String>,
    /// The avatar's address.
    pub avatar_url: Option<String>,
}

/// Makes a user findable by user id and, from now on, by display name.
pub fn add(txn: &mut Txn, user: UserSn, user_id: &str) -> Result<()> {
    let displayname = profile::shown(txn, user)?.displayname;
    put(txn, user, user_id, displayname.as_deref())
}

/// Makes a user impossible to find.
pub fn remove(txn: &mut Txn, user: UserSn) -> Result<()> {
    if let Some(entry) = DIRECTORY_ENTRIES.get(txn, &user)? {
        for word in entry.words {
            DIRECTORY_WORDS.delete(txn, &(word, user));
        }
        DIRECTORY_ENTRIES.delete(txn, &user);
    }
    Ok(())
}

/// Follows a change of the display name; nothing for users without an entry.
pub(crate) fn update_displayname(
    txn: &mut Txn,
    user: UserSn,
    displayname: Option<&str>,
) -> Result<()> {
    match DIRECTORY_ENTRIES.get(txn, &user)? {
        Some(entry) => put(txn, user, &entry.user_id, displayname),
        None => Ok(()),
    }
}

/// The words that a user is found by.
fn words_of(user_id: &str, displayname: Option<&str>) -> Vec<String> {
    let localpart = user_id.trim_start_matches('@').split(':').next();
    let mut words = words(displayname.unwrap_or_default());
    words.extend(self::words(localpart.unwrap_or_default()));
    words.extend(localpart.map(fold));
    words.into_iter().take(MAX_WORDS).collect()
}

fn put(txn: &mut Txn, user: UserSn, user_id: &str, displayname: Option<&str>) -> Result<()> {
    let words = words_of(user_id, displayname);
    let before = DIRECTORY_ENTRIES.get(txn, &user)?.unwrap_or_default();
    if before.words == words && before.user_id == user_id {
        return Ok(());
    }
    for word in before.words {
        DIRECTORY_WORDS.delete(txn, &(word, user));
    }
    for word in &words {
        DIRECTORY_WORDS.put(txn, &(word.clone(), user), &());
    }
    let entry = Entry {
        user_id: user_id.to_owned(),
        words,
    };
    DIRECTORY_ENTRIES.put(txn, &user, &entry);
    Ok(())
}

/// Small letters, at most [`MAX_WORD_BYTES`] long.
fn fold(word: &str) -> String {
    let mut folded = word.to_lowercase();
    let end = folded.floor_char_boundary(MAX_WORD_BYTES);
    folded.truncate(end);
    folded
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(fold)
        .collect()
}

/// What is searched for.
#[derive(Clone, Debug)]
pub struct Term {
    /// Each begins a word of who is found.
    words: BTreeSet<String>,
    /// The one user that is found.
    whole_id: Option<String>,
}

impl Term {
    /// Reads what a client searches for.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        let localpart = match text.strip_prefix('@') {
            Some(rest) => rest.split(':').next().unwrap_or_default(),
            None => text,
        };
        let is_whole = text.starts_with('@') && text.contains(':');
        Self {
            words: words(localpart),
            whole_id: is_whole.then(|| text.to_owned()),
        }
    }

    /// The user id, if that is what is searched for.
    pub fn whole_id(&self) -> Option<&str> {
        self.whole_id.as_deref()
    }

    /// Whether it finds a user of this id and name.
    pub fn finds(&self, user_id: &str, displayname: Option<&str>) -> bool {
        if let Some(whole) = &self.whole_id {
            return whole == user_id;
        }
        let of_user = words_of(user_id, displayname);
        let begins = |word: &String| of_user.iter().any(|of| of.starts_with(word.as_str()));
        !self.words.is_empty() && self.words.iter().all(begins)
    }
}

/// Up to `limit` users of whom every word of `term` begins a word, and whom `visible` lets through;
/// whether there are more comes second. A whole user id finds that user.
pub fn search(
    from: &impl Read,
    term: &Term,
    limit: usize,
    mut visible: impl FnMut(UserSn) -> Result<bool>,
) -> Result<(Vec<Found>, bool)> {
    let mut candidates: Option<BTreeSet<UserSn>> = None;
    for word in &term.words {
        let users = starting_with(from, word)?;
        candidates = Some(match candidates {
            Some(others) => others.intersection(&users).copied().collect(),
            None => users,
        });
    }
    let mut found = Vec::new();
    for user in candidates.unwrap_or_default() {
        let Some(entry) = DIRECTORY_ENTRIES.get(from, &user)? else {
            continue;
        };
        let is_other = |whole: &String| *whole != entry.user_id;
        if term.whole_id.as_ref().is_some_and(is_other) || !visible(user)? {
            continue;
        }
        if found.len() == limit {
            return Ok((found, true));
        }
        let shown = profile::shown(from, user)?;
        found.push(Found {
            user,
            user_id: entry.user_id,
            display_name: shown.displayname,
            avatar_url: shown.avatar_url,
        });
    }
    Ok((found, false))
}

/// The users with a word that begins with `start`.
fn starting_with(from: &impl Read, start: &str) -> Result<BTreeSet<UserSn>> {
    let mut users = BTreeSet::new();
    let rows = DIRECTORY_WORDS.scan_from(from, &(), &(start.to_owned(), UserSn(0)));
    for row in rows.take(MAX_ROWS) {
        let ((word, user), ()) = row?;
        if !word.starts_with(start) {
            break;
        }
        users.insert(user);
    }
    Ok(users)
}

/// Every user with an entry, in the order of their numbers: for rebuilding and checks.
pub fn entries(from: &impl Read) -> Result<Vec<(UserSn, Entry)>> {
    Ok(DIRECTORY_ENTRIES
        .scan(from, &(), Direction::Forward)
        .collect::<store::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::store;

    fn ids(from: &impl Read, term: &str) -> Vec<u32> {
        let (found, limited) = search(from, &Term::new(term), 10, |_| Ok(true)).unwrap();
        assert!(!limited);
        found.into_iter().map(|found| found.user.0).collect()
    }

    #[test]
    fn users_are_found_by_the_beginnings_of_words_and_by_their_id() {
        let store = store();
        let mut txn = store.begin();
        add(&mut txn, UserSn(1), "@alice:here").unwrap();
        add(&mut txn, UserSn(2), "@bob.builder:here").unwrap();
        profile::set(&mut txn, UserSn(1), "displayname", json!("Ann Bobbin")).unwrap();
        assert_eq!(ids(&txn, "bob"), [1, 2]);
        assert_eq!(ids(&txn, "BOB an"), [1]);
        assert_eq!(ids(&txn, "@bob.builder:here"), [2]);
        assert_eq!(ids(&txn, "@bob.builder:there"), [] as [u32; 0]);
        assert_eq!(ids(&txn, "lice"), [] as [u32; 0]);
        assert_eq!(ids(&txn, " "), [] as [u32; 0]);
        profile::set(&mut txn, UserSn(1), "displayname", json!("Ännchen")).unwrap();
        assert_eq!(ids(&txn, "bob"), [2]);
        assert_eq!(ids(&txn, "änn"), [1]);
        remove(&mut txn, UserSn(1)).unwrap();
        assert_eq!(ids(&txn, "alice"), [] as [u32; 0]);
        assert_eq!(
            DIRECTORY_WORDS.scan(&txn, &(), Direction::Forward).count(),
            3
        );
    }

    #[test]
    fn a_term_finds_whom_the_index_would() {
        let finds = |term: &str| Term::new(term).finds("@bob.builder:there", Some("Ann Bobbin"));
        for term in ["bob", "BUILD", "an bob", "@bob", "@bob.builder:there"] {
            assert!(finds(term), "{term}");
        }
        for term in [
            "uilder",
            "bob x",
            "",
            " ",
            "@bob:there",
            "@bob.builder:here",
        ] {
            assert!(!finds(term), "{term}");
        }
    }

    #[test]
    fn only_visible_users_are_found_and_a_cut_is_told() {
        let store = store();
        let mut txn = store.begin();
        for n in 1..=5 {
            add(&mut txn, UserSn(n), &format!("@user{n}:here")).unwrap();
        }
        let odd = |user: UserSn| Ok(user.0 % 2 == 1);
        let user = Term::new("user");
        let (found, limited) = search(&txn, &user, 2, odd).unwrap();
        let found: Vec<_> = found.iter().map(|found| found.user.0).collect();
        assert_eq!((found, limited), (vec![1, 3], true));
        let (found, limited) = search(&txn, &user, 3, odd).unwrap();
        assert_eq!((found.len(), limited), (3, false));
    }
}
