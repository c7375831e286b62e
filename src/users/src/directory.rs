//! The user directory: finding users by the words of their display name and user id.
//!
//! Every user with an entry has a row per word, so that a search is a few short scans however many
//! users there are. Who may find whom (shared and public rooms) is the caller's to say: it passes a
//! predicate, because rooms are not known here.

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

fn put(txn: &mut Txn, user: UserSn, user_id: &str, displayname: Option<&str>) -> Result<()> {
    let localpart = user_id.trim_start_matches('@').split(':').next();
    let mut words = words(displayname.unwrap_or_default());
    words.extend(self::words(localpart.unwrap_or_default()));
    words.extend(localpart.map(fold));
    let words: Vec<String> = words.into_iter().take(MAX_WORDS).collect();
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

/// Up to `limit` users of whom every word of `term` begins a word, and whom `visible` lets through;
/// whether there are more comes second. A whole user id finds that user.
pub fn search(
    from: &impl Read,
    term: &str,
    limit: usize,
    mut visible: impl FnMut(UserSn) -> Result<bool>,
) -> Result<(Vec<Found>, bool)> {
    let term = term.trim();
    let localpart = match term.strip_prefix('@') {
        Some(rest) => rest.split(':').next().unwrap_or_default(),
        None => term,
    };
    let mut candidates: Option<BTreeSet<UserSn>> = None;
    for word in words(localpart) {
        let users = starting_with(from, &word)?;
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
        let whole_id = term.starts_with('@') && term.contains(':');
        if (whole_id && entry.user_id != term) || !visible(user)? {
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
        let (found, limited) = search(from, term, 10, |_| Ok(true)).unwrap();
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
    fn only_visible_users_are_found_and_a_cut_is_told() {
        let store = store();
        let mut txn = store.begin();
        for n in 1..=5 {
            add(&mut txn, UserSn(n), &format!("@user{n}:here")).unwrap();
        }
        let odd = |user: UserSn| Ok(user.0 % 2 == 1);
        let (found, limited) = search(&txn, "user", 2, odd).unwrap();
        let found: Vec<_> = found.iter().map(|found| found.user.0).collect();
        assert_eq!((found, limited), (vec![1, 3], true));
        let (found, limited) = search(&txn, "user", 3, odd).unwrap();
        assert_eq!((found.len(), limited), (3, false));
    }
}
