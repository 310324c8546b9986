//! Chains that were made to do harm by what they are, and not by what they claim.

use std::time::{Duration, Instant};

use nexus::{
    config,
    reason::Reason,
    sources::MemorySources,
    tls::{ServerTls, SystemCas},
};
use rustls::pki_types::CertificateDer;

use super::Upstream;
use crate::support::pki::{Authority, Chain, Leaf};

/// Far more than is needed on a busy machine, and far less than a search through all combinations takes.
const AT_ONCE: Duration = Duration::from_secs(2);

const NOW: Duration = Duration::from_secs(1_800_000_000);

/// CAs that could all have issued each other, going by their names.
struct Maze {
    cas: Vec<Authority>,
}

impl Maze {
    fn of(cas: usize) -> Self {
        Self { cas: (0..cas).map(|_| Authority::root("Maze")).collect() }
    }

    fn issues(&self, leaf: Leaf) -> Vec<CertificateDer<'static>> {
        let mut chain = self.cas.first().unwrap().sign(leaf).certificates;
        chain.extend(self.cas.iter().map(|ca| ca.certificate().clone()));
        chain
    }
}

fn listener(own: &Chain, clients: &Authority) -> ServerTls {
    let files = MemorySources::default()
        .with_file("/clients.pem", clients.pem())
        .with_file("/server.pem", own.pem())
        .with_file("/key.pem", own.key_pem());
    let text = "[server.tls]\ncertificate = \"/server.pem\"\nkey = \"/key.pem\"\nclient_ca = \"/clients.pem\"\n";
    let loaded = config::load_text(text, "/etc/nexus.toml".as_ref(), None, &files);
    loaded.config.unwrap().server.tls.unwrap().load(&files, NOW).unwrap()
}

fn nobody() -> std::sync::Arc<SystemCas> {
    std::sync::Arc::new(SystemCas::new([], Vec::new(), "the test's store"))
}

#[test]
fn a_server_cannot_keep_the_verification_busy_with_a_maze_of_cas() {
    let policy = Upstream::trusting(&Authority::root("Company CA")).load("localhost").unwrap();
    for cas in [10, 60] {
        let chain = Maze::of(cas).issues(Leaf::server(&["localhost"]));
        let started = Instant::now();
        let refused = policy.verify_chain(&chain, NOW).unwrap_err();
        assert!(started.elapsed() < AT_ONCE, "{cas} CAs took {:?}", started.elapsed());
        assert_eq!(refused.reason, Reason::TlsUnknownCa);
        assert!(refused.detail.contains("too many ways"), "{refused}");
        let started = Instant::now();
        let report = policy.check_chain(&chain, &nobody, NOW);
        assert!(started.elapsed() < AT_ONCE, "{cas} CAs took the diagnosis {:?}", started.elapsed());
        assert_eq!(report.cause().map(|cause| cause.reason), Some(Reason::TlsUnknownCa), "{report:?}");
    }
}

#[test]
fn nobody_can_keep_a_listener_busy_with_a_maze_of_cas() {
    let company = Authority::root("Company CA");
    let listener = listener(&company.sign(Leaf::server(&["localhost"])), &company);
    for cas in [10, 60] {
        let chain = Maze::of(cas).issues(Leaf::client("nexus"));
        let started = Instant::now();
        assert!(listener.verify_client(&chain, NOW).is_err());
        assert!(started.elapsed() < AT_ONCE, "{cas} CAs took {:?}", started.elapsed());
    }
}

/// A CA that was re-keyed, and a server that sends all of it, some of it twice.
#[test]
fn a_few_cas_of_one_name_are_tried_one_after_the_other() {
    let company = Authority::root("Company CA");
    let issuing: Vec<_> = (0..8).map(|_| company.intermediate("Company Issuing")).collect();
    let last = issuing.last().unwrap();
    let mut server = last.sign(Leaf::server(&["localhost"])).leaf_only().certificates;
    let mut client = last.sign(Leaf::client("nexus")).leaf_only().certificates;
    for chain in [&mut server, &mut client] {
        for _ in 0..10 {
            chain.extend(issuing.iter().map(|ca| ca.certificate().clone()));
            chain.push(company.certificate().clone());
        }
    }
    let policy = Upstream::trusting(&company).load("localhost").unwrap();
    policy.verify_chain(&server, NOW).unwrap();
    listener(&company.sign(Leaf::server(&["localhost"])), &company).verify_client(&client, NOW).unwrap();
}
