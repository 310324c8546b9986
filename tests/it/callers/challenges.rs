//! What somebody is told who comes without a good credential.

use super::*;
use crate::support::{client::send, wire::full};

async fn document(nexus: &Nexus, path: &str) -> (StatusCode, Value) {
    let request = http::Request::get(path).body(full("")).unwrap();
    let response = send(nexus.address, request).await;
    let status = response.status;
    (status, serde_json::from_str(&response.text().await).unwrap_or_default())
}

#[tokio::test]
async fn a_client_without_a_token_is_led_to_where_it_gets_one() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus =
        idp.guarding(before_a_tool(), "required_scopes = [\"mcp\"]").server("public_url = \"https://mcp.contoso.test\"").start().await;
    for client in [nexus.modern(), Client::stranger(nexus.address)] {
        let response = client.open("initialize", json!({})).await;
        assert_eq!(response.status, 401);
        let expected = "Bearer scope=\"mcp\", resource_metadata=\"https://mcp.contoso.test/.well-known/oauth-protected-resource/mcp\"";
        assert_eq!(challenge(&response), expected);
        assert_eq!(response.answer().await["error"]["message"], "Authentication required");
    }
    for response in [nexus.modern().get().await, send(nexus.address, nexus.modern().request(http::Method::DELETE, full(""))).await] {
        assert_eq!(response.status, 401);
        assert!(challenge(&response).contains("resource_metadata="));
    }
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let (status, document) = document(&nexus, path).await;
        assert_eq!(status, 200, "{path}");
        assert_eq!(document, json!({"resource": AUDIENCE, "authorization_servers": [ISSUER], "bearer_methods_supported": ["header"]}));
    }
}

#[tokio::test]
async fn without_oauth_there_is_no_metadata_and_no_challenge_that_leads_there() {
    let nexus = before_a_tool().tables("[[server.api_keys]]\nid = \"ci\"\nkey = \"0123456789abcdef\"").start().await;
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        assert_eq!(document(&nexus, path).await.0, 404);
    }
    let (status, headers, _) = called(&nexus.modern()).await;
    assert_eq!((status.as_u16(), header(&headers, "www-authenticate")), (401, "Bearer realm=\"nexus\""));
}

#[tokio::test]
async fn health_needs_no_credential_and_the_old_endpoints_do() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = idp.guarding(before_a_tool().mcp("sse_path = \"/sse\""), "").start().await;
    assert_eq!(document(&nexus, "/health").await.0, 200);
    assert_eq!(document(&nexus, "/sse").await.0, 401);
    let mut client = nexus.modern();
    client.path = "/sse/messages?sessionId=0";
    assert_eq!(client.post("{}").await.status, 401);
    assert_eq!(bearing(&nexus, &key.token(&claims("ada", json!({})))).list("tools").await, ["a__x"]);
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_large_body_reads_that_its_token_ended() {
    let nexus = before_a_tool().tables("[[server.api_keys]]\nid = \"ci\"\nkey = \"0123456789abcdef\"").start().await;
    let large = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"padding": "x".repeat(3 << 20)}}).to_string();
    for _ in 0..5 {
        assert_eq!(bearing(&nexus, "ended").post(large.clone()).await.status, 401);
    }
}

#[tokio::test]
async fn a_body_is_not_read_before_its_sender_is_known() {
    let nexus = before_a_tool().tables("[[server.api_keys]]\nid = \"ci\"\nkey = \"0123456789abcdef\"").start().await;
    let mut client = nexus.modern();
    client.headers.insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(client.post("not even JSON").await.status, 401);
}
