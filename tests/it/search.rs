//! `search` and `execute`: what is listed, found and run through them.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // Helpers of tests.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    client::{Client, text},
    fake::{Answer, FakeSpec, legacy, modern},
    nexus::{GatewaySpec, Nexus, gateway},
    offer::tool,
    soon, until,
};

fn described(name: &str, description: &str) -> String {
    let schema = r#"{"type":"object","properties":{"zeta":{},"alpha":{"type":"string"}}}"#;
    format!(r#"{{"name":"{name}","description":"{description}","inputSchema":{schema}}}"#)
}

/// A CRM of the one era and a bank of the other.
fn two(mode: &str) -> GatewaySpec {
    gateway()
        .mcp(&format!("tools = \"{mode}\""))
        .upstream("crm", legacy().raw_tool(&described("find_customer", "Finds people.")).tool("delete_customer"))
        .upstream("bank", modern().raw_tool(&described("transfer", "Moves money.")).tool("search"))
}

async fn search(client: &Client, keywords: Value) -> Value {
    client.ask("tools/call", json!({"name": "search", "arguments": {"keywords": keywords}})).await
}

/// The names found, the best first.
async fn found(client: &Client, keyword: &str) -> Vec<String> {
    let answer = search(client, json!([keyword])).await;
    let results = answer["result"]["structuredContent"]["results"].as_array().unwrap_or_else(|| panic!("{answer}"));
    results.iter().map(|result| result["name"].as_str().unwrap().to_owned()).collect()
}

fn executing(name: &str, arguments: Value) -> Value {
    json!({"name": "execute", "arguments": {"name": name, "arguments": arguments}})
}

async fn clients(nexus: &Nexus) -> [Client; 2] {
    [nexus.legacy().await, nexus.modern()]
}

#[tokio::test]
async fn the_two_tools_alone_are_listed_in_search_mode_and_before_the_others_in_both() {
    for (mode, expected) in [
        ("search", &["search", "execute"][..]),
        ("both", &["search", "execute", "crm__find_customer", "crm__delete_customer", "bank__transfer", "bank__search"]),
        ("direct", &["crm__find_customer", "crm__delete_customer", "bank__transfer", "bank__search"]),
    ] {
        let nexus = two(mode).start().await;
        for client in clients(&nexus).await {
            assert_eq!(client.list("tools").await, expected, "{mode}");
        }
    }
}

#[tokio::test]
async fn lists_are_lists_before_anything_is_known() {
    let (spec, _hanging) = modern().tool("late").held("server/discover");
    let silent = gateway().mcp("tools = \"search\"\nlist_wait = \"0s\"").upstream("up", spec).start_at_once().await;
    for client in clients(&silent).await {
        assert_eq!(client.list("tools").await, ["search", "execute"]);
        assert_eq!(client.list("prompts").await, [""; 0]);
        assert_eq!(found(&client, "late").await, [""; 0]);
    }
}

#[tokio::test]
async fn the_two_tools_have_the_arguments_and_hints_that_clients_know() {
    let nexus = two("search").start().await;
    let listed = nexus.modern().ask("tools/list", json!({})).await;
    let [search, execute] = &listed["result"]["tools"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!(search["inputSchema"]["properties"]["keywords"]["items"], json!({"type": "string"}));
    assert_eq!((&search["inputSchema"]["required"], &search["annotations"]), (&json!(["keywords"]), &json!({"readOnlyHint": true})));
    let result = &search["outputSchema"]["properties"]["results"]["items"];
    assert_eq!(result["required"], json!(["name", "description", "input_schema", "score"]));
    assert_eq!(execute["inputSchema"]["required"], json!(["name", "arguments"]));
    assert_eq!(execute["inputSchema"]["properties"]["arguments"]["type"], "object");
    assert_eq!(execute["annotations"], json!({"destructiveHint": true, "openWorldHint": true}));
}

#[tokio::test]
async fn what_is_found_comes_as_structured_content_and_as_one_text_each() {
    let nexus = two("search").start().await;
    for client in clients(&nexus).await {
        let answer = search(&client, json!(["move", "money"])).await;
        let results = answer["result"]["structuredContent"]["results"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
        assert_eq!(results.len(), 1, "{answer}");
        let best = &results[0];
        assert_eq!((&best["name"], &best["description"]), (&json!("bank__transfer"), &json!("Moves money.")));
        assert_eq!(best["input_schema"]["properties"]["alpha"], json!({"type": "string"}));
        assert!(best["score"].as_f64().unwrap() > 0.0);
        assert_eq!(best.as_object().unwrap().len(), 4);
        let content = answer["result"]["content"].as_array().unwrap();
        assert_eq!(content.len(), results.len());
        assert!(text(&answer).contains(r#"{"zeta":{},"alpha":"#), "the schema keeps its order: {}", text(&answer));
        assert_eq!(serde_json::from_str::<Value>(text(&answer)).unwrap(), *best);
    }
    let [old, new] = clients(&nexus).await;
    assert_eq!(search(&old, json!(["money"])).await["result"]["resultType"], Value::Null);
    assert_eq!(search(&new, json!(["money"])).await["result"]["resultType"], "complete");
    assert_eq!(search(&new, json!(["qqqqqqqq"])).await["result"]["structuredContent"], json!({"results": []}));
    let nameless = search(&new, json!(["delete"])).await;
    assert_eq!(nameless["result"]["structuredContent"]["results"][0]["description"], "No description available");
}

#[tokio::test]
async fn at_most_ten_are_found() {
    let many = (0..30).fold(legacy(), |spec, n| spec.tool(&format!("copy_{n}")));
    let nexus = gateway().mcp("tools = \"search\"").upstream("up", many).start().await;
    assert_eq!(found(&nexus.modern(), "copy").await.len(), 10);
}

#[tokio::test]
async fn without_structured_content_there_is_text_only_and_no_promise_of_more() {
    let nexus = two("search").mcp("enable_structured_content = false").start().await;
    for client in clients(&nexus).await {
        let answer = search(&client, json!(["money"])).await;
        assert_eq!(answer["result"]["structuredContent"], Value::Null);
        assert!(text(&answer).contains("bank__transfer"));
        let listed = client.ask("tools/list", json!({})).await;
        assert_eq!(listed["result"]["tools"][0]["outputSchema"], Value::Null, "a client would miss what it promises");
    }
}

#[tokio::test]
async fn execute_runs_the_tool_and_its_arguments_arrive_byte_for_byte() {
    let nexus = two("search").start().await;
    let arguments = r#"{"zeta": 1.0,"alpha":"\u00e9\ud83d\ude00", "n":9223372036854775808,"name":"inner"}"#;
    for (client, version) in [(nexus.legacy().await, None), (nexus.modern(), Some("2026-07-28"))] {
        for (tool, upstream, own) in [("crm__find_customer", "crm", "find_customer"), ("transfer", "bank", "transfer")] {
            let meta = version.map_or(String::new(), |version| {
                format!(
                    r#","_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientInfo":{{"name":"t","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{{}},"traceparent":"00-1"}}"#
                )
            });
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":"e","method":"tools/call","params":{{"name":"execute","arguments":{{ "arguments" : {arguments} ,"name":"{tool}"}},"x":1{meta}}}}}"#
            );
            let answer = client.post_named("tools/call", Some("execute"), body).await.answer().await;
            assert_eq!((text(&answer), &answer["id"]), (&*format!("{upstream}:{own}"), &json!("e")));
            let arrived = nexus.fake(upstream).last("tools/call");
            assert!(arrived.text().contains(&format!(r#""arguments":{arguments},"x":1"#)), "{}", arrived.text());
            assert_eq!(arrived.params()["name"], own);
            assert!(!arrived.text().contains("execute"), "{}", arrived.text());
            if upstream == "bank" {
                assert_eq!(arrived.header("mcp-name"), Some("transfer"));
            }
        }
    }
}

#[tokio::test]
async fn a_modern_client_names_execute_in_its_header_and_nothing_else() {
    let nexus = two("search").start().await;
    let client = nexus.modern();
    let params = executing("bank__transfer", json!({}));
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": params["name"], "arguments": params["arguments"], "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}}}})
    .to_string();
    assert_eq!(client.post_named("tools/call", Some("execute"), body.clone()).await.status, StatusCode::OK);
    let refused = client.post_named("tools/call", Some("bank__transfer"), body).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.answer().await["error"]["code"], -32020);
}

#[tokio::test]
async fn the_headers_that_a_tool_wants_are_made_from_the_inner_arguments() {
    let schema = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}"#;
    let spec = modern().raw_tool(&format!(r#"{{"name":"work","inputSchema":{schema}}}"#));
    let nexus = gateway().mcp("tools = \"search\"").upstream("up", spec).upstream("other", legacy()).start().await;
    for client in [nexus.legacy().await, nexus.modern(), nexus.modern().header("mcp-param-region", "us")] {
        let answer = client.ask("tools/call", executing("up__work", json!({"region": "eu"}))).await;
        assert_eq!(text(&answer), "up:work", "{answer}");
        assert_eq!(nexus.fake("up").last("tools/call").header("mcp-param-region"), Some("eu"));
    }
}

#[tokio::test]
async fn progress_and_cancellation_are_those_of_the_inner_call() {
    for server in [legacy as fn() -> FakeSpec, modern] {
        let (spec, mut streams) = server().tool("slow").streamed("tools/call");
        let nexus = gateway().mcp("tools = \"search\"").upstream("up", spec).upstream("other", legacy()).start().await;
        let client = nexus.legacy().await;
        let mut params = executing("up__slow", json!({}));
        params["_meta"] = json!({"progressToken": "mine"});
        let (opened, (call, stream)) =
            tokio::join!(client.open_as(json!(7), "tools/call", params), async { soon("the call", streams.recv()).await.unwrap() });
        let mut opened = opened;
        stream.event(call.progress(1)).await;
        assert_eq!(opened.next().await.unwrap()["params"], json!({"progressToken": "mine", "progress": 1}));
        client.notify("notifications/cancelled", json!({"requestId": 7})).await;
        if call.header("mcp-session-id").is_some() {
            let told = nexus.fake("up").arrives("the cancellation", |call| call.method() == "notifications/cancelled").await;
            assert_eq!(told.params()["requestId"], *call.id());
        } else {
            until("the end of the stream", || stream.is_gone()).await;
        }
    }
}

#[tokio::test]
async fn a_tool_that_nobody_has_is_not_executed() {
    let nexus = two("search").start().await;
    for (client, code) in [(nexus.legacy().await, -32601), (nexus.modern(), -32602)] {
        for name in ["nobody__has", "execute", "", "crm__search"] {
            let response = client.open("tools/call", executing(name, json!({}))).await;
            assert_eq!(response.status, StatusCode::OK, "no client takes it for a missing endpoint");
            let answer = response.answer().await;
            assert_eq!(answer["error"]["code"], code, "{name}: {answer}");
        }
    }
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len() + nexus.fake("bank").seen_of("tools/call").len(), 0);
}

#[tokio::test]
async fn arguments_that_are_not_theirs_are_refused() {
    let nexus = two("search").start().await;
    let client = nexus.legacy().await;
    for call in [
        json!({"name": "execute"}),
        json!({"name": "execute", "arguments": null}),
        json!({"name": "execute", "arguments": {"arguments": {}}}),
        json!({"name": "execute", "arguments": {"name": 7, "arguments": {}}}),
        json!({"name": "execute", "arguments": {"name": "bank__transfer"}}),
        json!({"name": "execute", "arguments": {"name": "bank__transfer", "arguments": "{}"}}),
        json!({"name": "execute", "arguments": {"name": "bank__transfer", "arguments": [1]}}),
        json!({"name": "search"}),
        json!({"name": "search", "arguments": {"keywords": "money"}}),
        json!({"name": "search", "arguments": {"keywords": [1]}}),
    ] {
        let answer = client.ask("tools/call", call.clone()).await;
        assert_eq!(answer["error"]["code"], -32602, "{call}: {answer}");
    }
    // Which of the two would count depends on the reader.
    let twice = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"execute","arguments":{"name":"crm__find_customer","n\u0061me":"crm__delete_customer","arguments":{}}}}"#;
    assert_eq!(client.post(twice).await.answer().await["error"]["code"], -32602);
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len() + nexus.fake("bank").seen_of("tools/call").len(), 0);
}

#[tokio::test]
async fn what_is_hidden_is_neither_found_nor_executed() {
    let spec = legacy().tool("find_customer").tool("delete_customer").toml("hide = [\"delete_*\"]");
    let nexus = gateway().mcp("tools = \"both\"").upstream("crm", spec).upstream("bank", modern().tool("transfer")).start().await;
    for client in clients(&nexus).await {
        assert_eq!(found(&client, "customer").await, ["crm__find_customer"]);
        for name in ["crm__delete_customer", "delete_customer"] {
            let answer = client.ask("tools/call", executing(name, json!({}))).await;
            assert!(answer["error"]["code"].as_i64().unwrap() <= -32601, "{answer}");
        }
    }
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), 0);
}

#[tokio::test]
async fn a_change_is_found_and_is_told_only_where_the_list_is_another() {
    for mode in ["search", "both"] {
        let nexus = two(mode).start().await;
        let client = nexus.modern();
        let params = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}});
        let mut stream = client.open("subscriptions/listen", params).await;
        stream.next().await.unwrap();
        nexus.fake("bank").change(|offer| {
            offer.tools = vec![tool("borrow")];
            offer.prompts = vec![json!({"name": "p"}).to_string()];
        });
        nexus.fake("bank").tools_changed().await;
        let told = stream.next().await.unwrap();
        let expected = if mode == "both" { "notifications/tools/list_changed" } else { "notifications/prompts/list_changed" };
        assert_eq!(told["method"], expected);
        assert_eq!(found(&client, "transfer").await, [""; 0], "what has gone is not found, whatever the index says yet");
        // Until the new index is made the old one answers.
        soon("the new tool", async { while found(&client, "borrow").await != ["bank__borrow"] {} }).await;
        assert_eq!(text(&client.ask("tools/call", executing("bank__borrow", json!({}))).await), "bank:borrow");
    }
}

#[tokio::test]
async fn an_unprefixed_upstreams_tools_of_these_names_are_called_by_their_full_name() {
    let own = || legacy().tool("search").tool("execute").tool("other").toml("prefix = \"\"");
    for mode in ["search", "both"] {
        let nexus = gateway().mcp(&format!("tools = \"{mode}\"")).upstream("web", own()).start().await;
        for client in clients(&nexus).await {
            let mut listed = client.list("tools").await;
            listed.retain(|name| mode == "both" || ["search", "execute"].contains(&&**name));
            let all = ["search", "execute", "web__search", "web__execute", "other"];
            assert_eq!(listed, all[..if mode == "both" { 5 } else { 2 }]);
            assert_eq!(found(&client, "search").await, ["web__search"]);
            assert_eq!(text(&client.call("web__search").await), "web:search");
            assert_eq!(text(&client.ask("tools/call", executing("web__execute", json!({}))).await), "web:execute");
        }
    }
}

#[tokio::test]
async fn the_two_answer_where_they_are_not_listed_unless_an_upstream_has_the_name() {
    let nexus = two("direct").start().await;
    for client in clients(&nexus).await {
        assert_eq!(text(&client.call("search").await), "bank:search", "the only tool of that name");
        assert_eq!(text(&client.ask("tools/call", executing("bank__transfer", json!({}))).await), "bank:transfer");
    }
    let nexus = gateway().upstream("a", legacy().tool("x")).upstream("b", modern().tool("y")).start().await;
    for client in clients(&nexus).await {
        assert_eq!(found(&client, "x").await, ["a__x"]);
    }
    // A single upstream without a prefix is relayed as it is, its refusals included.
    let spec = modern().tool("x").toml("prefix = \"\"").on("tools/call", |call| Answer::json(call.error(-32602)));
    let nexus = gateway().upstream("only", spec).start().await;
    let answer = search(&nexus.modern(), json!(["x"])).await;
    assert_eq!(answer["error"]["data"]["kept"], 1, "{answer}");
}

#[tokio::test]
async fn an_agent_that_sees_two_tools_is_told_how_to_use_them() {
    let nexus = two("search").start().await;
    let found = nexus.modern().ask("server/discover", json!({})).await;
    let words = found["result"]["instructions"].as_str().unwrap_or_else(|| panic!("{found}"));
    assert!(words.contains("`search`") && words.contains("`execute`") && words.contains("crm, bank"), "{words}");
}

#[tokio::test]
async fn an_operator_sees_that_tools_are_found_and_not_listed() {
    let nexus = two("search").admin("").start().await;
    let tools = nexus.operator().json("/api/v1/tools").await;
    let words: Vec<_> = tools["tools"].as_array().unwrap().iter().map(|tool| tool["visibility"].as_str().unwrap()).collect();
    assert_eq!(words, ["found"; 4]);
}
