//! The identity provider's key set (RFC 7517): which key may verify what. A token chooses among the keys and never how one is used.

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

/// Largest document, in bytes.
pub(super) const MAX_DOCUMENT: usize = 256 << 10;
/// Most keys in it. Every one of them is work.
const MAX_KEYS: usize = 256;
/// Keys that are tried for one token.
const MAX_TRIES: usize = 4;
/// Lengths of an RSA modulus that are used, in bytes: 2048 bits (RFC 7518 §3.3) to 8192, above which a verification is too costly.
const RSA_MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// The keys that can be used.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Another one after a key went: what it verified is not verified any more.
    pub(super) epoch: u64,
    /// Cancelled when the epoch is over.
    pub(super) withdrawn: CancellationToken,
}

/// One key, with the algorithms that it may be used with.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
    /// SHA-256 over all the above.
    digest: [u8; 32],
}

#[derive(Deserialize)]
struct RawSet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a document. Keys for another purpose, or of a kind that is not used here, are left out.
    ///
    /// # Errors
    /// In words: it is no key set, has too many keys, or none that can be used.
    pub(super) fn parse(document: &[u8], earlier: Option<&Self>) -> Result<Self, String> {
        let raw: RawSet<'_> = serde_json::from_slice(document).map_err(|_| "it is no key set (RFC 7517)".to_owned())?;
        if raw.keys.len() > MAX_KEYS {
            return Err(format!("it holds {} keys, and no more than {MAX_KEYS} are read", raw.keys.len()));
        }
        let read = |raw: &&RawValue| serde_json::from_str(raw.get()).ok().and_then(|raw| Key::read(&raw));
        let keys: Vec<Key> = raw.keys.iter().filter_map(read).collect();
        if keys.is_empty() {
            return Err("it holds no key that can verify a signature (RSA of 2048 bits and more, P-256, P-384, Ed25519)".to_owned());
        }
        let (epoch, withdrawn) = match earlier {
            Some(earlier) if earlier.keys.iter().all(|old| keys.iter().any(|key| key.digest == old.digest)) => {
                (earlier.epoch, earlier.withdrawn.clone())
            }
            Some(earlier) => (earlier.epoch + 1, CancellationToken::new()),
            None => (0, CancellationToken::new()),
        };
        Ok(Self { keys, epoch, withdrawn })
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that a token with this header may have been signed with. One that names no key is tried with a few.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| id.is_none_or(|id| key.id.as_deref() == Some(id)) && key.algorithms.contains(&algorithm);
        self.keys.iter().filter(fits).take(MAX_TRIES)
    }

    /// Whether a key of this name is there, for whatever algorithm.
    pub(super) fn knows(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| self.keys.iter().any(|key| key.id.as_deref() == Some(id)))
    }
}

impl Key {
    fn read(raw: &RawKey) -> Option<Self> {
        if raw.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        if raw.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
            return None;
        }
        let (possible, key): (&[Algorithm], _) = match (raw.kty.as_str(), raw.crv.as_deref()) {
            ("RSA", _) => (&RSA, rsa(raw.n.as_deref()?, raw.e.as_deref()?)?),
            ("EC", Some("P-256")) => (&[Algorithm::ES256], ec(raw, 32)?),
            ("EC", Some("P-384")) => (&[Algorithm::ES384], ec(raw, 48)?),
            ("OKP", Some("Ed25519")) => (&[Algorithm::EdDSA], ed(raw.x.as_deref()?)?),
            _ => return None,
        };
        let algorithms: Vec<Algorithm> = match raw.alg.as_deref() {
            // RFC 7517 §4.4: meant for this one only.
            Some(named) => possible.iter().copied().filter(|algorithm| word(*algorithm) == named).collect(),
            None => possible.to_vec(),
        };
        if algorithms.is_empty() {
            return None;
        }
        let mut digest = Context::new(&SHA256);
        let parts = [&raw.kid, &raw.alg, &raw.crv, &raw.n, &raw.e, &raw.x, &raw.y];
        for part in parts.into_iter().map(|part| part.as_deref().unwrap_or_default()).chain([raw.kty.as_str()]) {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.finish().as_ref());
        Some(Self { id: raw.kid.clone(), algorithms, key, digest: bytes })
    }
}

const RSA: [Algorithm; 6] = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

fn rsa(modulus: &str, exponent: &str) -> Option<DecodingKey> {
    let (modulus, exponent) = (URL_SAFE_NO_PAD.decode(modulus).ok()?, URL_SAFE_NO_PAD.decode(exponent).ok()?);
    let leading = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = modulus.get(leading..)?;
    (RSA_MODULUS.contains(&modulus.len()) && exponent.len() <= 8).then(|| DecodingKey::from_rsa_raw_components(modulus, &exponent))
}

fn ec(raw: &RawKey, length: usize) -> Option<DecodingKey> {
    let coordinate = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok().filter(|bytes| bytes.len() == length);
    let _both = (coordinate(&raw.x)?, coordinate(&raw.y)?);
    DecodingKey::from_ec_components(raw.x.as_deref()?, raw.y.as_deref()?).ok()
}

fn ed(x: &str) -> Option<DecodingKey> {
    URL_SAFE_NO_PAD.decode(x).ok().filter(|bytes| bytes.len() == 32)?;
    DecodingKey::from_ed_components(x).ok()
}

/// As RFC 7518 §3.1 and RFC 8037 §3.1 write it.
fn word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RS256 => "RS256",
        Algorithm::RS384 => "RS384",
        Algorithm::RS512 => "RS512",
        Algorithm::PS256 => "PS256",
        Algorithm::PS384 => "PS384",
        Algorithm::PS512 => "PS512",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        Algorithm::EdDSA => "EdDSA",
        // No key here may be used with it.
        _ => "",
    }
}
