//! A gateway behind HTTPS, and TLS clients for it whose every setting is the test's.

#![allow(clippy::unwrap_used, reason = "a client that cannot speak has failed its test")]

use std::{io, net::SocketAddr, sync::Arc};

use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nexus::sources::MemorySources;
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    nexus::GatewaySpec,
    pki::{Authority, Chain, Leaf},
    soon,
    wire::{self, Body},
};

/// Who vouches for the gateway, and for its clients.
pub(crate) struct Pki {
    pub(crate) servers: Authority,
    pub(crate) clients: Authority,
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self { servers: Authority::root("Server CA"), clients: Authority::root("Client CA") }
    }

    /// A fresh certificate for the gateway.
    pub(crate) fn server(&self) -> Chain {
        self.servers.sign(Leaf::server(&["localhost", "127.0.0.1"]))
    }

    /// The files that `[server.tls]` names in these tests.
    pub(crate) fn files(&self, chain: &Chain) -> MemorySources {
        MemorySources::default()
            .with_file("/tls/server.pem", chain.pem())
            .with_file("/tls/key.pem", chain.key_pem())
            .with_file("/tls/clients.pem", self.clients.pem())
    }

    /// A gateway with a fresh certificate; `keys` go into its TLS table as well.
    pub(crate) fn serve(&self, spec: GatewaySpec, keys: &str) -> GatewaySpec {
        let chain = self.server();
        spec.file("/tls/server.pem", chain.pem())
            .file("/tls/key.pem", chain.key_pem())
            .file("/tls/clients.pem", self.clients.pem())
            .server(&format!("tls = {{ certificate = \"/tls/server.pem\", key = \"/tls/key.pem\"{keys} }}"))
    }

    pub(crate) fn client(&self) -> TlsClient {
        TlsClient::trusting(self.servers.certificate())
    }
}

/// One client with its own memory of TLS sessions.
#[derive(Clone)]
pub(crate) struct TlsClient {
    ca: CertificateDer<'static>,
    config: Arc<ClientConfig>,
}

impl TlsClient {
    fn trusting(ca: &CertificateDer<'static>) -> Self {
        Self { ca: ca.clone(), config: Arc::new(config(ca, rustls::ALL_VERSIONS, None)) }
    }

    /// With this certificate, and only this version of TLS.
    pub(crate) fn showing(&self, identity: &Chain, version: &'static SupportedProtocolVersion) -> Self {
        Self { ca: self.ca.clone(), config: Arc::new(config(&self.ca, &[version], Some(identity))) }
    }

    pub(crate) fn only(&self, version: &'static SupportedProtocolVersion) -> Self {
        Self { ca: self.ca.clone(), config: Arc::new(config(&self.ca, &[version], None)) }
    }

    /// Offers these protocols.
    pub(crate) fn alpn(&self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self { ca: self.ca.clone(), config: Arc::new(config) }
    }

    pub(crate) async fn handshake(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        soon("the handshake", TlsConnector::from(Arc::clone(&self.config)).connect(name, stream)).await
    }

    /// A connection that is ready for requests.
    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<Connection> {
        let stream = self.handshake(address).await?;
        let session = stream.get_ref().1;
        let (kind, served) = (session.handshake_kind(), session.peer_certificates().unwrap_or_default().first().cloned());
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let (sender, task) = if is_http2 {
            let (sender, connection) = conn::http2::Builder::new(TokioExecutor::new()).handshake(io).await.map_err(io::Error::other)?;
            (Sender::Http2(sender), tokio::spawn(async move { connection.await.is_ok() }))
        } else {
            let (sender, connection) = conn::http1::handshake(io).await.map_err(io::Error::other)?;
            (Sender::Http1(sender), tokio::spawn(async move { connection.await.is_ok() }))
        };
        Ok(Connection { kind, served, address, sender, task })
    }

    /// One request over a connection of its own.
    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> io::Result<Got> {
        self.connect(address).await?.get(path).await
    }
}

fn config(ca: &CertificateDer<'static>, versions: &[&'static SupportedProtocolVersion], identity: Option<&Chain>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        Some(chain) => builder.with_client_auth_cert(chain.certificates.clone(), chain.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

enum Sender {
    Http1(conn::http1::SendRequest<Body>),
    Http2(conn::http2::SendRequest<Body>),
}

/// An open connection; hung up when dropped.
pub(crate) struct Connection {
    pub(crate) kind: Option<HandshakeKind>,
    /// The gateway's certificate.
    pub(crate) served: Option<CertificateDer<'static>>,
    address: SocketAddr,
    sender: Sender,
    task: JoinHandle<bool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A response that came to its end.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

impl Connection {
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether another request may be sent.
    pub(crate) async fn is_open(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Got> {
        let request = Request::get(path).body(wire::full("")).unwrap();
        let (parts, body) = self.send(request).await?.into_parts();
        soon("the body", body.collect()).await.map_err(io::Error::other)?;
        Ok(Got { status: parts.status, headers: parts.headers })
    }

    /// Sends a request and waits for the beginning of its answer.
    pub(crate) async fn send(&mut self, mut request: Request<Body>) -> io::Result<http::Response<Incoming>> {
        let host = format!("localhost:{}", self.address.port());
        let sent = match &mut self.sender {
            Sender::Http1(sender) => {
                request.headers_mut().insert("host", host.parse().unwrap());
                soon("an answer", sender.send_request(request)).await
            }
            Sender::Http2(sender) => {
                *request.uri_mut() = format!("https://{host}{}", request.uri()).parse().unwrap();
                *request.version_mut() = http::Version::HTTP_2;
                soon("an answer", sender.send_request(request)).await
            }
        };
        sent.map_err(io::Error::other)
    }

    /// Waits until the gateway ends the connection.
    pub(crate) async fn ends(&mut self) {
        // How it ends is up to whoever ends it.
        let _ = soon("the end of the connection", &mut self.task).await;
    }
}
