//! What a line never holds, and what it holds only where the file says so.

use serde_json::json;

use super::Log;
use crate::support::{
    fake::{Answer, FakeSpec, legacy, modern},
    nexus::gateway,
};

/// Whatever a line must not hold begins with this.
const HUSH: &str = "hush";

fn telling(kind: fn() -> FakeSpec) -> FakeSpec {
    kind().tool("x").toml("[.auth]\ntype = \"header\"\nname = \"x-own\"\nvalue = \"hush-of-the-upstream\"").on("tools/call", |call| {
        Answer::json(call.response(r#""content":[{"type":"text","text":"hush-in-the-result"}]"#)).header("x-own", "hush-in-a-header")
    })
}

fn keys() -> String {
    format!("[[server.api_keys]]\nid = \"ada\"\nkey = \"{HUSH}-of-ada-and-nobody-else\"")
}

#[tokio::test]
async fn no_credential_header_argument_or_result_is_in_the_trail() {
    for include in ["", "include = []"] {
        let log = Log::new();
        let spec = gateway().tables(&log.table(include)).tables(&keys());
        let nexus = spec.upstream("old", telling(legacy)).upstream("new", telling(modern)).start().await;
        let key = format!("{HUSH}-of-ada-and-nobody-else");
        let headers = ["x-other", "cookie", "user-agent", "x-forwarded-for", "traceparent"];
        let dressed =
            |client: crate::support::client::Client| headers.iter().fold(client, |client, name| client.header(name, "hush-in-a-header"));
        let stranger = crate::support::client::Client::stranger(nexus.address);
        let clients = [
            dressed(nexus.modern().header("x-api-key", &key)),
            dressed(nexus.modern().bearing(&key)),
            dressed(stranger.header("x-api-key", &key)).begin(json!({})).await,
        ];
        for client in &clients {
            for tool in ["old__x", "new__x"] {
                let arguments = json!({"password": "hush-in-an-argument"});
                let answer = client.ask("tools/call", json!({"name": tool, "arguments": arguments, "_meta": {"a": "hush-in-meta"}})).await;
                assert!(answer.to_string().contains("hush-in-the-result"));
            }
        }
        for refused in [nexus.modern().bearing("hush-bad"), nexus.modern().header("x-api-key", "hush-bad")] {
            assert_eq!(refused.open("tools/call", json!({"name": "old__x"})).await.status, 401);
        }
        assert_eq!(log.lines(&nexus).await.len(), 8);
        let text = log.text();
        assert!(!text.contains(HUSH), "{text}");
        assert!(!text.contains(clients[2].session()), "a session's id is a credential");
    }
}

#[tokio::test]
async fn a_token_that_nobody_validates_is_told_apart_and_not_told() {
    let log = Log::new();
    let forward = modern().tool("x").toml("[.auth]\ntype = \"forward\"");
    let nexus = log.of_a_gateway().upstream("a", forward).upstream("b", modern().tool("y")).start().await;
    for token in ["hush-one", "hush-two", "hush-one"] {
        nexus.modern().bearing(token).call("b__y").await;
    }
    let lines = log.lines(&nexus).await;
    let subjects: Vec<_> = lines.iter().map(|line| line["who"]["subject"].as_str().unwrap()).collect();
    assert!(subjects[0] == subjects[2] && subjects[0] != subjects[1], "{subjects:?}");
    assert!(lines.iter().all(|line| line["who"]["method"] == "bearer"));
    assert!(!log.text().contains(HUSH));
}

#[tokio::test]
async fn arguments_are_there_where_the_file_includes_them_as_long_as_they_are_short() {
    let log = Log::new();
    let spec = gateway().tables(&log.table("include = [\"arguments\"]"));
    let nexus = spec.upstream("old", telling(legacy)).upstream("new", modern().tool("y")).start().await;
    let client = nexus.legacy().await;
    let raw = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"old__x\",\"arguments\":{\n \"b\": 1.50,\r\n\t\"a\":\"\\n\u{202e}\"}}}";
    client.post(raw).await.answer().await;
    let line = log.last(1).await;
    assert_eq!(line["arguments"], json!({"b": 1.5, "a": "\n\u{202e}"}));
    assert!(log.text().contains("1.50") && !log.text().contains('\u{202e}'), "as they came, but on one line");
    client.ask("tools/call", json!({"name": "old__x", "arguments": {"long": "x".repeat(5000)}})).await;
    let line = log.last(2).await;
    assert_eq!((&line["arguments"], &line["arguments_bytes"]), (&json!(null), &json!(5011)));
    assert!(!log.text().contains(HUSH), "headers and results are never there");
}
