//! The operator's page.

use http::StatusCode;

use crate::support::{
    fake::{legacy, modern},
    nexus::gateway,
    pki::{Authority, Leaf},
    tls_peer::server_config,
};

#[tokio::test]
async fn the_page_shows_every_upstream_with_its_cause_and_its_remedy() {
    let nexus = gateway()
        .admin("")
        .upstream("crm", legacy().tool("x").tool("y").prompt("p"))
        .upstream("gone", "url = \"http://127.0.0.1:1/mcp?key=canary\"")
        .start()
        .await;
    nexus.state("gone", "down").await;
    let page = nexus.operator().get("/").await;
    assert_eq!((page.status, &page.headers["content-type"]), (StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap()));
    let text = page.text().await;
    assert!(text.contains("<title>Nexus: 1 of 2 upstreams serve</title>"), "{text}");
    assert!(text.contains("<th scope=\"row\">crm<td class=\"up\">up<td>"), "{text}");
    assert!(text.contains("<td>2<td>1<td>0<td>plain HTTP"), "{text}");
    let why = nexus.operator().json("/api/v1/upstreams/gone").await;
    assert!(text.contains("<td class=\"down\">down<td>") && text.contains("<b>refused</b>"), "{text}");
    assert!(text.contains(why["remedy"].as_str().unwrap()), "{text}");
    assert!(text.contains("state_changed"), "what happened lately is there too: {text}");
    assert!(!text.contains("canary"), "a query may hold a key: {text}");
}

#[tokio::test]
async fn hostile_text_stays_text_on_the_page_and_nothing_in_it_could_run() {
    let ca = Authority::root("Company CA");
    let leaf = Leaf::server(&["localhost"]).common_name("</td><script>alert(1)</script>\u{1b}[31m&\"'");
    let nexus = gateway()
        .admin("")
        .file("/ca.pem", ca.pem())
        .upstream("crm", modern().https(server_config(&ca.sign(leaf))).toml("[.tls]\nroot_ca_cert_path = \"/ca.pem\""))
        .watched()
        .start()
        .await;
    nexus.checked("crm").await;
    let page = nexus.operator().get("/").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let text = page.text().await;
    assert!(text.contains("&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\u{1b}[31m&amp;&quot;&#39;"), "{text}");
    assert!(!text.contains("<script") && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn a_browser_may_look_with_the_token_as_its_password_and_do_no_more() {
    let nexus = gateway().admin("token = \"s3cret\"").start().await;
    let refused = nexus.operator().get("/").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let offered: Vec<_> = refused.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(offered, ["Bearer realm=\"nexus admin\"", "Basic realm=\"nexus admin\", charset=\"UTF-8\""]);
    // op:s3cret and op:wrong
    let browser = || nexus.operator().with("authorization", "Basic b3A6czNjcmV0");
    assert_eq!(browser().status("/").await, StatusCode::OK);
    assert_eq!(nexus.operator().with("authorization", "Basic b3A6d3Jvbmc=").status("/").await, StatusCode::UNAUTHORIZED);
    // Another page could make the browser ask, and it would send the password along.
    assert_eq!(browser().with("x-nexus-csrf-protection", "1").post("/api/v1/reload").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(browser().status("/api/v1/upstreams").await, StatusCode::UNAUTHORIZED);
    assert_eq!(browser().with("origin", "http://evil.test").status("/").await, StatusCode::FORBIDDEN);
}
