//! Revocation lists.

use nexus::{
    reason::Reason,
    tls::{CrlExpired, CrlMissing, CrlScope},
};

use super::{Upstream, refusal};
use crate::support::{
    pki::{Authority, Leaf, pem},
    tls_peer::{Peer, server_config},
};

pub(super) fn listed(upstream: Upstream, lists: &[Vec<u8>]) -> Upstream {
    let upstream = upstream.set(|s| s.revocation.crl_paths = (0..lists.len()).map(|n| format!("{n}.crl").into()).collect());
    lists.iter().enumerate().fold(upstream, |upstream, (n, list)| upstream.file(&format!("{n}.crl"), list.clone()))
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_neighbour_accepted() {
    let company = Authority::root("Company CA");
    let (revoked, good) = (company.sign(Leaf::server(&["localhost"])), company.sign(Leaf::server(&["localhost"])));
    let list = company.crl(&[&revoked], 2090);
    for list in [list.clone(), pem("X509 CRL", &list).into_bytes()] {
        let upstream = listed(Upstream::trusting(&company), &[list]);
        assert_eq!(upstream.reason("localhost", &Peer::tls(server_config(&revoked)).await).await, Some(Reason::TlsRevoked));
        assert_eq!(upstream.reason("localhost", &Peer::tls(server_config(&good)).await).await, None);
    }
}

#[tokio::test]
async fn neither_any_name_nor_a_pin_excuses_a_revoked_certificate() {
    let company = Authority::root("Company CA");
    let revoked = company.sign(Leaf::server(&["other.test"]));
    let peer = Peer::tls(server_config(&revoked)).await;
    let pin = nexus::tls::SpkiPin::of(revoked.certificates.first().unwrap()).unwrap();
    let upstream = listed(Upstream::trusting(&company), &[company.crl(&[&revoked], 2090)])
        .set(|s| (s.accept_invalid_hostnames, s.spki_pins) = (true, vec![pin]));
    assert_eq!(upstream.reason("localhost", &peer).await, Some(Reason::TlsRevoked));
}

#[tokio::test]
async fn the_list_of_the_leafs_ca_is_enough_unless_the_whole_chain_is_to_be_checked() {
    let company = Authority::root("Company CA");
    let issuing = company.intermediate("Company Issuing CA");
    let chain = issuing.sign(Leaf::server(&["localhost"]));
    let peer = Peer::tls(server_config(&chain)).await;
    let (own, roots) = (issuing.crl(&[], 2090), company.crl(&[], 2090));
    let leaf = listed(Upstream::trusting(&company), std::slice::from_ref(&own));
    assert_eq!(leaf.reason("localhost", &peer).await, None);
    let whole = |lists: &[Vec<u8>]| listed(Upstream::trusting(&company), lists).set(|s| s.revocation.scope = CrlScope::Chain);
    assert_eq!(whole(std::slice::from_ref(&own)).reason("localhost", &peer).await, Some(Reason::TlsRevocationUnknown));
    assert_eq!(whole(&[own.clone(), roots]).reason("localhost", &peer).await, None);

    let mut revoked_ca = issuing.sign(Leaf::server(&["localhost"]));
    revoked_ca.certificates.remove(0);
    assert_eq!(whole(&[own, company.crl(&[&revoked_ca], 2090)]).reason("localhost", &peer).await, Some(Reason::TlsRevoked));
}

#[tokio::test]
async fn a_certificate_without_a_list_is_refused_unless_that_is_allowed() {
    let company = Authority::root("Company CA");
    let other = Authority::root("Other CA");
    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&["localhost"])))).await;
    let upstream = || listed(Upstream::trusting(&company), &[other.crl(&[], 2090)]);
    let refused = refusal(&upstream().client("localhost", &peer)).await.explanation;
    assert_eq!(refused.reason, Reason::TlsRevocationUnknown);
    assert!(refused.detail.contains("Company CA") && refused.detail.contains("Other CA"), "{refused}");
    assert_eq!(upstream().set(|s| s.revocation.missing = CrlMissing::Allow).reason("localhost", &peer).await, None);
}

#[tokio::test]
async fn an_overdue_list_warns_or_refuses_and_still_revokes() {
    let company = Authority::root("Company CA");
    let (good, revoked) = (company.sign(Leaf::server(&["localhost"])), company.sign(Leaf::server(&["localhost"])));
    let upstream =
        |expired| listed(Upstream::trusting(&company), &[company.crl(&[&revoked], 2022)]).set(|s| s.revocation.expired = expired);
    let peer = Peer::tls(server_config(&good)).await;
    assert_eq!(upstream(CrlExpired::Warn).reason("localhost", &peer).await, None);
    let warnings = upstream(CrlExpired::Warn).load("localhost").unwrap().warnings().join("\n");
    assert!(warnings.contains("crl_paths 0.crl") && warnings.contains("should have been renewed on 2022-01-01"), "{warnings}");
    let refused = refusal(&upstream(CrlExpired::Deny).client("localhost", &peer)).await.explanation;
    assert_eq!(refused.reason, Reason::TlsCrlExpired, "{refused}");
    assert!(refused.detail.contains("2022-01-01"), "{refused}");
    let allowed = upstream(CrlExpired::Deny).set(|s| s.revocation.missing = CrlMissing::Allow);
    assert_eq!(allowed.reason("localhost", &peer).await, Some(Reason::TlsCrlExpired), "a list that is there is not missing");
    let bad = Peer::tls(server_config(&revoked)).await;
    assert_eq!(upstream(CrlExpired::Warn).reason("localhost", &bad).await, Some(Reason::TlsRevoked));
}

#[tokio::test]
async fn a_list_that_another_signed_in_the_cas_name_is_not_believed() {
    let (company, forger) = (Authority::root("Company CA"), Authority::root("Company CA"));
    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&["localhost"])))).await;
    let refused = refusal(&listed(Upstream::trusting(&company), &[forger.crl(&[], 2090)]).client("localhost", &peer)).await.explanation;
    assert_eq!(refused.reason, Reason::TlsRevocationUnknown, "{refused}");
    assert!(refused.detail.contains("BadSignature"), "{refused}");
}

#[tokio::test]
async fn a_certificate_that_is_trusted_by_itself_can_be_revoked_too() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]));
    let peer = Peer::tls(server_config(&chain)).await;
    let trusting = || Upstream::default().root_ca(chain.pem());
    assert_eq!(listed(trusting(), &[company.crl(&[], 2090)]).reason("localhost", &peer).await, None);
    assert_eq!(listed(trusting(), &[company.crl(&[&chain], 2090)]).reason("localhost", &peer).await, Some(Reason::TlsRevoked));
}

#[tokio::test]
async fn an_overdue_list_refuses_a_certificate_that_is_trusted_by_itself_too() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]));
    let peer = Peer::tls(server_config(&chain)).await;
    let with =
        |expired| listed(Upstream::default().root_ca(chain.pem()), &[company.crl(&[], 2022)]).set(|s| s.revocation.expired = expired);
    assert_eq!(with(CrlExpired::Warn).reason("localhost", &peer).await, None);
    assert_eq!(with(CrlExpired::Deny).reason("localhost", &peer).await, Some(Reason::TlsCrlExpired));
}

#[tokio::test]
async fn of_several_lists_of_one_ca_the_newest_counts() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]));
    let peer = Peer::tls(server_config(&chain)).await;
    let lists = [company.revoke(&[], 1), company.revoke(&[&chain], 2)].map(String::into_bytes);
    for order in [[0, 1], [1, 0]] {
        let upstream = listed(Upstream::trusting(&company), &order.map(|n: usize| lists[n].clone()));
        assert_eq!(upstream.reason("localhost", &peer).await, Some(Reason::TlsRevoked), "{order:?}");
    }
}

#[test]
fn a_bad_list_never_becomes_no_list() {
    let company = Authority::root("Company CA");
    for (row, bytes) in [("empty", Vec::new()), ("a certificate", company.pem().into_bytes()), ("garbage", vec![0x30, 3, 1, 2, 3])] {
        let refused = listed(Upstream::trusting(&company), &[company.crl(&[], 2090), bytes]).load("localhost").unwrap_err();
        assert_eq!(refused.reason, Reason::LocalInvalid, "{row}");
        assert!(refused.detail.starts_with("crl_paths 1.crl"), "{refused}");
    }
    let ignored = listed(Upstream::unverified(), &[company.crl(&[], 2090)]).load("localhost").unwrap_err();
    assert!(ignored.detail.contains("ignores crl_paths"), "{ignored}");
    let words = listed(Upstream::trusting(&company), &[company.crl(&[], 2090)]).load("localhost").unwrap().words();
    assert_eq!(words, "private CA (ca.pem), 1 revocation list (leaf)");
}
