//! `[admin]`: from the file to [`AdminConfig`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::config::{AdminConfig, MetricsAccess};
use crate::{
    downstream,
    problem::Problems,
    secret::Secret,
    table::{Keys, Table, built},
    tls::server_read,
};

pub const KEYS: Keys = Keys {
    table: "admin",
    doc: "Where operators, orchestrators and Prometheus ask.",
    keys: &[
        built("listen_address", "Address and port; `\"\"` turns it off."),
        built("token", "What everyone but `/livez` and `/readyz` asks for, as a bearer token."),
        built("metrics", "`\"open\"` serves `/metrics` without the token."),
        built("tls", "HTTPS for operators."),
    ],
};

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);

/// Reads the table; without one, or with an empty address, there is no listener.
pub fn read(table: Option<Table>, problems: &mut Problems) -> Option<AdminConfig> {
    let mut table = table?;
    let table = &mut table;
    let typed = table.string("listen_address", problems);
    let is_off = typed.as_deref() == Some("");
    let listen_address = match typed {
        Some(typed) if !typed.is_empty() => downstream::read::address(table, "listen_address", problems),
        _ if table.has("listen_address") => None,
        _ => Some(LISTEN),
    };
    let token = token(table, problems);
    let metrics = table.choice("metrics", &[("token", MetricsAccess::Token), ("open", MetricsAccess::Open)], &[], problems);
    let has_tls = table.has("tls");
    let tls = table.table("tls", problems).and_then(|table| server_read::read(table, &server_read::ADMIN_KEYS, problems));
    table.finish(&KEYS, problems);
    if is_off {
        return None;
    }
    let config = AdminConfig { listen_address: listen_address?, token, metrics: metrics.unwrap_or_default(), tls };
    if config.is_exposed() {
        check_exposure(&config, has_tls, table, problems);
    }
    Some(config)
}

fn token(table: &mut Table, problems: &mut Problems) -> Option<Secret> {
    let token = table.secret("token", problems)?;
    let sendable = !token.expose().is_empty() && token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if !sendable {
        table.error(
            "token",
            problems,
            "this is no token that a client could send",
            "it is compared with `Authorization: Bearer …`, which holds printable ASCII without spaces",
            "make one with `openssl rand -hex 32`, and write \"{{ env.NEXUS_ADMIN_TOKEN }}\"",
        );
    }
    Some(token)
}

/// A listener that others can reach must ask for something, and says so to nobody who listens in.
fn check_exposure(config: &AdminConfig, has_tls: bool, table: &Table, problems: &mut Problems) {
    let address = config.listen_address;
    // An unusable token has a problem of its own.
    if !table.has("token") {
        table.error(
            "listen_address",
            problems,
            format!("the admin listener {address} can be reached by others, and asks for no token"),
            "whoever reaches it reads names, certificates and errors of every upstream, and may reload the gateway",
            "set token = \"{{ env.NEXUS_ADMIN_TOKEN }}\", or listen on 127.0.0.1",
        );
    }
    // Unusable TLS has a problem of its own.
    if has_tls || !table.has("token") {
        return;
    }
    table.insecure(
        "listen_address",
        problems,
        format!("the admin listener {address} is reached by others without TLS"),
        "whoever is on the way reads the token and what it opens",
        "add [admin.tls], or listen on 127.0.0.1",
    );
}
