//! Credentials, exposure, and what is warned about.

use super::*;

#[test]
fn a_credential_has_exactly_one_form() {
    refused(&https("[mcp.servers.crm.auth]"), &["a credential without a form"]);
    refused(&https("auth = { token = \"t\", type = \"header\" }"), &["token and type together"]);
    refused(&https("auth = { token = \"Bearer t\" }"), &["the token holds a space"]);
    refused(&https("auth = { token = \"\" }"), &["the value is empty"]);
    refused(&https("auth = { type = \"header\", value = \"t\" }"), &["type = \"header\" without `name`"]);
    refused(&https("auth = { type = \"header\", name = \"X-A\", value = \"a\\nb\" }"), &["cannot be sent in a header"]);
    let config = good(&https("auth = { type = \"header\", name = \"X-Api-Key\", value = \"k3y\" }"));
    match &http(&config).credential {
        CredentialConfig::Header { name, value } => assert_eq!((name.as_str(), value.expose()), ("x-api-key", "k3y")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_weakens_security_is_warned_about() {
    warned(&https("[mcp.servers.crm.tls]\nverify_certs = false"), &["certificate is not verified", "nexus.toml:4"], true);
    let skip_name = "tls = { accept_invalid_hostnames = true, root_ca_cert_path = \"ca\" }";
    warned(&https(skip_name), &["the name in the server's certificate is not verified"], true);
    warned(&https("tls = { verify_certs = false, accept_invalid_hostnames = true }"), &["is not verified"], true);
    warned("[mcp.servers.a]\nurl = \"http://a.example.com/mcp\"", &["an unencrypted connection off this machine"], true);
    let with_token = "[mcp.servers.a]\nurl = \"http://a.example.com/mcp\"\nauth = { token = \"t\" }";
    warned(with_token, &["a credential is sent over an unencrypted connection"], true);
    // Behind a proxy, loopback is the proxy's.
    let behind = "[mcp.servers.a]\nurl = \"http://127.0.0.1:9000/mcp\"\nproxy = \"http://proxy.example.com:3128\"";
    warned(behind, &["an unencrypted connection off this machine"], true);
    let with_token = https("tls = { verify_certs = false }\nauth = { token = \"t\" }");
    warned(&with_token, &["a credential is sent over an unverified connection"], true);
    let with_key = https("tls = { verify_certs = false }\nheaders = [{ rule = \"insert\", name = \"X-Api-Key\", value = \"t\" }]");
    warned(&with_key, &["a credential is sent over an unverified connection"], true);
}

#[test]
fn a_header_for_all_upstreams_is_warned_about_where_it_can_be_read() {
    let rule = "[mcp]\nheaders = [{ rule = \"insert\", name = \"X-Api-Key\", value = \"t\" }]\n";
    let remote = format!("{rule}[mcp.servers.a]\nurl = \"http://a.example.com/mcp\"");
    warned(&remote, &["the header x-api-key goes to \"a\" without encryption"], true);
    let unverified = format!("{rule}[mcp.servers.crm]\nurl = \"https://crm.example.com/mcp\"\ntls = {{ verify_certs = false }}");
    warned(&unverified, &["the header x-api-key goes to \"crm\" over TLS that is not verified"], true);
    good(&format!("{rule}[mcp.servers.crm]\nurl = \"https://crm.example.com/mcp\""));
}

#[test]
fn what_weakens_tls_for_an_emergency_or_for_a_look_is_warned_about() {
    let tls = |keys: &str| https(&format!("[mcp.servers.crm.tls]\n{keys}"));
    warned(&tls("accept_expired_until = \"2026-12-01\""), &["expired certificates of the server are accepted"], true);
    warned(&tls("key_log_path = \"keys.log\""), &["the keys of all connections to this server are written to a file"], true);
}

#[test]
fn a_pin_verifies_what_nothing_else_does() {
    let pin = |byte: char| format!("\"sha256/{}=\"", byte.to_string().repeat(43));
    let (one, two) = (format!("[{}]", pin('A')), format!("[{}, {}]", pin('A'), pin('E')));
    warned(&https(&format!("tls = {{ spki_pins = {one} }}")), &["there is only one pin"], false);
    good(&https(&format!("tls = {{ spki_pins = {two} }}")));
    let unverified = https(&format!("tls = {{ verify_certs = false, spki_pins = {two} }}\nauth = {{ token = \"t\" }}"));
    warned(&unverified, &["only its key is compared with spki_pins"], true);
    assert!(!shown(&load(&unverified).problems).contains("a credential is sent over an unverified connection"));
    let any_name = https(&format!("tls = {{ accept_invalid_hostnames = true, spki_pins = {two} }}"));
    warned(&any_name, &["the name in the server's certificate is not verified"], true);
}

#[test]
fn plain_http_on_this_machine_is_fine() {
    for host in ["127.0.0.1", "localhost", "[::1]", "demo.localhost"] {
        good(&format!("[mcp.servers.a]\nurl = \"http://{host}:9000/mcp\"\nauth = {{ token = \"t\" }}"));
    }
}

#[test]
fn a_listener_that_others_reach_is_refused_unless_it_is_meant() {
    for address in ["0.0.0.0:8000", "[::]:8000", "10.0.0.1:8000"] {
        let loaded = load(&server(&format!("listen_address = \"{address}\"")));
        assert!(loaded.config.is_none());
        assert!(shown(&loaded.problems).contains("set allow_anonymous = true"));
        let meant = format!("listen_address = \"{address}\"\nallow_anonymous = true\npublic_url = \"https://mcp.example.com\"");
        warned(&server(&meant), &["nothing identifies callers"], true);
    }
    let anyhost = server("listen_address = \"0.0.0.0:8000\"\nallow_anonymous = true");
    assert!(shown(&load(&anyhost).problems).contains("every Host header is accepted"));
    good(&server("listen_address = \"[::1]:8000\""));
}

#[test]
fn the_command_lines_address_is_judged_instead_of_the_files() {
    let sources = MemorySources::default().with_file(PATH, server("listen_address = \"127.0.0.1:8000\""));
    let overrides = config::Overrides { listen_address: Some("0.0.0.0:80".parse().expect("an address")) };
    let loaded = config::load_with(Path::new(PATH), &sources, &overrides);
    assert!(shown(&loaded.problems).contains("0.0.0.0:80"));
    let sources = MemorySources::default().with_file(PATH, server("listen_address = \"0.0.0.0:8000\""));
    let overrides = config::Overrides { listen_address: Some("127.0.0.1:80".parse().expect("an address")) };
    let loaded = config::load_with(Path::new(PATH), &sources, &overrides);
    assert_eq!(loaded.config.expect("loopback").server.listen_address.to_string(), "127.0.0.1:80");
}

#[test]
fn no_message_shows_a_secret() {
    let secret = "hunter2-secret";
    let texts = [
        https(&format!("auth = {{ token = \"{secret} x\" }}")),
        https(&format!("auth = {{ tokn = \"{secret}\" }}")),
        https(&format!("auth = \"{secret}\"")),
        https(&format!("auth = {{ type = \"{secret}\", value = \"{secret}\" }}")),
        https(&format!("auth = {{ type = \"header\", name = \"Host\", value = \"{secret}\" }}")),
        https(&format!("headers = [{{ rule = \"insert\", name = \"X-Key\", value = \"{secret}\\n\" }}]")),
        https(&format!("headers = [\"{secret}\"]")),
        https(&format!("token = \"{secret}\"")),
        https(&format!("tls = {{ client_key_password = \"{secret}\" }}")),
        https(&format!("tls = {{ client_pkcs12_password = [\"{secret}\"] }}")),
        process(&format!("env = {{ KEY = \"{secret}\\u0000\" }}")),
        process(&format!("env = [\"{secret}\"]")),
        process(&format!("cwd = \"\"\nenv = {{ KEY = \"{secret}\" }}\nauth = {{ token = \"{secret}\" }}")),
        format!("[mcp.servers.crm]\nurl = \"https://ann:{secret}@crm.example.com\""),
        format!("[mcp.servers.crm]\nurl = \"https://crm.example.com/?key={secret}#x\""),
        format!("[mcp.servers.crm]\ncmd = [\"a\\u0000\", \"--key={secret}\"]"),
        https(&format!("auth = {{ token = \"{secret}")),
        https(&format!("[mcp.servers.crm.auth]\ntoken = {secret}")),
        https(&format!("[mcp.servers.crm.auth]\ntoken = '{secret}\" x")),
        https(&format!("[mcp.servers.crm.auth]\n\"{secret}\"")),
    ];
    for text in texts {
        let loaded = load(&text);
        let said = shown(&loaded.problems);
        assert!(said.starts_with("error"), "refused: {text}\n{said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert!(!format!("{loaded:?}").contains("hunter2"));
    }
    let templated = https("auth = { type = \"{{ env.MISPLACED }}\" }\nprotocol = \"{{ env.MISPLACED }}\"\nurl_ = 1");
    let loaded = load_from(&templated, &MemorySources::default().with_env("MISPLACED", secret));
    assert!(!shown(&loaded.problems).contains("hunter2"), "{}", shown(&loaded.problems));
}

#[test]
fn an_entry_of_a_list_is_shown_as_it_was_typed() {
    let channel = |lines: &str| format!("[[certificates.alerts]]\ntype = \"email\"\nsmtp_url = \"smtps://mx.example.com\"\n{lines}");
    let template = "{{ env.MISPLACED }}";
    for text in [
        https(&format!("tls = {{ spki_pins = [\"sha256/{template}\"] }}")),
        https(&format!("tls = {{ root_ca_cert_path = \"ca.pem\", expected_sans = [\"{template}\"] }}")),
        https(&format!("tls = {{ crl_paths = [\"{template}\\u0000\"] }}")),
        https(&format!("expose = [\"{template}[\"]")),
        format!("[certificates]\nwarn_before = [\"{template}\"]"),
        channel(&format!("from = \"{template}\"\nto = [\"ops@example.com\"]")),
        channel(&format!("from = \"ops@example.com\"\nto = [\"ops@example.com\", \"{template}\"]")),
    ] {
        let loaded = load_from(&text, &MemorySources::default().with_env("MISPLACED", "hunter2"));
        let said = shown(&loaded.problems);
        assert!(said.contains("error: ") && !said.contains("hunter2"), "{said}");
    }
    let loaded = load_from(
        &https(&format!("tls = {{ spki_pins = [\"sha256/{template}\"] }}")),
        &MemorySources::default().with_env("MISPLACED", "x"),
    );
    assert!(shown(&loaded.problems).contains("entry 1, \"sha256/{{ env.MISPLACED }}\", is not a pin"), "{}", shown(&loaded.problems));
}

#[test]
fn a_checked_secret_is_not_in_the_debug_output() {
    let auth = "auth = { token = \"hunter2\" }\nheaders = [{ rule = \"insert\", name = \"X-A\", value = \"hunter2\" }]";
    assert!(!format!("{:?}", good(&https(auth))).contains("hunter2"));
    assert!(!format!("{:?}", good(&process("env = { KEY = \"hunter2\" }"))).contains("hunter2"));
}

#[test]
fn a_literal_secret_in_a_file_that_others_can_read_is_warned_about() {
    let facts = |mode| FileFacts { mode, owner: 0, group: 0, projected_volume: false, effective_user: 0, group_is_ours: true };
    let said = |text: &str, mode| {
        let sources = MemorySources::default().with_env("TOKEN", "t");
        shown(&config::load_text(text, Path::new(PATH), Some(facts(mode)), &sources).problems)
    };
    let literal = https("auth = { token = \"hunter2\" }");
    let warning = said(&literal, 0o644);
    assert!(warning.contains("a secret stands in a file that others can read") && warning.contains("644"), "{warning}");
    assert!(!warning.contains("hunter2"));
    assert_eq!(said(&literal, 0o600), "");
    assert_eq!(said(&https("auth = { token = \"{{ env.TOKEN }}\" }"), 0o644), "");
    assert!(said(&process("env = { API_KEY = \"k\" }"), 0o640).contains("mcp.servers.crm.env.API_KEY"));
    assert_eq!(said(&process("env = { NODE_ENV = \"production\" }"), 0o644), "");
}

#[test]
fn an_admin_listener_that_others_reach_asks_for_a_token() {
    let admin = |lines: &str| format!("[admin]\n{lines}\n{}", https(""));
    refused(&admin("listen_address = \"0.0.0.0:8001\""), &["asks for no token", "nexus.toml:2"]);
    refused(&admin("token = \"\""), &["admin.token", "no token that a client could send"]);
    refused(&admin("token = \"a b\""), &["admin.token", "no token that a client could send"]);
    refused(&admin("listen_address = \"127.0.0.1:8000\""), &["the same address as the MCP endpoint"]);
    refused(&admin("metrics = \"closed\""), &["admin.metrics"]);
    warned(&admin("listen_address = \"0.0.0.0:8001\"\ntoken = \"t\""), &["reached by others without TLS"], true);
    assert_eq!(good(&admin("")).admin.expect("a listener").listen_address.to_string(), "127.0.0.1:8001");
    assert!(good(&admin("listen_address = \"\"\ntoken = \"t\"")).admin.is_none(), "an empty address turns it off");
    assert!(good(&https("")).admin.is_none(), "and so does the lack of a table");
}
