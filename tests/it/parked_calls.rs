//! A 2026-07-28 client of a server of an earlier revision that asks in the middle of a call: the client gets
//! `input_required`, and its retry brings the answers (MCP 2026-07-28, basic/patterns/mrtr).

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod bounds;
mod log_level;
mod principals;
mod refusals;
mod repeats;
mod streams;
mod tasks;
mod urls;

use serde_json::{Value, json};

use crate::support::{
    child::child,
    client::{Client, Response, text},
    fake::{Call, Fake, FakeSpec, Streams, legacy, modern},
    nexus::{GatewaySpec, Nexus, gateway},
    soon,
    wire::Sender,
};

const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// A gateway whose `crm__work` is answered with a stream of the test's.
fn asking() -> (GatewaySpec, Streams) {
    let (spec, streams) = legacy().tool("work").tool("easy").prompt("work").streamed("tools/call");
    (gateway().upstream("crm", spec).upstream("other", modern().tool("easy")), streams)
}

/// The parameters of a call whose client can be asked for everything.
fn params() -> Value {
    let all = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}});
    json!({"name": "crm__work", "arguments": {"b": [1, 2.0], "a": {"y": 1, "x": null}}, "_meta": {CAPABILITIES: all}})
}

/// Begins a call and gives both its ends.
async fn begin(client: &Client, streams: &mut Streams) -> (Response, Call, Sender) {
    begin_with(client, streams, params()).await
}

async fn begin_with(client: &Client, streams: &mut Streams, params: Value) -> (Response, Call, Sender) {
    let response = client.open("tools/call", params).await;
    let (call, sender) = soon("the call", streams.recv()).await.unwrap();
    (response, call, sender)
}

/// A call that waits for the answer to its only question, `q`: the gateway, the client, further calls, both ends of this one,
/// and the result that asks.
async fn waiting() -> (Nexus, Client, Streams, Call, Sender, Value) {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (response, call, server) = begin(&client, &mut streams).await;
    server.event(form("q")).await;
    let round = asked(response).await;
    (nexus, client, streams, call, server, round)
}

fn question(id: &Value, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

fn form(id: &str) -> String {
    question(&json!(id), "elicitation/create", &json!({"message": id, "requestedSchema": {"type": "object"}}))
}

/// The result that asks, of a stream that ends with it.
async fn asked(response: Response) -> Value {
    let answer = response.answer().await;
    assert_eq!(answer["result"]["resultType"], "input_required", "{answer}");
    assert!(answer["result"]["requestState"].is_string(), "{answer}");
    answer["result"].clone()
}

/// The keys of what is asked, by the words of the questions.
fn key_of(asked: &Value, message: &str) -> String {
    let requests = asked["inputRequests"].as_object().unwrap();
    let found = requests.iter().find(|(_, request)| request["params"]["message"] == message);
    found.unwrap_or_else(|| panic!("{message} is not in {asked}")).0.clone()
}

/// The same request once more, with the state and these answers.
fn retry_of(params: &Value, asked: &Value, answers: &Value) -> Value {
    let mut params = params.clone();
    params["requestState"] = asked["requestState"].clone();
    params["inputResponses"] = answers.clone();
    params
}

/// Accepts the only thing that is asked.
fn accepting(asked: &Value, content: &Value) -> Value {
    let keys: Vec<_> = asked["inputRequests"].as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 1, "{asked}");
    json!({keys[0]: {"action": "accept", "content": content}})
}

/// Waits for the answer to the server's request with this id.
async fn answer_to(fake: &Fake, id: &Value) -> Call {
    fake.arrives("the answer", |call| call.method().is_empty() && call.json["id"] == *id).await
}

fn cancellations(fake: &Fake) -> Vec<Call> {
    fake.seen_of("notifications/cancelled")
}

fn is_refused(answer: &Value) {
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["data"]["reason"]),
        (&json!(-32602), &json!("invalid_request_state")),
        "{answer}"
    );
}

#[tokio::test]
async fn a_question_becomes_a_result_that_asks_and_the_retry_brings_the_answer() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    for (id, method, asks) in [
        (json!(1), "elicitation/create", r#"{"z":1.0,"message":"é","requestedSchema":{"type":"object"},"big":18446744073709551616}"#),
        (json!("1"), "sampling/createMessage", r#"{"messages":[],"maxTokens":1,"tools":[],"x":"\u00e9"}"#),
        (json!("é-7"), "roots/list", r#"{}"#),
        (json!(9_007_199_254_740_993_u64), "elicitation/create", r#"{"mode":"form","message":"m"}"#),
    ] {
        let (response, call, server) = begin(&client, &mut streams).await;
        server.event(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{asks}}}"#)).await;
        let raw = response.texts().await.pop().unwrap();
        assert!(raw.contains(&format!(r#":{{"method":"{method}","params":{asks}}}"#)), "no byte of it is changed: {raw}");
        let result: Value = serde_json::from_str::<Value>(&raw).unwrap()["result"].clone();
        assert_eq!(result["resultType"], "input_required");
        assert!(!server.is_gone() && cancellations(nexus.fake("crm")).is_empty(), "the call waits");

        let key = result["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
        let answer = r#"{"action":"accept","n":1.0,"é":[18446744073709551616]}"#;
        let retried = retry_of(&params(), &result, &json!({key: "ANSWER"}));
        let body = json!({"jsonrpc": "2.0", "id": "r", "method": "tools/call", "params": with_meta(retried)}).to_string();
        let response = client.post_named("tools/call", Some("crm__work"), body.replace("\"ANSWER\"", answer)).await;
        let arrived = answer_to(nexus.fake("crm"), &id).await;
        assert_eq!(arrived.text(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{answer}}}"#));
        assert_eq!(arrived.header("mcp-session-id"), call.header("mcp-session-id"), "within the session that asked");
        server.event(call.response(r#""content":[{"type":"text","text":"done"}]"#)).await;
        let done = response.answer().await;
        assert_eq!((&done["id"], text(&done), &done["result"]["resultType"]), (&json!("r"), "done", &json!("complete")));
    }
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), 4, "no retry became a call of its own");
}

/// What every modern request says of itself.
fn with_meta(mut params: Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
    params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
    params
}

#[tokio::test]
async fn questions_that_come_together_are_asked_in_one_round() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (response, call, server) = begin(&client, &mut streams).await;
    server.bytes(["a", "b", "c"].map(|id| crate::support::wire::event(form(id))).concat()).await;
    let round = asked(response).await;
    assert_eq!(round["inputRequests"].as_object().unwrap().len(), 3, "{round}");
    let answers = json!({
        key_of(&round, "c"): {"action": "accept", "content": {"of": "c"}},
        key_of(&round, "a"): {"action": "decline"},
        key_of(&round, "b"): {"action": "cancel"},
        "unknown": {"ignored": true},
    });
    let response = client.open("tools/call", retry_of(&params(), &round, &answers)).await;
    for (id, expected) in [
        ("a", json!({"action": "decline"})),
        ("b", json!({"action": "cancel"})),
        ("c", json!({"action": "accept", "content": {"of": "c"}})),
    ] {
        assert_eq!(answer_to(nexus.fake("crm"), &json!(id)).await.json["result"], expected);
    }
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"], json!({"resultType": "complete", "content": []}));
}

#[tokio::test]
async fn a_server_may_ask_in_several_rounds() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (mut response, call, server) = begin(&client, &mut streams).await;
    let mut keys = std::collections::BTreeSet::new();
    for round in 0..5 {
        server.event(form(&format!("q{round}"))).await;
        let round_asks = asked(response).await;
        assert!(keys.insert(key_of(&round_asks, &format!("q{round}"))), "a key is used once in a call");
        let answers = accepting(&round_asks, &json!({"round": round}));
        response = client.open("tools/call", retry_of(&params(), &round_asks, &answers)).await;
        let arrived = answer_to(nexus.fake("crm"), &json!(format!("q{round}"))).await;
        assert_eq!(arrived.json["result"]["content"]["round"], round);
    }
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"]["resultType"], "complete");
    assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn prompts_and_resources_may_ask_too_and_completions_may_not() {
    for (method, asks) in [
        ("prompts/get", json!({"name": "crm__ask", "arguments": {"x": "y"}})),
        ("resources/read", json!({"uri": "file:///x"})),
        ("completion/complete", json!({"ref": {"type": "ref/prompt", "name": "crm__ask"}, "argument": {"name": "a", "value": "b"}})),
    ] {
        let (spec, mut streams) = legacy().prompt("ask").resource("file:///x").streamed(method);
        let nexus = gateway().upstream("crm", spec).upstream("other", modern()).start().await;
        let client = nexus.modern();
        let mut asks = asks;
        asks["_meta"] = params()["_meta"].clone();
        let response = client.open(method, asks.clone()).await;
        let (call, server) = soon("the call", streams.recv()).await.unwrap();
        server.event(form("q")).await;
        if method == "completion/complete" {
            assert_eq!(answer_to(nexus.fake("crm"), &json!("q")).await.json["error"]["code"], -32601);
            continue;
        }
        let round = asked(response).await;
        let response = client.open(method, retry_of(&asks, &round, &accepting(&round, &json!({})))).await;
        answer_to(nexus.fake("crm"), &json!("q")).await;
        server.event(call.response(r#""messages":[],"contents":[]"#)).await;
        assert_eq!(response.answer().await["result"]["resultType"], "complete", "{method}");
    }
}

#[tokio::test]
async fn what_a_client_declares_is_declared_upstream_and_sessions_are_shared_by_what_is_declared() {
    let nexus = gateway().upstream("crm", legacy().tool("work")).upstream("other", modern()).start().await;
    let with = |declared: Value| json!({"name": "crm__work", "_meta": {CAPABILITIES: declared}});
    for declared in [
        json!({}),
        json!({"elicitation": {}}),
        json!({"elicitation": {"form": {}}}),
        json!({"elicitation": {"url": {}, "form": {}}, "roots": {}, "extensions": {"x": {}}}),
        json!({"sampling": {"tools": {}}}),
        json!({"experimental": {"y": {}}}),
        json!({"elicitation": {}}),
    ] {
        nexus.modern().ask("tools/call", with(declared)).await;
    }
    let opened: Vec<_> = nexus.fake("crm").seen_of("initialize").iter().map(|call| call.params()["capabilities"].clone()).collect();
    let expected = [
        json!({}), // The gateway's own.
        json!({}),
        json!({"elicitation": {}}),
        json!({"roots": {}, "elicitation": {"form": {}, "url": {}}}),
        json!({"sampling": {"tools": {}}}),
    ];
    assert_eq!(opened, expected);
}

#[tokio::test]
async fn a_client_is_asked_only_for_what_it_declared() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    for (declared, method, asks) in [
        (json!({"elicitation": {}}), "sampling/createMessage", json!({"messages": []})),
        (json!({"elicitation": {}}), "elicitation/create", json!({"mode": "url", "url": "https://x", "message": "m"})),
        (json!({"sampling": {}}), "sampling/createMessage", json!({"tools": []})),
        (json!({"sampling": {}}), "roots/list", json!({})),
        (json!({"roots": {}}), "elicitation/create", json!({"message": "m"})),
        (json!({"roots": {}, "elicitation": {}, "sampling": {}}), "tools/list", json!({})),
    ] {
        let mut asks_for = params();
        asks_for["_meta"][CAPABILITIES] = declared;
        let (response, call, server) = begin_with(&client, &mut streams, asks_for).await;
        let id = json!(format!("{method}{asks}"));
        server.event(question(&id, method, &asks)).await;
        assert_eq!(answer_to(nexus.fake("crm"), &id).await.json["error"]["code"], -32601);
        server.event(call.response(r#""content":[]"#)).await;
        assert_eq!(response.answer().await["result"]["resultType"], "complete");
    }
}

#[tokio::test]
async fn what_is_left_unanswered_is_asked_again() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (response, call, server) = begin(&client, &mut streams).await;
    server.bytes(["a", "b"].map(|id| crate::support::wire::event(form(id))).concat()).await;
    let first = asked(response).await;

    let nothing = asked(client.open("tools/call", retry_of(&params(), &first, &json!({}))).await).await;
    assert_eq!(nothing["inputRequests"], first["inputRequests"]);
    let mut without = retry_of(&params(), &first, &json!({}));
    without.as_object_mut().unwrap().remove("inputResponses");
    assert_eq!(asked(client.open("tools/call", without).await).await["inputRequests"], first["inputRequests"]);

    let (a, b) = (key_of(&first, "a"), key_of(&first, "b"));
    let half = json!({a: {"action": "accept"}});
    let second = asked(client.open("tools/call", retry_of(&params(), &first, &half)).await).await;
    answer_to(nexus.fake("crm"), &json!("a")).await;
    assert_eq!(second["inputRequests"], json!({b.clone(): first["inputRequests"][&b]}), "under the same key");
    let response = client.open("tools/call", retry_of(&params(), &second, &json!({b: {"action": "decline"}}))).await;
    answer_to(nexus.fake("crm"), &json!("b")).await;
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"]["resultType"], "complete");
}

#[tokio::test]
async fn a_child_process_may_ask_in_the_middle_of_its_only_call() {
    let nexus = gateway().upstream("kid", child()).upstream("other", modern()).start().await;
    let client = nexus.modern();
    let mut call = params();
    call["name"] = "kid__ask".into();
    let round = asked(client.open("tools/call", call.clone()).await).await;
    assert_eq!(round["inputRequests"].as_object().unwrap().values().next().unwrap()["params"]["message"], "sure?");
    let done = client.ask("tools/call", retry_of(&call, &round, &accepting(&round, &json!({"yes": true})))).await;
    assert_eq!(serde_json::from_str::<Value>(text(&done)).unwrap(), json!({"action": "accept", "content": {"yes": true}}));
}

#[tokio::test]
async fn calls_with_equal_ids_that_all_wait_each_get_their_own_answers() {
    let (spec, mut streams) = asking();
    let nexus = spec.mcp("[mcp.parked]\nmax_per_principal = 100").start().await;
    let mut waiting = Vec::new();
    for n in 0..40 {
        let client = nexus.modern();
        let mut asks = params();
        asks["arguments"] = json!({"n": n});
        let response = client.open_as(json!(1), "tools/call", asks.clone()).await;
        let (call, server) = soon("the call", streams.recv()).await.unwrap();
        server.event(form("same")).await;
        waiting.push((client, asks, response, call, server));
    }
    let mut retried = Vec::new();
    for (client, asks, response, call, server) in waiting {
        let round = asked(response).await;
        let answers = accepting(&round, &asks["arguments"]);
        retried.push((client.open_as(json!(1), "tools/call", retry_of(&asks, &round, &answers)).await, call, server));
    }
    for (n, (response, call, server)) in retried.into_iter().enumerate() {
        assert_eq!(call.params()["arguments"]["n"], n);
        server.event(call.response(&format!(r#""content":[{{"type":"text","text":"{n}"}}]"#))).await;
        assert_eq!(text(&response.answer().await), n.to_string());
    }
    let answers: std::collections::BTreeSet<_> =
        nexus.fake("crm").seen().iter().filter_map(|call| call.json["result"]["content"]["n"].as_u64()).collect();
    assert_eq!(answers.len(), 40);
}

/// One upstream with a tool, whatever else it does.
fn with_tool(spec: FakeSpec) -> GatewaySpec {
    gateway().upstream("crm", spec.tool("work")).upstream("other", modern())
}
