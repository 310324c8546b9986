//! Sessions that are resumed without another look at the server's certificate, and therefore not for long.

use std::{sync::Arc, time::Duration};

use rustls::{
    NamedGroup,
    client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
};

use super::Observed;
use crate::clock::Clock;

/// Sessions that one configuration remembers; it talks to one server, so a few are plenty.
const SESSIONS: usize = 64;

/// Longest time from a verification to the last resumption that relies on it. Every resumption brings new tickets, so that
/// without a limit a certificate would be believed for as long as somebody calls.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// Gives no session back after the time until which the last verification counts.
#[derive(Debug)]
pub(super) struct Lapsing {
    sessions: ClientSessionMemoryCache,
    observed: Arc<Observed>,
    clock: Arc<dyn Clock>,
}

impl Lapsing {
    pub(super) fn new(observed: Arc<Observed>, clock: Arc<dyn Clock>) -> Self {
        Self { sessions: ClientSessionMemoryCache::new(SESSIONS), observed, clock }
    }

    fn may_resume(&self) -> bool {
        self.clock.now() < self.observed.verified_until()
    }
}

impl ClientSessionStore for Lapsing {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.sessions.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.sessions.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.sessions.tls12_session(server_name).filter(|_| self.may_resume())
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.sessions.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.sessions.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.sessions.take_tls13_ticket(server_name).filter(|_| self.may_resume())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustls::{
        ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion,
        client::Resumption,
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
        time_provider::TimeProvider,
        version::{TLS12, TLS13},
    };

    use super::*;
    use crate::{
        sources::MemorySources,
        tls::{SystemCas, TlsSettings, dev, policy},
    };

    const MINTED: Duration = Duration::from_secs(1_800_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const LIFETIME: Duration = Duration::from_secs(90 * 86_400);

    #[derive(Debug, Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    impl TimeProvider for Hand {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(self.now()))
        }
    }

    struct Pair {
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
        clock: Arc<Hand>,
    }

    impl Pair {
        fn new(version: &'static SupportedProtocolVersion, now: Duration) -> Self {
            let minted = dev::mint(&[], MINTED).unwrap();
            let clock = Arc::new(Hand::default());
            let settings = TlsSettings { root_ca_cert_path: Some("ca.pem".into()), ..TlsSettings::default() };
            let sources = MemorySources::default().with_file("ca.pem", minted.ca);
            let nobody = || Arc::new(SystemCas::new([], Vec::new(), "nowhere"));
            let (mut client, observed) = settings.load("localhost", &sources, &nobody, now).unwrap().client_config().unwrap();
            client.time_provider = Arc::<Hand>::clone(&clock);
            client.resumption = Resumption::store(Arc::new(Lapsing::new(observed, Arc::<Hand>::clone(&clock))));
            let certificate = CertificateDer::from_pem_slice(minted.server.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(minted.server.key.expose().as_bytes()).unwrap();
            let server = ServerConfig::builder_with_provider(policy::provider()).with_protocol_versions(&[version]).unwrap();
            let mut server = server.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
            server.time_provider = Arc::<Hand>::clone(&clock);
            Self { client: Arc::new(client), server: Arc::new(server), clock }
        }

        /// Shakes hands at a time.
        fn at(&self, now: Duration) -> Result<HandshakeKind, rustls::Error> {
            self.clock.0.store(now.as_secs(), Ordering::Relaxed);
            let mut client = ClientConnection::new(Arc::clone(&self.client), "localhost".try_into().unwrap()).unwrap();
            let mut server = ServerConnection::new(Arc::clone(&self.server)).unwrap();
            while client.wants_write() || server.wants_write() {
                let (mut up, mut down) = (Vec::new(), Vec::new());
                while client.wants_write() {
                    client.write_tls(&mut up).unwrap();
                }
                let mut up = up.as_slice();
                while !up.is_empty() {
                    server.read_tls(&mut up).unwrap();
                    // An alert of the client is no failure of the test.
                    let _ = server.process_new_packets();
                }
                while server.wants_write() {
                    server.write_tls(&mut down).unwrap();
                }
                let mut down = down.as_slice();
                while !down.is_empty() {
                    client.read_tls(&mut down).unwrap();
                    client.process_new_packets()?;
                }
            }
            Ok(client.handshake_kind().unwrap())
        }
    }

    #[test]
    fn a_certificate_is_looked_at_again_at_least_every_hour() {
        for version in [&TLS12, &TLS13] {
            let pair = Pair::new(version, MINTED);
            let kinds = [0, 40, 59, 61, 62].map(|minutes| pair.at(MINTED + minutes * MINUTE).unwrap());
            use HandshakeKind::{Full, Resumed};
            assert_eq!(kinds, [Full, Resumed, Resumed, Full, Resumed], "{version:?}");
        }
    }

    #[test]
    fn no_session_outlives_the_certificate() {
        for version in [&TLS12, &TLS13] {
            let end = MINTED + LIFETIME;
            let pair = Pair::new(version, end - 30 * MINUTE);
            assert_eq!(pair.at(end - 30 * MINUTE).unwrap(), HandshakeKind::Full);
            assert_eq!(pair.at(end - MINUTE).unwrap(), HandshakeKind::Resumed);
            assert!(pair.at(end + MINUTE).is_err(), "{version:?}: the certificate has expired");
        }
    }
}
