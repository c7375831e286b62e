//! Who asks: access tokens of requests, and what their accounts may do.
//!
//! Handlers take one of the extractors: [`Session`] for users, [`GuestSession`] where guests may ask
//! as well, [`AnySession`] where even a locked account may, [`OptionalSession`] where nobody must.
//!
//! A session that was looked up is kept in memory. It is good while the counter of its user's shard
//! stands where it stood before the look-up; whoever changes an account or revokes tokens raises the
//! counter ([`Sessions::forget`]) after the change is written and before answering.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;
use names::UserSn;
use node::{Lock, Node, Touched};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use users::accounts::Kind;
use users::devices::Seen;
use users::tokens::TokenHash;
use users::{accounts, devices, tokens};

use crate::app::App;
use crate::error::ApiError;
use crate::limits::{Class, Key};
use crate::request::Arrival;

/// Who asks, and from which device.
#[derive(Debug)]
pub struct Identity {
    /// The user.
    pub user: UserSn,
    /// The user id.
    pub user_id: Arc<str>,
    /// The device id.
    pub device: Arc<str>,
    /// What kind of account it is.
    pub kind: Kind,
    /// May use the administration endpoints.
    pub admin: bool,
    /// May read and little else.
    pub suspended: bool,
    locked: bool,
}

impl Identity {
    /// True for guests.
    pub fn is_guest(&self) -> bool {
        self.kind == Kind::Guest
    }

    /// Refuses what suspended users may not do.
    pub fn must_not_be_suspended(&self) -> Result<(), ApiError> {
        if self.suspended {
            return Err(ApiError::user_suspended());
        }
        Ok(())
    }

    /// Refuses everybody but the user of this id: for the endpoints that name their user.
    pub fn must_be(&self, user_id: &str) -> Result<(), ApiError> {
        if *self.user_id != *user_id {
            return Err(ApiError::forbidden("This belongs to another user"));
        }
        Ok(())
    }

    /// Refuses all but administrators.
    pub fn must_be_admin(&self) -> Result<(), ApiError> {
        if !self.admin {
            return Err(ApiError::forbidden("Only for server administrators"));
        }
        Ok(())
    }
}

/// A user with an account.
#[derive(Clone, Debug)]
pub struct Session(Arc<Identity>);

/// A user with an account, or a guest.
#[derive(Clone, Debug)]
pub struct GuestSession(pub Session);

/// Whoever has a token, even of a locked account.
#[derive(Clone, Debug)]
pub struct AnySession(pub Session);

/// Anybody; the session if there is a good token.
#[derive(Clone, Debug)]
pub struct OptionalSession(pub Option<Session>);

impl std::ops::Deref for Session {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl FromRequestParts<App> for AnySession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let token = token_of(parts).ok_or_else(ApiError::missing_token)?;
        // Who only listens can wait some milliseconds more; and what a user here does has been noted when it wakes them.
        if !parts.uri.path().ends_with("/sync") {
            app.node().budget().note_user();
        }
        app.sessions().find(app, token, parts).await.map(Self)
    }
}

impl FromRequestParts<App> for GuestSession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let AnySession(session) = AnySession::from_request_parts(parts, app).await?;
        if session.locked {
            return Err(ApiError::user_locked());
        }
        app.limiter()
            .check(Class::Request, Key::Name(&session.user_id))?;
        Ok(Self(session))
    }
}

impl FromRequestParts<App> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let GuestSession(session) = GuestSession::from_request_parts(parts, app).await?;
        if session.is_guest() {
            return Err(ApiError::guest_access_forbidden());
        }
        Ok(session)
    }
}

impl FromRequestParts<App> for OptionalSession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        // A dead token must not keep anybody from what is public.
        Ok(Self(Session::from_request_parts(parts, app).await.ok()))
    }
}

/// The access token of a request: `Authorization: Bearer`, or the old query parameter.
fn token_of(parts: &Parts) -> Option<&str> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
            .filter(|token| !token.is_empty());
    }
    let mut pairs = parts.uri.query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix("access_token="))
}

/// Sessions kept in memory.
const MOST_SESSIONS: usize = 50_000;
/// Counters; users share them.
const SHARDS: usize = 4096;
/// How old the last sight of a device must be to be noted anew, in milliseconds.
const SEEN_EVERY_MS: u64 = 60_000;
/// Sights written in one change.
const MOST_SEEN: usize = 500;

struct Known {
    session: Session,
    expires_ms: Option<u64>,
    change: u32,
    seen_ms: AtomicU64,
}

/// Sessions by access token, and when their devices were last seen.
pub struct Sessions {
    known: Cache<Box<str>, Arc<Known>>,
    changes: Box<[AtomicU32]>,
    seen: Mutex<HashMap<(UserSn, Arc<str>), Seen>>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            known: Cache::new(MOST_SESSIONS),
            changes: (0..SHARDS).map(|_| AtomicU32::new(0)).collect(),
            seen: Mutex::default(),
        }
    }
}

impl Sessions {
    /// Makes what is known of a user's sessions be looked up again.
    pub fn forget(&self, user: UserSn) {
        if let Some(change) = self.changes.get(user.0 as usize % SHARDS) {
            change.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Forgets when dropped: holds over a commit whose request may go away while it waits.
    pub fn forgetting(&self, user: UserSn) -> Forgetting<'_> {
        Forgetting {
            sessions: self,
            user,
        }
    }

    fn change(&self, user: UserSn) -> u32 {
        let change = self.changes.get(user.0 as usize % SHARDS);
        change.map_or(0, |change| change.load(Ordering::SeqCst))
    }

    async fn find(&self, app: &App, token: &str, parts: &Parts) -> Result<Session, ApiError> {
        let now_ms = app.node().now_ms();
        let known = match self.known.get(token) {
            Some(known) if known.change == self.change(known.session.user) => known,
            _ => self.look_up(app.node(), token).await?,
        };
        if known.expires_ms.is_some_and(|expires| expires <= now_ms) {
            return Err(ApiError::unknown_token(true));
        }
        if known.seen_ms.load(Ordering::Relaxed) + SEEN_EVERY_MS <= now_ms {
            known.seen_ms.store(now_ms, Ordering::Relaxed);
            self.note_seen(&known.session, parts, now_ms);
        }
        Ok(known.session.clone())
    }

    async fn look_up(&self, node: &Node, token: &str) -> Result<Arc<Known>, ApiError> {
        let hash = tokens::hash(token);
        let unknown = || ApiError::unknown_token(false);
        let found = tokens::access(&node.store().head(), &hash)?.ok_or_else(unknown)?;
        if found.replaces.is_some() {
            self.confirm(node, found.user, &hash).await?;
        }
        // The counter is read before the rows: what changes in between makes the entry stale.
        let change = self.change(found.user);
        let head = node.store().head();
        let found = tokens::access(&head, &hash)?.ok_or_else(unknown)?;
        let account = accounts::get(&head, found.user)?.ok_or_else(unknown)?;
        let identity = Identity {
            user: found.user,
            user_id: node.names().user_id(&head, found.user)?,
            device: found.device.into(),
            kind: account.kind,
            admin: account.admin,
            suspended: account.suspended,
            locked: account.locked,
        };
        let known = Arc::new(Known {
            session: Session(Arc::new(identity)),
            expires_ms: found.expires_ms,
            change,
            seen_ms: AtomicU64::new(0),
        });
        self.known.insert(token.into(), Arc::clone(&known));
        Ok(known)
    }

    /// The first use of a refreshed token: the pair before it dies.
    async fn confirm(&self, node: &Node, user: UserSn, token: &TokenHash) -> Result<(), ApiError> {
        let guard = node.lock(Lock::User(user)).await;
        let mut txn = node.begin();
        tokens::confirm(&mut txn, token)?;
        let _forgetting = self.forgetting(user);
        node.commit(guard, txn, Touched::nobody()).await?;
        Ok(())
    }

    fn note_seen(&self, session: &Session, parts: &Parts, now_ms: u64) {
        let user_agent = parts.headers.get(header::USER_AGENT);
        let mut user_agent = user_agent
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        if let Some(text) = &mut user_agent {
            text.truncate(200);
        }
        let address = Arrival::of(&parts.extensions).address;
        let seen = Seen {
            at_ms: now_ms,
            ip: address.map(|address| address.to_string()),
            user_agent,
        };
        let key = (session.user, Arc::clone(&session.device));
        self.seen.lock().insert(key, seen);
    }

    /// When a device was last seen, if that is not written yet.
    pub fn seen(&self, user: UserSn, device: &str) -> Option<Seen> {
        self.seen.lock().get(&(user, device.into())).cloned()
    }

    /// Writes when devices were last seen.
    pub async fn write_seen(&self, node: &Node) -> Result<(), ApiError> {
        let noted = std::mem::take(&mut *self.seen.lock());
        let mut noted = noted.into_iter().peekable();
        while noted.peek().is_some() {
            let mut txn = node.begin();
            for ((user, device), seen) in noted.by_ref().take(MOST_SEEN) {
                if devices::exists(&txn, user, &device)? {
                    devices::put_seen(&mut txn, user, &device, &seen);
                }
            }
            node.commit((), txn, Touched::nobody()).await?;
        }
        Ok(())
    }
}

/// See [`Sessions::forgetting`].
pub struct Forgetting<'a> {
    sessions: &'a Sessions,
    user: UserSn,
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        self.sessions.forget(self.user);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn token(header: Option<&str>, uri: &str) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        if let Some(header) = header {
            request = request.header("Authorization", header);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        token_of(&parts).map(str::to_owned)
    }

    #[test]
    fn the_token_is_in_the_header_or_else_in_the_query() {
        assert_eq!(token(Some("Bearer abc"), "/x").as_deref(), Some("abc"));
        assert_eq!(token(Some("bearer abc"), "/x").as_deref(), Some("abc"));
        assert_eq!(token(None, "/x?a=b&access_token=q").as_deref(), Some("q"));
        let both = token(Some("Bearer abc"), "/x?access_token=q");
        assert_eq!(both.as_deref(), Some("abc"));
        assert_eq!(token(Some("Basic abc"), "/x"), None);
        assert_eq!(token(Some("Bearer "), "/x"), None);
        assert_eq!(token(None, "/x"), None);
    }

    #[test]
    fn forgetting_happens_even_if_the_request_goes_away() {
        let sessions = Sessions::default();
        let before = sessions.change(UserSn(7));
        drop(sessions.forgetting(UserSn(7)));
        assert_ne!(sessions.change(UserSn(7)), before);
    }
}
