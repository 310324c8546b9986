//! Groups, where the upstream is reached with each caller's own token: what a caller sees is its own catalog, and of that what
//! is there for its groups.

use super::*;
use crate::{
    credentials::{SERVERS, Server, personal, token},
    support::{
        client::{Response, text},
        fake::{Answer, Call},
        offer::tool,
        soon, until,
    },
};

/// `whoami` is not there for `free`.
const RULES: &str = "tools.whoami = { deny = [\"free\"] }";

fn crm(server: Server, rules: &str) -> FakeSpec {
    personal(server).first_toml(rules)
}

/// A client of somebody who brings a token as well.
async fn bearing(nexus: &Nexus, is_modern: bool, who: &str, token: &str) -> Client {
    let client = if is_modern { nexus.modern() } else { Client::stranger(nexus.address) };
    let client = client.header("x-api-key", &key_of(who)).bearing(token);
    if is_modern { client } else { client.begin(json!({})).await }
}

/// Callers with one name and one token, whose groups a trusted proxy tells with each request.
fn with_groups_of_requests() -> GatewaySpec {
    guarded().tables(
        "[server.client_ip]\ntrusted_proxies = [\"127.0.0.1/32\"]\n[server.client_identification]\nenabled = true\nclient_id.http_header = \"x-client\"\ngroup_id.http_header = \"x-group\"",
    )
}

async fn in_group(nexus: &Nexus, is_modern: bool, group: &str) -> Client {
    let client = if is_modern { nexus.modern() } else { Client::stranger(nexus.address) };
    let client = client.header("x-api-key", &key_of("nobody")).header("x-client", "ada").header("x-group", group).bearing("ann");
    if is_modern { client } else { client.begin(json!({})).await }
}

fn of_token<'a>(calls: &'a [Call], method: &str, of: &str) -> Vec<&'a Call> {
    calls.iter().filter(|call| call.method() == method && token(call) == of).collect()
}

async fn listen(client: &Client, filter: Value) -> Response {
    let mut stream = client.open_as(json!("s"), "subscriptions/listen", json!({"notifications": filter})).await;
    assert_eq!(stream.next().await.unwrap()["method"], "notifications/subscriptions/acknowledged");
    stream
}

async fn next_method(stream: &mut Response) -> String {
    stream.next().await.unwrap()["method"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_denied_tool_of_ones_own_catalog_looks_unknown() {
    for server in SERVERS {
        let nexus = guarded().upstream("crm", crm(server, RULES)).start().await;
        for is_modern in [false, true] {
            let (pro, free) = (bearing(&nexus, is_modern, "pro", "ann").await, bearing(&nexus, is_modern, "free", "ann").await);
            for _ in 0..2 {
                assert_eq!(pro.list("tools").await, ["crm__whoami", "crm__of_ann"]);
                assert_eq!(free.list("tools").await, ["crm__of_ann"], "the same token, other groups");
            }
            assert_eq!(text(&pro.call("crm__whoami").await), "whoami for ann");
            assert_eq!(text(&free.call("crm__of_ann").await), "of_ann for ann");
            let before = nexus.fake("crm").seen_of("tools/call").len();
            for (denied, unknown) in [("crm__whoami", "crm__nothing"), ("whoami", "nothing")] {
                let at = |name: &str| json!({"name": name, "arguments": {}});
                let denied = said(&free, "tools/call", &at(denied), denied).await;
                assert_eq!(denied, said(&free, "tools/call", &at(unknown), unknown).await);
                assert!(denied.1.contains("-32602"), "{}", denied.1);
            }
            assert_eq!(nexus.fake("crm").seen_of("tools/call").len(), before);
        }
    }
}

#[tokio::test]
async fn one_principal_sees_what_the_groups_of_each_request_may() {
    for server in SERVERS {
        let nexus = with_groups_of_requests().upstream("crm", crm(server, RULES)).start().await;
        for is_modern in [false, true] {
            let pro = in_group(&nexus, is_modern, "pro").await;
            let free = pro.twin().header("x-group", "free");
            for _ in 0..3 {
                assert_eq!(pro.list("tools").await, ["crm__whoami", "crm__of_ann"]);
                assert_eq!(text(&pro.call("crm__whoami").await), "whoami for ann");
                assert_eq!(free.list("tools").await, ["crm__of_ann"]);
                assert_eq!(free.call("crm__whoami").await["error"]["code"], -32602);
            }
        }
        assert_eq!(of_token(&nexus.fake("crm").seen(), "tools/list", "ann").len(), 1, "and it is one catalog of one principal");
    }
}

#[tokio::test]
async fn search_finds_in_ones_own_catalog_what_ones_groups_may_use() {
    for server in SERVERS {
        let nexus = guarded().mcp("tools = \"search\"").upstream("crm", crm(server, RULES)).start().await;
        for is_modern in [false, true] {
            for (who, of, found) in [("pro", "ann", true), ("free", "ann", false), ("free", "bob", false), ("pro", "bob", true)] {
                let client = bearing(&nexus, is_modern, who, of).await;
                let searched = json!({"name": "search", "arguments": {"keywords": ["whoami", "of_ann", "of_bob"]}});
                let answer = client.ask("tools/call", searched).await["result"]["content"].to_string();
                let other = if of == "ann" { "of_bob" } else { "of_ann" };
                assert_eq!(
                    (answer.contains("crm__whoami"), answer.contains(&format!("of_{of}")), answer.contains(other)),
                    (found, true, false),
                    "{who} {of}: {answer}"
                );
                let executed = |name: &str| json!({"name": "execute", "arguments": {"name": name, "arguments": {}}});
                match found {
                    true => assert_eq!(text(&client.ask("tools/call", executed("crm__whoami")).await), format!("whoami for {of}")),
                    false => assert_eq!(
                        said(&client, "tools/call", &executed("crm__whoami"), "whoami").await,
                        said(&client, "tools/call", &executed("crm__nothing"), "nothing").await
                    ),
                }
            }
        }
    }
}

#[tokio::test]
async fn that_ones_own_list_changed_is_said_to_those_whose_groups_it_concerns() {
    let rules = "tools.late = { deny = [\"free\"] }";
    let nexus = guarded().upstream("crm", crm(legacy, rules).get_stream()).upstream("new", full(modern(), "new")).start().await;
    let callers = [("pro", "ann"), ("free", "fred")];
    let filter = json!({"toolsListChanged": true, "promptsListChanged": true});
    let mut streams = Vec::new();
    for (who, of) in callers {
        let client = bearing(&nexus, false, who, of).await;
        client.list("tools").await;
        streams.push((who, client.get().await));
        streams.push((who, listen(&bearing(&nexus, true, who, of).await, filter.clone()).await));
    }
    let head = |call: &Call| [tool("whoami"), tool(&format!("of_{}", token(call)))].map(|tool| tool.to_string()).join(",");
    nexus
        .fake("crm")
        .now_on("tools/list", move |call| Answer::json(call.response(&format!(r#""tools":[{},{}]"#, head(call), tool("late")))));
    for (_, of) in callers {
        until("a stream there", || nexus.fake("crm").seen_of("GET").iter().any(|call| token(call) == of)).await;
        let seen = nexus.fake("crm").seen_of("GET");
        let session = seen.iter().find(|call| token(call) == of).unwrap().header("mcp-session-id").unwrap();
        let before = of_token(&nexus.fake("crm").seen(), "tools/list", of).len();
        let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}).to_string();
        nexus.fake("crm").stream_of(session).await.event(changed).await;
        until("another look at the list", || of_token(&nexus.fake("crm").seen(), "tools/list", of).len() > before).await;
    }
    for (who, of) in callers {
        let client = bearing(&nexus, true, who, of).await;
        for (_, stream) in streams.iter_mut().filter(|(whose, _)| *whose == who && who == "pro") {
            assert_eq!(next_method(stream).await, "notifications/tools/list_changed");
        }
        assert_eq!(client.list("tools").await.contains(&"crm__late".to_owned()), who == "pro");
    }
    // The next that the others hear of is something else.
    nexus.reload(&nexus.toml.replace("[mcp.servers.new]", "[mcp.servers.new]\nhide = [\"ask\"]"));
    for (who, stream) in &mut streams {
        assert_eq!(next_method(stream).await, "notifications/prompts/list_changed", "{who}");
    }
}

#[tokio::test]
async fn what_changes_for_all_is_said_to_those_with_lists_of_their_own() {
    let shared = full(legacy(), "all").get_stream().toml("deny = [\"free\"]");
    let nexus = guarded().upstream("crm", crm(modern, RULES)).upstream("all", shared).start().await;
    let mut pro = listen(&bearing(&nexus, true, "pro", "ann").await, json!({"toolsListChanged": true})).await;
    let mut free = listen(&bearing(&nexus, true, "free", "fred").await, json!({"toolsListChanged": true})).await;
    for (who, of) in [("pro", "ann"), ("free", "fred")] {
        bearing(&nexus, true, who, of).await.list("tools").await;
    }
    // Its own list came after the stream did.
    for stream in [&mut pro, &mut free] {
        assert_eq!(next_method(stream).await, "notifications/tools/list_changed");
    }
    nexus.fake("all").change(|offer| offer.tools.push(tool("another")));
    nexus.fake("all").tools_changed().await;
    assert_eq!(next_method(&mut pro).await, "notifications/tools/list_changed");
    assert!(bearing(&nexus, true, "pro", "ann").await.list("tools").await.contains(&"all__another".to_owned()));
    nexus.reload(&nexus.toml.replace("deny = [\"free\"]\n", ""));
    assert_eq!(next_method(&mut free).await, "notifications/tools/list_changed", "nothing concerned it before");
}

#[tokio::test]
async fn nothing_is_asked_in_the_name_of_somebody_for_whom_there_is_nothing() {
    for server in SERVERS {
        let nexus = guarded().upstream("crm", crm(server, "allow = [\"pro\"]")).start().await;
        for is_modern in [false, true] {
            let free = bearing(&nexus, is_modern, "free", "fred").await;
            assert_eq!(free.list("tools").await, [""; 0]);
            for name in ["crm__whoami", "whoami", "crm__of_fred"] {
                assert_eq!(free.call(name).await["error"]["code"], -32602, "{name}");
            }
            assert_eq!(text(&bearing(&nexus, is_modern, "pro", "ann").await.call("crm__whoami").await), "whoami for ann");
        }
        // Nor is anybody told that a token is missing for what is not there.
        assert_eq!(new(&nexus, "free").call("crm__whoami").await["error"]["code"], -32602);
        assert_eq!(new(&nexus, "pro").call("crm__whoami").await["error"]["code"], -32600);
        assert!(nexus.fake("crm").seen().iter().all(|call| token(call) == "ann"), "its token is none of that server's business");
    }
}

#[tokio::test]
async fn with_other_groups_the_upstream_is_there_at_once() {
    for server in SERVERS {
        let nexus = with_groups_of_requests().upstream("crm", crm(server, "allow = [\"pro\"]")).start().await;
        for is_modern in [false, true] {
            let free = in_group(&nexus, is_modern, "free").await;
            let pro = free.twin().header("x-group", "pro");
            assert_eq!(free.list("tools").await, [""; 0]);
            assert_eq!(text(&pro.call("crm__whoami").await), "whoami for ann");
            assert_eq!(pro.list("tools").await, ["crm__whoami", "crm__of_ann"]);
            assert_eq!(free.list("tools").await, [""; 0]);
            assert_eq!(free.call("crm__whoami").await["error"]["code"], -32602);
            assert_eq!(text(&pro.call("crm__whoami").await), "whoami for ann");
        }
    }
}

#[tokio::test]
async fn rules_that_a_reload_brings_hold_for_upstreams_of_ones_own() {
    for server in SERVERS {
        let nexus = guarded().upstream("crm", crm(server, "hide = [\"none\"]")).start().await;
        let clients = [bearing(&nexus, false, "free", "fred").await, bearing(&nexus, true, "free", "fred").await];
        let pro = bearing(&nexus, false, "pro", "ann").await;
        for client in clients.iter().chain([&pro]) {
            assert_eq!(text(&client.call("crm__whoami").await).split(' ').next(), Some("whoami"));
        }
        let mut hears = clients[0].get().await;
        let mut listens = listen(&clients[1], json!({"toolsListChanged": true})).await;
        nexus.reload(&nexus.toml.replace("hide = [\"none\"]", RULES));
        for client in &clients {
            assert_eq!(client.list("tools").await, ["crm__of_fred"]);
            assert_eq!(client.call("crm__whoami").await["error"]["code"], -32602);
        }
        assert_eq!(next_method(&mut hears).await, "notifications/tools/list_changed");
        assert_eq!(next_method(&mut listens).await, "notifications/tools/list_changed");
        nexus.reload(&nexus.toml.replace("hide = [\"none\"]", "deny = [\"free\"]"));
        for client in &clients {
            assert_eq!(client.list("tools").await, [""; 0]);
            assert_eq!(client.call("crm__of_fred").await["error"]["code"], -32602);
        }
        assert_eq!(next_method(&mut hears).await, "notifications/tools/list_changed");
        assert_eq!(next_method(&mut listens).await, "notifications/tools/list_changed");
        if !server().is_modern() {
            let ended = |call: &Call| call.verb == http::Method::DELETE && token(call) == "fred";
            soon("the end of the session there", nexus.fake("crm").arrives("the end", ended)).await;
        }
        assert_eq!(pro.list("tools").await, ["crm__whoami", "crm__of_ann"]);
        nexus.reload(&nexus.toml);
        assert_eq!(text(&clients[1].call("crm__whoami").await), "whoami for fred");
        assert!(nexus.fake("crm").seen_of("DELETE").iter().all(|call| token(call) == "fred"), "nobody else was disturbed");
    }
}
