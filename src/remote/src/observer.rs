//! Telling somebody of each request to another homeserver, and what became of it: for a record of what crossed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{RemoteError, Request};

/// A request that was made, or that the rules held back.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The server that was asked.
    pub server_name: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// The body that was sent.
    pub body: &'a [u8],
    /// The bytes of the answer's body; nothing where it is still to come.
    pub answer_bytes: Option<u64>,
    /// The status of the answer, or why there is none.
    pub outcome: Result<u16, String>,
    /// How long it took.
    pub took: Duration,
}

/// Who is told.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<Told>>);

struct Told {
    wants: Box<dyn Fn() -> bool + Send + Sync>,
    tell: Box<dyn Fn(&Exchange<'_>) + Send + Sync>,
}

impl Observer {
    /// `tell` is told of each request before which `wants` was true.
    pub fn new(
        wants: impl Fn() -> bool + Send + Sync + 'static,
        tell: impl Fn(&Exchange<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(Told {
            wants: Box::new(wants),
            tell: Box::new(tell),
        })))
    }

    /// A request begins.
    pub(crate) fn begin<'a>(&'a self, server_name: &'a str, request: &Request) -> Observed<'a> {
        let told = self.0.as_deref().filter(|told| (told.wants)());
        Observed(told.map(|told| Begun {
            told,
            server_name,
            request: request.clone(),
            begun: Instant::now(),
        }))
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Observer")
    }
}

/// A request under way.
pub(crate) struct Observed<'a>(Option<Begun<'a>>);

struct Begun<'a> {
    told: &'a Told,
    server_name: &'a str,
    request: Request,
    begun: Instant,
}

impl Observed<'_> {
    /// It was answered, with so many bytes if that is known; or not.
    pub(crate) fn end(self, answer: Result<Option<u64>, &RemoteError>) {
        let Some(begun) = self.0 else { return };
        let (answer_bytes, outcome) = match answer {
            Ok(bytes) => (bytes, Ok(200)),
            Err(RemoteError::Refused { status, body, .. }) => {
                (Some(body.len() as u64), Ok(*status))
            }
            Err(error) => (None, Err(error.to_string())),
        };
        (begun.told.tell)(&Exchange {
            server_name: begun.server_name,
            method: begun.request.method.as_str(),
            path: &begun.request.path,
            body: begun.request.body.as_deref().unwrap_or_default(),
            answer_bytes,
            outcome,
            took: begun.begun.elapsed(),
        });
    }
}
