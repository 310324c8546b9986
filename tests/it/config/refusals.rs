//! What the file must not say.

use super::*;

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    refused(&https("[mcp.servers.crm.tls]\nverfiy_certs = true"), &["unknown key", "nexus.toml:4", "did you mean `verify_certs`?"]);
    refused(&https("conect_timeout = \"1s\""), &["mcp.servers.crm.conect_timeout", "nexus.toml:3", "`connect_timeout`"]);
    refused(&server("colour = 1"), &["unknown key", "known here: listen_address"]);
    refused("[sever]\nx = 1\n[mcp.servers.a]\ncmd = [\"a\"]", &["sever: unknown table", "`server`"]);
    refused(&https("tls = { root_ca_cert_pth = \"x\" }"), &["did you mean `root_ca_cert_path`?"]);
}

#[test]
fn a_key_that_is_not_built_yet_is_refused_as_such() {
    for (text, key) in [
        (https("retry = { attempts = 2 }"), "mcp.servers.crm.retry"),
        (https("circuit_breaker = { failures = 5, open_for = \"30s\" }"), "mcp.servers.crm.circuit_breaker"),
    ] {
        refused(&text, &[key, "is not built yet"]);
    }
}

#[test]
fn a_value_of_the_wrong_type_or_range_is_refused() {
    for (text, parts) in [
        (server("listen_address = 8000"), ["server.listen_address", "expected a string, found a number"]),
        (server("listen_address = \"localhost\""), ["server.listen_address", "no address with a port"]),
        (server("max_body_size = \"1B\""), ["server.max_body_size", "out of range"]),
        (server("max_connections = 0"), ["server.max_connections", "out of range"]),
        (server("max_connections = 1.5"), ["server.max_connections", "found a number with a fraction"]),
        (server("request_timeout = \"soon\""), ["server.request_timeout", "this is no duration"]),
        (server("request_timeout = -1"), ["server.request_timeout", "negative"]),
        (server("insecure = \"wran\""), ["server.insecure", "did you mean \"warn\"?"]),
        (server("allow_anonymous = \"true\""), ["server.allow_anonymous", "expected true or false, found a string"]),
        (server("health = true"), ["server.health", "expected a table, found true or false"]),
        (server("public_url = \"mcp.example.com\""), ["server.public_url", "no URL that clients can use"]),
        (server("allowed_hosts = [\"https://a\"]"), ["server.allowed_hosts", "no host name"]),
        (server("allowed_origins = [\"*\"]"), ["server.allowed_origins", "no origin"]),
        (server("[server.health]\npath = \"health\""), ["server.health.path", "no path of an endpoint"]),
        (mcp("path = \"/mcp?x\""), ["mcp.path", "no path of an endpoint"]),
        (mcp("max_tool_name = 5"), ["mcp.max_tool_name", "out of range"]),
        (mcp("max_tool_name = 129"), ["mcp.max_tool_name", "out of range"]),
        (mcp("tools = \"serach\""), ["mcp.tools", "did you mean \"search\"?"]),
        (mcp("bounds = { max_event = 1 }"), ["mcp.bounds.max_event", "out of range"]),
        (https("connect_timeout = 0"), ["connect_timeout = 0", "out of range"]),
        (https("expose = \"*\""), ["mcp.servers.crm.expose", "expected a list of strings, found a string"]),
        (https("hide = [1]"), ["mcp.servers.crm.hide", "expected strings in the list, found a number"]),
        (https("headers = { name = \"x\" }"), ["mcp.servers.crm.headers", "expected a list of tables"]),
        (https("[mcp.servers.crm.tls]\nmin_version = 1.2"), ["min_version", "found a number with a fraction"]),
        (process("inherit_env = true"), ["inherit_env", "expected a list of strings, found true or false"]),
        ("[mcp.servers]\ncrm = \"https://a\"".to_owned(), ["mcp.servers.crm", "expected a table, found a string"]),
    ] {
        refused(&text, &parts);
    }
}

#[test]
fn combinations_of_tls_settings_that_contradict_are_refused() {
    for (tls, part) in [
        ("client_key_path = \"k\"", "client key without a certificate"),
        ("verify_certs = false\nroot_ca_cert_path = \"ca\"", "verify_certs = false together with root_ca_cert_path"),
        ("accept_invalid_hostnames = true", "accept_invalid_hostnames without root_ca_cert_path"),
        (
            "accept_invalid_hostnames = true\nroot_ca_cert_path = \"ca\"\ninclude_system_cas = true",
            "accept_invalid_hostnames together with include_system_cas",
        ),
        ("include_system_cas = true", "include_system_cas without root_ca_cert_path"),
        ("server_name = \"https://a\"", "neither a DNS name nor an IP address"),
        ("server_name = \"*.example.com\"", "neither a DNS name nor an IP address"),
        ("root_ca_cert_path = \"\"", "the path is empty"),
        ("verify_certs = false\nintermediates_path = \"i\"", "verify_certs = false together with intermediates_path"),
        ("verify_certs = false\nexpected_sans = [\"dns:a\"]", "verify_certs = false together with expected_sans"),
        ("verify_certs = false\naccept_expired_until = \"2026-12-01\"", "verify_certs = false together with accept_expired_until"),
        ("verify_certs = false\ncrl_paths = [\"c\"]", "verify_certs = false together with crl_paths"),
        ("expected_sans = [\"dns:a\"]", "expected_sans without root_ca_cert_path"),
        ("expected_sans = [\"a\"]", "entry 1, \"a\", is not a name that a certificate can carry"),
        (
            "expected_sans = [\"dns:a\"]\nroot_ca_cert_path = \"ca\"\ninclude_system_cas = true",
            "expected_sans together with include_system_cas",
        ),
        (
            "expected_sans = [\"dns:a\"]\nroot_ca_cert_path = \"ca\"\naccept_invalid_hostnames = true",
            "accept_invalid_hostnames together with expected_sans",
        ),
        ("spki_pins = []", "an empty list of pins"),
        ("spki_pins = [\"sha256/AAAA\"]", "entry 1, \"sha256/AAAA\", is not a pin"),
        ("accept_expired_until = \"tomorrow\"", "this is no date"),
        ("accept_expired_until = \"\"", "this is no date"),
        ("crl_paths = [\"\"]", "is not a path"),
        ("crl_scope = \"chain\"", "crl_scope without crl_paths"),
        ("crl_missing = \"allow\"", "crl_missing without crl_paths"),
        ("crl_expired = \"deny\"", "crl_expired without crl_paths"),
        ("post_quantum = \"of\"", "did you mean \"off\"?"),
        ("client_key_password = \"p\"", "client_key_password without client_key_path"),
        ("client_pkcs12_password = \"p\"", "client_pkcs12_password without client_pkcs12_path"),
        ("client_pkcs12_alias = \"a\"", "client_pkcs12_alias without client_pkcs12_path"),
        (
            "client_pkcs12_path = \"a\"\nclient_cert_path = \"c\"\nclient_key_path = \"k\"",
            "client_pkcs12_path together with client_cert_path",
        ),
    ] {
        refused(&https(&format!("[mcp.servers.crm.tls]\n{tls}")), &[part]);
    }
}

#[test]
fn a_tls_setting_without_tls_is_refused_unless_it_repeats_its_default() {
    for upstream in [plain, process] {
        for tls in [
            "verify_certs = false",
            "root_ca_cert_path = \"ca\"",
            "server_name = \"a\"",
            "min_version = \"1.3\"",
            "intermediates_path = \"x\"",
            "crl_paths = []",
            "post_quantum = \"off\"",
            "key_log_path = \"k\"",
        ] {
            refused(&upstream(&format!("[mcp.servers.crm.tls]\n{tls}")), &["a TLS setting on", "would be ignored"]);
        }
        for tls in [
            "verify_certs = true",
            "accept_invalid_hostnames = false",
            "min_version = \"1.2\"",
            "crl_expired = \"warn\"",
            "post_quantum = \"offer\"",
        ] {
            warned(&upstream(&format!("[mcp.servers.crm.tls]\n{tls}")), &["repeats its default"], false);
        }
    }
}

#[test]
fn an_upstream_is_either_a_url_or_a_process() {
    refused(&https("cmd = [\"a\"]"), &["url and cmd together", "nexus.toml:3"]);
    refused("[mcp.servers.crm]\nrequired = true", &["neither url nor cmd"]);
    refused(&https("cwd = \"/\""), &["this setting is for a process"]);
    refused(&process("auth = { token = \"hunter2\" }"), &["this setting is for a url", "auth = …"]);
    refused("[mcp.servers.crm]\ncmd = []", &["the command is empty"]);
}

#[test]
fn urls_that_leak_or_lead_nowhere_are_refused() {
    for (url, part) in [
        ("https://ann:pw@crm.example.com/mcp", "a user or a password"),
        ("https://crm.example.com/mcp#x", "a fragment"),
        ("ws://crm.example.com", "neither https:// nor http://"),
        ("crm.example.com/mcp", "this is no URL"),
        ("https://", "this is no URL"),
    ] {
        refused(&format!("[mcp.servers.crm]\nurl = \"{url}\""), &[part]);
    }
}

#[test]
fn a_proxy_is_a_plain_host_and_port_and_its_password_is_not_shown() {
    for url in ["https://proxy.test:3128", "socks5://proxy.test:1080", "proxy.test:3128", "http://proxy.test/path", "http://"] {
        refused(&https(&format!("proxy = {url:?}")), &["mcp.servers.crm.proxy"]);
    }
    let text = https("proxy = \"https://user:canary@proxy.test\"");
    refused(&text, &["only proxies reached over http:// are supported"]);
    assert!(!shown(&load(&text).problems).contains("canary"));
    refused("[mcp.servers.a]\ncmd = [\"a\"]\nproxy = \"http://proxy.test\"", &["this setting is for a url"]);
}

#[test]
fn names_that_could_mean_two_upstreams_are_refused() {
    refused("[mcp.servers.a__b]\ncmd = [\"a\"]", &["mcp.servers.a__b", "must not hold `__`"]);
    refused("[mcp.servers.\"a b\"]\ncmd = [\"a\"]", &["mcp.servers.\"a b\"", "letters, digits"]);
    refused(&https("prefix = \"a__b\""), &["this prefix cannot be used"]);
    let two = |a: &str, b: &str| format!("[mcp.servers.a]\ncmd = [\"a\"]\n{a}\n[mcp.servers.b]\ncmd = [\"b\"]\n{b}\n");
    refused(&two("prefix = \"x\"", "prefix = \"x\""), &["the prefix is already that of \"a\"", "nexus.toml:6"]);
    refused(&two("", "prefix = \"a\""), &["the prefix is already that of \"a\""]);
    refused(&two("prefix = \"b\"", "prefix = \"c\""), &["the prefix is the name of the server \"b\"", "nexus.toml:3"]);
    refused(&two("prefix = \"\"", "prefix = \"\""), &["a second upstream with prefix = \"\""]);
    assert_eq!(good(&two("prefix = \"\"", "")).mcp.upstreams.len(), 2);
    assert_eq!(good(&two("prefix = \"x\"", "enabled = false\nprefix = \"x\"")).mcp.upstreams.len(), 1);
}

#[test]
fn globs_are_checked() {
    refused(&https("hide = [\"a[\"]"), &["entry 1 of the list is no glob"]);
    refused(&https("expose = [\"a*\", \"b\", \"a*\"]"), &["entry 3 of the list repeats an earlier one"]);
    warned(&https("expose = []"), &["nothing of this upstream is shown"], false);
}

#[test]
fn headers_of_the_connection_and_the_protocol_are_refused() {
    let names = [
        "Host",
        "Content-Length",
        "Connection",
        "Proxy-Authorization",
        "Transfer-Encoding",
        "TE",
        "Upgrade",
        "Mcp-Session-Id",
        "Content-Type",
        "Accept",
    ];
    for name in names {
        let rule = format!("headers = [{{ rule = \"insert\", name = \"{name}\", value = \"x\" }}]");
        refused(&https(&rule), &["this header cannot be configured", name]);
        let auth = format!("auth = {{ type = \"header\", name = \"{name}\", value = \"x\" }}");
        refused(&https(&auth), &["this header cannot carry a credential", name]);
    }
    refused(&https("headers = [{ rule = \"insert\", name = \":path\", value = \"x\" }]"), &["no name of a header"]);
    refused(&https("headers = [{ rule = \"insert\", name = \"X-A\" }]"), &["a header without `value`"]);
    refused(&https("headers = [{ name = \"X-A\", value = \"x\" }]"), &["a header rule without `rule`"]);
    let rule = |name| format!("{{ rule = \"insert\", name = \"{name}\", value = \"x\" }}");
    refused(&https(&format!("headers = [{}, {}]", rule("X-A"), rule("x-a"))), &["inserted twice"]);
    let auth = "auth = { token = \"t\" }";
    refused(&https(&format!("{auth}\nheaders = [{}]", rule("Authorization"))), &["Authorization is already set"]);
    let auth = "auth = { type = \"header\", name = \"X-A\", value = \"t\" }";
    refused(&https(&format!("{auth}\nheaders = [{}]", rule("x-a"))), &["the credential is already set"]);
}

#[test]
fn health_and_mcp_share_neither_a_path_nor_an_address() {
    refused(&mcp("path = \"/health\""), &["the health path is also the path of the MCP endpoint", "nexus.toml:2"]);
    refused(&server("[server.health]\nlisten = \"127.0.0.1:8000\""), &["the same address as the MCP endpoint", "nexus.toml:3"]);
    good(&server("[server.health]\npath = \"/mcp\"\nlisten = \"127.0.0.1:8002\""));
}

#[test]
fn nesting_without_end_is_refused() {
    let deep = format!("[server]\nx = {}1{}", "[".repeat(70), "]".repeat(70));
    assert!(load(&deep).config.is_none());
    let keys = vec!["a"; 79].join(".");
    assert!(load(&format!("{keys} = {{ {keys} = {{ {keys} = 1 }} }}")).config.is_none());
}
