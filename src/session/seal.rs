//! Seals what a client keeps for the gateway and gives back later, so that it can neither read nor change it.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, MAX_TAG_LEN, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::secret::{MIN_KEY, Secret};

/// Longest token that is looked at, in characters.
const MAX_TOKEN: usize = 512;
/// What keeps these keys apart from any other use of the same secret.
const REQUEST_STATE: &[u8] = b"nexus request state v1";
const SHARED_SESSIONS: &[u8] = b"nexus shared sessions v1";

/// Seals and opens tokens: AES-256-GCM with a random nonce (RFC 5116), the keys derived from the secrets (RFC 5869).
pub struct Sealer {
    /// The first seals, all open. Never empty.
    keys: Vec<RandomizedNonceKey>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys.len()).finish()
    }
}

impl Sealer {
    /// Without a secret the key is random: nothing sealed outlives the process then.
    ///
    /// # Panics
    /// If the operating system gives no randomness: nothing could be kept secret then.
    pub fn new(secrets: &[Secret]) -> Self {
        Self::of(REQUEST_STATE, secrets)
    }

    /// For what replicas keep where others could read and change it.
    pub(super) fn of_shared_sessions(secrets: &[Secret]) -> Self {
        Self::of(SHARED_SESSIONS, secrets)
    }

    fn of(purpose: &'static [u8], secrets: &[Secret]) -> Self {
        let derive = |secret: &[u8]| derive(purpose, secret);
        let mut keys: Vec<_> = secrets.iter().map(|secret| derive(secret.expose().as_bytes())).collect();
        if keys.is_empty() {
            let mut random = [0; MIN_KEY];
            SystemRandom::new().fill(&mut random).expect("the operating system provides randomness");
            keys.push(derive(&random));
        }
        Self { keys }
    }

    /// Seals `content`; it opens only together with the same `bound`. The token is base64url.
    ///
    /// # Panics
    /// If the operating system gives no randomness.
    pub fn seal(&self, bound: &[u8; 32], content: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.seal_bytes(bound, content))
    }

    /// The same as bytes.
    ///
    /// # Panics
    /// As [`Sealer::seal`].
    pub(super) fn seal_bytes(&self, bound: &[u8; 32], content: &[u8]) -> Vec<u8> {
        let key = self.keys.first().expect("there is always a key");
        let mut text = content.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(bound), &mut text).expect("the text is short and randomness is there");
        [&nonce.as_ref()[..], &text].concat()
    }

    /// The content of a token; `None` for everything that was not sealed by one of the keys and for the same `bound`.
    pub fn open(&self, bound: &[u8; 32], token: &str) -> Option<Vec<u8>> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        self.open_bytes(bound, &URL_SAFE_NO_PAD.decode(token).ok()?)
    }

    /// The content of what [`Sealer::seal_bytes`] gave; `None` as with [`Sealer::open`].
    pub(super) fn open_bytes(&self, bound: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        if text.len() < MAX_TAG_LEN {
            return None;
        }
        self.keys.iter().find_map(|key| {
            let mut text = text.to_vec();
            let opened = key.open_in_place(Nonce::from(nonce), Aad::from(bound), &mut text).ok()?;
            Some(opened.to_vec())
        })
    }
}

fn derive(purpose: &'static [u8], secret: &[u8]) -> RandomizedNonceKey {
    struct Length;
    impl KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = zeroize::Zeroizing::new([0; 32]);
    let info = [purpose];
    let extracted = Salt::new(HKDF_SHA256, &[]).extract(secret);
    extracted.expand(&info, Length).and_then(|key_material| key_material.fill(&mut *key)).expect("32 bytes are within HKDF's limit");
    RandomizedNonceKey::new(&AES_256_GCM, &*key).expect("32 bytes are the length of the key")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: [u8; 32] = [7; 32];

    fn secret(letter: &str) -> Secret {
        Secret::new(letter.repeat(MIN_KEY))
    }

    #[test]
    fn what_was_sealed_opens_under_the_same_bond_only() {
        let sealer = Sealer::new(&[]);
        let token = sealer.seal(&BOUND, b"content");
        assert_eq!(sealer.open(&BOUND, &token).as_deref(), Some(&b"content"[..]));
        assert_eq!(sealer.open(&[8; 32], &token), None);
        assert_eq!(Sealer::new(&[]).open(&BOUND, &token), None, "another process has another key");
        assert_ne!(sealer.seal(&BOUND, b"content"), token, "no two are alike");
    }

    #[test]
    fn no_changed_character_goes_unnoticed() {
        let sealer = Sealer::new(&[]);
        let token = sealer.seal(&BOUND, b"content");
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(sealer.open(&BOUND, &String::from_utf8(changed).unwrap()), None, "{at}");
        }
        for text in ["", "AAAA", "ä", &token[1..], &token[..token.len() - 1], &"A".repeat(100_000)] {
            assert_eq!(sealer.open(&BOUND, text), None);
        }
    }

    #[test]
    fn the_first_secret_seals_and_all_open() {
        let (old, both, new) = (Sealer::new(&[secret("a")]), Sealer::new(&[secret("b"), secret("a")]), Sealer::new(&[secret("b")]));
        let token = old.seal(&BOUND, b"x");
        assert!(both.open(&BOUND, &token).is_some() && new.open(&BOUND, &token).is_none());
        let token = both.seal(&BOUND, b"x");
        assert!(new.open(&BOUND, &token).is_some() && old.open(&BOUND, &token).is_none());
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", Sealer::new(&[secret("a")])), "Sealer { keys: 1 }");
    }
}
