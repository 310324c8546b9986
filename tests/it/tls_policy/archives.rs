//! Client identities in PKCS#12 archives and encrypted keys, as OpenSSL writes them.

use std::{path::Path, process::Command};

use nexus::{
    reason::Reason,
    secret::Secret,
    tls::{Pkcs12File, TlsPolicy},
};
use tempfile::TempDir;

use super::{Upstream, get};
use crate::support::{
    pki::{Authority, Chain, Leaf},
    tls_peer::{Peer, mtls_config},
};

/// A client of `ca` in PEM files, in a folder of its own.
struct Client {
    folder: TempDir,
    chain: Chain,
}

impl Client {
    fn of(ca: &Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chain = ca.sign(Leaf::client("nexus"));
        std::fs::write(folder.path().join("chain.pem"), chain.pem() + &ca.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), chain.key_pem()).unwrap();
        Self { folder, chain }
    }

    /// What `openssl ARGUMENTS -out …` writes, with the password `right` where one is needed.
    fn openssl(&self, arguments: &str) -> Vec<u8> {
        let out = self.folder.path().join("out");
        let done = Command::new("openssl").args(arguments.split(' ')).args([Path::new("-out"), &out]).current_dir(&self.folder).output();
        let done = done.expect("openssl is installed: scripts/test does it");
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
        std::fs::read(out).unwrap()
    }

    fn archive(&self, arguments: &str) -> Vec<u8> {
        self.openssl(
            &format!("pkcs12 -export -inkey key.pem -in chain.pem -name nexus -passout pass:right {arguments}")
                .trim_end()
                .replace("  ", " "),
        )
    }
}

fn with_archive(ca: &Authority, bytes: Vec<u8>, password: Option<&str>) -> Upstream {
    let archive = Pkcs12File { path: "client.p12".into(), password: password.map(Secret::new), alias: None };
    Upstream::trusting(ca).file("client.p12", bytes).set(|s| s.client_pkcs12 = Some(archive))
}

fn with_key(ca: &Authority, client: &Client, key: Vec<u8>, password: Option<&str>) -> Upstream {
    Upstream::trusting(ca).identity(&client.chain).file("client.key", key).set(|s| s.client_key_password = password.map(Secret::new))
}

fn refused(loaded: Result<TlsPolicy, nexus::reason::Explanation>) -> (Reason, String) {
    let refused = loaded.expect_err("this must not be used");
    (refused.reason, format!("{} | {}", refused.detail, refused.remedy))
}

#[tokio::test]
async fn a_server_sees_the_identity_of_an_archive() {
    let (servers, clients) = (Authority::root("Server CA"), Authority::root("Client CA").intermediate("Client Issuing CA"));
    let client = Client::of(&clients);
    let peer = Peer::tls(mtls_config(&servers.sign(Leaf::server(&["localhost"])), &clients, rustls::ALL_VERSIONS)).await;
    for (arguments, is_warned) in [
        ("", false),
        ("-keypbe AES-128-CBC -certpbe AES-192-CBC -macalg sha512", false),
        ("-keypbe NONE -certpbe NONE", false),
        ("-macalg sha1", true),
        ("-legacy", true),
        ("-legacy -descert", true),
    ] {
        let upstream = with_archive(&servers, client.archive(arguments), Some("right"));
        get(&upstream.client("localhost", &peer)).await.unwrap_or_else(|e| panic!("{arguments}: {e}"));
        assert_eq!(peer.shown().last().unwrap().client.as_deref(), Some("CN=nexus"), "{arguments}");
        let warnings = upstream.load("localhost").unwrap().warnings().join("\n");
        assert_eq!(warnings.contains("outdated algorithms"), is_warned, "{arguments}: {warnings}");
    }
}

#[test]
fn an_archive_that_cannot_be_trusted_or_opened_is_refused() {
    let ca = Authority::root("Company CA");
    let client = Client::of(&ca);
    let good = client.archive("");
    let without_key = client.openssl("pkcs12 -export -nokeys -in chain.pem -passout pass:right");
    for (row, bytes, password, reason, told) in [
        ("no MAC", client.archive("-nomac"), Some("right"), Reason::LocalInvalid, "no integrity check"),
        (
            "no MAC, nothing encrypted",
            client.archive("-nomac -keypbe NONE -certpbe NONE"),
            None,
            Reason::LocalInvalid,
            "no integrity check",
        ),
        ("wrong password", good.clone(), Some("wrong"), Reason::LocalPassword, "the password is wrong"),
        ("no password", good.clone(), None, Reason::LocalPassword, "none is configured"),
        ("too much work", client.archive("-iter 1000001"), Some("right"), Reason::LocalInvalid, "more work"),
        ("Camellia", client.archive("-keypbe CAMELLIA-256-CBC"), Some("right"), Reason::LocalInvalid, "openssl pkcs12 -in client.p12"),
        ("no key", without_key, Some("right"), Reason::LocalInvalid, "no private key"),
        ("cut short", good[..good.len() - 9].to_vec(), Some("right"), Reason::LocalInvalid, "client_pkcs12_path client.p12"),
    ] {
        let (found, said) = refused(with_archive(&ca, bytes, password).load("localhost"));
        assert_eq!(found, reason, "{row}: {said}");
        assert!(said.contains(told), "{row}: {said}");
    }
}

#[tokio::test]
async fn a_server_sees_the_identity_of_an_encrypted_key() {
    let ca = Authority::root("Company CA");
    let client = Client::of(&ca);
    let peer = Peer::tls(mtls_config(&ca.sign(Leaf::server(&["localhost"])), &ca, rustls::ALL_VERSIONS)).await;
    for arguments in ["-v2 aes-256-cbc", "-v2 aes-128-cbc -v2prf hmacWithSHA512", "-scrypt", "-v2 aes-256-cbc -outform DER"] {
        let key = client.openssl(&format!("pkcs8 -topk8 -in key.pem -passout pass:right {arguments}"));
        get(&with_key(&ca, &client, key.clone(), Some("right")).client("localhost", &peer))
            .await
            .unwrap_or_else(|e| panic!("{arguments}: {e}"));
        for password in [None, Some("wrong")] {
            let (reason, said) = refused(with_key(&ca, &client, key.clone(), password).load("localhost"));
            assert_eq!(reason, Reason::LocalPassword, "{arguments}: {said}");
        }
    }
    assert_eq!(peer.shown().len(), 4);
}

#[test]
fn a_key_in_an_encryption_that_is_not_read_comes_with_the_command_that_converts_it() {
    let ca = Authority::root("Company CA");
    let client = Client::of(&ca);
    for arguments in [
        "pkcs8 -topk8 -in key.pem -v2 des3 -passout pass:right",
        "pkcs8 -topk8 -in key.pem -v1 PBE-SHA1-3DES -passout pass:right",
        "pkcs8 -topk8 -in key.pem -v2 aes-256-cbc -iter 1000001 -passout pass:right",
        "ec -in key.pem -aes256 -passout pass:right",
    ] {
        let (reason, said) = refused(with_key(&ca, &client, client.openssl(arguments), Some("right")).load("localhost"));
        assert_eq!(reason, Reason::LocalInvalid, "{arguments}: {said}");
        assert!(said.contains("client_key_path client.key") && said.contains("openssl pk"), "{arguments}: {said}");
    }
}

#[test]
fn a_needless_password_is_warned_about_and_two_identities_are_refused() {
    let ca = Authority::root("Company CA");
    let client = Client::of(&ca);
    let policy = with_key(&ca, &client, client.chain.key_pem().into_bytes(), Some("needless")).load("localhost").unwrap();
    assert!(policy.warnings().iter().any(|w| w.contains("is not encrypted")), "{:?}", policy.warnings());
    let both = with_archive(&ca, client.archive(""), Some("right")).identity(&client.chain);
    assert_eq!(refused(both.load("localhost")).0, Reason::LocalInvalid);
}

#[test]
fn no_password_shows_anywhere() {
    const CANARY: &str = "canary-7f3c";
    let ca = Authority::root("Company CA");
    let client = Client::of(&ca);
    let archive = with_archive(&ca, client.archive(""), Some(CANARY));
    let key = with_key(&ca, &client, client.openssl("pkcs8 -topk8 -in key.pem -passout pass:right"), Some(CANARY));
    for upstream in [archive, key] {
        let refused = upstream.load("localhost").unwrap_err();
        let shown = format!("{:?} {refused:?} {refused}", upstream.settings);
        assert!(!shown.contains(CANARY), "{shown}");
    }
}
