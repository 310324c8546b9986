//! Servers on loopback that note what they were shown: by connection and by request.

#![allow(clippy::unwrap_used, reason = "a peer that cannot serve has failed its test")]

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use nexus::tls::CertificateFacts;
use parking_lot::Mutex;
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::CertificateDer, server::WebPkiClientVerifier, sign,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::pki::{Authority, Chain};

/// What a TLS server was shown by one client.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) sni: Option<String>,
    pub(crate) kind: Option<HandshakeKind>,
    /// Subject of the client certificate.
    pub(crate) client: Option<String>,
    pub(crate) alpn: Option<Vec<u8>>,
}

impl Shown {
    pub(crate) fn of(session: &rustls::ServerConnection) -> Self {
        let client = session.peer_certificates().and_then(|c| c.first()).and_then(CertificateFacts::read).map(|c| c.subject);
        Self {
            sni: session.server_name().map(str::to_owned),
            kind: session.handshake_kind(),
            client,
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
        }
    }
}

/// A server's certificate that can be exchanged under a running server.
#[derive(Debug)]
pub(crate) struct Exchangeable(Mutex<Arc<sign::CertifiedKey>>);

impl Exchangeable {
    pub(crate) fn new(chain: &Chain) -> Arc<Self> {
        Arc::new(Self(Mutex::new(certified(chain))))
    }

    pub(crate) fn exchange(&self, chain: &Chain) {
        *self.0.lock() = certified(chain);
    }
}

impl rustls::server::ResolvesServerCert for Exchangeable {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<sign::CertifiedKey>> {
        Some(Arc::clone(&self.0.lock()))
    }
}

fn certified(chain: &Chain) -> Arc<sign::CertifiedKey> {
    let key = aws_lc_rs::sign::any_supported_type(&chain.clone_key()).unwrap();
    Arc::new(sign::CertifiedKey::new(chain.certificates.clone(), key))
}

/// Demands a client certificate of `clients`, and shows whatever `server` holds.
pub(crate) fn mtls_config_showing(server: &Arc<Exchangeable>, clients: &Authority) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(clients.certificate().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider())).build().unwrap();
    let server: Arc<dyn rustls::server::ResolvesServerCert> = Arc::<Exchangeable>::clone(server);
    builder(rustls::ALL_VERSIONS).with_client_cert_verifier(verifier).with_cert_resolver(server)
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What one peer has seen so far.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    connections: Mutex<usize>,
    shown: Mutex<Vec<Shown>>,
    arrived: Mutex<Vec<Arrived>>,
}

/// A server that answers every request alike; ends with its owner.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    notes: Arc<Notes>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub(crate) async fn tls(config: ServerConfig) -> Self {
        Self::tls_answering(config, || Response::new(Bytes::from_static(b"hello"))).await
    }

    pub(crate) async fn tls_answering(config: ServerConfig, answer: impl Fn() -> Response<Bytes> + Clone + Send + Sync + 'static) -> Self {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        Self::start(move |stream, notes| {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                notes.shown.lock().push(Shown::of(stream.get_ref().1));
                serve(stream, notes, answer).await;
            }
        })
        .await
    }

    pub(crate) async fn plain() -> Self {
        Self::plain_answering(|| Response::new(Bytes::from_static(b"hello"))).await
    }

    pub(crate) async fn plain_answering(answer: impl Fn() -> Response<Bytes> + Clone + Send + Sync + 'static) -> Self {
        Self::start(move |stream, notes| serve(stream, notes, answer.clone())).await
    }

    /// Hands each connection to `talk`.
    pub(crate) async fn start<F>(talk: impl Fn(TcpStream, Arc<Notes>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let notes = Arc::new(Notes::default());
        let shared = Arc::clone(&notes);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *shared.connections.lock() += 1;
                tokio::spawn(talk(stream, Arc::clone(&shared)));
            }
        });
        Self { address, notes, task }
    }

    pub(crate) fn connections(&self) -> usize {
        *self.notes.connections.lock()
    }

    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.notes.shown.lock().clone()
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.notes.arrived.lock().clone()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    notes: Arc<Notes>,
    answer: impl Fn() -> Response<Bytes> + Clone + Send + Sync + 'static,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (notes, answer) = (Arc::clone(&notes), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            notes.arrived.lock().push(Arrived { method: parts.method, target: parts.uri.to_string(), headers: parts.headers, body });
            Ok::<_, Infallible>(answer().map(Full::new))
        }
    });
    // A client that hangs up is no failure of the test.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// A server configuration with this chain; no client certificates.
pub(crate) fn server_config(chain: &Chain) -> ServerConfig {
    server_config_for(chain, rustls::ALL_VERSIONS)
}

pub(crate) fn server_config_for(chain: &Chain, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
    builder(versions).with_no_client_auth().with_single_cert(chain.certificates.clone(), chain.clone_key()).unwrap()
}

/// Demands a client certificate of `clients`.
pub(crate) fn mtls_config(chain: &Chain, clients: &Authority, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
    mtls_config_trusting(chain, clients.certificate(), versions)
}

/// Demands a client certificate that chains to `ca`.
pub(crate) fn mtls_config_trusting(
    chain: &Chain,
    ca: &CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider())).build().unwrap();
    builder(versions).with_client_cert_verifier(verifier).with_single_cert(chain.certificates.clone(), chain.clone_key()).unwrap()
}

/// Presents `chain`, but signs with the key of another: a thief of a public certificate.
pub(crate) fn impostor_config(chain: &Chain, other: &Chain, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
    let key = aws_lc_rs::sign::any_supported_type(&other.clone_key()).unwrap();
    let stolen = sign::CertifiedKey::new(chain.certificates.clone(), key);
    builder(versions).with_no_client_auth().with_cert_resolver(Arc::new(sign::SingleCertAndKey::from(stolen)))
}

/// What `with_single_cert` refuses to serve: certificates that webpki cannot read.
pub(crate) fn unchecked_config(chain: &Chain, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
    impostor_config(chain, chain, versions)
}

fn builder(versions: &[&'static rustls::SupportedProtocolVersion]) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_protocol_versions(versions).unwrap()
}
