//! Asks a token endpoint for a token: client credentials (RFC 6749 §4.4) and token exchange (RFC 8693).

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::{ProofConfig, TokenConfig, assertion, bearer, sensitive, token::Token};
use crate::{
    clock::Clock,
    outbound::{HttpClient, HttpVersion, Way},
    reason::{Explanation, Reason},
    secret::Secret,
    sources::Sources,
    tls::{KeyPermissions, TlsSettings},
    upstream::{HttpConfig, Upstream, UpstreamConfig, load_policy::look_at_policy},
};

/// Longest wait for a token.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer.
const MAX_ANSWER: usize = 64 * 1024;
/// Longest token: it goes into a header.
const MAX_TOKEN: usize = 16 * 1024;
/// A lifetime beyond this is taken for this.
const LONGEST_LIFE: u64 = 7 * 24 * 60 * 60;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The errors that have a meaning (RFC 6749 §5.2, RFC 8693 §2.2.2, RFC 8707 §2). Whatever else an endpoint says is not repeated.
const ERRORS: [&str; 7] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
];

/// Where the tokens of one upstream are had.
pub(super) struct Endpoint {
    client: HttpClient,
    config: TokenConfig,
    key_permissions: KeyPermissions,
    sources: Arc<dyn Sources>,
    clock: Arc<dyn Clock>,
    /// The secret goes into the body: the endpoint does not take it in the header (RFC 6749 §2.3.1).
    in_body: AtomicBool,
}

/// Shows no secret and no address.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("client_id", &self.config.client_id).finish_non_exhaustive()
    }
}

/// Why there is no token.
enum Failure {
    /// The endpoint does not take our proof.
    Client(Explanation),
    Other(Explanation),
}

impl Endpoint {
    /// The endpoint is reached by the upstream's own way and under its own TLS policy.
    ///
    /// # Errors
    /// A `local_*` reason.
    pub(super) async fn prepare(
        upstream: &Upstream,
        all: &UpstreamConfig,
        http: &HttpConfig,
        token: &TokenConfig,
    ) -> Result<Self, Explanation> {
        let settings = settings_for(http, &token.url);
        let tls = match token.url.scheme() {
            "https" => Some(look_at_policy(upstream, &settings, token.url.host_str().unwrap_or_default()).await?),
            _ => None,
        };
        let way = Way { version: HttpVersion::Http1, proxy: http.way.proxy.clone() };
        let client = HttpClient::by(way, &token.url, tls.as_ref(), all.connect_timeout)?;
        Ok(Self {
            client,
            config: token.clone(),
            key_permissions: settings.key_permissions,
            sources: Arc::clone(&upstream.sources),
            clock: Arc::clone(&upstream.clock),
            in_body: AtomicBool::new(false),
        })
    }

    /// A token; for `subject` where there is one.
    ///
    /// # Errors
    /// `auth_token_endpoint`, without a word of the endpoint's own.
    pub(super) async fn fetch(&self, subject: Option<&Secret>) -> Result<Token, Explanation> {
        let work = async {
            let in_body = self.in_body.load(Ordering::Relaxed);
            match (self.ask(subject, in_body).await, &self.config.proof) {
                // Endpoints need not take a secret in both places, and do not say which they take.
                (Err(Failure::Client(first)), ProofConfig::Secret(_)) => match self.ask(subject, !in_body).await {
                    Ok(token) => {
                        self.in_body.store(!in_body, Ordering::Relaxed);
                        Ok(token)
                    }
                    Err(_) => Err(first),
                },
                (Err(Failure::Client(why) | Failure::Other(why)), _) => Err(why),
                (Ok(token), _) => Ok(token),
            }
        };
        let timed = tokio::time::timeout(PATIENCE, work).await;
        timed.unwrap_or_else(|_| Err(unavailable(format!("the token endpoint did not answer within {PATIENCE:?}"))))
    }

    async fn ask(&self, subject: Option<&Secret>, in_body: bool) -> Result<Token, Failure> {
        let request = self.request(subject, in_body).await.map_err(Failure::Other)?;
        let answered = self.client.send(request).await;
        let response = answered
            .map_err(|error| Failure::Other(unavailable(format!("the token endpoint could not be reached: {}", error.explanation))))?;
        let status = response.status();
        let whole = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body =
            whole.map_err(|_| Failure::Other(unavailable("the token endpoint's answer broke off, or is longer than 64 KiB".to_owned())))?;
        read(status, &body.to_bytes())
    }

    async fn request(&self, subject: Option<&Secret>, in_body: bool) -> Result<Request<Bytes>, Explanation> {
        let assertion = match &self.config.proof {
            ProofConfig::Key { path, id } => Some(self.assertion(path.clone(), id.clone()).await?),
            ProofConfig::None | ProofConfig::Secret(_) => None,
        };
        let client_id = &self.config.client_id;
        let mut form = self.asked(subject);
        let mut request = Request::new(Bytes::new());
        match (&self.config.proof, &assertion) {
            (ProofConfig::Secret(secret), _) if !in_body => drop(request.headers_mut().insert(AUTHORIZATION, basic(client_id, secret)?)),
            (ProofConfig::Secret(secret), _) => {
                form.append_pair("client_id", client_id).append_pair("client_secret", secret.expose());
            }
            (_, Some(assertion)) => {
                form.append_pair("client_id", client_id)
                    .append_pair("client_assertion_type", JWT_BEARER)
                    .append_pair("client_assertion", assertion.expose());
            }
            (_, None) => drop(form.append_pair("client_id", client_id)),
        }
        *request.method_mut() = Method::POST;
        *request.body_mut() = form.finish().into();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(request)
    }

    /// What is wanted, before who wants it.
    fn asked(&self, subject: Option<&Secret>) -> form_urlencoded::Serializer<'static, String> {
        let TokenConfig { scope, resource, audience, .. } = &self.config;
        let mut form = form_urlencoded::Serializer::new(String::new());
        match subject {
            None => drop(form.append_pair("grant_type", "client_credentials")),
            Some(subject) => {
                form.append_pair("grant_type", EXCHANGE)
                    .append_pair("subject_token", subject.expose())
                    .append_pair("subject_token_type", ACCESS_TOKEN)
                    .append_pair("requested_token_type", ACCESS_TOKEN);
            }
        }
        for (name, value) in [("scope", scope), ("resource", resource), ("audience", audience)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        form
    }

    /// The key is read each time, so that another takes its place without a word.
    async fn assertion(&self, path: PathBuf, id: Option<String>) -> Result<Secret, Explanation> {
        let (sources, permissions, now) = (Arc::clone(&self.sources), self.key_permissions, self.clock.now());
        let (client_id, audience) = (self.config.client_id.clone(), self.config.url.clone());
        let signing = tokio::task::spawn_blocking(move || {
            let key = assertion::Key { path: &path, id, permissions };
            assertion::signed(&*sources, key, &client_id, audience.as_str(), now)
        });
        signing.await.unwrap_or_else(|_| Err(unavailable("the signing of a request for a token broke off".to_owned())))
    }
}

/// The upstream's own policy. What says who the upstream itself is says nothing of another host.
fn settings_for(http: &HttpConfig, endpoint: &Url) -> TlsSettings {
    let settings = http.tls.clone().unwrap_or_default();
    if endpoint.host_str() == http.url.host_str() {
        return settings;
    }
    TlsSettings { server_name: None, expected_sans: Vec::new(), ..settings }
}

/// RFC 6749 §2.3.1: both parts are form-encoded first.
fn basic(client_id: &str, secret: &Secret) -> Result<HeaderValue, Explanation> {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Secret::new(format!("{}:{}", encoded(client_id), encoded(secret.expose())));
    sensitive(format!("Basic {}", BASE64_STANDARD.encode(pair.expose())))
}

/// RFC 6749 §5.1 and §5.2
#[derive(Deserialize)]
struct Answered {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Number>,
    error: Option<String>,
}

/// Some endpoints write numbers as strings.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(f64),
    Text(String),
}

impl Number {
    fn seconds(self) -> Option<u64> {
        let seconds = match self {
            Self::Number(number) => number,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        // A negative or nonsensical one becomes 0 by the rules of `as`.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is what is wanted")]
        Some((seconds as u64).min(LONGEST_LIFE))
    }
}

fn read(status: StatusCode, body: &[u8]) -> Result<Token, Failure> {
    let answered: Option<Answered> = serde_json::from_slice(body).ok();
    if !status.is_success() {
        let said = answered.and_then(|answered| answered.error);
        let known = said.and_then(|said| ERRORS.into_iter().find(|known| *known == said));
        let words = known.map(|known| format!(" ({known})")).unwrap_or_default();
        let detail = format!("the token endpoint answered HTTP {}{words}", status.as_u16());
        return Err(match known {
            Some("invalid_client" | "unauthorized_client") => Failure::Client(refused(detail)),
            None if status == StatusCode::UNAUTHORIZED => Failure::Client(refused(detail)),
            _ => Failure::Other(refused(detail)),
        });
    }
    let other = |detail: &str| Failure::Other(unavailable(format!("the token endpoint's answer {detail}")));
    let answered = answered.ok_or_else(|| other("is no JSON of a token"))?;
    let token = answered.access_token.filter(|token| !token.is_empty()).ok_or_else(|| other("holds no access token"))?;
    if token.len() > MAX_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(other("holds a token that cannot be sent"));
    }
    if !answered.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(other("holds a token that is no bearer token"));
    }
    let value = bearer(&Secret::new(token)).map_err(Failure::Other)?;
    Ok(Token::new(value, answered.expires_in.and_then(Number::seconds).map(Duration::from_secs)))
}

pub(super) fn unavailable(detail: String) -> Explanation {
    Explanation::new(
        Reason::AuthTokenEndpoint,
        detail,
        "check `token_url` in `[mcp.servers.NAME.auth]`, and whether it can be reached from here",
    )
}

fn refused(detail: String) -> Explanation {
    let remedy =
        "check client_id, its secret or key, scope, resource and audience in `[mcp.servers.NAME.auth]`; the endpoint's own log says more";
    Explanation::new(Reason::AuthTokenEndpoint, detail, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> Result<String, String> {
        match read(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
            Ok(token) => Ok(token.value().to_str().unwrap().to_owned()),
            Err(Failure::Client(why)) => Err(format!("client: {}", why.detail)),
            Err(Failure::Other(why)) => Err(why.detail),
        }
    }

    #[test]
    fn a_token_is_taken_and_nothing_that_is_none() {
        assert_eq!(told(200, r#"{"access_token":"t","token_type":"bearer","expires_in":"60","x":1}"#), Ok("Bearer t".to_owned()));
        assert_eq!(told(200, r#"{"access_token":"t","expires_in":-5.5}"#), Ok("Bearer t".to_owned()));
        for bad in [
            "",
            "<html>",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":7}"#,
            r#"{"access_token":"a b"}"#,
            "{\"access_token\":\"a\\r\\nX: y\"}",
            r#"{"access_token":"t","token_type":"N_A"}"#,
            &format!(r#"{{"access_token":"{}"}}"#, "x".repeat(MAX_TOKEN + 1)),
        ] {
            assert!(told(200, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_a_refusal_only_the_codes_of_the_standard_are_repeated() {
        let known = told(400, r#"{"error":"invalid_scope","error_description":"user ann@corp has not got it"}"#);
        assert_eq!(known, Err("the token endpoint answered HTTP 400 (invalid_scope)".to_owned()));
        let unknown = told(400, r#"{"error":"tenant contoso is gone"}"#);
        assert_eq!(unknown, Err("the token endpoint answered HTTP 400".to_owned()));
        assert_eq!(told(401, "who are you"), Err("client: the token endpoint answered HTTP 401".to_owned()));
        assert_eq!(told(302, ""), Err("the token endpoint answered HTTP 302".to_owned()));
    }

    #[test]
    fn both_parts_of_a_basic_proof_are_encoded_first() {
        let value = basic("a b", &Secret::new("p:w%")).unwrap();
        assert_eq!(value.to_str().unwrap(), format!("Basic {}", BASE64_STANDARD.encode("a+b:p%3Aw%25")));
        assert!(value.is_sensitive());
    }
}
