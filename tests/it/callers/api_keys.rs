//! API keys, in either header.

use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The SHA-256 of `fedcba9876543210`.
fn hashed() -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"fedcba9876543210");
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_keys(spec: GatewaySpec) -> GatewaySpec {
    spec.tables(&format!(
        "[[server.api_keys]]\nid = \"ci\"\nkey = \"{KEY}\"\ngroup = \"pro\"\n[[server.api_keys]]\nid = \"cd\"\nkey_sha256 = \"{}\"",
        hashed()
    ))
}

#[tokio::test]
async fn a_key_is_good_in_either_header_and_nothing_like_it_is() {
    let nexus = with_keys(before_a_tool()).start().await;
    for key in [KEY, "fedcba9876543210"] {
        assert_eq!(status(&nexus.modern().header("x-api-key", key)).await, 200);
        assert_eq!(status(&bearing(&nexus, key)).await, 200);
    }
    let upper = hashed().to_uppercase();
    for other in [&KEY[1..], &format!("{KEY}0"), &KEY.to_uppercase(), &hashed(), &upper, "ci"] {
        assert_eq!(status(&nexus.modern().header("x-api-key", other)).await, 401, "{other}");
        assert_eq!(status(&bearing(&nexus, other)).await, 401, "{other}");
    }
    assert_eq!(status(&nexus.modern()).await, 401);
    assert_eq!(status(&nexus.modern().header("authorization", &format!("Basic {KEY}"))).await, 401);
    assert_eq!(status(&nexus.modern().header("x_api_key", KEY)).await, 401, "an underscore is another header");
}

#[tokio::test]
async fn two_credentials_are_none() {
    let key = SigningKey::es256("k");
    let idp = Idp::serving(&[&key]).await;
    let nexus = with_keys(idp.guarding(before_a_tool(), "")).start().await;
    let token = key.token(&claims("ada", json!({})));
    assert_eq!(status(&bearing(&nexus, &token)).await, 200);
    assert_eq!(status(&bearing(&nexus, KEY)).await, 200, "a bearer that is no JWT");
    let both = bearing(&nexus, &token).header("x-api-key", KEY);
    assert_eq!(status(&both).await, 400);
    for (name, values) in [
        ("authorization", [format!("Bearer {KEY}"), format!("Bearer {token}")]),
        ("authorization", [format!("Bearer {KEY}"), format!("Bearer {KEY}")]),
        ("x-api-key", [KEY.to_owned(), KEY.to_owned()]),
    ] {
        let mut client = nexus.modern();
        for value in &values {
            client.headers.append(name, value.parse().unwrap());
        }
        let (status, headers, _) = called(&client).await;
        assert_eq!(status, 400, "{name} twice");
        assert!(header(&headers, "www-authenticate").contains("error=\"invalid_request\""));
    }
}

#[tokio::test]
async fn a_key_that_is_taken_out_of_the_file_is_good_no_more() {
    // What a reload does with [server].
    let server = |toml: &str| {
        let sources = nexus::sources::MemorySources::default();
        nexus::config::load_text(toml, std::path::Path::new("/n.toml"), None, &sources).config.unwrap().server
    };
    let nexus = with_keys(before_a_tool()).start().await;
    let client = nexus.modern().header("x-api-key", KEY);
    assert_eq!(status(&client).await, 200);
    nexus.server.set(server("[[server.api_keys]]\nid = \"ci\"\nkey = \"another-key-of-some-length\""));
    assert_eq!(status(&client).await, 401);
    nexus.server.set(server(""));
    assert_eq!(status(&client).await, 200, "nothing identifies callers");
}
