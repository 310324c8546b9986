//! Sessions that any replica serves: gateways of one configuration, beside one Redis.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod between;
mod living;
mod sessions;
mod store;
mod streams;

use serde_json::{Value, json};

use crate::support::{
    client::Client,
    fake::{FakeSpec, legacy},
    nexus::{GatewaySpec, Nexus, gateway},
    redis::RedisServer,
    until,
};

const SECRET: &str = "a secret that all replicas have, of 32 bytes and more";

/// The lines of a replica's file. `mcp`: further lines of `[mcp]`.
fn spec(redis: &RedisServer, mcp: &str) -> GatewaySpec {
    let state =
        format!("[state]\nstore = \"redis\"\nredis_url = \"{}\"\nsecrets = [{SECRET:?}]\nresponse_timeout = \"500ms\"", redis.url());
    gateway().mcp(mcp).tables(&state)
}

/// Two replicas whose upstream is `crm`, beside another that keeps them from being transparent.
struct Pair {
    redis: RedisServer,
    one: Nexus,
    other: Nexus,
}

async fn connected(spec: GatewaySpec) -> Nexus {
    let nexus = spec.admin("metrics = \"open\"").start().await;
    until("a connection to redis-server", || nexus.gateway.is_store_connected() == Some(true)).await;
    nexus
}

impl Pair {
    async fn start(crm: FakeSpec) -> Self {
        Self::with(crm, "").await
    }

    async fn with(crm: FakeSpec, mcp: &str) -> Self {
        let redis = RedisServer::start().await;
        let one = connected(spec(&redis, mcp).upstream("crm", crm).upstream("erp", legacy().tool("idle"))).await;
        let other = Self::beside(&redis, &one, mcp).await;
        Self { redis, one, other }
    }

    /// One more replica of the same upstreams.
    async fn beside(redis: &RedisServer, one: &Nexus, mcp: &str) -> Nexus {
        let lines = |name: &str| format!("url = {:?}", one.fake(name).url());
        connected(spec(redis, mcp).upstream("crm", lines("crm")).upstream("erp", lines("erp"))).await
    }

    fn crm(&self) -> &crate::support::fake::Fake {
        self.one.fake("crm")
    }

    /// A client's session, begun at one.
    async fn client(&self) -> Client {
        self.one.legacy().await
    }

    /// The same client, at the other.
    fn moved(&self, client: &Client) -> Client {
        client.at(self.other.address)
    }

    /// The sessions that clients opened with `crm`; each replica has opened one for itself.
    fn opened(&self) -> usize {
        self.crm().seen_of("initialize").iter().filter(|call| call.params()["clientInfo"]["name"] == "test").count()
    }

    /// The keys of sessions.
    async fn keys(&self) -> Vec<String> {
        self.redis.cli(&["KEYS", "nexus:session:*"]).await.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The key of the only session.
    async fn key(&self) -> String {
        let keys = self.keys().await;
        assert_eq!(keys.len(), 1, "{keys:?}");
        keys[0].clone()
    }
}

fn works(answer: &Value) {
    assert!(answer["result"]["content"].is_array(), "{answer}");
}

fn work() -> Value {
    json!({"name": "crm__work", "arguments": {}})
}
