//! The server side of a demo upstream's TLS.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio_rustls::TlsAcceptor;

use crate::tls::dev::DevCertificates;

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    Anyone,
    /// Only with a certificate of the same development CA.
    WithCertificate,
}

/// Accepts TLS with the server certificate of `certificates`.
///
/// # Errors
/// In words; freshly minted certificates give none.
pub(super) fn acceptor(certificates: &DevCertificates, clients: Clients) -> Result<TlsAcceptor, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let chain = vec![CertificateDer::from_pem_slice(certificates.server.certificate.as_bytes()).map_err(|e| words(&e))?];
    let key = PrivateKeyDer::from_pem_slice(certificates.server.key.expose().as_bytes()).map_err(|e| words(&e))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ClientCertVerifier> = match clients {
        Clients::Anyone => WebPkiClientVerifier::no_client_auth(),
        Clients::WithCertificate => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(certificates.ca.as_bytes()).map_err(|e| words(&e))?).map_err(|e| words(&e))?;
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().map_err(|e| words(&e))?
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| words(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| words(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
