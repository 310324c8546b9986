//! What the JSON API says of upstreams, tools and sessions.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    fake::{Answer, legacy, modern},
    nexus::gateway,
};

fn by_name<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[tokio::test]
async fn an_upstream_is_shown_with_its_state_its_reason_and_its_counts() {
    let nexus = gateway()
        .admin("")
        .upstream("crm", legacy().tool("x").tool("y").prompt("p").resource("a://b").template("a://{c}"))
        .upstream("gone", "url = \"http://127.0.0.1:1/mcp?key=canary\"\nrequired = true")
        .start()
        .await;
    let client = nexus.legacy().await;
    client.call("crm__x").await;
    client.call("gone__x").await;
    let all = nexus.operator().json("/api/v1/upstreams").await;
    let crm = by_name(&all["upstreams"], "crm");
    let counts = json!({"tools": crm["tools"], "prompts": crm["prompts"], "resources": crm["resources"]});
    assert_eq!(counts, json!({"tools": 2, "prompts": 1, "resources": 2}));
    assert_eq!((&crm["transport"], &crm["era"], &crm["version"]), (&json!("http"), &json!("legacy"), &json!("2025-11-25")));
    assert_eq!((&crm["state"], &crm["reason"], &crm["policy"]), (&json!("up"), &Value::Null, &json!("plain HTTP")));
    assert_eq!(crm["calls"], json!({"ok": 1, "failed": 0, "limited": 0}));
    assert!(crm["since"].as_str().unwrap().ends_with('Z'), "{crm}");
    let gone = by_name(&all["upstreams"], "gone");
    assert_eq!((&gone["state"], &gone["reason"], &gone["required"]), (&json!("down"), &json!("refused"), &json!(true)));
    assert!(!gone["detail"].as_str().unwrap().is_empty() && !gone["remedy"].as_str().unwrap().is_empty());
    assert_eq!(gone["calls"], json!({"ok": 0, "failed": 1, "limited": 0}));
    assert!(!all.to_string().contains("canary"), "a query may hold a key: {all}");
    assert_eq!(nexus.operator().json("/api/v1/upstreams/gone").await["state"], "down");
    assert_eq!(nexus.operator().status("/api/v1/upstreams/none").await, StatusCode::NOT_FOUND);
    assert_eq!(nexus.operator().status("/api/v1/reload").await, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn every_tool_is_shown_with_the_reason_why_clients_do_not_see_it() {
    let nexus = gateway()
        .admin("")
        .mcp("when_down = \"hide\"")
        .upstream("one", legacy().tool("seen").tool("secret").raw_tool("{\"name\":\"broken\"}").toml("hide = [\"secret\"]\nprefix = \"x\""))
        .upstream("two", legacy().tool("lost").get_stream())
        .start()
        .await;
    nexus.fake("two").go_down();
    nexus.state("two", "down").await;
    let all = nexus.operator().json("/api/v1/tools").await;
    let shown: Vec<_> = all["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| ["name", "upstream", "own_name", "visibility"].map(|key| tool[key].as_str().unwrap_or_default().to_owned()).join(" "))
        .collect();
    assert_eq!(
        shown,
        ["x__seen one seen listed", "x__secret one secret hidden", "x__broken one broken quarantined", "two__lost two lost down"]
    );
    assert!(all["tools"][2]["why"].as_str().unwrap().contains("inputSchema"), "{all}");
}

#[tokio::test]
async fn a_session_is_shown_without_the_credential_that_its_id_is() {
    let nexus = gateway().admin("").upstream("crm", legacy().tool("x")).start().await;
    let client = nexus.legacy().await;
    client.call("crm__x").await;
    let all = nexus.operator().json("/api/v1/sessions").await;
    assert_eq!(all["count"], 1);
    let session = &all["sessions"][0];
    assert_eq!((&session["client"], &session["protocol"], &session["upstreams"]), (&json!("test"), &json!("2025-11-25"), &json!(["crm"])));
    assert!(!all.to_string().contains(client.session()), "{all}");
}

#[tokio::test]
async fn what_a_client_or_server_calls_itself_cannot_break_out_of_the_document() {
    let hostile = "\u{1b}[31m\"}</script>\u{202e}";
    let nexus = gateway()
        .admin("")
        .upstream("crm", modern().raw_tool(&json!({"name": hostile, "inputSchema": 5}).to_string()).on("x", |_| Answer::status(500)))
        .start()
        .await;
    let stranger = crate::support::client::Client::stranger(nexus.address);
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": hostile.repeat(100), "version": "1"}});
    stranger.open("initialize", params).await.answer().await;
    for path in ["/api/v1/sessions", "/api/v1/tools", "/api/v1/upstreams", "/api/v1/events"] {
        let text = nexus.operator().get(path).await.text().await;
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{path}: {text}");
        let whole: Value = serde_json::from_str(&text).unwrap();
        assert!(whole.is_object());
        assert!(text.len() < 4096, "{path}: {}", text.len());
    }
}
