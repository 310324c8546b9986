//! What the file says about callers, checked.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use http::HeaderName;
use serde_json::Value;
use url::Url;

use crate::tls::{AlternativeName, SubjectAttribute, TlsSettings};

/// By what callers are told apart. Empty: they are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthConfig {
    pub oauth: Option<Arc<OauthConfig>>,
    pub api_keys: Arc<[ApiKey]>,
    /// Absent, or not enabled: clients have the names of their credentials, and no groups but those of API keys.
    pub identification: Option<Arc<IdentificationConfig>>,
}

impl AuthConfig {
    /// Whether a caller without a token or key is turned away.
    pub fn demands_credentials(&self) -> bool {
        self.oauth.is_some() || !self.api_keys.is_empty()
    }

    /// What callers need, in words; `None`: nothing.
    pub fn words(&self) -> Option<String> {
        let tokens = self.oauth.as_ref().map(|oauth| format!("a token that the keys of {} verify", oauth.url));
        let keys = match self.api_keys.len() {
            0 => None,
            1 => Some("the API key".to_owned()),
            n => Some(format!("one of {n} API keys")),
        };
        let needs: Vec<String> = tokens.into_iter().chain(keys).collect();
        (!needs.is_empty()).then(|| needs.join(" or "))
    }
}

impl AuthConfig {
    /// The groups that there are; `None`: any name may be one.
    pub fn known_groups(&self) -> Option<&BTreeSet<String>> {
        self.identification.as_ref().map(|identification| &identification.group_values).filter(|known| !known.is_empty())
    }

    /// Whether anything puts a caller into a group.
    pub fn gives_groups(&self) -> bool {
        let by_source = |source: &IdentitySource| source.claim.is_some() || source.header.is_some() || source.certificate.is_some();
        let is_identified = self.identification.as_ref().is_some_and(|identification| by_source(&identification.group_id));
        is_identified || self.api_keys.iter().any(|key| key.group.is_some())
    }
}

/// `[server.oauth]`: JWT bearer tokens (RFC 9068) of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthConfig {
    /// The issuer's key set (RFC 7517 §5).
    pub url: Url,
    /// How often it is read again.
    pub poll_interval: Duration,
    pub expected_issuer: Option<String>,
    pub expected_audience: Option<String>,
    /// Each of them must be in a token.
    pub required_scopes: Vec<String>,
    /// For `url`, and nothing else.
    pub tls: TlsSettings,
    pub protected_resource: Option<ProtectedResource>,
}

/// What clients are told about how to get a token (RFC 9728 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    pub resource: String,
    pub authorization_servers: Vec<String>,
    pub scopes_supported: Vec<String>,
}

/// One of `[[server.api_keys]]`; the key itself is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: String,
    pub sha256: [u8; 32],
    pub group: Option<String>,
}

/// Shows no digest: that of a short key is as good as the key.
impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("group", &self.group).finish_non_exhaustive()
    }
}

/// `[server.client_identification]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentificationConfig {
    pub client_id: IdentitySource,
    pub group_id: IdentitySource,
    /// The groups there are; empty: any.
    pub group_values: BTreeSet<String>,
}

/// Where a name is taken from, for each way in which somebody may come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySource {
    pub claim: Option<ClaimPath>,
    /// Believed from trusted peers only.
    pub header: Option<HeaderName>,
    pub certificate: Option<CertificatePart>,
}

/// Which name in a client certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificatePart {
    Subject(SubjectAttribute),
    Alternative(AlternativeName),
}

/// A claim by its name, or by its path in nested claims: `realm_access.roles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(pub String);

impl ClaimPath {
    /// A claim of just this name wins over a path, since names may be URLs with dots in them.
    pub(super) fn find<'a>(&self, claims: &'a Value) -> Option<&'a Value> {
        if let Some(found) = claims.get(&self.0) {
            return Some(found);
        }
        self.0.split('.').try_fold(claims, |inner, name| inner.get(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_callers_need_is_said_in_words() {
        let key = |id: &str| ApiKey { id: id.into(), sha256: [0; 32], group: None };
        let with = |keys: Vec<ApiKey>| AuthConfig { api_keys: keys.into(), ..AuthConfig::default() }.words();
        assert_eq!(with(vec![]), None);
        assert_eq!(with(vec![key("a")]).as_deref(), Some("the API key"));
        assert_eq!(with(vec![key("a"), key("b")]).as_deref(), Some("one of 2 API keys"));
    }

    #[test]
    fn a_claim_is_found_by_its_name_or_its_path() {
        let claims = json!({
            "plan": "pro",
            "https://example.com/groups": ["a"],
            "realm_access": {"roles": ["b"]},
            "x.y": 1,
            "x": {"y": 2},
        });
        for (path, expected) in
            [("plan", json!("pro")), ("https://example.com/groups", json!(["a"])), ("realm_access.roles", json!(["b"])), ("x.y", json!(1))]
        {
            assert_eq!(ClaimPath(path.into()).find(&claims), Some(&expected), "{path}");
        }
        for path in ["missing", "plan.of", "realm_access.roles.0", "realm_access..roles"] {
            assert_eq!(ClaimPath(path.into()).find(&claims), None, "{path}");
        }
    }
}
