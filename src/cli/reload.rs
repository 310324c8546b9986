//! The configuration file as a running gateway reads it again.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::World;
use crate::{
    audit::{AuditConfig, Kind, Outcome, Record, RequestId, Sink, Target, Trail, Who},
    config::{self, Config, Overrides, Reading},
    downstream::{LiveServer, Prepared, Renewal},
    gateway::{self, Changes, Configuration, Rejected, Reloader, Reread},
    health::CertificatesConfig,
    problem::{At, Problem, Severity},
    sources::{Fingerprint, Noted, Sources},
    tls::ServerTlsSettings,
};

/// Tables and keys that take effect without a restart.
const LIVE: [&str; 20] = [
    "mcp",
    CERTIFICATES,
    TELEMETRY,
    "server.public_url",
    "server.max_connections",
    "server.request_timeout",
    "server.health",
    "server.allowed_hosts",
    "server.allowed_origins",
    "server.max_body_size",
    "server.shutdown_grace",
    "server.insecure",
    "server.allow_anonymous",
    "server.client_ip",
    "server.rate_limits",
    "server.oauth",
    "server.api_keys",
    "server.client_identification",
    "server.cors",
    "server.csrf",
];
const CERTIFICATES: &str = "certificates";
const TELEMETRY: &str = "telemetry";
const SERVER: &str = "server";
/// The tables of listeners with TLS.
pub(super) const SERVER_TLS: &str = "server.tls";
pub(super) const ADMIN_TLS: &str = "admin.tls";
/// A listener's address, in a live table.
const HEALTH_LISTEN: &str = "server.health.listen";

/// One file, and how it was read last; with the listeners whose TLS it sets up.
#[derive(Debug)]
pub(super) struct FileConfiguration {
    path: PathBuf,
    sources: Arc<dyn Sources>,
    overrides: Overrides,
    listeners: Vec<Arc<Renewal>>,
    accepted: Mutex<Accepted>,
    certificates: watch::Sender<CertificatesConfig>,
    server: LiveServer,
    audit: Arc<Trail>,
    /// Stdout belongs to the protocol.
    is_stdio: bool,
}

#[derive(Debug)]
struct Accepted {
    reading: Reading,
    template_files: Fingerprint,
}

impl FileConfiguration {
    /// `config` was read from `path`, and `listeners` serve with it.
    pub(super) fn new(world: &World, path: PathBuf, config: &Config, listeners: Vec<Arc<Renewal>>, audit: &Arc<Trail>) -> Self {
        let overrides = Overrides { listen_address: world.global.listen_address };
        let template_files = config.reading.template_files().clone();
        let accepted = Mutex::new(Accepted { reading: config.reading.clone(), template_files });
        let certificates = watch::Sender::new(config.certificates.clone());
        let server = config.server.clone().into();
        Self {
            path,
            sources: Arc::clone(&world.sources),
            overrides,
            listeners,
            accepted,
            certificates,
            server,
            audit: Arc::clone(audit),
            is_stdio: false,
        }
    }

    /// The same for a gateway whose client is at stdin and stdout.
    pub(super) fn over_stdio(self) -> Self {
        Self { is_stdio: true, ..self }
    }

    /// `[server]` as it was accepted last.
    pub(super) fn server(&self) -> LiveServer {
        self.server.clone()
    }

    /// `[certificates]` as it was accepted last.
    pub(super) fn certificates(&self) -> watch::Receiver<CertificatesConfig> {
        self.certificates.subscribe()
    }

    /// The files of every listener, read and found good. Their tables are read again with the file; between that, a
    /// listener follows its files by itself, and one that finds bad ones keeps nothing else from being taken.
    fn prepare(&self, what: Reread, config: &Config) -> Result<Vec<Prepared<'_>>, Vec<Problem>> {
        let (mut prepared, mut problems) = (Vec::new(), Vec::new());
        for listener in &self.listeners {
            // Absent: it was refused already, since HTTPS is not turned off without a restart.
            let Some(settings) = settings_of(listener.table(), config) else { continue };
            if what == Reread::Templates && listener.is_set_up_like(settings) {
                continue;
            }
            match listener.prepare(settings) {
                Ok(good) => prepared.push(good),
                Err(problem) => problems.push(*problem),
            }
        }
        if problems.is_empty() { Ok(prepared) } else { Err(problems) }
    }

    /// The audit trail's file where it is to be another, opened and found good.
    fn prepare_audit(&self, config: &Config) -> Result<Option<Option<Sink>>, Vec<Problem>> {
        let wanted = config.telemetry.audit.as_ref();
        if !self.audit.differs_from(wanted) {
            return Ok(None);
        }
        let opened = match wanted {
            Some(AuditConfig { target: Target::Stdout, .. }) if self.is_stdio => Err(Box::new(stdout_is_taken())),
            Some(wanted) => Sink::open(&wanted.target).map(Some),
            None => Ok(None),
        };
        opened.map(Some).map_err(|problem| vec![*problem])
    }

    /// Whether another value of `key` takes effect without a restart. That of a listener with TLS does, before and after.
    fn is_live(&self, key: &str, config: &Config) -> bool {
        // A listener of its own is there from the start or not at all.
        let is_own_listener = key == "server.health.enabled" && config.server.health.listen.is_some();
        (is_live(key) && !is_own_listener)
            || self.listeners.iter().any(|listener| within(listener.table(), key) && settings_of(listener.table(), config).is_some())
    }

    fn needs_restart(&self, key: &str, lines: &BTreeMap<String, u32>) -> Problem {
        Problem {
            severity: Severity::Error,
            key: key.to_owned(),
            at: lines.get(key).map(|line| At { file: self.path.clone(), line: *line }),
            typed: None,
            what: format!("restart needed: {key}"),
            why: "what it sets up is made once, at the start".to_owned(),
            remedy: "restart the gateway, or take the change back".to_owned(),
        }
    }
}

impl Configuration for FileConfiguration {
    fn read(&self, what: Reread) -> Result<gateway::Accepted, Vec<Problem>> {
        // Whatever becomes of the rest: a file that was renamed is being let go of.
        if what == Reread::File
            && let Err(problem) = self.audit.reopen()
        {
            tracing::error!(key = problem.key, fix = problem.remedy, "{}", problem.what);
        }
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
        let fixed = before.differences(&config.reading).filter(|key| !self.is_live(key, &config));
        let fixed: Vec<_> = fixed.map(|key| self.needs_restart(key, &loaded.lines)).collect();
        if !fixed.is_empty() {
            self.accepted.lock().template_files.extend(read);
            return Err(fixed);
        }
        let prepared = match self.prepare(what, &config) {
            Ok(prepared) => prepared,
            Err(problems) => {
                self.accepted.lock().template_files.extend(read);
                return Err(problems);
            }
        };
        let audit = match self.prepare_audit(&config) {
            Ok(audit) => audit,
            Err(problems) => {
                self.accepted.lock().template_files.extend(read);
                return Err(problems);
            }
        };
        // All is good: from here on nothing fails.
        for problem in &loaded.problems {
            tracing::warn!(key = problem.key, why = problem.why, fix = problem.remedy, "{}", problem.what);
        }
        let mut beside: Vec<_> = prepared.into_iter().filter_map(Prepared::serve).collect();
        if before.differences(&config.reading).any(|key| within(CERTIFICATES, key)) {
            self.certificates.send_replace(config.certificates);
            beside.push("took over [certificates]".to_owned());
        }
        if let Some(sink) = audit {
            self.audit.begin_with(config.telemetry.audit.as_ref().zip(sink));
            beside.push("took over [telemetry]".to_owned());
        }
        // The tables of listeners speak for themselves.
        if before.differences(&config.reading).any(|key| within(SERVER, key) && is_live(key)) {
            beside.push("took over [server]".to_owned());
        }
        for listener in self.listeners.iter().filter(|listener| listener.table() == SERVER_TLS) {
            listener.now_called(config.server.public_host());
        }
        self.server.set(config.server);
        *self.accepted.lock() = Accepted { reading: config.reading, template_files: read };
        Ok(gateway::Accepted { mcp: config.mcp, beside })
    }

    fn template_files(&self) -> Fingerprint {
        self.accepted.lock().template_files.clone()
    }
}

/// Reads everything again because of a signal, which the audit trail tells of.
pub(super) async fn at_signal(reloader: &Reloader) -> Result<Changes, Rejected> {
    let began = Instant::now();
    let reloaded = reloader.reload().await;
    let trail = reloader.gateway().audit();
    let outcome = if reloaded.is_ok() { Outcome::Ok } else { Outcome::Error };
    trail.record(&Record {
        who: Some(Who { method: "signal", issuer: None, subject: None, client: None, groups: &[] }),
        action: Some("reload"),
        duration_ms: Some(began.elapsed()),
        ..Record::new(trail.now(), Kind::Admin, RequestId::next(), outcome)
    });
    reloaded
}

/// The audit trail cannot go where `nexus stdio` answers its client.
pub(super) fn stdout_is_taken() -> Problem {
    Problem {
        severity: Severity::Error,
        key: "telemetry.audit.path".to_owned(),
        at: None,
        typed: None,
        what: "the audit trail cannot go to stdout".to_owned(),
        why: "stdout of `nexus stdio` is what the client reads".to_owned(),
        remedy: "name a file".to_owned(),
    }
}

/// What the file says of a listener's TLS.
fn settings_of<'a>(table: &str, config: &'a Config) -> Option<&'a ServerTlsSettings> {
    match table {
        SERVER_TLS => config.server.tls.as_ref(),
        ADMIN_TLS => config.admin.as_ref().and_then(|admin| admin.tls.as_ref()),
        _ => None,
    }
}

fn is_live(key: &str) -> bool {
    key != HEALTH_LISTEN && LIVE.iter().any(|table| within(table, key))
}

fn within(table: &str, key: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_and_stores_need_a_restart_and_upstreams_do_not() {
        for key in [
            "mcp.servers.a.url",
            "mcp.upstream_drain",
            "mcp.bounds.max_line",
            "certificates.alerts",
            "certificates.probe_interval",
            "mcp.path",
            "mcp.enabled",
            "server.allowed_hosts",
            "server.public_url",
            "server.max_connections",
            "server.health.path",
        ] {
            assert!(is_live(key), "{key}");
        }
        for key in ["server.listen_address", "server.health.listen", "admin.token", "state.directory", "mcpx"] {
            assert!(!is_live(key), "{key}");
        }
    }
}
