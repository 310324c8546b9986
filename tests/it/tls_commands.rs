//! `nexus tls` and `nexus check --connect`, as somebody types them.

#![allow(clippy::unwrap_used, reason = "a program that cannot be run has failed its test")]

use std::{path::Path, process::Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{
    pki::{Authority, Chain, Leaf},
    tls_peer::{Peer, server_config},
};

/// A folder with files, and the program run in it.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn with(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.path().join(name), text).unwrap();
        self
    }

    /// A key is for its owner alone.
    fn with_key(self, name: &str, chain: &Chain) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let desk = self.with(name, chain.key_pem());
        std::fs::set_permissions(desk.path().join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        desk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    async fn nexus(&self, words: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
        command.args(words).current_dir(self.path()).env_remove("NEXUS_CONFIG_PATH").env("HOME", self.path()).kill_on_drop(true);
        let Output { status, stdout, stderr } = command.output().await.unwrap();
        Said { code: status.code().unwrap(), out: String::from_utf8(stdout).unwrap(), err: String::from_utf8(stderr).unwrap() }
    }
}

#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn url(peer: &Peer) -> String {
    format!("https://localhost:{}", peer.address.port())
}

fn days(count: i64) -> impl FnOnce(&mut rcgen::CertificateParams) {
    // Some hours more, so that the day does not turn during the test.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let end = i64::try_from(now).unwrap() + count * 86_400 + 20_000;
    let end = time::OffsetDateTime::from_unix_timestamp(end).unwrap();
    move |params| params.not_after = end
}

#[tokio::test]
async fn a_url_needs_no_file_and_the_replacements_decide() {
    let company = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&["localhost"])))).await;
    let desk = Desk::new().with("ca.pem", company.pem()).with("other.pem", Authority::root("Other CA").pem());
    let good = desk.nexus(&["tls", "probe", &url(&peer), "--root-ca", "ca.pem"]).await;
    assert_eq!(good.code, 0, "{good:?}");
    for part in ["verdict   ok", "TLS 1.3", "CN=Company CA", "└─ CN=a server", "days left", "pin      sha256/"] {
        assert!(good.out.contains(part), "{part:?} is missing in\n{}", good.out);
    }
    let bad = desk.nexus(&["tls", "probe", &url(&peer), "--root-ca", "other.pem"]).await;
    assert_eq!(bad.code, 1, "{bad:?}");
    assert!(bad.out.contains("error tls_unknown_ca: ") && bad.out.contains("    fix: "), "{}", bad.out);
    let named = desk.nexus(&["tls", "probe", &url(&peer), "--root-ca", "ca.pem", "--server-name", "crm.corp"]).await;
    assert!(named.out.contains("tls_hostname_mismatch"), "{named:?}");
    assert!(peer.arrived().is_empty());
}

#[tokio::test]
async fn the_json_report_has_the_documented_shape() {
    let company = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&["localhost", "10.0.0.1"]).expired()))).await;
    let said =
        Desk::new().with("ca.pem", company.pem()).nexus(&["tls", "probe", &url(&peer), "--root-ca", "ca.pem", "--format", "json"]).await;
    assert_eq!(said.code, 1);
    let report = said.json();
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&report), ["upstreams"]);
    let upstream = &report["upstreams"][0];
    let mut expected = ["name", "url", "verdict", "policy", "tls", "chain", "findings"];
    expected.sort_unstable();
    let mut found = keys(upstream);
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(upstream["verdict"], "fail");
    let mut tls = keys(&upstream["tls"]);
    tls.sort_unstable();
    assert_eq!(tls, ["alpn", "cipher", "client_cert_requested", "group", "version"]);
    let leaf = &upstream["chain"][0];
    let mut link = keys(leaf);
    link.sort_unstable();
    assert_eq!(link, ["days_left", "issuer", "not_after", "not_before", "position", "sans", "sha256", "spki_sha256", "subject"]);
    assert_eq!((&leaf["position"], &leaf["not_after"]), (&"leaf".into(), &"2021-01-01T00:00:00Z".into()));
    assert_eq!(leaf["sans"], serde_json::json!(["localhost", "10.0.0.1"]));
    assert!(leaf["days_left"].as_i64().unwrap() < 0);
    let mut finding = keys(&upstream["findings"][0]);
    finding.sort_unstable();
    assert_eq!(finding, ["code", "detail", "key", "remedy", "severity"]);
    assert_eq!((&upstream["findings"][0]["code"], &upstream["findings"][0]["severity"]), (&"tls_expired".into(), &"error".into()));
}

#[tokio::test]
async fn a_certificate_that_ends_soon_fails_only_where_that_was_asked() {
    let company = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&["localhost"]).set(days(10))))).await;
    let desk = Desk::new().with("ca.pem", company.pem());
    for (within, code) in [("14d", 1), ("7d", 0)] {
        let probe = ["tls", "probe", &url(&peer), "--root-ca", "ca.pem", "--fail-within", within];
        let said = desk.nexus(&probe).await;
        assert_eq!((said.code, said.out.contains("error tls_expiring: ")), (code, code == 1), "{within}: {said:?}");
        let said = desk.nexus(&[&probe[..], &["--format", "json"]].concat()).await;
        let report = &said.json()["upstreams"][0];
        if code == 0 {
            assert_eq!((said.code, &report["verdict"], &report["findings"]), (0, &json!("ok"), &json!([])), "{report}");
        } else {
            let finding = &report["findings"][0];
            assert_eq!((said.code, &report["verdict"]), (1, &json!("fail")));
            assert_eq!((&finding["code"], &finding["severity"]), (&json!("tls_expiring"), &json!("error")));
            assert!(finding["detail"].as_str().unwrap().contains("10 days left"), "{finding}");
        }
    }
    let nonsense = desk.nexus(&["tls", "probe", &url(&peer), "--fail-within", "soon"]).await;
    assert_eq!(nonsense.code, 64, "{nonsense:?}");
}

#[tokio::test]
async fn a_saved_chain_can_be_trusted_and_is_never_overwritten() {
    let own = Leaf::server(&["localhost"]).with_ca_flag().self_signed();
    let peer = Peer::tls(server_config(&own)).await;
    let desk = Desk::new().with("other.pem", Authority::root("Other CA").pem());
    let arguments = ["tls", "probe", &url(&peer), "--root-ca", "other.pem", "--save-chain", "saved"];
    let first = desk.nexus(&arguments).await;
    assert!(first.code == 1 && first.err.contains("compare with its issuer before you trust it"), "{first:?}");
    let file = format!("saved/localhost_{}.pem", peer.address.port());
    let trusted = desk.nexus(&["tls", "probe", &url(&peer), "--root-ca", &file]).await;
    assert_eq!(trusted.code, 0, "{trusted:?}");
    let before = std::fs::read(desk.path().join(&file)).unwrap();
    let again = desk.nexus(&arguments).await;
    assert!(again.code == 1 && again.err.contains("is not overwritten"), "{again:?}");
    assert_eq!(std::fs::read(desk.path().join(&file)).unwrap(), before);
}

#[tokio::test]
async fn every_configured_upstream_is_probed_and_its_keys_are_named_in_full() {
    let company = Authority::root("Company CA");
    let good = Peer::tls(server_config(&company.sign(Leaf::server(&["localhost"])))).await;
    let stranger = Peer::tls(server_config(&Authority::root("Other CA").sign(Leaf::server(&["localhost"])))).await;
    let upstream = |name: &str, peer: &Peer| {
        format!("[mcp.servers.{name}]\nurl = \"{}/mcp\"\n[mcp.servers.{name}.tls]\nroot_ca_cert_path = \"ca.pem\"\n", url(peer))
    };
    let file = format!("{}{}[mcp.servers.child]\ncmd = [\"true\"]\n", upstream("crm", &good), upstream("erp", &stranger));
    let desk = Desk::new().with("ca.pem", company.pem()).with("nexus.toml", file);
    let all = desk.nexus(&["tls", "probe"]).await;
    assert_eq!(all.code, 1, "{all:?}");
    assert!(all.out.contains("crm  https://localhost") && all.out.contains("key: mcp.servers.erp.tls.root_ca_cert_path"), "{}", all.out);
    assert!(!all.out.contains("child"), "{}", all.out);
    assert_eq!(desk.nexus(&["tls", "probe", "crm"]).await.code, 0);
    for (wanted, words) in [("nobody", "the file has crm, erp, child"), ("child", "has no TLS"), ("http://localhost", "https://")] {
        let said = desk.nexus(&["tls", "probe", wanted]).await;
        assert!(said.code == 64 && said.err.contains(words), "{wanted}: {said:?}");
    }
    let half = desk.nexus(&["tls", "probe", "crm", "--client-cert", "ca.pem"]).await;
    assert_eq!(half.code, 64, "{half:?}");
}

#[tokio::test]
async fn check_connect_tells_the_handshake_and_the_lists_of_every_upstream() {
    let company = Authority::root("Company CA");
    let stranger = Peer::tls(server_config(&Authority::root("Other CA").sign(Leaf::server(&["localhost"])))).await;
    let file = format!("[mcp.servers.erp]\nurl = \"{}/mcp\"\n[mcp.servers.erp.tls]\nroot_ca_cert_path = \"ca.pem\"\n", url(&stranger));
    let desk = Desk::new().with("ca.pem", company.pem()).with("nexus.toml", &file);
    let said = desk.nexus(&["check", "--connect", "--format", "json"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let upstream = &said.json()["upstreams"][0];
    assert_eq!((&upstream["state"], &upstream["reason"], &upstream["tools"]), (&"down".into(), &"tls_unknown_ca".into(), &Value::Null));
    assert_eq!(upstream["tls"]["findings"][0]["code"], "tls_unknown_ca");
    let text = desk.nexus(&["check", "--connect"]).await;
    assert!(text.code == 1 && text.out.contains("erp: down") && text.out.contains("verdict   fail: tls_unknown_ca"), "{text:?}");

    let broken = desk.with("nexus.toml", format!("{file}nonsense = 1\n"));
    let before = stranger.connections();
    let said = broken.nexus(&["check", "--connect"]).await;
    assert_eq!((said.code, stranger.connections()), (64, before), "nobody is contacted with a bad file: {said:?}");
}

#[tokio::test]
async fn a_pin_is_printed_alone_and_pins_that_server() {
    let company = Authority::root("Company CA");
    let peer = Peer::tls(server_config(&company.sign(Leaf::server(&["localhost"])))).await;
    let desk = Desk::new().with("ca.pem", company.pem());
    let pin = desk.nexus(&["tls", "pin", &url(&peer), "--root-ca", "ca.pem"]).await;
    assert_eq!(pin.code, 0, "{pin:?}");
    let pin = pin.out.trim_end().to_owned();
    assert!(pin.starts_with("sha256/") && !pin.contains(char::is_whitespace), "{pin:?}");
    let other = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (pin, code) in [(pin.as_str(), 0), (other, 1)] {
        let file = format!(
            "[mcp.servers.crm]\nurl = \"{}/mcp\"\n[mcp.servers.crm.tls]\nroot_ca_cert_path = \"{}/ca.pem\"\nspki_pins = [\"{pin}\"]\n",
            url(&peer),
            desk.path().display()
        );
        let said = Desk::new().with("nexus.toml", file).nexus(&["tls", "probe", "crm"]).await;
        assert_eq!((said.code, said.out.contains("tls_pin_mismatch")), (code, code == 1), "{said:?}");
    }
    let closed = format!("https://localhost:{}", {
        let gone = Peer::plain().await;
        gone.address.port()
    });
    assert_eq!(desk.nexus(&["tls", "pin", &closed]).await.code, 1);
}

#[tokio::test]
async fn inspect_tells_thumbprints_and_whether_the_key_belongs_to_the_certificate() {
    let company = Authority::root("Company CA");
    let (client, other) = (company.sign(Leaf::client("nexus")), company.sign(Leaf::client("other")));
    let desk =
        Desk::new().with("client.pem", client.pem()).with_key("client.key", &client).with_key("other.key", &other).with("text", "hello");
    let said = desk.nexus(&["tls", "inspect", "client.pem", "client.key"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    for part in [
        "subject  CN=nexus",
        "issuer   CN=Company CA",
        "for      clients",
        "SHA-1    ",
        "SHA-256  ",
        "pin      sha256/",
        "belongs to the certificate CN=nexus",
    ] {
        assert!(said.out.contains(part), "{part:?} is missing in\n{}", said.out);
    }
    assert!(!said.out.contains("BEGIN") && !said.out.contains(client.key_pem().lines().nth(1).unwrap()), "nothing of a key is shown");
    let wrong = desk.nexus(&["tls", "inspect", "client.pem", "other.key"]).await;
    assert!(wrong.out.contains("belongs to none of the certificates"), "{wrong:?}");
    let json = desk.nexus(&["tls", "inspect", "client.pem", "client.key", "--format", "json"]).await.json();
    assert_eq!(json["files"][1]["keys"][0]["belongs_to"][0], json["files"][0]["certificates"][0]["sha256"]);
    for (file, words) in [("text", "local_invalid"), ("missing", "No such file"), (".", "not a regular file")] {
        let said = desk.nexus(&["tls", "inspect", file]).await;
        assert!(said.code == 1 && said.err.contains(words), "{file}: {said:?}");
    }
}

#[tokio::test]
async fn a_hostile_certificates_text_breaks_neither_terminal_nor_json() {
    let evil = "\"}\n# HELP x <script>\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}\r\n";
    let authority = Authority::root(evil);
    let long = "a".repeat(2_000);
    let chain = authority.sign(Leaf::server(&["localhost"]).common_name(&format!("{evil}{long}")));
    let peer = Peer::tls(server_config(&chain)).await;
    let desk = Desk::new().with("ca.pem", Authority::root("Company CA").pem()).with("evil.pem", chain.pem());
    let text = desk.nexus(&["tls", "probe", &url(&peer), "--root-ca", "ca.pem", "--save-chain", "saved"]).await;
    let inspected = desk.nexus(&["tls", "inspect", "evil.pem"]).await;
    let saved = std::fs::read_to_string(desk.path().join(format!("saved/localhost_{}.pem", peer.address.port()))).unwrap();
    for said in [&text.out, &text.err, &inspected.out, &saved] {
        assert!(!said.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{said:?}");
        assert!(said.lines().all(|line| !line.starts_with("# HELP")), "a line was forged: {said}");
        assert!(said.lines().all(|line| line.chars().count() < 1_000), "{said}");
    }
    let json = desk.nexus(&["tls", "probe", &url(&peer), "--root-ca", "ca.pem", "--format", "json"]).await;
    let subject = json.json()["upstreams"][0]["chain"][0]["subject"].as_str().unwrap().to_owned();
    assert!(subject.contains("\\u{a}") && !subject.contains(char::is_control), "{subject:?}");
}
