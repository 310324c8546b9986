//! The certificates that a listener serves with, and how they are exchanged while it serves.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{handshakes::Handshakes, patience::Patient, refuse, told::Told};
use crate::{
    problem::Problem,
    sources::Sources,
    tls::{ClientName, ServerTls, ServerTlsSettings, handshake_refusal},
};

/// Longest handshake, from the accepted connection on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long open requests go on after new certificates were taken. New ones come over new connections at once.
const DRAIN: Duration = Duration::from_secs(600);

/// How long an idle HTTP/1.1 connection stays open after a swap: a request may be on its way to us, and is lost if the
/// connection is closed under it.
const LINGER: Duration = Duration::from_secs(2);

/// The first byte of every TLS connection: a record of type handshake (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// A connection after its handshake.
pub(super) type Secured = TlsStream<Patient<TcpStream>>;

/// TLS of one listener. Shared between the listener and whoever reloads or watches it.
#[derive(Debug)]
pub struct ListenerTls {
    served: ArcSwap<Served>,
    handshakes: Handshakes,
    /// Refused client certificates.
    told: Told,
    /// The host of `public_url`, and whether others reach the listener: for what is worth a warning.
    public_host: ArcSwapOption<String>,
    exposed: bool,
    drain: Duration,
}

/// What is served from one reading of the files to the next.
#[derive(Debug)]
pub(super) struct Served {
    settings: ServerTlsSettings,
    tls: Arc<ServerTls>,
    hsts: Option<HeaderValue>,
    replaced: CancellationToken,
}

/// What became of a reload that found nothing wrong.
#[derive(Debug)]
pub enum Swapped {
    /// Every file holds the same as before.
    Unchanged,
    /// New connections get the new certificate; old ones end with their requests. With what the operator should know.
    Changed(Vec<Problem>),
}

impl ListenerTls {
    /// Reads every file. `public_host` is what clients call the listener, `exposed` says whether others can reach it.
    ///
    /// # Errors
    /// The first file that cannot be used, with its key, line and remedy.
    pub fn load(
        settings: &ServerTlsSettings,
        public_host: Option<&str>,
        exposed: bool,
        sources: &dyn Sources,
        now: Duration,
    ) -> Result<Self, Box<Problem>> {
        let served = Served::new(settings.clone(), settings.load(sources, now)?);
        let public_host = ArcSwapOption::from_pointee(public_host.map(str::to_owned));
        Ok(Self {
            served: ArcSwap::from_pointee(served),
            handshakes: Handshakes::default(),
            told: Told::default(),
            public_host,
            exposed,
            drain: DRAIN,
        })
    }

    /// Gives open requests another time to end after a swap.
    #[must_use]
    pub fn with_drain(self, drain: Duration) -> Self {
        Self { drain, ..self }
    }

    /// Reads the files again, and serves with them if all are good. Blocks on files.
    ///
    /// # Errors
    /// The first file that cannot be used; everything stays as it was.
    pub fn reload(&self, sources: &dyn Sources, now: Duration) -> Result<Swapped, Box<Problem>> {
        let settings = self.served.load().settings.clone();
        self.replace(&settings, sources, now)
    }

    /// Reads the files of new settings, and serves with them if all are good. Blocks on files.
    ///
    /// # Errors
    /// The first file that cannot be used; everything stays as it was.
    pub fn replace(&self, settings: &ServerTlsSettings, sources: &dyn Sources, now: Duration) -> Result<Swapped, Box<Problem>> {
        let tls = self.prepare(settings, sources, now)?;
        Ok(self.swap(settings, tls))
    }

    /// Reads the files of new settings without serving with them yet, for a reload of several parts that all have to be
    /// good first. Blocks on files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn prepare(&self, settings: &ServerTlsSettings, sources: &dyn Sources, now: Duration) -> Result<ServerTls, Box<Problem>> {
        let tls = settings.load(sources, now)?;
        tls.may_follow(&self.current())?;
        Ok(tls)
    }

    /// Serves with what was prepared from `settings`.
    pub fn swap(&self, settings: &ServerTlsSettings, tls: ServerTls) -> Swapped {
        let old = self.served.load();
        if old.tls.is_same_as(&tls) && old.settings.demands_the_same_as(settings) {
            self.found_elsewhere(settings);
            return Swapped::Unchanged;
        }
        let old = self.served.swap(Arc::new(Served::new(settings.clone(), tls)));
        // After the swap, so that whoever comes back because of it meets the new one.
        old.replaced.cancel();
        Swapped::Changed(self.warnings())
    }

    /// The same settings stand at another place in the file: what is told of them names that one from now on.
    pub(super) fn found_elsewhere(&self, settings: &ServerTlsSettings) {
        let Served { tls, hsts, replaced, .. } = &**self.served.load();
        let (tls, hsts, replaced) = (Arc::clone(tls), hsts.clone(), replaced.clone());
        self.served.store(Arc::new(Served { settings: settings.clone(), tls, hsts, replaced }));
    }

    /// What the operator should know about the files, at every start and reload.
    pub fn warnings(&self) -> Vec<Problem> {
        let tls = self.current();
        let mut warnings = tls.warnings().to_vec();
        warnings.extend(self.check_name());
        warnings.extend(self.exposed.then(|| tls.check_exposed()).flatten());
        warnings
    }

    /// Takes what clients call the listener from now on, and says what the certificate lacks for it; `None`: nothing, or
    /// it is called as before.
    pub fn now_called(&self, host: Option<&str>) -> Option<Problem> {
        let host = host.map(|host| Arc::new(host.to_owned()));
        let before = self.public_host.swap(host.clone());
        (before != host).then(|| self.check_name()).flatten()
    }

    fn check_name(&self) -> Option<Problem> {
        self.current().check_name(self.public_host.load().as_deref()?)
    }

    /// What is served now: its certificates, for whoever watches or shows them, and the policy in words.
    pub fn current(&self) -> Arc<ServerTls> {
        Arc::clone(&self.served.load().tls)
    }

    /// The settings in use, with the files to watch.
    pub fn settings(&self) -> ServerTlsSettings {
        self.served.load().settings.clone()
    }

    pub(super) fn handshakes(&self) -> &Handshakes {
        &self.handshakes
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    pub(super) fn drain(&self) -> Duration {
        self.drain
    }

    /// The whole handshake, within its time. Not cancel-safe: a dropped one ends the connection.
    pub(super) async fn arrive(&self, stream: TcpStream, unread: Duration) -> Result<Arrival, Refused> {
        timeout(HANDSHAKE_TIMEOUT, self.shake_hands(stream, unread)).await.unwrap_or(Err(Refused::TooSlow))
    }

    async fn shake_hands(&self, stream: TcpStream, unread: Duration) -> Result<Arrival, Refused> {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(0) => return Err(Refused::Closed),
            Ok(_) => {}
            Err(error) => return Err(Refused::Handshake(error)),
        }
        // Every HTTP method is a word in capitals.
        if first[0] != HANDSHAKE_RECORD && first[0].is_ascii_uppercase() {
            return Err(Refused::PlainHttp(stream));
        }
        let served = self.served.load_full();
        let stream = TlsAcceptor::from(served.tls.config()).accept(Patient::new(stream, unread)).await.map_err(Refused::Handshake)?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = leaf.and_then(ClientName::read).map(Arc::new);
        Ok(Arrival { stream, protocol, served, certificate })
    }
}

impl Served {
    fn new(settings: ServerTlsSettings, tls: ServerTls) -> Self {
        let hsts = tls.hsts().and_then(|span| HeaderValue::try_from(format!("max-age={}", span.as_secs())).ok());
        Self { settings, tls: Arc::new(tls), hsts, replaced: CancellationToken::new() }
    }

    pub(super) fn hsts(&self) -> Option<HeaderValue> {
        self.hsts.clone()
    }

    /// A client that showed a certificate may not be let in any more, and gets no such time.
    pub(super) fn linger(&self) -> Duration {
        if self.settings.clients.is_some() { Duration::ZERO } else { LINGER }
    }

    /// Cancelled when others are served.
    pub(super) fn replaced(&self) -> CancellationToken {
        self.replaced.clone()
    }
}

/// A connection that may be served.
pub(super) struct Arrival {
    pub(super) stream: Secured,
    pub(super) protocol: Protocol,
    pub(super) served: Arc<Served>,
    /// Verified in the handshake.
    pub(super) certificate: Option<Arc<ClientName>>,
}

/// What client and listener agreed on (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Why a connection is not served.
#[derive(Debug)]
pub(super) enum Refused {
    PlainHttp(TcpStream),
    Handshake(io::Error),
    Closed,
    TooSlow,
}

impl Refused {
    /// Tells whoever can be told: the client, or, of its certificate, the operator.
    pub(super) async fn tell(self, peer: SocketAddr, told: &Told) {
        match self {
            Self::PlainHttp(stream) => {
                tracing::debug!("a plain HTTP request came to an HTTPS port");
                refuse::plain_http(stream).await;
            }
            Self::Handshake(error) => match handshake_refusal(&error) {
                Some(words) => match told.next() {
                    Some(0) => tracing::info!(%peer, "a client was refused: {words}"),
                    Some(others) => tracing::info!(%peer, others, "a client was refused: {words}; others before it were not told"),
                    None => tracing::debug!(%peer, "a client was refused: {words}"),
                },
                None => tracing::debug!(%peer, %error, "a handshake failed"),
            },
            Self::Closed => tracing::debug!("a client connected and left"),
            Self::TooSlow => tracing::debug!("a handshake took too long"),
        }
    }
}
