//! Servers on loopback with certificates of one authority, and the names that lead to them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use event::SigningKey;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use remote::names::{Lookup, Pending, Service};
use remote::{Options, Remote};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The name that the tests call by.
pub const CALLER: &str = "caller.example";

/// The key that the tests sign with.
pub fn key() -> SigningKey {
    SigningKey::from_seed(CALLER, "1", [1; 32]).expect("a key")
}

/// An authority that the caller trusts.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A remote that trusts this authority alone, beside the system's.
    pub fn remote(&self, names: Names, change: impl FnOnce(&mut Options)) -> Arc<Remote> {
        let mut options = Options {
            enabled: true,
            extra_ca: Some(self.0.pem().into_bytes()),
            allow_private_networks: true,
            ..Options::default()
        };
        change(&mut options);
        Remote::with_names(options, key(), Arc::new(names)).expect("a remote")
    }

    /// Serves `answer` on loopback under `names`, with one of the protocols; answers the port.
    pub async fn serve<F>(&self, names: &[&str], protocol: &[u8], answer: F) -> u16
    where
        F: Fn(Request<Bytes>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
    {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .expect("a certificate that fits");
        config.alpn_protocols = vec![protocol.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(|request: Request<Incoming>| {
                        let answer = answer.clone();
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            Ok::<_, hyper::Error>(answer(Request::from_parts(parts, body)))
                        }
                    });
                    // A caller that goes away is no failure of the test.
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        port
    }
}

/// Names as a test wants them.
#[derive(Default)]
pub struct Names {
    pub addresses: HashMap<String, Vec<IpAddr>>,
    pub services: HashMap<String, Vec<Service>>,
}

impl Names {
    /// Names that lead to loopback.
    pub fn local(names: &[&str]) -> Self {
        let addresses = |name: &&str| ((*name).to_owned(), vec![IpAddr::from([127, 0, 0, 1])]);
        Self {
            addresses: names.iter().map(addresses).collect(),
            services: HashMap::new(),
        }
    }

    /// With a service at `target`.
    pub fn service(mut self, name: &str, target: &str, port: u16) -> Self {
        let service = Service {
            priority: 10,
            weight: 0,
            target: target.to_owned(),
            port,
        };
        self.services
            .entry(name.to_owned())
            .or_default()
            .push(service);
        self
    }
}

impl Lookup for Names {
    fn addresses<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Vec<IpAddr>, String>> {
        let found = self.addresses.get(name).cloned();
        Box::pin(async move { found.ok_or_else(|| "no such name".to_owned()) })
    }

    fn services<'a>(&'a self, name: &'a str) -> Pending<'a, Vec<Service>> {
        let found = self.services.get(name).cloned().unwrap_or_default();
        Box::pin(async move { found })
    }

    fn is_written_down(&self, _name: &str) -> bool {
        false
    }
}

/// A JSON answer.
pub fn json(status: u16, body: &str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("a response")
}
