//! `nexus check`: all problems of the file, and of the files that it names.

mod connect;
mod grafbase;
mod redis;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::Serialize;

use super::USAGE;
use crate::{
    admin::AdminConfig,
    audit::{AuditConfig, Sink},
    clock::Clock,
    config::{self, Loaded, NotFound},
    downstream::{ListenerTls, ServerConfig},
    outbound,
    problem::{At, Problem, Severity},
    reason::Explanation,
    sources::Sources,
    tls::TlsSettings,
    upstream::{EndpointConfig, HttpConfig, StdioConfig, check_signing_key},
};

/// What is checked, and how it is told.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CheckArgs {
    /// Also shake hands with every upstream and fetch its lists, and connect to Redis
    #[arg(long, conflicts_with = "offline")]
    pub connect: bool,
    /// The file's structure only: no variables, secrets or certificates are needed
    #[arg(long)]
    pub offline: bool,
    /// Also tell what behaves differently from Grafbase's Nexus with this very file
    #[arg(long, conflicts_with = "connect")]
    pub from_grafbase: bool,
    /// How the problems are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Checks the file and writes what was found. `file` is what `--config` names.
///
/// Gives the exit code: 0 without errors, whatever the warnings; 64 with any error.
///
/// # Errors
/// When `out` cannot be written to.
pub fn run(args: &CheckArgs, file: Option<PathBuf>, sources: &dyn Sources, clock: &dyn Clock, out: &mut dyn Write) -> io::Result<u8> {
    let (path, problems) = problems(args, file, sources, clock);
    let differences = path.as_deref().filter(|_| args.from_grafbase).map(|path| {
        let loaded = if args.offline { config::load_structure(path, sources) } else { config::load(path, sources) };
        grafbase::differences(&loaded)
    });
    match args.format {
        Format::Text => {
            write_text(path.as_deref(), &problems, out)?;
            if let (Some(path), Some(differences)) = (&path, &differences) {
                grafbase::write(path, differences, out)?;
            }
        }
        Format::Json => write_json(path.as_deref(), &problems, Further { differences, ..Further::default() }, out)?,
    }
    Ok(code(&problems))
}

fn problems(args: &CheckArgs, file: Option<PathBuf>, sources: &dyn Sources, clock: &dyn Clock) -> (Option<PathBuf>, Vec<Problem>) {
    match config::find(file, sources) {
        Ok(path) => {
            let problems = if args.offline { config::check_structure(&path, sources) } else { check(&path, sources, clock) };
            (Some(path), problems)
        }
        Err(not_found) => (None, vec![nowhere(&not_found)]),
    }
}

fn code(problems: &[Problem]) -> u8 {
    if problems.iter().any(|problem| problem.severity == Severity::Error) { USAGE } else { 0 }
}

pub(super) use connect::run as run_connected;

/// All problems of the file at `path` and of the files it names, in the file's order.
fn check(path: &Path, sources: &dyn Sources, clock: &dyn Clock) -> Vec<Problem> {
    let mut loaded = config::load(path, sources);
    let mut problems = std::mem::take(&mut loaded.problems);
    let refused: Vec<String> = problems.iter().filter(|p| p.severity == Severity::Error).map(|p| p.key.clone()).collect();
    if let Some(config) = loaded.config.as_ref().or(loaded.draft.as_ref()) {
        if !refused.iter().any(|key| key == "server" || key.starts_with("server.")) {
            problems.extend(listener(&config.server, sources, clock));
        }
        if let Some(admin) = config.admin.as_ref().filter(|_| !refused.iter().any(|key| key.starts_with("admin"))) {
            problems.extend(admin_listener(admin, sources, clock));
        }
        problems.extend(config.telemetry.audit.as_ref().and_then(|audit| unwritable(audit, path, &loaded)));
        if let Some(oauth) = config.server.auth.oauth.as_deref().filter(|oauth| oauth.url.scheme() == "https") {
            let without = "no token can be verified until it is repaired";
            let files = Files { table: "server.oauth".to_owned(), without, path, loaded: &loaded, sources };
            if !refused.iter().any(|key| files.is_own(key)) {
                files.tls(&oauth.tls, oauth.url.host_str().unwrap_or_default(), clock, &mut problems);
            }
        }
        let files = |table: &str, without| {
            let files = Files { table: table.to_owned(), without, path, loaded: &loaded, sources };
            (!refused.iter().any(|key| files.is_own(key))).then_some(files)
        };
        problems.extend(redis::problems(config, clock, files));
        for upstream in &config.mcp.upstreams {
            let table = crate::table::join("mcp.servers", upstream.name.as_str());
            let files =
                Files { table, without: "this upstream is down until it is repaired; the others serve", path, loaded: &loaded, sources };
            if refused.iter().any(|key| files.is_own(key)) {
                // Its settings are not what they are meant to be, so its files would give misleading problems.
                continue;
            }
            match &upstream.endpoint {
                EndpointConfig::Http(http) => {
                    if let (Some(tls), Some(host)) = (&http.tls, http.url.host_str()) {
                        files.tls(tls, host, clock, &mut problems);
                    }
                    files.signing_key(http, clock, &mut problems);
                }
                EndpointConfig::Stdio(stdio) => files.process(stdio, &mut problems),
            }
        }
        for (index, channel) in config.certificates.alerts.iter().enumerate() {
            let table = format!("certificates.alerts[{index}]");
            let files = Files { table, without: "nothing is sent here until it is repaired", path, loaded: &loaded, sources };
            let is_refused = refused.iter().any(|key| key == "certificates.alerts" || files.is_own(key));
            if let Some(host) = channel.tls_host().filter(|_| !is_refused) {
                files.tls(&channel.tls, host, clock, &mut problems);
            }
        }
    }
    problems.sort_by_key(|problem| problem.at.as_ref().map_or(0, |at| at.line));
    problems
}

/// What is wrong with the listener's own files: with any of them, nothing is started.
fn listener(server: &ServerConfig, sources: &dyn Sources, clock: &dyn Clock) -> Vec<Problem> {
    let Some(settings) = &server.tls else { return Vec::new() };
    match ListenerTls::load(settings, server.public_host(), server.is_exposed(), sources, clock.now()) {
        Ok(tls) => tls.warnings(),
        Err(problem) => vec![*problem],
    }
}

fn admin_listener(admin: &AdminConfig, sources: &dyn Sources, clock: &dyn Clock) -> Vec<Problem> {
    let Some(settings) = &admin.tls else { return Vec::new() };
    match ListenerTls::load(settings, None, admin.is_exposed(), sources, clock.now()) {
        Ok(tls) => tls.warnings(),
        Err(problem) => vec![*problem],
    }
}

/// Why the audit trail cannot be written; its file is not made.
fn unwritable(audit: &AuditConfig, path: &Path, loaded: &Loaded) -> Option<Problem> {
    let problem = Sink::look(&audit.target).err()?;
    let line = loaded.lines.get(&problem.key).copied().unwrap_or_default();
    Some(Problem { at: Some(At { file: path.to_owned(), line }), ..*problem })
}

/// The files of one upstream, or of one channel for alerts.
struct Files<'a> {
    /// Its whole path, such as `mcp.servers.crm`.
    table: String,
    /// What holds while its files cannot be used.
    without: &'static str,
    path: &'a Path,
    loaded: &'a Loaded,
    sources: &'a dyn Sources,
}

impl Files<'_> {
    fn tls(&self, settings: &TlsSettings, host: &str, clock: &dyn Clock, problems: &mut Vec<Problem>) {
        match settings.load(host, self.sources, &outbound::system_cas, clock.now()) {
            Ok(policy) => {
                for warning in policy.warnings().iter().filter(|warning| !said_by_the_file(warning)) {
                    let (what, remedy) = warning.rsplit_once("; ").unwrap_or((warning, "look at the file"));
                    problems.push(self.problem(Severity::Warning, &self.tls_key(warning), what, "it is used all the same", remedy));
                }
            }
            Err(Explanation { detail, remedy, reason }) => {
                let why = format!("{} ({reason})", self.without);
                problems.push(self.problem(Severity::Error, &self.tls_key(&detail), &detail, &why, &remedy));
            }
        }
    }

    fn signing_key(&self, http: &HttpConfig, clock: &dyn Clock, problems: &mut Vec<Problem>) {
        if let Err(Explanation { detail, remedy, reason }) = check_signing_key(self.sources, http, clock.now()) {
            let why = format!("{} ({reason})", self.without);
            problems.push(self.problem(Severity::Error, "auth.private_key_jwt", &detail, &why, &remedy));
        }
    }

    /// The key that a message begins with, where the file has it.
    fn tls_key(&self, message: &str) -> String {
        let key: String = message.chars().take_while(|c| c.is_ascii_lowercase() || matches!(c, '_' | '0'..='9')).collect();
        let path = format!("tls.{key}");
        if self.loaded.lines.contains_key(&self.full(&path)) { path } else { "tls".to_owned() }
    }

    fn process(&self, stdio: &StdioConfig, problems: &mut Vec<Problem>) {
        let why = "the process cannot be started, so this upstream is down; the others serve";
        if let Some(program) = stdio.cmd.first().filter(|program| !self.can_be_found(program)) {
            let (what, remedy) = if program.contains('/') {
                (format!("the program \"{program}\" does not exist"), "install it, or correct cmd")
            } else {
                (format!("the program \"{program}\" is in no folder of PATH"), "install it, or write its whole path into cmd")
            };
            problems.push(self.problem(Severity::Error, "cmd", &what, why, remedy));
        }
        if let Some(cwd) = stdio.cwd.as_deref().filter(|cwd| self.is_missing(cwd)) {
            let what = format!("the folder \"{}\" does not exist", cwd.display());
            problems.push(self.problem(Severity::Error, "cwd", &what, why, "make the folder, or correct cwd"));
        }
    }

    fn can_be_found(&self, program: &str) -> bool {
        if program.contains('/') {
            return !self.is_missing(Path::new(program));
        }
        let folders = self.sources.env("PATH").unwrap_or_default();
        std::env::split_paths(&folders).any(|folder| !self.is_missing(&folder.join(program)))
    }

    /// A large file or a folder cannot be read through [`Sources`], but is not missing either.
    fn is_missing(&self, path: &Path) -> bool {
        let missing = |error: io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        self.sources.read(path).is_err_and(missing)
    }

    fn problem(&self, severity: Severity, key: &str, what: &str, why: &str, remedy: &str) -> Problem {
        let server = self.full("");
        let key = self.full(key);
        let line = self.loaded.lines.get(&key).or_else(|| self.loaded.lines.get(&server)).copied();
        Problem {
            severity,
            at: line.map(|line| At { file: self.path.to_path_buf(), line }),
            key,
            typed: None,
            what: what.to_owned(),
            why: why.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    /// Whether a problem at `key` is about this table.
    fn is_own(&self, key: &str) -> bool {
        key.strip_prefix(&self.full("")).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    fn full(&self, key: &str) -> String {
        if key.is_empty() { self.table.clone() } else { format!("{}.{key}", self.table) }
    }
}

/// Whether reading the file already warned of the same, with its line.
fn said_by_the_file(warning: &str) -> bool {
    ["verify_certs", "accept_invalid_hostnames"].iter().any(|key| warning.starts_with(key))
}

fn nowhere(not_found: &NotFound) -> Problem {
    let tried: Vec<String> = not_found.tried.iter().map(|path| path.display().to_string()).collect();
    let why = format!("tried: {}", tried.join(", "));
    of_the_command("no configuration file was found", &why, config::NOT_FOUND_REMEDY)
}

fn of_the_command(what: &str, why: &str, remedy: &str) -> Problem {
    Problem {
        severity: Severity::Error,
        key: String::new(),
        at: None,
        typed: None,
        what: what.to_owned(),
        why: why.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn write_text(path: Option<&Path>, problems: &[Problem], out: &mut dyn Write) -> io::Result<()> {
    for problem in problems {
        writeln!(out, "{problem}\n")?;
    }
    let Some(path) = path else { return Ok(()) };
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let said = match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => "good".to_owned(),
        (0, warnings) => format!("good, with {}", counted(warnings, "warning")),
        (errors, 0) => counted(errors, "error"),
        (errors, warnings) => format!("{} and {}", counted(errors, "error"), counted(warnings, "warning")),
    };
    writeln!(out, "{}: {said}", path.display())
}

fn counted(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// The report for programs. Absent places are `null`.
#[derive(Serialize)]
struct Report<'a> {
    file: Option<String>,
    problems: Vec<Entry<'a>>,
    #[serde(flatten)]
    further: Further<'a>,
}

/// What is only there when it was asked for.
#[derive(Default, Serialize)]
struct Further<'a> {
    /// What `--connect` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstreams: Option<Vec<connect::View<'a>>>,
    /// The same for each Redis.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    redis: Vec<redis::View<'a>>,
    /// What `--from-grafbase` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<Vec<grafbase::Difference>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    severity: &'static str,
    key: &'a str,
    file: Option<String>,
    line: Option<u32>,
    what: &'a str,
    why: &'a str,
    remedy: &'a str,
}

fn write_json<'a>(path: Option<&Path>, problems: &'a [Problem], further: Further<'a>, out: &mut dyn Write) -> io::Result<()> {
    let entry = |problem: &'a Problem| {
        let Problem { severity, key, at, what, why, remedy, typed: _ } = problem;
        Entry {
            severity: match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            key,
            file: at.as_ref().map(|at: &At| at.file.display().to_string()),
            line: at.as_ref().map(|at| at.line),
            what,
            why,
            remedy,
        }
    };
    let report = Report { file: path.map(|path| path.display().to_string()), problems: problems.iter().map(entry).collect(), further };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}
