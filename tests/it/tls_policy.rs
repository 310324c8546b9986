//! Handshakes with real servers under every policy.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod archives;
mod excuse;
mod failures;
mod files;
mod hostile;
mod identity;
mod keys;
mod matrix;
mod names;
mod pins;
mod probing;
mod revocation;
mod rows;
mod separation;
mod table;
mod text;
pub(crate) mod way;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use nexus::{
    clock::{Clock as _, SystemClock},
    outbound::{HttpClient, SendError},
    reason::{Explanation, Reason},
    sources::MemorySources,
    tls::{ClientIdentityFiles, SystemCas, TlsPolicy, TlsSettings},
};
use url::Url;

use crate::support::{
    pki::{Authority, Chain},
    tls_peer::Peer,
};

/// Enough for a busy machine; no test waits for it but the one with a silent server.
const CONNECT: Duration = Duration::from_secs(10);

/// One upstream's files and settings in the making.
#[derive(Default)]
struct Upstream {
    settings: TlsSettings,
    files: MemorySources,
    system: Vec<rustls::pki_types::CertificateDer<'static>>,
}

impl Upstream {
    fn trusting(ca: &Authority) -> Self {
        Self::default().root_ca(ca.pem())
    }

    fn unverified() -> Self {
        Self::default().set(|s| s.verify_certs = false)
    }

    fn root_ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings.root_ca_cert_path = Some("ca.pem".into());
        self.files = self.files.with_file("ca.pem", pem);
        self
    }

    fn system_ca(mut self, ca: &Authority) -> Self {
        self.system.push(ca.certificate().clone());
        self
    }

    fn server_name(self, name: &str) -> Self {
        self.set(|s| s.server_name = Some(name.to_owned()))
    }

    fn identity(mut self, client: &Chain) -> Self {
        self.settings.client_identity = Some(ClientIdentityFiles { cert_path: "client.pem".into(), key_path: "client.key".into() });
        self.files = self.files.with_file("client.pem", client.pem()).with_file("client.key", client.key_pem());
        self
    }

    fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files = self.files.with_file(path, bytes);
        self
    }

    fn set(mut self, change: impl FnOnce(&mut TlsSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    fn load(&self, host: &str) -> Result<TlsPolicy, Explanation> {
        self.load_at(host, SystemClock.now())
    }

    fn load_at(&self, host: &str, now: Duration) -> Result<TlsPolicy, Explanation> {
        let system = || Arc::new(SystemCas::new(self.system.clone(), Vec::new(), "the test's store"));
        self.settings.load(host, &self.files, &system, now)
    }

    /// A client for `https://{host}:{port of the peer}/mcp`.
    fn client(&self, host: &str, peer: &Peer) -> HttpClient {
        let url = Url::parse(&format!("https://{host}:{}/mcp", peer.address.port())).unwrap();
        HttpClient::new(&url, Some(&self.load(host).unwrap()), CONNECT).unwrap()
    }

    async fn reason(&self, host: &str, peer: &Peer) -> Option<Reason> {
        get(&self.client(host, peer)).await.err().map(|e| e.explanation.reason)
    }
}

async fn get(client: &HttpClient) -> Result<(http::StatusCode, Bytes), SendError> {
    let request = Request::builder().method(Method::GET).body(Bytes::new()).unwrap();
    let response = client.send(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// The explanation of a request that must fail.
async fn refusal(client: &HttpClient) -> SendError {
    get(client).await.expect_err("this server must not be believed")
}
