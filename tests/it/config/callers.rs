//! Who may call: what the file can say of it, and what would not do what it says.

use super::*;

const OAUTH: &str =
    "[server.oauth]\nurl = \"https://idp.test/jwks\"\nexpected_issuer = \"https://idp.test\"\nexpected_audience = \"https://mcp.test\"\n";
const RESOURCE: &str =
    "[server.oauth.protected_resource]\nresource = \"https://mcp.test\"\nauthorization_servers = [\"https://idp.test\"]\n";
const KEY: &str = "[[server.api_keys]]\nid = \"ci\"\nkey = \"0123456789abcdef\"\n";

const UPSTREAM: &str = "[mcp.servers.crm]\nurl = \"https://crm.test/mcp\"\n";

/// Good, with an upstream.
#[track_caller]
fn accepted(text: &str) -> Config {
    good(&format!("{text}\n{UPSTREAM}"))
}

fn digest() -> String {
    "0f".repeat(32)
}

#[test]
fn each_way_to_identify_callers_opens_an_address_off_loopback() {
    let listen = "[server]\nlisten_address = \"0.0.0.0:8000\"\nallowed_hosts = [\"mcp.test\"]\n";
    refused(listen, &["server.listen_address", "nothing identifies callers", "[server.oauth]"]);
    for (tables, tokens, keys) in [(format!("{OAUTH}{RESOURCE}"), true, 0), (KEY.to_owned(), false, 1)] {
        let config = accepted(&format!("{listen}{tables}"));
        assert_eq!((config.server.auth.oauth.is_some(), config.server.auth.api_keys.len()), (tokens, keys));
    }
}

#[test]
fn what_grafbase_takes_is_taken() {
    let text = format!(
        "[server.client_identification]\nenabled = true\nclient_id.jwt_claim = \"sub\"\ngroup_id.jwt_claim = \"plan\"\n\
         [server.client_identification.validation]\ngroup_values = [\"free\", \"pro\"]\n\
         [server.cors]\nallow_credentials = true\nallow_origins = [\"https://app.test\"]\nmax_age = 60\nallow_methods = [\"POST\"]\n\
         allow_headers = [\"Content-Type\"]\nexpose_headers = [\"Mcp-Session-Id\"]\nallow_private_network = false\n\
         [server.csrf]\nenabled = true\nheader_name = \"X-Nexus-CSRF-Protection\"\n\
         [server.client_ip]\nx_real_ip = true\nx_forwarded_for_trusted_hops = 1\ntrusted_proxies = [\"10.0.0.0/8\"]\n{OAUTH}poll_interval = \"1h\"\n{RESOURCE}"
    );
    let config = accepted(&text);
    assert_eq!(config.server.auth.oauth.expect("tokens").poll_interval, Duration::from_secs(3600));
    assert!(config.server.cors.is_some() && config.server.csrf.is_some());
}

#[test]
fn identification_that_is_not_enabled_is_checked_and_not_used() {
    assert!(accepted("[server.client_identification]\n[server.client_identification.client_id]\n").server.auth.identification.is_none());
    refused("[server.client_identification]\nclient_id.jwt_clam = \"sub\"", &["did you mean `jwt_claim`?"]);
}

#[test]
fn what_could_identify_nobody_is_refused() {
    let identification = |keys: &str| format!("[server.client_identification]\nenabled = true\n{keys}\n{OAUTH}{RESOURCE}");
    for (text, parts) in [
        ("[server.oauth]\nexpected_issuer = \"a\"\nexpected_audience = \"b\"".to_owned(), ["server.oauth", "oauth without `url`"]),
        (format!("{OAUTH}required_scopes = [\"a b\"]"), ["required_scopes", "no scope"]),
        (OAUTH.replace("https://idp.test/jwks", "idp.test"), ["server.oauth.url", "no https:// URL"]),
        (OAUTH.replace("\"https://mcp.test\"", "\"\""), ["server.oauth.expected_audience", "empty"]),
        (
            format!("{OAUTH}[server.oauth.protected_resource]\nresource = \"https://mcp.test\""),
            ["protected_resource", "authorization_servers"],
        ),
        (format!("{OAUTH}{RESOURCE}[server.oauth.tls]\nverify_cert = false"), ["server.oauth.tls.verify_cert", "verify_certs"]),
        ("[[server.api_keys]]\nkey = \"0123456789abcdef\"".to_owned(), ["server.api_keys[0]", "without `id`"]),
        ("[[server.api_keys]]\nid = \"ci\"".to_owned(), ["server.api_keys[0]", "without `key` and `key_sha256`"]),
        (format!("{KEY}key_sha256 = \"{}\"", digest()), ["server.api_keys[0].key_sha256", "key together with key_sha256"]),
        ("[[server.api_keys]]\nid = \"ci\"\nkey_sha256 = \"0f\"".to_owned(), ["key_sha256", "no SHA-256"]),
        ("[[server.api_keys]]\nid = \"ci\"\nkey = \"two words and more\"".to_owned(), ["server.api_keys[0].key", "cannot be sent"]),
        ("[[server.api_keys]]\nid = \"ci\"\nkey = \"aaaaaaaa.bbbbbbbb.cccccccc\"".to_owned(), ["key", "looks like a JWT"]),
        (format!("{KEY}{}", KEY.replace("abcdef", "fedcba")), ["server.api_keys[1].id", "two API keys have this id"]),
        (format!("{KEY}{}", KEY.replace("\"ci\"", "\"cd\"")), ["server.api_keys[1]", "the same key twice"]),
        (
            format!("{KEY}group = \"prof\"\n{}", identification("validation.group_values = [\"pro\"]")),
            ["server.api_keys", "a group that does not exist: \"prof\""],
        ),
        (
            identification("client_id.http_header = \"Authorization\"\n[server.client_ip]\ntrusted_proxies = [\"10.0.0.1\"]"),
            ["http_header", "another meaning"],
        ),
        (
            identification("client_id.http_header = \"Mcp-Name\"\n[server.client_ip]\ntrusted_proxies = [\"10.0.0.1\"]"),
            ["http_header", "belongs to the protocol"],
        ),
        (identification("client_id.jwt_claim = \"\""), ["jwt_claim", "no name"]),
        ("[server.client_ip]\ntrusted_proxies = [\"proxy.test\"]".to_owned(), ["trusted_proxies", "no address and no network"]),
        ("[server.cors]\nallow_origins = [\"app.test\"]".to_owned(), ["allow_origins", "no origin"]),
        ("[server.cors]\nallow_origins = \"some\"".to_owned(), ["allow_origins", "neither \"any\" nor a list"]),
        ("[server.cors]\nallow_methods = [\"GET \"]".to_owned(), ["allow_methods", "no such name"]),
        ("[server.cors]\nallow_origins = \"any\"\nallow_credentials = true".to_owned(), ["allow_credentials", "\"any\""]),
        ("[server.cors]\nallow_origins = [\"https://*\"]\nallow_credentials = true".to_owned(), ["allow_credentials", "comes to the same"]),
        (
            "[server.cors]\nallow_origins = [\"http*://*:*\"]\nallow_credentials = true".to_owned(),
            ["allow_credentials", "comes to the same"],
        ),
        ("[server.csrf]\nheader_name = \"X Y\"".to_owned(), ["header_name", "no header's name"]),
    ] {
        refused(&text, &parts);
    }
}

#[test]
fn what_lets_too_many_in_is_warned_about() {
    let issuer = OAUTH.replace("expected_issuer = \"https://idp.test\"\n", "");
    let audience = OAUTH.replace("expected_audience = \"https://mcp.test\"\n", "");
    for (text, parts) in [
        (format!("{issuer}{RESOURCE}"), ["oauth without expected_issuer", "every issuer"]),
        (format!("{audience}{RESOURCE}"), ["oauth without expected_audience", "other services"]),
        (format!("{}{RESOURCE}", OAUTH.replace("https://idp.test/jwks", "http://idp.test/jwks")), ["server.oauth.url", "unencrypted"]),
        (format!("{OAUTH}{RESOURCE}[server.oauth.tls]\nverify_certs = false"), ["server.oauth.tls.verify_certs", "certificate"]),
        (KEY.replace("0123456789abcdef", "short"), ["server.api_keys[0].key", "shorter than 16"]),
        ("[server.client_ip]\ntrusted_proxies = [\"0.0.0.0/0\"]".to_owned(), ["trusted_proxies", "every address"]),
        ("[server.cors]\nallow_origins = \"any\"".to_owned(), ["allow_origins", "every origin"]),
    ] {
        warned(&text, &parts, true);
    }
}

#[test]
fn what_has_no_effect_is_said() {
    for (text, parts) in [
        (OAUTH.to_owned(), ["oauth without protected_resource", "where to get one"]),
        ("[server.client_ip]\nx_real_ip = true".to_owned(), ["x_real_ip without trusted_proxies", "believed"]),
        (
            "[server.client_identification]\nclient_id.http_header = \"X-Id\"".to_owned(),
            ["http_header without trusted_proxies", "never believed"],
        ),
        ("[server.client_identification]\nclient_id.jwt_claim = \"sub\"".to_owned(), ["jwt_claim without [server.oauth]", "validated"]),
        ("[server.client_identification]\nclient_id.tls_subject = \"CN\"".to_owned(), ["tls_subject without server.tls.client_ca", "CAs"]),
    ] {
        warned(&text, &parts, false);
    }
}

#[test]
fn no_message_and_no_debug_shows_a_key() {
    let text = format!("{}group = 7\n[[server.api_keys]]\nid = \"cd\"\nkey_sha256 = \"{}\"\n", KEY, digest());
    let loaded = load(&text);
    let said = format!("{}{:?}", shown(&loaded.problems), accepted(KEY).server.auth);
    assert!(!said.contains("0123456789abcdef") && !said.contains(&digest()), "{said}");
    let stored = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"0123456789abcdef");
    assert!(!said.contains(&format!("{:?}", stored.as_ref()[..4].to_vec())[1..10]), "{said}");
}
