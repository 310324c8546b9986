//! What `[server.tls]` accepts, what it refuses, and how the files behind it are told of.

use std::{os::unix::fs::OpenOptionsExt as _, path::Path};

use nexus::{
    config::{self, Loaded},
    problem::Severity,
    sources::{FileFacts, MemorySources},
};

use super::*;
use crate::support::{
    nexus::Nexus,
    pki::{Chain, Leaf},
    program::Program,
};

fn load(lines: &str) -> Loaded {
    config::load_text(&format!("[server]\n{lines}"), "/etc/nexus.toml".as_ref(), None, &MemorySources::default())
}

fn errors(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).map(ToString::to_string).collect()
}

#[test]
fn half_a_table_is_refused_with_its_line() {
    let pair = "certificate = \"a\"\nkey = \"b\"";
    for (tls, part) in [
        (String::new(), "TLS without a certificate"),
        ("certificate = \"a\"".to_owned(), "a certificate without its key"),
        ("key = \"a\"".to_owned(), "a key without its certificate"),
        (format!("{pair}\nclient_auth = \"required\""), "client_auth without client_ca"),
        (format!("{pair}\nclient_auth = \"maybe\"\nclient_ca = \"c\""), "unknown value"),
        (format!("{pair}\nmin_version = \"1.1\""), "unknown value"),
        (format!("{pair}\nhsts = \"soon\""), "this is no duration"),
        (format!("{pair}\nhsts = \"20000d\""), "out of range"),
        (format!("{pair}\ncert = \"a\""), "unknown key"),
        (format!("{pair}\npkcs12 = \"c\""), "pkcs12 together with certificate and key"),
        (format!("{pair}\npkcs12_password = \"c\""), "pkcs12_password without pkcs12"),
        (format!("{pair}\nclient_crl_paths = [\"c\"]"), "client_crl_paths without client_ca"),
        ("pkcs12 = \"a\"\nkey_password = \"b\"".to_owned(), "key_password without key"),
    ] {
        let errors = errors(&load(&format!("[server.tls]\n{tls}")));
        assert!(matches!(errors.as_slice(), [only] if only.contains(part) && only.contains("nexus.toml:")), "{tls}\n{errors:?}");
    }
}

#[test]
fn required_client_certificates_say_who_is_calling_and_optional_ones_do_not() {
    let exposed = |keys: &str| {
        let table = format!("[server.tls]\ncertificate = \"a\"\nkey = \"b\"\n{keys}");
        errors(&load(&format!("listen_address = \"0.0.0.0:8443\"\npublic_url = \"https://mcp.example.com\"\n{table}"))).concat()
    };
    assert_eq!(exposed("client_ca = \"c\""), "");
    assert_eq!(exposed("client_ca = \"c\"\nclient_auth = \"required\""), "");
    for keys in ["", "client_ca = \"c\"\nclient_auth = \"optional\""] {
        assert!(exposed(keys).contains("nothing identifies callers"), "{keys}");
    }
}

#[test]
fn a_public_url_without_https_is_warned_about() {
    let loaded = load("public_url = \"http://mcp.example.com\"\n[server.tls]\ncertificate = \"a\"\nkey = \"b\"");
    assert!(loaded.problems.iter().any(|problem| problem.what.contains("begins with http://")), "{:?}", loaded.problems);
    assert!(loaded.config.is_some());
}

#[tokio::test]
async fn a_key_that_is_open_to_others_is_refused_unless_told_otherwise() {
    let pki = Pki::new();
    let nexus: Nexus = pki.serve(gateway(), "").start_at_once().await;
    let chain = pki.server();
    let open = FileFacts { mode: 0o644, owner: 0, group: 0, projected_volume: false, effective_user: 0, group_is_ours: true };
    let files = pki.files(&chain).with_file_and_facts("/tls/key.pem", chain.key_pem(), open);
    let problem = nexus.tls().reload(&files, NOW).unwrap_err();
    assert_eq!(problem.key, "server.tls.key");
    assert!(problem.what.contains("everybody can use it") && problem.remedy.contains("key_permissions = \"warn\""), "{problem}");
    let volume = FileFacts { projected_volume: true, ..open };
    nexus.tls().reload(&pki.files(&chain).with_file_and_facts("/tls/key.pem", chain.key_pem(), volume), NOW).unwrap();
    let said = nexus.tls().warnings().iter().map(ToString::to_string).collect::<String>();
    assert!(said.contains("defaultMode: 0400"), "{said}");
    let lax = pki.serve(gateway(), ", key_permissions = \"warn\"").start_at_once().await;
    lax.tls().reload(&files, NOW).unwrap();
    assert!(lax.tls().warnings().iter().any(|problem| problem.what.contains("everybody can use it")));
}

/// An archive as `openssl pkcs12 -export` makes it.
fn archive(chain: &Chain, password: &str) -> Vec<u8> {
    let certificates = chain.certificates.iter().map(|der| p12_keystore::Certificate::from_der(der).unwrap());
    let key = p12_keystore::PrivateKey::from_der(chain.key.secret_der()).unwrap();
    let mut store = p12_keystore::KeyStore::new();
    let entry = p12_keystore::PrivateKeyChain::new("id", key, certificates);
    store.add_entry("server", p12_keystore::KeyStoreEntry::PrivateKeyChain(entry));
    store.writer(password).write().unwrap()
}

#[tokio::test]
async fn an_archive_serves_as_well_as_two_files() {
    let pki = Pki::new();
    let chain = pki.server();
    let keys = "tls = { pkcs12 = \"/tls/server.pfx\", pkcs12_password = \"{{ env.PFX }}\" }";
    let nexus = gateway().file("/tls/server.pfx", archive(&chain, "right")).env("PFX", "right").server(keys).start_at_once().await;
    let served = pki.client().connect(nexus.address).await.unwrap().served.clone();
    assert_eq!(served.as_ref(), chain.certificates.first());
    let renewed = pki.server();
    let with = |bytes: Vec<u8>| MemorySources::default().with_file("/tls/server.pfx", bytes);
    nexus.tls().reload(&with(archive(&renewed, "right")), NOW).unwrap();
    for (bytes, words) in
        [(archive(&renewed, "other"), "the password is wrong"), (chain.pem().into_bytes(), "PEM text"), (vec![0x30, 3, 2, 1, 3], "pkcs12")]
    {
        let problem = nexus.tls().reload(&with(bytes), NOW).unwrap_err();
        assert_eq!(problem.key, "server.tls.pkcs12");
        assert!(problem.what.contains(words), "{problem}");
        assert!(!problem.remedy.contains("client_"), "{problem}");
    }
    let served = pki.client().connect(nexus.address).await.unwrap().served.clone();
    assert_eq!(served.as_ref(), renewed.certificates.first());
}

/// For its owner only, as a key has to be.
fn write_key(chain: &Chain, path: &Path) {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, chain.key_pem().as_bytes()).unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_used_ends_the_start_with_64_and_its_line() {
    let pki = Pki::new();
    let chain = pki.servers.sign(Leaf::server(&["localhost"]).expired());
    let written = gateway().server("tls = { certificate = \"server.pem\", key = \"key.pem\" }").write().await;
    for (file, words) in [(None, "server.tls.certificate"), (Some(chain.pem()), "expired")] {
        if let Some(pem) = file {
            std::fs::write(written.folder.path().join("server.pem"), pem).unwrap();
            write_key(&chain, &written.folder.path().join("key.pem"));
        }
        for command in ["serve", "check"] {
            let mut program = Program::start(&written, command, "warn", &[]);
            assert_eq!(program.ends().await, Some(64), "{command}");
            if command == "serve" {
                program.says(words).await;
                program.says("nexus.toml:3").await;
                program.says("  fix: ").await;
            }
        }
    }
}

#[tokio::test]
async fn the_start_says_https_and_the_policy_in_words() {
    let pki = Pki::new();
    let chain = pki.server();
    let tls = "tls = { certificate = \"server.pem\", key = \"key.pem\", client_ca = \"clients.pem\", min_version = \"1.3\" }";
    let written = gateway().server(tls).write().await;
    let folder = written.folder.path();
    std::fs::write(folder.join("server.pem"), chain.pem()).unwrap();
    std::fs::write(folder.join("clients.pem"), pki.clients.pem()).unwrap();
    write_key(&chain, &folder.join("key.pem"));
    let program = Program::start(&written, "serve", "warn", &[]);
    program.says("listening on https://127.0.0.1:").await;
    program.says("/mcp · TLS 1.3 only, client certificates required (clients.pem)").await;
}
