//! `type = "forward"`: the caller's own token, and nobody else's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{SERVERS, personal, token};
use crate::support::{
    StillTime,
    client::text,
    fake::{Answer, Call, legacy, modern},
    in_time,
    nexus::gateway,
    pass, until,
};
use serde_json::{Value, json};

#[tokio::test]
async fn everybody_is_served_in_his_own_name_and_sees_his_own_items() {
    for server in SERVERS {
        let nexus = gateway().upstream("crm", personal(server)).upstream("all", legacy().tool("open")).start().await;
        for is_modern in [false, true] {
            for who in ["ann", "bob"] {
                let client = nexus.bearing(is_modern, who).await;
                let mut tools = client.list("tools").await;
                tools.sort();
                assert_eq!(tools, ["all__open".to_owned(), format!("crm__of_{who}"), "crm__whoami".to_owned()]);
                assert_eq!(text(&client.call("crm__whoami").await), format!("whoami for {who}"));
                assert_eq!(text(&client.call("all__open").await), "all:open");
                let others = if who == "ann" { "crm__of_bob" } else { "crm__of_ann" };
                assert_eq!(client.call(others).await["error"]["code"], -32602, "another's tool is unknown");
            }
        }
    }
}

#[tokio::test]
async fn a_call_is_the_first_thing_that_a_caller_needs_to_say() {
    for server in SERVERS {
        let nexus = gateway().upstream("crm", personal(server)).start().await;
        for is_modern in [false, true] {
            let client = nexus.bearing(is_modern, "ann").await;
            for name in ["crm__whoami", "whoami"] {
                assert_eq!(text(&client.call(name).await), "whoami for ann");
            }
        }
    }
}

#[tokio::test]
async fn a_transparent_gateway_passes_everybodys_own_words() {
    for server in SERVERS {
        let nexus = gateway().upstream("crm", personal(server).first_toml("prefix = \"\"")).start().await;
        for is_modern in [false, true] {
            let client = nexus.bearing(is_modern, "ann").await;
            assert_eq!(client.list("tools").await, ["whoami", "of_ann"]);
            assert_eq!(text(&client.call("whoami").await), "whoami for ann");
        }
    }
}

#[tokio::test]
async fn without_a_token_the_upstream_waits_and_is_not_asked() {
    for server in SERVERS {
        let nexus = gateway().upstream("crm", personal(server)).start().await;
        nexus.state("crm", "waiting").await;
        for client in [nexus.legacy().await, nexus.modern()] {
            assert_eq!(client.list("tools").await, [""; 0]);
            let answer = client.call("crm__whoami").await;
            assert_eq!(answer["error"]["code"], -32600, "{answer}");
            assert_eq!(answer["error"]["message"], "Authentication required for this tool");
            assert_eq!(answer["error"]["data"], json!({"upstream": "crm", "reason": "needs_caller"}));
        }
        assert_eq!(nexus.fake("crm").seen().len(), 0, "nobody's name is not a name to ask in");
        nexus.bearing(true, "ann").await.call("crm__whoami").await;
        nexus.state("crm", "up").await;
    }
}

#[tokio::test]
async fn what_is_hidden_needs_no_authentication_because_it_is_not_there() {
    let nexus = gateway().upstream("crm", personal(legacy).first_toml("hide = [\"whoami\"]")).start().await;
    let client = nexus.modern();
    assert_eq!(client.call("crm__whoami").await["error"]["code"], -32602);
    assert_eq!(client.call("crm__other").await["error"]["code"], -32600);
}

/// Refuses everybody but `ann`.
fn refusing(server: super::Server) -> crate::support::fake::FakeSpec {
    let spec = personal(server);
    let refuse = |call: &Call| match token(call) {
        "ann" => None,
        _ => Some(Answer::new(401, "application/json", r#"{"error":"invalid_token"}"#)),
    };
    spec.before(refuse)
}

#[tokio::test]
async fn a_token_that_the_server_refuses_is_its_bearers_trouble_alone() {
    for server in SERVERS {
        let nexus = gateway().upstream("crm", refusing(server)).start().await;
        let (ann, bob) = (nexus.bearing(true, "ann").await, nexus.bearing(true, "bob").await);
        assert_eq!(text(&ann.call("crm__whoami").await), "whoami for ann");
        let answer = bob.call("crm__whoami").await;
        assert_eq!((&answer["error"]["code"], &answer["error"]["data"]["reason"]), (&json!(-32603), &json!("auth_required")), "{answer}");
        assert_eq!(bob.list("tools").await, [""; 0]);
        nexus.state("crm", "up").await;
        // A 401 says nothing about what the server speaks: nothing but the first request of the first attempt was tried.
        let of_bob: Vec<Call> = nexus.fake("crm").seen().into_iter().filter(|call| token(call) == "bob").collect();
        assert_eq!(of_bob.len(), 1, "{:?}", of_bob.iter().map(Call::method).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_refused_token_is_tried_again_when_its_bearer_comes_back_after_a_while() {
    let still = StillTime::begin();
    let refuses = Arc::new(AtomicBool::new(true));
    let is_refusing = Arc::clone(&refuses);
    let refuse = move |_: &Call| is_refusing.load(Ordering::SeqCst).then(|| Answer::status(401));
    let nexus = gateway().upstream("crm", personal(legacy).before(refuse)).start().await;
    let ann = nexus.bearing(true, "ann").await;
    assert_eq!(ann.call("crm__whoami").await["error"]["data"]["reason"], "auth_required");
    refuses.store(false, Ordering::SeqCst);
    let asked = nexus.fake("crm").seen().len();
    assert_eq!(ann.call("crm__whoami").await["error"]["data"]["reason"], "auth_required");
    assert_eq!(nexus.fake("crm").seen().len(), asked, "a moment later it would be the same");
    pass(Duration::from_secs(6)).await;
    assert_eq!(text(&ann.call("crm__whoami").await), "whoami for ann");
    drop(still);
}

#[tokio::test]
async fn a_forbidden_caller_says_nothing_about_the_servers_era() {
    let forbidden = |call: &Call| match token(call) {
        "ann" => None,
        _ => Some(Answer::new(403, "application/json", r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#)),
    };
    let nexus = gateway().upstream("crm", personal(modern).before(forbidden)).start().await;
    let bob = nexus.bearing(true, "bob").await;
    assert_eq!(bob.call("crm__whoami").await["error"]["data"]["reason"], "auth_required");
    assert_eq!(nexus.fake("crm").seen_of("initialize").len(), 0);
    assert_eq!(text(&nexus.bearing(true, "ann").await.call("crm__whoami").await), "whoami for ann");
}

#[tokio::test]
async fn the_first_caller_finds_the_era_for_all() {
    let nexus = gateway().upstream("crm", personal(legacy)).start().await;
    for who in ["ann", "bob", "cat"] {
        nexus.bearing(true, who).await.call("crm__whoami").await;
    }
    assert_eq!(nexus.fake("crm").seen_of("server/discover").len(), 1);
}

#[tokio::test]
async fn a_change_of_ones_own_list_is_told_to_its_owner_only() {
    let nexus = gateway().upstream("crm", personal(legacy).get_stream()).start().await;
    let (ann, bob) = (nexus.bearing(false, "ann").await, nexus.bearing(false, "bob").await);
    ann.list("tools").await;
    bob.list("tools").await;
    let mut heard = [ann.get().await, bob.get().await];
    let of_ann = |call: &Call| call.method() == "initialize" && token(call) == "ann";
    nexus.fake("crm").arrives("ann's session", of_ann).await;
    let streams = nexus.fake("crm").seen_of("GET");
    let of_ann = streams.iter().find(|call| token(call) == "ann").unwrap();
    let stream = nexus.fake("crm").stream_of(of_ann.header("mcp-session-id").unwrap()).await;
    nexus.fake("crm").now_on("tools/list", |call| Answer::json(call.response(r#""tools":[]"#)));
    stream.event(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}).to_string()).await;
    assert_eq!(heard[0].next().await.unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(ann.list("tools").await, [""; 0]);
    assert_eq!(bob.list("tools").await, ["crm__whoami", "crm__of_bob"]);
    let none = tokio::time::timeout(Duration::from_millis(50), heard[1].next()).await;
    assert!(none.is_err(), "{none:?}");
}

#[tokio::test]
async fn no_more_callers_are_kept_than_configured_and_whoever_returns_begins_anew() {
    let nexus =
        gateway().mcp("downstream_cache = { max_size = 2, idle_timeout = \"10m\" }").upstream("crm", personal(legacy)).start().await;
    let opened = || nexus.fake("crm").seen_of("initialize").len();
    for who in ["ann", "bob", "ann", "cat"] {
        nexus.bearing(true, who).await.call("crm__whoami").await;
    }
    let before = opened();
    nexus.bearing(true, "ann").await.call("crm__whoami").await;
    nexus.bearing(true, "cat").await.call("crm__whoami").await;
    assert_eq!(opened(), before, "ann and cat are kept");
    until("the end of bob's sessions", || nexus.fake("crm").seen_of("DELETE").iter().any(|call| token(call) == "bob")).await;
    assert!(nexus.fake("crm").seen_of("DELETE").iter().all(|call| token(call) == "bob"));
    assert_eq!(text(&nexus.bearing(true, "bob").await.call("crm__whoami").await), "whoami for bob");
    assert!(opened() > before);
}

#[tokio::test]
async fn made_up_tokens_drive_nobody_out() {
    let nexus = gateway().mcp("downstream_cache = { max_size = 3 }").upstream("crm", refusing(legacy)).start().await;
    let ann = nexus.bearing(true, "ann").await;
    ann.call("crm__whoami").await;
    let of_ann = || nexus.fake("crm").seen_of("initialize").iter().filter(|call| token(call) == "ann").count();
    let before = of_ann();
    for n in 0..10 {
        nexus.bearing(true, &format!("made-up{n}")).await.call("crm__whoami").await;
    }
    assert_eq!(text(&ann.call("crm__whoami").await), "whoami for ann");
    assert_eq!(of_ann(), before);
}

#[tokio::test]
async fn what_is_kept_for_a_caller_ends_when_he_stays_away() {
    let still = StillTime::begin();
    let nexus = gateway().mcp("downstream_cache = { idle_timeout = \"5s\" }").upstream("crm", personal(legacy)).start().await;
    nexus.bearing(true, "ann").await.call("crm__whoami").await;
    assert!(nexus.fake("crm").seen_of("DELETE").is_empty());
    // The next look for whoever stays away.
    tokio::time::advance(Duration::from_secs(31)).await;
    in_time("the end of ann's sessions", || nexus.fake("crm").seen_of("DELETE").iter().any(|call| token(call) == "ann")).await;
    drop(still);
}

#[tokio::test]
async fn a_new_caller_reconnects_nobody() {
    for server in SERVERS {
        let nexus = gateway().upstream("crm", personal(server)).start().await;
        let ann = nexus.bearing(true, "ann").await;
        ann.call("crm__whoami").await;
        let of_ann = |methods: &[&str]| {
            let seen = nexus.fake("crm").seen();
            seen.iter().filter(|call| token(call) == "ann" && methods.contains(&call.method())).count()
        };
        let before = of_ann(&["initialize", "server/discover", "tools/list"]);
        for n in 0..20 {
            nexus.bearing(true, &format!("other{n}")).await.call("crm__whoami").await;
        }
        ann.call("crm__whoami").await;
        assert_eq!(of_ann(&["initialize", "server/discover", "tools/list"]), before);
    }
}

#[tokio::test]
async fn what_is_found_is_ones_own() {
    let nexus = gateway().mcp("tools = \"search\"").upstream("crm", personal(legacy)).start().await;
    for who in ["ann", "bob"] {
        let client = nexus.bearing(true, who).await;
        let found = client.ask("tools/call", json!({"name": "search", "arguments": {"keywords": ["of_ann", "of_bob"]}})).await;
        let found = found["result"]["content"].to_string();
        assert_eq!((found.contains("of_ann"), found.contains("of_bob")), (who == "ann", who == "bob"), "{found}");
        let execute = json!({"name": "execute", "arguments": {"name": "crm__whoami", "arguments": {}}});
        assert_eq!(text(&client.ask("tools/call", execute).await), format!("whoami for {who}"));
    }
}

#[tokio::test]
async fn a_reload_keeps_what_callers_have() {
    let nexus = gateway().upstream("crm", personal(legacy)).start().await;
    let ann = nexus.bearing(false, "ann").await;
    ann.call("crm__whoami").await;
    let opened = nexus.fake("crm").seen_of("initialize").len();
    nexus.reload(&nexus.toml.replace("[mcp]\n", "[mcp]\nmax_sessions = 77\n"));
    assert_eq!(text(&ann.call("crm__whoami").await), "whoami for ann");
    assert_eq!(nexus.fake("crm").seen_of("initialize").len(), opened);
    nexus.reload(&nexus.toml.replace("type = \"forward\"", "token = \"fixed\""));
    nexus.state("crm", "up").await;
    // Nobody's token is anybody's name any more.
    assert_eq!(ann.call("crm__whoami").await["error"]["code"], -32600);
    let nobody = nexus.modern();
    let mut answer = nobody.call("crm__whoami").await;
    // The one in its place takes over once it was tried.
    for _ in 0..100 {
        if answer["result"] != Value::Null {
            break;
        }
        answer = nobody.call("crm__whoami").await;
    }
    assert_eq!(text(&answer), "whoami for fixed");
}
