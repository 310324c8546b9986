//! Why a request is turned away: for its sender little, for the operator the cause.

use http::StatusCode;

/// A request that may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No credential at all.
    #[error("no credential was given")]
    Missing,
    /// Two credentials, or one that cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
    /// A credential that is not accepted. The words are for the log alone.
    #[error("{0}")]
    Invalid(&'static str),
    /// A good token without a scope that is demanded.
    #[error("the token lacks a scope of server.oauth.required_scopes")]
    Scope,
    /// A good credential of somebody who has no place here. The words are for the log alone.
    #[error("{0}")]
    Forbidden(&'static str),
    /// No token can be checked, because the identity provider never gave its keys.
    #[error("no keys of the identity provider (server.oauth.url) are there to check a token with")]
    NoKeys,
}

impl Denied {
    /// RFC 6750 §3.1.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid(_) => StatusCode::UNAUTHORIZED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Scope | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NoKeys => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The stable word for the audit trail.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "credential_missing",
            Self::Malformed(_) => "credential_malformed",
            Self::Invalid(_) => "credential_invalid",
            Self::Scope => "scope",
            Self::Forbidden(_) => "forbidden",
            Self::NoKeys => "no_keys",
        }
    }

    /// For the client. The same for every bad credential, so that nobody learns how close theirs was.
    pub fn words(self) -> &'static str {
        match self {
            Self::Missing => "Authentication required",
            Self::Malformed(_) => "The credentials cannot be read",
            Self::Invalid(_) => "The credential is not valid, or has expired",
            Self::Scope => "The token lacks a scope",
            Self::Forbidden(_) => "Not allowed",
            Self::NoKeys => "Authentication is not available at the moment; try again later",
        }
    }
}
