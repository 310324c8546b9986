//! PKCS#12 archives (RFC 7292): one private key with its certificate chain.

use p12_keystore::{CertificateBag, Pkcs12Archive, PrivateKeyBag, error::Error};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SigningKey},
};
use x509_parser::asn1_rs::{Any, FromDer as _};

use super::{
    encrypted_key::MAX_ROUNDS,
    files::{Unusable, is_der, is_pkcs12, text_bytes},
    inspect::{CertificateFacts, shown},
    pem::find,
};
use crate::{reason::Reason, secret::Secret};

/// Most parts of an archive that a key derivation opens, and most bags; real archives have two or three.
const MAX_PARTS: usize = 32;

/// `PBES2`, 1.2.840.113549.1.5.13, in DER.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
/// `pkcs-12PbeIds`, 1.2.840.113549.1.12.1: RC2, RC4 and Triple DES with SHA-1.
const PBES1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];
/// `PBMAC1`, 1.2.840.113549.1.5.14 (RFC 9579).
const PBMAC1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0e];
const SHA1: &[u8] = &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a];

const EXPORT: &str = "export it again: umask 077; openssl pkcs12 -in FILE -nodes -out FILE.pem; openssl pkcs12 -export -in FILE.pem -out FILE.new; rm FILE.pem";
const EXPORT_LEGACY: &str = "export it again: umask 077; openssl pkcs12 -legacy -in FILE -nodes -out FILE.pem; openssl pkcs12 -export -in FILE.pem -out FILE.new; rm FILE.pem";

/// A key of an archive, with its certificates.
#[derive(Debug)]
pub(super) struct Archive {
    /// Leaf first, then its issuers as far as the archive holds them, without a self-signed root. Never empty.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Belongs to the leaf.
    pub(super) key: PrivateKeyDer<'static>,
    /// Protected with algorithms that no longer protect: what, and what to do about it; `FILE` stands for the path.
    pub(super) legacy: Option<String>,
}

/// Opens an archive and takes its one key, or the one that `alias` names.
///
/// An alias is a key's friendly name, or `#2` for the second one. Without a password the empty one is tried. The key and
/// its certificate are matched by the public key, because not every archive links them.
///
/// The archive says how much work it is to open it: up to some seconds. Never call this on a thread of the asynchronous
/// runtime, and give the call a time limit.
///
/// # Errors
/// `local_password` for a wrong or missing password; `local_key_mismatch` where no certificate belongs to the key;
/// `local_invalid` for what is no archive, has no integrity check (MAC), or has several keys and no `alias`.
pub(super) fn read(bytes: &[u8], password: Option<&Secret>, alias: Option<&str>, provider: &CryptoProvider) -> Result<Archive, Unusable> {
    let outline = outline(text_bytes(bytes)?)?;
    let typed = password.map(Secret::expose).unwrap_or_default();
    if typed.chars().any(|c| u32::from(c) > 0xffff) {
        return Err(Unusable::password(
            "the password holds a character beyond the Basic Multilingual Plane, such as an emoji, which PKCS#12 cannot express",
            "export the archive with another password",
        ));
    }
    let archive = Pkcs12Archive::from_pkcs12(outline.bytes, typed).map_err(|e| unopened(&e, password))?;
    let bag = choose(&archive.keys, alias)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(bag.key.as_der().to_vec()));
    let signing = provider.key_provider.load_private_key(key.clone_key()).map_err(|_| {
        Unusable::new(
            "its private key is of a kind or size that cannot be used",
            "use an RSA key of 2048 bits or more, an ECDSA key on P-256, P-384 or P-521, or Ed25519",
        )
    })?;
    let Some(leaf) = leaf_of(&archive.certs, bag, &signing) else {
        let holds = match archive.certs.len() {
            0 => "no certificate".to_owned(),
            1 => "one certificate, which is not the key's".to_owned(),
            n => format!("{n} certificates, none of which is the key's"),
        };
        return Err(Unusable {
            reason: Reason::LocalKeyMismatch,
            what: format!("it holds a private key and {holds}"),
            remedy: "export the key together with its certificate".to_owned(),
        });
    };
    Ok(Archive { chain: chain_of(leaf, &archive.certs), key, legacy: outline.legacy })
}

/// What an archive says of itself before it is opened.
struct Outline<'a> {
    bytes: &'a [u8],
    legacy: Option<String>,
}

fn outline(bytes: &[u8]) -> Result<Outline<'_>, Unusable> {
    if !is_der(bytes) || !is_pkcs12(bytes) {
        return Err(if find(bytes, b"-----BEGIN ").is_some() {
            Unusable::new("it is PEM text, not a PKCS#12 archive", "name PEM files in client_cert_path and client_key_path")
        } else {
            Unusable::new("it is no PKCS#12 archive", "give a .p12 or .pfx file")
        });
    }
    let damaged = || Unusable::new("it is no complete PKCS#12 archive in DER", EXPORT);
    let (rest, pfx) = Any::from_der(bytes).map_err(|_| damaged())?;
    let (after_version, _) = Any::from_der(pfx.data).map_err(|_| damaged())?;
    let (mac, contents) = Any::from_der(after_version).map_err(|_| damaged())?;
    if !rest.is_empty() {
        return Err(damaged());
    }
    if mac.is_empty() {
        return Err(Unusable::new(
            "it has no integrity check (MAC): anybody could have changed it, and it may open with any password",
            EXPORT,
        ));
    }
    if find(mac, PBMAC1).is_some() {
        return Err(Unusable::new("its integrity check is of a kind that is not read yet (PBMAC1)", EXPORT));
    }
    if mac_rounds(mac).is_none_or(|rounds| rounds > MAX_ROUNDS) {
        return Err(Unusable::new(format!("it asks for more work than is done for an archive (at most {MAX_ROUNDS} rounds)"), EXPORT));
    }
    let parts =
        [PBES1, PBES2].iter().map(|scheme| memchr::memmem::find_iter(contents.data, scheme).take(MAX_PARTS + 1).count()).sum::<usize>();
    if parts > MAX_PARTS {
        return Err(Unusable::new(format!("it has more than {MAX_PARTS} encrypted parts"), "export the one key that is needed"));
    }
    let legacy = match (find(contents.data, PBES1).is_some(), find(mac, SHA1).is_some()) {
        (true, _) => Some("RC2 or Triple DES"),
        (false, true) => Some("an integrity check with SHA-1"),
        (false, false) => None,
    };
    let legacy = legacy.map(|what| format!("it is protected with outdated algorithms ({what}); {EXPORT_LEGACY}"));
    Ok(Outline { bytes, legacy })
}

/// `MacData ::= SEQUENCE { mac DigestInfo, macSalt OCTET STRING, iterations INTEGER DEFAULT 1 }` (RFC 7292 §4).
fn mac_rounds(mac: &[u8]) -> Option<u32> {
    let (_, data) = Any::from_der(mac).ok()?;
    let (rest, _digest) = Any::from_der(data.data).ok()?;
    let (rest, _salt) = Any::from_der(rest).ok()?;
    if rest.is_empty() {
        return Some(1);
    }
    let (_, rounds) = Any::from_der(rest).ok()?;
    rounds.as_u32().ok()
}

fn unopened(error: &Error, password: Option<&Secret>) -> Unusable {
    match error {
        Error::MacError(_) if password.is_none() => Unusable::password(
            "it is protected by a password, and none is configured",
            "set the archive's password, such as client_pkcs12_password",
        ),
        Error::MacError(_) => Unusable::password(
            "it cannot be opened: the password is wrong, or the file is damaged",
            "correct the password; `openssl pkcs12 -in FILE -noout` asks for it and tells whether it is right",
        ),
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm | Error::UnsupportedContentType | Error::InvalidParameters => {
            Unusable::new("it is protected in a way that is not read; PBES2 with AES is", EXPORT)
        }
        // The integrity check has passed by now, or the structure is broken: the words of the decoder say nothing more.
        _ => Unusable::new("it is damaged, or written in a form that is not read", EXPORT),
    }
}

fn choose<'a>(keys: &'a [PrivateKeyBag], alias: Option<&str>) -> Result<&'a PrivateKeyBag, Unusable> {
    let names = || {
        let named = keys.iter().take(MAX_PARTS).enumerate().map(|(index, key)| match &key.friendly_name {
            Some(name) => format!("\"{}\"", shown(name)),
            None => format!("\"#{}\" (without a name)", index + 1),
        });
        named.collect::<Vec<_>>().join(", ")
    };
    match (keys, alias) {
        ([], _) => Err(Unusable::new(
            "it holds no private key",
            "export it with its key; for CAs to trust, extract them: openssl pkcs12 -in FILE -nokeys -out FILE.pem",
        )),
        ([only], None) => Ok(only),
        (_, None) => Err(Unusable::new(
            format!("it holds {} private keys: {}", keys.len(), names()),
            "set the alias of the one to use, such as client_pkcs12_alias",
        )),
        (_, Some(alias)) => {
            let named: Vec<_> = keys.iter().filter(|key| key.friendly_name.as_deref() == Some(alias)).collect();
            let numbered = alias.strip_prefix('#').and_then(|n| n.parse::<usize>().ok()).and_then(|n| keys.get(n.checked_sub(1)?));
            match (named.as_slice(), numbered) {
                ([one], _) => Ok(one),
                ([], Some(key)) => Ok(key),
                ([], None) => Err(Unusable::new(
                    format!("it holds no private key named \"{}\", but {}", shown(alias), names()),
                    "correct the alias, such as client_pkcs12_alias",
                )),
                (several, _) => Err(Unusable::new(
                    format!("{} of its private keys are named \"{}\"", several.len(), shown(alias)),
                    "name the key by its place, such as \"#1\"",
                )),
            }
        }
    }
}

/// The certificate of the key: the one that the archive links to it, or else the one that ends last.
fn leaf_of<'a>(
    certificates: &'a [CertificateBag],
    bag: &PrivateKeyBag,
    key: &std::sync::Arc<dyn SigningKey>,
) -> Option<&'a CertificateBag> {
    let belongs = |candidate: &&CertificateBag| {
        let der = CertificateDer::from(candidate.cert.as_der().to_vec());
        CertifiedKey::new(vec![der], std::sync::Arc::clone(key)).keys_match().is_ok()
    };
    let linked =
        |candidate: &CertificateBag| bag.local_key_id.as_ref().is_some_and(|id| candidate.local_key_id.as_deref() == Some(id.as_ref()));
    let end = |candidate: &CertificateBag| facts(candidate).map(|facts| facts.not_after);
    certificates.iter().filter(belongs).max_by_key(|candidate| (linked(candidate), end(candidate)))
}

/// Follows the issuers among the archive's certificates, each at most once.
fn chain_of(leaf: &CertificateBag, certificates: &[CertificateBag]) -> Vec<CertificateDer<'static>> {
    let mut chain = vec![CertificateDer::from(leaf.cert.as_der().to_vec())];
    let mut top = facts(leaf);
    let mut left: Vec<_> = certificates.iter().filter_map(|bag| facts(bag).map(|facts| (bag, facts))).collect();
    left.retain(|(bag, facts)| !facts.self_signed && bag.cert.as_der() != leaf.cert.as_der());
    while let Some(current) = top.take().filter(|current| !current.self_signed) {
        let Some(at) = left.iter().position(|(_, facts)| current.is_issued_by(facts)) else { break };
        let (bag, facts) = left.swap_remove(at);
        chain.push(CertificateDer::from(bag.cert.as_der().to_vec()));
        top = Some(facts);
    }
    chain
}

fn facts(bag: &CertificateBag) -> Option<CertificateFacts> {
    CertificateFacts::read(&CertificateDer::from(bag.cert.as_der()))
}

#[cfg(test)]
mod tests;
