//! Whose a session is, who serves it, and when it ends.

use http::StatusCode;
use serde_json::json;

use super::{Pair, connected, spec, work, works};
use crate::support::{client::Client, fake::legacy, nexus::gateway, redis::RedisServer, until};

#[tokio::test]
async fn any_replica_serves_a_session() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    let moved = pair.moved(&client);
    for _ in 0..3 {
        works(&moved.call("crm__work").await);
        works(&client.call("crm__work").await);
    }
    assert_eq!(moved.list("tools").await, client.list("tools").await);
    assert_eq!(pair.opened(), 1, "both go on with one session upstream");
    let ids: Vec<_> = pair.crm().seen_of("tools/call").iter().map(|call| call.id().clone()).collect();
    let unique: std::collections::BTreeSet<_> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(unique.len(), ids.len(), "no id is used twice in it: {ids:?}");
    assert!(ids.iter().all(|id| id.as_u64().unwrap() < 1 << 53), "{ids:?}");
}

#[tokio::test]
async fn sessions_are_kept_for_who_owns_them() {
    let redis = RedisServer::start().await;
    let begin = |crm: crate::support::nexus::Upstream| connected(spec(&redis, "").upstream("crm", crm).upstream("erp", legacy().tool("x")));
    let forwards = legacy().tool("work").toml("[.auth]\ntype = \"forward\"");
    let one = begin(forwards.into()).await;
    let lines = format!("url = {:?}\n[.auth]\ntype = \"forward\"", one.fake("crm").url());
    let other = begin(lines.into()).await;
    let ada = one.bearing(false, "ada").await;
    for address in [one.address, other.address] {
        for thief in [ada.at(address).bearing("eve"), anonymous(&ada).at(address)] {
            assert_eq!(thief.open("tools/list", json!({})).await.status, StatusCode::NOT_FOUND);
            assert_eq!(thief.delete().await, StatusCode::NOT_FOUND);
        }
        let own = ada.at(address);
        assert_eq!(own.open("tools/list", json!({})).await.status, StatusCode::OK);
    }
}

fn anonymous(client: &Client) -> Client {
    let mut twin = client.twin();
    twin.headers.remove("authorization");
    twin
}

#[tokio::test]
async fn a_session_that_is_ended_at_one_is_ended_at_all() {
    let pair = Pair::start(legacy().tool("work").get_stream()).await;
    let client = pair.client().await;
    let moved = pair.moved(&client);
    works(&client.call("crm__work").await);
    works(&moved.call("crm__work").await);
    let mut stream = client.get().await;
    assert_eq!(moved.delete().await, StatusCode::NO_CONTENT);
    assert_eq!(stream.next().await, None, "its stream at the other ends");
    for at in [&client, &moved] {
        assert_eq!(at.open("tools/call", work()).await.status, StatusCode::NOT_FOUND);
    }
    pair.crm().arrives("the end of the session upstream", |call| call.verb == "DELETE").await;
    let third = Pair::beside(&pair.redis, &pair.one, "").await;
    assert_eq!(client.at(third.address).open("ping", json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(pair.crm().seen_of("DELETE").len(), 1, "and is said once");
}

#[tokio::test]
async fn a_session_that_one_never_heard_of_ends_there_too_with_all_that_is_upstream() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    let used = pair.crm().last("tools/call");
    assert_eq!(pair.moved(&client).delete().await, StatusCode::NO_CONTENT);
    let ended = pair.crm().arrives("the end of the session upstream", |call| call.verb == "DELETE").await;
    assert_eq!(ended.header("mcp-session-id"), used.header("mcp-session-id"));
}

#[tokio::test]
async fn a_replica_that_is_stopped_leaves_sessions_as_they_are() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    let Pair { redis, one, other } = pair;
    one.gateway.shut_down().await;
    let moved = client.at(other.address);
    works(&moved.call("crm__work").await);
    let crm = one.fake("crm");
    let opened = crm.seen_of("initialize").iter().filter(|call| call.params()["clientInfo"]["name"] == "test").count();
    assert_eq!(opened, 1);
    let ended: Vec<_> = crm.seen_of("DELETE").iter().map(|call| call.header("mcp-session-id").map(str::to_owned)).collect();
    assert!(!ended.contains(&crm.last("tools/call").header("mcp-session-id").map(str::to_owned)), "{ended:?}");
    drop(redis);
}

#[tokio::test]
async fn a_transparent_replica_goes_on_with_the_only_upstreams_session() {
    let redis = RedisServer::start().await;
    let one = connected(spec(&redis, "").upstream("crm", legacy().tool("work"))).await;
    let other = connected(spec(&redis, "").upstream("crm", format!("url = {:?}", one.fake("crm").url()))).await;
    let client = one.legacy().await;
    let moved = client.at(other.address);
    for at in [&moved, &client, &moved] {
        works(&at.call("work").await);
    }
    let opened = one.fake("crm").seen_of("initialize").iter().filter(|call| call.params()["clientInfo"]["name"] == "test").count();
    assert_eq!(opened, 1);
}

#[tokio::test]
async fn an_upstream_that_forgets_a_session_is_given_one_new_one_by_all() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    let moved = pair.moved(&client);
    works(&client.call("crm__work").await);
    works(&moved.call("crm__work").await);
    pair.crm().forget_sessions();
    works(&client.call("crm__work").await);
    works(&moved.call("crm__work").await);
    assert_eq!(pair.opened(), 2);
}

#[tokio::test]
async fn of_many_calls_at_once_at_all_replicas_one_opens_the_session_upstream() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    let calls = (0..20).map(|n| {
        let at = if n % 2 == 0 { pair.moved(&client) } else { client.twin() };
        tokio::spawn(async move { at.open_as(json!(format!("call-{n}")), "tools/call", work()).await.answer().await })
    });
    for call in calls.collect::<Vec<_>>() {
        works(&call.await.unwrap());
    }
    assert_eq!(pair.opened(), 1);
}

#[tokio::test]
async fn without_a_store_another_gateway_knows_nothing_of_a_session() {
    let one = gateway().upstream("crm", legacy().tool("work")).start().await;
    let other = gateway().upstream("crm", format!("url = {:?}", one.fake("crm").url())).start().await;
    let client = one.legacy().await;
    assert_eq!(client.at(other.address).open("ping", json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(one.gateway.store_errors(), None);
}

#[tokio::test]
async fn a_reloaded_replica_does_not_go_on_with_another_servers_session() {
    let pair = Pair::start(legacy().tool("work")).await;
    let client = pair.client().await;
    works(&client.call("crm__work").await);
    let elsewhere = legacy().tool("work").start("crm").await;
    let toml = pair.other.toml.replace(&pair.crm().url(), &elsewhere.url());
    pair.other.reload(&toml);
    let moved = pair.moved(&client);
    until("the other server", || pair.other.upstream("crm").config().endpoint != pair.one.upstream("crm").config().endpoint).await;
    pair.other.state("crm", "up").await;
    works(&moved.call("crm__work").await);
    elsewhere.arrives("the call", |call| call.method() == "tools/call").await;
    let opened = elsewhere.seen_of("initialize").iter().filter(|call| call.params()["clientInfo"]["name"] == "test").count();
    assert_eq!(opened, 1);
}
