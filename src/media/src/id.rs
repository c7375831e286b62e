//! Names of media: the id in an `mxc://` URI, the key that stands for it here, the name of a file.
//!
//! Invariant: a file's name is made of a hash and a random number only. What a client or another server
//! chose (server name, media id, file name) never reaches the file system.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::MediaError;

/// The media id of an `mxc://` URI: letters, digits, `_` and `-` only (content repository, security
/// considerations).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaId(String);

impl MediaId {
    /// Ids of other servers may be long, but a row's key and a log line must stay small.
    pub const MAX_BYTES: usize = 255;

    /// A new local id from 18 random bytes: 144 bits, so that an id cannot be guessed.
    pub fn from_random(random: [u8; 18]) -> Self {
        MediaId(URL_SAFE_NO_PAD.encode(random))
    }

    /// Checks an id that came from outside.
    ///
    /// # Errors
    /// [`MediaError::InvalidMediaId`] when it is empty, too long or holds another character.
    pub fn parse(text: &str) -> Result<Self, MediaError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.is_empty() || text.len() > Self::MAX_BYTES || !text.bytes().all(allowed) {
            return Err(MediaError::InvalidMediaId);
        }
        Ok(MediaId(text.to_owned()))
    }

    /// The id as it stands in the URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MediaId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Fixed-width stand-in for (server name, media id): the SHA-256 of `server_name/media_id`.
///
/// A hash spreads evenly over directories and cannot be aimed at another server's media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MediaKey([u8; 32]);

impl MediaKey {
    /// The key of `mxc://server_name/media_id`. Neither part may contain `/`, which holds for every
    /// valid server name and media id, so no two URIs share the hashed text.
    pub fn new(server_name: &str, media_id: &MediaId) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(server_name.as_bytes());
        hasher.update(b"/");
        hasher.update(media_id.as_str().as_bytes());
        MediaKey(hasher.finalize().into())
    }

    /// The key from its stored bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        MediaKey(bytes)
    }

    /// The key as stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// As 64 hexadecimal digits.
impl fmt::Display for MediaKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

/// Which of the two trees of the media directory a file lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// What was uploaded or fetched from another server.
    Content,
    /// What was rendered from it; can be deleted and made again at any time.
    Thumbnail,
}

/// Names one file. The nonce is random and new for each write, so that two uploads to one media id
/// never touch each other's file: the commit of the metadata decides which one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The tree the file lies in.
    pub kind: FileKind,
    /// The media the file belongs to.
    pub key: MediaKey,
    /// Random bits that tell apart the files of one media.
    pub nonce: u64,
}

impl FileId {
    /// The file's name inside its directory: 64 hexadecimal digits of the key, `-`, 16 of the nonce.
    pub(crate) fn file_name(&self) -> String {
        let mut name = String::with_capacity(81);
        for byte in self.key.0 {
            push_hex(&mut name, byte);
        }
        name.push('-');
        for byte in self.nonce.to_be_bytes() {
            push_hex(&mut name, byte);
        }
        name
    }

    /// The inverse of [`FileId::file_name`]; `None` for a name that Meyrin did not give.
    pub(crate) fn parse_file_name(kind: FileKind, name: &str) -> Option<Self> {
        let (key_text, nonce_text) = name.split_once('-')?;
        let mut key = [0; 32];
        parse_hex(key_text, &mut key)?;
        let mut nonce = [0; 8];
        parse_hex(nonce_text, &mut nonce)?;
        let nonce = u64::from_be_bytes(nonce);
        Some(FileId {
            kind,
            key: MediaKey(key),
            nonce,
        })
    }

    /// The number of the directory the file lies in: the key's first two bytes.
    pub(crate) fn shard(&self) -> u16 {
        u16::from_be_bytes([self.key.0[0], self.key.0[1]])
    }
}

fn push_hex(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Lower-case hexadecimal of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        push_hex(&mut text, *byte);
    }
    text
}

fn parse_hex(text: &str, bytes: &mut [u8]) -> Option<()> {
    if text.len() != bytes.len() * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(())
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_media_id_that_could_leave_its_directory_is_refused() {
        for bad in [
            "",
            "..",
            "a/b",
            "a%2fb",
            "a.b",
            "ä",
            "a b",
            "a\0b",
            &"x".repeat(256),
        ] {
            assert!(
                matches!(MediaId::parse(bad), Err(MediaError::InvalidMediaId)),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_generated_media_id_is_a_valid_one() {
        let id = MediaId::from_random([0xfb; 18]);
        assert_eq!(id.as_str().len(), 24);
        assert_eq!(MediaId::parse(id.as_str()).ok(), Some(id));
    }

    #[test]
    fn the_same_media_id_on_two_servers_has_two_keys() {
        let id = MediaId::from_random([1; 18]);
        assert_ne!(
            MediaKey::new("one.example", &id),
            MediaKey::new("two.example", &id)
        );
    }

    proptest! {
        #[test]
        fn a_file_name_reads_back_as_the_file_it_names(key: [u8; 32], nonce: u64) {
            let id = FileId { kind: FileKind::Content, key: MediaKey(key), nonce };
            prop_assert_eq!(FileId::parse_file_name(FileKind::Content, &id.file_name()), Some(id));
        }

        #[test]
        fn a_foreign_file_name_is_not_taken_for_ours(name in "\\PC{0,90}") {
            if let Some(id) = FileId::parse_file_name(FileKind::Content, &name) {
                prop_assert_eq!(id.file_name(), name);
            }
        }
    }
}
