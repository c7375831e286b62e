//! [`Remote`]: signed requests to other homeservers.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;

use crate::authorization::Authorization;
use crate::connect::{Connector, Net, Way};
use crate::gate::Gate;
use crate::names::{Lookup, SystemNames};
use crate::observer::Observer;
use crate::proxy::Proxy;
use crate::web::Web;
use crate::well_known::WellKnown;
use crate::{Answer, RemoteError, Request, tls};

/// How other servers are reached.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// False refuses every request.
    pub enabled: bool,
    /// Certificate authorities (PEM) that are trusted besides the system's.
    pub extra_ca: Option<Vec<u8>>,
    /// Loopback and private addresses may be contacted.
    pub allow_private_networks: bool,
    /// All connections go through it.
    pub proxy: Option<Proxy>,
    /// Which servers may be asked for what.
    pub rules: Rules,
    /// Who is told of each request to a homeserver.
    pub observer: Observer,
}

/// Which servers may be asked for what: anything, or what a function allows. It is called for each request.
#[derive(Clone, Default)]
pub struct Rules(Option<Arc<Judge>>);

type Judge = dyn Fn(&str, &str) -> Result<(), String> + Send + Sync;

impl Rules {
    /// Only what the function allows: it is given the server's name and the path with its query, and answers why not.
    pub fn new(judge: impl Fn(&str, &str) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(judge)))
    }

    fn judge(&self, server_name: &str, path: &str) -> Result<(), RemoteError> {
        let Some(judge) = &self.0 else {
            return Ok(());
        };
        judge(server_name, path).map_err(RemoteError::NotAllowed)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Rules")
    }
}

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Connections that nobody uses, kept for each server.
const MOST_IDLE: usize = 2;

/// Connections to other servers open at once, used or not.
pub const MOST_CONNECTIONS: usize = 2048;

/// The most of an error's body that is read.
pub(crate) const MAX_ERROR_BYTES: usize = 64 << 10;

/// The way to other homeservers.
pub struct Remote {
    options: Options,
    key: event::SigningKey,
    client: Client<Connector, Full<Bytes>>,
    well_known: Arc<WellKnown>,
    gate: Gate,
}

impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Remote({:?})", self.key)
    }
}

impl Remote {
    /// # Errors
    /// If the certificate authorities can't be read.
    pub fn new(options: Options, key: event::SigningKey) -> Result<Arc<Self>, RemoteError> {
        Self::with_names(options, key, Arc::new(SystemNames::default()))
    }

    /// As [`Remote::new`], with names that a test gives.
    ///
    /// # Errors
    /// As [`Remote::new`].
    pub fn with_names(
        options: Options,
        key: event::SigningKey,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Arc<Self>, RemoteError> {
        let net = Arc::new(Net {
            lookup,
            allow_private_networks: options.allow_private_networks,
            proxy: options.proxy.clone(),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        });
        let tls = tls::client_config(options.extra_ca.as_deref(), &[b"h2", b"http/1.1"])?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .http2_max_header_list_size(64 << 10)
            .build(Connector::new(
                Arc::clone(&net),
                Arc::clone(&tls),
                Way::Federation,
            ));
        let web = Web::new(Connector::new(net, tls, Way::Web));
        Ok(Arc::new(Self {
            options,
            key,
            client,
            well_known: Arc::new(WellKnown::new(web)),
            gate: Gate::default(),
        }))
    }

    /// Sends a signed request to a server and reads the JSON of its answer.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn call(&self, server_name: &str, request: Request) -> Result<Bytes, RemoteError> {
        Ok(self.exchange(server_name, request).await?.body)
    }

    /// As [`Remote::call`], with the headers of the answer.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn exchange(
        &self,
        server_name: &str,
        request: Request,
    ) -> Result<Answer, RemoteError> {
        let observed = self.options.observer.begin(server_name, &request);
        let answer = self.judged_exchange(server_name, request).await;
        observed.end(match &answer {
            Ok(answer) => Ok(Some(answer.body.len() as u64)),
            Err(error) => Err(error),
        });
        answer
    }

    async fn judged_exchange(
        &self,
        server_name: &str,
        request: Request,
    ) -> Result<Answer, RemoteError> {
        let (timeout, max_answer) = (request.timeout, request.max_answer);
        self.allow(server_name, &request.path)?;
        let exchange = async {
            let _permit = self.gate.enter(server_name).await;
            let response = self.send(server_name, request).await?;
            let (parts, body) = response.into_parts();
            if parts.status.is_success() {
                let (headers, body) = (parts.headers, collect(body, max_answer).await?);
                return Ok(Answer { headers, body });
            }
            // An error is one even if its body does not say why.
            let limit = max_answer.min(MAX_ERROR_BYTES);
            let body = collect(body, limit).await.unwrap_or_default();
            Err(RemoteError::refused(parts.status.as_u16(), body))
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(RemoteError::TimedOut))
    }

    /// Asks a web server that is no homeserver, by the same rules for addresses: gets what is at `url`, or posts a JSON
    /// `body` there. A redirect is a refusal.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn ask_web(
        &self,
        url: &str,
        token: Option<&str>,
        body: Option<Bytes>,
        timeout: Duration,
        max_answer: usize,
    ) -> Result<Bytes, RemoteError> {
        let web = self.well_known.web();
        web.ask(url, token, body, timeout, max_answer).await
    }

    /// The way to web servers; none if federation is switched off.
    pub(crate) fn web(&self) -> Result<&Web, RemoteError> {
        match self.options.enabled {
            true => Ok(self.well_known.web()),
            false => Err(RemoteError::NotAllowed(
                "federation is switched off".to_owned(),
            )),
        }
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.options.observer
    }

    /// Whether this server may ask that one for this.
    pub(crate) fn allow(&self, server_name: &str, path: &str) -> Result<(), RemoteError> {
        if !self.options.enabled {
            let text = "federation is switched off".to_owned();
            return Err(RemoteError::NotAllowed(text));
        }
        if server_name == self.key.server_name() {
            let text = "it is this server itself".to_owned();
            return Err(RemoteError::NotAllowed(text));
        }
        if !event::identifier::is_server_name(server_name) {
            return Err(RemoteError::Unreachable(
                "that is no server name".to_owned(),
            ));
        }
        self.options.rules.judge(server_name, path)
    }

    pub(crate) async fn send(
        &self,
        server_name: &str,
        request: Request,
    ) -> Result<http::Response<Incoming>, RemoteError> {
        let authority = self.well_known.authority(server_name).await?;
        let request = self.signed(server_name, &authority, request)?;
        self.client.request(request).await.map_err(of_client)
    }

    /// The request as it goes to `authority`, which stands for `server_name`.
    fn signed(
        &self,
        server_name: &str,
        authority: &str,
        request: Request,
    ) -> Result<http::Request<Full<Bytes>>, RemoteError> {
        let bad = |error: &dyn fmt::Display| {
            RemoteError::BadAnswer(format!("the request can't be made: {error}"))
        };
        let content = match &request.body {
            Some(body) => Some(std::str::from_utf8(body).map_err(|error| bad(&error))?),
            None => None,
        };
        let authorization = Authorization::sign(
            &self.key,
            server_name,
            request.method.as_str(),
            &request.path,
            content,
        )
        .map_err(|error| bad(&error))?;
        let uri = Uri::builder()
            .scheme("https")
            .authority(authority)
            .path_and_query(request.path.as_str())
            .build()
            .map_err(|error| bad(&error))?;
        let mut builder = http::Request::builder()
            .method(request.method)
            .uri(uri)
            // With the port, if there is one: what the name is, not where it leads.
            .header(header::HOST, authority)
            .header(header::AUTHORIZATION, authorization.to_header())
            .header(header::USER_AGENT, USER_AGENT);
        if request.body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, JSON);
        }
        let body = Full::new(request.body.unwrap_or_default());
        builder.body(body).map_err(|error| bad(&error))
    }
}

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What this server calls itself.
pub(crate) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("Meyrin/", env!("CARGO_PKG_VERSION")));

/// Reads a body of at most `limit` bytes.
pub(crate) async fn collect(body: Incoming, limit: usize) -> Result<Bytes, RemoteError> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(RemoteError::TooLarge { limit }),
        Err(error) => Err(RemoteError::Unreachable(format!(
            "the answer broke off: {error}"
        ))),
    }
}

/// The reason that is hidden in the error of the client.
pub(crate) fn of_client(error: hyper_util::client::legacy::Error) -> RemoteError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<RemoteError>() {
            return error.clone();
        }
        text = format!("{text}: {error}");
        cause = error.source();
    }
    RemoteError::Unreachable(text)
}
