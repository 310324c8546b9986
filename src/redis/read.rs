//! The keys of a Redis: from a table to [`RedisConfig`].

use std::time::Duration;

use super::{RedisConfig, RedisUrl};
use crate::{
    problem::Problems,
    table::{Keys, Table, built},
    tls::{
        TlsSettings,
        read::{self as tls_read, Leg},
    },
};

pub const POOL_KEYS: Keys = Keys {
    table: "server.rate_limits.storage.pool",
    doc: "The connections to Redis.",
    keys: &[
        built("max_size", "How many there are; all commands share them."),
        built("min_idle", "Accepted and without effect: connections stay open."),
        built("timeout_create", "Accepted and without effect: see `connection_timeout`."),
        built("timeout_wait", "Accepted and without effect: no command waits for a connection."),
        built("timeout_recycle", "Accepted and without effect: connections stay open."),
    ],
};

/// What a pool of connections that are lent has, and this one does not.
const WITHOUT_EFFECT: &[&str] = &["min_idle", "timeout_create", "timeout_wait", "timeout_recycle"];

/// They are shared by all commands, so that a few carry everything.
const CONNECTIONS: usize = 4;

/// Reads a Redis whose URL is under `url_key`; everything else is in the same table. `prefix`: the default of `key_prefix`.
/// `None` when the URL is refused or missing, which the caller then says.
pub fn read(table: &mut Table, url_key: &str, prefix: &str, problems: &mut Problems) -> Option<RedisConfig> {
    let spans = Duration::from_millis(1)..=Duration::from_secs(60);
    let key_prefix = table.string("key_prefix", problems).unwrap_or_else(|| prefix.to_owned());
    if key_prefix.len() > 256 || key_prefix.contains(['{', '}']) {
        let why = "the gateway puts `{` and `}` around what must stay together in a cluster, and keys are sent with every command";
        table.error("key_prefix", problems, "this prefix cannot be used", why, "write at most 256 bytes, without braces");
    }
    let response_timeout = table.duration("response_timeout", &spans, problems).unwrap_or(Duration::from_secs(1));
    let connection_timeout = table.duration("connection_timeout", &spans, problems).unwrap_or(Duration::from_secs(5));
    let connections = table.table("pool", problems).map_or(CONNECTIONS, |pool| self::pool(pool, problems));
    let mut url = url(table, url_key, problems);
    let tls = table.table("tls", problems).map(|tls| self::tls(tls, url.as_mut(), problems));
    let url = url?;
    if !url.uses_tls() && !url.is_loopback() {
        let why = "everyone on the way can read and change what replicas share, and the password";
        table.insecure(
            url_key,
            problems,
            "an unencrypted connection to Redis off this machine",
            why,
            "use rediss://, and TLS in the server",
        );
    }
    let tls = url.uses_tls().then(|| tls.unwrap_or_default());
    if url.has_password() && tls.as_ref().is_some_and(TlsSettings::is_unverified) {
        let why = "the server's certificate or name is not verified, so whoever stands in for the server gets the password";
        table.insecure(
            url_key,
            problems,
            "a password is sent over an unverified connection",
            why,
            "verify the server: set tls.root_ca_cert_path",
        );
    }
    Some(RedisConfig { url, key_prefix, response_timeout, connection_timeout, connections, tls })
}

fn pool(mut pool: Table, problems: &mut Problems) -> usize {
    let pool = &mut pool;
    let size = pool.integer("max_size", 1..=64, problems);
    pool.tolerate(WITHOUT_EFFECT);
    for key in WITHOUT_EFFECT.iter().filter(|key| pool.has(key)) {
        pool.warn(
            key,
            problems,
            format!("{key} changes nothing"),
            "the connections are opened at the start and shared by all commands, so that none is made, awaited or recycled",
            &format!("remove {key}; connection_timeout and response_timeout are the bounds"),
        );
    }
    pool.finish(&POOL_KEYS, problems);
    size.unwrap_or(CONNECTIONS)
}

fn url(table: &mut Table, key: &str, problems: &mut Problems) -> Option<RedisUrl> {
    let text = table.secret_if(key, |text| RedisUrl::parse(text).is_ok_and(|url| url.has_password()), problems)?;
    match RedisUrl::parse(text.expose()) {
        Ok(url) => Some(url),
        Err(why) => {
            let write = "write it as \"redis://HOST:6379\", \"rediss://USER:PASSWORD@HOST:6379/0\", \"redis-cluster://…\" or \"redis-sentinel://HOST:26379?sentinelServiceName=NAME\"";
            table.error(key, problems, "this is no URL of a Redis", why, write);
            None
        }
    }
}

/// The keys of every TLS table, and the names that `[server.rate_limits.storage.tls]` had before: `enabled`, `insecure` and
/// `ca_cert_path`.
fn tls(mut table: Table, mut url: Option<&mut RedisUrl>, problems: &mut Problems) -> TlsSettings {
    let enabled = table.bool("enabled", problems);
    match (enabled, &mut url) {
        (Some(true), Some(url)) if !url.uses_tls() => {
            let why = "rediss:// is TLS, redis:// is not; whoever wrote enabled = true wants TLS, so it is spoken";
            table.warn("enabled", problems, "enabled = true, and the URL says otherwise", why, "write rediss:// in the URL");
            url.tls = true;
        }
        (Some(false), Some(url)) if url.uses_tls() => {
            let why = "rediss:// is TLS, and which of the two was meant is not certain";
            let remedy = "write redis:// in the URL, or remove the table";
            table.error("enabled", problems, "enabled = false, and the URL says otherwise", why, remedy);
        }
        _ => {}
    }
    table.remove("enabled");
    if let Some(insecure) = table.bool("insecure", problems) {
        replaced(&mut table, "insecure", "verify_certs", problems);
        table.set_bool("insecure", "verify_certs", !insecure);
    }
    if table.has("ca_cert_path") {
        replaced(&mut table, "ca_cert_path", "root_ca_cert_path", problems);
    }
    table.takes_as("ca_cert_path", "root_ca_cert_path");
    let leg = if url.is_some_and(|url| !url.uses_tls()) { Leg::Plain("a redis:// URL") } else { Leg::Tls };
    tls_read::read(table, leg, problems)
}

/// Says what an older name means, and refuses it beside the newer one.
fn replaced(table: &mut Table, older: &str, newer: &str, problems: &mut Problems) {
    if table.has(newer) {
        let why = "both say the same, and which of them was meant is not certain";
        table.error(older, problems, format!("{older} together with {newer}"), why, &format!("remove {older}"));
        table.remove(newer);
    }
}
