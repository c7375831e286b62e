//! Step 3 of resolving server names: which name stands for a server, by the file under `/.well-known/matrix/server`.
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
//!
//! Answers are kept: good ones for as long as they say, a day if they say nothing, two days at the most; failures for
//! up to an hour, after a growing time. A server that does not answer for now keeps the name it had. One question at a time goes to
//! a server, and goes on when those who wait for it give up.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use serde::Deserialize;

use crate::RemoteError;
use crate::authority::{Authority, Host};
use crate::web::Web;

/// How long an answer is good that does not say.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const LONGEST_LIFETIME: Duration = Duration::from_secs(48 * 3600);
const SHORTEST_LIFETIME: Duration = Duration::from_secs(300);

/// After a first failure the file is looked for again after this time, then after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How long a server is waited for.
const PATIENCE: Duration = Duration::from_secs(8);

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: usize = 50 << 10;

/// Servers of which it is kept.
const MOST_KEPT: usize = 20_000;

/// Which names stand for servers.
pub struct WellKnown {
    web: Web,
    kept: Cache<Box<str>, Kept>,
    asking: Mutex<HashMap<Box<str>, Weak<tokio::sync::Mutex<()>>>>,
}

/// What is known of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    /// The name that stands for it; its own if none.
    delegated: Option<Arc<str>>,
    until: Instant,
    failures: u32,
}

impl WellKnown {
    /// Nothing known yet.
    pub fn new(web: Web) -> Self {
        Self {
            web,
            kept: Cache::new(MOST_KEPT),
            asking: Mutex::default(),
        }
    }

    /// The client for web servers.
    pub fn web(&self) -> &Web {
        &self.web
    }

    /// The name that stands for a server: steps 1 to 3. Where it leads is the connection's to find out.
    pub async fn authority(self: &Arc<Self>, server_name: &str) -> Result<Arc<str>, RemoteError> {
        let parsed = Authority::parse(server_name)
            .ok_or_else(|| RemoteError::Unreachable("that is no server name".to_owned()))?;
        let itself = || Arc::from(server_name);
        if parsed.port.is_some() || matches!(parsed.host, Host::Address(_)) {
            return Ok(itself());
        }
        let kept = match self.fresh(server_name) {
            Some(kept) => kept,
            None => {
                let (this, name) = (Arc::clone(self), Box::from(server_name));
                let asked = tokio::spawn(async move { this.ask(name).await }).await;
                asked.map_err(|error| RemoteError::Unreachable(error.to_string()))?
            }
        };
        Ok(kept.delegated.unwrap_or_else(itself))
    }

    fn fresh(&self, server_name: &str) -> Option<Kept> {
        let kept = self.kept.get(server_name)?;
        (Instant::now() < kept.until).then_some(kept)
    }

    /// The right to ask a server; those who ask for the same one wait for each other.
    fn turn(&self, server_name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut asking = self.asking.lock();
        if let Some(turn) = asking.get(server_name).and_then(Weak::upgrade) {
            return turn;
        }
        asking.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        asking.insert(server_name.into(), Arc::downgrade(&turn));
        turn
    }

    async fn ask(&self, server_name: Box<str>) -> Kept {
        let turn = self.turn(&server_name);
        let _turn = turn.lock().await;
        if let Some(kept) = self.fresh(&server_name) {
            return kept;
        }
        let url = format!("https://{server_name}/.well-known/matrix/server");
        let answer = self.web.get(&url, PATIENCE, MAX_FILE_BYTES).await;
        let read = answer.and_then(|answer| {
            let delegated = read_file(&answer.body)?;
            Ok((delegated, lifetime(&answer.headers)))
        });
        let known = self.kept.get(&server_name);
        let kept = judge(read, known, Instant::now());
        tracing::debug!(server_name, ?kept, "looked for the well-known file");
        self.kept.insert(server_name, kept.clone());
        kept
    }
}

/// What is kept after an answer or a failure, given what was known.
fn judge(
    read: Result<(Arc<str>, Duration), RemoteError>,
    known: Option<Kept>,
    now: Instant,
) -> Kept {
    let error = match read {
        Ok((delegated, lifetime)) => {
            return Kept {
                delegated: Some(delegated),
                until: now + lifetime,
                failures: 0,
            };
        }
        Err(error) => error,
    };
    let (delegated, failures) = match known {
        Some(known) => (known.delegated, known.failures),
        None => (None, 0),
    };
    // Decidedly no such file, as against none for now.
    let is_final = match &error {
        RemoteError::Refused { status, .. } => *status < 500 && *status != 429,
        RemoteError::BadAnswer(_) | RemoteError::TooLarge { .. } | RemoteError::NotAllowed(_) => {
            true
        }
        RemoteError::Unreachable(_) | RemoteError::TimedOut => false,
    };
    if is_final {
        return Kept {
            delegated: None,
            until: now + LONGEST_PAUSE,
            failures: 0,
        };
    }
    let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10));
    Kept {
        delegated,
        until: now + pause.min(LONGEST_PAUSE),
        failures: failures.saturating_add(1),
    }
}

fn read_file(body: &[u8]) -> Result<Arc<str>, RemoteError> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "m.server")]
        server: String,
    }
    let file: File =
        serde_json::from_slice(body).map_err(|error| RemoteError::BadAnswer(error.to_string()))?;
    match Authority::parse(&file.server) {
        Some(_) => Ok(file.server.into()),
        None => Err(RemoteError::BadAnswer(
            "m.server is no server name".to_owned(),
        )),
    }
}

fn lifetime(headers: &HeaderMap) -> Duration {
    let directives = headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut lifetime = DEFAULT_LIFETIME;
    for directive in directives {
        if directive == "no-store" || directive == "no-cache" {
            return SHORTEST_LIFETIME;
        }
        if let Some(age) = directive.strip_prefix("max-age=") {
            let seconds = age.trim_matches('"').parse().unwrap_or(0);
            lifetime = Duration::from_secs(seconds);
        }
    }
    lifetime.clamp(SHORTEST_LIFETIME, LONGEST_LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn delegated(name: &str) -> Option<Arc<str>> {
        Some(name.into())
    }

    #[test]
    fn a_file_names_a_server_or_says_nothing() {
        let read = |text: &str| read_file(text.as_bytes());
        let name = read(r#"{"m.server":"b.example:443","more":1}"#);
        assert_eq!(&*name.expect("a name"), "b.example:443");
        for text in [
            "",
            "[]",
            "{}",
            r#"{"m.server":1}"#,
            r#"{"m.server":"https://b"}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn answers_are_good_for_as_long_as_they_say_within_bounds() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, value.parse().expect("a header"));
            lifetime(&headers)
        };
        assert_eq!(lifetime(&HeaderMap::new()), DEFAULT_LIFETIME);
        assert_eq!(of("public, Max-Age=7200"), Duration::from_secs(7200));
        assert_eq!(of("max-age=999999999"), LONGEST_LIFETIME);
        assert_eq!(of("max-age=1"), SHORTEST_LIFETIME);
        assert_eq!(of("no-store"), SHORTEST_LIFETIME);
        assert_eq!(of("max-age=x"), SHORTEST_LIFETIME);
    }

    #[test]
    fn a_failure_for_now_keeps_the_name_and_one_for_good_drops_it() {
        let now = Instant::now();
        let day = Duration::from_secs(24 * 3600);
        let known = judge(Ok(("b.example".into(), day)), None, now);
        assert_eq!(
            (known.delegated.clone(), known.until),
            (delegated("b.example"), now + day)
        );
        let silent = judge(Err(RemoteError::TimedOut), Some(known), now);
        assert_eq!(silent.delegated, delegated("b.example"));
        assert_eq!(silent.until, now + FIRST_PAUSE);
        let longer = judge(Err(RemoteError::TimedOut), Some(silent), now);
        assert_eq!(longer.until, now + FIRST_PAUSE * 2);
        let gone = judge(
            Err(RemoteError::refused(404, Bytes::new())),
            Some(longer),
            now,
        );
        assert_eq!((gone.delegated, gone.until), (None, now + LONGEST_PAUSE));
    }
}
