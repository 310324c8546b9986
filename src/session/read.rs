//! `[state]`: from the file to [`StateConfig`].

use std::path::PathBuf;

use super::{StateConfig, StoreConfig};
use crate::{
    problem::Problems,
    redis,
    secret::MIN_KEY,
    table::{Keys, Table, built},
};

pub const KEYS: Keys = Keys {
    table: "state",
    doc: "What survives a restart, and where; and what replicas share.",
    keys: &[
        built("store", "`\"memory\"` keeps sessions in the process, `\"redis\"` where any replica serves them."),
        built("redis_url", "The Redis or Valkey; `rediss://` is TLS."),
        built("key_prefix", "What every key in it begins with."),
        built("response_timeout", "From a command to its answer."),
        built("connection_timeout", "Look-up, TCP, TLS and greeting together."),
        built("pool", "The connections."),
        built("tls", "How its certificate is verified, and the client certificate it gets."),
        built("directory", "A folder of the gateway's own: which alerts were sent survives a restart."),
        built("secrets", "What seals the state that clients hold, and sessions in Redis: the first seals, all open."),
    ],
};

/// These mean nothing without a Redis.
const REDIS_ONLY: [&str; 6] = ["redis_url", "key_prefix", "response_timeout", "connection_timeout", "pool", "tls"];

/// Reads the table; absent, sessions live in the process and nothing survives.
pub fn read(table: Option<Table>, problems: &mut Problems) -> StateConfig {
    let Some(mut table) = table else { return StateConfig::default() };
    let table = &mut table;
    let is_redis = table.choice("store", &[("memory", false), ("redis", true)], &[], problems);
    // An empty text is the default, written out.
    let directory = table.string("directory", problems).filter(|text| !text.is_empty());
    if directory.as_ref().is_some_and(|text| text.contains('\0')) {
        table.error("directory", problems, "the path holds a NUL character", "no folder has such a name", "correct the path");
    }
    let directory = directory.map(|text| PathBuf::from(table.in_folder(&text)));
    let listed = table.secrets("secrets", problems);
    let is_without = !table.has("secrets") || listed.as_ref().is_some_and(Vec::is_empty);
    let secrets = listed.unwrap_or_default();
    if secrets.iter().any(|secret| secret.expose().len() < MIN_KEY) {
        let why = "a short secret can be guessed, and whoever knows it can forge what it seals";
        table.error("secrets", problems, "a secret is shorter than 32 bytes", why, "make each with `openssl rand -base64 48`");
    }
    let store = match is_redis {
        Some(true) => redis(table, is_without, problems),
        Some(false) | None => {
            // A word that is no store was refused already.
            if is_redis == Some(false) || !table.has("store") {
                refuse_without_redis(table, problems);
            }
            table.ignore(&REDIS_ONLY);
            StoreConfig::Memory
        }
    };
    table.finish(&KEYS, problems);
    StateConfig { store, directory, secrets }
}

fn redis(table: &mut Table, is_without_secrets: bool, problems: &mut Problems) -> StoreConfig {
    let config = redis::read::read(table, "redis_url", "nexus:", problems);
    if !table.has("redis_url") {
        let remedy = "add redis_url = \"redis://127.0.0.1:6379\"";
        table.error("store", problems, "a Redis without a redis_url", "the gateway cannot know where it is", remedy);
    }
    if is_without_secrets {
        let why = "sessions are sealed before they leave the process, and every replica must be able to open them";
        let remedy = "add secrets = [\"{{ file(\\\"/run/secrets/nexus-state\\\") }}\"] with what `openssl rand -base64 48` gives, the same in every replica";
        table.error("store", problems, "a Redis without secrets", why, remedy);
    }
    config.map_or(StoreConfig::Memory, |config| StoreConfig::Redis(Box::new(config)))
}

fn refuse_without_redis(table: &mut Table, problems: &mut Problems) {
    for key in REDIS_ONLY {
        if table.has(key) {
            table.hide(key);
            let what = format!("{key} without store = \"redis\"");
            table.error(key, problems, what, "it would be ignored", &format!("write store = \"redis\", or remove {key}"));
        }
    }
}
