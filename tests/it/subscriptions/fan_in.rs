//! One `subscriptions/listen` for several upstreams.

use serde_json::{Value, json};

use super::{asks_for, listen, said, updated};
use crate::support::{
    StillTime,
    child::child,
    fake::{legacy, modern},
    in_time,
    nexus::{Nexus, gateway},
    soon, while_time_passes,
};

async fn two() -> Nexus {
    let a = modern().tool("x").resource("file:///a");
    gateway().upstream("a", a).upstream("b", modern().tool("y").resource("file:///b")).start().await
}

#[tokio::test]
async fn a_filter_is_split_by_owner_and_acknowledged_once_with_what_all_of_them_honour() {
    let (a, mut streams) = modern().resource("file:///a").resource("file:///a2").streamed("subscriptions/listen");
    let nexus = gateway().upstream("a", a).upstream("b", modern().resource("file:///b")).start().await;
    let uris = json!(["file:///b", "file:///a", "file:///a2", "nowhere://x"]);
    let filter = json!({"toolsListChanged": true, "resourceSubscriptions": uris, "vendor/x": {"n": 1}, "promptsListChanged": false});
    let client = nexus.modern();
    let mut stream = client.open_as(json!("s"), "subscriptions/listen", json!({"notifications": filter})).await;
    // The other is the gateway's own.
    let (mut call, mut sender) = soon("a request", streams.recv()).await.unwrap();
    if call.params()["notifications"]["toolsListChanged"] == true {
        (call, sender) = soon("the client's request", streams.recv()).await.unwrap();
    }
    assert_eq!(call.params()["notifications"], json!({"resourceSubscriptions": ["file:///a", "file:///a2"], "vendor/x": {"n": 1}}));
    assert_eq!(call.params()["_meta"]["io.modelcontextprotocol/clientInfo"]["name"], "test");
    assert_eq!((call.header("mcp-method"), call.header("mcp-name")), (Some("subscriptions/listen"), None));
    let honoured = json!({"resourceSubscriptions": ["file:///a", "file:///not-asked"], "vendor/x": {"n": 1}, "taskIds": ["t"]});
    let params = json!({"_meta": {super::TAG: call.id()}, "notifications": honoured});
    sender.event(json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params}).to_string()).await;
    let first = stream.next().await.unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    let expected = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a", "file:///b"], "vendor/x": {"n": 1}});
    assert_eq!(first["params"], json!({"_meta": {super::TAG: "s"}, "notifications": expected}));
    // What was not agreed to is not brought either, nor what nobody asked for.
    sender.event(updated("file:///a2", call.id()).to_string()).await;
    sender.event(said("error")).await;
    sender.event(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}).to_string()).await;
    sender.event(json!({"jsonrpc": "2.0", "method": "vendor/happened", "params": {"n": 1}}).to_string()).await;
    let happened = json!({"jsonrpc": "2.0", "method": "vendor/happened", "params": {"_meta": {super::TAG: "s"}, "n": 1}});
    assert_eq!(stream.next().await.unwrap(), happened);
}

#[tokio::test]
async fn every_message_carries_the_clients_own_subscription_id_of_the_same_type() {
    let nexus = two().await;
    for id in [json!(1), json!("1"), json!("ünï")] {
        let (mut stream, honoured) =
            listen(&nexus.modern(), id.clone(), json!({"resourceSubscriptions": ["file:///b", "file:///a"]})).await;
        assert_eq!(honoured, json!({"resourceSubscriptions": ["file:///a", "file:///b"]}));
        for (up, uri) in [("a", "file:///a"), ("b", "file:///b"), ("a", "file:///a/part")] {
            let root = if up == "a" { "file:///a" } else { "file:///b" };
            let (upstream_id, sender) = nexus.fake(up).subscription("the part", asks_for(&[root])).await;
            assert_ne!(upstream_id, id, "clients choose equal ids; those that go up are the gateway's");
            sender.event(updated(uri, &upstream_id).to_string()).await;
            assert_eq!(stream.next().await.unwrap(), updated(uri, &id));
        }
        drop(stream);
        let (_, sender) = nexus.fake("a").subscription("the part", |_| true).await;
        drop(sender);
    }
}

#[tokio::test]
async fn an_upstream_that_comes_back_is_subscribed_again_and_harms_no_other() {
    let nexus = two().await;
    let (mut stream, _) = listen(&nexus.modern(), json!(7), json!({"resourceSubscriptions": ["file:///a", "file:///b"]})).await;
    let (_, lost) = nexus.fake("a").subscription("the part", asks_for(&["file:///a"])).await;
    nexus.fake("a").go_down();
    soon("the end of the stream", lost.gone()).await;
    let (id, b) = nexus.fake("b").subscription("the part", asks_for(&["file:///b"])).await;
    b.event(updated("file:///b", &id).to_string()).await;
    assert_eq!(stream.next().await.unwrap(), updated("file:///b", &json!(7)));
    nexus.fake("a").come_back();
    let (id, a) = nexus.fake("a").subscription("the part again", asks_for(&["file:///a"])).await;
    assert_eq!(stream.next().await.unwrap(), updated("file:///a", &json!(7)), "what was missed is not known");
    a.event(updated("file:///a/x", &id).to_string()).await;
    assert_eq!(stream.next().await.unwrap(), updated("file:///a/x", &json!(7)));
}

#[tokio::test]
async fn an_upstream_that_does_not_acknowledge_in_time_is_left_out() {
    let (mute, mut streams) = modern().resource("file:///mute").streamed("subscriptions/listen");
    let nexus = gateway().upstream("mute", mute).upstream("b", modern().resource("file:///b")).start().await;
    let time = StillTime::begin();
    let client = nexus.modern();
    let listening = listen(&client, json!(1), json!({"resourceSubscriptions": ["file:///mute", "file:///b"]}));
    let (mut stream, honoured) = while_time_passes("the acknowledgement", listening).await;
    assert_eq!(honoured, json!({"resourceSubscriptions": ["file:///b"]}));
    drop(time);
    let mut part = None;
    while let Ok((call, sender)) = streams.try_recv() {
        if call.params()["notifications"]["resourceSubscriptions"].is_array() {
            part = Some(sender);
        }
    }
    let part = part.unwrap();
    in_time("the end of the part that was left out", || part.is_gone()).await;
    let (id, b) = nexus.fake("b").subscription("the part", asks_for(&["file:///b"])).await;
    b.event(updated("file:///b", &id).to_string()).await;
    assert_eq!(while_time_passes("the update", stream.next()).await.unwrap(), updated("file:///b", &json!(1)));
}

#[tokio::test]
async fn an_upstream_that_refuses_is_left_out() {
    let refuses = modern()
        .resource("file:///no")
        .on("subscriptions/listen", |call| crate::support::fake::Answer::new(404, "application/json", call.error(-32601)));
    let nexus = gateway().upstream("no", refuses).upstream("b", modern().resource("file:///b")).start().await;
    let (_stream, honoured) = listen(&nexus.modern(), json!(1), json!({"resourceSubscriptions": ["file:///no", "file:///b"]})).await;
    assert_eq!(honoured, json!({"resourceSubscriptions": ["file:///b"]}));
}

#[tokio::test]
async fn the_end_of_a_clients_stream_ends_its_parts() {
    let nexus = two().await;
    let (stream, _) = listen(&nexus.modern(), json!(1), json!({"resourceSubscriptions": ["file:///a"]})).await;
    let (_, part) = nexus.fake("a").subscription("the part", asks_for(&["file:///a"])).await;
    drop(stream);
    soon("the end of the part", part.gone()).await;
}

#[tokio::test]
async fn a_subscription_ends_with_its_result_when_the_gateway_drains() {
    for nexus in [two().await, gateway().upstream("a", modern().resource("file:///a").toml("prefix = \"\"")).start().await] {
        let (mut stream, _) = listen(&nexus.modern(), json!("end"), json!({"resourceSubscriptions": ["file:///a"]})).await;
        nexus.gateway.begin_drain();
        let last = stream.next().await.unwrap();
        assert_eq!(last, json!({"jsonrpc": "2.0", "id": "end", "result": {"resultType": "complete", "_meta": {super::TAG: "end"}}}));
        assert_eq!(stream.next().await, None);
    }
}

#[tokio::test]
async fn too_much_is_not_followed() {
    let nexus = two().await;
    let many: Vec<String> = (0..1025).map(|n| format!("file:///{n}")).collect();
    let long = format!("file:///{}", "x".repeat(8 * 1024));
    for uris in [json!(many), json!([long])] {
        let answer = nexus.modern().ask("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": uris}})).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    for odd in [json!({"resourceSubscriptions": "file:///a"}), json!({"resourceSubscriptions": [7, null, {}]}), json!([]), Value::Null] {
        let (_stream, honoured) = listen(&nexus.modern(), json!(1), odd).await;
        assert_eq!(honoured, json!({}));
    }
}

#[tokio::test]
async fn a_modern_childs_changed_tools_are_listed_and_told() {
    let kid = child().modern().env("CHILD_RESOURCES", "kid://one").toml("isolation = \"shared\"");
    let nexus = gateway().upstream("kid", kid).upstream("other", legacy()).start().await;
    let client = nexus.modern();
    let (mut stream, _) = listen(&client, json!(1), json!({"toolsListChanged": true})).await;
    nexus.notes("kid").arrives("subscriptions/listen").await;
    client.call("kid__grow").await;
    assert_eq!(stream.next().await.unwrap()["method"], "notifications/tools/list_changed");
    assert!(client.list("tools").await.contains(&"kid__grown".to_owned()));
}

#[tokio::test]
async fn a_modern_child_is_followed_on_its_one_stdout() {
    let kid = child().modern().env("CHILD_RESOURCES", "kid://one kid://two");
    let nexus = gateway().upstream("kid", kid).upstream("other", legacy()).start().await;
    let client = nexus.modern();
    let (mut one, honoured) = listen(&client, json!("one"), json!({"resourceSubscriptions": ["kid://one"]})).await;
    assert_eq!(honoured, json!({"resourceSubscriptions": ["kid://one"]}));
    let (mut two, _) = listen(&client, json!(2), json!({"resourceSubscriptions": ["kid://two"]})).await;
    for uri in ["kid://one", "kid://two"] {
        client.ask("tools/call", json!({"name": "kid__touch", "arguments": {"uri": uri}})).await;
    }
    assert_eq!(one.next().await.unwrap(), updated("kid://one", &json!("one")));
    assert_eq!(two.next().await.unwrap(), updated("kid://two", &json!(2)));
    let id = nexus
        .notes("kid")
        .of("subscriptions/listen")
        .iter()
        .find(|call| asks_for(&["kid://one"])(&call["params"]["notifications"]))
        .unwrap()["id"]
        .clone();
    drop(one);
    let cancelled = nexus.notes("kid").arrives("notifications/cancelled").await;
    assert_eq!(cancelled["params"]["requestId"], id);
}
