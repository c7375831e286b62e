//! Requests of other servers: signed with the key of the server that sends them.
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>
//!
//! Invariants: a handler that takes [`Signed`] runs only for a server that proved by a key which is valid now that it
//! sent this request to this server, and whom the rules of the house let in; the signature is checked over the target as it came, before any routing.

use std::sync::Arc;

use axum::extract::{FromRequest, OriginalUri, Request};
use bytes::Bytes;
use event::VerifyKey;
use event::identifier::is_server_name;
use http::{HeaderMap, header};
use node::federation::Forbidden;
use remote::authorization::{Authorization, signed_bytes};
use serde::Deserialize;

use crate::app::App;
use crate::error::{ApiError, ErrCode};
use crate::federation::audit::Seen;
use crate::json::{parse_object_or_empty, read_body};
use crate::limits::{Class, Key};
use crate::request::Arrival;

/// A request of another server: who sent it, and its body, unparsed. Goes last among a handler's arguments.
#[derive(Debug)]
pub struct Signed {
    /// The server that sent and signed the request.
    pub origin: Arc<str>,
    body: Bytes,
}

impl Signed {
    /// The body as an object; no body is an empty object.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        parse_object_or_empty(&self.body)
    }

    /// The body's bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

/// The most signatures of a request: a server that changes its key may sign with both.
const MOST_SIGNATURES: usize = 4;

impl FromRequest<App> for Signed {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let address = Key::Address(Arrival::of(request.extensions()).address);
        // Only failures count by address: many servers may come through one proxy.
        let limiter = app.limiter();
        limiter.patiently(Class::Federation, address, 0).await?;
        let refused = match authenticate(request, app).await {
            Ok(signed) => {
                let origin = Key::Name(&signed.origin);
                limiter.patiently(Class::Federation, origin, 1).await?;
                app.node().heard_from(&signed.origin);
                return Ok(signed);
            }
            Err(error) => error,
        };
        if refused.code() == Some(ErrCode::Unauthorized) {
            limiter.check(Class::Federation, address)?;
        }
        Err(refused)
    }
}

async fn authenticate(request: Request, app: &App) -> Result<Signed, ApiError> {
    let node = app.node();
    let address = Arrival::of(request.extensions()).address;
    let claims = claims(request.headers(), node.server_name())?;
    let Some(origin) = claims.first().map(|claim| Arc::from(claim.origin.as_str())) else {
        return Err(unauthorized("The request is not signed"));
    };
    if !node.may_federate(&origin) {
        return Err(ApiError::forbidden(Forbidden::Server.to_string()));
    }
    let held_back = Key::Name(&origin);
    if let Err(held_back) = app
        .limiter()
        .patiently(Class::Federation, held_back, 0)
        .await
    {
        // Whoever is held back for long is not worth a signature; without its body the connection could not go on.
        read_body(request).await?;
        return Err(held_back);
    }
    let seen = request.extensions().get::<Seen>().cloned();
    let method = request.method().clone();
    let original = request.extensions().get::<OriginalUri>();
    let uri = original.map_or_else(|| request.uri().clone(), |uri| uri.0.clone());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let body = read_body(request).await?;
    // Nothing is proved yet: it is on the account of whoever is at the other end.
    let account = address.map_or_else(|| "no address".to_owned(), |address| address.to_string());
    let account: Arc<str> = account.into();
    let content = body.clone();
    let parts = (method.to_string(), target.to_owned(), Arc::clone(&origin));
    let destination = node.server_name().to_owned();
    let length = body.len();
    let signed = work_for(app, &account, length, move || {
        let (method, target, origin) = parts;
        let content = std::str::from_utf8(&content)
            .map_err(|_| ApiError::not_json("The request's body is not UTF-8"))?;
        let content = (!content.trim().is_empty()).then_some(content);
        signed_bytes(&method, &target, &origin, &destination, content)
            .map_err(|error| ApiError::not_json(error.to_string()))
    });
    let signed = signed.await??;
    verify(app, &account, &claims, signed).await?;
    if let Some(seen) = seen {
        seen.is(&origin, &body);
    }
    node.judge_request(&origin, target)
        .map_err(|reason| ApiError::forbidden(reason.to_string()))?;
    Ok(Signed { origin, body })
}

/// What the request says of itself: at least one signature, all of the same server, for this server.
fn claims(headers: &HeaderMap, own_name: &str) -> Result<Vec<Authorization>, ApiError> {
    let mut claims: Vec<Authorization> = Vec::new();
    for value in headers.get_all(header::AUTHORIZATION) {
        let claim = value.to_str().ok().and_then(Authorization::parse);
        let claim = claim.ok_or_else(|| unauthorized("The Authorization header is malformed"))?;
        if !is_server_name(&claim.origin) || claim.origin == own_name {
            return Err(unauthorized("The origin is no other server"));
        }
        let for_us = |destination: &String| destination == own_name;
        if !claim.destination.as_ref().is_none_or(for_us) {
            return Err(unauthorized("The request is for another server"));
        }
        if claims.iter().any(|other| other.origin != claim.origin) {
            return Err(unauthorized("The request is signed by two servers"));
        }
        claims.push(claim);
        if claims.len() > MOST_SIGNATURES {
            return Err(unauthorized("The request has too many signatures"));
        }
    }
    Ok(claims)
}

/// Whether at least one signature is by a key that counts, and none is wrong.
async fn verify(
    app: &App,
    account: &Arc<str>,
    claims: &[Authorization],
    signed: Vec<u8>,
) -> Result<(), ApiError> {
    let node = app.node();
    let signed: Arc<[u8]> = signed.into();
    let mut verified = false;
    for claim in claims {
        let (origin, key_id) = (claim.origin.as_str(), claim.key.as_str());
        let fits = |key: VerifyKey| {
            let (signed, signature) = (Arc::clone(&signed), claim.sig.clone());
            let length = signed.len();
            work_for(app, account, length, move || {
                key.verifies(&signed, &signature)
            })
        };
        let Some(key) = node.request_key(origin, key_id).await? else {
            continue;
        };
        if !fits(key).await? {
            let renewed = node.renewed_request_key(origin, key_id).await?;
            let renewed = renewed.filter(|renewed| *renewed != key);
            let fits = match renewed {
                Some(renewed) => fits(renewed).await?,
                None => false,
            };
            if !fits {
                return Err(unauthorized(format!(
                    "The signature of {origin} by {key_id} is wrong"
                )));
            }
        }
        verified = true;
    }
    if verified {
        return Ok(());
    }
    let origin = claims.first().map_or("", |claim| claim.origin.as_str());
    Err(unauthorized(format!(
        "No key of {origin} that signed the request could be had"
    )))
}

/// Bodies longer than this are worked on where other requests do not wait for it.
const SHORT_BYTES: usize = 2 << 10;

/// Does work over so many bytes on somebody's account; if they are few, here and now.
async fn work_for<T: Send + 'static>(
    app: &App,
    account: &Arc<str>,
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    match bytes > SHORT_BYTES {
        true => Ok(app.node().run_for(account, work).await?),
        false => Ok(work()),
    }
}

fn unauthorized(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrCode::Unauthorized, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, StatusCode};

    fn claims_of(values: &[&str]) -> Result<Vec<Authorization>, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_str(value).expect("a header");
            headers.append(header::AUTHORIZATION, value);
        }
        claims(&headers, "here.example")
    }

    #[test]
    fn a_request_may_have_several_signatures_of_one_server() {
        let one =
            r#"X-Matrix origin="a.example",destination="here.example",key="ed25519:1",sig="x""#;
        let other = "X-Matrix origin=a.example,key=ed25519:2,sig=y";
        let read = claims_of(&[one, other]).expect("signatures");
        assert_eq!(read.len(), 2);
        assert!(claims_of(&[]).expect("no header").is_empty());
    }

    #[test]
    fn signatures_of_two_servers_for_another_server_or_of_this_one_are_refused() {
        let a = "X-Matrix origin=a.example,key=ed25519:1,sig=x";
        for values in [
            vec![a, "X-Matrix origin=b.example,key=ed25519:1,sig=x"],
            vec!["X-Matrix origin=a.example,destination=else.example,key=ed25519:1,sig=x"],
            vec!["X-Matrix origin=here.example,key=ed25519:1,sig=x"],
            vec!["X-Matrix origin=a/b,key=ed25519:1,sig=x"],
            vec![a, "Bearer secret"],
            vec![a; 5],
        ] {
            let refused = claims_of(&values).expect_err("refused");
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{values:?}");
            assert_eq!(refused.code(), Some(ErrCode::Unauthorized));
        }
    }
}
