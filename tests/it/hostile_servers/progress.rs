//! Progress of calls that are not the server's.

use super::*;

fn progress(token: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 99}}).to_string()
}

/// `good__x` and `evil__work` of one client are under way at once: what the hostile one says of the other's token is lost.
#[tokio::test]
async fn progress_of_another_servers_call_reaches_nobody() {
    for evil in [legacy as fn() -> FakeSpec, modern] {
        for good in [legacy as fn() -> FakeSpec, modern] {
            let (spec, mut streams) = evil().tool("work").get_stream().streamed("tools/call");
            let (good, mut victims) = good().tool("x").streamed("tools/call");
            let nexus = gateway().upstream("evil", spec).upstream("good", good).start().await;
            for client in clients(&nexus).await {
                for own in [json!({"progressToken": "mine"}), json!({})] {
                    let victim = client.open_as(json!(1), "tools/call", json!({"name": "good__x", "_meta": {"progressToken": 7}}));
                    let (victim, asked) = tokio::join!(victim, victims.recv());
                    let (asked, good) = asked.unwrap();
                    let params = json!({"name": "evil__work", "_meta": own});
                    let (mut response, call, server) = begin(&client, &mut streams, params).await;
                    let theirs = &asked.params()["_meta"]["progressToken"];
                    for token in [json!(7), theirs.clone()] {
                        if token != call.params()["_meta"]["progressToken"] {
                            server.event(progress(&token)).await;
                        }
                    }
                    let own_token = &call.params()["_meta"]["progressToken"];
                    if !own_token.is_null() {
                        server.event(progress(own_token)).await;
                        assert_eq!(
                            response.next().await.unwrap()["params"]["progressToken"],
                            "mine",
                            "its own passes, and nothing before it"
                        );
                    }
                    server.event(result(call.id(), "done")).await;
                    assert_eq!(text(&response.next().await.unwrap()), "done");
                    good.event(result(asked.id(), "fine")).await;
                    assert_eq!(text(&victim.answer().await), "fine");
                }
            }
        }
    }
}

#[tokio::test]
async fn progress_of_another_servers_call_is_not_told_on_the_clients_own_stream() {
    let (spec, mut streams) = legacy().tool("work").get_stream().streamed("tools/call");
    let (good, mut victims) = legacy().tool("x").streamed("tools/call");
    let nexus = gateway().upstream("evil", spec).upstream("good", good).start().await;
    let client = nexus.legacy().await;
    let mut hears = client.get().await;
    let victim = client.open_as(json!(1), "tools/call", json!({"name": "good__x", "_meta": {"progressToken": 7}}));
    let (_victim, _asked) = tokio::join!(victim, victims.recv());
    let params = json!({"name": "evil__work", "_meta": {"progressToken": "mine"}});
    let (_response, call, _server) = begin(&client, &mut streams, params).await;
    let own = nexus.fake("evil").stream_of(call.header("mcp-session-id").unwrap()).await;
    own.event(progress(&json!(7))).await;
    own.event(progress(&json!("mine"))).await;
    own.event(progress(&json!("of a task"))).await;
    assert_eq!(hears.next().await.unwrap()["params"]["progressToken"], "mine", "of its own call it may speak there too");
    assert_eq!(hears.next().await.unwrap()["params"]["progressToken"], "of a task", "tasks outlive their calls");
}
