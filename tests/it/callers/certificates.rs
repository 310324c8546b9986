//! Client certificates as who somebody is.

use rustls::version::TLS13;

use super::*;
use crate::support::{
    https::{Pki, TlsClient},
    pki::{Chain, Leaf},
    wire::full,
};

const ASKING: &str = ", client_ca = \"/tls/clients.pem\", client_auth = \"optional\"";

/// Opens a session: the status, and the session's id.
async fn initialize(client: &TlsClient, nexus: &Nexus, headers: &[(&'static str, &str)]) -> (u16, String) {
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
    let (status, session) = post(client, nexus, headers, &body).await;
    (status, session)
}

async fn post(client: &TlsClient, nexus: &Nexus, headers: &[(&'static str, &str)], body: &str) -> (u16, String) {
    let mut request = http::Request::post("/mcp").body(full(body.to_owned())).unwrap();
    for (name, value) in [("content-type", "application/json"), ("accept", "application/json, text/event-stream")].iter().chain(headers) {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let mut connection = client.connect(nexus.address).await.unwrap();
    let response = connection.send(request).await.unwrap();
    (response.status().as_u16(), header(response.headers(), "mcp-session-id").to_owned())
}

/// Whether somebody may use this session.
async fn may_use(client: &TlsClient, nexus: &Nexus, session: &str) -> bool {
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    match post(client, nexus, &[("mcp-session-id", session)], ping).await.0 {
        200 => true,
        404 => false,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_session_is_its_certificates_owners_and_a_renewed_certificate_is_the_same_owner() {
    let pki = Pki::new();
    let nexus = pki.serve(gateway(), ASKING).start_at_once().await;
    let showing = |chain: &Chain| pki.client().showing(chain, &TLS13);
    let ada = showing(&pki.clients.sign(Leaf::client("ada")));
    let renewed = showing(&pki.clients.sign(Leaf::client("ada")));
    let others = [
        ("another subject", showing(&pki.clients.sign(Leaf::client("bob")))),
        ("another issuer", showing(&pki.clients.intermediate("Client CA 2").sign(Leaf::client("ada")))),
        ("a longer subject", showing(&pki.clients.sign(Leaf::client("ada").common_name("eve")))),
        ("no certificate", pki.client()),
    ];
    let (status, session) = initialize(&ada, &nexus, &[]).await;
    assert_eq!(status, 200);
    assert!(may_use(&ada, &nexus, &session).await && may_use(&renewed, &nexus, &session).await);
    for (what, other) in &others {
        assert!(!may_use(other, &nexus, &session).await, "{what}");
    }
}

#[tokio::test]
async fn the_name_that_the_file_chooses_is_the_owner() {
    let pki = Pki::new();
    let tables = "[server.client_identification]\nenabled = true\nclient_id.tls_san = \"uri\"";
    let nexus = pki.serve(gateway(), ASKING).tables(tables).start_at_once().await;
    let showing = |leaf: Leaf| pki.client().showing(&pki.clients.sign(leaf), &TLS13);
    let (status, session) = initialize(&showing(Leaf::client("one").uri("spiffe://corp.test/ada")), &nexus, &[]).await;
    assert_eq!(status, 200);
    assert!(may_use(&showing(Leaf::client("two").uri("spiffe://corp.test/ada")), &nexus, &session).await, "the subject does not count");
    assert!(!may_use(&showing(Leaf::client("one").uri("spiffe://corp.test/eve")), &nexus, &session).await);
    assert_eq!(initialize(&showing(Leaf::client("one")), &nexus, &[]).await.0, 403, "it has no such name");
    assert_eq!(initialize(&pki.client(), &nexus, &[]).await.0, 401, "nobody");
}

#[tokio::test]
async fn beside_tokens_a_certificate_stands_for_a_caller_only_where_the_file_says_so() {
    let (pki, key) = (Pki::new(), SigningKey::es256("k"));
    let idp = Idp::serving(&[&key]).await;
    let proxy = pki.clients.sign(Leaf::client("proxy"));
    let token = format!("Bearer {}", key.token(&claims("ada", json!({}))));
    for (identification, without_token) in
        [("", 401), ("[server.client_identification]\nenabled = true\nclient_id = {jwt_claim = \"sub\", tls_subject = \"CN\"}", 200)]
    {
        let nexus = pki.serve(idp.guarding(gateway(), ""), ASKING).tables(identification).start_at_once().await;
        let client = pki.client().showing(&proxy, &TLS13);
        assert_eq!(initialize(&client, &nexus, &[]).await.0, without_token, "{identification}");
        assert_eq!(initialize(&client, &nexus, &[("authorization", &token)]).await.0, 200);
        assert_eq!(initialize(&pki.client(), &nexus, &[]).await.0, 401);
    }
}
