//! Clients and servers of one era: lists, calls and everything else that the gateway passes on.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    child::child,
    client::{Client, names, text},
    fake::{Answer, FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
};

/// Two upstreams of one era with everything that can be listed, three items a page.
async fn two(server: fn() -> FakeSpec) -> Nexus {
    let full = |mark: &str| {
        let spec = (0..7).fold(server(), |spec, n| spec.tool(&format!("{mark}{n}")));
        let spec = (0..4).fold(spec, |spec, n| spec.prompt(&format!("prompt-{mark}{n}")));
        let spec = (0..4).fold(spec, |spec, n| spec.resource(&format!("file:///{mark}/{n}")));
        (0..4).fold(spec, |spec, n| spec.template(&format!("{mark}{n}://{{id}}/data"))).page(3)
    };
    gateway().upstream("crm", full("a")).upstream("wiki", full("b")).start().await
}

async fn both_eras(check: impl AsyncFn(Nexus, Client)) {
    let nexus = two(legacy).await;
    let client = nexus.legacy().await;
    check(nexus, client).await;
    let nexus = two(modern).await;
    let client = nexus.modern();
    check(nexus, client).await;
}

#[tokio::test]
async fn lists_hold_every_page_of_every_upstream_on_one_page() {
    both_eras(async |_nexus, client| {
        let expected = |shape: fn(&str, &str, usize) -> String, count: usize| -> Vec<String> {
            [("crm", "a"), ("wiki", "b")].into_iter().flat_map(|(up, mark)| (0..count).map(move |n| shape(up, mark, n))).collect()
        };
        assert_eq!(client.list("tools").await, expected(|up, mark, n| format!("{up}__{mark}{n}"), 7));
        assert_eq!(client.list("prompts").await, expected(|up, mark, n| format!("{up}__prompt-{mark}{n}"), 4));
        assert_eq!(client.list("resources").await, expected(|_, mark, n| format!("file:///{mark}/{n}"), 4));
        let templates = client.ask("resources/templates/list", json!({})).await;
        assert_eq!(names(&templates["result"]["resourceTemplates"]), expected(|_, mark, n| format!("{mark}{n}://{{id}}/data"), 4));
    })
    .await;
}

#[tokio::test]
async fn a_cursor_that_no_list_gave_is_refused() {
    both_eras(async |_nexus, client| {
        let answer = client.ask("tools/list", json!({"cursor": "from-3"})).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_call_reaches_the_owner_under_its_own_name() {
    both_eras(async |nexus, client| {
        for name in ["wiki__b3", "b3"] {
            assert_eq!(text(&client.call(name).await), "wiki:b3", "{name}");
        }
        let call = nexus.fake("wiki").last("tools/call");
        assert_eq!(call.params()["name"], "b3");
        assert_eq!(call.header("mcp-name").is_some(), call.header("mcp-protocol-version") == Some("2026-07-28"));
        assert_eq!(call.header("mcp-name").unwrap_or("b3"), "b3");
        assert!(nexus.fake("crm").seen_of("tools/call").is_empty());
    })
    .await;
}

#[tokio::test]
async fn prompts_resources_and_completions_find_their_owner() {
    both_eras(async |nexus, client| {
        let prompt = client.ask("prompts/get", json!({"name": "wiki__prompt-b1"})).await;
        assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "wiki:prompt-b1", "{prompt}");
        for (uri, owner) in [("file:///a/1", "crm"), ("file:///b/2", "wiki"), ("a0://7/data", "crm"), ("b3://x/data", "wiki")] {
            let read = client.ask("resources/read", json!({"uri": uri})).await;
            assert_eq!(read["result"]["contents"][0], json!({"uri": uri, "text": owner}));
        }
        let argument = json!({"name": "id", "value": "x"});
        for (reference, owner) in [
            (json!({"type": "ref/prompt", "name": "crm__prompt-a0"}), "crm"),
            (json!({"type": "ref/prompt", "name": "wiki__prompt-b0"}), "wiki"),
            (json!({"type": "ref/resource", "uri": "b1://{id}/data"}), "wiki"),
        ] {
            let completed = client.ask("completion/complete", json!({"ref": reference, "argument": argument})).await;
            assert_eq!(completed["result"]["completion"]["values"], json!([owner]), "{completed}");
        }
        assert_eq!(nexus.fake("crm").last("completion/complete").params()["ref"]["name"], "prompt-a0");
    })
    .await;
}

#[tokio::test]
async fn what_nobody_offers_is_an_error_that_says_so() {
    both_eras(async |nexus, client| {
        let modern = client.headers["mcp-protocol-version"] == "2026-07-28";
        let not_found = if modern { -32602 } else { -32002 };
        for (method, params, code) in [
            ("tools/call", json!({"name": "crm__missing"}), -32602),
            ("prompts/get", json!({"name": "missing"}), -32602),
            ("resources/read", json!({"uri": "nowhere://x"}), not_found),
            ("tools/call", json!({}), -32602),
            ("no/such/method", json!({}), -32601),
        ] {
            let response = client.open(method, params).await;
            let status = if modern && code == -32601 { StatusCode::NOT_FOUND } else { StatusCode::OK };
            // Without a name there is no Mcp-Name to send, which is what a modern client is told first.
            let (found, answer) = (response.status, response.answer().await);
            if !(modern && method == "tools/call" && found == StatusCode::BAD_REQUEST) {
                assert_eq!((found, &answer["error"]["code"]), (status, &json!(code)), "{method}: {answer}");
            }
        }
        for up in ["crm", "wiki"] {
            for method in ["tools/call", "prompts/get", "resources/read", "no/such/method"] {
                assert!(nexus.fake(up).seen_of(method).is_empty());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_streamed_call_brings_progress_under_the_clients_token_before_the_answer() {
    let streaming = |server: fn() -> FakeSpec| {
        server().tool("work").on("tools/call", |call| {
            let answer = call.response(r#""resultType":"complete","content":[]"#);
            Answer::events([call.progress(1), call.progress(2), answer])
        })
    };
    let nexus = gateway().upstream("old", streaming(legacy)).upstream("new", streaming(modern)).start().await;
    for (client, tool) in [(nexus.legacy().await, "old__work"), (nexus.modern(), "new__work")] {
        for token in [json!("seven"), json!(7), json!("7")] {
            let mut response = client.open("tools/call", json!({"name": tool, "_meta": {"progressToken": token}})).await;
            for progress in 1..=2 {
                let message = response.next().await.unwrap();
                assert_eq!(message["params"], json!({"progressToken": token, "progress": progress}), "{tool}");
            }
            assert_eq!(response.next().await.unwrap()["result"]["content"], json!([]));
            assert_eq!(response.next().await, None, "the answer ends the stream");
        }
    }
}

#[tokio::test]
async fn a_childs_progress_comes_under_the_clients_token() {
    for spec in [child(), child().modern()] {
        let nexus = gateway().upstream("kid", spec).start().await;
        for client in [nexus.legacy().await, nexus.modern()] {
            for token in [json!("seven"), json!(7)] {
                let mut response = client.open("tools/call", json!({"name": "kid__progress", "_meta": {"progressToken": token}})).await;
                assert_eq!(response.next().await.unwrap()["params"], json!({"progressToken": token, "progress": 1}));
                assert_eq!(text(&response.next().await.unwrap()), "done");
            }
        }
    }
}

#[tokio::test]
async fn a_ping_is_answered_without_asking_anybody() {
    let nexus = gateway().upstream("crm", legacy().tool("search")).upstream("wiki", modern()).start().await;
    assert_eq!(nexus.legacy().await.ask("ping", json!({})).await["result"], json!({}));
    let gone = nexus.modern().open("ping", json!({})).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "2026-07-28 has no ping");
    assert_eq!(gone.answer().await["error"]["code"], -32601);
    assert!(nexus.fake("crm").seen_of("ping").is_empty() && nexus.fake("wiki").seen_of("ping").is_empty());
}

#[tokio::test]
async fn a_log_level_is_remembered_for_the_session_that_is_opened_later() {
    let nexus = gateway().upstream("crm", legacy().tool("search")).upstream("wiki", legacy().tool("read")).start().await;
    let client = nexus.legacy().await;
    client.call("wiki__read").await;
    assert_eq!(client.ask("logging/setLevel", json!({"level": "debug"})).await["result"], json!({}));
    let told = nexus.fake("wiki").last("logging/setLevel");
    assert_eq!(
        (&told.params()["level"], told.header("mcp-session-id")),
        (&json!("debug"), nexus.fake("wiki").last("tools/call").header("mcp-session-id"))
    );
    assert!(nexus.fake("crm").seen_of("logging/setLevel").is_empty(), "no session was opened for it");

    client.call("crm__search").await;
    let crm = nexus.fake("crm");
    let session = crm.last("tools/call").header("mcp-session-id").unwrap().to_owned();
    let within: Vec<_> = crm.seen().into_iter().filter(|call| call.header("mcp-session-id") == Some(&session)).collect();
    let methods: Vec<_> = within.iter().map(|call| call.method().to_owned()).collect();
    assert_eq!(methods, ["notifications/initialized", "logging/setLevel", "tools/call"]);
    assert_eq!(within[1].params()["level"], "debug");
}

#[tokio::test]
async fn a_log_level_that_does_not_exist_is_refused() {
    let nexus = gateway().upstream("crm", legacy()).upstream("wiki", legacy()).start().await;
    let client = nexus.legacy().await;
    for level in [json!("loud"), json!(3), Value::Null] {
        assert_eq!(client.ask("logging/setLevel", json!({"level": level})).await["error"]["code"], -32602, "{level}");
    }
}

#[tokio::test]
async fn an_upstream_session_carries_the_clients_own_version_capabilities_and_name() {
    let nexus = gateway().upstream("crm", legacy().tool("search")).upstream("wiki", legacy()).start().await;
    let client = nexus.legacy_with(json!({"sampling": {}, "experimental": {"x": {"y": 1}}})).await;
    client.call("crm__search").await;
    let opened = nexus.fake("crm").last("initialize");
    assert_eq!(opened.params()["capabilities"], json!({"sampling": {}, "experimental": {"x": {"y": 1}}}));
    assert_eq!(opened.params()["clientInfo"], json!({"name": "test", "version": "1"}));
    assert!(nexus.fake("wiki").seen_of("initialize").len() == 1, "only the gateway's own session was opened where nothing was asked");
}

#[tokio::test]
async fn the_end_of_a_session_ends_the_sessions_behind_it() {
    let nexus = gateway().upstream("crm", legacy().tool("search")).upstream("wiki", legacy().tool("read")).start().await;
    let client = nexus.legacy().await;
    client.call("crm__search").await;
    let session = nexus.fake("crm").last("tools/call").header("mcp-session-id").unwrap().to_owned();
    assert_eq!(client.delete().await, StatusCode::NO_CONTENT);
    let ended = nexus.fake("crm").arrives("the DELETE", |call| call.verb == "DELETE").await;
    assert_eq!(ended.header("mcp-session-id"), Some(&*session));
    assert!(nexus.fake("wiki").seen_of("DELETE").is_empty(), "no session was opened there");
    assert_eq!(client.open("ping", json!({})).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_process_that_clients_share_logs_what_any_of_them_wants_and_each_hears_what_it_wants() {
    let nexus = gateway().upstream("kid", child()).upstream("other", legacy()).start().await;
    let (loud, quiet) = (nexus.legacy().await, nexus.legacy().await);
    quiet.ask("logging/setLevel", json!({"level": "error"})).await;
    let (mut loud_hears, mut quiet_hears) = (loud.get().await, quiet.get().await);
    let later = |say: &str| json!({"name": "kid__later", "arguments": {"say": say}});
    quiet.ask("tools/call", later("not severe enough")).await;
    loud.ask("tools/call", later("heard by default")).await;
    assert_eq!(loud_hears.next().await.unwrap()["params"]["data"], "heard by default");
    loud.ask("logging/setLevel", json!({"level": "debug"})).await;
    quiet.ask("logging/setLevel", json!({"level": "critical"})).await;
    let levels: Vec<_> = nexus.notes("kid").of("logging/setLevel").iter().map(|call| call["params"]["level"].clone()).collect();
    assert_eq!(levels, ["error", "debug", "debug"], "the first was remembered for the process that was started later");
    quiet.ask("tools/call", later("for the other")).await;
    assert_eq!(loud_hears.next().await.unwrap()["params"]["data"], "for the other");
    let call = quiet.open("tools/call", json!({"name": "kid__log"})).await.texts().await;
    assert_eq!(call.len(), 1, "nor in its own call: {call:?}");
    nexus.gateway.begin_drain();
    assert_eq!(quiet_hears.next().await, None);
}

#[tokio::test]
async fn changed_roots_are_told_to_a_process_that_the_client_has_for_itself() {
    let nexus = gateway().upstream("kid", child()).upstream("other", legacy()).start().await;
    let (one, two) = (nexus.legacy().await, nexus.legacy().await);
    for client in [&one, &two] {
        client.call("kid__echo").await;
    }
    one.notify("notifications/roots/list_changed", json!({"of": "one"})).await;
    assert_eq!(two.delete().await, StatusCode::NO_CONTENT);
    one.notify("notifications/roots/list_changed", json!({"of": "one, alone"})).await;
    let told = nexus.notes("kid").arrives("notifications/roots/list_changed").await;
    assert_eq!(told["params"]["of"], "one, alone", "who shares a process cannot be asked for its roots");
}
