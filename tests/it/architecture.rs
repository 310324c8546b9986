//! Who may name whom. These tests read `src/`, so that a shortcut across the layers fails here and not in a year.

mod source;

use source::Source;

/// What every module may name: no module of the product stands below them.
const LEAVES: &[&str] = &["audit", "clock", "events", "finding", "meter", "names", "problem", "reason", "secret", "sources", "table"];

/// Which modules each module may name, beside the leaves and itself.
const DIRECTION: &[(&str, &[&str])] = &[
    ("mcp", &[]),
    ("tls", &[]),
    ("telemetry", &[]),
    ("auth", &["tls", "outbound"]),
    ("redis", &["tls", "outbound"]),
    ("limits", &["auth", "redis"]),
    ("session", &["auth", "mcp", "redis"]),
    ("outbound", &["tls"]),
    ("catalog", &["mcp", "auth"]),
    ("upstream", &["mcp", "tls", "auth", "session", "outbound", "limits"]),
    ("bridge", &["mcp", "upstream", "session"]),
    ("gateway", &["auth", "limits", "catalog", "upstream", "bridge", "session", "outbound", "mcp"]),
    ("downstream", &["gateway", "session", "auth", "limits", "mcp", "tls"]),
    ("health", &["gateway", "upstream", "outbound", "tls", "mcp", "redis"]),
    ("admin", &["health", "gateway", "downstream", "upstream", "catalog", "outbound", "session", "tls", "telemetry", "mcp"]),
    ("demo", &["mcp", "tls"]),
    ("config", &["admin", "auth", "health", "downstream", "gateway", "limits", "redis", "session", "telemetry", "upstream", "tls"]),
];

/// These see everything: they put the program together.
const TOP: &[&str] = &["main", "lib", "cli"];

/// Where each external crate may be named: a prefix of the path below `src/`.
const FENCE: &[(&str, &[&str], &str)] = &[
    ("axum", &["downstream/", "admin/", "demo/"], "the gateway behind it knows messages, not HTTP frameworks"),
    ("hyper", &["downstream/", "demo/", "outbound/"], "only a listener and the one HTTP client speak HTTP by hand"),
    ("hyper_util", &["downstream/", "demo/", "outbound/"], "only a listener and the one HTTP client speak HTTP by hand"),
    ("reqwest", &["outbound/"], "an HTTP client that was not built from a TLS policy has system trust, redirects and proxies"),
    ("rustls", &["tls/", "outbound/", "demo/", "cli/mod.rs"], "TLS is decided in one place"),
    ("tokio_rustls", &["outbound/", "downstream/listener/", "demo/"], "TLS is decided in one place"),
    ("rustls_native_certs", &["outbound/system_cas.rs"], "the system's CAs are read once and handed on"),
    ("webpki", &["tls/"], "certificates are judged in one place"),
    ("x509_parser", &["tls/"], "certificates are read in one place"),
    ("rcgen", &["tls/dev.rs"], "certificates are made for development only"),
    ("p12_keystore", &["tls/"], "keys are read in one place"),
    ("pkcs8", &["tls/"], "keys are read in one place"),
    ("notify", &["gateway/", "sources/"], "files are watched in one place"),
    ("lettre", &["health/"], "only alerts are sent by mail"),
    ("prometheus_client", &["telemetry/", "admin/"], "metrics have their names in one place"),
    ("tantivy", &["catalog/search/"], "the index is made of a catalog and answers with its tools; nobody else needs one"),
    ("toml", &["config/"], "everyone else reads a `table`, which keeps lines and finds leftovers"),
    ("clap", &["cli/", "main.rs", "telemetry/"], "the command line ends where the program begins"),
    ("tracing_subscriber", &["telemetry/"], "where logs go is decided once"),
    ("fred", &["redis/"], "one client for everything that replicas share"),
    ("jsonwebtoken", &["auth/", "upstream/credential/"], "tokens are read and made where identity is decided"),
    ("libc", &["upstream/transport/stdio/"], "processes are the one thing that needs it"),
    ("rmcp", &[], "typed models lose fields and re-order keys; the product has its own wire layer"),
];

/// What protocol and policy must not do themselves.
const NO_IO: &[(&str, &[&str])] = &[
    ("mcp", &["std::fs", "std::net", "std::process", "std::io::stdin", "std::io::stdout", "tokio", "axum", "http_body", "rustls"]),
    (
        "tls",
        &["std::fs", "std::net::TcpStream", "std::net::TcpListener", "std::net::UdpSocket", "std::process", "tokio", "http", "http_body"],
    ),
];

/// Longest file, in lines, tests below the code included.
const LONGEST: usize = 450;

#[track_caller]
fn none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "\n{}\nrule: {rule}\n", broken.join("\n"));
}

fn place(source: &Source, line: usize) -> String {
    format!("src/{}:{line}", source.path)
}

#[test]
fn modules_name_only_what_stands_below_them() {
    let mut broken = Vec::new();
    for source in source::all() {
        let module = source.module().to_owned();
        if TOP.contains(&module.as_str()) {
            continue;
        }
        let allowed: &[&str] = match DIRECTION.iter().find(|(name, _)| *name == module) {
            Some((_, allowed)) => allowed,
            None if LEAVES.contains(&module.as_str()) => &[],
            None => {
                broken.push(format!("src/{}: `{module}` has no row in DIRECTION; say who it may name", source.path));
                continue;
            }
        };
        for path in source.paths().iter().filter(|path| path.is_in("crate")) {
            let Some(named) = path.segments.get(1).filter(|named| **named != module) else { continue };
            // `pub(crate)` and the like name no module.
            let is_module =
                LEAVES.contains(&named.as_str()) || DIRECTION.iter().any(|(name, _)| name == named) || TOP.contains(&named.as_str());
            if is_module && !LEAVES.contains(&named.as_str()) && !allowed.contains(&named.as_str()) {
                let may = if allowed.is_empty() { "the leaves only".to_owned() } else { allowed.join(", ") };
                broken.push(format!("{}: `{module}` names `{}`; it may name {may}", place(&source, path.line), path.shown()));
            }
        }
    }
    none(&broken, "the direction in docs/ARCHITECTURE.md: move the code down, or let the module above hand the value over");
}

#[test]
fn only_the_command_line_sees_the_root_config() {
    let mut broken = Vec::new();
    for source in source::all().iter().filter(|source| !["config", "cli", "main", "lib"].contains(&source.module())) {
        for path in source.paths().iter().filter(|path| path.is_in("crate::config")) {
            broken.push(format!("{}: names `{}`", place(source, path.line), path.shown()));
        }
    }
    none(&broken, "each part takes its own section, so that a change of one section concerns one part");
}

#[test]
fn external_crates_stay_behind_their_fence() {
    let mut broken = Vec::new();
    for source in source::all() {
        for path in source.paths() {
            let Some(first) = path.segments.first() else { continue };
            if let Some((name, homes, why)) = FENCE.iter().find(|(name, ..)| name == first)
                && !homes.iter().any(|home| source.path.starts_with(home))
            {
                let homes = if homes.is_empty() { "nowhere".to_owned() } else { homes.join(", ") };
                broken.push(format!("{}: `{}`: {name} belongs in {homes}, because {why}", place(&source, path.line), path.shown()));
            }
        }
    }
    none(&broken, "the fence for external crates in docs/ARCHITECTURE.md: wrap it where it belongs and name the wrapper");
}

#[test]
fn protocol_and_policy_do_no_io() {
    let mut broken = Vec::new();
    for source in source::all() {
        let Some((module, forbidden)) = NO_IO.iter().find(|(module, _)| *module == source.module()) else { continue };
        for path in source.paths() {
            if let Some(what) = forbidden.iter().find(|what| path.is_in(what)) {
                broken.push(format!("{}: `{module}` names `{}` ({what})", place(&source, path.line), path.shown()));
            }
        }
    }
    none(
        &broken,
        "mcp/ and tls/ take bytes and values; files come through `sources`, sockets belong to outbound/, upstream/ and downstream/",
    );
}

#[test]
fn only_danger_weakens_verification() {
    let mut broken = Vec::new();
    let verifiers = ["tls/danger.rs", "tls/verifier.rs", "tls/verifier/expected.rs", "tls/verifier/pins.rs"];
    for source in source::all() {
        let mut forbid = |tokens: &[&str], homes: &[&str], what: &str| {
            if !homes.contains(&source.path.as_str()) {
                broken.extend(source.lines_with(tokens).into_iter().map(|line| format!("{}: {what}", place(&source, line))));
            }
        };
        forbid(&["ServerCertVerifier", "for"], &verifiers, "a certificate verifier of its own");
        forbid(&["ServerCertVerified", "::", "assertion"], &verifiers, "accepts a certificate");
        forbid(&["HandshakeSignatureValid", "::", "assertion"], &["tls/danger.rs"], "accepts a signature");
        forbid(&["dangerous", "(", ")"], &["tls/policy.rs"], "installs a verifier");
        for name in ["danger_accept_invalid_certs", "tls_danger_accept_invalid_certs", "tls_danger_accept_invalid_hostnames"] {
            forbid(&[name], &[], "turns verification off");
        }
    }
    none(&broken, "verification is weakened in tls/danger.rs only, and installed in tls/policy.rs only, where a review looks");
}

#[test]
fn every_gateway_error_is_mapped_by_name() {
    let sources = source::all();
    let rescue = sources.iter().find(|source| source.path == "downstream/rescue.rs").expect("errors are mapped there");
    assert!(!rescue.lines_with(&["match", "error"]).is_empty(), "the match on the error is there");
    let mut broken = Vec::new();
    for window in rescue.tokens.windows(4) {
        let [before, name, equals, greater] = window else { continue };
        let is_binding = name.text.starts_with(|c: char| c.is_lowercase() || c == '_');
        let starts_an_arm = ["{", ",", "}"].contains(&before.text.as_str());
        if starts_an_arm && is_binding && (equals.text == "if" || (equals.text == "=" && greater.text == ">")) {
            broken.push(format!("{}: the arm `{}` takes whatever comes", place(rescue, name.line), name.text));
        }
    }
    none(&broken, "a new error must not reach a client without somebody having chosen its status, code and words");
}

#[test]
fn callers_that_tests_stand_for_are_not_made_by_the_product() {
    let callers =
        |source: &Source| source.lines_with(&["Caller", "::", "of_test"]).into_iter().map(|line| place(source, line)).collect::<Vec<_>>();
    let broken: Vec<_> = source::all().iter().flat_map(callers).collect();
    none(&broken, "whoever asks was identified by `auth`");
}

#[test]
fn unsafe_code_is_only_between_fork_and_exec() {
    let mut broken = Vec::new();
    for source in source::all().iter().filter(|source| !source.path.starts_with("upstream/transport/stdio/")) {
        for word in ["unsafe", "unsafe_code"] {
            broken.extend(source.lines_with(&[word]).into_iter().map(|line| format!("{}: `{word}`", place(source, line))));
        }
    }
    none(&broken, "what must run in a child between fork and exec is the one exception");
}

#[test]
fn nothing_prints_past_the_command_line() {
    let mut broken = Vec::new();
    for source in source::all() {
        for name in ["println", "eprintln", "print", "eprint", "dbg"] {
            broken.extend(source.lines_with(&[name, "!"]).into_iter().map(|line| format!("{}: `{name}!`", place(&source, line))));
        }
        if !["cli", "demo", "telemetry"].contains(&source.module()) {
            for path in source.paths().iter().filter(|path| path.is_in("std::io::stdout") || path.is_in("std::io::stderr")) {
                broken.push(format!("{}: `{}`", place(&source, path.line), path.shown()));
            }
        }
    }
    none(&broken, "facts go through tracing; what a command prints is written in cli/, where a closed pipe is not a panic");
}

#[test]
fn a_file_has_one_subject() {
    let long: Vec<_> = source::all()
        .iter()
        .filter(|source| source.lines > LONGEST)
        .map(|source| format!("src/{}: {} lines", source.path, source.lines))
        .collect();
    none(&long, "a file past 450 lines holds two subjects; tests past 80 lines go to a tests.rs beside it");
}
