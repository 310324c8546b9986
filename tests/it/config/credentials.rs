//! `[auth]` and `[[headers]]`: what is accepted, and where tokens must not go.

use nexus::upstream::{CredentialConfig, HeaderRule, ProofConfig};

use super::{good, http, https, load, mcp, plain, refused, shown};

const TOKEN: &str = "token_url = \"https://idp.example.com/token\"\nclient_id = \"nexus\"";

fn auth(keys: &str) -> String {
    format!("[mcp.servers.crm.auth]\n{keys}")
}

#[test]
fn each_form_is_read() {
    assert_eq!(http(&good(&https(&auth("type = \"forward\"")))).credential, CredentialConfig::Forward);
    let own = good(&https(&auth(&format!(
        "type = \"client_credentials\"\n{TOKEN}\nprivate_key_jwt = \"key.pem\"\nkey_id = \"k1\"\nscope = \"a b\""
    ))));
    let CredentialConfig::ClientCredentials(token) = &http(&own).credential else { panic!("another form") };
    assert_eq!(token.proof, ProofConfig::Key { path: "/etc/nexus/key.pem".into(), id: Some("k1".to_owned()) });
    assert_eq!((token.scope.as_deref(), token.client_id.as_str()), (Some("a b"), "nexus"));
    let exchanged = good(&https(&auth(&format!("type = \"token_exchange\"\n{TOKEN}"))));
    let CredentialConfig::TokenExchange(token) = &http(&exchanged).credential else { panic!("another form") };
    assert_eq!(token.proof, ProofConfig::None);
}

#[test]
fn half_a_form_is_refused() {
    for (keys, part) in [
        ("type = \"client_credentials\"\nclient_id = \"a\"\nclient_secret = \"s\"".to_owned(), "tokens without `token_url`"),
        (format!("type = \"client_credentials\"\n{TOKEN}"), "client credentials without a proof"),
        (format!("type = \"client_credentials\"\n{TOKEN}\nclient_secret = \"\""), "the value is empty"),
        (format!("type = \"client_credentials\"\n{TOKEN}\nclient_secret = \"s\"\nprivate_key_jwt = \"k\""), "together"),
        (format!("type = \"token_exchange\"\n{TOKEN}\nscope = \" \""), "the value is empty"),
        (format!("type = \"client_credentials\"\n{TOKEN}\nclient_secret = \"s\"\nkey_id = \"k1\""), "key_id without private_key_jwt"),
        ("type = \"token_exchange\"\ntoken_url = \"ftp://idp\"\nclient_id = \"a\"".to_owned(), "cannot be asked for at this URL"),
        ("type = \"token_exchange\"\ntoken_url = \"https://u:p@idp\"\nclient_id = \"a\"".to_owned(), "cannot be asked for at this URL"),
        ("type = \"forwrad\"".to_owned(), "unknown value"),
        ("token = \"t\"\nallow_insecure_forward = true".to_owned(), "nothing is forwarded that this could allow"),
        ("type = \"forward\"\nclient_id = \"a\"".to_owned(), "client_id"),
    ] {
        refused(&https(&auth(&keys)), &[part]);
    }
}

#[test]
fn tokens_of_callers_go_nowhere_but_to_a_verified_server_or_this_machine() {
    let unverified = "[mcp.servers.crm.tls]\nverify_certs = false\n";
    let nameless = "[mcp.servers.crm.tls]\naccept_invalid_hostnames = true\nroot_ca_cert_path = \"ca.pem\"\n";
    let remote = |keys: &str| format!("[mcp.servers.crm]\nurl = \"http://crm.example.com/mcp\"\n{keys}");
    let secret = "client_secret = \"s\"";
    for form in [
        "type = \"forward\"".to_owned(),
        format!("type = \"client_credentials\"\n{TOKEN}\n{secret}"),
        format!("type = \"token_exchange\"\n{TOKEN}\n{secret}"),
    ] {
        for (text, expected) in [
            (https(&format!("{unverified}{}", auth(&form))), "does not verify the server"),
            (https(&format!("{nameless}{}", auth(&form))), "does not verify the server"),
            (remote(&auth(&form)), "over an unencrypted connection"),
            (plain(&format!("proxy = \"http://proxy.example.com:3128\"\n{}", auth(&form))), "over an unencrypted connection"),
        ] {
            let errors = load(&text).problems.into_iter().filter(|problem| problem.severity == nexus::problem::Severity::Error);
            let errors = shown(&errors.collect::<Vec<_>>());
            assert!(errors.contains(expected) && errors.contains("allow_insecure_forward"), "{text}\n{errors}");
            let allowed = format!("{text}\nallow_insecure_forward = true");
            let loaded = load(&allowed);
            assert!(loaded.config.is_some(), "{allowed}\n{}", shown(&loaded.problems));
            assert!(shown(&loaded.problems).contains("allow_insecure_forward is set"), "{allowed}");
            assert!(load(&format!("[server]\ninsecure = \"forbid\"\n{allowed}")).config.is_none(), "{allowed}");
        }
        let local = load(&plain(&auth(&form)));
        assert!(local.config.is_some() && shown(&local.problems).contains("unencrypted connection of this machine"));
    }
    let far = format!("type = \"token_exchange\"\n{}", TOKEN.replace("https", "http"));
    refused(&https(&auth(&far)), &["callers' own tokens are had over an unencrypted connection"]);
    let pinned = format!("[mcp.servers.crm.tls]\nverify_certs = false\nspki_pins = [\"sha256/{}=\"]\n", "A".repeat(43));
    assert!(load(&https(&format!("{pinned}{}", auth("type = \"forward\"")))).config.is_some(), "a pin verifies");
}

#[test]
fn header_rules_are_read_and_those_for_all_come_first() {
    let rules = "headers = [{ rule = \"forward\", name = \"X-A\", rename = \"X-B\", default = \"d\" }, { rule = \"remove\", name = \"X-C\" }, { rule = \"rename\", name = \"X-D\", rename = \"X-E\" }]";
    let text = format!("[mcp]\nheaders = [{{ rule = \"insert\", name = \"X-C\", value = \"v\" }}]\n{}", https(rules));
    let config = good(&text);
    let kinds = http(&config).headers.rules().iter().map(|rule| match rule {
        HeaderRule::Insert { .. } => "insert",
        HeaderRule::Forward { .. } => "forward",
        HeaderRule::Remove { .. } => "remove",
        HeaderRule::Rename { .. } => "rename",
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["insert", "forward", "remove", "rename"]);
    assert!(!format!("{config:?}").contains("\"v\""), "values are not shown");
}

#[test]
fn header_rules_that_would_do_something_else_are_refused() {
    for (rule, part) in [
        ("rule = \"forward\", name = \"Authorization\"", "is not forwarded as a header"),
        ("rule = \"forward\", name = \"cookie\"", "is not forwarded as a header"),
        ("rule = \"forward\", name = \"Mcp-Session-Id\"", "cannot be configured"),
        ("rule = \"forward\", name = \"X-A\", rename = \"Host\"", "cannot be configured"),
        ("rule = \"forward\", name = \"X-A\", value = \"x\"", "does not belong to the rule"),
        ("rule = \"insert\", name = \"X-A\", value = \"x\", default = \"y\"", "does not belong to the rule"),
        ("rule = \"rename\", name = \"X-A\"", "without `rename`"),
        ("rule = \"remove\", name = \"X-A\", rename = \"X-B\"", "does not belong to the rule"),
        ("rule = \"rename_duplicate\", name = \"X-A\"", "unknown value"),
    ] {
        refused(&https(&format!("headers = [{{ {rule} }}]")), &[part]);
        refused(&mcp(&format!("headers = [{{ {rule} }}]")), &[part, "mcp.headers"]);
    }
    let taken = "auth = { type = \"forward\" }\nheaders = [{ rule = \"insert\", name = \"Authorization\", value = \"x\" }]";
    refused(&https(taken), &["Authorization is already set"]);
}

#[test]
fn a_key_of_this_gateway_is_forwarded_to_nobody() {
    let keys = "[[server.api_keys]]\nid = \"ci\"\nkey = \"0123456789abcdef0123456789abcdef\"\n";
    let own = "headers = [{ rule = \"forward\", name = \"X-Api-Key\" }]";
    let renamed = "headers = [{ rule = \"forward\", name = \"x-api-key\", rename = \"X-Key\" }]";
    for rule in [own, renamed] {
        refused(&format!("{}\n{keys}", https(rule)), &["callers' keys of this gateway are forwarded"]);
        good(&https(rule));
    }
    let for_all = format!("{keys}[mcp]\n{own}\n{}", https(""));
    refused(&for_all, &["callers' keys of this gateway are forwarded"]);
}
