//! What is listed, under which names, and what clients are told when it changes.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{
    client::{Client, Response, text},
    fake::{Answer, FakeSpec, legacy, modern},
    nexus::gateway,
    offer::tool,
    soon, until,
};

const CHANGED: &str = "notifications/tools/list_changed";

/// The stream on which this client hears of changes, ready to hear.
async fn changes(client: &Client) -> Response {
    if client.headers["mcp-protocol-version"] == "2026-07-28" {
        let mut stream = client.open_as(json!("sub"), "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}})).await;
        let ack = stream.next().await.unwrap();
        assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(ack["params"]["notifications"], json!({"toolsListChanged": true}));
        assert_eq!(ack["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
        stream
    } else {
        client.get().await
    }
}

/// Waits for the news of a change.
async fn hears(stream: &mut Response) {
    let told = stream.next().await.unwrap();
    assert_eq!(told["method"], CHANGED, "{told}");
}

#[tokio::test]
async fn an_item_that_would_break_clients_is_left_out_and_the_rest_listed() {
    let spec = legacy()
        .tool("good")
        .raw_tool(r#"{"name":"no-schema"}"#)
        .raw_tool(r#"{"name":"list-schema","inputSchema":{"type":"array"}}"#)
        .raw_tool(r#"{"name":7,"inputSchema":{"type":"object"}}"#)
        .raw_tool(r#"["not","an","object"]"#)
        .raw_tool(r#"{"name":"null-words","description":null,"inputSchema":{"type":"object"}}"#)
        .tool("better");
    let nexus = gateway().upstream("up", spec).upstream("other", modern().tool("x")).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        assert_eq!(client.list("tools").await, ["up__good", "up__better", "other__x"]);
    }
    nexus.state("up", "degraded").await;
}

#[tokio::test]
async fn only_what_is_exposed_and_not_hidden_is_listed_or_called() {
    let spec = legacy().tool("get_a").tool("get_secret").tool("delete_a").prompt("get_p").prompt("other_p");
    let nexus = gateway()
        .upstream("up", spec.toml("expose = [\"get_*\"]\nhide = [\"*_secret\"]"))
        .upstream("other", modern().tool("x"))
        .start()
        .await;
    for client in [nexus.legacy().await, nexus.modern()] {
        assert_eq!(client.list("tools").await, ["up__get_a", "other__x"]);
        assert_eq!(client.list("prompts").await, ["up__get_p"]);
        for name in ["up__get_secret", "get_secret", "up__delete_a", "delete_a"] {
            assert_eq!(client.call(name).await["error"]["code"], -32602, "{name}");
        }
        assert_eq!(text(&client.call("get_a").await), "up:get_a");
    }
    assert_eq!(nexus.fake("up").seen_of("tools/call").len(), 2);
}

#[tokio::test]
async fn a_name_that_is_taken_stays_with_the_first_in_the_file() {
    let first = legacy().tool("b__x").resource("file:///same").toml("prefix = \"\"");
    let nexus = gateway().upstream("a", first).upstream("b", modern().tool("x").tool("y").resource("file:///same")).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        assert_eq!(client.list("tools").await, ["b__x", "b__y"]);
        assert_eq!(text(&client.call("b__x").await), "a:b__x");
        assert_eq!(text(&client.call("x").await), "b:x", "the other one has a name that leads to it");
        assert_eq!(client.list("resources").await, ["file:///same"]);
        let read = client.ask("resources/read", json!({"uri": "file:///same"})).await;
        assert_eq!(read["result"]["contents"][0]["text"], "a");
    }
}

#[tokio::test]
async fn a_plain_name_that_two_have_is_refused_with_the_names_to_choose_from() {
    let nexus = gateway()
        .upstream("a", legacy().tool("same").tool("mine").toml("prefix = \"short\""))
        .upstream("b", modern().tool("same"))
        .start()
        .await;
    for client in [nexus.legacy().await, nexus.modern()] {
        let answer = client.call("same").await;
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["data"]["candidates"]),
            (&json!(-32602), &json!(["short__same", "b__same"]))
        );
        for (name, expected) in
            [("short__same", "a:same"), ("a__same", "a:same"), ("b__same", "b:same"), ("mine", "a:mine"), ("a__mine", "a:mine")]
        {
            assert_eq!(text(&client.call(name).await), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_long_name_is_shortened_alike_every_time_and_still_leads_to_its_tool() {
    let long = "a_tool_with_a_name_that_is_far_too_long_for_most_clients";
    let twin = format!("{long}_2");
    let start = async || {
        let spec = legacy().tool(long).tool(&twin).tool("short");
        gateway().upstream("up", spec).upstream("other", modern()).mcp("max_tool_name = 32").start().await
    };
    let nexus = start().await;
    let client = nexus.legacy().await;
    let listed = client.list("tools").await;
    assert!(listed.iter().all(|name| name.len() <= 32), "{listed:?}");
    assert!(listed[0] != listed[1] && listed[0].starts_with("up__a_tool"), "{listed:?}");
    assert_eq!(listed[2], "up__short");
    for (name, own) in [(&listed[0], long), (&listed[1], &*twin), (&format!("up__{long}"), long), (&long.to_owned(), long)] {
        assert_eq!(text(&client.call(name).await), format!("up:{own}"));
    }
    assert_eq!(start().await.legacy().await.list("tools").await, listed);
}

#[tokio::test]
async fn a_name_that_mcp_does_not_allow_is_listed_as_one_that_it_does_and_accepted_as_it_is() {
    let names = ["delete everything!", "delete/everything", "a,b", "fine.name-1"];
    let spec = names.iter().fold(modern(), |spec, name| spec.tool(name));
    let nexus = gateway().upstream("up", spec).upstream("other", legacy().tool("a b").toml("prefix = \"\"")).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        let listed = client.list("tools").await;
        let allowed = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) && name.len() <= 128;
        assert!(listed.iter().all(allowed), "{listed:?}");
        assert_eq!(listed[3], "up__fine.name-1");
        for (name, own) in listed.iter().zip(names) {
            for called in [name.clone(), format!("up__{own}"), own.to_owned()] {
                assert_eq!(text(&client.call(&called).await), format!("up:{own}"), "{called}");
            }
        }
        assert_eq!(text(&client.call("a b").await), "other:a b");
        assert_eq!(text(&client.call(&listed[4]).await), "other:a b");
    }
    assert_eq!(nexus.fake("up").last("tools/call").params()["name"], "fine.name-1");
}

#[tokio::test]
async fn a_change_upstream_reaches_every_client_that_listens() {
    for server in [(|| legacy().get_stream()) as fn() -> FakeSpec, modern] {
        let nexus = gateway().upstream("up", server().tool("old")).upstream("other", legacy().tool("x")).start().await;
        for client in [nexus.legacy().await, nexus.modern()] {
            let before = client.list("tools").await;
            let mut stream = changes(&client).await;
            let name = format!("new-{}", before.len());
            nexus.fake("up").change(|offer| offer.tools.push(tool(&name)));
            nexus.fake("up").tools_changed().await;
            hears(&mut stream).await;
            assert!(client.list("tools").await.contains(&format!("up__{name}")));
            assert_eq!(text(&client.call(&name).await), format!("up:{name}"));
        }
    }
}

#[tokio::test]
async fn who_listens_for_something_else_is_not_told() {
    let nexus = gateway().upstream("up", modern().tool("old")).upstream("other", legacy()).start().await;
    let client = nexus.modern();
    let mut deaf = client.open("subscriptions/listen", json!({"notifications": {"promptsListChanged": true, "vendor/x": true}})).await;
    let honoured = json!({"promptsListChanged": true, "vendor/x": true});
    assert_eq!(deaf.next().await.unwrap()["params"]["notifications"], honoured, "an extension's key is for the upstream to honour");
    let mut hearing = changes(&client).await;
    nexus.fake("up").change(|offer| offer.tools.push(tool("new")));
    nexus.fake("up").tools_changed().await;
    hears(&mut hearing).await;
    nexus.fake("up").change(|offer| offer.prompts.push(json!({"name": "p"}).to_string()));
    nexus.fake("up").tools_changed().await;
    let told = deaf.next().await.unwrap();
    assert_eq!(told["method"], "notifications/prompts/list_changed", "the change of the tools was not told");
}

#[tokio::test]
async fn an_upstream_that_goes_stays_listed_and_its_calls_say_why() {
    let nexus = gateway().upstream("up", modern().tool("x")).upstream("other", legacy().tool("y")).start().await;
    let client = nexus.legacy().await;
    nexus.fake("up").go_down();
    nexus.state("up", "down").await;
    assert_eq!(client.list("tools").await, ["up__x", "other__y"]);
    let answer = client.call("up__x").await;
    assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["upstream"]), (&json!(-32603), &json!("up")), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("is unavailable"));
    assert_eq!(text(&client.call("y").await), "other:y");

    nexus.fake("up").come_back();
    nexus.state("up", "up").await;
    assert_eq!(text(&client.call("up__x").await), "up:x");
}

#[tokio::test]
async fn an_upstream_that_goes_is_hidden_if_so_configured_and_comes_back() {
    let nexus = gateway()
        .mcp("when_down = \"hide\"")
        .upstream("up", legacy().get_stream().tool("x"))
        .upstream("other", legacy().tool("y"))
        .start()
        .await;
    let (old, new) = (nexus.legacy().await, nexus.modern());
    let (mut old_hears, mut new_hears) = (changes(&old).await, changes(&new).await);
    nexus.fake("up").go_down();
    hears(&mut old_hears).await;
    hears(&mut new_hears).await;
    for client in [&old, &new] {
        assert_eq!(client.list("tools").await, ["other__y"]);
        assert_eq!(client.call("up__x").await["error"]["data"]["upstream"], "up", "it can still be named");
    }
    nexus.fake("up").come_back();
    hears(&mut old_hears).await;
    hears(&mut new_hears).await;
    for client in [&old, &new] {
        assert_eq!(client.list("tools").await, ["up__x", "other__y"]);
        assert_eq!(text(&client.call("up__x").await), "up:x");
    }
}

#[tokio::test]
async fn a_session_that_the_upstream_forgot_is_opened_again_once() {
    let nexus = gateway().upstream("up", legacy().tool("x")).upstream("other", modern()).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        client.call("up__x").await;
        let (opened, called) = (nexus.fake("up").seen_of("initialize").len(), nexus.fake("up").seen_of("tools/call").len());
        nexus.fake("up").forget_sessions();
        let response = client.open("tools/call", json!({"name": "up__x"})).await;
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(text(&response.answer().await), "up:x");
        assert_eq!(nexus.fake("up").seen_of("initialize").len(), opened + 1);
        assert_eq!(nexus.fake("up").seen_of("tools/call").len(), called + 2, "refused, then served");
    }
}

#[tokio::test]
async fn a_session_that_is_always_forgotten_ends_the_call() {
    let spec = legacy().tool("x").on("tools/call", |_| Answer::status(404));
    let nexus = gateway().upstream("up", spec).upstream("other", modern().tool("y")).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        let before = nexus.fake("up").seen_of("tools/call").len();
        let response = client.open("tools/call", json!({"name": "up__x"})).await;
        assert_eq!(response.status, StatusCode::OK, "a 404 would end the client's own session");
        assert_eq!(response.answer().await["error"]["code"], -32603);
        assert_eq!(nexus.fake("up").seen_of("tools/call").len(), before + 2);
        assert_eq!(text(&client.call("other__y").await), "other:y");
    }
}

#[tokio::test]
async fn clients_are_greeted_while_an_upstream_hangs_and_lists_wait_for_it_briefly() {
    let (spec, mut hanging) = modern().tool("late").held("server/discover");
    let nexus = gateway().mcp("list_wait = \"1s\"").upstream("up", spec).upstream("other", legacy().tool("x")).start_at_once().await;
    let began = Instant::now();
    let (old, new) = (nexus.legacy().await, nexus.modern());
    let found = new.ask("server/discover", json!({})).await;
    assert!(began.elapsed().as_millis() < 900, "greeted at once: {:?}", began.elapsed());
    for capability in ["tools", "prompts", "resources", "completions", "logging"] {
        assert!(found["result"]["capabilities"][capability].is_object(), "everything is possible yet: {capability}");
    }
    let (mut old_hears, mut new_hears) = (changes(&old).await, changes(&new).await);
    assert_eq!(old.list("tools").await, ["other__x"], "after the wait, without the one that hangs");
    assert!((900..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(new.list("tools").await, ["other__x"]);

    let (call, reply) = soon("the probe", hanging.recv()).await.unwrap();
    let members = r#""resultType":"complete","ttlMs":0,"cacheScope":"private","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}"#;
    let _ = reply.send(Answer::json(call.response(members)));
    until("the late tool", || nexus.gateway.all_tried()).await;
    for (client, stream) in [(&old, &mut old_hears), (&new, &mut new_hears)] {
        while !client.list("tools").await.contains(&"up__late".to_owned()) {
            hears(stream).await;
        }
        assert_eq!(text(&client.call("up__late").await), "up:late");
    }
}

#[tokio::test]
async fn a_list_waits_no_longer_than_its_slowest_upstream() {
    let (spec, mut hanging) = legacy().tool("late").held("initialize");
    let nexus = gateway()
        .mcp("list_wait = \"60s\"")
        .upstream("up", spec.unchecked_sessions())
        .upstream("other", legacy().tool("x"))
        .start_at_once()
        .await;
    let client = nexus.legacy().await;
    let twin = client.twin();
    let listing = tokio::spawn(async move { twin.list("tools").await });
    let calling = client.open("tools/call", json!({"name": "up__late"}));
    let release = async {
        let (call, reply) = hanging.recv().await.unwrap();
        let greeting =
            json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "up", "version": "1"}});
        let body = json!({"jsonrpc": "2.0", "id": call.id(), "result": greeting}).to_string();
        let _ = reply.send(Answer::json(body).header("mcp-session-id", "s"));
        // The session of the client's own.
        let (call, reply) = hanging.recv().await.unwrap();
        let body = json!({"jsonrpc": "2.0", "id": call.id(), "result": greeting}).to_string();
        let _ = reply.send(Answer::json(body).header("mcp-session-id", "t"));
    };
    let (response, ()) = soon("the call", async { tokio::join!(calling, release) }).await;
    assert_eq!(text(&response.answer().await), "up:late");
    assert_eq!(soon("the list", listing).await.unwrap(), ["up__late", "other__x"]);
}

#[tokio::test]
async fn a_second_get_stream_replaces_the_first() {
    let nexus = gateway().upstream("up", modern().tool("x")).upstream("other", legacy()).start().await;
    let client = nexus.legacy().await;
    let mut first = client.get().await;
    let mut second = client.get().await;
    assert_eq!(first.next().await, None, "the first ends");
    nexus.fake("up").change(|offer| offer.tools.push(tool("new")));
    nexus.fake("up").tools_changed().await;
    hears(&mut second).await;
    let none: Option<Value> = None;
    assert_eq!(first.next().await, none);
}
