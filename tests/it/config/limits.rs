//! Limits, as the file says them.

use nexus::limits::{OnError, Per, Scope, StorageConfig};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn limits_are_read_with_their_bursts() {
    let config = good(&server(
        "[server.rate_limits]\nglobal = { limit = 1000, interval = \"60s\" }\nper_ip = { limit = 3, interval = 2, burst = 7 }\n\
         [server.rate_limits.per_client]\nlimit = 10\ninterval = \"1h\"",
    ));
    let limits = config.mcp.limits;
    assert!(limits.enabled);
    assert_eq!(limits.storage, StorageConfig::Memory);
    let (global, per_ip, per_client) = (limits.global.unwrap(), limits.per_ip.unwrap(), limits.per_client.unwrap());
    assert_eq!((global.scope, global.quota.period(), global.quota.fill()), (Scope::Global, SECOND * 60 / 1000, SECOND * 60));
    // Two seconds divided by three is no whole number of microseconds.
    assert_eq!((per_ip.scope, per_ip.quota.period()), (Scope::Ip, Duration::from_micros(666_667)));
    assert_eq!(per_ip.quota.fill(), Duration::from_micros(666_667) * 7);
    assert_eq!((per_client.scope, per_client.quota.fill()), (Scope::Client, SECOND * 3600));
}

#[test]
fn an_upstream_has_a_limit_and_its_tools_have_others() {
    let lines = "[mcp.servers.crm.rate_limits]\nlimit = 100\ninterval = \"60s\"\nburst = 5\nper = \"client\"\n\
                 tools = { expensive = { limit = 1, interval = \"60s\" } }";
    let config = good(&https(lines));
    let limits = only_upstream(&config).rate_limits.clone().unwrap();
    assert_eq!(limits.per, Per::Client);
    assert_eq!(limits.server.as_ref().unwrap().quota.fill(), SECOND * 3);
    assert_eq!((limits.tools["expensive"].scope, limits.tools["expensive"].quota.period()), (Scope::Tool, SECOND * 60));

    let config = good(&https("[mcp.servers.crm.rate_limits.tools.expensive]\nlimit = 1\ninterval = \"60s\""));
    let limits = only_upstream(&config).rate_limits.clone().unwrap();
    assert_eq!((limits.server.as_ref(), limits.per), (None, Per::Gateway));
}

#[test]
fn tokens_are_counted_in_memory_or_in_redis() {
    for memory in ["storage = \"memory\"", "storage = { type = \"memory\" }", "enabled = true"] {
        assert_eq!(good(&server(&format!("[server.rate_limits]\n{memory}"))).mcp.limits.storage, StorageConfig::Memory);
    }
    let config = good(&server(
        "[server.rate_limits.storage]\ntype = \"redis\"\nurl = \"redis://localhost:6379/1\"\nkey_prefix = \"gw:\"\non_error = \"deny\"\n\
         response_timeout = \"500ms\"\nconnection_timeout = \"2s\"\npool = { max_size = 2 }",
    ));
    let StorageConfig::Redis { redis, on_error } = config.mcp.limits.storage else { panic!("memory") };
    assert_eq!((redis.key_prefix.as_str(), redis.connections, on_error), ("gw:", 2, OnError::Deny));
    assert_eq!((redis.response_timeout, redis.connection_timeout), (SECOND / 2, SECOND * 2));
    let config =
        good(&server("[server.rate_limits.storage]\ntype = \"redis\"\nurl = \"rediss://localhost\"\ntls = { server_name = \"r\" }"));
    let StorageConfig::Redis { redis, on_error } = config.mcp.limits.storage else { panic!("memory") };
    assert_eq!((redis.tls.unwrap().server_name.as_deref(), on_error), (Some("r"), OnError::Allow));
}

#[test]
fn who_wants_tls_to_redis_gets_it_whatever_the_url_says() {
    let at = |host: &str, enabled: bool| {
        server(&format!(
            "[server.rate_limits.storage]\ntype = \"redis\"\nurl = \"{host}\"\n[server.rate_limits.storage.tls]\nenabled = {enabled}"
        ))
    };
    // Off this machine, too: with TLS there is nothing to warn about but the URL's own word.
    for host in ["redis://localhost", "redis://redis.example.com", "rediss://localhost"] {
        let StorageConfig::Redis { redis, .. } = load(&at(host, true)).config.unwrap().mcp.limits.storage else { panic!("memory") };
        assert!(redis.url.uses_tls() && redis.tls.is_some(), "{host}");
    }
    let StorageConfig::Redis { redis, .. } = good(&at("redis://localhost", false)).mcp.limits.storage else { panic!("memory") };
    assert!(!redis.url.uses_tls() && redis.tls.is_none());
    let said = "server.rate_limits.storage.tls.enabled";
    warned(&at("redis://localhost", true), &[said, "enabled = true, and the URL says otherwise"], false);
    refused(&at("rediss://localhost", false), &[said, "enabled = false, and the URL says otherwise"]);
}

#[test]
fn a_limit_that_means_nothing_is_refused() {
    let limit = |keys: &str| server(&format!("[server.rate_limits.global]\n{keys}"));
    for (text, parts) in [
        (limit("limit = 0\ninterval = \"1s\""), ["server.rate_limits.global.limit", "out of range"]),
        (limit("limit = -1\ninterval = \"1s\""), ["server.rate_limits.global.limit", "out of range"]),
        (limit("limit = 1\ninterval = \"0s\""), ["server.rate_limits.global.interval", "out of range"]),
        (limit("limit = 1\ninterval = \"1s\"\nburst = 0"), ["server.rate_limits.global.burst", "out of range"]),
        (limit("limit = 1"), ["server.rate_limits.global", "a limit without interval"]),
        (limit("interval = \"1s\""), ["server.rate_limits.global", "a limit without limit"]),
        (limit("limit = 1\ninterval = \"30d\"\nburst = 13"), ["server.rate_limits.global.burst", "too large for its rate"]),
        (limit("limit = 1\ninterval = \"1s\"\nper = \"client\""), ["server.rate_limits.global.per", "unknown key"]),
        (server("[server.rate_limits]\nglobl = { limit = 1, interval = 1 }"), ["unknown table", "`global`"]),
        (server("[server.rate_limits]\nstorage = \"redis\""), ["server.rate_limits.storage", "without a url"]),
        (server("[server.rate_limits]\nstorage = \"disk\""), ["server.rate_limits.storage", "unknown value"]),
        (server("[server.rate_limits.storage]\ntype = \"redis\""), ["server.rate_limits.storage", "without a url"]),
        (server("[server.rate_limits.storage]\nurl = \"redis://localhost\""), ["server.rate_limits.storage", "without a type"]),
        (
            server("[server.rate_limits.storage]\ntype = \"memory\"\nurl = \"redis://localhost\""),
            ["server.rate_limits.storage.url", "url with type = \"memory\""],
        ),
        (
            server("[server.rate_limits.storage]\ntype = \"redis\"\nurl = \"redis://localhost\"\non_error = \"retry\""),
            ["server.rate_limits.storage.on_error", "unknown value"],
        ),
        (https("[mcp.servers.crm.rate_limits]"), ["mcp.servers.crm.rate_limits", "a limit without limit"]),
        (https("[mcp.servers.crm.rate_limits]\nper = \"tool\"\nlimit = 1\ninterval = 1"), ["rate_limits.per", "unknown value"]),
        (
            https("[mcp.servers.crm.rate_limits.tools.a]\nlimit = 0\ninterval = 1"),
            ["mcp.servers.crm.rate_limits.tools.a.limit", "out of range"],
        ),
    ] {
        refused(&text, &parts);
    }
}

#[test]
fn a_limit_that_microseconds_cannot_say_is_warned_about() {
    let text = server("[server.rate_limits.global]\nlimit = 30000\ninterval = \"1s\"");
    warned(&text, &["server.rate_limits.global.limit", "this comes to 29411 within the interval"], false);
}
