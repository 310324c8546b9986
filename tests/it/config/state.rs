//! `[state]`: where sessions live.

use nexus::session::StoreConfig;

use super::*;

const SECRETS: &str = "secrets = [\"0123456789abcdef0123456789abcdef\"]";

fn state(lines: &str) -> String {
    https("").replacen("[mcp", &format!("[state]\n{lines}\n[mcp"), 1)
}

#[test]
fn sessions_live_in_the_process_or_in_redis() {
    for memory in ["", "store = \"memory\"", SECRETS] {
        assert_eq!(good(&state(memory)).mcp.store, StoreConfig::Memory, "{memory}");
    }
    let config = good(&state(&format!("store = \"redis\"\nredis_url = \"redis://localhost\"\n{SECRETS}")));
    let StoreConfig::Redis(redis) = &config.mcp.store else { panic!("memory") };
    assert_eq!((redis.url.to_string().as_str(), redis.key_prefix.as_str()), ("Redis at localhost:6379", "nexus:"));
    assert_eq!(config.mcp.state_secrets.len(), 1);
    let lines = "store = \"redis\"\nredis_url = \"rediss-sentinel://a.test?sentinelServiceName=main\"\nkey_prefix = \"gw:\"\nresponse_timeout = \"200ms\"\n\
                 connection_timeout = \"3s\"\npool = { max_size = 2 }\ntls = { server_name = \"redis.test\" }";
    let StoreConfig::Redis(redis) = good(&state(&format!("{lines}\n{SECRETS}"))).mcp.store else { panic!("memory") };
    assert_eq!((redis.key_prefix.as_str(), redis.connections, redis.response_timeout), ("gw:", 2, Duration::from_millis(200)));
    assert_eq!((redis.connection_timeout, redis.tls.unwrap().server_name.as_deref()), (Duration::from_secs(3), Some("redis.test")));
}

#[test]
fn what_replicas_could_not_share_is_refused() {
    refused(&state(&format!("store = \"redis\"\n{SECRETS}")), &["state.store", "a Redis without a redis_url", "add redis_url"]);
    let url = "store = \"redis\"\nredis_url = \"redis://localhost\"";
    refused(&state(url), &["state.store", "a Redis without secrets", "the same in every replica"]);
    refused(&state(&format!("{url}\nsecrets = []")), &["a Redis without secrets"]);
    refused(
        &state(&format!("store = \"redis\"\nredis_url = \"http://localhost\"\n{SECRETS}")),
        &["state.redis_url", "this is no URL of a Redis"],
    );
    refused(&state(&format!("{url}\nkey_prefix = \"{{x}}\"\n{SECRETS}")), &["state.key_prefix"]);
    refused(&state(&format!("{url}\ntls = {{ server_name = \"r\" }}\n{SECRETS}")), &["state.tls"]);
    refused(&state("store = \"elsewhere\""), &["unknown value", "\"memory\"", "\"redis\""]);
    for key in ["redis_url = \"redis://localhost\"", "key_prefix = \"x\"", "pool = { max_size = 1 }"] {
        refused(&state(key), &["without store = \"redis\"", "it would be ignored"]);
        refused(&state(&format!("store = \"memory\"\n{key}")), &["without store = \"redis\""]);
    }
}

#[test]
fn an_unencrypted_way_to_another_machine_is_warned_about() {
    let lines = format!("store = \"redis\"\nredis_url = \"redis://redis.corp.example.com\"\n{SECRETS}");
    warned(&state(&lines), &["state.redis_url", "an unencrypted connection to Redis off this machine"], true);
}
