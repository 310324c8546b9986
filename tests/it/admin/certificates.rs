//! What the API and the metrics say of certificates, once the watch has looked.

use std::sync::Arc;

use http::StatusCode;
use nexus::{
    admin::Reload,
    problem::{Problem, Problems},
};
use serde_json::{Value, json};

use crate::support::{
    fake::legacy,
    nexus::{GatewaySpec, gateway},
    pki::{Authority, Leaf},
    tls_peer::{mtls_config, server_config},
};

/// 2090-01-01T00:00:00Z, when the certificates of the tests end.
const END: &str = "2090-01-01T00:00:00Z";

/// An upstream behind a private CA that demands a client certificate.
fn mutual() -> GatewaySpec {
    let ca = Authority::root("Company CA");
    let server = mtls_config(&ca.sign(Leaf::server(&["localhost"])), &ca, rustls::ALL_VERSIONS);
    let ours = ca.sign(Leaf::client("nexus"));
    let lines =
        "[.tls]\nroot_ca_cert_path = \"/etc/ca.pem\"\nclient_cert_path = \"/etc/nexus.pem\"\nclient_key_path = \"/etc/nexus-key.pem\"";
    gateway()
        .file("/etc/ca.pem", ca.pem())
        .file("/etc/nexus.pem", ours.pem())
        .file("/etc/nexus-key.pem", ours.key_pem())
        .upstream("crm", legacy().tool("x").https(server).toml(lines))
        .admin("")
}

#[tokio::test]
async fn each_certificate_is_listed_with_its_role_and_its_days() {
    let nexus = mutual().watched().start().await;
    nexus.checked("crm").await;
    let all = nexus.operator().json("/api/v1/certificates").await;
    let of_role = |role: &str| {
        all["certificates"].as_array().unwrap().iter().find(|c| c["role"] == role).unwrap_or_else(|| panic!("no {role} in {all}"))
    };
    let server = of_role("server");
    assert_eq!((&server["upstream"], &server["position"], &server["not_after"]), (&json!("crm"), &json!("leaf"), &json!(END)));
    assert!(server["days_left"].as_i64().unwrap() > 10_000 && server["sans"] == json!(["localhost"]), "{server}");
    assert_eq!(of_role("client")["file"], "/etc/nexus.pem");
    assert_eq!(of_role("anchor")["file"], "/etc/ca.pem");
    let crm = nexus.operator().json("/api/v1/upstreams/crm").await;
    assert_eq!((&crm["tls"]["version"], &crm["tls"]["client_cert_requested"]), (&json!("TLS 1.3"), &json!(true)));
    assert_eq!((crm["certificates"].as_array().unwrap().len(), &crm["checked"]["failure"]), (3, &Value::Null));
}

#[tokio::test]
async fn metrics_tell_dates_and_handshakes_in_seconds_and_flags() {
    let nexus = mutual().watched().start().await;
    nexus.checked("crm").await;
    let page = nexus.operator().get("/metrics").await.text().await;
    for series in [
        "nexus_tls_probe_success{upstream=\"crm\"} 1",
        "nexus_tls_chain_complete{upstream=\"crm\"} 1",
        "nexus_tls_san_match{upstream=\"crm\"} 1",
        "nexus_tls_version_info{upstream=\"crm\",version=\"TLS 1.3\"} 1",
        "nexus_tls_verify_disabled{upstream=\"crm\"} 0",
        "nexus_tls_earliest_cert_expiry_timestamp_seconds{upstream=\"crm\",role=\"server\"} 3786912000",
        "nexus_tls_earliest_cert_expiry_timestamp_seconds{upstream=\"crm\",role=\"client\"} 3786912000",
        "nexus_tls_cert_not_after_timestamp_seconds{upstream=\"crm\",role=\"server\",position=\"leaf\",cn=\"a server\",issuer_cn=\"Company CA\",serial=\"",
    ] {
        assert!(page.contains(series), "{series} is missing in\n{page}");
    }
    assert!(!page.contains("role=\"anchor\"} "), "a CA's own end is enforced nowhere, so it is no earliest end");
}

#[tokio::test]
async fn hostile_names_in_certificates_stay_within_their_labels() {
    let ca = Authority::root("Company CA");
    let hostile = "\"}\n# HELP x <script>\u{1b}[31m";
    let server = server_config(&ca.sign(Leaf::server(&["localhost"]).common_name(&format!("{hostile}{}", "x".repeat(500)))));
    let lines = "[.tls]\nroot_ca_cert_path = \"/etc/ca.pem\"";
    let spec = gateway().file("/etc/ca.pem", ca.pem()).upstream("crm", legacy().tool("x").https(server).toml(lines));
    let nexus = spec.admin("").watched().start().await;
    nexus.checked("crm").await;
    let page = nexus.operator().get("/metrics").await.text().await;
    assert!(page.lines().all(|line| line.starts_with("# ") || line.starts_with("nexus_")), "{page}");
    assert!(!page.contains('\u{1b}') && !page.contains("\n# HELP x"), "{page}");
    assert!(page.lines().all(|line| line.len() < 1000), "{page}");
    for path in ["/api/v1/certificates", "/api/v1/upstreams"] {
        let text = nexus.operator().get(path).await.text().await;
        assert!(!text.contains('\u{1b}') && serde_json::from_str::<Value>(&text).is_ok(), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_probe_on_demand_tells_what_the_command_would() {
    let ca = Authority::root("Company CA");
    let expired = server_config(&ca.sign(Leaf::server(&["localhost"]).expired()));
    let spec = mutual()
        .file("/etc/other-ca.pem", ca.pem())
        .upstream("old", legacy().tool("x").https(expired).toml("[.tls]\nroot_ca_cert_path = \"/etc/other-ca.pem\""))
        .upstream("plain", legacy().tool("x"))
        .upstream("gone", "url = \"http://127.0.0.1:1/mcp\"");
    let nexus = spec.start().await;
    let operator = nexus.operator().with("x-nexus-csrf-protection", "1");
    let probe = async |name: &str| -> Value {
        let response = operator.post(&format!("/api/v1/upstreams/{name}/probe")).await;
        let (status, text) = (response.status, response.text().await);
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let good = probe("crm").await;
    assert_eq!((&good["name"], &good["verdict"], &good["chain"][0]["position"]), (&json!("crm"), &json!("ok"), &json!("leaf")));
    let old = probe("old").await;
    assert_eq!((&old["verdict"], &old["findings"][0]["code"]), (&json!("fail"), &json!("tls_expired")));
    let plain = probe("plain").await;
    assert_eq!((&plain["verdict"], &plain["tls"]), (&json!("ok"), &Value::Null));
    let gone = probe("gone").await;
    assert_eq!((&gone["verdict"], &gone["findings"][0]["code"]), (&json!("fail"), &json!("refused")));
    assert_eq!(operator.post("/api/v1/upstreams/none/probe").await.status, StatusCode::NOT_FOUND);
    let events = nexus.operator().json("/api/v1/events").await;
    let acted = events["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "admin_action").count();
    assert_eq!(acted, 4, "{events}");
}

/// What the next reload comes to.
#[derive(Debug)]
struct Outcome(Result<Vec<String>, Vec<Problem>>);

impl Reload for Outcome {
    fn reload(&self) -> futures_util::future::BoxFuture<'_, Result<Vec<String>, Vec<Problem>>> {
        Box::pin(std::future::ready(self.0.clone()))
    }
}

#[tokio::test]
async fn a_reload_tells_what_changed_or_every_problem() {
    let mut problems = Problems::new("/etc/nexus.toml");
    problems.error("mcp.servers.crm.url", 7, "this is no URL", "nothing can be reached", "write it as \"https://…\"");
    let bad = Outcome(Err(problems.into_sorted()));
    for (outcome, status, part) in [
        (Outcome(Ok(vec!["upstream crm was added".to_owned()])), StatusCode::OK, "upstream crm was added"),
        (bad, StatusCode::UNPROCESSABLE_ENTITY, "\"line\":7"),
    ] {
        let nexus = gateway().admin("").reload(Arc::new(outcome)).start().await;
        assert_eq!(nexus.operator().post("/api/v1/reload").await.status, StatusCode::FORBIDDEN, "a page could send this");
        let answer = nexus.operator().with("x-nexus-csrf-protection", "1").post("/api/v1/reload").await;
        assert_eq!(answer.status, status);
        let text = answer.text().await;
        assert!(text.contains(part), "{text}");
    }
}
