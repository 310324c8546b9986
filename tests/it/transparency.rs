//! Byte for byte: what the gateway does not have to change, it does not change. And nobody gets another's answer.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod corpus;

use serde_json::{Value, json};

use crate::support::{
    child::child,
    client::{Client, text},
    fake::{Answer, FakeSpec, legacy, modern, sse},
    nexus::{Nexus, gateway},
    soon,
};

/// Members that a parser would change: number formats, big numbers, key order, duplicate keys, escapes, spaces.
const ODD: &str =
    r#""z":1.0,"a":1,"big":9223372036854775808,"e":1e2,"neg":-0,"dup":{"k":1,"k":2}, "u":"\u00e9\/é" ,"deep":[[[{}]]],"n":null"#;

#[tokio::test]
async fn a_request_arrives_with_only_its_name_and_id_changed() {
    let nexus = gateway().upstream("old", legacy().tool("x")).upstream("new", modern().tool("x")).start().await;
    let client = nexus.legacy().await;
    let body = |id: &str, name: &str| {
        format!(
            r#"{{ "params":{{"arguments":{{{ODD}}},"task":{{"ttl":1.50}},"name":{name},{ODD}}},"id":{id},"extra":{{{ODD}}},"method":"tools/call","jsonrpc":"2.0"}}"#
        )
    };
    let answer = client.post(body("\"one\"", r#""old__x""#)).await.answer().await;
    assert_eq!(answer["id"], "one");
    let arrived = nexus.fake("old").last("tools/call");
    assert_eq!(arrived.text(), body(&arrived.id().to_string(), r#""x""#));

    let meta = r#""_meta":{"vendor/x":1.0,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"z":{},"a":{}}}"#;
    let body = |name: &str| body("1.0", name).replace(r#""task":{"ttl":1.50}"#, meta).replace(":1.0,\"extra\"", ":\"i\",\"extra\"");
    let answer = nexus.modern().post_named("tools/call", Some("new__x"), body(r#""new__x""#)).await.answer().await;
    assert_eq!(answer["id"], "i", "{answer}");
    assert_eq!(nexus.fake("new").last("tools/call").text(), body(r#""x""#), "a stateless exchange keeps the id too");
}

#[tokio::test]
async fn an_answer_arrives_with_only_its_id_changed() {
    let members = format!(r#""content":[{{"type":"vendor/new",{ODD}}}],"structuredContent":{{{ODD}}},"_meta":{{{ODD}}},{ODD}"#);
    let odd = |server: fn() -> FakeSpec, head: &'static str, events: bool| {
        let members = members.clone();
        server().tool("x").on("tools/call", move |call| {
            let body = format!(r#" {{"result":{{{head}{members}}},"extra":{{{ODD}}},"id":{},"jsonrpc":"2.0"}}"#, call.id());
            if events { Answer::events([body]) } else { Answer::json(body) }
        })
    };
    let complete = r#""resultType":"complete","#;
    let nexus = gateway()
        .upstream("old", odd(legacy, "", false))
        .upstream("old-sse", odd(legacy, "", true))
        .upstream("new", odd(modern, complete, false))
        .upstream("new-sse", odd(modern, complete, true))
        .start()
        .await;
    let legacy = nexus.legacy().await;
    for (client, name, head) in
        [(&legacy, "old", ""), (&legacy, "old-sse", ""), (&nexus.modern(), "new", complete), (&nexus.modern(), "new-sse", complete)]
    {
        let tool = format!("{name}__x");
        let response = client.open_as(json!("mine"), "tools/call", json!({"name": tool})).await;
        assert_eq!(response.is_stream(), name.ends_with("-sse"), "the kind of answer is the upstream's choice");
        let expected = format!(r#"{{"result":{{{head}{members}}},"extra":{{{ODD}}},"id":"mine","jsonrpc":"2.0"}}"#);
        assert_eq!(response.texts().await.iter().map(|text| text.trim()).collect::<Vec<_>>(), [expected], "{name}");
    }
}

#[tokio::test]
async fn a_listed_item_keeps_every_byte_but_its_name() {
    let item = |name: &str| {
        format!(
            r#"{{"inputSchema":{{"type":"object","properties":{{"z":{{}},"a":{{}}}}}},"vendor":{{{ODD}}},"name":"{name}", "execution":{{"taskSupport":"optional"}}}}"#
        )
    };
    let nexus = gateway().upstream("old", legacy().raw_tool(&item("x"))).upstream("new", modern().raw_tool(&item("y"))).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        let listed = client.open("tools/list", json!({})).await.text().await;
        for name in ["old__x", "new__y"] {
            assert!(listed.contains(&item(name)), "{listed}");
        }
    }
}

#[tokio::test]
async fn an_upstreams_error_arrives_whole() {
    let error = r#"{"data":{"z":1.0,"a":[1]},"code":-9007199254740993,"message":"näh","more":{"x":1e0}}"#;
    let refuse = |server: fn() -> FakeSpec| {
        server().tool("x").on("tools/call", move |call| Answer::json(format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, call.id())))
    };
    let nexus = gateway().upstream("old", refuse(legacy)).upstream("new", refuse(modern)).start().await;
    for (client, name) in [(nexus.legacy().await, "old__x"), (nexus.modern(), "new__x")] {
        let response = client.open_as(json!(5), "tools/call", json!({"name": name})).await;
        assert_eq!((response.status.as_u16(), response.text().await), (200, format!(r#"{{"jsonrpc":"2.0","id":5,"error":{error}}}"#)));
    }
}

#[tokio::test]
async fn an_id_comes_back_as_the_client_wrote_it() {
    let nexus = gateway().upstream("old", legacy().tool("x")).upstream("new", modern().tool("x")).upstream("kid", child()).start().await;
    let legacy = nexus.legacy().await;
    for id in [json!(1), json!("1"), json!(0), json!(-3), json!(9_007_199_254_740_993_u64), json!(""), json!("é\n\"")] {
        for client in [&legacy, &nexus.modern()] {
            for (method, params) in [
                ("tools/call", json!({"name": "old__x"})),
                ("tools/call", json!({"name": "new__x"})),
                ("tools/call", json!({"name": "kid__echo"})),
                ("tools/list", json!({})),
                ("tools/call", json!({"name": "missing"})),
            ] {
                let answer = client.open_as(id.clone(), method, params.clone()).await.answer().await;
                assert_eq!(answer["id"], id, "{method} {params} {answer}");
            }
        }
    }
}

#[tokio::test]
async fn an_id_too_long_to_keep_is_refused() {
    let nexus = gateway().upstream("old", legacy().tool("x")).upstream("new", modern()).start().await;
    let client = nexus.legacy().await;
    let fits = client.open_as(json!("x".repeat(200)), "tools/call", json!({"name": "old__x"})).await.answer().await;
    assert!(fits["result"].is_object());
    let refused = client.open_as(json!("x".repeat(300)), "tools/call", json!({"name": "old__x"})).await.answer().await;
    assert_eq!(refused["error"]["code"], -32600);
}

const CLIENTS: usize = 10;
const CALLS: usize = 40;

/// Ten clients of one era, and ten of both.
const CROWDS: [(usize, usize); 3] = [(CLIENTS, 0), (0, CLIENTS), (CLIENTS / 2, CLIENTS / 2)];

async fn crowd(nexus: &Nexus, (legacy, modern): (usize, usize)) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..legacy {
        clients.push(nexus.legacy_with(json!({})).await);
    }
    clients.extend((0..modern).map(|_| nexus.modern()));
    clients
}

/// Forty calls at once, four of each client, all with the id 1 and the progress token 1.
async fn everybody_gets_their_own(clients: &[Client], tool: &str) {
    let ask = async |n: usize| {
        let who = format!("caller {n}");
        let params = json!({"name": tool, "arguments": {"who": who, "until": CALLS}, "_meta": {"progressToken": 1}});
        (who, clients[n % clients.len()].open_as(json!(1), "tools/call", params).await.answer().await)
    };
    let all = futures_util::future::join_all((0..CALLS).map(ask));
    for (who, answer) in soon("all answers", all).await {
        assert_eq!((text(&answer), &answer["id"]), (&*who, &json!(1)), "{answer}");
    }
}

#[tokio::test]
async fn clients_with_equal_ids_each_get_their_own_answer_over_http() {
    for server in [legacy, modern, sse] {
        for streams in [false, true] {
            for both in CROWDS {
                let (spec, mut held) = server().tool("hold").held("tools/call");
                let nexus = gateway().upstream("up", spec).upstream("other", legacy()).start().await;
                let clients = crowd(&nexus, both).await;
                let answer_in_reverse = async {
                    let mut all = Vec::new();
                    while all.len() < CALLS {
                        all.push(held.recv().await.unwrap());
                    }
                    for (call, reply) in all.into_iter().rev() {
                        let who = &call.params()["arguments"]["who"];
                        let head = if call.header("mcp-method").is_some() { r#""resultType":"complete","# } else { "" };
                        let answer = call.response(&format!(r#"{head}"content":[{{"type":"text","text":{who}}}]"#));
                        let _ = reply.send(if streams { Answer::events([answer]) } else { Answer::json(answer) });
                    }
                };
                tokio::join!(everybody_gets_their_own(&clients, "up__hold"), answer_in_reverse);
            }
        }
    }
}

#[tokio::test]
async fn clients_with_equal_ids_each_get_their_own_answer_over_one_process() {
    for is_modern in [false, true] {
        for both in CROWDS {
            let spec = if is_modern { child().modern() } else { child() };
            let nexus = gateway().upstream("kid", spec.toml("isolation = \"shared\"")).start().await;
            let clients = crowd(&nexus, both).await;
            everybody_gets_their_own(&clients, "kid__hold").await;
            let ids: std::collections::BTreeSet<_> =
                nexus.notes("kid").of("tools/call").iter().map(|call| call["id"].to_string()).collect();
            assert_eq!(ids.len(), CALLS, "the process sees as many ids as requests");
        }
    }
}

#[tokio::test]
async fn progress_tokens_do_not_meet_in_a_shared_session() {
    let (spec, mut held) = legacy().tool("hold").held("tools/call");
    let nexus = gateway().upstream("up", spec).upstream("other", legacy()).start().await;
    let (one, two) = (nexus.modern(), nexus.modern());
    let params = json!({"name": "up__hold", "_meta": {"progressToken": "t"}});
    let asked = async {
        let texts = async |client: &Client| client.open("tools/call", params.clone()).await.texts().await;
        tokio::join!(texts(&one), texts(&two))
    };
    let answered = async {
        let mut tokens = Vec::new();
        for _ in 0..2 {
            let (call, reply) = held.recv().await.unwrap();
            tokens.push((call.header("mcp-session-id").map(str::to_owned), call.params()["_meta"]["progressToken"].to_string()));
            let _ = reply.send(Answer::events([call.progress(1), call.response(r#""content":[]"#)]));
        }
        tokens
    };
    let ((first, second), tokens) = soon("the answers", async { tokio::join!(asked, answered) }).await;
    assert_eq!(tokens[0].0, tokens[1].0, "one session for both");
    assert_ne!(tokens[0].1, tokens[1].1, "two requests in one session have two tokens");
    for texts in [first, second] {
        assert!(texts[0].contains(r#""progressToken":"t""#), "{texts:?}");
    }
}

#[tokio::test]
async fn a_single_upstream_without_a_prefix_is_relayed_as_it_is() {
    let greeting = r#"{"protocolVersion":"2025-11-25","instructions":"hi","capabilities":{"tools":{"z":1.0},"vendor":{}},"serverInfo":{"version":"1.0","name":"crm","title":"é"}}"#;
    let spec = legacy().tool("a").tool("b").tool("c").page(2).toml("prefix = \"\"");
    let spec = spec.on("initialize", move |call| {
        let answer = Answer::json(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{greeting}}}"#, call.id()));
        answer.header("mcp-session-id", "s")
    });
    let spec = spec.on("tools/list", |call| {
        let cursor = call.params()["cursor"].as_str().unwrap_or_default().to_owned();
        Answer::json(call.response(&format!(r#""tools":[],"vendor":1.0,"was":"{cursor}""#)))
    });
    let nexus = gateway().upstream("crm", spec.unchecked_sessions()).start().await;
    let stranger = Client::stranger(nexus.address);
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let answer = stranger.open_as(Value::from(7), "initialize", params).await.text().await;
    assert_eq!(answer, format!(r#"{{"jsonrpc":"2.0","id":7,"result":{greeting}}}"#));
    let client = nexus.legacy().await;
    let listed = client.open_as(json!(1), "tools/list", json!({"cursor": "opaque=="})).await.text().await;
    assert_eq!(listed, r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"vendor":1.0,"was":"opaque=="}}"#);
}
