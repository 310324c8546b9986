//! What the gateway itself holds against an upstream that serves, or that it has not tried yet.

use serde_json::{Value, json};

use crate::support::{
    fake::{legacy, modern},
    nexus::{Nexus, gateway},
    pki::{Authority, Leaf},
    tls_peer::server_config,
};

async fn shown(nexus: &Nexus, upstream: &str) -> Value {
    nexus.operator().json(&format!("/api/v1/upstreams/{upstream}")).await
}

#[tokio::test]
async fn a_credential_over_a_connection_that_is_not_verified_is_held_against_its_upstream() {
    let ca = Authority::root("Company CA");
    let https = || legacy().tool("x").https(server_config(&ca.sign(Leaf::server(&["localhost"]))));
    let token = "[.auth]\ntoken = \"{{ env.TOKEN }}\"\n[.tls]\n";
    let nexus = gateway()
        .admin("")
        .env("TOKEN", "canary-token")
        .file("/etc/ca.pem", ca.pem())
        .upstream("lax", https().toml(&format!("{token}verify_certs = false")))
        .upstream("any_name", https().toml(&format!("{token}root_ca_cert_path = \"/etc/ca.pem\"\naccept_invalid_hostnames = true")))
        .upstream("strict", https().toml(&format!("{token}root_ca_cert_path = \"/etc/ca.pem\"")))
        .upstream("without", https().toml("[.tls]\nverify_certs = false"))
        .start()
        .await;
    for name in ["lax", "any_name"] {
        let upstream = shown(&nexus, name).await;
        assert_eq!((&upstream["state"], &upstream["reason"]), (&json!("degraded"), &json!("insecure_credential")), "{upstream}");
        assert!(
            upstream["remedy"].as_str().unwrap().contains("root_ca_cert_path") && !upstream.to_string().contains("canary"),
            "{upstream}"
        );
    }
    for name in ["strict", "without"] {
        assert_eq!(shown(&nexus, name).await["state"], "up", "{name}");
    }
    nexus.is_unharmed("lax__x").await;
}

#[tokio::test]
async fn a_name_that_another_has_already_is_held_against_the_later_upstream() {
    let nexus = gateway()
        .admin("")
        .upstream("a", legacy().tool("b__x").toml("prefix = \"\""))
        .upstream("b", modern().tool("x").tool("y"))
        .start()
        .await;
    nexus.state("b", "degraded").await;
    let later = shown(&nexus, "b").await;
    assert_eq!(later["reason"], "name_collision", "{later}");
    assert!(later["detail"].as_str().unwrap().contains("b__x") && later["remedy"].as_str().unwrap().contains("prefix"), "{later}");
    assert_eq!(shown(&nexus, "a").await["state"], "up");
}

#[tokio::test]
async fn a_call_to_an_upstream_that_was_not_tried_yet_is_told_that_it_is_starting() {
    let (slow, mut held) = modern().tool("x").held("server/discover");
    let nexus = gateway().mcp("list_wait = \"100ms\"").upstream("slow", slow).upstream("other", modern().tool("y")).start_at_once().await;
    let (asked, answer) = held.recv().await.unwrap();
    let told = nexus.modern().call("slow__x").await;
    assert_eq!((&told["error"]["code"], &told["error"]["data"]["reason"]), (&json!(-32603), &json!("starting")), "{told}");
    drop((asked, answer));
}
