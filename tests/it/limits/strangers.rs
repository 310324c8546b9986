//! Those of whom nothing is known but a token that nobody validates here: whoever invents another is not somebody else.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // Helpers of tests.

use serde_json::{Value, json};

use super::tools;
use crate::support::{
    client::Client,
    fake::{FakeSpec, legacy, modern},
    nexus::{Nexus, gateway},
};

const PROXIED: &str = "client_ip = { x_forwarded_for_trusted_hops = 0, trusted_proxies = [\"127.0.0.1\"] }";
const FORWARD: &str = "[.auth]\ntype = \"forward\"";

fn stranger(nexus: &Nexus, token: usize, address: &str) -> Client {
    nexus.modern().bearing(&format!("invented-{token}")).header("x-forwarded-for", address)
}

fn scope(answer: &Value) -> Option<&str> {
    answer["error"]["data"]["scope"].as_str()
}

async fn start(limits: &str, personal: FakeSpec) -> Nexus {
    gateway().server(&format!("{PROXIED}\n{limits}")).mcp("").upstream("crm", personal).upstream("free", tools("")).start().await
}

#[tokio::test]
async fn an_invented_token_is_limited_as_its_address() {
    let nexus = start("[server.rate_limits]\nper_client = { limit = 3, interval = \"1h\" }", modern().tool("x").toml(FORWARD)).await;
    let mut admitted = 0;
    for n in 0..12 {
        let answer = stranger(&nexus, n, "192.0.2.1").call("free__work").await;
        admitted += usize::from(answer["result"].is_object());
        assert!(answer["result"].is_object() || scope(&answer) == Some("client"), "{answer}");
    }
    assert_eq!(admitted, 3);
    assert!(stranger(&nexus, 0, "192.0.2.2").call("free__work").await["result"].is_object(), "another address has its own");
}

#[tokio::test]
async fn what_is_brought_up_for_an_invented_token_is_charged_to_its_upstream() {
    for spec in [legacy(), modern()] {
        let limits = format!("{FORWARD}\n[.rate_limits]\nlimit = 6\ninterval = \"1h\"");
        let nexus = start("", spec.tool("x").toml(&limits)).await;
        let mut refused = 0;
        for n in 0..30 {
            let answer = stranger(&nexus, n, "192.0.2.1").ask("tools/list", json!({})).await;
            refused += usize::from(scope(&answer) == Some("server"));
        }
        assert_eq!(refused, 24, "each of the first six was brought up");
        let tokens: std::collections::BTreeSet<String> =
            nexus.fake("crm").seen().iter().filter_map(|call| call.header("authorization").map(str::to_owned)).collect();
        assert_eq!(tokens.len(), 6);
    }
}

#[tokio::test]
async fn a_stranger_who_is_refused_at_one_server_costs_the_others_nothing() {
    let with = |limit: u32| modern().tool("x").toml(&format!("{FORWARD}\n[.rate_limits]\nlimit = {limit}\ninterval = \"1h\""));
    let nexus = gateway().server(PROXIED).mcp("").upstream("rich", with(3)).upstream("poor", with(1)).start().await;
    let known = stranger(&nexus, 0, "192.0.2.1");
    // To list everything for it has taken one token of each.
    assert_eq!(known.list("tools").await.len(), 2);
    for n in 1..10 {
        assert_eq!(scope(&stranger(&nexus, n, "192.0.2.1").ask("tools/list", json!({})).await), Some("server"));
    }
    let admitted = [known.call("rich__x").await, known.call("rich__x").await];
    assert!(admitted.iter().all(|answer| answer["result"].is_object()), "{admitted:?}");
    assert_eq!(scope(&known.call("rich__x").await), Some("server"), "two were left");
}

#[tokio::test]
async fn where_each_client_has_its_own_tokens_invented_ones_keep_no_other_address_out() {
    let limits = format!("{FORWARD}\n[.rate_limits]\nlimit = 2\ninterval = \"1h\"\nper = \"client\"");
    let nexus = start("", modern().tool("x").toml(&limits)).await;
    for n in 0..10 {
        let refused = scope(&stranger(&nexus, n, "192.0.2.1").ask("tools/list", json!({})).await) == Some("server");
        assert_eq!(refused, n >= 2, "{n}");
    }
    assert!(stranger(&nexus, 100, "192.0.2.2").call("crm__x").await["result"].is_object());
}
