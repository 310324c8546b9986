//! What is tried with arbitrary bytes: by the fuzz targets, and by the test that replays their corpus.

use std::{path::Path, sync::Arc, time::Duration};

use nexus::{
    config,
    secret::Secret,
    sources::MemorySources,
    tls::{ClientIdentityFiles, Pkcs12File, SystemCas, TlsPolicy, TlsSettings},
};
use rustls_pki_types::CertificateDer;

/// 2027-01-15.
const NOW: Duration = Duration::from_secs(1_800_000_000);

/// Most bytes of one case: the size of a real bundle, so that a case is quick.
const MOST: usize = 64 * 1024;

fn nobody() -> Arc<SystemCas> {
    Arc::new(SystemCas::new([], Vec::new(), "nowhere"))
}

/// The bytes as every file that a TLS table can name.
pub(crate) fn files(bytes: &[u8]) {
    if bytes.len() > MOST {
        return;
    }
    let password = || Some(Secret::new("right"));
    let places: [fn(&mut TlsSettings); 6] = [
        |s| s.root_ca_cert_path = Some("file".into()),
        |s| s.intermediates_path = Some("file".into()),
        |s| s.client_identity = Some(ClientIdentityFiles { cert_path: "file".into(), key_path: "absent".into() }),
        |s| s.client_identity = Some(ClientIdentityFiles { cert_path: "ca.pem".into(), key_path: "file".into() }),
        |s| s.client_pkcs12 = Some(Pkcs12File { path: "file".into(), password: None, alias: None }),
        |s| s.revocation.crl_paths = vec!["file".into()],
    ];
    for set in places {
        let mut settings = TlsSettings { root_ca_cert_path: Some("ca.pem".into()), ..TlsSettings::default() };
        set(&mut settings);
        settings.client_key_password = password();
        if let Some(archive) = &mut settings.client_pkcs12 {
            archive.password = password();
        }
        let sources = MemorySources::default().with_file("file", bytes).with_file("ca.pem", CA);
        match settings.load("fuzz.test", &sources, &nobody, NOW) {
            Ok(policy) => {
                assert!(policy.client_config().is_ok(), "a policy that loads can be used");
                all_are_printable(policy.warnings());
            }
            Err(refused) => {
                assert!(refused.reason.code().starts_with("local_"), "{refused}");
                all_are_printable(&[refused.detail, refused.remedy]);
            }
        }
    }
}

/// The bytes as a presented chain: each certificate after its length in two bytes.
pub(crate) fn chain(bytes: &[u8]) {
    let policy = policy();
    let mut rest = bytes.get(..MOST).unwrap_or(bytes);
    let mut chain = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (certificate, after) = after.split_at(length);
        chain.push(CertificateDer::from(certificate.to_vec()));
        rest = after;
    }
    let verdict = policy.verify_chain(&chain, NOW);
    let report = policy.check_chain(&chain, &nobody, NOW);
    for finding in &report.findings {
        all_are_printable(&[finding.detail.clone(), finding.remedy.clone()]);
    }
    if let Err(refused) = verdict {
        assert!(refused.reason.code().starts_with("tls_"), "{refused}");
        all_are_printable(&[refused.detail]);
    }
}

/// The bytes as a configuration file.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes.get(..MOST).unwrap_or(bytes)) else { return };
    let sources = MemorySources::default().with_env("TOKEN", "t0ken-canary");
    let loaded = config::load_text(text, Path::new("/etc/nexus/nexus.toml"), None, &sources);
    assert!(loaded.config.is_some() || !loaded.problems.is_empty(), "a refusal says why");
    for problem in &loaded.problems {
        assert!(!problem.to_string().contains("t0ken-canary"), "a secret shows in {problem}");
    }
}

/// A policy with every layer of the verification.
fn policy() -> TlsPolicy {
    let settings = TlsSettings {
        root_ca_cert_path: Some("ca.pem".into()),
        intermediates_path: Some("ca.pem".into()),
        accept_expired_until: Some(NOW + Duration::from_secs(86_400)),
        ..TlsSettings::default()
    };
    let sources = MemorySources::default().with_file("ca.pem", CA);
    settings.load("fuzz.test", &sources, &nobody, NOW).expect("the settings are good")
}

fn all_are_printable(texts: &[String]) {
    for text in texts {
        assert!(!text.chars().any(char::is_control), "{text:?} could change a terminal or a log");
    }
}

/// The CA of the corpus.
const CA: &str = include_str!("corpus/files/ca.pem");
