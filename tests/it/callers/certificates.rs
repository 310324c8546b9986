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

/// What somebody reads in the list of tools.
async fn listed(client: &TlsClient, nexus: &Nexus, headers: &[(&'static str, &str)]) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}).to_string();
    let mut request = http::Request::post("/mcp").body(full(body)).unwrap();
    let protocol = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/list"),
    ];
    for (name, value) in protocol.iter().chain(headers) {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let mut connection = client.connect(nexus.address).await.unwrap();
    let response = connection.send(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_client_certificate_makes_nobody_a_trusted_peer() {
    let (pki, key) = (Pki::new(), SigningKey::es256("k"));
    let idp = Idp::serving(&[&key]).await;
    let token = format!("Bearer {}", key.token(&claims("bob", json!({}))));
    let tables = "[server.client_identification]\nenabled = true\n\
                  client_id = { jwt_claim = \"sub\", tls_subject = \"CN\", http_header = \"X-Client-Id\" }\n\
                  group_id = { http_header = \"X-Plan\" }";
    for (proxies, is_believed) in [("", false), ("[\"10.0.0.0/8\"]", false), ("[\"127.0.0.0/8\"]", true)] {
        let client_ip = if proxies.is_empty() { String::new() } else { format!("[server.client_ip]\ntrusted_proxies = {proxies}") };
        let spec = idp.guarding(gateway().upstream("a", modern().tool("x").toml("allow = [\"pro\"]")), "");
        let nexus = pki.serve(spec, ASKING).tables(&format!("{tables}\n{client_ip}")).start().await;
        let bob = pki.client().showing(&pki.clients.sign(Leaf::client("bob")), &TLS13);
        for credential in [None, Some(("authorization", token.as_str()))] {
            let said: Vec<_> = [("x-client-id", "alice"), ("x-plan", "pro")].into_iter().chain(credential).collect();
            let own: Vec<_> = credential.into_iter().collect();
            let (status, session) = initialize(&bob, &nexus, &said).await;
            assert_eq!(status, 200);
            let of_bob: Vec<_> = own.iter().copied().chain([("mcp-session-id", session.as_str())]).collect();
            let is_bobs = post(&bob, &nexus, &of_bob, r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#).await.0 == 200;
            assert_eq!(is_bobs, !is_believed, "{proxies} {credential:?}");
            let tools = listed(&bob, &nexus, &said).await;
            assert_eq!(tools.contains("a__x"), is_believed, "{proxies} {credential:?} {tools}");
        }
    }
}
