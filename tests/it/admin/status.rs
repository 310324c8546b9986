//! `nexus status`: the same condition, for people and scripts.

use nexus::{
    admin::AdminConfig,
    cli::status::{Asked, StatusArgs, print},
    clock::{Clock as _, SystemClock},
};
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::support::{
    fake::{legacy, modern},
    nexus::{Nexus, gateway},
    pki::{Authority, Leaf},
    tls_peer::{Peer, server_config},
};

pub(super) fn asked<'a>(nexus: &'a Nexus, admin: &'a AdminConfig) -> Asked<'a> {
    Asked { admin, sources: &*nexus.sources, now: SystemClock.now() }
}

async fn status(nexus: &Nexus, args: &StatusArgs) -> (u8, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = print(asked(nexus, &nexus.admin_config()), args, &mut out, &mut err).await.unwrap();
    (code, String::from_utf8([out, err].concat()).unwrap())
}

fn of(server: &str) -> StatusArgs {
    StatusArgs { server: Some(server.to_owned()), ..StatusArgs::default() }
}

fn explaining(tool: &str) -> StatusArgs {
    StatusArgs { explain: Some(tool.to_owned()), ..StatusArgs::default() }
}

/// Five upstreams, each with a tool in another condition.
async fn mixed() -> Nexus {
    gateway()
        .admin("token = \"s3cret\"")
        .upstream("crm", legacy().tool("search").tool("purge").raw_tool("{\"name\":\"odd\"}").toml("hide = [\"purge\"]"))
        .upstream("renamed", modern().tool("list").toml("prefix = \"r\""))
        .upstream("gone", "url = \"http://127.0.0.1:1/mcp\"")
        .start()
        .await
}

#[tokio::test]
async fn it_says_what_is_down_why_and_what_to_do_and_exits_with_1() {
    let nexus = mixed().await;
    let (code, said) = status(&nexus, &StatusArgs::default()).await;
    assert_eq!(code, 1, "{said}");
    for part in [
        "gateway: ready · 3 upstreams, 1 down",
        "upstream crm: degraded since ",
        "upstream gone: down since ",
        " · refused · ",
        "  fix: ",
        "last reload: none",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let (code, said) = status(&nexus, &of("renamed")).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("upstream renamed: up since ") && said.contains("1 tool · MCP 2026-07-28 · plain HTTP"), "{said}");
    assert!(!said.contains("gone"), "{said}");
    assert_eq!(status(&nexus, &of("gone")).await.0, 1);
    let (code, said) = status(&nexus, &of("crn")).await;
    assert_eq!((code, said.as_str()), (64, "error: the gateway has no upstream \"crn\"\n  fix: did you mean crm?\n"));
}

#[tokio::test]
async fn as_json_it_is_for_scripts() {
    let nexus = mixed().await;
    let args = StatusArgs { format: nexus::cli::status::Format::Json, ..of("gone") };
    let (code, said) = status(&nexus, &args).await;
    let whole: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, 1);
    assert_eq!(whole["ready"], true);
    assert_eq!((&whole["upstreams"][0]["name"], &whole["upstreams"][0]["reason"]), (&json!("gone"), &json!("refused")));
    assert_eq!(whole["upstreams"].as_array().unwrap().len(), 1);
    let explained = StatusArgs { format: nexus::cli::status::Format::Json, ..explaining("crm__purge") };
    let whole: Value = serde_json::from_str(&status(&nexus, &explained).await.1).unwrap();
    assert_eq!((&whole["callable"], &whole["found"][0]["visibility"]), (&json!(false), &json!("hidden")));
}

#[tokio::test]
async fn every_condition_of_a_tool_is_explained() {
    let nexus = mixed().await;
    for (tool, code, said) in [
        ("crm__search", 0, "crm__search is visible: upstream crm, where it is called search"),
        ("search", 0, "crm__search is visible: upstream crm, where it is called search"),
        ("renamed__list", 0, "r__list is visible: upstream renamed, where it is called list"),
        ("crm__purge", 1, "crm__purge is not visible: upstream crm offers it as purge, and `expose` or `hide` leave it out"),
        ("crm__odd", 1, "odd of upstream crm is quarantined, because it would break the whole list of many clients: "),
        ("crm__serch", 1, "crm__serch is unknown: no upstream offers it\n  fix: did you mean crm__search?"),
        ("gone__anything", 1, "upstream gone was not up yet, so its tools are not known: down · refused · "),
    ] {
        let (exit, words) = status(&nexus, &explaining(tool)).await;
        assert!(words.contains(said), "{tool}: {words}");
        assert_eq!(exit, code, "{tool}: {words}");
    }
}

#[tokio::test]
async fn an_unknown_tool_is_explained_by_the_upstream_that_its_prefix_names() {
    // One has not been tried to the end yet, the other is down.
    let (silent, _held) = legacy().tool("search").held("initialize");
    let gone = "url = \"http://127.0.0.1:1/mcp\"";
    let nexus = gateway().admin("").upstream("crm", silent).upstream("gone", gone).start_at_once().await;
    nexus.state("gone", "down").await;
    let (code, said) = status(&nexus, &explaining("crm__search")).await;
    assert_eq!(code, 1);
    assert!(said.contains("upstream crm was not up yet, so its tools are not known: starting"), "{said}");
    assert!(!said.contains("gone"), "{said}");
    let (_, said) = status(&nexus, &of("crm")).await;
    assert!(!said.lines().any(|line| line.ends_with("· ")), "{said}");
}

#[tokio::test]
async fn a_tool_of_a_down_upstream_is_explained_by_what_is_wrong_with_that() {
    let nexus = gateway().admin("").upstream("crm", legacy().tool("search").get_stream()).start().await;
    nexus.fake("crm").go_down();
    nexus.state("crm", "down").await;
    let (code, said) = status(&nexus, &explaining("crm__search")).await;
    assert_eq!(code, 1);
    assert!(said.contains("crm__search is listed, and its calls fail: upstream crm, where it is called search is down · "), "{said}");
    assert!(said.contains("\n  fix: "), "{said}");
}

#[tokio::test]
async fn the_wrong_token_and_an_absent_gateway_are_told_apart() {
    let nexus = mixed().await;
    let mut admin = nexus.admin_config();
    admin.token = Some(nexus::secret::Secret::new("other"));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(print(asked(&nexus, &admin), &StatusArgs::default(), &mut out, &mut err).await.unwrap(), 1);
    let said = String::from_utf8(err).unwrap();
    assert!(said.contains("does not take the token of this file") && !said.contains("other"), "{said}");

    // Bound, so that nobody else gets the port, but not listening.
    let unheard = TcpSocket::new_v4().unwrap();
    unheard.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    admin.listen_address = unheard.local_addr().unwrap();
    let mut err = Vec::new();
    assert_eq!(print(asked(&nexus, &admin), &StatusArgs::default(), &mut out, &mut err).await.unwrap(), 1);
    let said = String::from_utf8(err).unwrap();
    assert!(said.contains(&format!("no gateway answers at {}", admin.listen_address)) && said.contains("nexus serve"), "{said}");
    assert!(out.is_empty());
}

/// The program itself: found, loaded, asked, without a listener and with one.
#[tokio::test]
async fn the_command_reads_the_same_file_as_the_gateway() {
    let written = gateway().upstream("crm", legacy().tool("x")).write().await;
    let run = |written: &crate::support::nexus::Written| {
        std::fs::write(written.folder.path().join("nexus.toml"), &written.toml).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_nexus"))
            .args(["status", "-c"])
            .arg(written.folder.path().join("nexus.toml"))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = run(&written);
    assert_eq!(code, Some(64));
    assert!(said.contains("has no [admin] listener to ask\n  fix: add [admin]"), "{said}");
}

#[tokio::test]
async fn over_tls_it_trusts_the_certificate_of_the_file_and_no_other() {
    let ca = Authority::root("Company CA");
    let leaf = ca.sign(Leaf::server(&["nexus.internal"]));
    let spec = gateway()
        .file("/etc/admin.pem", leaf.pem())
        .file("/etc/admin-key.pem", leaf.key_pem())
        .admin("token = \"s3cret\"\n[admin.tls]\ncertificate = \"/etc/admin.pem\"\nkey = \"/etc/admin-key.pem\"");
    let nexus = spec.upstream("crm", legacy().tool("x")).start().await;
    let (code, said) = status(&nexus, &StatusArgs::default()).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("upstream crm: up since "), "{said}");

    // Somebody else's listener with another certificate of the same CA and name gets no token.
    let other = ca.sign(Leaf::server(&["nexus.internal"]));
    let impostor = Peer::tls(server_config(&other)).await;
    let admin = AdminConfig { listen_address: impostor.address, ..nexus.admin_config() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(print(asked(&nexus, &admin), &StatusArgs::default(), &mut out, &mut err).await.unwrap(), 1);
    let said = String::from_utf8(err).unwrap();
    assert!(said.contains("is not the one of this file"), "{said}");
    assert!(impostor.arrived().is_empty(), "nothing was sent");
}
