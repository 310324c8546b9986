//! Which names and groups a caller has, and whose word is taken for them.

use std::sync::Arc;

use nexus::{
    auth::{Authenticator, Caller, Denied, Presented, Surroundings},
    clock::SystemClock,
    sources::MemorySources,
    tls::ClientName,
};

use super::*;
use crate::support::pki::{Authority, Leaf};

const HEADERS: &str = "[server.client_identification]\nenabled = true\nclient_id.http_header = \"X-Client-Id\"\n\
                       group_id.http_header = \"X-Plan\"\nvalidation.group_values = [\"free\", \"pro\"]";

fn authenticator(toml: &str, sources: MemorySources) -> Authenticator {
    let loaded = nexus::config::load_text(toml, std::path::Path::new("/n.toml"), None, &sources);
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    let config = loaded.config.unwrap_or_else(|| panic!("{}", problems.join("\n")));
    let surroundings = Surroundings { clock: Arc::new(SystemClock), sources: Arc::new(sources) };
    Authenticator::new(&config.server.auth, &surroundings, None)
}

async fn identified(
    authenticator: &Authenticator,
    lines: &[(&'static str, &str)],
    certificate: Option<&ClientName>,
    is_trusted_peer: bool,
) -> (Result<Caller, Denied>, HeaderMap) {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let presented = Presented { headers: &mut headers, certificate, recent: None, is_trusted_peer, takes_tokens: false, address: None };
    (authenticator.identify(presented).await, headers)
}

fn groups(caller: &Caller) -> Vec<&str> {
    caller.groups().iter().map(AsRef::as_ref).collect()
}

#[tokio::test]
async fn a_trusted_peer_names_its_client_and_anyone_else_nobody() {
    let authenticator = authenticator(HEADERS, MemorySources::default());
    let lines = [("x-client-id", "ada"), ("x-plan", "pro")];
    let (caller, headers) = identified(&authenticator, &lines, None, true).await;
    let caller = caller.unwrap();
    assert_eq!((caller.client(), groups(&caller)), (Some("ada"), vec!["pro"]));
    assert_eq!(headers.len(), 2, "what is believed may go on");
    let (other, _) = identified(&authenticator, &[("x-client-id", "bob")], None, true).await;
    assert_ne!(other.unwrap().principal(), caller.principal());
    let (refused, headers) = identified(&authenticator, &lines, None, false).await;
    assert_eq!(refused.unwrap_err(), Denied::Missing);
    assert!(headers.is_empty(), "what is not believed goes nowhere: {headers:?}");
}

#[tokio::test]
async fn no_other_spelling_of_an_identity_header_gets_through() {
    let authenticator = authenticator(HEADERS, MemorySources::default());
    for name in ["x_client_id", "x-client_id", "x_client-id", "x_plan"] {
        for is_trusted in [true, false] {
            let lines = [(name, "root"), ("x-client-id", "ada")];
            let (_, headers) = identified(&authenticator, &lines, None, is_trusted).await;
            assert!(!headers.contains_key(name), "{name}");
            assert_eq!(headers.contains_key("x-client-id"), is_trusted);
        }
    }
    for lines in [
        &[("x-client-id", "ada"), ("x-client-id", "root")][..],
        &[("x-client-id", "ada"), ("X-Client-Id".to_ascii_lowercase().leak(), "ada")],
        &[("x-client-id", "")],
        &[("x-client-id", "\u{e4}da")],
        &[("x-client-id", "ada"), ("x-plan", "pro"), ("x-plan", "free")],
    ] {
        let (refused, _) = identified(&authenticator, lines, None, true).await;
        assert!(matches!(refused, Err(Denied::Malformed(_))), "{lines:?}");
    }
    let (refused, _) = identified(&authenticator, &[("x-client-id", "ada"), ("x-plan", "admin")], None, true).await;
    assert!(matches!(refused, Err(Denied::Forbidden(_))), "a group that does not exist");
}

#[tokio::test]
async fn the_listener_believes_proxies_that_are_named_and_nobody_else() {
    for (proxies, expected) in [("[\"127.0.0.0/8\"]", 200), ("[\"10.0.0.0/8\"]", 401), ("[]", 401)] {
        let tables = format!("{HEADERS}\n[server.client_ip]\ntrusted_proxies = {proxies}");
        let nexus = before_a_tool().tables(&tables).start().await;
        let client = nexus.modern().header("x-client-id", "ada");
        assert_eq!(status(&client).await.as_u16(), expected, "{proxies}");
        let arrived = nexus.fake("a").seen();
        assert!(arrived.iter().all(|call| call.header("x-client-id").is_none()), "it is not for upstreams");
    }
}

#[tokio::test]
async fn a_token_has_the_client_and_the_groups_of_its_claims() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    for (identification, changes, expected) in [
        ("", json!({"groups": ["pro"]}), Ok(("ada", vec![]))),
        ("client_id.jwt_claim = \"email\"", json!({"email": "ada@corp.test"}), Ok(("ada@corp.test", vec![]))),
        ("client_id.jwt_claim = \"number\"", json!({"number": 7}), Ok(("7", vec![]))),
        ("client_id.jwt_claim = \"email\"", json!({}), Err(())),
        ("client_id.jwt_claim = \"email\"", json!({"email": {"a": 1}}), Err(())),
        ("group_id.jwt_claim = \"plan\"", json!({"plan": "pro"}), Ok(("ada", vec!["pro"]))),
        ("group_id.jwt_claim = \"plan\"", json!({}), Ok(("ada", vec![]))),
        ("group_id.jwt_claim = \"plan\"\nvalidation.group_values = [\"pro\"]", json!({"plan": "admin"}), Err(())),
        (
            "group_id.jwt_claim = \"realm_access.roles\"\nvalidation.group_values = [\"free\", \"pro\"]",
            json!({"realm_access": {"roles": ["pro", "offline_access", "free", 7]}}),
            Ok(("ada", vec!["pro", "free"])),
        ),
        ("group_id.jwt_claim = \"https://corp.test/groups\"", json!({"https://corp.test/groups": ["a"]}), Ok(("ada", vec!["a"]))),
    ] {
        let switch = if identification.is_empty() { "" } else { "[server.client_identification]\nenabled = true\n" };
        let spec = idp.guarding(gateway(), "").tables(&format!("{switch}{identification}"));
        let toml = spec.write().await.toml;
        let authenticator = authenticator(&toml, MemorySources::default().with_file("/idp/ca.pem", idp.ca()));
        let bearer = format!("Bearer {}", key.token(&claims("ada", changes.clone())));
        let (caller, _) = identified(&authenticator, &[("authorization", &bearer)], None, false).await;
        match (&caller, expected) {
            (Ok(caller), Ok((client, expected))) => {
                assert_eq!((caller.client(), groups(caller)), (Some(client), expected), "{identification}");
            }
            (Err(Denied::Forbidden(_)), Err(())) => {}
            (caller, _) => panic!("{identification} {changes}: {caller:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_has_the_client_and_the_groups_of_its_names() {
    use rcgen::DnType;
    let ca = Authority::root("Client CA");
    let units = |leaf: Leaf| {
        leaf.set(|params| {
            params.distinguished_name.push(DnType::OrganizationalUnitName, "pro");
            params.distinguished_name.push(DnType::OrganizationName, "Corp");
        })
    };
    let leaf = ca.sign(units(Leaf::client("ada")).uri("spiffe://corp.test/ada"));
    let certificate = ClientName::read(&leaf.certificates[0]).unwrap();
    for (identification, client, expected) in [
        ("", "ada", vec![]),
        ("client_id.tls_subject = \"CN\"\ngroup_id.tls_subject = \"OU\"", "ada", vec!["pro"]),
        ("client_id.tls_san = \"uri\"\ngroup_id.tls_subject = \"O\"", "spiffe://corp.test/ada", vec!["Corp"]),
        ("client_id.tls_subject = \"CN\"\ngroup_id.tls_subject = \"OU\"\nvalidation.group_values = [\"free\"]", "ada", vec![]),
    ] {
        let toml = format!("[server.client_identification]\nenabled = {}\n{identification}", !identification.is_empty());
        let authenticator = authenticator(&toml, MemorySources::default());
        let (caller, _) = identified(&authenticator, &[], Some(&certificate), false).await;
        let caller = caller.unwrap();
        assert_eq!((caller.client(), groups(&caller)), (Some(client), expected), "{identification}");
    }
    let nameless = ca.sign(Leaf::client("").set(|params| params.distinguished_name = rcgen::DistinguishedName::new()));
    let nameless = ClientName::read(&nameless.certificates[0]).unwrap();
    let (refused, _) = identified(&authenticator("", MemorySources::default()), &[], Some(&nameless), false).await;
    assert!(matches!(refused, Err(Denied::Forbidden(_))), "it names nobody");
}
