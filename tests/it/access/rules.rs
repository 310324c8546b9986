//! What is denied does not exist, in every list and under every name.

use super::*;
use crate::support::fake::Answer;

const RULES: &str = "allow = [\"pro\"]\ntools.open = { allow = [\"free\", \"pro\"], deny = [\"max\"] }";

/// One of each era with rules, and one without.
async fn three(mode: &str) -> Nexus {
    let spec = guarded()
        .mcp(&format!("tools = \"{mode}\""))
        .upstream("old", full(legacy(), "old").toml(RULES))
        .upstream("new", full(modern(), "new").toml(RULES))
        .upstream("all", full(modern(), "all"))
        // So that no server is the only one with resources.
        .upstream("more", legacy().resource("more://listed"));
    spec.start().await
}

#[tokio::test]
async fn each_group_sees_its_own_lists() {
    let nexus = three("direct").await;
    let all = |own: &[&str], kind: &str| -> Vec<String> {
        let shown = |name: &str| match kind {
            "tools" => vec![format!("{name}__secret"), format!("{name}__open")],
            "prompts" => vec![format!("{name}__ask")],
            "resources" => vec![format!("{name}://listed")],
            _ => vec![format!("{name}://made/{{id}}")],
        };
        own.iter().flat_map(|name| shown(name)).collect()
    };
    for who in ["pro", "free", "max", "nobody"] {
        let servers: &[&str] = if who == "pro" { &["old", "new", "all"] } else { &["all"] };
        for client in both(&nexus, who).await {
            let mut tools = all(servers, "tools");
            if who == "free" {
                tools.splice(0..0, ["old__open".to_owned(), "new__open".to_owned()]);
            }
            assert_eq!(client.list("tools").await, tools, "{who}");
            assert_eq!(client.list("prompts").await, all(servers, "prompts"), "{who}");
            let mut resources = all(servers, "resources");
            resources.push("more://listed".to_owned());
            assert_eq!(client.list("resources").await, resources, "{who}");
            let templates = client.ask("resources/templates/list", json!({})).await;
            let templates = crate::support::client::names(&templates["result"]["resourceTemplates"]);
            assert_eq!(templates, all(servers, "templates"), "{who}");
        }
    }
}

#[tokio::test]
async fn what_is_denied_is_answered_as_what_does_not_exist() {
    let nexus = three("direct").await;
    for client in both(&nexus, "free").await {
        for up in ["old", "new"] {
            let tool = |name: &str| json!({"name": name, "arguments": {}});
            let prompt = |name: &str| json!({"name": name});
            let uri = |uri: &str| json!({"uri": uri});
            let executed = |name: &str| json!({"name": "execute", "arguments": {"name": name, "arguments": {}}});
            let of_prompt = |name: &str| json!({"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": "a", "value": ""}});
            let of_uri = |uri: &str| json!({"ref": {"type": "ref/resource", "uri": uri}, "argument": {"name": "a", "value": ""}});
            let (named, unnamed) = (format!("{up}__secret"), format!("{up}__absent"));
            looks_unknown(&nexus, &client, "tools/call", tool, &named, &unnamed).await;
            looks_unknown(&nexus, &client, "tools/call", executed, &named, &unnamed).await;
            looks_unknown(&nexus, &client, "prompts/get", prompt, &format!("{up}__ask"), &unnamed).await;
            looks_unknown(&nexus, &client, "completion/complete", of_prompt, &format!("{up}__ask"), &unnamed).await;
            for denied in [format!("{up}://listed"), format!("{up}://made/7")] {
                looks_unknown(&nexus, &client, "resources/read", uri, &denied, "absent://x").await;
            }
            looks_unknown(&nexus, &client, "completion/complete", of_uri, &format!("{up}://made/{{id}}"), "absent://x").await;
        }
        assert_eq!(client.call("old__open").await["error"], Value::Null);
        assert_eq!(client.call("new__open").await["error"], Value::Null);
    }
    let client = old(&nexus, "free").await;
    let uri = |uri: &str| json!({"uri": uri});
    looks_unknown(&nexus, &client, "resources/subscribe", uri, "old://listed", "absent://x").await;
    looks_unknown(&nexus, &client, "resources/subscribe", uri, "new://listed", "absent://x").await;
}

#[tokio::test]
async fn what_is_denied_is_listened_to_as_what_does_not_exist() {
    let nexus = three("direct").await;
    let listened = async |who: &str, uri: &str| {
        let filter = json!({"notifications": {"resourceSubscriptions": [uri], "toolsListChanged": true}});
        let mut stream = new(&nexus, who).open_as(json!("s"), "subscriptions/listen", filter).await;
        stream.next().await.unwrap().to_string().replace(uri, "…")
    };
    for uri in ["old://listed", "new://listed", "old://made/7", "new://made/7"] {
        assert_eq!(listened("free", uri).await, listened("free", "absent://x").await, "{uri}");
        let heard = |up: &str| nexus.fake(up).seen().iter().any(|call| call.text().contains(uri));
        assert!(!heard("old") && !heard("new"), "no upstream hears of it: {uri}");
    }
    assert_ne!(listened("pro", "old://listed").await, listened("pro", "absent://x").await, "it is there for others");
}

#[tokio::test]
async fn an_unprefixed_name_means_what_the_caller_may_use() {
    let nexus = three("direct").await;
    for client in both(&nexus, "nobody").await {
        // Three servers have it; one is there for this caller.
        assert_eq!(client.call("secret").await["error"], Value::Null);
        assert_eq!(client.ask("prompts/get", json!({"name": "ask"})).await["error"], Value::Null);
    }
    let counts = |up: &str| (nexus.fake(up).seen_of("tools/call").len(), nexus.fake(up).seen_of("prompts/get").len());
    assert_eq!((counts("all"), counts("old"), counts("new")), ((2, 2), (0, 0), (0, 0)));
    for client in both(&nexus, "free").await {
        let ambiguous = client.call("open").await["error"]["message"].to_string();
        assert!(ambiguous.contains("old__open") && ambiguous.contains("new__open") && ambiguous.contains("all__open"), "{ambiguous}");
    }
    for client in both(&nexus, "max").await {
        assert_eq!(client.call("open").await["error"], Value::Null, "two of the three are denied, so that one is left");
    }
}

#[tokio::test]
async fn search_finds_and_execute_runs_what_the_caller_may_use() {
    let nexus = three("search").await;
    for (who, expected) in
        [("free", &["all__secret"][..]), ("max", &["all__secret"]), ("pro", &["old__secret", "new__secret", "all__secret"])]
    {
        for client in both(&nexus, who).await {
            assert_eq!(client.list("tools").await, ["search", "execute"]);
            let answer = client.ask("tools/call", json!({"name": "search", "arguments": {"keywords": ["secret"]}})).await;
            let results = answer["result"]["structuredContent"]["results"].as_array().unwrap_or_else(|| panic!("{answer}"));
            let found: Vec<_> = results.iter().map(|result| result["name"].as_str().unwrap()).collect();
            assert_eq!(found, expected, "{who}");
            let run = |name: &str| json!({"name": "execute", "arguments": {"name": name, "arguments": {}}});
            assert_eq!(client.ask("tools/call", run("old__secret")).await["error"].is_null(), who == "pro");
        }
    }
}

#[tokio::test]
async fn a_name_that_a_denied_server_has_first_is_free_for_the_next() {
    let denied = legacy().resource("same://x").tool("same").toml("allow = [\"pro\"]\nprefix = \"\"");
    let nexus = guarded().upstream("old", denied).upstream("new", modern().resource("same://x").tool("same")).start().await;
    for client in both(&nexus, "free").await {
        assert_eq!(client.list("resources").await, ["same://x"]);
        assert_eq!(client.ask("resources/read", json!({"uri": "same://x"})).await["error"], Value::Null);
        assert_eq!(client.call("same").await["error"], Value::Null);
    }
    assert_eq!((nexus.fake("old").seen_of("resources/read").len(), nexus.fake("new").seen_of("resources/read").len()), (0, 2));
    assert_eq!((nexus.fake("old").seen_of("tools/call").len(), nexus.fake("new").seen_of("tools/call").len()), (0, 2));
}

#[tokio::test]
async fn a_link_leads_to_no_server_whose_resources_are_denied() {
    let linking = |spec: FakeSpec| {
        spec.on("tools/call", |call| {
            let link = r#""content":[{"type":"resource_link","uri":"hidden://x","name":"x"}],"resultType":"complete""#;
            Answer::json(call.response(link))
        })
    };
    let nexus = guarded()
        .upstream("old", linking(full(legacy(), "old")).toml("deny = [\"free\"]\ntools.open = { allow = [\"free\", \"pro\"] }"))
        .upstream("new", full(modern(), "new"))
        .upstream("all", full(modern(), "all"))
        .start()
        .await;
    for (who, reads) in [("pro", true), ("free", false)] {
        for client in both(&nexus, who).await {
            assert_eq!(client.call("old__open").await["error"], Value::Null, "{who}");
            let read = client.ask("resources/read", json!({"uri": "hidden://x"})).await;
            assert_eq!(read["error"].is_null(), reads, "{who}: {read}");
        }
    }
    assert_eq!(nexus.fake("old").seen_of("resources/read").len(), 2);
}

#[tokio::test]
async fn a_server_that_is_down_is_named_to_those_only_who_may_use_it() {
    let down = || legacy().tool("secret").starts_down().toml("allow = [\"pro\"]");
    let nexus = guarded().upstream("old", down()).upstream("new", modern().tool("x")).start().await;
    let tool = |name: &str| json!({"name": name, "arguments": {}});
    let prompt = |name: &str| json!({"name": name});
    for client in both(&nexus, "free").await {
        looks_unknown(&nexus, &client, "tools/call", tool, "old__secret", "none__secret").await;
        looks_unknown(&nexus, &client, "prompts/get", prompt, "old__ask", "none__ask").await;
    }
    for client in both(&nexus, "pro").await {
        assert_eq!(client.call("old__secret").await["error"]["data"]["upstream"], "old");
    }
}

#[tokio::test]
async fn a_greeting_says_nothing_of_servers_that_are_denied() {
    let talking = |spec: FakeSpec, name: &'static str| {
        let greet = move |call: &crate::support::fake::Call| {
            let greeting = format!(
                r#""protocolVersion":"2025-11-25","capabilities":{{"tools":{{}},"extensions":{{"x/ui":{{}}}}}},"serverInfo":{{"name":"{name}","version":"1"}},"instructions":"Of {name}.""#
            );
            Answer::json(call.response(&greeting)).header("mcp-session-id", "s")
        };
        spec.unchecked_sessions().on("initialize", greet)
    };
    let nexus = guarded()
        .mcp("tools = \"search\"")
        .upstream("old", talking(legacy().tool("secret"), "old").toml("allow = [\"pro\"]"))
        .upstream("new", modern().tool("x"))
        .start()
        .await;
    for (who, knows) in [("pro", true), ("free", false)] {
        let greeting = new(&nexus, who).ask("server/discover", json!({})).await["result"].to_string();
        assert_eq!(greeting.contains("Of old.") && greeting.contains("The servers: old, new") && greeting.contains("x/ui"), knows);
        assert_eq!(greeting.contains("old") || greeting.contains("x/ui"), knows, "{greeting}");
        let client = Client::stranger(nexus.address).header("x-api-key", &key_of(who));
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let greeting = client.ask("initialize", params).await["result"].to_string();
        assert_eq!(greeting.contains("old") || greeting.contains("x/ui"), knows, "{greeting}");
    }
}

#[tokio::test]
async fn without_groups_a_list_of_groups_lets_nobody_in() {
    let nexus =
        gateway().upstream("old", legacy().tool("secret").tool("open").toml(RULES)).upstream("new", modern().tool("x")).start().await;
    for client in [nexus.legacy().await, nexus.modern()] {
        assert_eq!(client.list("tools").await, ["new__x"]);
    }
}

#[tokio::test]
async fn a_deny_for_a_tool_takes_away_and_gives_nothing() {
    let rules = "allow = [\"pro\", \"max\"]\ntools.secret = { deny = [\"max\"] }";
    let nexus = guarded().upstream("old", full(legacy(), "old").toml(rules)).start().await;
    for (who, expected) in [("pro", &["old__secret", "old__open"][..]), ("max", &["old__open"]), ("free", &[]), ("nobody", &[])] {
        assert_eq!(new(&nexus, who).list("tools").await, expected, "{who}");
    }
}
