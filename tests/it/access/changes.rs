//! Who hears that something changed, and what a reload of the rules takes away and gives.

use super::*;
use crate::support::{client::Response, fake::Answer, offer::tool, soon};

const RULES: &str = "allow = [\"pro\"]";

async fn listen(client: &Client, filter: Value) -> Response {
    let mut stream = client.open_as(json!("s"), "subscriptions/listen", json!({"notifications": filter})).await;
    let first = stream.next().await.unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    stream
}

/// A gateway before a server of `pro`, and one of everybody.
async fn two() -> Nexus {
    guarded().upstream("old", full(legacy(), "old").get_stream().toml(RULES)).upstream("new", full(modern(), "new")).start().await
}

async fn next_method(stream: &mut Response) -> String {
    stream.next().await.unwrap()["method"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn that_a_list_changed_is_said_to_those_whose_list_it_is() {
    let nexus = two().await;
    let (mut pro, mut free) = (old(&nexus, "pro").await.get().await, old(&nexus, "free").await.get().await);
    let filter = json!({"toolsListChanged": true, "promptsListChanged": true});
    let mut listens = (listen(&new(&nexus, "pro"), filter.clone()).await, listen(&new(&nexus, "free"), filter).await);
    nexus.fake("old").change(|offer| offer.tools.push(tool("another")));
    nexus.fake("old").tools_changed().await;
    assert_eq!(next_method(&mut pro).await, "notifications/tools/list_changed");
    assert_eq!(next_method(&mut listens.0).await, "notifications/tools/list_changed");
    // The next that the others hear of is something else.
    nexus.reload(&nexus.toml.replace("[mcp.servers.new]", "[mcp.servers.new]\nhide = [\"ask\"]"));
    for stream in [&mut pro, &mut free, &mut listens.0, &mut listens.1] {
        assert_eq!(next_method(stream).await, "notifications/prompts/list_changed");
    }
}

#[tokio::test]
async fn other_rules_hold_with_the_next_request_and_are_told_to_whom_they_concern() {
    let nexus = two().await;
    let client = old(&nexus, "free").await;
    let (mut hears, mut listens) = (client.get().await, listen(&new(&nexus, "free"), json!({"toolsListChanged": true})).await);
    let mut others = listen(&new(&nexus, "max"), json!({"toolsListChanged": true, "promptsListChanged": true})).await;
    assert_eq!(client.list("tools").await, ["new__secret", "new__open"]);
    nexus.reload(&nexus.toml.replace(RULES, "allow = [\"pro\", \"free\"]"));
    assert_eq!(client.list("tools").await, ["old__secret", "old__open", "new__secret", "new__open"]);
    assert_eq!(client.call("old__secret").await["error"], Value::Null);
    assert_eq!(next_method(&mut hears).await, "notifications/tools/list_changed");
    assert_eq!(next_method(&mut listens).await, "notifications/tools/list_changed");
    nexus.reload(&nexus.toml);
    assert_eq!(client.list("tools").await, ["new__secret", "new__open"]);
    assert_eq!(client.call("old__secret").await["error"]["code"], -32602);
    assert_eq!(next_method(&mut listens).await, "notifications/tools/list_changed");
    // Without a rule everybody sees everything, also who listened before.
    nexus.reload(&nexus.toml.replace(RULES, ""));
    assert_eq!(next_method(&mut listens).await, "notifications/tools/list_changed");
    assert_eq!(next_method(&mut others).await, "notifications/tools/list_changed", "nothing concerned these before");
    assert_eq!(new(&nexus, "max").list("tools").await.len(), 4);
}

#[tokio::test]
async fn who_may_not_use_a_resource_any_more_hears_no_more_of_it() {
    let nexus = two().await;
    nexus.reload(&nexus.toml.replace(RULES, ""));
    let client = old(&nexus, "free").await;
    let mut hears = client.get().await;
    assert_eq!(client.ask("resources/subscribe", json!({"uri": "old://listed"})).await["error"], Value::Null);
    let session = nexus.fake("old").last("resources/subscribe").header("mcp-session-id").unwrap().to_owned();
    let updated = |uri: &str| json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}).to_string();
    let upstream = nexus.fake("old").stream_of(&session).await;
    upstream.event(updated("old://listed")).await;
    assert_eq!(hears.next().await.unwrap()["params"]["uri"], "old://listed");
    nexus.reload(&nexus.toml);
    for list in ["tools", "prompts", "resources"] {
        assert_eq!(next_method(&mut hears).await, format!("notifications/{list}/list_changed"));
    }
    let ended = |call: &crate::support::fake::Call| call.verb == http::Method::DELETE && call.header("mcp-session-id") == Some(&session);
    soon("the end of the session there", nexus.fake("old").arrives("the end", ended)).await;
    upstream.event(updated("old://listed")).await;
    // What the client hears next is of something that it may use.
    nexus.reload(&nexus.toml.replace("[mcp.servers.new]", "[mcp.servers.new]\nhide = [\"ask\"]"));
    assert_eq!(next_method(&mut hears).await, "notifications/prompts/list_changed");
}

#[tokio::test]
async fn a_modern_subscription_ends_where_the_rules_end_it() {
    let spec = guarded().upstream("old", full(modern(), "old")).upstream("new", full(modern(), "new"));
    let nexus = spec.start().await;
    let mut stream = new(&nexus, "free")
        .open_as(json!("s"), "subscriptions/listen", json!({"notifications": {"resourceSubscriptions": ["old://listed", "new://listed"]}}))
        .await;
    let (old_id, old_part) = nexus.fake("old").subscription("a part", |filter| !filter["resourceSubscriptions"].is_null()).await;
    let (new_id, new_part) = nexus.fake("new").subscription("a part", |filter| !filter["resourceSubscriptions"].is_null()).await;
    assert_eq!(stream.next().await.unwrap()["params"]["notifications"]["resourceSubscriptions"], json!(["new://listed", "old://listed"]));
    let updated = |uri: &str, id: &Value| {
        let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
        json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri, "_meta": meta}}).to_string()
    };
    old_part.event(updated("old://listed", &old_id)).await;
    assert_eq!(stream.next().await.unwrap()["params"]["uri"], "old://listed");
    nexus.reload(&nexus.toml.replace("[mcp.servers.old]", "[mcp.servers.old]\ndeny = [\"free\"]"));
    soon("the upstream's stream to end", old_part.gone()).await;
    new_part.event(updated("new://listed", &new_id)).await;
    assert_eq!(stream.next().await.unwrap()["params"]["uri"], "new://listed");
}

#[tokio::test]
async fn who_comes_back_in_another_group_hears_no_more_of_what_it_may_not_use() {
    let identified = guarded().tables("[server.client_ip]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[server.client_identification]\nenabled = true\nclient_id.http_header = \"x-client\"\ngroup_id.http_header = \"x-group\"");
    let spec = identified.upstream("old", full(legacy(), "old").get_stream().toml(RULES)).upstream("new", full(modern(), "new"));
    let nexus = spec.start().await;
    let client = Client::stranger(nexus.address).header("x-api-key", &key_of("nobody")).header("x-client", "ada").header("x-group", "pro");
    let pro = client.begin(json!({})).await;
    let free = pro.twin().header("x-group", "free");
    let mut hears = pro.get().await;
    assert_eq!(pro.ask("resources/subscribe", json!({"uri": "old://listed"})).await["error"], Value::Null);
    let session = nexus.fake("old").last("resources/subscribe").header("mcp-session-id").unwrap().to_owned();
    let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "old://listed"}}).to_string();
    let upstream = nexus.fake("old").stream_of(&session).await;
    upstream.event(updated.clone()).await;
    assert_eq!(hears.next().await.unwrap()["params"]["uri"], "old://listed");
    assert_eq!(free.list("tools").await, ["new__secret", "new__open"]);
    let ended = |call: &crate::support::fake::Call| call.verb == http::Method::DELETE && call.header("mcp-session-id") == Some(&session);
    soon("the end of the session there", nexus.fake("old").arrives("the end", ended)).await;
    upstream.event(updated).await;
    nexus.reload(&nexus.toml.replace("[mcp.servers.new]", "[mcp.servers.new]\nhide = [\"ask\"]"));
    assert_eq!(next_method(&mut hears).await, "notifications/prompts/list_changed");
    assert_eq!(pro.call("old__open").await["error"], Value::Null, "and may use it again as who may");
}

#[tokio::test]
async fn a_stream_follows_the_groups_with_which_its_caller_comes_now() {
    let identified = guarded().tables("[server.client_ip]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[server.client_identification]\nenabled = true\nclient_id.http_header = \"x-client\"\ngroup_id.http_header = \"x-group\"");
    let spec = identified.upstream("old", full(legacy(), "old").get_stream().toml(RULES)).upstream("new", full(modern(), "new"));
    let nexus = spec.start().await;
    let client =
        |who: &str, group: &str| nexus.modern().header("x-api-key", &key_of("nobody")).header("x-client", who).header("x-group", group);
    let filter = json!({"toolsListChanged": true, "resourceSubscriptions": ["old://listed"]});
    let mut others = listen(&client("bob", "pro"), filter.clone()).await;
    let mut stream = listen(&client("ada", "pro"), filter).await;
    assert_eq!(client("ada", "free").list("tools").await, ["new__secret", "new__open"]);
    assert_eq!(next_method(&mut stream).await, "notifications/tools/list_changed");
    let session = nexus.fake("old").last("resources/subscribe").header("mcp-session-id").unwrap().to_owned();
    let ended = |call: &crate::support::fake::Call| {
        call.method() == "resources/unsubscribe" || (call.verb == http::Method::DELETE && call.header("mcp-session-id") == Some(&session))
    };
    soon("the end of what it may not follow", nexus.fake("old").arrives("the end", ended)).await;
    assert_eq!(client("ada", "pro").list("tools").await.len(), 4);
    assert_eq!(next_method(&mut stream).await, "notifications/tools/list_changed", "and may see it again");
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(50), others.next_bytes()).await;
    assert!(nothing.is_err(), "nobody else is concerned");
}

#[tokio::test]
async fn a_call_that_has_begun_is_answered_and_what_was_taken_away_may_be_given_back() {
    let (spec, mut held) = full(legacy(), "old").held("tools/call");
    let nexus = guarded().upstream("old", spec.toml("allow = [\"free\"]")).upstream("new", full(modern(), "new")).start().await;
    let client = old(&nexus, "free").await;
    let (twin, other) = (client.twin(), client.twin());
    let calling = tokio::spawn(async move { twin.call("old__open").await });
    let (call, answer) = soon("the call", held.recv()).await.unwrap();
    nexus.reload(&nexus.toml.replace("allow = [\"free\"]", RULES));
    assert_eq!(client.list("tools").await, ["new__secret", "new__open"]);
    assert!(answer.send(Answer::json(call.response(r#""content":[]"#))).is_ok());
    assert_eq!(calling.await.unwrap()["error"], Value::Null);
    let ended = |call: &crate::support::fake::Call| call.verb == http::Method::DELETE;
    assert!(!nexus.fake("old").seen().iter().any(ended));
    assert_eq!(client.list("tools").await.len(), 2);
    soon("the end of the session there", nexus.fake("old").arrives("the end", ended)).await;
    nexus.reload(&nexus.toml);
    let calling = tokio::spawn(async move { other.call("old__open").await });
    let (call, answer) = soon("another call", held.recv()).await.unwrap();
    assert!(answer.send(Answer::json(call.response(r#""content":[]"#))).is_ok());
    assert_eq!(calling.await.unwrap()["error"], Value::Null);
}
