//! URIs that results give: they are read from the server that gave them, although nobody lists them.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // Helpers of tests.

use serde_json::{Value, json};

use crate::support::{
    client::Client,
    fake::{Answer, FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
};

/// A server whose tool and prompt answer with these raw members, and that reads whatever it is asked for.
fn giving(server: fn() -> FakeSpec, name: &'static str, members: String) -> FakeSpec {
    let prefix = if server().is_modern() { r#""resultType":"complete","# } else { "" };
    let given = format!("{prefix}{members}");
    let call = move |call: &crate::support::fake::Call| Answer::json(call.response(&given));
    server().tool("give").prompt("give").resource(&format!("listed://{name}")).on("tools/call", call.clone()).on("prompts/get", call).on(
        "resources/read",
        move |call| {
            let uri = &call.params()["uri"];
            Answer::json(call.response(&format!(
                r#""resultType":"complete","ttlMs":0,"cacheScope":"private","contents":[{{"uri":{uri},"text":"{name}"}}]"#
            )))
        },
    )
}

/// Who answers for a URI; `None`: nobody is known.
async fn owner(client: &Client, uri: &str) -> Option<String> {
    let answer = client.ask("resources/read", json!({"uri": uri})).await;
    answer["result"]["contents"][0]["text"].as_str().map(str::to_owned)
}

async fn two(a: FakeSpec, b: FakeSpec) -> Nexus {
    gateway().upstream("a", a).upstream("b", b).start().await
}

fn link(uri: &str) -> String {
    format!(r#""content":[{{"type":"resource_link","name":"n","uri":"{uri}"}}]"#)
}

#[tokio::test]
async fn a_link_in_a_result_is_read_from_the_server_that_gave_it() {
    for (first, second) in [(legacy as fn() -> FakeSpec, modern as fn() -> FakeSpec), (modern, legacy), (modern, modern)] {
        let nexus = two(giving(first, "a", link("made://a/1")), giving(second, "b", link("made://b/1"))).await;
        for client in [nexus.legacy().await, nexus.modern()] {
            client.call("b__give").await;
            client.call("a__give").await;
            for (uri, expected) in [("made://a/1", Some("a")), ("made://b/1", Some("b")), ("made://c/1", None), ("listed://b", Some("b"))] {
                assert_eq!(owner(&client, uri).await.as_deref(), expected, "{uri}");
            }
        }
    }
}

#[tokio::test]
async fn embedded_resources_prompts_and_apps_give_links_too() {
    let embedded =
        r#""content":[{"type":"resource","resource":{"text":"t","uri":"made://embedded"}}],"_meta":{"ui":{"resourceUri":"ui://shown"}}"#;
    let prompt = r#""messages":[{"role":"user","content":{"uri":"made://prompt","type":"resource_link","name":"n"}}]"#;
    let nexus = two(giving(legacy, "a", prompt.to_owned()), giving(modern, "b", embedded.to_owned())).await;
    let client = nexus.legacy().await;
    client.call("b__give").await;
    client.ask("prompts/get", json!({"name": "a__give"})).await;
    for (uri, expected) in [("made://embedded", "b"), ("ui://shown", "b"), ("made://prompt", "a")] {
        assert_eq!(owner(&client, uri).await.as_deref(), Some(expected), "{uri}");
    }
}

#[tokio::test]
async fn a_link_in_a_stream_or_a_long_answer_counts_as_well() {
    let long = format!(r#""padding":"{}",{}"#, "x".repeat(200_000), link("made://long"));
    let streamed = |server: fn() -> FakeSpec, name| {
        giving(server, name, String::new()).on("tools/call", move |call| {
            let result = call.response(&format!(r#""resultType":"complete",{}"#, link(&format!("made://{name}/streamed"))));
            Answer::events([call.progress(1), result])
        })
    };
    for server in [legacy as fn() -> FakeSpec, modern] {
        let nexus = two(giving(server, "a", long.clone()), streamed(server, "b")).await;
        for client in [nexus.legacy().await, nexus.modern()] {
            client.call("a__give").await;
            client.call("b__give").await;
            assert_eq!(owner(&client, "made://long").await.as_deref(), Some("a"));
            assert_eq!(owner(&client, "made://b/streamed").await.as_deref(), Some("b"));
        }
    }
}

#[tokio::test]
async fn nobody_takes_over_a_link_or_a_listed_resource() {
    let nexus = two(giving(modern, "a", link("made://shared")), giving(modern, "b", link("made://shared"))).await;
    let client = nexus.modern();
    client.call("a__give").await;
    client.call("b__give").await;
    assert_eq!(owner(&client, "made://shared").await.as_deref(), Some("a"), "who gave it first keeps it");

    let nexus = two(giving(modern, "a", link("listed://b")), giving(modern, "b", link("x://y"))).await;
    let client = nexus.modern();
    client.call("a__give").await;
    assert_eq!(owner(&client, "listed://b").await.as_deref(), Some("b"), "a listed resource stays its owner's");
}

#[tokio::test]
async fn a_link_goes_before_a_template_and_a_hidden_resource_stays_hidden() {
    let a = giving(legacy, "a", link("made://x/1")).template("made://{any}/1").resource("made://hidden");
    let hides = giving(modern, "b", link("made://hidden")).resource("made://hidden").toml("hide = [\"*hidden*\"]");
    let nexus = two(a.toml("hide = [\"*hidden*\"]"), hides).await;
    let client = nexus.modern();
    assert_eq!(owner(&client, "made://x/1").await.as_deref(), Some("a"), "by its template");
    client.call("b__give").await;
    assert_eq!(owner(&client, "made://hidden").await, None);

    let nexus = two(giving(legacy, "a", String::new()).template("made://{any}/1"), giving(modern, "b", link("made://x/1"))).await;
    let client = nexus.modern();
    client.call("b__give").await;
    assert_eq!(owner(&client, "made://x/1").await.as_deref(), Some("b"), "by its link");
}

#[tokio::test]
async fn the_resource_that_shows_a_tools_results_is_its_servers() {
    let shows = |uri: &str| json!({"name": "shown", "inputSchema": {"type": "object"}, "_meta": {"ui": {"resourceUri": uri}}}).to_string();
    let a = giving(legacy, "a", String::new()).raw_tool(&shows("ui://a/view"));
    let b = giving(modern, "b", String::new()).raw_tool(&shows("ui://b/view"));
    let nexus = two(a, b).await;
    for client in [nexus.legacy().await, nexus.modern()] {
        assert_eq!(owner(&client, "ui://a/view").await.as_deref(), Some("a"));
        assert_eq!(owner(&client, "ui://b/view").await.as_deref(), Some("b"));
        assert_eq!(owner(&client, "ui://c/view").await, None);
        let listed = client.ask("tools/list", json!({})).await;
        let uris: Vec<&Value> =
            listed["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["_meta"]["ui"]["resourceUri"]).collect();
        assert!(uris.contains(&&json!("ui://a/view")), "URIs stay as they are: {listed}");
    }
}
