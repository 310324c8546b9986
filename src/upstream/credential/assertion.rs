//! A request for a token, signed (RFC 7523 §2.2 and §3): who asks, whom it is for, and that it is new.

use std::{path::Path, time::Duration};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use super::ProofConfig;
use crate::{
    reason::{Explanation, Reason},
    secret::Secret,
    sources::Sources,
    tls::{KeyPermissions, SigningKey, signing_key},
    upstream::HttpConfig,
};

/// An assertion is good for so long.
const LIFETIME: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

/// The key that signs.
pub(super) struct Key<'a> {
    pub(super) path: &'a Path,
    /// What the endpoint knows it by.
    pub(super) id: Option<String>,
    pub(super) permissions: KeyPermissions,
}

/// Looks whether the key of a token endpoint can sign.
///
/// # Errors
/// As [`signed`].
pub fn check_key(sources: &dyn Sources, http: &HttpConfig, now: Duration) -> Result<(), Explanation> {
    let Some(token) = http.credential.token() else { return Ok(()) };
    let ProofConfig::Key { path, .. } = &token.proof else { return Ok(()) };
    let permissions = http.tls.as_ref().map(|tls| tls.key_permissions).unwrap_or_default();
    let key = Key { path, id: None, permissions };
    signed(sources, key, &token.client_id, token.url.as_str(), now).map(drop)
}

/// Signs with the private key in the PEM file: RSA (RS256), P-256 (ES256), P-384 (ES384) or Ed25519 (EdDSA).
///
/// # Errors
/// `local_*`: the file cannot be used.
pub(super) fn signed(sources: &dyn Sources, key: Key<'_>, client_id: &str, audience: &str, now: Duration) -> Result<Secret, Explanation> {
    let Key { path, id: kid, permissions } = key;
    let shown = path.display();
    let wrong = |reason, what: String| {
        Explanation::new(reason, format!("private_key_jwt {shown}: {what}"), "put the client's private key there, as PEM")
    };
    let (pem, facts) = sources.read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => wrong(Reason::LocalMissing, "the file is not there".to_owned()),
        _ => wrong(Reason::LocalUnreadable, format!("the file cannot be read: {error}")),
    })?;
    let key = signing_key(&format!("private_key_jwt {shown}"), &pem, &facts, permissions)?;
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| wrong(Reason::LocalInvalid, "there is no randomness to sign with".to_owned()))?;
    let jti = BASE64_URL_SAFE_NO_PAD.encode(id);
    let claims = Claims { iss: client_id, sub: client_id, aud: audience, jti, iat: now.as_secs(), exp: (now + LIFETIME).as_secs() };
    // A key of a curve fits its own algorithm only.
    let header = |algorithm| Header { kid: kid.clone(), ..Header::new(algorithm) };
    let signed = match &key {
        SigningKey::Rsa(der) => encode(&header(Algorithm::RS256), &claims, &EncodingKey::from_rsa_der(der)).ok(),
        SigningKey::Pkcs8(der) => [
            (Algorithm::ES256, EncodingKey::from_ec_der(der)),
            (Algorithm::ES384, EncodingKey::from_ec_der(der)),
            (Algorithm::EdDSA, EncodingKey::from_ed_der(der)),
        ]
        .into_iter()
        .find_map(|(algorithm, key)| encode(&header(algorithm), &claims, &key).ok()),
    };
    signed.map(Secret::new).ok_or_else(|| wrong(Reason::LocalInvalid, "its key is none of RSA, P-256, P-384 or Ed25519".to_owned()))
}
