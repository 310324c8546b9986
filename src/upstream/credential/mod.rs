//! What an upstream is shown of who asks: nothing, a fixed credential, the caller's own, or a token that is fetched for it.
//!
//! ```text
//! [auth] ─▶ CredentialConfig ─ Credential::prepare (policy of the token endpoint) ─▶ Credential
//! request ─▶ Credential::show, or fetched ─▶ server ─ 401 ─▶ Shown::renewed, once
//! ```

mod assertion;
mod behalf;
mod config;
mod endpoint;
mod headers;
pub(super) mod read;
mod token;
mod token_read;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::AUTHORIZATION};

pub use assertion::check_key;
pub use behalf::Behalf;
pub use config::{CredentialConfig, ProofConfig, TokenConfig};
pub use headers::{HeaderRule, HeaderRules};

use self::{
    endpoint::Endpoint,
    token::{Token, Tokens},
};
use super::{HttpConfig, Upstream, UpstreamConfig, UpstreamError};
use crate::{
    auth::Caller,
    reason::{Explanation, Reason},
    secret::Secret,
};

/// The credential of one upstream.
#[derive(Clone, Debug)]
pub(super) struct Credential {
    form: Form,
    /// Whose own the upstream is, if it is one principal's.
    behalf: Option<Arc<Behalf>>,
}

#[derive(Clone, Debug)]
enum Form {
    None,
    /// The same header for everybody; its value is marked sensitive.
    Fixed(HeaderName, HeaderValue),
    /// The bearer token that the caller brought.
    Callers,
    /// A token of the gateway's own (RFC 6749 §4.4).
    Fetched(Arc<Tokens>),
    /// A token that is had for the caller's (RFC 8693).
    Exchanged(Arc<Tokens>),
}

/// What one request was shown with, as far as it can be renewed.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    tokens: &'a Tokens,
    token: Arc<Token>,
    /// Present where the token is had for a caller's.
    subject: Option<Caller>,
}

impl Credential {
    /// # Errors
    /// `local_*`: a configured value cannot be a header, or the token endpoint's policy cannot be used.
    pub(super) async fn prepare(upstream: &Upstream, all: &UpstreamConfig, config: &HttpConfig) -> Result<Self, Explanation> {
        let form = match &config.credential {
            CredentialConfig::None => Form::None,
            CredentialConfig::Token(token) => Form::Fixed(AUTHORIZATION, bearer(token)?),
            CredentialConfig::Header { name, value } => Form::Fixed(name.clone(), sensitive(value.expose().to_owned())?),
            CredentialConfig::Forward => Form::Callers,
            CredentialConfig::ClientCredentials(token) => {
                Form::Fetched(Arc::new(Tokens::new(Endpoint::prepare(upstream, all, config, token).await?)))
            }
            CredentialConfig::TokenExchange(token) => {
                Form::Exchanged(Arc::new(Tokens::new(Endpoint::prepare(upstream, all, config, token).await?)))
            }
        };
        Ok(Self { form, behalf: upstream.behalf() })
    }

    /// Whether what is shown can be renewed, so that a request must be kept for a repetition.
    pub(super) fn is_renewable(&self) -> bool {
        matches!(self.form, Form::Fetched(_) | Form::Exchanged(_))
    }

    /// Shows who asks, where that needs no fetching. `caller`: on whose behalf; `None` for what the gateway wants for itself.
    ///
    /// # Errors
    /// `needs_caller`, with nothing sent, when there is no caller with a token.
    pub(super) fn show(&self, headers: &mut HeaderMap, caller: Option<&Caller>) -> Result<(), UpstreamError> {
        match &self.form {
            Form::None | Form::Fetched(_) | Form::Exchanged(_) => {}
            Form::Fixed(name, value) => drop(headers.insert(name.clone(), value.clone())),
            Form::Callers => {
                let caller = self.caller(caller)?;
                let value = caller.bearer().map(bearer).ok_or_else(needs_caller)?;
                headers.insert(AUTHORIZATION, value.map_err(|explanation| UpstreamError::Failed { explanation, never_sent: true })?);
            }
        }
        Ok(())
    }

    /// Shows a token that is fetched; `None` where nothing is.
    ///
    /// # Errors
    /// `needs_caller` when there is no caller with a token, `auth_token_endpoint` when no token could be had; nothing was sent.
    pub(super) async fn fetched(&self, headers: &mut HeaderMap, caller: Option<&Caller>) -> Result<Option<Shown<'_>>, UpstreamError> {
        match &self.form {
            Form::None | Form::Fixed(..) | Form::Callers => Ok(None),
            Form::Fetched(tokens) => Shown::of(tokens, None, headers).await.map(Some),
            Form::Exchanged(tokens) => Shown::of(tokens, Some(self.caller(caller)?), headers).await.map(Some),
        }
    }

    /// The caller of a request, or the one whose own the upstream is.
    fn caller(&self, caller: Option<&Caller>) -> Result<Caller, UpstreamError> {
        self.whose(caller).filter(|caller| caller.bearer().is_some()).ok_or_else(needs_caller)
    }

    /// Whose request it is, for what is passed on of it.
    pub(super) fn whose(&self, caller: Option<&Caller>) -> Option<Caller> {
        caller.cloned().or_else(|| self.behalf.as_ref().map(|behalf| (*behalf.latest()).clone()))
    }

    /// Why the server refused what it was shown.
    pub(super) fn refused(&self, status: StatusCode) -> Explanation {
        let status = status.as_u16();
        let (whose, remedy) = match &self.form {
            Form::None | Form::Fixed(..) => {
                ("the configured credential", "check `[mcp.servers.NAME.auth]`: is the token present, current and meant for this server?")
            }
            Form::Callers => ("the caller's own token", "is the token that clients bring current, and meant for this server too?"),
            Form::Fetched(_) | Form::Exchanged(_) => (
                "the token that was fetched for it",
                "check `scope`, `resource` and `audience` in `[mcp.servers.NAME.auth]`: is the token meant for this server?",
            ),
        };
        Explanation::new(Reason::AuthRequired, format!("HTTP {status}: the server did not accept {whose}"), remedy)
    }
}

impl<'a> Shown<'a> {
    async fn of(tokens: &'a Tokens, subject: Option<Caller>, headers: &mut HeaderMap) -> Result<Self, UpstreamError> {
        let token = tokens.token(subject.as_ref().and_then(Caller::bearer)).await?;
        headers.insert(AUTHORIZATION, token.value().clone());
        Ok(Self { tokens, token, subject })
    }

    /// Puts another token in the place of the one that the server refused; `false`: there is none that could be better.
    ///
    /// # Errors
    /// `auth_token_endpoint`
    pub(super) async fn renewed(&self, headers: &mut HeaderMap) -> Result<bool, UpstreamError> {
        let subject = self.subject.as_ref().and_then(Caller::bearer);
        let Some(token) = self.tokens.renewed(subject, &self.token).await? else { return Ok(false) };
        headers.insert(AUTHORIZATION, token.value().clone());
        Ok(true)
    }
}

/// Nobody is there whose credential could be shown.
fn needs_caller() -> UpstreamError {
    UpstreamError::Failed { explanation: awaits_caller(), never_sent: true }
}

/// What is known of an upstream that is reached with its callers' own credentials only.
pub(super) fn awaits_caller() -> Explanation {
    let detail = "it is reached with its callers' own tokens, and none has brought one";
    Explanation::new(
        Reason::NeedsCaller,
        detail,
        "nothing: the first caller with a token brings it up; clients send `Authorization: Bearer …`",
    )
}

fn bearer(token: &Secret) -> Result<HeaderValue, Explanation> {
    sensitive(["Bearer ", token.expose()].concat())
}

fn sensitive(text: String) -> Result<HeaderValue, Explanation> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        let detail = "the credential holds a character that no header may hold";
        Explanation::new(Reason::LocalInvalid, detail, "look for a line break in the token")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
