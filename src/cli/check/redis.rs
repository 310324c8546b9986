//! The Redis servers that the file names: their TLS files, and with `--connect` whether replicas could share them.

use std::{
    io::{self, Write},
    sync::Arc,
};

use futures_util::future::join_all;
use serde::Serialize;

use super::{
    super::{World, tls::text},
    Files,
};
use crate::{
    clock::Clock,
    config::Config,
    limits::StorageConfig,
    problem::Problem,
    reason::Explanation,
    redis::{Redis, RedisConfig, Surroundings},
    session::StoreConfig,
    sources::Watcher,
};

/// What came of connecting to one.
pub(super) struct Tried {
    table: &'static str,
    shown: String,
    why_not: Option<Explanation>,
}

/// One in the JSON report.
#[derive(Serialize)]
pub(super) struct View<'a> {
    table: &'static str,
    state: &'static str,
    reason: Option<&'static str>,
    detail: Option<&'a str>,
    remedy: Option<&'a str>,
}

impl Tried {
    pub(super) fn is_good(&self) -> bool {
        self.why_not.is_none()
    }

    pub(super) fn view(&self) -> View<'_> {
        let why = self.why_not.as_ref();
        View {
            table: self.table,
            state: self.word(),
            reason: why.map(|why| why.reason.code()),
            detail: why.map(|why| why.detail.as_str()),
            remedy: why.map(|why| why.remedy.as_str()),
        }
    }

    fn word(&self) -> &'static str {
        if self.is_good() { "up" } else { "down" }
    }
}

/// Each with its table and what does not work without it.
fn all(config: &Config) -> impl Iterator<Item = (&'static str, &'static str, &RedisConfig)> {
    let sessions = match &config.state.store {
        StoreConfig::Redis(redis) => Some(("state", "sessions are not shared until it is repaired", &**redis)),
        StoreConfig::Memory => None,
    };
    let limits = match &config.server.rate_limits.storage {
        StorageConfig::Redis { redis, .. } => Some(("server.rate_limits.storage", "limits are not checked until it is repaired", &**redis)),
        StorageConfig::Memory => None,
    };
    sessions.into_iter().chain(limits)
}

/// What is wrong with their TLS files. `files`: those of a table; `None` where the table is refused already.
pub(super) fn problems<'a>(config: &Config, clock: &dyn Clock, files: impl Fn(&str, &'static str) -> Option<Files<'a>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (table, without, redis) in all(config) {
        if let (Some(settings), Some(files)) = (&redis.tls, files(table, without)) {
            files.tls(settings, redis.url.host(), clock, &mut problems);
        }
    }
    problems
}

/// Connects to each, once.
pub(super) async fn try_all(world: &World, config: &Config) -> Vec<Tried> {
    let around = Surroundings { clock: Arc::clone(&world.clock), sources: Arc::clone(&world.sources), watcher: Watcher::default() };
    let tried = all(config).map(|(table, _, redis)| {
        let trying = Redis::try_out(redis.clone(), around.clone());
        async move { Tried { table, shown: redis.url.to_string(), why_not: trying.await.err() } }
    });
    join_all(tried).await
}

pub(super) fn print(out: &mut dyn Write, tried: &[Tried], paint: text::Paint) -> io::Result<()> {
    for redis in tried {
        writeln!(out, "\n{}: {}, {}", paint.title(redis.table), redis.word(), redis.shown)?;
        if let Some(why) = &redis.why_not {
            writeln!(out, "  {why}\n    fix: {}", why.remedy)?;
        }
    }
    Ok(())
}
