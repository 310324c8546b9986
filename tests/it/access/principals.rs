//! What belongs to one caller is nobody else's: each attempt with another's key.

use super::*;
use crate::support::fake::Answer;

#[tokio::test]
async fn a_session_and_its_streams_are_unknown_to_others() {
    let nexus = guarded().upstream("old", full(legacy(), "old")).start().await;
    let ada = old(&nexus, "pro").await;
    let eve = ada.twin().header("x-api-key", &key_of("other_pro"));
    assert_eq!(eve.open("tools/list", json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(eve.get().await.status, StatusCode::NOT_FOUND);
    assert_eq!(eve.notify("notifications/cancelled", json!({"requestId": 1})).await, StatusCode::NOT_FOUND);
    assert_eq!(eve.reply(&json!("q"), json!({})).await, StatusCode::NOT_FOUND);
    assert_eq!(eve.delete().await, StatusCode::NOT_FOUND);
    assert_eq!(ada.list("tools").await.len(), 2, "and it is still there");
}

#[tokio::test]
async fn two_callers_share_no_session_with_a_server() {
    let nexus = guarded().upstream("old", full(legacy(), "old")).start().await;
    let session = || nexus.fake("old").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let mut sessions = Vec::new();
    for who in ["pro", "other_pro", "free", "nobody"] {
        for client in both(&nexus, who).await {
            client.call("old__secret").await;
            sessions.push(session());
        }
        assert_eq!((new(&nexus, who).call("old__secret").await["error"].clone(), Some(session())), (Value::Null, sessions.last().cloned()));
    }
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 8, "one for each legacy session and one for each caller's modern clients");
}

#[tokio::test]
async fn a_link_that_one_was_given_leads_nobody_else_anywhere() {
    let linking = legacy().tool("show").resource("a://listed").on("tools/call", |call| {
        Answer::json(call.response(r#""content":[{"type":"resource_link","uri":"private://of-ada","name":"x"}]"#))
    });
    let nexus = guarded().upstream("old", linking).upstream("new", modern().resource("b://listed")).start().await;
    let (ada, eve) = (new(&nexus, "pro"), new(&nexus, "other_pro"));
    ada.call("old__show").await;
    let read = |uri: &str| json!({"uri": uri});
    assert_eq!(ada.ask("resources/read", read("private://of-ada")).await["error"], Value::Null);
    looks_unknown(&nexus, &eve, "resources/read", read, "private://of-ada", "private://of-none").await;
}

#[tokio::test]
async fn a_callers_groups_are_those_of_its_request_not_of_its_session() {
    let nexus = guarded()
        .tables("[server.client_ip]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[server.client_identification]\nenabled = true\nclient_id.http_header = \"x-client\"\ngroup_id.http_header = \"x-group\"")
        .upstream("old", full(legacy(), "old").toml("allow = [\"pro\"]"))
        .upstream("new", full(modern(), "new"))
        .start()
        .await;
    let named = |client: Client, group: &str| client.header("x-client", "ada").header("x-group", group);
    let client = named(Client::stranger(nexus.address).header("x-api-key", &key_of("nobody")), "free");
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let response = client.open("initialize", params).await;
    let session = response.headers["mcp-session-id"].to_str().unwrap().to_owned();
    response.answer().await;
    let free = client.header("mcp-session-id", &session).header("mcp-protocol-version", "2025-11-25");
    let pro = free.twin().header("x-group", "pro");
    assert_eq!((free.list("tools").await.len(), pro.list("tools").await.len(), free.list("tools").await.len()), (2, 4, 2));
    assert_eq!(pro.call("old__secret").await["error"], Value::Null);
    assert_eq!(free.call("old__secret").await["error"]["code"], -32602);
}
