//! User-interactive authentication (client-server API, "User-Interactive Authentication API").
//!
//! Attempts live in memory: a client whose attempt is gone starts again. An attempt belongs to one
//! operation and one user, so that a proof given for one thing can't be used for another, and it ends
//! with the request that completes it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use names::UserSn;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use users::{accounts, registration_tokens};

use crate::app::App;
use crate::auth::Identity;
use crate::error::{ApiError, ErrCode};
use crate::limits::{Class, Key};

/// A step of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `m.login.password`.
    Password,
    /// `m.login.dummy`.
    Dummy,
    /// `m.login.registration_token`.
    RegistrationToken,
}

impl Stage {
    const ALL: [Stage; 3] = [Stage::Password, Stage::Dummy, Stage::RegistrationToken];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Password => "m.login.password",
            Stage::Dummy => "m.login.dummy",
            Stage::RegistrationToken => "m.login.registration_token",
        }
    }
}

/// The `auth` of a request. A `session` that is null counts as none.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AuthData {
    #[serde(rename = "type")]
    kind: Option<String>,
    session: Option<String>,
    identifier: Option<UserIdentifier>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

/// Who a client says it is ("Identifier types").
#[derive(Clone, Debug, Deserialize)]
pub struct UserIdentifier {
    /// The type: `m.id.user`, `m.id.thirdparty` or `m.id.phone`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The user id or its localpart, for `m.id.user`.
    pub user: Option<String>,
    /// `email` or `msisdn`, for `m.id.thirdparty`.
    pub medium: Option<String>,
    /// The address, for `m.id.thirdparty`.
    pub address: Option<String>,
}

/// What must be proved, and for what.
pub struct Challenge<'a> {
    /// Names the operation with whatever it is about.
    pub operation: String,
    /// The ways to prove it; any one will do.
    pub flows: &'a [&'a [Stage]],
    /// Who asks; nobody yet at registration.
    pub who: Option<&'a Identity>,
}

/// What was proved.
#[derive(Debug, Default)]
pub struct Proof {
    /// The registration token given, to be used up.
    pub registration_token: Option<String>,
}

struct Attempt {
    operation: String,
    user: Option<UserSn>,
    completed: Vec<Stage>,
    registration_token: Option<String>,
    begun: Instant,
}

/// How long an attempt may take.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Attempts kept at once; the oldest give way.
const MOST_ATTEMPTS: usize = 10_000;

/// The attempts under way.
#[derive(Default)]
pub struct InteractiveAuth {
    attempts: Mutex<HashMap<String, Attempt>>,
}

/// A stage that was tried and failed.
struct Failure {
    code: ErrCode,
    message: &'static str,
}

/// Lets a request through if it has completed one of the flows.
///
/// # Errors
/// The 401 with the flows if it has not, with an error code if a stage failed; 403 if the password is
/// another user's.
pub async fn require(
    app: &App,
    challenge: Challenge<'_>,
    auth: Option<AuthData>,
) -> Result<Proof, ApiError> {
    let auth = auth.unwrap_or_default();
    let (session, known) = app
        .interactive_auth()
        .open(app, &challenge, auth.session.as_deref());
    let mut failure = None;
    if auth.session.is_some() && !known {
        failure = Some(Failure {
            code: ErrCode::Unknown,
            message: "Unknown or expired authentication session",
        });
    } else if let Some(kind) = auth.kind.as_deref() {
        match find_stage(&challenge, kind) {
            None => {
                failure = Some(Failure {
                    code: ErrCode::Unrecognized,
                    message: "This authentication type is in none of the flows",
                });
            }
            Some(stage) => match try_stage(app, &challenge, stage, &auth).await? {
                Ok(token) => app.interactive_auth().complete(&session, stage, token),
                Err(why) => failure = Some(why),
            },
        }
    }
    if failure.is_none()
        && let Some(proof) = app.interactive_auth().finish(&session, &challenge)
    {
        return Ok(proof);
    }
    let body = app.interactive_auth().describe(&session, &challenge);
    let error = ApiError::interactive(body);
    Err(match failure {
        Some(failure) => error.with_code(failure.code, failure.message),
        None => error,
    })
}

fn find_stage(challenge: &Challenge<'_>, kind: &str) -> Option<Stage> {
    Stage::ALL.into_iter().find(|stage| {
        stage.name() == kind && challenge.flows.iter().any(|flow| flow.contains(stage))
    })
}

/// Tries a stage; on success, the registration token it gave.
async fn try_stage(
    app: &App,
    challenge: &Challenge<'_>,
    stage: Stage,
    auth: &AuthData,
) -> Result<Result<Option<String>, Failure>, ApiError> {
    match stage {
        Stage::Dummy => Ok(Ok(None)),
        Stage::RegistrationToken => Ok(registration_token(app, auth)?),
        Stage::Password => Ok(password(app, challenge, auth).await?.map(|()| None)),
    }
}

fn registration_token(
    app: &App,
    auth: &AuthData,
) -> Result<Result<Option<String>, Failure>, ApiError> {
    let Some(token) = auth.token.as_deref() else {
        return Err(ApiError::missing_param("auth.token is missing"));
    };
    if is_configured_token(app, token) {
        return Ok(Ok(None));
    }
    let found = registration_tokens::get(&app.node().view(), token)?;
    if found.is_some_and(|found| found.is_valid(app.node().now_ms())) {
        return Ok(Ok(Some(token.to_owned())));
    }
    Ok(Err(Failure {
        code: ErrCode::Unauthorized,
        message: "Invalid registration token",
    }))
}

/// True for the registration tokens of the configuration, which never wear out.
pub fn is_configured_token(app: &App, token: &str) -> bool {
    let config = app.config();
    let mut tokens = config.registration.tokens.iter();
    tokens.any(|configured| configured.reveal() == token)
}

async fn password(
    app: &App,
    challenge: &Challenge<'_>,
    auth: &AuthData,
) -> Result<Result<(), Failure>, ApiError> {
    let Some(who) = challenge.who else {
        return Err(ApiError::forbidden("There is no password to check"));
    };
    let Some(password) = auth.password.clone() else {
        return Err(ApiError::missing_param("auth.password is missing"));
    };
    let named = match &auth.identifier {
        Some(identifier) => identifier.user.as_deref(),
        None => auth.user.as_deref(),
    };
    if let Some(named) = named
        && !is_user(named, &who.user_id)
    {
        return Err(ApiError::forbidden(
            "The authentication is of another user than the request",
        ));
    }
    app.limiter()
        .peek(Class::LoginAccount, Key::Name(&who.user_id))?;
    let hash = accounts::get(&app.node().view(), who.user)?.and_then(|a| a.password_hash);
    if app.passwords().verify(app.node(), password, hash).await? {
        return Ok(Ok(()));
    }
    app.limiter()
        .check(Class::LoginAccount, Key::Name(&who.user_id))?;
    Ok(Err(Failure {
        code: ErrCode::Forbidden,
        message: "Invalid password",
    }))
}

/// True if `named`, a user id or a localpart, is `user_id`.
fn is_user(named: &str, user_id: &str) -> bool {
    if named.starts_with('@') {
        return named.eq_ignore_ascii_case(user_id);
    }
    let localpart = user_id.trim_start_matches('@').split(':').next();
    localpart.is_some_and(|localpart| localpart.eq_ignore_ascii_case(named))
}

impl InteractiveAuth {
    /// The attempt that the client names, if it is one for this challenge, or else a new one; whether
    /// it was known comes second.
    fn open(&self, app: &App, challenge: &Challenge<'_>, named: Option<&str>) -> (String, bool) {
        let mut attempts = self.attempts.lock();
        let user = challenge.who.map(|who| who.user);
        if let Some(named) = named
            && let Some(attempt) = attempts.get(named)
            && attempt.begun.elapsed() < LIFETIME
            && attempt.operation == challenge.operation
            && attempt.user == user
        {
            return (named.to_owned(), true);
        }
        if attempts.len() >= MOST_ATTEMPTS {
            attempts.retain(|_, attempt| attempt.begun.elapsed() < LIFETIME);
        }
        if attempts.len() >= MOST_ATTEMPTS {
            let oldest = attempts.iter().min_by_key(|(_, attempt)| attempt.begun);
            if let Some(session) = oldest.map(|(session, _)| session.clone()) {
                attempts.remove(&session);
            }
        }
        let session = URL_SAFE_NO_PAD.encode(app.node().random::<18>());
        let attempt = Attempt {
            operation: challenge.operation.clone(),
            user,
            completed: Vec::new(),
            registration_token: None,
            begun: Instant::now(),
        };
        attempts.insert(session.clone(), attempt);
        (session, false)
    }

    fn complete(&self, session: &str, stage: Stage, token: Option<String>) {
        if let Some(attempt) = self.attempts.lock().get_mut(session) {
            if !attempt.completed.contains(&stage) {
                attempt.completed.push(stage);
            }
            if token.is_some() {
                attempt.registration_token = token;
            }
        }
    }

    /// Ends the attempt if one of the flows is complete.
    fn finish(&self, session: &str, challenge: &Challenge<'_>) -> Option<Proof> {
        let mut attempts = self.attempts.lock();
        let attempt = attempts.get(session)?;
        let is_done = |flow: &&[Stage]| flow.iter().all(|stage| attempt.completed.contains(stage));
        if !challenge.flows.iter().any(is_done) {
            return None;
        }
        let attempt = attempts.remove(session)?;
        Some(Proof {
            registration_token: attempt.registration_token,
        })
    }

    fn describe(&self, session: &str, challenge: &Challenge<'_>) -> Map<String, Value> {
        let names = |stages: &[Stage]| stages.iter().map(|stage| stage.name()).collect::<Vec<_>>();
        let flows: Vec<_> = challenge
            .flows
            .iter()
            .map(|flow| json!({"stages": names(flow)}))
            .collect();
        let attempts = self.attempts.lock();
        let completed = attempts
            .get(session)
            .map(|attempt| names(&attempt.completed));
        let mut body = Map::new();
        body.insert("flows".to_owned(), flows.into());
        body.insert("params".to_owned(), json!({}));
        body.insert("session".to_owned(), session.into());
        body.insert("completed".to_owned(), completed.unwrap_or_default().into());
        body
    }
}

/// The proof that most operations on an account ask for: the password.
///
/// # Errors
/// As [`require`].
pub async fn require_password(
    app: &App,
    who: &Identity,
    operation: impl Into<String>,
    auth: Option<AuthData>,
) -> Result<Proof, ApiError> {
    let challenge = Challenge {
        operation: operation.into(),
        flows: &[&[Stage::Password]],
        who: Some(who),
    };
    require(app, challenge, auth).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_by_id_or_localpart_whatever_the_case() {
        for named in ["alice", "Alice", "@alice:x.org", "@Alice:X.org"] {
            assert!(is_user(named, "@alice:x.org"), "{named}");
        }
        for named in ["@alice:y.org", "alic", "", "@alice"] {
            assert!(!is_user(named, "@alice:x.org"), "{named}");
        }
    }

    #[test]
    fn an_auth_with_a_null_session_is_read_as_one_without() {
        let auth: AuthData = serde_json::from_str(
            r#"{"type":"m.login.password","session":null,"identifier":{"type":"m.id.user","user":"a"}}"#,
        )
        .expect("valid");
        assert!(auth.session.is_none());
        assert_eq!(auth.identifier.and_then(|i| i.user).as_deref(), Some("a"));
    }
}
