//! The schema of the file: whatever the readers take it takes, and an unknown key it does not.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::{collections::BTreeSet, fs, path::Path};

use jsonschema::Validator;
use nexus::{config, table::join};
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("../../nexus.toml.example");

fn validator() -> Validator {
    jsonschema::draft202012::new(&config::schema()).unwrap()
}

/// What an editor makes of a text. It knows no dates, and nor do we.
fn json(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap_or_else(|error| panic!("{error}\n{text}"))).unwrap()
}

fn problems(validator: &Validator, text: &str) -> Vec<String> {
    validator.iter_errors(&json(text)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[track_caller]
fn is_good(validator: &Validator, text: &str, name: &str) {
    let problems = problems(validator, text);
    assert!(problems.is_empty(), "{name}: {problems:#?}");
}

/// The example with its settings switched on.
fn everything() -> String {
    let setting = |line: &str| {
        line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[')).map(str::to_owned)
    };
    EXAMPLE.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned())).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_schema_is_one() {
    jsonschema::meta::validate(&config::schema()).unwrap();
}

#[test]
fn the_example_and_every_fixture_that_loads_are_good() {
    let validator = validator();
    is_good(&validator, EXAMPLE, "the example");
    is_good(&validator, &everything(), "the example with everything");
    let fixtures = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/grafbase")).unwrap();
    let mut count = 0;
    for path in fixtures.map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&path).unwrap();
        // What is not built yet, or never was, is refused here as it is at a start.
        let loaded = config::check_structure_of(&text, Path::new("/etc/nexus.toml"), &nexus::sources::MemorySources::default());
        let refused = |problem: &nexus::problem::Problem| problem.what.contains("not built yet") || problem.what.starts_with("unknown");
        if loaded.iter().any(refused) {
            continue;
        }
        is_good(&validator, &text, &path.display().to_string());
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

#[test]
fn the_blocks_of_the_documents_are_good() {
    let validator = validator();
    let page = include_str!("../../docs/configuration.md");
    let blocks = page.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    for block in blocks {
        is_good(&validator, block, block);
    }
}

#[test]
fn every_key_has_a_form_and_words() {
    let mut bare = BTreeSet::new();
    let mut open = vec![(String::new(), config::schema())];
    while let Some((path, schema)) = open.pop() {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = join(&path, key);
            let is_foreign = path == "llm" || path.starts_with("telemetry.");
            let has_form = ["type", "anyOf", "enum"].iter().any(|form| property.get(form).is_some());
            if !has_form && !is_foreign && !path.contains(".pool.") {
                bare.insert(path.clone());
            }
            if property["type"] == "object" && property["properties"].as_object().is_some_and(serde_json::Map::is_empty) {
                bare.insert(format!("{path} is an empty table"));
            }
            open.push((path.clone(), property.clone()));
            for form in property["anyOf"].as_array().into_iter().flatten() {
                open.push((path.clone() + "?", form.clone()));
            }
        }
        for below in ["items", "additionalProperties"] {
            if schema[below].is_object() {
                open.push((format!("{path}.*"), schema[below].clone()));
            }
        }
        for form in schema["anyOf"].as_array().into_iter().flatten() {
            open.push((path.clone(), form.clone()));
        }
    }
    assert!(bare.is_empty(), "{bare:#?}");
    // Each key that works is somewhere in it with its words.
    let text = config::schema().to_string();
    for table in config::TABLES {
        for key in table.built() {
            assert!(text.contains(&json!(key.doc).to_string()), "{}.{}", table.table, key.name);
        }
    }
}

#[test]
fn what_the_readers_refuse_by_form_the_schema_refuses() {
    let validator = validator();
    for (text, at) in [
        ("serve = 1", ""),
        ("[server]\nlisten_adress = \"127.0.0.1:1\"", "/server"),
        ("[mcp.servers.a]\nurl = \"https://a\"\ncommand = [\"x\"]", "/mcp/servers/a"),
        ("[mcp.servers.a.tls]\nverify = true", "/mcp/servers/a/tls"),
        ("[mcp.servers.a.tls]\nverify_certs = \"no\"", "/mcp/servers/a/tls/verify_certs"),
        ("[mcp]\ntools = \"some\"", "/mcp/tools"),
        ("[mcp]\nmax_sessions = 0", "/mcp/max_sessions"),
        ("[mcp]\nlist_wait = \"3 parsecs\"", "/mcp/list_wait"),
        ("[mcp.bounds]\nmax_event = \"16Mib\"", "/mcp/bounds/max_event"),
        ("[[server.api_keys]]\nidentity = \"a\"", "/server/api_keys/0"),
        ("[mcp.servers.a.rate_limits.tools.b]\nlimits = 1", "/mcp/servers/a/rate_limits/tools/b"),
        ("[mcp.servers.a.retry]\nattempts = 2", "/mcp/servers/a"),
        ("[telemetry]\nservice = \"a\"", "/telemetry"),
    ] {
        let found: Vec<String> = validator.iter_errors(&json(text)).map(|error| error.instance_path().to_string()).collect();
        assert!(found.iter().any(|path| path == at), "{text}: {found:?}");
    }
}

#[test]
fn a_template_stands_for_any_text_and_an_old_name_for_the_new_one() {
    is_good(
        &validator(),
        "[mcp]\nlist_wait = \"{{ env.WAIT }}\"\ntools = \"{{ env.TOOLS | default('both') }}\"\n\
         [server.rate_limits.storage]\ntype = \"redis\"\nurl = \"redis://a\"\nresponse_timeout = \"1s 500ms\"\n\
         [server.rate_limits.storage.tls]\nenabled = true\ninsecure = false\nca_cert_path = \"a.pem\"\n\
         [mcp.servers.\"a.b\"]\ncmd = [\"x\"]\nstderr = { file = \"x\" }\nenv = { A = \"b\" }\n\
         [llm]\nanything = { goes = 1 }\n[telemetry.exporters.otlp]\nenabled = true",
        "a text",
    );
}

/// Of a table that may be absent, the mere presence is a setting.
const ALWAYS_THERE: [&str; 8] =
    ["server", "server.health", "mcp", "mcp.bounds", "mcp.parked", "mcp.downstream_cache", "certificates", "state"];

/// Refused without a Redis, whatever they say.
const OF_A_REDIS: [&str; 3] = ["connection_timeout", "key_prefix", "response_timeout"];

#[test]
fn the_defaults_of_the_schema_are_the_defaults() {
    let (schema, mut text, mut count) = (config::schema(), String::new(), 0);
    for table in ALWAYS_THERE {
        let steps = table.split('.');
        let of_table = steps.fold(&schema, |schema, step| &schema["properties"][step]);
        text.push_str(&format!("[{table}]\n"));
        for (key, property) in of_table["properties"].as_object().unwrap() {
            if table == "state" && OF_A_REDIS.contains(&key.as_str()) {
                continue;
            }
            // Every text that stands for no folder.
            if let Some(default) = property.get("default").filter(|default| **default != json!("")) {
                let value = toml::Value::try_from(default).unwrap();
                text.push_str(&format!("{key} = {value}\n"));
                count += 1;
            }
        }
    }
    let load = |text: &str| {
        let loaded = config::load_text(text, Path::new("/n.toml"), None, &nexus::sources::MemorySources::default());
        let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        let config = loaded.config.unwrap_or_else(|| panic!("{problems:#?}\n{text}"));
        format!("{:?} {:?} {:?} {:?}", config.server, config.mcp, config.certificates, config.state)
    };
    assert!(count >= 35, "{count}\n{text}");
    assert_eq!(load(&text), load(""), "{text}");
}
