use std::io;

use super::*;
use crate::{
    sources::MemorySources,
    tls::{ClientIdentityFiles, KeyPermissions, MinVersion, dev},
};

const NOW: Duration = Duration::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn no_system() -> Arc<SystemCas> {
    Arc::new(SystemCas::new([], vec!["/etc/ssl: denied".to_owned()], "the test's store"))
}

/// Settings and files of an upstream with a private CA and a client certificate.
fn mutual() -> (TlsSettings, MemorySources) {
    let minted = dev::mint(&[], NOW).unwrap();
    let identity = ClientIdentityFiles { cert_path: "client.pem".into(), key_path: "client.key".into() };
    let settings =
        TlsSettings { root_ca_cert_path: Some("certs/company-ca.pem".into()), client_identity: Some(identity), ..TlsSettings::default() };
    let sources = MemorySources::default()
        .with_file("certs/company-ca.pem", minted.ca)
        .with_file("client.pem", minted.client.certificate)
        .with_file("client.key", minted.client.key.expose());
    (settings, sources)
}

fn key_mode(mut sources: MemorySources, mode: u32, projected_volume: bool) -> MemorySources {
    let (bytes, facts) = sources.files.remove(Path::new("client.key")).unwrap();
    sources.with_file_and_facts("client.key", bytes, FileFacts { mode, projected_volume, ..facts })
}

fn load(settings: &TlsSettings, sources: &dyn Sources) -> Result<TlsPolicy, Explanation> {
    settings.load("crm.test", sources, &no_system, NOW)
}

#[test]
fn the_policy_says_itself_in_words() {
    let (settings, sources) = mutual();
    let policy = load(&settings, &sources).unwrap();
    assert_eq!(policy.words(), "private CA (company-ca.pem), client certificate O=Nexus dev CA, CN=Nexus development client");
    assert!(!policy.is_unverified());

    let named = TlsSettings { client_identity: None, server_name: Some("crm.corp".to_owned()), min_version: MinVersion::Tls13, ..settings };
    assert_eq!(load(&named, &sources).unwrap().words(), "private CA (company-ca.pem), name crm.corp, TLS 1.3 only");

    let any_name = TlsSettings { accept_invalid_hostnames: true, server_name: None, min_version: MinVersion::Tls12, ..named };
    let policy = load(&any_name, &sources).unwrap();
    assert_eq!(policy.words(), "private CA (company-ca.pem), name not verified");
    assert!(policy.is_unverified() && policy.warnings().iter().any(|w| w.contains("server_name")));

    let off = load(&TlsSettings { verify_certs: false, ..TlsSettings::default() }, &sources).unwrap();
    assert_eq!(off.words(), "verification OFF");
    assert!(off.is_unverified() && off.warnings().iter().any(|w| w.contains("verify_certs = false")));
}

#[test]
fn the_system_is_asked_only_where_it_is_needed() {
    let (settings, sources) = mutual();
    let never = || -> Arc<SystemCas> { panic!("nobody needs the system's CAs here") };
    assert!(settings.load("crm.test", &sources, &never, NOW).is_ok());
    assert!(TlsSettings { verify_certs: false, ..TlsSettings::default() }.load("crm.test", &sources, &never, NOW).is_ok());

    let refused = load(&TlsSettings::default(), &sources).unwrap_err();
    assert_eq!(refused.reason, Reason::LocalMissing);
    assert!(refused.detail.contains("the test's store") && refused.detail.contains("denied"), "{refused}");
    let added = TlsSettings { include_system_cas: true, ..settings };
    assert_eq!(load(&added, &sources).unwrap_err().reason, Reason::LocalMissing);
}

#[test]
fn an_open_key_is_refused_and_named() {
    let (settings, sources) = mutual();
    let refused = load(&settings, &key_mode(sources.clone(), 0o644, false)).unwrap_err();
    assert_eq!(refused.reason, Reason::LocalPermissions);
    assert!(refused.detail.contains("client_key_path client.key") && refused.detail.contains("0644"), "{refused}");

    let lenient = TlsSettings { key_permissions: KeyPermissions::Warn, ..settings.clone() };
    let policy = load(&lenient, &key_mode(sources.clone(), 0o644, false)).unwrap();
    assert!(policy.warnings().iter().any(|w| w.contains("0644")), "{:?}", policy.warnings());

    let policy = load(&settings, &key_mode(sources, 0o644, true)).unwrap();
    assert!(policy.warnings().iter().any(|w| w.contains("defaultMode: 0400")), "{:?}", policy.warnings());
}

#[test]
fn an_expired_identity_keeps_its_upstream_down_until_it_is_renewed() {
    let (settings, sources) = mutual();
    for (now, expected) in [(NOW, None), (NOW + 91 * DAY, Some(Reason::LocalExpired)), (NOW - 2 * DAY, Some(Reason::LocalExpired))] {
        let outcome = settings.load("crm.test", &sources, &no_system, now);
        assert_eq!(outcome.err().map(|e| e.reason), expected);
    }
}

#[test]
fn a_trust_file_with_a_key_or_an_expired_ca_is_warned_about() {
    let (settings, mut sources) = mutual();
    let ca = sources.files[Path::new("certs/company-ca.pem")].0.clone();
    let key = sources.files[Path::new("client.key")].0.clone();
    sources = sources.with_file("certs/company-ca.pem", [ca, key].concat());
    let policy = TlsSettings { client_identity: None, ..settings }.load("crm.test", &sources, &no_system, NOW + 900 * DAY).unwrap();
    let warnings = policy.warnings().join("\n");
    assert!(warnings.contains("holds a private key"), "{warnings}");
    assert!(warnings.contains("expired on") && warnings.contains("still vouches"), "{warnings}");
}

/// Sources with one odd file.
#[derive(Debug)]
struct Odd {
    inner: MemorySources,
    mount_points: bool,
    failure: Option<io::ErrorKind>,
}

impl Sources for Odd {
    fn env(&self, name: &str) -> Option<String> {
        self.inner.env(name)
    }

    fn read(&self, path: &Path) -> io::Result<(Vec<u8>, FileFacts)> {
        self.failure.map_or_else(|| self.inner.read(path), |kind| Err(kind.into()))
    }

    fn is_mount_point(&self, _: &Path) -> bool {
        self.mount_points
    }
}

#[test]
fn a_file_that_is_a_mount_point_is_warned_about() {
    let (settings, inner) = mutual();
    let policy = load(&settings, &Odd { inner, mount_points: true, failure: None }).unwrap();
    assert_eq!(policy.warnings().iter().filter(|w| w.contains("subPath")).count(), 3);
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_its_cause() {
    let (settings, inner) = mutual();
    for (kind, reason) in [
        (io::ErrorKind::NotFound, Reason::LocalMissing),
        (io::ErrorKind::PermissionDenied, Reason::LocalUnreadable),
        (io::ErrorKind::InvalidInput, Reason::LocalUnreadable),
    ] {
        let odd = Odd { inner: inner.clone(), mount_points: false, failure: Some(kind) };
        let refused = load(&settings, &odd).unwrap_err();
        assert_eq!(refused.reason, reason);
        assert!(refused.detail.contains("root_ca_cert_path certs/company-ca.pem"), "{refused}");
    }
}

#[test]
fn the_name_is_taken_from_a_url_host_in_any_form() {
    let (settings, sources) = mutual();
    for (host, name) in
        [("crm.test", "crm.test"), ("crm.test.", "crm.test"), ("10.0.0.1", "10.0.0.1"), ("[::1]", "::1"), ("my_service", "my_service")]
    {
        let policy = settings.load(host, &sources, &no_system, NOW).unwrap();
        assert_eq!(policy.name().to_str(), name);
    }
    assert_eq!(settings.load("", &sources, &no_system, NOW).err().map(|e| e.reason), Some(Reason::LocalInvalid));
}

#[test]
fn two_configurations_of_one_policy_share_no_verifier_and_no_session_store() {
    let (settings, sources) = mutual();
    let policy = load(&settings, &sources).unwrap();
    let ((one, seen_by_one), (two, seen_by_two)) = (policy.client_config().unwrap(), policy.client_config().unwrap());
    assert!(!Arc::ptr_eq(&one.client_auth_cert_resolver, &two.client_auth_cert_resolver));
    assert!(!Arc::ptr_eq(&seen_by_one, &seen_by_two));
    assert_eq!(one.alpn_protocols, [b"http/1.1".to_vec()]);
    assert!(!one.enable_early_data);
    assert!(!one.key_log.will_log("CLIENT_RANDOM"));
}
