//! Replicas with one Redis: one of them sends.

use http::StatusCode;
use nexus::names::UpstreamName;

use super::{delivery::refusing, *};
use crate::support::{
    fake::{FakeSpec, legacy},
    nexus::{GatewaySpec, gateway},
    pki::{Authority, Leaf},
    redis::RedisServer,
    tls_peer::server_config,
};

/// Gateways of one file, with one upstream whose certificate ends soon.
struct Replicas {
    redis: RedisServer,
    ca: Authority,
    first: Nexus,
}

impl Replicas {
    async fn with(redis: RedisServer, ca: Authority, crm: FakeSpec) -> Self {
        let first = connected(spec(&redis, &ca).upstream("crm", crm.toml(TRUSTING))).await;
        Self { redis, ca, first }
    }

    async fn start() -> Self {
        let ca = Authority::root("Company CA");
        let crm = legacy().tool("x").https(server_config(&ca.sign(Leaf::server(&["localhost"]).ends_in(5))));
        Self::with(RedisServer::start().await, ca, crm).await
    }

    /// Another process beside the first.
    async fn another(&self) -> Nexus {
        let lines = format!("url = {:?}\n{TRUSTING}", self.first.fake("crm").url());
        connected(spec(&self.redis, &self.ca).upstream("crm", lines)).await
    }

    /// The one alert that Redis knows of: its key, and what is said of its only field.
    async fn known(&self) -> (String, String, String) {
        let keys = self.redis.cli(&["KEYS", "nexus:alert:*"]).await;
        assert_eq!(keys.lines().count(), 1, "{keys}");
        let fields = self.redis.cli(&["HGETALL", &keys]).await;
        let [field, value] = fields.lines().collect::<Vec<_>>()[..] else { panic!("{fields}") };
        (keys.clone(), field.to_owned(), value.to_owned())
    }
}

fn spec(redis: &RedisServer, ca: &Authority) -> GatewaySpec {
    let secret = "a secret that all replicas have, of 32 bytes and more";
    let times = "response_timeout = \"500ms\"\nconnection_timeout = \"1s\"";
    let state = format!("[state]\nstore = \"redis\"\nredis_url = \"{}\"\nsecrets = [{secret:?}]\n{times}", redis.url());
    gateway().file("/ca.pem", ca.pem()).tables(&state)
}

async fn connected(spec: GatewaySpec) -> Nexus {
    let nexus = spec.start().await;
    until("a connection to redis-server", || nexus.gateway.is_store_connected() == Some(true)).await;
    nexus
}

/// Waits until each has an open alert, or none, and nothing more to send.
async fn settled(all: &[&Watched], open: usize) {
    let is_settled = |watched: &&Watched| watched.board.alerts().len() == open && watched.board.channels()[0].waiting() == 0;
    until("the replicas to agree", || all.iter().all(is_settled)).await;
}

fn sent(watched: &Watched) -> u64 {
    watched.board.channels()[0].sent()
}

/// What was told of the certificates' ends.
fn expiries(receiver: &Peer) -> Vec<String> {
    let told = told(receiver);
    let of_expiry = told.iter().filter(|alert| alert["topic"] == "expiry");
    of_expiry.map(|alert| alert["status"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn of_two_replicas_one_tells_of_a_certificate_and_one_that_it_was_renewed_and_so_the_next_time() {
    let ca = Authority::root("Company CA");
    let (old, new) = (ca.sign(Leaf::server(&["localhost"]).ends_in(5)), ca.sign(Leaf::server(&["localhost"])));
    let (renewable, config) = Renewable::new(&old);
    let replicas = Replicas::with(RedisServer::start().await, ca, legacy().tool("x").https(config)).await;
    let other = replicas.another().await;
    let receiver = Peer::plain().await;
    let channel = webhook(&receiver).replace("warning", "info");
    let both = [watch(&replicas.first, &channel), watch(&other, &channel)];
    let both = [&both[0], &both[1]];
    let shows = |chain: &Chain| {
        renewable.renew(chain);
        for watched in both {
            watched.prober.forget(&UpstreamName::parse("crm").unwrap());
        }
    };
    settled(&both, 1).await;
    assert_eq!((expiries(&receiver), sent(both[0]) + sent(both[1])), (vec!["firing".to_owned()], 1));
    let (key, field, value) = replicas.known().await;
    assert!(field.starts_with("firing:") && value.starts_with("sent "), "{field}: {value}");
    shows(&new);
    settled(&both, 0).await;
    assert_eq!(expiries(&receiver), ["firing", "resolved"]);
    assert_eq!(replicas.redis.cli(&["HKEYS", &key]).await, "resolved");
    shows(&old);
    settled(&both, 1).await;
    assert_eq!(expiries(&receiver), ["firing", "resolved", "firing"]);
    assert_eq!(replicas.redis.cli(&["HKEYS", &key]).await, field);
    shows(&new);
    settled(&both, 0).await;
    assert_eq!(expiries(&receiver), ["firing", "resolved", "firing", "resolved"]);
    let changes = told(&receiver).iter().filter(|alert| alert["topic"] == "certificate_changed").count();
    assert_eq!(changes, 1, "what is no matter that goes on is told once, too");
    // As if Redis had not heard that it was over.
    replicas.redis.cli(&["HSET", &key, &field, &value]).await;
    shows(&old);
    settled(&both, 1).await;
    assert_eq!(expiries(&receiver)[4..], ["firing"], "whoever has sent it knows better");
}

#[tokio::test]
async fn another_replica_sends_what_a_dead_one_has_claimed() {
    let replicas = Replicas::start().await;
    let other = replicas.another().await;
    // The sender is told to wait for minutes.
    let receiver = refusing(1, StatusCode::SERVICE_UNAVAILABLE).await;
    let sender = watch(&replicas.first, &webhook(&receiver));
    hears(&receiver, 1).await;
    let heir = watch(&other, &webhook(&receiver));
    until("the other to know", || heir.board.alerts().len() == 1).await;
    heir.checks("crm", 5).await;
    assert_eq!((told(&receiver).len(), heir.board.channels()[0].waiting()), (1, 1), "it is the first one's");
    sender.watch.end().await;
    let (key, field, value) = replicas.known().await;
    let claimant = replicas.first.gateway.store().unwrap().replica();
    assert!(value.starts_with(&format!("by {claimant} ")), "{value}");
    let lives: u64 = replicas.redis.cli(&["PTTL", &key]).await.parse().unwrap();
    assert!((30_000..=40_000).contains(&lives), "a claim that nobody renews vanishes by itself: {lives}");
    // Its time is over.
    replicas.redis.cli(&["HSET", &key, &field, &format!("by {claimant} 1")]).await;
    hears(&receiver, 2).await;
    settled(&[&heir], 1).await;
    assert_eq!((told(&receiver).len(), sent(&heir)), (2, 1));
}

#[tokio::test]
async fn a_restart_without_a_directory_sends_nothing_again_unless_redis_holds_nonsense() {
    let replicas = Replicas::start().await;
    let receiver = Peer::plain().await;
    let watched = watch(&replicas.first, &webhook(&receiver));
    settled(&[&watched], 1).await;
    watched.watch.end().await;
    let (key, field, value) = replicas.known().await;
    let lives: u64 = replicas.redis.cli(&["TTL", &key]).await.parse().unwrap();
    assert!(lives > 399 * 24 * 60 * 60, "{lives}");

    let cases: [(&[&str], usize); 4] = [
        (&["HSET", &key, &field, &value], 1),
        (&["HSET", &key, &field, "by \u{1b}[2J nonsense"], 2),
        (&["HSET", &key, &field, "by somebody 99999999999999999"], 3),
        (&["SET", &key, "nonsense"], 4),
    ];
    for (command, count) in cases {
        replicas.redis.cli(command).await;
        let restarted = replicas.another().await;
        let watched = watch(&restarted, &webhook(&receiver));
        settled(&[&watched], 1).await;
        watched.checks("crm", 2).await;
        assert_eq!(told(&receiver).len(), count, "{command:?}");
        watched.watch.end().await;
    }
}

#[tokio::test]
async fn without_redis_every_replica_sends_once() {
    let mut replicas = Replicas::start().await;
    let other = replicas.another().await;
    replicas.redis.kill().await;
    for nexus in [&replicas.first, &other] {
        until("the loss of the connection", || nexus.gateway.is_store_connected() == Some(false)).await;
    }
    let receiver = Peer::plain().await;
    let both = [watch(&replicas.first, &webhook(&receiver)), watch(&other, &webhook(&receiver))];
    let both = [&both[0], &both[1]];
    settled(&both, 1).await;
    assert_eq!((told(&receiver).len(), sent(both[0]), sent(both[1])), (2, 1, 1));
    for watched in both {
        watched.checks("crm", 3).await;
    }
    assert_eq!(told(&receiver).len(), 2);
}

#[tokio::test]
async fn a_gateway_that_is_shut_down_leaves_what_waits_to_the_others() {
    let replicas = Replicas::start().await;
    let other = replicas.another().await;
    let receiver = refusing(1, StatusCode::SERVICE_UNAVAILABLE).await;
    let _sender = watch(&replicas.first, &webhook(&receiver));
    hears(&receiver, 1).await;
    let waiting = watch(&other, &webhook(&receiver));
    until("the other to know", || waiting.board.channels()[0].waiting() == 1).await;
    other.gateway.shut_down().await;
    // That takes longer than it looks away.
    waiting.checks("crm", 100).await;
    assert_eq!((told(&receiver).len(), sent(&waiting)), (1, 0));
    assert!(waiting.board.channels()[0].waiting() >= 1);
}

#[tokio::test]
async fn one_replica_tells_of_an_upstream_that_is_down_and_redis_forgets_it_soon() {
    let redis = RedisServer::start().await;
    let ca = Authority::root("Company CA");
    let nowhere = || spec(&redis, &ca).upstream("crm", "url = \"http://127.0.0.1:1/mcp\"");
    let (one, other) = (connected(nowhere()).await, connected(nowhere()).await);
    let receiver = Peer::plain().await;
    let both = [watch(&one, &webhook(&receiver)), watch(&other, &webhook(&receiver))];
    settled(&[&both[0], &both[1]], 1).await;
    assert_eq!((told(&receiver).len(), told(&receiver)[0]["topic"].as_str()), (1, Some("upstream_down")));
    let key = redis.cli(&["KEYS", "nexus:alert:*"]).await;
    let lives: u64 = redis.cli(&["TTL", &key]).await.parse().unwrap();
    assert!((3000..=3600).contains(&lives), "a restart of all may be the last that anybody knows of it: {lives}");
}
