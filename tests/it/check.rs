//! `nexus check`: the file, and the files that it names.

use std::time::Duration;

use nexus::{
    cli::check::{CheckArgs, Format, run},
    clock::FixedClock,
    sources::{FileFacts, MemorySources},
    tls::dev,
};

/// 2026-01-01T00:00:00Z.
const NOW: Duration = Duration::from_secs(1_767_225_600);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const FILE: &str = "/etc/nexus/nexus.toml";

const MTLS: &str = r#"
[mcp.servers.crm]
url = "https://crm.internal/mcp"
[mcp.servers.crm.tls]
root_ca_cert_path = "ca.pem"
client_cert_path = "client.pem"
client_key_path = "client-key.pem"
"#;

/// A machine with `nexus.toml`, a CA and a client identity that are valid at [`NOW`].
fn machine(text: &str) -> MemorySources {
    let certificates = dev::mint(&["crm.example.com".to_owned()], NOW).expect("certificates");
    MemorySources::default()
        .with_env("PATH", "/usr/local/bin:/usr/bin")
        .with_file(FILE, text)
        .with_file("/etc/nexus/ca.pem", certificates.ca)
        .with_file("/etc/nexus/client.pem", certificates.client.certificate)
        .with_file("/etc/nexus/client-key.pem", certificates.client.key.expose())
}

fn check_at(now: Duration, args: &CheckArgs, sources: &MemorySources) -> (u8, String) {
    let mut out = Vec::new();
    let code = run(args, Some(FILE.into()), sources, &FixedClock(now), &mut out).expect("memory is written to");
    (code, String::from_utf8(out).expect("text"))
}

fn check(sources: &MemorySources) -> (u8, String) {
    check_at(NOW, &CheckArgs::default(), sources)
}

#[test]
fn a_good_file_with_good_files_is_good() {
    assert_eq!(check(&machine(MTLS)), (0, "/etc/nexus/nexus.toml: good\n".to_owned()));
}

#[test]
fn the_files_of_a_redis_are_looked_at_too() {
    let redis = |tls: &str| {
        format!(
            r#"
[state]
store = "redis"
redis_url = "rediss://redis.corp.test"
secrets = ["0123456789abcdef0123456789abcdef"]
[state.tls]
{tls}
[server.rate_limits.storage]
type = "redis"
url = "rediss://redis.corp.test"
[server.rate_limits.storage.tls]
{tls}
"#
        )
    };
    let good = "root_ca_cert_path = \"ca.pem\"\nclient_cert_path = \"client.pem\"\nclient_key_path = \"client-key.pem\"";
    let (code, said) = check(&machine(&redis(good)));
    assert_eq!(code, 0, "{said}");
    let (code, said) = check(&machine(&redis("root_ca_cert_path = \"other.pem\"")));
    assert_eq!(code, 64, "{said}");
    for table in ["state", "server.rate_limits.storage"] {
        assert!(said.contains(&format!("error: {table}.tls.root_ca_cert_path: ")), "{said}");
    }
    for part in
        ["sessions are not shared until it is repaired (local_missing)", "limits are not checked until it is repaired (local_missing)"]
    {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_missing_file_is_an_error_at_the_line_of_its_key() {
    let mut sources = machine(MTLS);
    sources.files.remove(std::path::Path::new("/etc/nexus/client.pem"));
    let (code, said) = check(&sources);
    assert_eq!(code, 64);
    for part in [
        "mcp.servers.crm.tls.client_cert_path: ",
        "--> /etc/nexus/nexus.toml:6",
        "local_missing",
        "the others serve",
        "fix: ",
        ": 1 error\n",
    ] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
}

#[test]
fn an_expired_client_certificate_and_an_open_key_are_errors() {
    let (code, said) = check_at(NOW + DAY * 20_000, &CheckArgs::default(), &machine(MTLS));
    assert_eq!(code, 64);
    assert!(said.contains("local_expired") || said.contains("tls_anchor_expired"), "{said}");
    let sources = machine(MTLS);
    let (key, facts) = sources.files.get(std::path::Path::new("/etc/nexus/client-key.pem")).cloned().expect("the key");
    let sources = sources.with_file_and_facts("/etc/nexus/client-key.pem", key, FileFacts { mode: 0o644, ..facts });
    let (code, said) = check(&sources);
    assert_eq!(code, 64);
    assert!(said.contains("local_permissions") && said.contains("nexus.toml:7"), "{said}");
}

#[test]
fn problems_of_the_file_and_of_other_upstreams_files_come_in_one_run() {
    let text =
        format!("{MTLS}\n[mcp.servers.other]\ncmd = [\"a\"]\nreqired = true\n[mcp.servers.third]\ncmd = [\"gone\"]\ncwd = \"/gone\"\n");
    let (code, said) = check(&machine(&text.replace("client.pem", "none.pem")));
    assert_eq!(code, 64);
    for part in [
        "did you mean `required`?",
        "local_missing",
        "the program \"gone\" is in no folder of PATH",
        "\"/gone\" does not exist",
        ": 4 errors\n",
    ] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
}

#[test]
fn the_files_of_a_channel_for_alerts_are_checked_too() {
    let text = "[[certificates.alerts]]\ntype = \"slack\"\nurl = \"https://hooks.example.com/x\"\n\
                [[certificates.alerts]]\ntype = \"webhook\"\nurl = \"https://hooks.example.com/x\"\n\
                [certificates.alerts.tls]\nroot_ca_cert_path = \"/nowhere.pem\"\n";
    let (code, out) = check(&machine(text));
    assert_eq!(code, 64, "{out}");
    for part in ["error: certificates.alerts[1].tls.root_ca_cert_path", ":8", "local_missing", "nothing is sent here until it is repaired"]
    {
        assert!(out.contains(part), "{part:?} is missing in\n{out}");
    }
}

#[test]
fn the_files_for_the_identity_provider_are_checked_too() {
    let text = format!(
        "[server.oauth]\nurl = \"https://idp.test/jwks\"\nexpected_issuer = \"a\"\nexpected_audience = \"b\"\n\
         [server.oauth.tls]\nroot_ca_cert_path = \"/nowhere.pem\"\n{MTLS}"
    );
    let (code, said) = check(&machine(&text));
    assert_eq!(code, 64);
    for part in ["error: server.oauth.tls.root_ca_cert_path", ":6", "local_missing", "no token can be verified until it is repaired"] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
}

#[test]
fn a_program_is_looked_up_like_the_system_does() {
    let text = "[mcp.servers.a]\ncmd = [\"server\"]\n[mcp.servers.b]\ncmd = [\"./local\"]\n";
    let sources = machine(text).with_file("/usr/bin/server", "").with_file("/etc/nexus/local", "");
    assert_eq!(check(&sources).0, 0);
    let (code, said) = check(&machine(text));
    assert_eq!(code, 64);
    assert!(said.contains("the program \"/etc/nexus/local\" does not exist"), "{said}");
}

#[test]
fn offline_needs_no_files_and_no_variables() {
    let text = format!("{MTLS}[mcp.servers.crm.auth]\ntoken = \"{{{{ env.NONE }}}}\"\n");
    let sources = MemorySources::default().with_file(FILE, text.clone());
    let offline = CheckArgs { offline: true, ..CheckArgs::default() };
    assert_eq!(check_at(NOW, &offline, &sources), (0, "/etc/nexus/nexus.toml: good\n".to_owned()));
    assert_eq!(check(&sources).0, 64);
    assert_eq!(check_at(NOW, &offline, &MemorySources::default().with_file(FILE, format!("{text}\nx = 1"))).0, 64);
}

#[test]
fn warnings_alone_are_good() {
    let (code, said) = check(&machine("[mcp.servers.a]\nurl = \"http://a.example.com\"\n"));
    assert_eq!(code, 0);
    assert!(said.ends_with("/etc/nexus/nexus.toml: good, with 1 warning\n"), "{said}");
}

#[test]
fn a_warning_about_verification_is_said_once() {
    let (_, said) = check(&machine("[mcp.servers.a]\nurl = \"https://a.example.com\"\ntls = { verify_certs = false }\n"));
    assert!(said.ends_with("good, with 1 warning\n"), "{said}");
}

#[test]
fn the_json_report_has_every_field() {
    let args = CheckArgs { format: Format::Json, ..CheckArgs::default() };
    let (code, said) = check_at(NOW, &args, &machine("[mcp.servers.a]\nurl = \"ftp://a\"\n"));
    let report: serde_json::Value = serde_json::from_str(&said).expect("valid JSON");
    assert_eq!(code, 64);
    assert_eq!(report["file"], FILE);
    let problem = &report["problems"][0];
    assert_eq!((&problem["severity"], &problem["key"]), (&"error".into(), &"mcp.servers.a.url".into()));
    assert_eq!((&problem["file"], &problem["line"]), (&FILE.into(), &2.into()));
    assert!(["what", "why", "remedy"].iter().all(|field| problem[field].as_str().is_some_and(|text| !text.is_empty())));
}

#[test]
fn where_a_file_was_looked_for_is_said() {
    let mut out = Vec::new();
    let code = run(&CheckArgs::default(), None, &MemorySources::default(), &FixedClock(NOW), &mut out).expect("written");
    assert_eq!(code, 64);
    assert!(String::from_utf8_lossy(&out).contains("tried: nexus.toml, /etc/nexus.toml"));
}
