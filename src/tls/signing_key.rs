//! A private key that signs something else than a handshake.

use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::{
    KeyPermissions,
    files::open_private_key,
    key_file::{Verdict, judge},
};
use crate::{
    reason::{Explanation, Reason},
    sources::FileFacts,
};

/// DER of a private key, in the form that its algorithm is signed with.
pub enum SigningKey {
    /// PKCS#1 (RFC 8017, appendix A.1.2).
    Rsa(Zeroizing<Vec<u8>>),
    /// PKCS#8 (RFC 5958): an elliptic curve of some kind.
    Pkcs8(Zeroizing<Vec<u8>>),
}

const NO_KEY: &str = "give a PKCS#8 private key: openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW";

/// Reads a private key that is not encrypted, as strictly kept as those of client certificates. `named` is the file, for words.
///
/// # Errors
/// `local_permissions` or `local_invalid`; no byte of the key is repeated.
pub fn signing_key(named: &str, bytes: &[u8], facts: &FileFacts, wanted: KeyPermissions) -> Result<SigningKey, Explanation> {
    match judge(facts, wanted) {
        Verdict::Private => {}
        Verdict::Warn { what, remedy } => tracing::warn!(fix = %remedy, "{named}: {what}"),
        Verdict::Refuse { what, remedy } => return Err(Explanation::new(Reason::LocalPermissions, format!("{named}: {what}"), remedy)),
    }
    let opened = open_private_key(bytes, None).map_err(|why| Explanation::new(why.reason, format!("{named}: {}", why.what), why.remedy))?;
    match opened.key {
        PrivateKeyDer::Pkcs1(key) => Ok(SigningKey::Rsa(Zeroizing::new(key.secret_pkcs1_der().to_vec()))),
        PrivateKeyDer::Pkcs8(key) => {
            let der = key.secret_pkcs8_der();
            let info = pkcs8::PrivateKeyInfoRef::try_from(der).map_err(|_| invalid(named, "the private key is damaged"))?;
            // RFC 8017, appendix C: rsaEncryption
            if info.algorithm.oid == pkcs8::ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1") {
                return Ok(SigningKey::Rsa(Zeroizing::new(info.private_key.as_bytes().to_vec())));
            }
            Ok(SigningKey::Pkcs8(Zeroizing::new(der.to_vec())))
        }
        _ => Err(invalid(named, "a key of this form cannot sign")),
    }
}

fn invalid(named: &str, what: &str) -> Explanation {
    Explanation::new(Reason::LocalInvalid, format!("{named}: {what}"), NO_KEY)
}
