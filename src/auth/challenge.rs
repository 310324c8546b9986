//! What a client is told so that it can come back with a credential: `WWW-Authenticate` (RFC 6750 §3, RFC 9728 §5.1) and the
//! resource's metadata (RFC 9728 §3).

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value, json};
use url::Url;

use super::{AuthConfig, Denied, ProtectedResource};

/// Where metadata stands (RFC 9728 §3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The challenges of one configuration.
#[derive(Debug)]
pub struct Challenge {
    /// Whether anything but a certificate can identify somebody.
    is_on: bool,
    /// Below which the metadata stands; `None`: there is none.
    origin: Option<String>,
    /// The scopes to ask for, space-separated.
    scope: String,
    document: Option<Bytes>,
}

impl Challenge {
    /// `public` is the URL that clients use.
    pub fn new(config: &AuthConfig, public: Option<&Url>) -> Self {
        let oauth = config.oauth.as_deref();
        let resource = oauth.and_then(|oauth| oauth.protected_resource.as_ref());
        let base = public.cloned().or_else(|| Url::parse(&resource?.resource).ok());
        let origin = resource.and(base).map(|base| base.origin().ascii_serialization());
        Self {
            is_on: config.demands_credentials(),
            origin,
            scope: oauth.map(|oauth| oauth.required_scopes.join(" ")).unwrap_or_default(),
            document: resource.map(document),
        }
    }

    /// Whether metadata stands at this path: that of the whole host, or that of the endpoint at `mcp_path`.
    pub fn is_metadata(path: &str, mcp_path: &str) -> bool {
        path.strip_prefix(WELL_KNOWN).is_some_and(|rest| rest.is_empty() || rest == mcp_path)
    }

    /// The metadata, as JSON.
    pub fn document(&self) -> Option<Bytes> {
        self.document.clone()
    }

    /// `WWW-Authenticate` for a request that was turned away from the endpoint at `mcp_path`; `None` where no credential would help.
    pub fn header(&self, denied: Denied, mcp_path: &str) -> Option<HeaderValue> {
        if !self.is_on {
            return None;
        }
        let (error, with_scope) = match denied {
            // RFC 6750 §3.1: whoever brought nothing is told of no error.
            Denied::Missing => (None, true),
            Denied::Malformed(_) => (Some("invalid_request"), false),
            Denied::Invalid(_) => (Some("invalid_token"), true),
            Denied::Scope => (Some("insufficient_scope"), true),
            Denied::Forbidden(_) | Denied::NoKeys => return None,
        };
        let described = error.map(|error| format!("error=\"{error}\", error_description=\"{}\"", denied.words()));
        let scope = (with_scope && !self.scope.is_empty()).then(|| format!("scope=\"{}\"", self.scope));
        let metadata = self.origin.as_ref().map(|origin| format!("resource_metadata=\"{origin}{WELL_KNOWN}{mcp_path}\""));
        let parts: Vec<String> = [described, scope, metadata].into_iter().flatten().collect();
        let text = if parts.is_empty() { "Bearer realm=\"nexus\"".to_owned() } else { format!("Bearer {}", parts.join(", ")) };
        HeaderValue::try_from(text).ok()
    }
}

fn document(resource: &ProtectedResource) -> Bytes {
    let mut document = Map::new();
    document.insert("resource".to_owned(), json!(resource.resource));
    document.insert("authorization_servers".to_owned(), json!(resource.authorization_servers));
    if !resource.scopes_supported.is_empty() {
        document.insert("scopes_supported".to_owned(), json!(resource.scopes_supported));
    }
    document.insert("bearer_methods_supported".to_owned(), json!(["header"]));
    Value::Object(document).to_string().into()
}
