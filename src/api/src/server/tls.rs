//! Certificates: reading PEM files, choosing the certificate of a handshake, and reloading it.
//!
//! Invariant: a listener always has a certificate that can be used; files that can't be read or do not fit each other leave the
//! one in use as it is. Reloading changes new handshakes only.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_util::sync::CancellationToken;

use super::options::TlsFiles;

/// How often the files are looked at for a renewed certificate.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Why a certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file holds no PEM of the kind it should.
    #[error("{path} holds no usable PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    /// The certificate file holds no certificate.
    #[error("{path} holds no certificate")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The key is of an unknown kind, does not belong to the certificate, or TLS refuses them.
    #[error("{certificate} and {key} can't be used together")]
    Unusable {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
}

/// A listener's certificate, exchangeable while it is used.
#[derive(Clone)]
pub(super) struct Certificate {
    files: TlsFiles,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Certificate")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Certificate {
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let key = read(&files, &provider)?;
        let unusable = |source| TlsError::Unusable {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        };
        let current = Arc::new(Current(ArcSwap::from_pointee(key)));
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Current>::clone(&current);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Resumption without memory per client: phones reconnect often.
        config.ticketer = ring::Ticketer::new().map_err(unusable)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self {
            files,
            current,
            acceptor,
        })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    pub fn reload(&self) -> Result<(), TlsError> {
        let key = read(&self.files, &ring::default_provider())?;
        self.current.0.store(Arc::new(key));
        Ok(())
    }

    /// Reloads when a file has changed, until `shutdown`: a renewal needs no signal.
    pub async fn follow_files(self, shutdown: CancellationToken) {
        let mut seen = self.modified();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = self.modified();
            if now == seen {
                continue;
            }
            seen = now;
            match self.reload() {
                Ok(()) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "reloaded");
                }
                // Half-written files are seen again when they are whole, for they change again.
                Err(error) => tracing::warn!(%error, "the changed certificate is not used"),
            }
        }
    }

    fn modified(&self) -> [Option<SystemTime>; 2] {
        let modified = |path: &Path| {
            std::fs::metadata(path)
                .and_then(|data| data.modified())
                .ok()
        };
        [modified(&self.files.certificate), modified(&self.files.key)]
    }
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let certificate_pem = read_file(&files.certificate)?;
    let key_pem = read_file(&files.key)?;
    let chain = CertificateDer::pem_slice_iter(&certificate_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem {
            path: files.certificate.clone(),
            source,
        })?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate {
            path: files.certificate.clone(),
        });
    }
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|source| TlsError::Pem {
        path: files.key.clone(),
        source,
    })?;
    // `from_der` also checks that the key is the certificate's.
    CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Unusable {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}
