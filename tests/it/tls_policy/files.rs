//! Any file in place of any other: named at load, never a hang, never a weaker policy.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nexus::{
    clock::{Clock as _, SystemClock},
    config,
    reason::{Explanation, Reason},
    sources::SystemSources,
    tls::{ClientIdentityFiles, Pkcs12File, SystemCas, TlsPolicy, TlsSettings},
};
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use tempfile::TempDir;

use crate::support::pki::{Authority, Chain, Leaf, pem};

/// A folder with one good file of each kind, and bad ones.
struct Shelf {
    folder: TempDir,
}

const GOOD: [&str; 9] = ["ca.pem", "ca.der", "chain.pem", "chain.der", "key.pem", "key.der", "list.pem", "list.der", "archive.p12"];
const BAD: [&str; 8] = ["empty", "blank", "garbage", "huge", "folder", "fifo", "absent", "utf16"];

impl Shelf {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let company = Authority::root("Company CA");
        let chain = company.sign(Leaf::client("nexus"));
        let list = company.crl(&[], 2090);
        let shelf = Self { folder };
        for (name, bytes) in [
            ("ca.pem", company.pem().into_bytes()),
            ("ca.der", company.certificate().to_vec()),
            ("chain.pem", chain.pem().into_bytes()),
            ("chain.der", chain.certificates.first().unwrap().to_vec()),
            ("key.pem", chain.key_pem().into_bytes()),
            ("key.der", chain.key.secret_der().to_vec()),
            ("list.pem", pem("X509 CRL", &list).into_bytes()),
            ("list.der", list),
            ("archive.p12", archive(&chain)),
            ("empty", Vec::new()),
            ("blank", b" \r\n\t\n".to_vec()),
            ("garbage", (0..=255).cycle().take(5_000).collect()),
            ("huge", vec![b'x'; 10 * 1024 * 1024]),
            ("utf16", [0xff, 0xfe].into_iter().chain(b"-----BEGIN".iter().flat_map(|b| [*b, 0])).collect()),
        ] {
            fs::write(shelf.path(name), bytes).unwrap();
            fs::set_permissions(shelf.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        fs::create_dir(shelf.path("folder")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(shelf.path("fifo")).status().unwrap();
        assert!(made.success());
        shelf
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn archive(chain: &Chain) -> Vec<u8> {
    let leaf = Certificate::from_der(chain.certificates.first().unwrap()).unwrap();
    let key = PrivateKey::from_der(chain.key.secret_der()).unwrap();
    let mut store = KeyStore::new();
    store.add_entry("nexus", KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new("id", key, [leaf])));
    store.writer("right").encryption_iterations(10).mac_iterations(10).write().unwrap()
}

/// The keys that name a file, what sets them, and the files that are good there.
type Place = (&'static str, fn(&mut TlsSettings, &Shelf, PathBuf), &'static [&'static str]);

const PLACES: [Place; 6] = [
    ("root_ca_cert_path", |s, _, path| s.root_ca_cert_path = Some(path), &["ca.pem", "ca.der", "chain.pem", "chain.der"]),
    ("intermediates_path", |s, _, path| s.intermediates_path = Some(path), &["ca.pem", "ca.der", "chain.pem", "chain.der"]),
    (
        "client_cert_path",
        |s, shelf, path| s.client_identity = Some(ClientIdentityFiles { cert_path: path, key_path: shelf.path("key.pem") }),
        &["chain.pem", "chain.der"],
    ),
    (
        "client_key_path",
        |s, shelf, path| s.client_identity = Some(ClientIdentityFiles { cert_path: shelf.path("chain.pem"), key_path: path }),
        &["key.pem", "key.der"],
    ),
    (
        "client_pkcs12_path",
        |s, _, path| s.client_pkcs12 = Some(Pkcs12File { path, password: Some(nexus::secret::Secret::new("right")), alias: None }),
        &["archive.p12"],
    ),
    ("crl_paths", |s, _, path| s.revocation.crl_paths = vec![path], &["list.pem", "list.der"]),
];

fn load(settings: &TlsSettings) -> Result<TlsPolicy, Explanation> {
    let nobody = || -> Arc<SystemCas> { panic!("the trust file was given: nobody else is asked") };
    settings.load("crm.test", &SystemSources, &nobody, SystemClock.now())
}

fn settings(shelf: &Shelf) -> TlsSettings {
    TlsSettings { root_ca_cert_path: Some(shelf.path("ca.pem")), ..TlsSettings::default() }
}

#[test]
fn any_file_in_place_of_any_other_is_named_and_takes_the_upstream_down() {
    let shelf = Shelf::new();
    for (key, set, good) in PLACES {
        for name in GOOD.iter().chain(&BAD) {
            let path = shelf.path(name);
            let mut settings = settings(&shelf);
            set(&mut settings, &shelf, path.clone());
            let started = Instant::now();
            let outcome = load(&settings);
            assert!(started.elapsed() < Duration::from_secs(5), "{name} as {key} took {:?}", started.elapsed());
            match outcome {
                Ok(_) => assert!(good.contains(name), "{name} as {key} was taken"),
                Err(refused) => {
                    assert!(!good.contains(name), "{name} as {key}: {refused}");
                    assert!(refused.reason.code().starts_with("local_"), "{name} as {key}: {refused}");
                    let names_both = refused.detail.contains(key) && refused.detail.contains(path.to_str().unwrap());
                    assert!(names_both, "{name} as {key}: {refused}");
                    assert!(!refused.remedy.is_empty());
                }
            }
        }
    }
}

/// The keys of a listener, what is written beside each, and the files that are good there.
const LISTENERS: [(&str, &str, &[&str]); 5] = [
    ("certificate", "key = \"{folder}/key.pem\"", &["chain.pem", "chain.der"]),
    ("key", "certificate = \"{folder}/chain.pem\"", &["key.pem", "key.der"]),
    ("pkcs12", "pkcs12_password = \"right\"", &["archive.p12"]),
    ("client_ca", "certificate = \"{folder}/chain.pem\"\nkey = \"{folder}/key.pem\"", &["ca.pem", "ca.der", "chain.pem", "chain.der"]),
    (
        "client_crl_paths",
        "certificate = \"{folder}/chain.pem\"\nkey = \"{folder}/key.pem\"\nclient_ca = \"{folder}/ca.pem\"",
        &["list.pem", "list.der"],
    ),
];

#[test]
fn any_file_in_place_of_any_other_is_named_and_keeps_a_listener_from_its_start() {
    let shelf = Shelf::new();
    for (key, beside, good) in LISTENERS {
        for name in GOOD.iter().chain(&BAD) {
            let path = shelf.path(name);
            let value = if key == "client_crl_paths" { format!("[{path:?}]") } else { format!("{path:?}") };
            let beside = beside.replace("{folder}", shelf.folder.path().to_str().unwrap());
            let text = format!("[server.tls]\n{key} = {value}\n{beside}\n");
            let loaded = config::load_text(&text, "/etc/nexus.toml".as_ref(), None, &SystemSources);
            let settings = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.problems)).server.tls.unwrap();
            let started = Instant::now();
            let outcome = settings.load(&SystemSources, SystemClock.now());
            assert!(started.elapsed() < Duration::from_secs(5), "{name} as {key} took {:?}", started.elapsed());
            match outcome {
                Ok(_) => assert!(good.contains(name), "{name} as {key} was taken"),
                Err(refused) => {
                    assert!(!good.contains(name), "{name} as {key}: {refused}");
                    let names_both = refused.what.contains(key) && refused.what.contains(path.to_str().unwrap());
                    assert!(names_both && refused.key.starts_with("server.tls."), "{name} as {key}: {refused}");
                    assert!(!refused.remedy.is_empty() && !refused.remedy.contains("client_cert_path"), "{name} as {key}: {refused}");
                    assert!(refused.at.is_some(), "{name} as {key}: {refused}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_regular_file_is_told_as_such() {
    let shelf = Shelf::new();
    for (name, reason, told) in [
        ("fifo", Reason::LocalUnreadable, "not a regular file"),
        ("folder", Reason::LocalUnreadable, "not a regular file"),
        ("huge", Reason::LocalUnreadable, "larger than 1 MiB"),
        ("absent", Reason::LocalMissing, "No such file"),
        ("empty", Reason::LocalInvalid, "it is empty"),
        ("blank", Reason::LocalInvalid, "it is empty"),
        ("utf16", Reason::LocalInvalid, "UTF-16"),
    ] {
        let refused = load(&TlsSettings { root_ca_cert_path: Some(shelf.path(name)), ..TlsSettings::default() }).unwrap_err();
        assert_eq!(refused.reason, reason, "{name}: {refused}");
        assert!(refused.detail.contains(told), "{name}: {refused}");
    }
    let device = load(&TlsSettings { root_ca_cert_path: Some("/dev/zero".into()), ..TlsSettings::default() }).unwrap_err();
    assert!(device.detail.contains("not a regular file"), "{device}");
}

#[test]
fn an_unreadable_file_is_told_by_its_cause() {
    let shelf = Shelf::new();
    let path = shelf.path("ca.pem");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    // Root reads everything, whatever the mode.
    let expected = if fs::read(&path).is_ok() { None } else { Some(Reason::LocalUnreadable) };
    assert_eq!(load(&settings(&shelf)).err().map(|e| e.reason), expected);
}

#[test]
fn the_files_of_the_settings_are_all_that_is_read() {
    let shelf = Shelf::new();
    let mut all = TlsSettings::default();
    for (_, set, good) in PLACES.iter().filter(|(key, ..)| *key != "client_pkcs12_path") {
        set(&mut all, &shelf, shelf.path(good[0]));
    }
    let mut named: Vec<&Path> = all.files();
    named.sort();
    named.dedup();
    let expected = ["ca.pem", "chain.pem", "key.pem", "list.pem"].map(|name| shelf.path(name));
    assert_eq!(named, expected.iter().map(PathBuf::as_path).collect::<Vec<_>>());
}

/// Whoever may write to the folder could otherwise show a private file to the check, and another one to the reader.
#[test]
fn what_is_judged_and_what_is_read_is_one_file_even_while_it_is_exchanged() {
    use std::{
        fs,
        os::unix::fs::PermissionsExt as _,
        sync::atomic::{AtomicBool, Ordering},
    };

    use nexus::sources::{Sources as _, SystemSources};

    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let put = |mode: u32| {
        fs::write(at("next"), format!("{mode:o}")).unwrap();
        fs::set_permissions(at("next"), fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(at("next"), at("key")).unwrap();
    };
    put(0o600);
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                put(0o644);
                put(0o600);
            }
        });
        for _ in 0..2_000 {
            let (bytes, facts) = SystemSources.read(&at("key")).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), format!("{:o}", facts.mode & 0o777));
        }
        over.store(true, Ordering::Relaxed);
    });
}
