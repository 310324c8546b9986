//! Names other than the host's, and intermediates that the server forgets.

use nexus::{reason::Reason, tls::ExpectedSan};

use super::{Upstream, refusal};
use crate::support::{
    pki::{Authority, Leaf, pem},
    tls_peer::{Peer, server_config},
};

const SPIFFE: &str = "uri:spiffe://corp.test/ns/crm";

fn expecting(upstream: Upstream, names: &[&str]) -> Upstream {
    let names: Vec<_> = names.iter().map(|name| ExpectedSan::parse(name).unwrap()).collect();
    upstream.set(|s| s.expected_sans = names)
}

#[tokio::test]
async fn an_expected_name_replaces_the_hosts_name() {
    let company = Authority::root("Company CA");
    let spiffe = company.sign(Leaf::server(&[]).uri("spiffe://corp.test/ns/crm"));
    let wildcard = company.sign(Leaf::server(&["*.corp.test"]));
    let host = company.sign(Leaf::server(&["localhost"]));
    for (chain, expected, outcome) in [
        (&spiffe, &[SPIFFE][..], None),
        (&spiffe, &["dns:crm.corp.test", SPIFFE], None),
        (&spiffe, &["uri:spiffe://corp.test/ns/CRM"], Some(Reason::TlsHostnameMismatch)),
        (&spiffe, &["uri:spiffe://corp.test/ns/crm/"], Some(Reason::TlsHostnameMismatch)),
        (&wildcard, &["dns:crm.corp.test"], None),
        (&wildcard, &["dns:a.crm.corp.test"], Some(Reason::TlsHostnameMismatch)),
        (&host, &["dns:crm.corp.test"], Some(Reason::TlsHostnameMismatch)),
    ] {
        let peer = Peer::tls(server_config(chain)).await;
        let upstream = expecting(Upstream::trusting(&company), expected);
        assert_eq!(upstream.reason("localhost", &peer).await, outcome, "{expected:?}");
    }
}

#[tokio::test]
async fn an_expected_name_excuses_nothing_else() {
    let company = Authority::root("Company CA");
    let name = "spiffe://corp.test/ns/crm";
    for (chain, reason) in [
        (Authority::root("Stranger CA").sign(Leaf::server(&[]).uri(name)), Reason::TlsUnknownCa),
        (company.sign(Leaf::server(&[]).uri(name).expired()), Reason::TlsExpired),
        (company.sign(Leaf::client("crm").uri(name)), Reason::TlsWrongUsage),
    ] {
        let peer = Peer::tls(server_config(&chain)).await;
        assert_eq!(expecting(Upstream::trusting(&company), &[SPIFFE]).reason("localhost", &peer).await, Some(reason));
    }
}

#[tokio::test]
async fn the_names_that_were_wanted_are_told() {
    let company = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&["localhost"])))).await;
    let upstream = expecting(Upstream::trusting(&company), &[SPIFFE, "dns:crm.corp"]);
    let refused = refusal(&upstream.client("localhost", &peer)).await.explanation;
    assert!(refused.detail.contains("is for localhost, not for uri:spiffe://corp.test/ns/crm or dns:crm.corp"), "{refused}");
    assert!(refused.remedy.contains("expected_sans"), "{}", refused.remedy);
    assert_eq!(upstream.load("localhost").unwrap().words(), "private CA (ca.pem), expects uri:spiffe://corp.test/ns/crm or dns:crm.corp");
}

#[test]
fn expected_names_need_a_ca_that_vouches_for_them() {
    let company = Authority::root("Company CA");
    for (row, upstream) in [
        ("system CAs", Upstream::default().system_ca(&company)),
        ("system CAs beside the file", Upstream::trusting(&company).system_ca(&company).set(|s| s.include_system_cas = true)),
        ("any name", Upstream::trusting(&company).set(|s| s.accept_invalid_hostnames = true)),
        ("no verification", Upstream::unverified()),
    ] {
        assert_eq!(expecting(upstream, &[SPIFFE]).load("localhost").err().map(|e| e.reason), Some(Reason::LocalInvalid), "{row}");
    }
}

fn helped(upstream: Upstream, intermediates: impl Into<Vec<u8>>) -> Upstream {
    upstream.file("between.pem", intermediates).set(|s| s.intermediates_path = Some("between.pem".into()))
}

#[tokio::test]
async fn an_intermediate_that_the_server_forgets_completes_its_chain() {
    let company = Authority::root("Company CA");
    let issuing = company.intermediate("Company Issuing CA");
    let peer = Peer::tls(server_config(&issuing.sign(Leaf::server(&["localhost"])).leaf_only())).await;
    assert!(Upstream::trusting(&company).reason("localhost", &peer).await.is_some());
    let helped = helped(Upstream::trusting(&company), issuing.pem());
    assert_eq!(helped.reason("localhost", &peer).await, None);
    assert_eq!(helped.server_name("other.test").reason("localhost", &peer).await, Some(Reason::TlsHostnameMismatch));
}

#[tokio::test]
async fn an_intermediate_of_ours_is_trusted_by_nobody() {
    let (company, strangers) = (Authority::root("Company CA"), Authority::root("Stranger CA"));
    let issuing = strangers.intermediate("Stranger Issuing CA");
    let peer = Peer::tls(server_config(&issuing.sign(Leaf::server(&["localhost"])))).await;
    let with_root = helped(Upstream::trusting(&company), issuing.pem() + &strangers.pem());
    assert!(with_root.reason("localhost", &peer).await.is_some());
    let warnings = with_root.load("localhost").unwrap().warnings().join("\n");
    assert!(warnings.contains("nothing here is trusted by itself"), "{warnings}");
}

#[test]
fn bad_intermediates_keep_the_upstream_down() {
    let company = Authority::root("Company CA");
    for (row, bytes) in
        [("empty", String::new()), ("a bad block", company.pem() + &pem("CERTIFICATE", b"x")), ("too many", company.pem().repeat(21))]
    {
        let refused = helped(Upstream::trusting(&company), bytes).load("localhost").unwrap_err();
        assert_eq!(refused.reason, Reason::LocalInvalid, "{row}");
        assert!(refused.detail.starts_with("intermediates_path between.pem"), "{refused}");
    }
    let ignored = helped(Upstream::unverified(), company.pem()).load("localhost").unwrap_err();
    assert!(ignored.detail.contains("ignores intermediates_path"), "{ignored}");
}
