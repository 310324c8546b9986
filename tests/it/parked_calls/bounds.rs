//! Nothing that waits is without a bound, and a server that asks too much is declined.

use super::*;

#[tokio::test]
async fn no_more_calls_wait_than_configured() {
    for limit in ["max = 2", "max_per_principal = 2"] {
        let (spec, mut streams) = asking();
        let nexus = spec.mcp(&format!("[mcp.parked]\n{limit}")).start().await;
        let client = nexus.modern();
        let mut waiting = Vec::new();
        for id in ["a", "b"] {
            let (response, call, server) = begin(&client, &mut streams).await;
            server.event(form(id)).await;
            waiting.push((asked(response).await, call, server));
        }
        let (response, call, server) = begin(&client, &mut streams).await;
        server.event(form("c")).await;
        assert_eq!(answer_to(nexus.fake("crm"), &json!("c")).await.json["error"]["code"], -32601);
        server.event(call.response(r#""content":[]"#)).await;
        assert_eq!(response.answer().await["result"]["resultType"], "complete", "the call itself goes on");

        // One that ends makes room.
        let (round, call, server) = waiting.remove(0);
        let response = client.open("tools/call", retry_of(&params(), &round, &accepting(&round, &json!({})))).await;
        server.event(call.response(r#""content":[]"#)).await;
        assert_eq!(response.answer().await["result"]["resultType"], "complete");
        let (response, _call, server) = begin(&client, &mut streams).await;
        server.event(form("d")).await;
        asked(response).await;
    }
}

#[tokio::test]
async fn a_server_that_asks_and_asks_is_declined_at_some_point() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (response, _call, server) = begin(&client, &mut streams).await;
    let ids: Vec<_> = (0..40).map(|n| format!("q{n}")).collect();
    server.bytes(ids.iter().map(|id| crate::support::wire::event(form(id))).collect::<String>()).await;
    let round = asked(response).await;
    assert_eq!(round["inputRequests"].as_object().unwrap().len(), 32);
    for id in &ids[32..] {
        assert_eq!(answer_to(nexus.fake("crm"), &json!(id)).await.json["error"]["code"], -32601);
    }
    // While the client thinks, too.
    server.event(form("late")).await;
    assert_eq!(answer_to(nexus.fake("crm"), &json!("late")).await.json["error"]["code"], -32601);
}

#[tokio::test]
async fn questions_that_are_too_large_together_are_declined() {
    let (spec, mut streams) = asking();
    let nexus = spec.bounds("max_event = \"64KiB\"").start().await;
    let client = nexus.modern();
    let (response, _call, server) = begin(&client, &mut streams).await;
    let large = |id: &str| question(&json!(id), "elicitation/create", &json!({"message": id, "x": "x".repeat(40_000)}));
    server.event(large("a")).await;
    server.event(large("b")).await;
    assert_eq!(answer_to(nexus.fake("crm"), &json!("b")).await.json["error"]["code"], -32601);
    key_of(&asked(response).await, "a");
}

#[tokio::test]
async fn a_question_that_its_server_withdraws_gets_no_answer() {
    let (spec, mut streams) = asking();
    let nexus = spec.start().await;
    let client = nexus.modern();
    let (response, call, server) = begin(&client, &mut streams).await;
    server.bytes(["a", "b"].map(|id| crate::support::wire::event(form(id))).concat()).await;
    let round = asked(response).await;
    server.event(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}"#).await;
    // A question that follows is the sign that the withdrawal was read.
    server.event(question(&json!("sign"), "tools/list", &json!({}))).await;
    answer_to(nexus.fake("crm"), &json!("sign")).await;
    let both = json!({key_of(&round, "a"): {"action": "accept"}, key_of(&round, "b"): {"action": "accept"}});
    let response = client.open("tools/call", retry_of(&params(), &round, &both)).await;
    answer_to(nexus.fake("crm"), &json!("b")).await;
    server.event(call.response(r#""content":[]"#)).await;
    assert_eq!(response.answer().await["result"]["resultType"], "complete");
    assert!(nexus.fake("crm").seen().iter().all(|call| call.json["id"] != "a"));
}

#[tokio::test]
async fn an_answer_that_another_call_waits_for_ends_no_call_that_waits() {
    let (nexus, client, _streams, call, server, round) = waiting().await;
    server.event(r#"{"jsonrpc":"2.0","id":99999,"result":{"content":[]}}"#).await;
    server.event("no JSON").await;
    let answer = client.ask("tools/call", retry_of(&params(), &round, &accepting(&round, &json!({})))).await;
    assert_eq!(answer["error"]["code"], -32603, "a stream that is no JSON-RPC breaks the call: {answer}");
    assert!(call.id().is_u64());
    nexus.is_unharmed("other__easy").await;
}
