//! Connections: from an authority to a stream that has proven to be its host.
//!
//! Owns steps 1, 2 and 4 to 6 of resolving server names (where a name with or without a port leads), the check of
//! every address against the rules, and TLS. Which name stands for a server (step 3) is `discovery`'s.
//! <https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names>
//!
//! Invariants: no byte is sent to an address that the rules forbid; the certificate is always verified, against the
//! authority's host and nothing else; a connection is made or given up within [`CONNECT_TIMEOUT`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::RemoteError;
use crate::authority::{Authority, Host};
use crate::guard;
use crate::names::{Lookup, Pending, Service};
use crate::proxy::Proxy;

/// The most time from the name to the stream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one address has before the next is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// The most places (hosts with ports) and addresses that are tried for one connection.
const MOST_TRIED: usize = 8;

/// The port of federation where nothing names another.
const FEDERATION_PORT: u16 = 8448;

/// Where an authority without a port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To another homeserver: by SRV records, else port 8448.
    Federation,
    /// To a web server: port 443.
    Web,
}

/// What all connections share.
pub struct Net {
    /// Names.
    pub lookup: Arc<dyn Lookup>,
    /// Loopback and private addresses may be contacted.
    pub allow_private_networks: bool,
    /// All connections go through it.
    pub proxy: Option<Proxy>,
    /// One permit for each connection that may be open.
    pub connections: Arc<Semaphore>,
}

/// Makes connections for a client. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    net: Arc<Net>,
    tls: Arc<ClientConfig>,
    way: Way,
}

impl Connector {
    /// A connector of one way.
    pub fn new(net: Arc<Net>, tls: Arc<ClientConfig>, way: Way) -> Self {
        Self { net, tls, way }
    }

    async fn connect(self, uri: Uri) -> Result<Secured, RemoteError> {
        let authority = uri
            .authority()
            .and_then(|authority| Authority::parse(authority.as_str()))
            .ok_or_else(|| RemoteError::Unreachable("its name leads nowhere".to_owned()))?;
        tokio::time::timeout(CONNECT_TIMEOUT, self.secured(&authority))
            .await
            .unwrap_or(Err(RemoteError::TimedOut))
    }

    async fn secured(&self, authority: &Authority) -> Result<Secured, RemoteError> {
        let unreachable = |error: &dyn std::fmt::Display| {
            RemoteError::Unreachable(format!("{authority}: {error}"))
        };
        let name = match &authority.host {
            Host::Address(address) => ServerName::from(*address),
            Host::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|error| unreachable(&error))?
            }
        };
        let connections = Arc::clone(&self.net.connections);
        let permit = connections.acquire_owned().await;
        let permit = permit.map_err(|error| unreachable(&error))?;
        let stream = self.net.plain(self.way, authority).await?;
        stream
            .set_nodelay(true)
            .map_err(|error| unreachable(&error))?;
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let stream = handshake.await.map_err(|error| unreachable(&error))?;
        Ok(Secured {
            stream,
            _permit: permit,
        })
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Secured>;
    type Error = RemoteError;
    type Future = Pending<'static, Result<Self::Response, RemoteError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), RemoteError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await.map(TokioIo::new) })
    }
}

impl Net {
    /// A connection to the first place of an authority that takes one.
    async fn plain(&self, way: Way, authority: &Authority) -> Result<TcpStream, RemoteError> {
        let mut failure = RemoteError::Unreachable(format!("{authority} has no address"));
        for (host, port) in self.places(way, authority).await? {
            let connected = match &self.proxy {
                Some(proxy) => self.through(proxy, &host, port).await,
                None => self.to_place(&host, port).await,
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Where an authority leads: hosts and ports, in the order to try them.
    pub async fn places(
        &self,
        way: Way,
        authority: &Authority,
    ) -> Result<Vec<(Host, u16)>, RemoteError> {
        let single = |port| Ok(vec![(authority.host.clone(), port)]);
        let name = match (&authority.host, authority.port, way) {
            (_, Some(port), _) => return single(port),
            (_, None, Way::Web) => return single(443),
            (Host::Address(_), None, Way::Federation) => return single(FEDERATION_PORT),
            (Host::Name(name), None, Way::Federation) => name,
        };
        if self.lookup.is_written_down(name) {
            return single(FEDERATION_PORT);
        }
        // The second name is the deprecated one.
        for service in ["_matrix-fed._tcp", "_matrix._tcp"] {
            let services = self.lookup.services(&format!("{service}.{name}")).await;
            if services.is_empty() {
                continue;
            }
            let places: Vec<(Host, u16)> = in_order(services, rand_below)
                .into_iter()
                .filter(|service| !service.target.is_empty())
                .map(|service| (Host::Name(service.target), service.port))
                .take(MOST_TRIED)
                .collect();
            if places.is_empty() {
                let text = format!("{name} says that it offers no federation");
                return Err(RemoteError::Unreachable(text));
            }
            return Ok(places);
        }
        single(FEDERATION_PORT)
    }

    async fn through(
        &self,
        proxy: &Proxy,
        host: &Host,
        port: u16,
    ) -> Result<TcpStream, RemoteError> {
        if let Host::Address(address) = host
            && !self.may_contact(*address)
        {
            return Err(not_public(host, *address));
        }
        let failed = |error: &dyn std::fmt::Display| {
            RemoteError::Unreachable(format!("the proxy, to {host}:{port}: {error}"))
        };
        let authority = proxy.authority();
        // Where it is was configured, not chosen by a stranger.
        let addresses = match &authority.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let found = self.lookup.addresses(name).await;
                found.map_err(|error| failed(&error))?
            }
        };
        let tried = race(&alternating(addresses), authority.port.unwrap_or(port)).await;
        let mut stream = tried.map_err(|error| failed(&error))?;
        let opened = proxy.tunnel(&mut stream, &format!("{host}:{port}")).await;
        opened.map_err(|error| failed(&error))?;
        Ok(stream)
    }

    fn may_contact(&self, address: IpAddr) -> bool {
        self.allow_private_networks || guard::is_global(address)
    }

    async fn to_place(&self, host: &Host, port: u16) -> Result<TcpStream, RemoteError> {
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self
                .lookup
                .addresses(name)
                .await
                .map_err(|error| RemoteError::Unreachable(format!("{name}: {error}")))?,
        };
        let allowed: Vec<IpAddr> = found
            .iter()
            .copied()
            .filter(|address| self.may_contact(*address))
            .take(MOST_TRIED)
            .collect();
        if allowed.is_empty() {
            return Err(match found.first() {
                Some(address) => not_public(host, *address),
                None => RemoteError::Unreachable(format!("{host} has no address")),
            });
        }
        let tried = race(&alternating(allowed), port).await;
        tried.map_err(|error| RemoteError::Unreachable(format!("{host}:{port}: {error}")))
    }
}

fn not_public(host: &Host, address: IpAddr) -> RemoteError {
    RemoteError::NotAllowed(format!(
        "{host} is at {address}, which is not a public address"
    ))
}

/// Both kinds of addresses in turn, beginning with the kind of the first.
fn alternating(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    let mut second = second.into_iter();
    for address in first {
        mixed.push(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed
}

/// Connects to the first address that answers; each next one is tried when the one before it failed, or after a
/// head start.
async fn race(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.iter();
    let mut failure = io::Error::other("no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(SocketAddr::new(*address, port)));
        }
        let more = waiting.len() > 0;
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = tokio::time::sleep(HEAD_START), if more => continue,
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => failure = error,
            Some(Err(error)) => failure = io::Error::other(error),
            None if more => {}
            None => return Err(failure),
        }
    }
}

/// Services in the order to try them (RFC 2782): by priority, and among equals at random by weight. `below` gives
/// a number from 0 to below its argument.
fn in_order(mut services: Vec<Service>, mut below: impl FnMut(u32) -> u32) -> Vec<Service> {
    services.sort_by_key(|service| service.priority);
    let mut ordered = Vec::with_capacity(services.len());
    while let Some(first) = services.first() {
        let priority = first.priority;
        let equals = services
            .iter()
            .take_while(|service| service.priority == priority);
        // One more each, so that those without a weight have a small chance.
        let total: u32 = equals
            .map(|service| u32::from(service.weight) + 1)
            .fold(0, u32::saturating_add);
        let mut left = below(total);
        let mut chosen = 0;
        for (index, service) in services.iter().enumerate() {
            let weight = u32::from(service.weight) + 1;
            chosen = index;
            if left < weight {
                break;
            }
            left -= weight;
        }
        ordered.push(services.remove(chosen));
    }
    ordered
}

/// A number below `most`, random enough to spread connections.
fn rand_below(most: u32) -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(most);
    (random % u64::from(most.max(1))) as u32
}

/// A stream whose other end has shown a certificate for its name.
pub struct Secured {
    stream: TlsStream<TcpStream>,
    /// Given back when it is closed.
    _permit: OwnedSemaphorePermit,
}

impl Connection for Secured {
    fn connected(&self) -> Connected {
        let (_, session) = self.stream.get_ref();
        match session.alpn_protocol() {
            Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, port: u16) -> Service {
        Service {
            priority,
            weight,
            target: "t.example".to_owned(),
            port,
        }
    }

    #[test]
    fn services_are_tried_by_priority_and_then_by_weight() {
        let services = vec![
            service(20, 0, 1),
            service(10, 1, 2),
            service(10, 9, 3),
            service(30, 0, 4),
        ];
        let ports = |below: fn(u32) -> u32| -> Vec<u16> {
            let ordered = in_order(services.clone(), below);
            ordered.iter().map(|service| service.port).collect()
        };
        assert_eq!(ports(|_| 0), [2, 3, 1, 4]);
        assert_eq!(ports(|most| most - 1), [3, 2, 1, 4]);
    }

    #[test]
    fn both_kinds_of_addresses_are_tried_in_turn() {
        let parse = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let all: Vec<IpAddr> = ["::1", "::2", "::3", "192.0.2.1"].map(parse).to_vec();
        let expected: Vec<IpAddr> = ["::1", "192.0.2.1", "::2", "::3"].map(parse).to_vec();
        assert_eq!(alternating(all), expected);
    }
}
