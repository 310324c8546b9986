//! The core of [x509-limbo](https://x509-limbo.com) through our own policies.
//!
//! `tests/data/limbo-core.json.gz` holds the cases, `tests/data/limbo-allowlist.txt` the verdicts in which the
//! verification differs from the suite: `A` accepts what the suite rejects, `R` rejects what it accepts, `S` does not apply.

#![allow(clippy::unwrap_used, reason = "a case that cannot be read has failed its test")]

use std::{
    collections::BTreeMap,
    io::Read as _,
    sync::Arc,
    time::{Duration, Instant},
};

use nexus::{
    config,
    finding::Severity,
    reason::{Explanation, Reason},
    sources::MemorySources,
    tls::{CrlExpired, CrlScope, ServerTls, SystemCas, TlsPolicy, TlsSettings},
};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime, pem::PemObject as _},
};
use serde_json::Value;

use crate::support::pki::{Authority, Chain, Leaf};

/// Longest look at any chain. Without optimisation, on a machine that is busy with other tests, everything takes far longer.
const LONGEST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 1 });

/// What our rule for a leaf that is itself in the trust file accepts beyond the list.
const TRUSTED_THEMSELVES: [&str; 1] = ["rfc5280::serial::negative"];

/// What the list says is accepted, and we refuse as the suite does: only the certificate of a CA is an anchor for others.
const NO_ANCHORS: [&str; 1] = ["rfc5280::root-missing-basic-constraints"];

struct Case {
    id: String,
    is_for_servers: bool,
    is_good: bool,
    /// In PEM, as they are in an operator's file.
    trusted: String,
    crls: String,
    /// Leaf first.
    chain: Vec<CertificateDer<'static>>,
    name: Option<String>,
    time: Duration,
}

fn cases() -> Vec<Case> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&include_bytes!("../data/limbo-core.json.gz")[..]).read_to_string(&mut text).unwrap();
    let suite: Value = serde_json::from_str(&text).unwrap();
    let cases: Vec<_> = suite["testcases"].as_array().unwrap().iter().map(case).collect();
    assert_eq!(cases.len(), 208);
    cases
}

fn case(case: &Value) -> Case {
    let pems = |key: &str| case[key].as_array().unwrap().iter().map(|pem| pem.as_str().unwrap()).collect::<Vec<_>>();
    let peer = case["peer_certificate"].as_str().unwrap();
    let chain = std::iter::once(peer).chain(pems("untrusted_intermediates"));
    // Cases without a time are good or bad at any time of their certificates' lives.
    let time = case["validation_time"].as_str().unwrap_or("2026-08-01T00:00:00+00:00");
    let time = time::OffsetDateTime::parse(time, &time::format_description::well_known::Rfc3339).unwrap().unix_timestamp();
    Case {
        id: case["id"].as_str().unwrap().to_owned(),
        is_for_servers: case["validation_kind"] == "SERVER",
        is_good: case["expected_result"] == "SUCCESS",
        trusted: pems("trusted_certs").join("\n"),
        crls: pems("crls").join("\n"),
        chain: chain.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect(),
        name: case["expected_peer_name"]["value"].as_str().map(str::to_owned),
        time: Duration::from_secs(u64::try_from(time).unwrap()),
    }
}

/// By id, the letter of the list.
fn differences() -> BTreeMap<String, char> {
    let lines = include_str!("../data/limbo-allowlist.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| (line[2..].trim().to_owned(), line.chars().next().unwrap())).collect()
}

fn nobody() -> Arc<SystemCas> {
    panic!("every case brings its own trust")
}

impl Case {
    fn policy(&self, change: impl FnOnce(&mut TlsSettings)) -> Result<TlsPolicy, Explanation> {
        let mut settings = TlsSettings { root_ca_cert_path: Some("roots.pem".into()), ..TlsSettings::default() };
        if !self.crls.is_empty() {
            settings.revocation.crl_paths = vec!["lists.pem".into()];
            settings.revocation.scope = CrlScope::Chain;
            settings.revocation.expired = CrlExpired::Deny;
        }
        change(&mut settings);
        let files = MemorySources::default().with_file("roots.pem", self.trusted.clone()).with_file("lists.pem", self.crls.clone());
        settings.load(self.name.as_deref().unwrap_or("no-name.test"), &files, &nobody, self.time)
    }

    /// Our verdict on a server.
    fn verdict(&self, change: impl FnOnce(&mut TlsSettings)) -> Result<(), Explanation> {
        self.policy(change)?.verify_chain(&self.chain, self.time)
    }

    /// A listener that wants client certificates of this case's CAs.
    fn listener(&self, own: &Chain, demand: &str) -> ServerTls {
        let lists = if self.crls.is_empty() { "" } else { "client_crl_paths = [\"/lists.pem\"]" };
        let files = MemorySources::default()
            .with_file("/roots.pem", self.trusted.clone())
            .with_file("/lists.pem", self.crls.clone())
            .with_file("/server.pem", own.pem())
            .with_file("/key.pem", own.key_pem());
        let table = "[server.tls]\ncertificate = \"/server.pem\"\nkey = \"/key.pem\"\nclient_ca = \"/roots.pem\"";
        let text = format!("{table}\nclient_auth = \"{demand}\"\n{lists}\n");
        let loaded = config::load_text(&text, "/etc/nexus.toml".as_ref(), None, &files);
        let settings = loaded.config.unwrap().server.tls.unwrap();
        // At a time at which the listener's own certificate is good, whatever the case is about.
        settings.load(&files, Duration::from_secs(1_785_000_000)).unwrap()
    }

    /// Plain webpki's verdict on a server.
    fn plain(&self) -> bool {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(self.trusted.as_bytes()).map(Result::unwrap));
        let lists = CertificateRevocationListDer::pem_slice_iter(self.crls.as_bytes()).map(Result::unwrap);
        let (leaf, intermediates) = self.chain.split_first().unwrap();
        let now = UnixTime::since_unix_epoch(self.time);
        let builder = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        let Ok(verifier) = builder.with_crls(lists).enforce_revocation_expiration().build() else { return false };
        let Some(Ok(name)) = self.name.as_deref().map(ServerName::try_from) else { return false };
        verifier.verify_server_cert(leaf, intermediates, &name, &[], now).is_ok()
    }

    fn is_trusted_itself(&self) -> bool {
        CertificateDer::pem_slice_iter(self.trusted.as_bytes()).any(|trusted| trusted.unwrap() == self.chain[0])
    }
}

#[test]
fn every_verdict_is_the_suites_or_on_the_list() {
    let differences = differences();
    let own = listeners_own();
    let mut unexpected = Vec::new();
    for case in cases() {
        let started = Instant::now();
        let (accepted, why) = match case.is_for_servers {
            true => match case.verdict(|_| {}) {
                Ok(()) => (true, String::new()),
                Err(why) => (false, why.to_string()),
            },
            false => match case.listener(&own, "required").verify_client(&case.chain, case.time) {
                Ok(()) => (true, String::new()),
                Err(why) => (false, why.to_string()),
            },
        };
        assert!(started.elapsed() < LONGEST, "{} took {:?}", case.id, started.elapsed());
        let expected = match differences.get(&case.id) {
            Some('S') => continue,
            Some('A') if NO_ANCHORS.contains(&case.id.as_str()) => false,
            Some(_) => !case.is_good,
            None if TRUSTED_THEMSELVES.contains(&case.id.as_str()) => case.is_trusted_itself(),
            None => case.is_good,
        };
        if accepted != expected {
            unexpected.push(format!("{}: {} {why}", case.id, if accepted { "accepted" } else { "rejected" }));
        }
    }
    assert!(unexpected.is_empty(), "{} verdicts differ:\n{}", unexpected.len(), unexpected.join("\n"));
}

fn listeners_own() -> Chain {
    Authority::root("Company CA").sign(Leaf::server(&["localhost"]))
}

#[test]
fn a_listener_that_can_do_without_client_certificates_judges_those_that_are_shown_all_the_same() {
    let own = listeners_own();
    let clients: Vec<_> = cases().into_iter().filter(|case| !case.is_for_servers).collect();
    assert_eq!(clients.len(), 10);
    for case in clients {
        let [required, optional] =
            ["required", "optional"].map(|demand| case.listener(&own, demand).verify_client(&case.chain, case.time).is_ok());
        assert_eq!(required, optional, "{}", case.id);
    }
}

/// Anybody may send such a chain to a listener, before it is known who they are.
#[test]
fn no_chain_keeps_a_listener_busy_whatever_it_was_made_for() {
    let own = listeners_own();
    for case in cases() {
        // What is no trust file at all ends the start instead.
        if CertificateDer::pem_slice_iter(case.trusted.as_bytes()).any(|anchor| webpki::anchor_from_trusted_cert(&anchor.unwrap()).is_err())
        {
            continue;
        }
        let listener = Case { crls: String::new(), ..case };
        let (chain, time, id) = (&listener.chain, listener.time, &listener.id);
        let listener = listener.listener(&own, "required");
        let started = Instant::now();
        // Most were made for servers, so that the verdict says nothing here.
        let _ = listener.verify_client(chain, time);
        assert!(started.elapsed() < LONGEST, "{id} took {:?}", started.elapsed());
    }
}

#[test]
fn skipping_the_name_forgives_a_wrong_name_and_nothing_else() {
    for case in cases().iter().filter(|case| case.is_for_servers) {
        let strict = case.verdict(|_| {});
        let forgiven = match &strict {
            Ok(()) => true,
            Err(why) => matches!(why.reason, Reason::TlsHostnameMismatch | Reason::TlsCnOnly),
        };
        let skipped = case.verdict(|settings| settings.accept_invalid_hostnames = true);
        assert_eq!(skipped.is_ok(), forgiven, "{}: {strict:?}, then {skipped:?}", case.id);
    }
}

#[test]
fn a_leaf_that_is_trusted_itself_is_the_only_one_that_plain_verification_refuses_and_we_accept() {
    for case in cases().iter().filter(|case| case.is_for_servers && case.name.is_some()) {
        let (ours, plain) = (case.verdict(|_| {}).is_ok(), case.plain());
        assert!(!ours || plain || case.is_trusted_itself(), "{} is accepted", case.id);
    }
}

#[test]
fn an_excuse_for_expired_certificates_rescues_no_case_that_is_bad_for_another_reason() {
    for case in cases().iter().filter(|case| case.is_for_servers) {
        let strict = case.verdict(|_| {});
        let excused = case.verdict(|settings| settings.accept_expired_until = Some(case.time + Duration::from_secs(86_400)));
        let is_expired = matches!(&strict, Err(why) if matches!(why.reason, Reason::TlsExpired | Reason::TlsIntermediateExpired | Reason::TlsNotYetValid));
        assert!(excused.is_ok() == strict.is_ok() || is_expired, "{}: {strict:?}, then {excused:?}", case.id);
    }
}

#[test]
fn every_rejected_chain_has_a_finding_and_no_accepted_one_has_an_error() {
    for case in cases().iter().filter(|case| case.is_for_servers) {
        let Ok(policy) = case.policy(|_| {}) else { continue };
        let started = Instant::now();
        let report = policy.check_chain(&case.chain, &|| Arc::new(SystemCas::new([], Vec::new(), "nowhere")), case.time);
        assert!(started.elapsed() < LONGEST, "{} took {:?}", case.id, started.elapsed());
        let errors: Vec<_> = report.findings.iter().filter(|finding| finding.severity >= Severity::Error).collect();
        match policy.verify_chain(&case.chain, case.time) {
            Ok(()) => assert!(errors.is_empty(), "{} is accepted, but {errors:?}", case.id),
            Err(why) => assert!(!errors.is_empty(), "{} is rejected ({why}) without a finding", case.id),
        }
    }
}
