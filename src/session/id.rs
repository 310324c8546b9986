//! Unguessable identifiers.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// 128 random bits as 22 characters of base64url, within the 0x21 to 0x7E that MCP allows for `Mcp-Session-Id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// # Panics
    /// If the operating system gives no randomness: nothing could be kept secret then.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).expect("the operating system provides randomness");
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// `None` for anything this type did not print.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        (URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(16)).then_some(Self(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// A session id is a bearer credential: a log shows its beginning only.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_survives_its_text_form() {
        let id = SessionId::random();
        assert_eq!(SessionId::parse(id.to_string().as_bytes()), Some(id));
    }

    #[test]
    fn foreign_text_is_no_identifier() {
        for text in ["", "x", "not-a-session-id-at-all-but-long", "AAAAAAAAAAAAAAAAAAAAAA=="] {
            assert_eq!(SessionId::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn debug_does_not_give_the_identifier_away() {
        let id = SessionId::random();
        assert!(!format!("{id:?}").contains(&id.to_string()));
    }
}
