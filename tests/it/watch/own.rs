//! The gateway's own certificates: its listeners', and what is served at `public_url`.

use nexus::{
    health::{OwnAddress, OwnListener, OwnTls, WatchedList},
    tls::CertificateFacts,
};
use url::Url;

use super::*;
use crate::support::{
    nexus::gateway,
    pki::{Authority, Leaf},
    tls_peer::server_config,
};

fn facts(chain: &Chain) -> Vec<CertificateFacts> {
    chain.certificates.iter().filter_map(CertificateFacts::read).collect()
}

#[tokio::test]
async fn the_listeners_certificate_is_watched_as_it_is_shown() {
    let ca = Authority::root("Company CA");
    let shown = Arc::new(Mutex::new(facts(&ca.sign(Leaf::server(&["mcp.test"]).ends_in(5)))));
    let hook = Peer::plain().await;
    let nexus = gateway().start().await;
    let current = Arc::clone(&shown);
    let tls = move || OwnTls { chain: current.lock().clone(), file: Some("/server.pem".into()), ..OwnTls::default() };
    let _watched = watch_with(&nexus, &webhook(&hook), |parts| parts.listeners = vec![OwnListener { name: "server", tls: Arc::new(tls) }]);
    let alert = hears(&hook, 1).await.remove(0);
    assert!(alert["summary"].as_str().unwrap().contains("of the gateway's own listener ends in 5 days"), "{alert}");
    assert!(alert["remedy"].as_str().unwrap().contains("/server.pem"), "{alert}");
    assert!(alert["upstream"].is_null());
    *shown.lock() = facts(&ca.sign(Leaf::server(&["mcp.test"])));
    assert_eq!(hears(&hook, 2).await[1]["status"], "resolved");
}

#[tokio::test]
async fn what_is_served_at_public_url_is_probed_whoever_its_clients_trust() {
    let ca = Authority::root("A CA that this machine does not know");
    for (leaf, topic, code) in [
        (Leaf::server(&["localhost"]).ends_in(5), "expiry", "tls_expiring"),
        (Leaf::server(&["other.test"]), "certificate_problem", "tls_hostname_mismatch"),
    ] {
        let front = Peer::tls(server_config(&ca.sign(leaf))).await;
        let hook = Peer::plain().await;
        let nexus = gateway().start().await;
        let url = Url::parse(&format!("https://localhost:{}/", front.address.port())).unwrap();
        let _watched =
            watch_with(&nexus, &webhook(&hook), |parts| parts.address = OwnAddress::new("the-gateway", move || Some(url.clone())));
        let alert = hears(&hook, 1).await.remove(0);
        assert_eq!((&alert["topic"], &alert["code"]), (&topic.into(), &code.into()), "{alert}");
        assert!(alert["summary"].as_str().unwrap().contains("public_url"), "{alert}");
        assert_eq!(told(&hook).len(), 1, "an unknown CA says nothing here");
    }
}

#[tokio::test]
async fn an_overdue_revocation_list_is_told() {
    let hook = Peer::plain().await;
    let nexus = gateway().start().await;
    let list = |next_update| WatchedList {
        upstream: None,
        file: "/clients.crl".into(),
        issuer: "CN=Clients CA".into(),
        this_update: 0,
        next_update,
    };
    let lists = vec![list(Some(1)), list(None), list(Some(i64::MAX))];
    let tls = move || OwnTls { lists: lists.clone(), ..OwnTls::default() };
    let watched = watch_with(&nexus, &webhook(&hook), |parts| parts.listeners = vec![OwnListener { name: "server", tls: Arc::new(tls) }]);
    let alert = hears(&hook, 1).await.remove(0);
    assert_eq!((&alert["severity"], &alert["code"]), (&"error".into(), &"tls_crl_expired".into()), "{alert}");
    assert_eq!(watched.board.lists().len(), 3);
}
