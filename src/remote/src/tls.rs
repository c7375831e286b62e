//! Whom this server believes when another proves who it is.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::RemoteError;

/// A configuration that trusts the system's authorities and `extra_ca` (PEM), and offers `protocols` (ALPN).
///
/// # Errors
/// If `extra_ca` holds no usable certificate.
pub fn client_config(
    extra_ca: Option<&[u8]>,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, RemoteError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a certificate authority of the system can't be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(pem) = extra_ca {
        add(&mut roots, pem)?;
    }
    if roots.is_empty() {
        tracing::warn!("no certificate authorities are known: no other server can be reached");
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| RemoteError::Unreachable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), RemoteError> {
    let unusable = |why: String| {
        RemoteError::Unreachable(format!("the extra authorities can't be used: {why}"))
    };
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(unusable("there is no certificate among them".to_owned()));
    }
    Ok(())
}
