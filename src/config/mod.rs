//! The root configuration: text to checked values, or all problems.

mod document;
mod find;
mod reading;
mod schema;
mod template;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc};

pub use find::{NOT_FOUND_REMEDY, NotFound, PATH_VARIABLE, find};
pub use reading::Reading;
pub use schema::schema;

use crate::{
    admin::{self, AdminConfig},
    audit, auth,
    downstream::{self, ServerConfig},
    gateway::{self, McpConfig},
    health::{self, CertificatesConfig},
    limits,
    problem::{Problem, Problems},
    redis,
    session::{self, StateConfig},
    sources::{FileFacts, Noted, Sources},
    table::{Asked, Keys, Origin, built},
    telemetry::{self, TelemetryConfig},
    tls, upstream,
};
use template::Fill;

/// Everything that the file says, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: ServerConfig,
    pub mcp: McpConfig,
    /// Absent: no such listener.
    pub admin: Option<AdminConfig>,
    pub certificates: CertificatesConfig,
    pub state: StateConfig,
    pub telemetry: TelemetryConfig,
    /// How it was read, for the next reading.
    pub reading: Reading,
}

/// The outcome of one reading of the file.
#[derive(Debug)]
pub struct Loaded {
    /// Absent when any problem is a refusal.
    pub config: Option<Config>,
    /// With refusals: what could be read in spite of them, for finding more problems. Never to be run.
    pub draft: Option<Config>,
    /// All refusals and warnings, in file order.
    pub problems: Vec<Problem>,
    /// The line of every table and key, by its dotted path: for what is found out later, in the files that are named.
    pub lines: BTreeMap<String, u32>,
}

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub listen_address: Option<SocketAddr>,
}

/// The top level's keys.
const KEYS: Keys = Keys {
    table: "",
    doc: "The file.",
    keys: &[
        built("server", "Where clients connect, and who may."),
        built("mcp", "The MCP endpoint and the upstreams behind it."),
        built("admin", "Where operators, orchestrators and Prometheus ask."),
        built("state", "What survives a restart, and where."),
        built("certificates", "How upstreams and certificates are watched, and who is told."),
        built("telemetry", "The audit trail; what else observes is not built yet."),
    ],
};

/// The keys of every table, in the order of the documentation.
pub const TABLES: &[&Keys] = &[
    &KEYS,
    &downstream::read::KEYS,
    &tls::server_read::KEYS,
    &downstream::read::HEALTH_KEYS,
    &downstream::read::CLIENT_IP_KEYS,
    &auth::read::OAUTH_KEYS,
    &auth::read::RESOURCE_KEYS,
    &auth::read::API_KEY_KEYS,
    &auth::read::IDENTIFICATION_KEYS,
    &auth::read::CLIENT_ID_KEYS,
    &auth::read::GROUP_ID_KEYS,
    &auth::read::VALIDATION_KEYS,
    &downstream::read::CORS_KEYS,
    &downstream::read::CSRF_KEYS,
    &limits::read::KEYS,
    &limits::read::QUOTA_KEYS,
    &limits::read::STORAGE_KEYS,
    &redis::read::POOL_KEYS,
    &admin::read::KEYS,
    &tls::server_read::ADMIN_KEYS,
    &gateway::read::KEYS,
    &gateway::read::BOUNDS_KEYS,
    &gateway::read::PARKED_KEYS,
    &gateway::read::CACHE_KEYS,
    &upstream::read::KEYS,
    &auth::ACCESS_KEYS,
    &upstream::read::STDERR_KEYS,
    &tls::read::KEYS,
    &upstream::read::AUTH_KEYS,
    &upstream::read::HEADER_KEYS,
    &upstream::read::ALL_HEADER_KEYS,
    &limits::read::UPSTREAM_KEYS,
    &limits::read::TOOL_KEYS,
    &health::read::KEYS,
    &health::read::ALERT_KEYS,
    &session::read::KEYS,
    &telemetry::read::KEYS,
    &audit::read::KEYS,
];

/// Reads and checks the file at `path`.
pub fn load(path: &Path, sources: &dyn Sources) -> Loaded {
    load_with(path, sources, &Overrides::default())
}

/// Reads and checks the file at `path`, with what the command line says instead of it.
pub fn load_with(path: &Path, sources: &dyn Sources, overrides: &Overrides) -> Loaded {
    match text_of(path, sources) {
        Ok((text, facts)) => read(&text, path, facts, Fill::Sources, sources, overrides),
        Err(problem) => Loaded { config: None, draft: None, problems: vec![*problem], lines: BTreeMap::new() },
    }
}

/// Checks the file's structure only: no variable and no other file is read.
pub fn check_structure(path: &Path, sources: &dyn Sources) -> Vec<Problem> {
    load_structure(path, sources).problems
}

/// The same with what was read; never to be run.
pub fn load_structure(path: &Path, sources: &dyn Sources) -> Loaded {
    match text_of(path, sources) {
        Ok((text, facts)) => read(&text, path, facts, Fill::Nothing, sources, &Overrides::default()),
        Err(problem) => Loaded { config: None, draft: None, problems: vec![*problem], lines: BTreeMap::new() },
    }
}

/// Checks the structure of a text as if it stood at `path`: no variable and no other file is read.
pub fn check_structure_of(text: &str, path: &Path, sources: &dyn Sources) -> Vec<Problem> {
    read(text, path, None, Fill::Nothing, sources, &Overrides::default()).problems
}

/// Checks a text as if it stood at `path`. `facts` say who may read it; without them, nobody else.
pub fn load_text(text: &str, path: &Path, facts: Option<FileFacts>, sources: &dyn Sources) -> Loaded {
    read(text, path, facts, Fill::Sources, sources, &Overrides::default())
}

/// Checks the text of an earlier reading again, with the files of its templates as they are now.
pub fn load_again(earlier: &Reading, path: &Path, sources: &dyn Sources, overrides: &Overrides) -> Loaded {
    read(earlier.text.expose(), path, earlier.facts, Fill::Sources, sources, overrides)
}

fn text_of(path: &Path, sources: &dyn Sources) -> Result<(String, Option<FileFacts>), Box<Problem>> {
    let refused = |what: String, why: &str, remedy: &str| {
        let mut problems = Problems::new(path);
        problems.error("", 0, format!("{what}: \"{}\"", path.display()), why, remedy);
        Box::new(problems.into_sorted().remove(0))
    };
    let (bytes, facts) = sources.read(path).map_err(|error| {
        refused("the configuration file cannot be read".to_owned(), &error.to_string(), "correct the path or its permissions")
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| refused("the configuration file is not UTF-8".to_owned(), "TOML is UTF-8 text", "save the file as UTF-8"))?;
    Ok((text, Some(facts)))
}

fn read(text: &str, path: &Path, facts: Option<FileFacts>, fill: Fill, sources: &dyn Sources, overrides: &Overrides) -> Loaded {
    read_noting(text, path, facts, fill, sources, overrides, None)
}

/// The same, writing down what is asked for.
fn read_noting(
    text: &str,
    path: &Path,
    facts: Option<FileFacts>,
    fill: Fill,
    sources: &dyn Sources,
    overrides: &Overrides,
    asked: Option<Arc<Asked>>,
) -> Loaded {
    let mut problems = Problems::new(path);
    let origin = Origin {
        folder: path.parent().map(Path::to_path_buf).unwrap_or_default(),
        open_to_others: facts.map(|facts| facts.mode).filter(|mode| mode & 0o044 != 0),
        asked,
    };
    // An editor's byte order mark is not part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let noted = Noted::new(sources);
    let mut root = document::parse(text, origin, fill, &noted, &mut problems);
    let reading = Reading::new(text, facts, &root, noted.fingerprint());
    let lines = root.lines();
    let server = downstream::read::read(root.table("server", &mut problems), overrides.listen_address, &mut problems);
    let mut mcp = gateway::read::read(root.table("mcp", &mut problems), &mut problems);
    let admin = admin::read::read(root.table("admin", &mut problems), &mut problems);
    let certificates = health::read::read(root.table("certificates", &mut problems), &mut problems);
    mcp.probe_before_swap = certificates.probe_before_swap;
    let state = session::read::read(root.table("state", &mut problems), &mut problems);
    mcp.state_secrets.clone_from(&state.secrets);
    mcp.store.clone_from(&state.store);
    mcp.limits.clone_from(&server.rate_limits);
    let telemetry = telemetry::read::read(root.table("telemetry", &mut problems), &mut problems);
    root.finish(&KEYS, &mut problems);
    let rules = mcp.upstreams.iter().map(|upstream| (upstream.name.as_str(), &upstream.access));
    auth::check_groups(rules, &server.auth, &lines, &mut problems);
    check_headers(&server, &mcp, &lines, &mut problems);
    check_health(&server, &mcp, &lines, &mut problems);
    check_admin(admin.as_ref(), &server, &lines, &mut problems);
    if server.insecure == downstream::Insecure::Forbid {
        problems.forbid_insecure();
    }
    let read = Some(Config { server, mcp, admin, certificates, state, telemetry, reading });
    let (config, draft) = if problems.has_errors() { (None, read) } else { (read, None) };
    Loaded { config, draft, problems: problems.into_sorted(), lines }
}

/// What proves to us who somebody is proves it to whoever gets it, too.
fn check_headers(server: &ServerConfig, mcp: &McpConfig, lines: &BTreeMap<String, u32>, problems: &mut Problems) {
    if server.auth.api_keys.is_empty() {
        return;
    }
    for upstream in &mcp.upstreams {
        if !upstream.forwarded_headers().any(|name| name.as_str() == auth::API_KEY_HEADER) {
            continue;
        }
        let key = format!("mcp.servers.{}.headers", upstream.name);
        let places = [format!("{key}[0]"), key.clone(), "mcp.headers[0]".to_owned(), "mcp.headers".to_owned()];
        let line = places.iter().find_map(|place| lines.get(place)).copied().unwrap_or_default();
        problems.error(
            &key,
            line,
            "callers' keys of this gateway are forwarded (X-API-Key)",
            "with [[server.api_keys]] it is the callers' own credential, and the server could call the gateway in their names",
            "remove the rule, or give the server a credential of its own in [auth]",
        );
    }
}

/// Health and MCP must not get in each other's way: neither by path nor by address.
fn check_health(server: &ServerConfig, mcp: &McpConfig, lines: &BTreeMap<String, u32>, problems: &mut Problems) {
    let health = &server.health;
    let line = |key: &str| lines.get(key).or_else(|| lines.get("mcp.path")).copied().unwrap_or_default();
    let sse_paths = mcp.sse_path.as_ref().map(|path| [path.clone(), downstream::messages_path(path)]).into_iter().flatten();
    for taken in sse_paths {
        let is_health = health.enabled && health.listen.is_none() && health.path == taken;
        if taken == mcp.path || is_health {
            problems.error(
                "mcp.sse_path",
                line("mcp.sse_path"),
                format!("the path \"{taken}\" is also the path of {}", if is_health { "health" } else { "the MCP endpoint" }),
                "one of the two could never be reached",
                "choose another path, such as \"/sse\"",
            );
        }
    }
    if health.enabled && health.listen.is_none() && health.path == mcp.path {
        problems.error(
            "server.health.path",
            line("server.health.path"),
            "the health path is also the path of the MCP endpoint",
            "one of the two could never be reached",
            "choose another path, or give health its own `listen` address",
        );
    }
    if health.enabled && health.listen == Some(server.listen_address) && server.listen_address.port() != 0 {
        problems.error(
            "server.health.listen",
            line("server.health.listen"),
            "health has the same address as the MCP endpoint",
            "only one listener can have a port",
            "remove `listen`, and health is served beside the MCP endpoint, or choose another port",
        );
    }
}

/// Each listener needs a port of its own.
fn check_admin(admin: Option<&AdminConfig>, server: &ServerConfig, lines: &BTreeMap<String, u32>, problems: &mut Problems) {
    let Some(admin) = admin else { return };
    let address = admin.listen_address;
    let line = lines.get("admin.listen_address").or_else(|| lines.get("admin")).copied().unwrap_or_default();
    let health = server.health.listen.filter(|_| server.health.enabled);
    for (other, what) in [(Some(server.listen_address), "the MCP endpoint"), (health, "health")] {
        if other == Some(address) && address.port() != 0 {
            problems.error(
                "admin.listen_address",
                line,
                format!("the admin listener has the same address as {what}"),
                "only one listener can have a port, and what operators may do is not for clients",
                "choose another port",
            );
        }
    }
}
