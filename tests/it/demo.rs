//! The demo upstreams: real MCP servers in both eras, each with its own trust.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use nexus::{
    cli::snippet::{self, SnippetContext},
    clock::{Clock as _, SystemClock},
    demo::{self, Demo, DemoError, DemoOptions},
    sources::{MemorySources, SystemSources},
    upstream::{EndpointConfig, HttpConfig},
};
use reqwest::{Client, StatusCode};
use rmcp::{
    ClientLifecycleMode, ClientServiceExt as _,
    model::{CallToolRequestParams, ProtocolVersion},
    service::{RoleClient, RunningService},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tempfile::TempDir;

const MODERN: &str = "2026-07-28";

async fn demo() -> (Demo, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (start(folder.path()).await.unwrap(), folder)
}

async fn start(dir: &Path) -> Result<Demo, DemoError> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 8000));
    let admin = SocketAddr::from(([127, 0, 0, 1], 8001));
    let exe = Path::new("/opt/\"my\" tools\\nexus");
    demo::start(&DemoOptions { dir: Some(dir), exe, listen, admin, now: SystemClock.now() }, &SystemSources).await
}

/// A client that trusts one CA of a demo's folder, and shows the demo's client certificate if asked to.
fn client(folder: &TempDir, ca: &str, shows_certificate: bool) -> Client {
    let certs = folder.path().join("certs");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.join(ca)).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let config = if shows_certificate {
        let chain = vec![CertificateDer::from_pem_file(certs.join("inventory-client.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(certs.join("inventory-client-key.pem")).unwrap();
        config.with_client_auth_cert(chain, key).unwrap()
    } else {
        config.with_no_client_auth()
    };
    Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap()
}

fn url(address: SocketAddr) -> String {
    format!("https://{address}/mcp")
}

async fn post(client: &Client, address: SocketAddr, headers: &[(&str, &str)], body: &Value) -> (StatusCode, Value) {
    let mut request = client.post(url(address)).header("accept", "application/json, text/event-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn modern(id: u32, method: &str, params: Value) -> Value {
    let mut params = params;
    params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}});
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn supported() -> Value {
    json!([MODERN, "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"])
}

fn names(items: &Value) -> Vec<&str> {
    items.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect()
}

#[tokio::test]
async fn calendar_speaks_legacy_without_a_session() {
    let (demo, folder) = demo().await;
    let (client, at) = (client(&folder, "calendar-ca.pem", false), demo.upstreams.calendar);
    let initialize =
        json!({"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}}});
    let (status, answer) = post(&client, at, &[], &initialize).await;
    assert_eq!((status, &answer["id"], &answer["result"]["protocolVersion"]), (StatusCode::OK, &json!("a"), &json!("2025-06-18")));
    assert_eq!(answer["result"].get("resultType"), None);

    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(post(&client, at, &[], &initialized).await, (StatusCode::ACCEPTED, Value::String(String::new())));
    let (_, listed) = post(&client, at, &[], &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    assert_eq!(names(&listed["result"]["tools"]), ["days_between", "next_weekday", "convert_time_zone"]);
    let arguments = json!({"name": "days_between", "arguments": {"from": "2024-02-28", "to": "2024-03-01"}});
    let (_, called) = post(&client, at, &[], &json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": arguments})).await;
    assert_eq!(called["result"]["structuredContent"], json!({"days": 2, "weeks": 0, "working_days": 2}));

    let unknown = json!({"jsonrpc": "2.0", "id": 3, "method": "resources/list"});
    let (status, refused) = post(&client, at, &[], &unknown).await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::OK, &json!(-32601)), "a 404 would end a session");
}

#[tokio::test]
async fn calendar_speaks_the_stateless_revision() {
    let (demo, folder) = demo().await;
    let (client, at) = (client(&folder, "calendar-ca.pem", false), demo.upstreams.calendar);
    let version = ("mcp-protocol-version", MODERN);
    let (status, found) = post(&client, at, &[version, ("mcp-method", "server/discover")], &modern(1, "server/discover", json!({}))).await;
    assert_eq!((status, &found["result"]["supportedVersions"]), (StatusCode::OK, &supported()));
    assert_eq!((&found["result"]["resultType"], &found["result"]["cacheScope"]), (&json!("complete"), &json!("public")));

    let call = modern(2, "tools/call", json!({"name": "next_weekday", "arguments": {"date": "2026-11-20", "weekday": "Friday"}}));
    let headers = [version, ("mcp-method", "tools/call"), ("mcp-name", "next_weekday")];
    let (_, called) = post(&client, at, &headers, &call).await;
    assert_eq!(called["result"]["structuredContent"], json!({"date": "2026-11-27", "days_ahead": 7}));

    let (status, refused) = post(&client, at, &[version, ("mcp-method", "tools/call"), ("mcp-name", "other")], &call).await;
    assert_eq!((status, &refused["error"]["code"], &refused["id"]), (StatusCode::BAD_REQUEST, &json!(-32020), &json!(2)));

    let initialize = modern(3, "initialize", json!({}));
    let (status, refused) = post(&client, at, &[version, ("mcp-method", "initialize")], &initialize).await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::NOT_FOUND, &json!(-32601)));

    let mut old = modern(4, "tools/list", json!({}));
    old["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2027-01-01");
    let (status, refused) = post(&client, at, &[("mcp-protocol-version", "2027-01-01"), ("mcp-method", "tools/list")], &old).await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::BAD_REQUEST, &json!(-32022)));
    assert_eq!(refused["error"]["data"], json!({"supported": supported(), "requested": "2027-01-01"}));
}

#[tokio::test]
async fn a_wrong_argument_is_explained_to_the_model_and_an_unknown_tool_to_the_client() {
    let (demo, folder) = demo().await;
    let (client, at) = (client(&folder, "calendar-ca.pem", false), demo.upstreams.calendar);
    let call = |params: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let wrong = call(json!({"name": "days_between", "arguments": {"from": "tomorrow", "to": "2026-01-01"}}));
    let (_, answer) = post(&client, at, &[], &wrong).await;
    assert_eq!(answer["result"]["isError"], true);
    assert_eq!(answer["result"]["content"][0]["text"], "`from`: \"tomorrow\" is not a date; write it as 2026-03-31");
    let (_, answer) = post(&client, at, &[], &call(json!({"name": "days_until"}))).await;
    assert_eq!(answer["error"]["code"], -32602);
}

#[tokio::test]
async fn what_is_no_mcp_request_is_refused_over_http() {
    let (demo, folder) = demo().await;
    let (client, at) = (client(&folder, "calendar-ca.pem", false), demo.upstreams.calendar);
    assert_eq!(client.get(url(at)).send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(client.post(format!("https://{at}/other")).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let (status, _) = post(&client, at, &[("origin", "https://evil.example")], &json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, answer) = post(&client, at, &[], &json!([1])).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::BAD_REQUEST, &json!(-32600)));
    let large = client.post(url(at)).body(vec![b' '; 5 * 1024 * 1024]).send().await;
    assert!(large.is_err() || large.unwrap().status() == StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn inventory_lets_only_holders_of_its_client_certificate_in() {
    let (demo, folder) = demo().await;
    let at = demo.upstreams.inventory;
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let (_, listed) = post(&client(&folder, "inventory-ca.pem", true), at, &[], &list).await;
    assert_eq!(names(&listed["result"]["tools"]), ["stock_level", "reserve_item", "low_stock"]);
    let anonymous = client(&folder, "inventory-ca.pem", false).post(url(at)).body(list.to_string()).send().await;
    assert!(anonymous.is_err(), "{anonymous:?}");
    let wrong_ca = client(&folder, "calendar-ca.pem", true).post(url(at)).body(list.to_string()).send().await;
    assert!(wrong_ca.is_err(), "{wrong_ca:?}");
}

#[tokio::test]
async fn a_reservation_reports_progress_as_events_to_those_who_asked() {
    let (demo, folder) = demo().await;
    let (client, at) = (client(&folder, "inventory-ca.pem", true), demo.upstreams.inventory);
    let mut call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "reserve_item", "arguments": {"sku": "LMP-01", "quantity": 7}}});
    let (_, silent) = post(&client, at, &[], &call).await;
    assert_eq!(silent["result"]["structuredContent"]["reserved"], 7);

    call["params"]["_meta"] = json!({"progressToken": 5});
    let (_, Value::String(events)) = post(&client, at, &[], &call).await else { panic!("events expected") };
    let messages: Vec<Value> =
        events.lines().filter_map(|line| line.strip_prefix("data: ")).map(|data| serde_json::from_str(data).unwrap()).collect();
    let progress: Vec<&Value> = messages.iter().filter(|m| m["method"] == "notifications/progress").map(|m| &m["params"]).collect();
    assert_eq!(
        progress,
        [
            &json!({"progressToken": 5, "progress": 5, "total": 7, "message": "picked 5 of 7"}),
            &json!({"progressToken": 5, "progress": 7, "total": 7, "message": "picked 7 of 7"}),
        ]
    );
    let last = messages.last().unwrap();
    assert_eq!((&last["id"], &last["result"]["structuredContent"]["reserved"]), (&json!(7), &json!(14)));
}

/// Sends lines to a fresh `notes` upstream and gives its answers.
async fn notes(lines: &[Value]) -> Vec<Value> {
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut output = Vec::new();
    demo::stdio::run("notes", input.as_bytes(), &mut output).await.unwrap();
    String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn notes_are_tools_resources_and_a_prompt() {
    let request = |id: u32, method: &str, params: Value| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let answers = notes(&[
        request(1, "initialize", json!({"protocolVersion": "1999-01-01"})),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        request(2, "tools/call", json!({"name": "add_note", "arguments": {"title": "Tea", "text": "Buy more"}})),
        request(3, "resources/read", json!({"uri": "notes://3"})),
        request(4, "resources/read", json!({"uri": "notes://99"})),
        request(5, "prompts/get", json!({"name": "summarise_notes", "arguments": {"topic": "tea"}})),
        request(6, "resources/templates/list", json!({})),
        json!("garbage"),
    ])
    .await;
    assert_eq!(answers.len(), 7, "one answer to each request, none to the notification");
    assert_eq!(answers[0]["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(answers[0]["result"]["capabilities"], json!({"tools": {}, "resources": {}, "prompts": {}}));
    assert_eq!(answers[1]["result"]["structuredContent"], json!({"number": 3, "uri": "notes://3"}));
    assert_eq!(answers[2]["result"]["contents"][0]["text"], "Tea\n\nBuy more");
    assert_eq!(answers[3]["error"]["code"], -32002);
    assert!(answers[4]["result"]["messages"][0]["content"]["text"].as_str().unwrap().contains("Buy more"));
    assert_eq!(names(&answers[5]["result"]["resourceTemplates"]), ["note"]);
    assert_eq!((answers[6].get("id"), &answers[6]["error"]["code"]), (None, &json!(-32600)));
}

#[tokio::test]
async fn notes_speak_the_stateless_revision_on_the_same_pipe() {
    let answers = notes(&[
        modern(1, "server/discover", json!({})),
        modern(2, "resources/read", json!({"uri": "notes://99"})),
        modern(3, "resources/read", json!({"uri": "notes://1"})),
        modern(4, "ping", json!({})),
        json!({"jsonrpc": "2.0", "id": 5, "method": "tools/list", "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": MODERN}}}),
    ])
    .await;
    assert_eq!(answers[0]["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "nexus-demo-notes");
    assert_eq!(answers[1]["error"]["code"], -32602);
    assert_eq!((&answers[2]["result"]["ttlMs"], &answers[2]["result"]["cacheScope"]), (&json!(0), &json!("private")));
    assert_eq!(answers[3]["error"]["code"], -32601);
    assert_eq!(answers[4]["error"]["code"], -32602, "the client's capabilities are missing");
}

async fn sdk_client(lifecycle: ClientLifecycleMode, client: Client, at: SocketAddr) -> RunningService<RoleClient, ()> {
    let transport = StreamableHttpClientTransport::with_client(client, StreamableHttpClientTransportConfig::with_uri(url(at)));
    ().serve_with_lifecycle(transport, lifecycle).await.unwrap()
}

#[tokio::test]
async fn an_sdk_client_of_either_era_works_with_every_upstream() {
    let (demo, folder) = demo().await;
    let modern = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    for lifecycle in [ClientLifecycleMode::Initialize, modern] {
        let calendar = sdk_client(lifecycle.clone(), client(&folder, "calendar-ca.pem", false), demo.upstreams.calendar).await;
        assert_eq!(calendar.list_all_tools().await.unwrap().len(), 3);
        let inventory = sdk_client(lifecycle.clone(), client(&folder, "inventory-ca.pem", true), demo.upstreams.inventory).await;
        let arguments = json!({"sku": "KBD-11"}).as_object().cloned().unwrap();
        let reserved = inventory.call_tool(CallToolRequestParams::new("reserve_item").with_arguments(arguments)).await.unwrap();
        assert_eq!(reserved.structured_content.unwrap()["name"], "Mechanical keyboard");

        let (near, far) = tokio::io::duplex(64 * 1024);
        let (stdin, stdout) = tokio::io::split(far);
        let server = tokio::spawn(demo::stdio::run("notes", stdin, stdout));
        let notes = ().serve_with_lifecycle(near, lifecycle).await.unwrap();
        assert_eq!(notes.list_all_resources().await.unwrap().len(), 2);
        assert_eq!(notes.list_all_prompts().await.unwrap().len(), 1);
        notes.cancel().await.unwrap();
        server.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_written_configuration_is_accepted_and_names_each_upstreams_own_trust() {
    let (demo, folder) = demo().await;
    let loaded = nexus::config::load(&demo.config_path, &SystemSources);
    assert_eq!(loaded.problems, []);
    let config = loaded.config.unwrap();
    assert_eq!(config.server.listen_address, SocketAddr::from(([127, 0, 0, 1], 8000)));
    assert_eq!(config.admin.map(|admin| admin.listen_address), Some(SocketAddr::from(([127, 0, 0, 1], 8001))));
    let endpoints: Vec<&EndpointConfig> = config.mcp.upstreams.iter().map(|upstream| &upstream.endpoint).collect();
    let [EndpointConfig::Stdio(notes), EndpointConfig::Http(calendar), EndpointConfig::Http(inventory)] = &endpoints[..] else {
        panic!("one process and two URLs expected, got {endpoints:?}");
    };
    assert_eq!(notes.cmd, ["/opt/\"my\" tools\\nexus", "demo-upstream", "notes"]);
    assert_eq!(calendar.url.as_str(), url(demo.upstreams.calendar));
    let certs = folder.path().join("certs");
    let trusts = |http: &HttpConfig| http.tls.as_ref().and_then(|tls| tls.root_ca_cert_path.clone());
    assert_eq!(trusts(calendar), Some(certs.join("calendar-ca.pem")));
    assert_eq!(trusts(inventory), Some(certs.join("inventory-ca.pem")));
}

#[tokio::test]
async fn of_all_keys_only_the_clients_is_written_and_only_for_us() {
    let (_demo, folder) = demo().await;
    let files = fs::read_dir(folder.path().join("certs")).unwrap().map(Result::unwrap);
    let secret: Vec<_> = files.filter(|file| fs::read_to_string(file.path()).unwrap().contains("PRIVATE KEY")).collect();
    let [key] = &secret[..] else { panic!("one key expected, found {secret:?}") };
    assert_eq!(key.file_name(), "inventory-client-key.pem");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_folder_is_reused_but_somebody_elses_configuration_is_left_alone() {
    let (first, folder) = demo().await;
    drop(first);
    drop(start(folder.path()).await.unwrap());

    let config = folder.path().join("nexus.toml");
    fs::write(&config, "[server]\n").unwrap();
    let refused = start(folder.path()).await.unwrap_err();
    assert!(matches!(refused, DemoError::NotOurs { .. }), "{refused}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "[server]\n");
}

#[tokio::test]
async fn the_admin_listener_never_gets_the_address_of_the_endpoint() {
    for taken in [None, Some(8000), Some(8001)] {
        let taken = taken.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let [listen, admin] = demo::free_addresses(taken).await.unwrap();
        assert!(listen != admin && Some(admin) != taken && admin.ip().is_loopback(), "{taken:?}: {listen}, {admin}");
    }
}

#[tokio::test]
async fn without_a_folder_a_private_one_is_made_and_removed() {
    let parent = tempfile::tempdir().unwrap();
    let sources = MemorySources::default().with_env("TMPDIR", parent.path().to_str().unwrap());
    let [listen, admin] = demo::free_addresses(None).await.unwrap();
    let exe = Path::new("/usr/bin/nexus");
    let demo = demo::start(&DemoOptions { dir: None, exe, listen, admin, now: SystemClock.now() }, &sources).await.unwrap();
    let folder = demo.config_path.parent().unwrap().to_owned();
    assert_eq!(folder.parent(), Some(parent.path()));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    drop(demo);
    assert!(!folder.exists());
}

#[tokio::test]
async fn the_banner_shows_the_endpoint_and_a_block_for_every_client() {
    let (demo, _folder) = demo().await;
    let context = SnippetContext {
        exe: "/usr/bin/nexus".into(),
        config: demo.config_path.clone(),
        endpoint: "http://127.0.0.1:8000/mcp".parse().unwrap(),
        name: "nexus".to_owned(),
    };
    let banner = demo.banner(&context.endpoint, &snippet::all(&context));
    for expected in
        ["MCP endpoint   http://127.0.0.1:8000/mcp\n", "claude mcp add", "\"command\": \"/usr/bin/nexus\"", "\"servers\"", "--- Cursor:"]
    {
        assert!(banner.contains(expected), "{expected} is missing from\n{banner}");
    }
}

#[tokio::test]
async fn an_unknown_upstream_is_refused_with_the_known_ones() {
    let refused = demo::stdio::run("weather", [].as_slice(), Vec::new()).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no demo upstream \"weather\"; there are notes, calendar, inventory");
}
