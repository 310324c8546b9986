//! What belongs to one upstream, one client or the gateway itself reaches nobody else.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use http::HeaderMap;
use serde_json::{Value, json};

use crate::support::{
    child::child,
    client::{send, text},
    fake::{Answer, Call, FakeSpec, PROTOCOL_HEADERS, legacy, modern},
    nexus::{Nexus, gateway},
    tls_peer::Peer,
    wire::full,
};

/// Everything of a request that a canary could hide in.
fn whole(call: &Call) -> String {
    format!("{} {} {:?} {}", call.verb, call.path, call.headers, call.text())
}

#[tokio::test]
async fn two_upstreams_share_no_token_header_or_session() {
    let with = |server: fn() -> FakeSpec, mark: &str| {
        server().tool("x").resource(&format!("{mark}://r")).get_stream().toml(&format!(
            "[.auth]\ntoken = \"{{{{ env.TOKEN_{mark} }}}}\"\n[[.headers]]\nrule = \"insert\"\nname = \"X-Team\"\nvalue = \"team-{mark}\"\n"
        ))
    };
    let nexus = gateway()
        .env("TOKEN_a", "canary-token-a")
        .env("TOKEN_b", "canary-token-b")
        .env("TOKEN_c", "canary-token-c")
        .upstream("a", with(legacy, "a"))
        .upstream("b", with(legacy, "b"))
        .upstream("c", with(modern, "c"))
        .start()
        .await;
    for client in [nexus.legacy().await, nexus.modern()] {
        for mark in ["a", "b", "c"] {
            client.call(&format!("{mark}__x")).await;
            client.ask("resources/read", json!({"uri": format!("{mark}://r")})).await;
        }
        client.ask("logging/setLevel", json!({"level": "debug"})).await;
        client.notify("notifications/roots/list_changed", json!({})).await;
    }
    for mark in ["a", "b", "c"] {
        let seen = nexus.fake(mark).seen();
        assert!(seen.len() > 4);
        for call in &seen {
            assert_eq!(call.header("authorization"), Some(&*format!("Bearer canary-token-{mark}")), "{}", whole(call));
            assert_eq!(call.header("x-team"), Some(&*format!("team-{mark}")));
            for other in ["a", "b", "c"].into_iter().filter(|other| *other != mark) {
                for canary in [format!("canary-token-{other}"), format!("team-{other}"), format!("{other}-session")] {
                    assert!(!whole(call).contains(&canary), "{canary} in {}", whole(call));
                }
            }
        }
    }
}

/// The headers of the protocol, of HTTP itself, and nothing else.
fn allowed(name: &str) -> bool {
    PROTOCOL_HEADERS.contains(&name) || name.starts_with("mcp-param-")
}

#[tokio::test]
async fn of_a_clients_headers_only_the_protocols_own_go_up() {
    let nexus = gateway().upstream("old", legacy().tool("x").get_stream()).upstream("new", modern().tool("x")).start().await;
    let canary = "canary-from-the-client";
    for client in [nexus.legacy().await, nexus.modern()] {
        let session = client.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        let mut client = client.header("origin", &format!("http://localhost:{}", nexus.address.port()));
        for name in [
            "authorization",
            "cookie",
            "proxy-authorization",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-real-ip",
            "forwarded",
            "via",
            "referer",
            "user-agent",
            "x-api-key",
            "traceparent",
            "x-mcp-method",
            "te",
            "x-http-method-override",
            "last-event-id",
        ] {
            client = client.header(name, canary);
        }
        let client = client.header("mcp-param-region", "eu");
        for tool in ["old__x", "new__x"] {
            assert!(client.call(tool).await["result"].is_object());
        }
        for up in ["old", "new"] {
            for call in nexus.fake(up).seen() {
                let foreign: Vec<_> = call.headers.keys().filter(|name| !allowed(name.as_str())).collect();
                assert!(foreign.is_empty(), "{up} {foreign:?}");
                assert_eq!(call.header("accept-encoding"), Some("identity"));
                assert!(!whole(&call).contains(canary), "{}", whole(&call));
                assert!(session.as_ref().is_none_or(|session| !whole(&call).contains(session)), "the client's session is its own");
            }
        }
    }
    let params: Vec<_> =
        nexus.fake("new").seen_of("tools/call").iter().map(|call| call.header("mcp-param-region").map(str::to_owned)).collect();
    assert_eq!(params, [None, Some("eu".to_owned())], "a modern client's parameter header passes to a modern server");
}

#[tokio::test]
async fn of_an_upstreams_headers_nothing_comes_down() {
    let leaky = |server: fn() -> FakeSpec| {
        server().tool("x").on("tools/call", |call| {
            let answer = Answer::json(call.response(r#""resultType":"complete","content":[]"#));
            let answer = answer.header("set-cookie", "canary-down").header("server", "canary-down").header("x-internal", "canary-down");
            answer
                .header("mcp-session-id", "canary-down")
                .header("www-authenticate", "canary-down")
                .header("access-control-allow-origin", "*")
        })
    };
    let nexus = gateway().upstream("old", leaky(legacy)).upstream("new", leaky(modern)).start().await;
    let fine = |headers: &HeaderMap| {
        headers.iter().all(|(name, value)| {
            ["content-type", "content-length", "date", "transfer-encoding", "cache-control", "x-accel-buffering"].contains(&name.as_str())
                && !value.to_str().unwrap().contains("canary")
        })
    };
    for client in [nexus.legacy().await, nexus.modern()] {
        for tool in ["old__x", "new__x"] {
            let response = client.open("tools/call", json!({"name": tool})).await;
            assert!(fine(&response.headers), "{:?}", response.headers);
            assert!(response.answer().await["result"].is_object());
        }
    }
}

/// A server that notes who comes, and a tool that sends callers there.
async fn redirecting(method: &'static str, status: u16) -> (Nexus, Peer) {
    let target = Peer::plain().await;
    let location = format!("http://{}/stolen?canary-location", target.address);
    let spec = modern().tool("x").on(method, move |_| Answer::status(status).header("location", &location));
    let spec = spec.toml("[.auth]\ntoken = \"{{ env.TOKEN }}\"");
    let nexus = gateway().env("TOKEN", "canary-token").upstream("up", spec).upstream("other", legacy().tool("y")).start().await;
    (nexus, target)
}

#[tokio::test]
async fn a_redirect_is_never_followed_to_another_server() {
    for status in [301, 302, 303, 307, 308] {
        let (nexus, target) = redirecting("tools/call", status).await;
        for client in [nexus.legacy().await, nexus.modern()] {
            let answer = client.call("up__x").await;
            assert_eq!(answer["error"]["data"]["reason"], "http_redirect", "{status} {answer}");
            assert!(!answer.to_string().contains("canary"), "{answer}");
        }
        assert_eq!(target.connections(), 0, "{status}");

        let (nexus, target) = redirecting("server/discover", status).await;
        nexus.state("up", "down").await;
        let answer = nexus.legacy().await.call("up__x").await;
        assert!(!answer.to_string().contains("canary"), "{answer}");
        assert_eq!(nexus.legacy().await.list("tools").await, ["other__y"]);
        assert_eq!(target.connections(), 0, "{status} at the start");
    }
}

#[tokio::test]
async fn a_redirect_to_another_path_of_the_same_server_is_learned_at_the_start() {
    let spec = modern().tool("x");
    let spec = spec.on("server/discover", |call| match &*call.path {
        "/mcp" => Answer::status(307).header("location", "/mcp/"),
        _ => {
            let members = r#""resultType":"complete","ttlMs":0,"cacheScope":"private","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}"#;
            Answer::json(call.response(members))
        }
    });
    let nexus = gateway().upstream("up", spec).upstream("other", legacy()).start().await;
    assert_eq!(text(&nexus.modern().call("up__x").await), "up:x");
    assert_eq!(nexus.fake("up").last("tools/call").path, "/mcp/");
}

#[tokio::test]
async fn a_child_sees_no_secret_of_the_gateway_or_of_another_upstream() {
    let nexus = gateway()
        .env("OTHER_TOKEN", "canary-other")
        .env("GATEWAY_SECRET", "canary-gateway")
        .env("WANTED", "wanted-value")
        .env("HOME", "/home/of-the-test")
        .upstream("kid", child().toml("inherit_env = [\"WANTED\"]"))
        .upstream("other", legacy().toml("[.auth]\ntoken = \"{{ env.OTHER_TOKEN }}\""))
        .start()
        .await;
    for client in [nexus.legacy().await, nexus.modern()] {
        let answer = client.call("kid__env").await;
        let env: Value = serde_json::from_str(text(&answer)).unwrap();
        assert!(!text(&answer).contains("canary"), "{env}");
        assert_eq!(
            (&env["WANTED"], &env["HOME"], &env["CHILD_ERA"]),
            (&json!("wanted-value"), &json!("/home/of-the-test"), &json!("legacy"))
        );
        let known = ["PATH", "HOME", "WANTED", "CHILD_ERA", "CHILD_NOTES"];
        // A shell or a launcher of python adds its own, which are in no canary's place.
        let added = |name: &str| {
            ["LC_CTYPE", "PWD", "OLDPWD", "SHLVL"].contains(&name) || name.trim_start_matches('_').starts_with("PYENV") || name == "_"
        };
        let strange: Vec<_> = env.as_object().unwrap().keys().filter(|name| !known.contains(&name.as_str()) && !added(name)).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }
}

#[tokio::test]
async fn sessions_of_two_clients_have_nothing_in_common() {
    let nexus = gateway().upstream("up", legacy().tool("x").get_stream()).upstream("other", modern()).start().await;
    let (one, two) = (nexus.legacy().await, nexus.legacy().await);
    assert_ne!(one.session(), two.session());
    one.call("up__x").await;
    two.call("up__x").await;
    let sessions: Vec<_> =
        nexus.fake("up").seen_of("tools/call").iter().map(|call| call.header("mcp-session-id").unwrap().to_owned()).collect();
    assert_ne!(sessions[0], sessions[1]);
    for (client, reply) in [(&one, one.call("up__x").await), (&two, two.call("up__x").await)] {
        assert!(!reply.to_string().contains("up-session"), "{reply}");
        let get = send(nexus.address, client.request(http::Method::GET, full(""))).await;
        assert!(!format!("{:?}", get.headers).contains("up-session"));
    }
    one.delete().await;
    assert_eq!(text(&two.call("up__x").await), "up:x", "the end of one session is not the other's");
}

#[tokio::test]
async fn a_session_isolated_child_belongs_to_one_client_only() {
    let nexus = gateway().upstream("kid", child().toml("isolation = \"session\"")).upstream("other", modern()).start().await;
    let (one, two) = (nexus.legacy().await, nexus.legacy().await);
    for client in [&one, &two, &one] {
        client.call("kid__echo").await;
    }
    assert_eq!(nexus.notes("kid").of("initialize").len(), 3, "the gateway's own and one for each client");
}

#[tokio::test]
async fn what_a_clients_own_child_says_later_goes_to_that_client_only() {
    let nexus = gateway().upstream("kid", child().toml("isolation = \"session\"")).upstream("other", modern()).start().await;
    let (one, two) = (nexus.legacy().await, nexus.legacy().await);
    let (mut one_hears, mut two_hears) = (one.get().await, two.get().await);
    // Both have a process before either says anything.
    one.call("kid__echo").await;
    two.call("kid__echo").await;
    for (client, words) in [(&one, "for one"), (&two, "for two"), (&one, "for one again")] {
        let hears = if words == "for two" { &mut two_hears } else { &mut one_hears };
        let answer = client.ask("tools/call", json!({"name": "kid__later", "arguments": {"say": words}})).await;
        assert_eq!(text(&answer), "done");
        let told = hears.next().await.unwrap();
        assert_eq!(told["params"]["data"], words, "what another's child said was not heard before: {told}");
    }
}
