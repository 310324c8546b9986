//! The credential of an upstream, checked.

use std::path::PathBuf;

use http::HeaderName;
use url::Url;

use crate::secret::Secret;

/// `[mcp.servers.NAME.auth]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CredentialConfig {
    #[default]
    None,
    /// `Authorization: Bearer …`
    Token(Secret),
    /// The caller's own bearer token.
    Forward,
    /// Any one header.
    Header { name: HeaderName, value: Secret },
    /// A token of the gateway's own (RFC 6749 §4.4).
    ClientCredentials(Box<TokenConfig>),
    /// A token that is had for the caller's (RFC 8693).
    TokenExchange(Box<TokenConfig>),
}

impl CredentialConfig {
    /// Each caller has another, and nobody has one without a caller.
    pub fn is_the_callers(&self) -> bool {
        matches!(self, Self::Forward | Self::TokenExchange(_))
    }

    /// Where its tokens are had.
    pub fn token(&self) -> Option<&TokenConfig> {
        match self {
            Self::ClientCredentials(token) | Self::TokenExchange(token) => Some(token),
            Self::None | Self::Token(_) | Self::Forward | Self::Header { .. } => None,
        }
    }
}

/// How tokens are had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConfig {
    pub url: Url,
    pub client_id: String,
    pub proof: ProofConfig,
    pub scope: Option<String>,
    /// RFC 8707, RFC 8693 §2.1
    pub resource: Option<String>,
    /// RFC 8693 §2.1; some servers want it with client credentials too.
    pub audience: Option<String>,
}

/// How a token endpoint is shown that it is us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofConfig {
    /// Only the client's name is said.
    None,
    Secret(Secret),
    /// Each request is signed (RFC 7523 §2.2) with the private key in this PEM file.
    /// `id` is what the endpoint knows the key by (`kid`, RFC 7515 §4.1.4).
    Key {
        path: PathBuf,
        id: Option<String>,
    },
}
