//! Who may ask the admin listener, and who may make it act.

use http::{Method, StatusCode};

use crate::support::nexus::gateway;

const RELOAD: &str = "/api/v1/reload";

#[tokio::test]
async fn the_token_is_asked_for_everywhere_but_by_the_probes() {
    let nexus = gateway().admin("token = \"s3cret\"").start().await;
    let nobody = nexus.operator();
    for path in ["/livez", "/readyz"] {
        assert_eq!(nobody.status(path).await, StatusCode::OK, "{path}");
    }
    for path in ["/", "/api/v1/upstreams", "/nothing"] {
        let refused = nobody.get(path).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.headers["www-authenticate"], "Bearer realm=\"nexus admin\"", "{path}");
    }
    assert_eq!(nobody.post(RELOAD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(nexus.operator().with("x-nexus-csrf-protection", "1").post(RELOAD).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(nexus.operator().showing("s3cre").status("/").await, StatusCode::UNAUTHORIZED);
    assert_eq!(nexus.operator().showing("s3cret").status("/").await, StatusCode::OK);
}

#[tokio::test]
async fn foreign_names_and_pages_are_refused_but_probes_are_answered() {
    let nexus = gateway().server("allowed_hosts = [\"nexus.corp.test\"]").admin("").start().await;
    for (name, value, expected) in [
        ("host", "evil.test", StatusCode::FORBIDDEN),
        ("origin", "http://evil.test", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("host", "nexus.corp.test:8001", StatusCode::OK),
        ("host", "localhost", StatusCode::OK),
    ] {
        assert_eq!(nexus.operator().with(name, value).status("/").await, expected, "{name}: {value}");
        assert_eq!(nexus.operator().with(name, value).status("/livez").await, StatusCode::OK, "{name}: {value}");
        assert_eq!(nexus.operator().with(name, value).status("/readyz").await, StatusCode::OK, "{name}: {value}");
    }
}

#[tokio::test]
async fn no_page_may_act_and_no_page_is_told_that_it_may() {
    let nexus = gateway().admin("").start().await;
    assert_eq!(nexus.operator().post(RELOAD).await.status, StatusCode::FORBIDDEN);
    // What a form of a page on this machine would send.
    let form = nexus.operator().with("origin", "http://localhost:3000").with("content-type", "application/x-www-form-urlencoded");
    assert_eq!(form.post(RELOAD).await.status, StatusCode::FORBIDDEN);
    // A script that wants to send the header asks first (Fetch, CORS-preflight), and gets no permission.
    let preflight =
        nexus.operator().with("origin", "http://localhost:3000").with("access-control-request-headers", "x-nexus-csrf-protection");
    let answer = preflight.ask(Method::OPTIONS, RELOAD).await;
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{:?}", answer.headers);
}
