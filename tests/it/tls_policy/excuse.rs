//! `accept_expired_until`: an emergency, and nothing more.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Response};
use nexus::{
    clock::{Clock as _, SystemClock},
    reason::Reason,
    tls::{CrlExpired, SpkiPin, SystemCas, Verdict},
};
use rustls::HandshakeKind;

use super::{Upstream, get};
use crate::support::{
    pki::{Authority, Leaf},
    tls_peer::{Peer, server_config},
};

const DAY: Duration = Duration::from_secs(86_400);

fn excused(upstream: Upstream) -> Upstream {
    upstream.set(|s| s.accept_expired_until = Some(SystemClock.now() + 3 * DAY))
}

#[tokio::test]
async fn an_end_date_is_excused_wherever_in_the_chain_it_is() {
    let company = Authority::root("Company CA");
    let old_issuing = company.intermediate_until("Old Issuing CA", 2022);
    for chain in [
        company.sign(Leaf::server(&["localhost"]).expired()),
        old_issuing.sign(Leaf::server(&["localhost"])),
        old_issuing.sign(Leaf::server(&["localhost"]).expired()),
    ] {
        let peer = Peer::tls(server_config(&chain)).await;
        assert!(Upstream::trusting(&company).reason("localhost", &peer).await.is_some());
        assert_eq!(excused(Upstream::trusting(&company)).reason("localhost", &peer).await, None);
    }
    let trusted_by_itself = company.sign(Leaf::server(&["localhost"]).expired());
    let peer = Peer::tls(server_config(&trusted_by_itself)).await;
    assert_eq!(excused(Upstream::default().root_ca(trusted_by_itself.pem())).reason("localhost", &peer).await, None);
}

#[tokio::test]
async fn nothing_but_the_end_date_is_excused() {
    let (company, strangers) = (Authority::root("Company CA"), Authority::root("Stranger CA"));
    let expired = |name| Leaf::server(&[name]).expired();
    for (row, chain, reason) in [
        ("an unknown CA", strangers.sign(expired("localhost")), Reason::TlsUnknownCa),
        ("another name", company.sign(expired("other.test")), Reason::TlsHostnameMismatch),
        ("a client's certificate", company.sign(Leaf::client("a client").expired()), Reason::TlsWrongUsage),
        ("not yet valid", company.sign(Leaf::server(&["localhost"]).not_yet_valid()), Reason::TlsNotYetValid),
    ] {
        let peer = Peer::tls(server_config(&chain)).await;
        assert_eq!(excused(Upstream::trusting(&company)).reason("localhost", &peer).await, Some(reason), "{row}");
        assert!(peer.arrived().is_empty());
    }
}

#[tokio::test]
async fn pins_and_revocation_hold_in_spite_of_the_excuse() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]).expired());
    let peer = Peer::tls(server_config(&chain)).await;
    let pinned = excused(Upstream::trusting(&company)).set(|s| s.spki_pins = vec![SpkiPin([1; 32])]);
    assert_eq!(pinned.reason("localhost", &peer).await, Some(Reason::TlsPinMismatch));
    let listed = |list: Vec<u8>, expired| {
        excused(Upstream::trusting(&company)).file("crl", list).set(|s| {
            s.revocation.crl_paths = vec!["crl".into()];
            s.revocation.expired = expired;
        })
    };
    assert_eq!(listed(company.crl(&[&chain], 2090), CrlExpired::Warn).reason("localhost", &peer).await, Some(Reason::TlsRevoked));
    assert_eq!(listed(company.crl(&[], 2090), CrlExpired::Deny).reason("localhost", &peer).await, None);
    // The list was good when the certificate ended, but is overdue today.
    let overdue = company.crl(&[], 2022);
    assert_eq!(listed(overdue.clone(), CrlExpired::Warn).reason("localhost", &peer).await, None);
    assert_eq!(listed(overdue, CrlExpired::Deny).reason("localhost", &peer).await, Some(Reason::TlsCrlExpired));
}

#[test]
fn the_excuse_lapses_by_itself_in_a_running_process() {
    let company = Authority::root("Company CA");
    let chain = company.sign(Leaf::server(&["localhost"]).expired());
    let policy = excused(Upstream::trusting(&company)).load("localhost").unwrap();
    let until = policy.excused_until().unwrap();
    let nobody = || Arc::new(SystemCas::new([], Vec::new(), "nowhere"));
    let verdict = |now| policy.check_chain(&chain.certificates, &nobody, now).verdict;
    assert_ne!(verdict(until - Duration::from_secs(1)), Verdict::Fail);
    assert_eq!(verdict(until), Verdict::Fail);
    assert_eq!(verdict(until + DAY), Verdict::Fail);
}

/// A resumed session is not verified, so that it would outlive the excuse.
#[tokio::test]
async fn an_excused_session_is_never_resumed() {
    let company = Authority::root("Company CA");
    let closing = || {
        let mut response = Response::new("hello".into());
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
        response
    };
    let peer = Peer::tls_answering(server_config(&company.sign(Leaf::server(&["localhost"]).expired())), closing).await;
    let client = excused(Upstream::trusting(&company)).client("localhost", &peer);
    for _ in 0..2 {
        get(&client).await.unwrap();
    }
    assert_eq!(peer.shown().iter().map(|s| s.kind).collect::<Vec<_>>(), [Some(HandshakeKind::Full); 2]);
}

#[test]
fn the_date_is_at_most_a_week_ahead_and_a_past_one_excuses_nothing() {
    let company = Authority::root("Company CA");
    let until = |date| Upstream::trusting(&company).set(|s| s.accept_expired_until = Some(date)).load("localhost");
    let refused = until(SystemClock.now() + 8 * DAY).unwrap_err();
    assert_eq!(refused.reason, Reason::LocalInvalid);
    assert!(refused.detail.contains("more than 7 days ahead"), "{refused}");
    let soon = until(SystemClock.now() + 6 * DAY).unwrap();
    assert!(soon.words().contains("EXPIRED CERTIFICATES ACCEPTED until 20"), "{}", soon.words());
    let past = until(SystemClock.now() - DAY).unwrap();
    assert_eq!(past.excused_until(), None);
    assert!(past.warnings().iter().any(|w| w.contains("has passed, so it excuses nothing")), "{:?}", past.warnings());
    let ignored = excused(Upstream::unverified()).load("localhost").unwrap_err();
    assert!(ignored.detail.contains("ignores accept_expired_until"), "{ignored}");
}
