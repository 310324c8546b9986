//! Header rules: what goes up besides the protocol's own headers and the credential.

use serde_json::json;

use super::{SERVERS, personal};
use crate::support::{client::Client, fake::Call, nexus::gateway};

const RULES: &str = r#"
[[.headers]]
rule = "insert"
name = "X-Team"
value = "ours"
[[.headers]]
rule = "forward"
name = "X-Tenant"
[[.headers]]
rule = "forward"
name = "X-Lang"
rename = "X-Language"
default = "en"
[[.headers]]
rule = "remove"
name = "X-All"
[[.headers]]
rule = "rename"
name = "X-Also-All"
rename = "X-Only-Here"
"#;

const FOR_ALL: &str = r#"
[[mcp.headers]]
rule = "insert"
name = "X-All"
value = "1"
[[mcp.headers]]
rule = "insert"
name = "X-Also-All"
value = "2"
"#;

fn named<'a>(call: &'a Call, names: &[&str]) -> Vec<Option<&'a str>> {
    names.iter().map(|name| call.header(name)).collect()
}

#[tokio::test]
async fn rules_hold_in_their_order_and_for_every_client_and_server() {
    let names = ["x-team", "x-tenant", "x-lang", "x-language", "x-all", "x-also-all", "x-only-here"];
    for server in SERVERS {
        let spec = server().tool("open").toml(RULES);
        let nexus = gateway().tables(FOR_ALL).upstream("crm", spec).upstream("other", server().tool("open")).start().await;
        for is_modern in [false, true] {
            let client = if is_modern { nexus.modern() } else { Client::stranger(nexus.address).begin(json!({})).await };
            let sending =
                client.twin().header("x-tenant", "t1").header("x-lang", "de").header("x-all", "forged").header("x-other", "canary");
            sending.call("crm__open").await;
            let last = nexus.fake("crm").last("tools/call");
            assert_eq!(named(&last, &names), [Some("ours"), Some("t1"), None, Some("de"), None, None, Some("2")]);
            assert_eq!(last.header("x-other"), None);
            client.call("crm__open").await;
            let last = nexus.fake("crm").last("tools/call");
            assert_eq!(named(&last, &names), [Some("ours"), None, None, Some("en"), None, None, Some("2")]);
            sending.call("other__open").await;
            assert_eq!(named(&nexus.fake("other").last("tools/call"), &names), [None, None, None, None, Some("1"), Some("2"), None]);
        }
    }
}

#[tokio::test]
async fn a_header_that_is_said_twice_is_passed_on_not_at_all() {
    let nexus = gateway().upstream("crm", SERVERS[1]().tool("open").toml(RULES)).start().await;
    let mut client = nexus.modern();
    for value in ["a", "b"] {
        client.headers.append("x-tenant", value.try_into().unwrap());
    }
    client.call("crm__open").await;
    assert_eq!(nexus.fake("crm").last("tools/call").header("x-tenant"), None);
}

#[tokio::test]
async fn a_callers_headers_and_token_go_up_together_and_only_his() {
    for server in SERVERS {
        let nexus = gateway().upstream("crm", personal(server).toml(RULES)).start().await;
        for (who, tenant) in [("ann", "t1"), ("bob", "t2"), ("ann", "t3")] {
            let client = nexus.modern().bearing(who).header("x-tenant", tenant);
            client.list("tools").await;
            client.call("crm__whoami").await;
            let last = nexus.fake("crm").last("tools/call");
            assert_eq!((super::token(&last), last.header("x-tenant")), (who, Some(tenant)));
        }
        let seen = nexus.fake("crm").seen();
        let crossed = seen.iter().filter(|call| super::token(call) == "bob" && call.header("x-tenant") != Some("t2"));
        assert_eq!(crossed.count(), 0);
    }
}
