//! The configuration file as a running gateway reads it again.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

use super::World;
use crate::{
    config::{self, Config, Overrides, Reading},
    gateway::{Configuration, McpConfig, Reread},
    problem::{At, Problem, Severity},
    sources::{Fingerprint, Noted, Sources},
};

/// Tables and keys that take effect without a restart.
const LIVE: [&str; 2] = ["mcp", "certificates.probe_before_swap"];
/// Keys in them that do not.
const FIXED: [&str; 2] = ["mcp.path", "mcp.enabled"];

/// One file, and how it was read last.
#[derive(Debug)]
pub(super) struct FileConfiguration {
    path: PathBuf,
    sources: Arc<dyn Sources>,
    overrides: Overrides,
    accepted: Mutex<Accepted>,
}

#[derive(Debug)]
struct Accepted {
    reading: Reading,
    template_files: Fingerprint,
}

impl FileConfiguration {
    /// `config` was read from `path`.
    pub(super) fn new(world: &World, path: PathBuf, config: &Config) -> Self {
        let overrides = Overrides { listen_address: world.global.listen_address };
        let template_files = config.reading.template_files().clone();
        let accepted = Mutex::new(Accepted { reading: config.reading.clone(), template_files });
        Self { path, sources: Arc::clone(&world.sources), overrides, accepted }
    }

    fn needs_restart(&self, key: &str, lines: &BTreeMap<String, u32>) -> Problem {
        Problem {
            severity: Severity::Error,
            key: key.to_owned(),
            at: lines.get(key).map(|line| At { file: self.path.clone(), line: *line }),
            typed: None,
            what: format!("restart needed: {key}"),
            why: "listeners, stores and channels are made once, at the start".to_owned(),
            remedy: "restart the gateway, or take the change back".to_owned(),
        }
    }
}

impl Configuration for FileConfiguration {
    fn read(&self, what: Reread) -> Result<McpConfig, Vec<Problem>> {
        let noted = Noted::new(&*self.sources);
        let before = self.accepted.lock().reading.clone();
        let loaded = match what {
            Reread::File => config::load_with(&self.path, &noted, &self.overrides),
            Reread::Templates => config::load_again(&before, &self.path, &noted, &self.overrides),
        };
        let read = noted.fingerprint().without(&self.path);
        let Some(config) = loaded.config else {
            self.accepted.lock().template_files.extend(read);
            return Err(loaded.problems.into_iter().filter(|problem| problem.severity == Severity::Error).collect());
        };
        let fixed = before.differences(&config.reading).filter(|key| !is_live(key));
        let fixed: Vec<_> = fixed.map(|key| self.needs_restart(key, &loaded.lines)).collect();
        if !fixed.is_empty() {
            self.accepted.lock().template_files.extend(read);
            return Err(fixed);
        }
        for problem in &loaded.problems {
            tracing::warn!(key = problem.key, why = problem.why, fix = problem.remedy, "{}", problem.what);
        }
        *self.accepted.lock() = Accepted { reading: config.reading, template_files: read };
        Ok(config.mcp)
    }

    fn template_files(&self) -> Fingerprint {
        self.accepted.lock().template_files.clone()
    }
}

fn is_live(key: &str) -> bool {
    let within = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    LIVE.iter().any(|table| within(table)) && !FIXED.iter().any(|fixed| within(fixed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_and_stores_need_a_restart_and_upstreams_do_not() {
        for key in ["mcp.servers.a.url", "mcp.upstream_drain", "mcp.bounds.max_line", "certificates.probe_before_swap"] {
            assert!(is_live(key), "{key}");
        }
        for key in ["server.listen_address", "admin.token", "state.directory", "mcp.path", "mcp.enabled", "mcpx", "certificates.alerts"] {
            assert!(!is_live(key), "{key}");
        }
    }
}
