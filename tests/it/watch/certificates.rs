//! Certificates near their end, past it, renewed and exchanged.

use nexus::{names::UpstreamName, reason::Reason};

use super::*;
use crate::support::{
    fake::legacy,
    nexus::gateway,
    pki::{Authority, Leaf},
    tls_peer::{mtls_config, server_config},
};

#[tokio::test]
async fn a_certificate_near_its_end_degrades_is_told_once_and_resolved_when_renewed() {
    let ca = Authority::root("Company CA");
    let old = ca.sign(Leaf::server(&["localhost"]).ends_in(5));
    let (renewable, config) = Renewable::new(&old);
    let receivers = [Peer::plain().await, Peer::plain().await, Peer::plain().await];
    let [hook, slack, pager] = &receivers;
    let nexus = gateway().file("/ca.pem", ca.pem()).upstream("crm", legacy().tool("x").https(config).toml(TRUSTING)).start().await;
    let channels = format!(
        "{}[[certificates.alerts]]\ntype = \"slack\"\nurl = \"http://{}/\"\n\
         [[certificates.alerts]]\ntype = \"pagerduty\"\nrouting_key = \"k3y\"\nurl = \"http://{}/\"\n",
        webhook(hook),
        slack.address,
        pager.address
    );
    let watched = watch(&nexus, &channels);

    nexus.state("crm", "degraded").await;
    let crm = &nexus.gateway.upstreams()[0];
    let why = crm.status().borrow().state.explanation().cloned().unwrap();
    assert_eq!(why.reason, Reason::TlsExpiring);
    assert!(why.detail.contains("ends in 5 days"), "{why}");
    watched.checks("crm", 5).await;
    let alerts = hears(hook, 1).await;
    assert_eq!(alerts.len(), 1, "once, however often it is seen: {alerts:?}");
    let alert = &alerts[0];
    assert_eq!((&alert["topic"], &alert["status"], &alert["severity"]), (&"expiry".into(), &"firing".into(), &"error".into()));
    assert_eq!((&alert["upstream"], &alert["code"], &alert["gateway"]), (&"crm".into(), &"tls_expiring".into(), &"the-gateway".into()));
    assert_eq!(watched.board.alerts().len(), 1);
    assert_eq!(watched.board.report("crm").unwrap().days_left(), Some(5));

    renewable.renew(&ca.sign(Leaf::server(&["localhost"])));
    watched.prober.forget(&UpstreamName::parse("crm").unwrap());
    nexus.state("crm", "up").await;
    let alerts = hears(hook, 2).await;
    assert_eq!((&alerts[1]["status"], &alerts[1]["key"]), (&"resolved".into(), &alert["key"]));
    let events = hears(pager, 2).await;
    assert_eq!((&events[0]["event_action"], &events[1]["event_action"]), (&"trigger".into(), &"resolve".into()));
    assert_eq!((&events[0]["dedup_key"], &events[0]["routing_key"]), (&events[1]["dedup_key"], &"k3y".into()));
    let texts = hears(slack, 2).await;
    assert!(texts[0]["text"].as_str().unwrap().contains("ends in 5 days"), "{texts:?}");
    assert!(watched.board.alerts().is_empty());
    // The renewal itself is routine.
    let kinds: Vec<_> = watched.events.since(0).iter().map(|event| event.news.kind.word()).collect();
    assert_eq!(kinds, ["alert", "resolved", "certificate_changed"]);
}

#[tokio::test]
async fn another_key_long_before_the_end_is_a_warning_with_both_fingerprints() {
    let ca = Authority::root("Company CA");
    let (before, after) = (ca.sign(Leaf::server(&["localhost"])), ca.sign(Leaf::server(&["localhost"])));
    let (renewable, config) = Renewable::new(&before);
    let hook = Peer::plain().await;
    let nexus = gateway().file("/ca.pem", ca.pem()).upstream("crm", legacy().tool("x").https(config).toml(TRUSTING)).start().await;
    let watched = watch(&nexus, &webhook(&hook));
    watched.checks("crm", 1).await;
    renewable.renew(&after);
    watched.prober.forget(&UpstreamName::parse("crm").unwrap());
    let alert = hears(&hook, 1).await.remove(0);
    let sha256 = |chain: &Chain| nexus::tls::CertificateFacts::read(&chain.certificates[0]).unwrap().fingerprint;
    assert_eq!((&alert["topic"], &alert["severity"]), (&"certificate_changed".into(), &"warning".into()));
    assert_eq!(alert["certificate"]["previous_sha256"], sha256(&before));
    assert_eq!(alert["certificate"]["sha256"], sha256(&after));
}

#[tokio::test]
async fn a_certificate_problem_is_told_at_the_first_check() {
    let ca = Authority::root("Company CA");
    for (leaf, topic, code) in [
        (Leaf::server(&["localhost"]).expired(), "expiry", "tls_expired"),
        (Leaf::server(&["other.test"]), "certificate_problem", "tls_hostname_mismatch"),
    ] {
        let hook = Peer::plain().await;
        let config = server_config(&ca.sign(leaf));
        let nexus = gateway().file("/ca.pem", ca.pem()).upstream("crm", legacy().tool("x").https(config).toml(TRUSTING)).start().await;
        let _watched = watch(&nexus, &webhook(&hook));
        let alert = hears(&hook, 1).await.remove(0);
        assert_eq!((&alert["topic"], &alert["code"], &alert["severity"]), (&topic.into(), &code.into(), &"critical".into()), "{alert}");
    }
}

#[tokio::test]
async fn our_own_client_certificate_is_watched_too() {
    let ca = Authority::root("Company CA");
    let client = ca.sign(Leaf::client("nexus").ends_in(12));
    let config = mtls_config(&ca.sign(Leaf::server(&["localhost"])), &ca, rustls::ALL_VERSIONS);
    let hook = Peer::plain().await;
    let nexus = gateway()
        .file("/ca.pem", ca.pem())
        .file("/client.pem", client.pem())
        .file("/client.key", client.key_pem())
        .upstream(
            "crm",
            legacy()
                .tool("x")
                .https(config)
                .toml(&format!("{TRUSTING}\nclient_cert_path = \"/client.pem\"\nclient_key_path = \"/client.key\"")),
        )
        .start()
        .await;
    let watched = watch(&nexus, &webhook(&hook));
    let alert = hears(&hook, 1).await.remove(0);
    assert_eq!((&alert["severity"], &alert["code"]), (&"warning".into(), &"tls_expiring".into()));
    assert!(
        alert["summary"].as_str().unwrap().starts_with("our client certificate CN=nexus for upstream \"crm\" ends in 12 days"),
        "{alert}"
    );
    assert!(alert["remedy"].as_str().unwrap().contains("/client.pem"), "{alert}");
    nexus.state("crm", "degraded").await;
    let roles: Vec<_> = watched.board.certificates_of("crm").iter().map(|watched| (watched.role.word(), watched.decides)).collect();
    assert_eq!(roles, [("client", true), ("anchor", true), ("server", true)]);
}

#[tokio::test]
async fn what_was_told_of_our_own_is_not_over_because_its_files_cannot_be_read_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::root("Company CA");
    let client = ca.sign(Leaf::client("nexus").ends_in(5));
    let hook = Peer::plain().await;
    let channels = format!("[state]\ndirectory = {:?}\n{}", folder.path(), webhook(&hook));
    for key in [client.key_pem(), "no key".to_owned()] {
        let config = mtls_config(&ca.sign(Leaf::server(&["localhost"])), &ca, rustls::ALL_VERSIONS);
        let tls = format!("{TRUSTING}\nclient_cert_path = \"/client.pem\"\nclient_key_path = \"/client.key\"");
        let nexus = gateway()
            .file("/ca.pem", ca.pem())
            .file("/client.pem", client.pem())
            .file("/client.key", key)
            .upstream("crm", legacy().tool("x").https(config).toml(&tls))
            .start()
            .await;
        let watched = watch(&nexus, &channels);
        watched.checks("crm", 3).await;
        watched.watch.end().await;
    }
    let told = hears(&hook, 3).await;
    let told: Vec<_> = told.iter().map(|alert| (alert["status"].as_str().unwrap(), alert["topic"].as_str().unwrap())).collect();
    assert_eq!(told, [("firing", "expiry"), ("firing", "certificate_problem"), ("firing", "upstream_down")]);
}

#[tokio::test]
async fn an_expired_authority_that_still_vouches_is_a_warning_and_no_problem() {
    let ca = Authority::expired_root("Company CA");
    let hook = Peer::plain().await;
    let config = server_config(&ca.sign(Leaf::server(&["localhost"])));
    let nexus = gateway().file("/ca.pem", ca.pem()).upstream("crm", legacy().tool("x").https(config).toml(TRUSTING)).start().await;
    let watched = watch(&nexus, &webhook(&hook));
    let alert = hears(&hook, 1).await.remove(0);
    assert_eq!((&alert["topic"], &alert["severity"], &alert["code"]), (&"expiry".into(), &"warning".into(), &"tls_anchor_expired".into()));
    watched.checks("crm", 3).await;
    assert_eq!(told(&hook).len(), 1);
}

#[tokio::test]
async fn a_revocation_list_that_is_overdue_is_told_and_used_all_the_same() {
    let ca = Authority::root("Company CA");
    let hook = Peer::plain().await;
    let config = server_config(&ca.sign(Leaf::server(&["localhost"])));
    let revoking = format!("{TRUSTING}\ncrl_paths = [\"/company.crl\"]");
    let list = crate::support::pki::pem("X509 CRL", &ca.crl(&[], 2022));
    let nexus = gateway()
        .file("/ca.pem", ca.pem())
        .file("/company.crl", list)
        .upstream("crm", legacy().tool("x").https(config).toml(&revoking))
        .start()
        .await;
    let watched = watch(&nexus, &webhook(&hook));
    let alert = hears(&hook, 1).await.remove(0);
    assert_eq!((&alert["topic"], &alert["severity"], &alert["code"]), (&"expiry".into(), &"error".into(), &"tls_crl_expired".into()));
    assert!(alert["summary"].as_str().unwrap().contains("Company CA"), "{alert}");
    watched.checks("crm", 3).await;
    assert_eq!(told(&hook).len(), 1);
}

#[tokio::test]
async fn hostile_text_of_a_certificate_stays_text() {
    let ca = Authority::root("Company CA");
    let hook = Peer::plain().await;
    let leaf = Leaf::server(&["localhost"]).common_name("\"}\n# HELP x <script>").ends_in(5);
    let nexus = gateway()
        .file("/ca.pem", ca.pem())
        .upstream("crm", legacy().tool("x").https(server_config(&ca.sign(leaf))).toml(TRUSTING))
        .start()
        .await;
    let watched = watch(&nexus, &webhook(&hook));
    let alert = hears(&hook, 1).await.remove(0);
    let summary = alert["summary"].as_str().unwrap();
    assert!(summary.contains("\"}\\u{a}# HELP x <script>"), "{summary}");
    assert!(!summary.contains('\n') && watched.events.since(0).iter().all(|event| !event.news.detail.contains('\n')));
}

#[tokio::test]
async fn an_overdue_revocation_list_of_an_upstream_is_told_with_its_file() {
    let ca = Authority::root("Company CA");
    let hook = Peer::plain().await;
    let config = server_config(&ca.sign(Leaf::server(&["localhost"])));
    let lines = format!("{TRUSTING}\ncrl_paths = [\"/company.crl\"]");
    let nexus = gateway()
        .file("/ca.pem", ca.pem())
        .file("/company.crl", ca.crl(&[], 2022))
        .upstream("crm", legacy().tool("x").https(config).toml(&lines))
        .start()
        .await;
    let watched = watch(&nexus, &webhook(&hook));
    let alert = hears(&hook, 1).await.remove(0);
    assert_eq!((&alert["upstream"], &alert["severity"], &alert["code"]), (&"crm".into(), &"error".into(), &"tls_crl_expired".into()));
    assert!(alert["remedy"].as_str().unwrap().contains("/company.crl"), "{alert}");
    watched.checks("crm", 3).await;
    assert_eq!(told(&hook).len(), 1);
}
