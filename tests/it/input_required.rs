//! A modern server needs input in the middle of a legacy client's call: the client is asked, and the call is made again.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    child::child,
    client::{Client, Response, text},
    fake::{Answer, Call, FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
    program::Program,
    soon, until,
};

const FORM: &str =
    r#"{"method":"elicitation/create","params":{"mode":"form","message":"sure?","requestedSchema":{"type":"object","z":1.0}}}"#;

/// A result that asks for this, with a state if there is one.
fn required(requests: &str, state: &str) -> String {
    let state = if state.is_empty() { String::new() } else { format!(r#","requestState":{state}"#) };
    format!(r#""resultType":"input_required","inputRequests":{requests}{state}"#)
}

/// The method's own result, with everything that the server was given in it.
fn done(call: &Call) -> String {
    let text = json!({"responses": call.params()["inputResponses"], "state": call.params()["requestState"]}).to_string();
    let block = json!({"type": "text", "text": text});
    let members = match call.method() {
        "tools/call" => json!({"content": [block]}),
        "prompts/get" => json!({"messages": [{"role": "user", "content": block}]}),
        _ => json!({"contents": [{"uri": "file:///x", "text": text}]}),
    };
    let members = members.to_string();
    call.response(&format!(r#""resultType":"complete",{}"#, &members[1..members.len() - 1]))
}

fn is_first(call: &Call) -> bool {
    call.params()["inputResponses"].is_null() && call.params()["requestState"].is_null()
}

/// A server that asks for this once.
fn asking(requests: &'static str, state: &'static str) -> FakeSpec {
    let answer = move |call: &Call| Answer::json(if is_first(call) { call.response(&required(requests, state)) } else { done(call) });
    let spec = modern().tool("work").prompt("work").resource("file:///x");
    spec.on("tools/call", answer).on("prompts/get", answer).on("resources/read", answer)
}

async fn behind(spec: FakeSpec) -> Nexus {
    gateway().upstream("new", spec).upstream("other", legacy().tool("x")).start().await
}

fn calls(nexus: &Nexus) -> Vec<Call> {
    nexus.fake("new").seen_of("tools/call")
}

async fn begin(client: &Client) -> Response {
    client.open_as(json!("mine"), "tools/call", json!({"name": "new__work", "arguments": {"n": 1}})).await
}

/// Sends `initialize` with this version.
async fn of_version(nexus: &Nexus, version: &str, capabilities: Value) -> Client {
    let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}});
    let response = Client::stranger(nexus.address).open("initialize", params).await;
    let session = response.headers["mcp-session-id"].to_str().unwrap().to_owned();
    Client::stranger(nexus.address).header("mcp-session-id", &session).header("mcp-protocol-version", version)
}

#[tokio::test]
async fn what_a_server_requires_is_asked_and_the_call_made_again_with_the_answer() {
    for (method, params) in [
        ("tools/call", r#"{"arguments":{"n":1.0,"é":[ ]},"name":"new__work"}"#),
        ("prompts/get", r#"{"name":"new__work"}"#),
        ("resources/read", r#"{"uri":"file:///x"}"#),
    ] {
        let nexus =
            behind(asking(r#"{"k\u00e9":{"method":"elicitation/create","params":{"message":"sure?","x":1.0}}}"#, r#""s\u0061/+=""#)).await;
        let client = nexus.legacy().await;
        let mut response = client.post(format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#)).await;
        assert!(response.is_stream() && response.status == StatusCode::OK, "an answer in JSON becomes a stream of events");
        let asked = response.next_text().await.unwrap();
        let id = serde_json::from_str::<Value>(&asked).unwrap()["id"].clone();
        let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"elicitation/create","params":{{"message":"sure?","x":1.0}}}}"#);
        assert_eq!(asked, expected);

        let result = r#"{"content":{"n":1.0},"action":"accept"}"#;
        assert_eq!(client.post(format!(r#"{{"jsonrpc":"2.0","result":{result},"id":{id}}}"#)).await.status, StatusCode::ACCEPTED);
        let answer = response.next().await.unwrap();
        assert_eq!(answer["id"], 7, "{answer}");
        assert!(answer.to_string().contains(r#"sa/+="#));
        assert_eq!(response.next().await, None);

        let [first, again] = &nexus.fake("new").seen_of(method)[..] else { panic!("two calls") };
        assert_ne!(first.id(), again.id(), "they are requests of their own");
        let said = params.replace("new__work", "work");
        let expected = format!(r#""inputResponses":{{"ké":{result}}},"requestState":"s\u0061/+=",{}"#, &said[1..]);
        assert!(again.text().contains(&expected), "what the client said is unchanged: {}", again.text());
        for header in ["mcp-method", "mcp-name", "mcp-protocol-version"] {
            assert_eq!(first.header(header), again.header(header));
        }
        assert_eq!(first.params()["_meta"], again.params()["_meta"]);
    }
}

#[tokio::test]
async fn several_questions_are_asked_together_and_their_answers_go_up_together() {
    let requests = r#"{"form":{"method":"elicitation/create","params":{"message":"m"}},"roots":{"method":"roots/list"},"llm":{"method":"sampling/createMessage","params":{"messages":[],"maxTokens":1}}}"#;
    let nexus = behind(asking(requests, "")).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    let asked = [response.next().await.unwrap(), response.next().await.unwrap(), response.next().await.unwrap()];
    let methods: Vec<_> = asked.iter().map(|asked| asked["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["elicitation/create", "roots/list", "sampling/createMessage"]);
    for (n, asked) in asked.iter().enumerate().rev() {
        assert_eq!(calls(&nexus).len(), 1, "nothing goes up before all have answered");
        client.reply(&asked["id"], json!({"n": n})).await;
    }
    let answer = response.next().await.unwrap();
    let given: Value = serde_json::from_str(text(&answer)).unwrap();
    assert_eq!(given, json!({"responses": {"form": {"n": 0}, "roots": {"n": 1}, "llm": {"n": 2}}, "state": null}));
}

#[tokio::test]
async fn questions_come_in_the_middle_of_a_stream_and_progress_goes_on_after_them() {
    let (spec, mut streams) = modern().tool("work").streamed("tools/call");
    let nexus = behind(spec).await;
    let client = nexus.legacy().await;
    let mut response = client.open("tools/call", json!({"name": "new__work", "_meta": {"progressToken": "p"}})).await;
    for round in 0..3 {
        let (call, stream) = soon("the call", streams.recv()).await.unwrap();
        stream.event(call.progress(round)).await;
        assert_eq!(response.next().await.unwrap()["params"], json!({"progressToken": "p", "progress": round}));
        if round == 2 {
            stream.event(done(&call)).await;
            break;
        }
        stream.event(call.response(&required(&format!(r#"{{"k":{FORM}}}"#), &format!("\"{round}\"")))).await;
        let asked = response.next().await.unwrap();
        client.reply(&asked["id"], json!({"round": round})).await;
    }
    let answer = response.next().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(text(&answer)).unwrap(), json!({"responses": {"k": {"round": 1}}, "state": "1"}));
    assert_eq!(response.next().await, None);
}

#[tokio::test]
async fn a_server_that_only_wants_the_call_again_gets_it_without_a_question() {
    let answer = |call: &Call| {
        let round = call.params()["requestState"].as_str().map_or(0, str::len);
        Answer::json(match round {
            3 => done(call),
            round => call.response(&format!(r#""resultType":"input_required","requestState":"{}""#, "x".repeat(round + 1))),
        })
    };
    let nexus = behind(modern().tool("work").on("tools/call", answer)).await;
    let answer = nexus.legacy_with(json!({})).await.call("new__work").await;
    assert_eq!(serde_json::from_str::<Value>(text(&answer)).unwrap(), json!({"responses": null, "state": "xxx"}));
}

#[tokio::test]
async fn a_server_that_asks_without_end_is_given_up() {
    let spec = modern().tool("work").on("tools/call", |call| Answer::json(call.response(&required(&format!(r#"{{"k":{FORM}}}"#), ""))));
    let nexus = behind(spec).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    let mut asked = 0;
    let answer = loop {
        let message = response.next().await.unwrap();
        if message["method"].is_null() {
            break message;
        }
        asked += 1;
        client.reply(&message["id"], json!({"action": "accept"})).await;
    };
    assert_eq!((asked, calls(&nexus).len()), (16, 17));
    assert!(answer["error"]["message"].as_str().unwrap().contains("without an end"), "{answer}");
}

#[tokio::test]
async fn a_refusal_of_the_person_is_an_answer_and_an_error_of_the_client_ends_its_call() {
    for action in ["decline", "cancel"] {
        let nexus = behind(asking(r#"{"k":{"method":"elicitation/create","params":{}}}"#, "")).await;
        let client = nexus.legacy().await;
        let mut response = begin(&client).await;
        let asked = response.next().await.unwrap();
        client.reply(&asked["id"], json!({"action": action})).await;
        let answer = response.next().await.unwrap();
        assert!(text(&answer).contains(action), "the server decides what becomes of it");
    }
    let nexus = behind(asking(r#"{"a":{"method":"roots/list"},"k":{"method":"elicitation/create","params":{}}}"#, "")).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    let (_first, second) = (response.next().await.unwrap(), response.next().await.unwrap());
    let refusal = json!({"jsonrpc": "2.0", "id": second["id"], "error": {"code": -1, "message": "not now"}});
    client.post(refusal.to_string()).await;
    let answer = response.next().await.unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("mine"), &json!(-32603)));
    assert!(answer["error"]["message"].as_str().unwrap().ends_with("the client refused: not now"), "{answer}");
    assert_eq!(answer["error"]["data"], json!({"upstream": "new", "request": "elicitation/create", "code": -1}));
    assert_eq!(calls(&nexus).len(), 1, "the server is not called again");
}

#[tokio::test]
async fn a_client_is_asked_nothing_that_it_has_not_declared() {
    let url = r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://x/"}}"#;
    for (request, capabilities, words) in [
        (FORM, json!({}), "elicitation by a form, which the client has not declared"),
        (FORM, json!({"elicitation": {"url": {}}}), "elicitation by a form"),
        (url, json!({"elicitation": {}}), "elicitation by URL, which the client does not know"),
        (r#"{"method":"roots/list"}"#, json!({"sampling": {}, "elicitation": {}}), "roots"),
        (r#"{"method":"sampling/createMessage","params":{}}"#, json!({"roots": {}}), "sampling"),
        (r#"{"method":"sampling/createMessage","params":{"tools":[]}}"#, json!({"sampling": {}}), "sampling with tools"),
        (r#"{"method":"ping"}"#, json!({"roots": {}}), "an input of a kind that no client"),
        (r#"{"method":"tools/call","params":{"name":"x"}}"#, json!({"roots": {}}), "an input of a kind"),
    ] {
        // The one that could be asked comes first, and is not asked either.
        let requests = format!(r#"{{"possible":{{"method":"roots/list"}},"k":{request}}}"#);
        let declared = json!({"roots": {}});
        let mut capabilities = capabilities;
        if !words.starts_with("roots") {
            capabilities["roots"] = declared["roots"].clone();
        }
        let spec = modern().tool("work").on("tools/call", move |call| Answer::json(call.response(&required(&requests, ""))));
        let nexus = behind(spec).await;
        let client = nexus.legacy_with(capabilities).await;
        let messages = begin(&client).await.texts().await;
        assert_eq!(messages.len(), 1, "no question comes: {messages:?}");
        let answer: Value = serde_json::from_str(&messages[0]).unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains(words), "{words}: {answer}");
        assert_eq!((answer["error"]["code"].as_i64(), &answer["error"]["data"]["upstream"]), (Some(-32603), &json!("new")));
        assert_eq!(calls(&nexus).len(), 1);
    }
}

#[tokio::test]
async fn an_elicitation_by_url_gets_the_identifier_that_its_revision_wants() {
    let nexus =
        behind(asking(r#"{"k":{"method":"elicitation/create","params":{"mode":"url","message":"m","url":"https://x/"}}}"#, "")).await;
    let client = nexus.legacy_with(json!({"elicitation": {"url": {}}})).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let mut response = begin(&client).await;
        let asked = response.next().await.unwrap();
        let id = asked["params"]["elicitationId"].as_str().unwrap().to_owned();
        assert_eq!(asked["params"], json!({"mode": "url", "message": "m", "url": "https://x/", "elicitationId": id}));
        assert!(id.len() >= 22 && seen.insert(id));
        client.reply(&asked["id"], json!({"action": "accept"})).await;
        assert!(response.next().await.unwrap()["result"].is_object());
    }
    let older = of_version(&nexus, "2025-06-18", json!({"elicitation": {"url": {}}})).await;
    let answer = older.call("new__work").await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("by URL, which the client does not know"), "{answer}");
}

#[tokio::test]
async fn a_form_is_asked_for_as_the_clients_revision_writes_it() {
    let nexus = behind(asking(r#"{"k":{"method":"elicitation/create","params":{"mode":"form","message":"m"}}}"#, "")).await;
    for (version, params) in [("2025-06-18", json!({"message": "m"})), ("2025-11-25", json!({"mode": "form", "message": "m"}))] {
        let client = of_version(&nexus, version, json!({"elicitation": {}})).await;
        let mut response = begin(&client).await;
        assert_eq!(response.next().await.unwrap()["params"], params);
    }
}

#[tokio::test]
async fn nobody_else_can_answer_and_nobody_can_answer_twice() {
    let nexus = behind(asking(r#"{"k":{"method":"elicitation/create","params":{}}}"#, "")).await;
    let (victim, thief) = (nexus.legacy().await, nexus.legacy().await);
    let mut response = begin(&victim).await;
    let asked = response.next().await.unwrap();
    assert!(asked["id"].as_str().unwrap().len() >= 22, "128 bits: {asked}");
    assert_eq!(thief.reply(&asked["id"], json!({"said": "stolen"})).await, StatusCode::ACCEPTED);
    for guessed in [json!("k"), json!(1), json!(""), json!("mine")] {
        assert_eq!(victim.reply(&guessed, json!({"said": "guessed"})).await, StatusCode::ACCEPTED);
    }
    assert_eq!(calls(&nexus).len(), 1, "none of these counts");
    for said in ["first", "second"] {
        victim.reply(&asked["id"], json!({"said": said})).await;
    }
    let answer = response.next().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(text(&answer)).unwrap()["responses"], json!({"k": {"said": "first"}}));
    assert_eq!(calls(&nexus).len(), 2);
}

#[tokio::test]
async fn each_of_many_calls_with_one_id_gets_its_own_questions_and_answers() {
    let nexus = behind(modern().tool("work").on("tools/call", |call| {
        let who = &call.params()["arguments"]["who"];
        let request = json!({"k": {"method": "elicitation/create", "params": {"message": who}}}).to_string();
        Answer::json(if is_first(call) { call.response(&required(&request, &who.to_string())) } else { done(call) })
    }))
    .await;
    let mut calling = Vec::new();
    for client in 0..5 {
        let client = nexus.legacy_with(json!({"elicitation": {}, "x": client})).await;
        for call in 0..4 {
            let (client, who) = (client.twin(), format!("{}-{call}", client.session()));
            calling.push(tokio::spawn(async move {
                let mut response = client.open_as(json!(1), "tools/call", json!({"name": "new__work", "arguments": {"who": who}})).await;
                let asked = response.next().await.unwrap();
                assert_eq!(asked["params"]["message"], who);
                client.reply(&asked["id"], json!({"for": who})).await;
                let answer = response.next().await.unwrap();
                assert_eq!(answer["id"], 1);
                assert_eq!(serde_json::from_str::<Value>(text(&answer)).unwrap(), json!({"responses": {"k": {"for": who}}, "state": who}));
            }));
        }
    }
    for call in calling {
        soon("an answer", call).await.unwrap();
    }
}

#[tokio::test]
async fn a_cancellation_ends_the_wait_for_the_answer() {
    let nexus = behind(asking(r#"{"k":{"method":"elicitation/create","params":{}}}"#, "")).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    let asked = response.next().await.unwrap();
    client.notify("notifications/cancelled", json!({"requestId": "mine"})).await;
    assert_eq!(response.next().await, None, "a cancelled call is not answered");
    client.reply(&asked["id"], json!({"action": "accept"})).await;
    client.call("other__x").await;
    assert_eq!(calls(&nexus).len(), 1, "the late answer leads to nothing");
}

#[tokio::test]
async fn a_cancellation_closes_the_repeated_call() {
    let (spec, mut streams) = modern().tool("work").streamed("tools/call");
    let nexus = behind(spec).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    let (call, stream) = soon("the call", streams.recv()).await.unwrap();
    stream.event(call.response(&required(&format!(r#"{{"k":{FORM}}}"#), ""))).await;
    let asked = response.next().await.unwrap();
    client.reply(&asked["id"], json!({"action": "accept"})).await;
    let (_, again) = soon("the repeated call", streams.recv()).await.unwrap();
    client.notify("notifications/cancelled", json!({"requestId": "mine"})).await;
    soon("the end of the upstream's stream", again.gone()).await;
    assert_eq!(response.next().await, None);
}

#[tokio::test]
async fn a_client_that_lost_its_stream_can_still_answer_and_the_call_runs_to_its_end() {
    let nexus = behind(asking(r#"{"k":{"method":"elicitation/create","params":{}}}"#, "")).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    let asked = response.next().await.unwrap();
    drop(response);
    client.ask("ping", json!({})).await;
    client.reply(&asked["id"], json!({"action": "accept"})).await;
    until("the repeated call", || calls(&nexus).len() == 2).await;
}

#[tokio::test]
async fn a_client_without_a_stream_is_asked_nothing_new() {
    let (spec, mut held) = modern().tool("work").held("tools/call");
    let nexus = behind(spec).await;
    let client = nexus.legacy().await;
    let twin = client.twin();
    let calling = tokio::spawn(async move { begin(&twin).await });
    let (call, reply) = soon("the call", held.recv()).await.unwrap();
    calling.abort();
    let _ = calling.await;
    for _ in 0..20 {
        client.ask("ping", json!({})).await;
    }
    assert!(reply.send(Answer::json(call.response(&required(&format!(r#"{{"k":{FORM}}}"#), "")))).is_ok(), "the exchange goes on");
    until("the end of the call", || !nexus.gateway.sessions().all().iter().any(|session| session.is_busy())).await;
    assert_eq!(calls(&nexus).len(), 1);
}

#[tokio::test]
async fn the_end_of_the_session_ends_the_wait() {
    let nexus = behind(asking(r#"{"k":{"method":"elicitation/create","params":{}}}"#, "")).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    response.next().await.unwrap();
    assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    assert_eq!(response.next().await, None);
    assert_eq!(calls(&nexus).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_person_who_never_answers_is_waited_for_no_longer_than_any_call() {
    let spec = asking(r#"{"k":{"method":"elicitation/create","params":{}}}"#, "").toml("call_timeout = \"1s\"");
    let nexus = gateway().upstream("new", spec).upstream("other", legacy()).mcp("call_timeout_max = \"5s\"").start().await;
    let client = nexus.legacy().await;
    let began = tokio::time::Instant::now();
    let mut response = begin(&client).await;
    response.next().await.unwrap();
    let answer = response.next().await.unwrap();
    assert_eq!(answer["error"]["data"]["reason"], "call_timeout", "{answer}");
    assert!((5..6).contains(&began.elapsed().as_secs()), "a person may take longer than a server: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_is_asked_only_so_much_at_a_time() {
    let many: Vec<_> = (0..32).map(|n| format!(r#""{n}":{{"method":"roots/list"}}"#)).collect();
    let requests = format!("{{{}}}", many.join(","));
    let spec = modern().tool("work").on("tools/call", move |call| Answer::json(call.response(&required(&requests, ""))));
    let nexus = behind(spec).await;
    let client = nexus.legacy().await;
    let (mut first, mut second) = (begin(&client).await, begin(&client).await);
    for response in [&mut first, &mut second] {
        for _ in 0..32 {
            assert_eq!(response.next().await.unwrap()["method"], "roots/list");
        }
    }
    let third = begin(&client).await.answer().await;
    assert!(third["error"]["message"].as_str().unwrap().contains("too many questions"), "{third}");
    drop(nexus.legacy().await.call("other__x").await);
}

#[tokio::test]
async fn results_of_unknown_types_are_no_results() {
    for members in [
        r#""resultType":"odd""#,
        r#""resultType":"input_required""#,
        r#""resultType":"input_required","requestState":7"#,
        r#""resultType":"input_required","inputRequests":[]"#,
    ] {
        let nexus = behind(modern().tool("work").on("tools/call", move |call| Answer::json(call.response(members)))).await;
        let answer = nexus.legacy().await.call("new__work").await;
        assert_eq!(answer["error"]["data"]["reason"], "protocol", "{members}: {answer}");
    }
}

#[tokio::test]
async fn a_process_of_the_new_era_asks_in_the_same_way() {
    for isolation in ["principal", "session", "shared"] {
        let spec = child().modern_only().toml(&format!("isolation = {isolation:?}"));
        let nexus = gateway().upstream("kid", spec).upstream("other", legacy()).start().await;
        let client = nexus.legacy().await;
        let mut response = client.open("tools/call", json!({"name": "kid__ask"})).await;
        let asked = response.next().await.unwrap();
        assert_eq!(asked["method"], "elicitation/create");
        client.reply(&asked["id"], json!({"action": "accept"})).await;
        assert_eq!(text(&response.next().await.unwrap()), r#"{"action": "accept"}"#);
        let ids: Vec<_> = nexus.notes("kid").of("tools/call").iter().map(|call| call["id"].clone()).collect();
        assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
    }
}

#[tokio::test]
async fn a_client_over_stdin_and_stdout_is_asked_in_the_same_way() {
    let spec = asking(r#"{"k":{"method":"elicitation/create","params":{"message":"sure?"}}}"#, "\"s\"");
    let written = gateway().upstream("new", spec).upstream("other", legacy()).write().await;
    let mut program = Program::start(&written, "stdio", "info", &[]);
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}});
    program.write(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string()).await;
    program.answer().await;
    program.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    program.write(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"new__work"}}"#).await;
    let asked = loop {
        let message = program.read().await.unwrap();
        if message["id"].is_string() {
            break message;
        }
    };
    assert_eq!((&asked["method"], &asked["params"]["message"]), (&json!("elicitation/create"), &json!("sure?")));
    program.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "decline"}}).to_string()).await;
    let answer = program.answer().await;
    assert_eq!(answer["id"], 1);
    assert_eq!(serde_json::from_str::<Value>(text(&answer)).unwrap(), json!({"responses": {"k": {"action": "decline"}}, "state": "s"}));
    program.hang_up();
    assert_eq!(program.ends().await, Some(0));
}

#[tokio::test]
async fn a_server_that_was_connected_anew_meanwhile_gets_the_call_again() {
    let nexus = behind(asking(r#"{"k":{"method":"elicitation/create","params":{}}}"#, "\"s\"")).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    let asked = response.next().await.unwrap();
    let upstream = nexus.upstream("new");
    let before = upstream.generation().unwrap().number();
    upstream.contradicted();
    until("another generation", || upstream.generation().is_ok_and(|serving| serving.number() != before)).await;
    client.reply(&asked["id"], json!({"action": "accept"})).await;
    assert!(response.next().await.unwrap()["result"].is_object());
}

#[tokio::test]
async fn an_answer_to_the_first_call_is_none_to_the_second() {
    let (spec, mut held) = modern().tool("work").held("tools/call");
    let nexus = behind(spec).await;
    let client = nexus.legacy().await;
    let twin = client.twin();
    let calling = tokio::spawn(async move { begin(&twin).await });
    let (first, reply) = soon("the call", held.recv()).await.unwrap();
    let _ = reply.send(Answer::json(first.response(&required(&format!(r#"{{"k":{FORM}}}"#), ""))));
    let mut response = calling.await.unwrap();
    let asked = response.next().await.unwrap();
    client.reply(&asked["id"], json!({"action": "accept"})).await;
    let (_, reply) = soon("the call again", held.recv()).await.unwrap();
    let _ = reply.send(Answer::json(done(&first)));
    let answer = response.next().await.unwrap();
    assert_eq!((&answer["id"], &answer["error"]["data"]["reason"]), (&json!("mine"), &json!("protocol")), "{answer}");
}

#[tokio::test]
async fn a_server_that_dies_while_it_asks_is_an_error_of_the_call() {
    let nexus = behind(asking(r#"{"k":{"method":"elicitation/create","params":{}}}"#, "")).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    let asked = response.next().await.unwrap();
    nexus.fake("new").go_down();
    client.reply(&asked["id"], json!({"action": "accept"})).await;
    let answer = response.next().await.unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("mine"), &json!(-32603)), "{answer}");
    assert_eq!(client.call("other__x").await["result"]["content"][0]["text"], "other:x");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_went_away_is_waited_for_no_longer_than_a_quiet_call() {
    let nexus = behind(asking(r#"{"k":{"method":"elicitation/create","params":{}}}"#, "").toml("call_timeout = \"1s\"")).await;
    let client = nexus.legacy().await;
    let mut response = begin(&client).await;
    let asked = response.next().await.unwrap();
    drop(response);
    let is_busy = || nexus.gateway.sessions().all().iter().any(|session| session.is_busy());
    assert!(is_busy(), "it may still answer");
    until("the end of the wait", || !is_busy()).await;
    client.reply(&asked["id"], json!({"action": "accept"})).await;
    client.call("other__x").await;
    assert_eq!(calls(&nexus).len(), 1, "the late answer leads to nothing");
}
