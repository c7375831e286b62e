//! Why a request to another server failed.

use bytes::Bytes;
use serde::Deserialize;

/// Why a request brought no answer, or not the one asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// The other server answered with an error.
    #[error("{status} {errcode}: {error}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code, empty if there is none.
        errcode: String,
        /// What it says.
        error: String,
        /// The whole body.
        body: Bytes,
    },
    /// No connection: name, address, TLS.
    #[error("can't be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("did not answer in time")]
    TimedOut,
    /// The answer is not what was asked for.
    #[error("answered with something else: {0}")]
    BadAnswer(String),
    /// The answer is larger than it may be.
    #[error("answered with more than {limit} bytes")]
    TooLarge {
        /// What was allowed, in bytes.
        limit: usize,
    },
    /// This server is not to talk to that one.
    #[error("not to be contacted: {0}")]
    NotAllowed(String),
}

/// The most that is kept of an error code or of its sentence, in bytes: they end up in logs.
const MOST_OF_A_TEXT: usize = 512;

impl RemoteError {
    /// An answer with a status that is no success.
    pub(crate) fn refused(status: u16, body: Bytes) -> Self {
        #[derive(Default, Deserialize)]
        struct Told {
            #[serde(default)]
            errcode: String,
            #[serde(default)]
            error: String,
        }
        let told: Told = serde_json::from_slice(&body).unwrap_or_default();
        Self::Refused {
            status,
            errcode: shortened(told.errcode),
            error: shortened(told.error),
            body,
        }
    }

    /// Whether the other server is there: it answered, if only to refuse.
    pub fn is_sign_of_life(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status < 500)
    }
}

fn shortened(mut text: String) -> String {
    let mut end = MOST_OF_A_TEXT.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_code_and_sentence_and_whatever_is_no_json_has_none() {
        let body = Bytes::from_static(br#"{"errcode":"M_FORBIDDEN","error":"no"}"#);
        let RemoteError::Refused { errcode, error, .. } = RemoteError::refused(403, body) else {
            panic!("refused");
        };
        assert_eq!((errcode.as_str(), error.as_str()), ("M_FORBIDDEN", "no"));
        let refused = RemoteError::refused(502, Bytes::from_static(b"<html>"));
        assert!(!refused.is_sign_of_life());
        let RemoteError::Refused { errcode, .. } = refused else {
            panic!("refused");
        };
        assert_eq!(errcode, "");
    }

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        assert_eq!(shortened("é".repeat(400)).len(), MOST_OF_A_TEXT);
        assert_eq!(shortened(format!("a{}", "é".repeat(400))).len(), 511);
    }
}
