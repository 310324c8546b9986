//! Every error as a client sees it: code, words and HTTP status. No address, path or certificate detail leaves here.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::turned_away::TurnedAway;
use crate::{
    audit::{RequestId, whole_millis},
    auth::Denied,
    gateway::{GatewayError, ItemKind, UpstreamError},
    limits::{self, Limited, Scope},
    mcp::{
        Era, Id, ParseError,
        era::OpeningError,
        errors::{Stage, code, error_response, http_status},
        json,
    },
    reason::Reason,
};

/// When to try again what the store of sessions gave no answer to.
const WITHOUT_STORE: Duration = Duration::from_secs(1);

/// An error that is ready to be sent.
#[derive(Debug)]
pub(super) struct Rescued {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// In log and reply, so that one leads to the other.
    pub(super) request_id: Option<RequestId>,
    /// When to try again.
    pub(super) retry_after: Option<Duration>,
    /// With what to come back: `WWW-Authenticate`.
    pub(super) challenge: Option<HeaderValue>,
    /// Absent: it was handled, or its form was wrong.
    pub(super) turned_away: Option<Box<TurnedAway>>,
}

/// Maps a gateway error for a client of this era.
pub(super) fn rescue(error: &GatewayError, id: Option<&Id>, era: Era) -> Rescued {
    let code = error.code(era);
    let (message, data, request_id) = match error {
        GatewayError::Unknown { kind, name } => {
            let words = match kind {
                ItemKind::Resource => "Resource not found".to_owned(),
                ItemKind::Tool | ItemKind::Prompt | ItemKind::Task => format!("Unknown {kind}: {}", shorten(name)),
            };
            let data = matches!(kind, ItemKind::Resource).then(|| format!("{{\"uri\":{}}}", quoted(name)));
            (words, data, None)
        }
        GatewayError::UnknownToExecute { name } => (format!("Unknown tool: {}; `search` gives the exact names", shorten(name)), None, None),
        GatewayError::SearchFailed => ("the search failed; the gateway's log says why".to_owned(), None, None),
        GatewayError::Ambiguous { name, candidates } => {
            let words = format!("Ambiguous name {}: use one of {}", shorten(name), candidates.join(", "));
            let list: Vec<_> = candidates.iter().map(|candidate| quoted(candidate)).collect();
            (words, Some(format!("{{\"candidates\":[{}]}}", list.join(","))), None)
        }
        GatewayError::MethodNotFound(method) => (format!("Method not found: {}", shorten(method)), None, None),
        GatewayError::HeaderMismatch(mismatch) => (mismatch.to_string(), None, None),
        GatewayError::MissingExtension(extension) => {
            let data = format!("{{\"requiredCapabilities\":{{\"extensions\":{{{}:{{}}}}}}}}", quoted(extension));
            ("Missing required client capability".to_owned(), Some(data), None)
        }
        GatewayError::InvalidParams(why) => (format!("Invalid params: {why}"), None, None),
        GatewayError::InvalidState => {
            let data = r#"{"reason":"invalid_request_state"}"#.to_owned();
            (
                "Invalid params: `requestState` is not valid for this request, or has expired; make the call again without it".to_owned(),
                Some(data),
                None,
            )
        }
        GatewayError::Upstream { upstream, error, .. } if error.reason() == Reason::NeedsCaller => {
            let data = format!("{{\"upstream\":{},\"reason\":\"{}\"}}", quoted(upstream.as_str()), Reason::NeedsCaller);
            ("Authentication required for this tool".to_owned(), Some(data), None)
        }
        GatewayError::Upstream { upstream, error, since, request_id } => {
            let request_id = request_id.unwrap_or_else(RequestId::next);
            let reason = error.reason();
            let explanation = error.explanation();
            tracing::warn!(
                upstream = %upstream, reason = reason.code(), %request_id, detail = %explanation.detail, fix = %explanation.remedy,
                "a request failed at its upstream"
            );
            let since = since.map(|since| format!(", since {}", clock_time(since))).unwrap_or_default();
            let condition = match error {
                UpstreamError::Down(_) => "is unavailable",
                UpstreamError::Failed { .. }
                | UpstreamError::NoInitialize(_)
                | UpstreamError::SessionLost
                | UpstreamError::WrongEra
                | UpstreamError::Redirected { .. }
                | UpstreamError::NotBridged(_)
                | UpstreamError::CannotAsk(_) => "failed",
                UpstreamError::Busy { .. } => "is busy",
                UpstreamError::TimedOut(_) => "did not answer in time",
            };
            let cause = error.words();
            let words = format!("upstream \"{upstream}\" {condition}: {cause} ({reason}){since}, request {request_id}");
            let data = format!("\"upstream\":{},\"reason\":\"{reason}\",\"request_id\":\"{request_id}\"", quoted(upstream.as_str()));
            if let UpstreamError::Busy { status, after } = error {
                let data = format!("{{{data},\"retryAfterMs\":{}}}", after.as_millis());
                let body = error_response(id, code, &words, Some(data.as_bytes()));
                // A legacy client's error goes inside 200.
                let status = if era == Era::Modern { *status } else { StatusCode::OK };
                return Rescued {
                    status,
                    body,
                    request_id: Some(request_id),
                    retry_after: Some(*after),
                    challenge: None,
                    turned_away: None,
                };
            }
            (words, Some(format!("{{{data}}}")), Some(request_id))
        }
        GatewayError::Limited(limited) => return rescue_limited(limited, id, status_of(limited)),
        GatewayError::TooManySessions => {
            let body = error_response(id, code, "too many sessions; try again later", None);
            return Rescued {
                status: StatusCode::SERVICE_UNAVAILABLE,
                body,
                request_id: None,
                retry_after: None,
                challenge: None,
                turned_away: None,
            };
        }
        GatewayError::NoStore(_) => {
            let data = format!("{{\"retryAfterMs\":{}}}", WITHOUT_STORE.as_millis());
            let body = error_response(id, code, "sessions cannot be looked up at the moment; try again", Some(data.as_bytes()));
            return Rescued {
                status: StatusCode::SERVICE_UNAVAILABLE,
                body,
                request_id: None,
                retry_after: Some(WITHOUT_STORE),
                challenge: None,
                turned_away: None,
            };
        }
    };
    let status = StatusCode::from_u16(http_status(era, code, Stage::Handling)).unwrap_or(StatusCode::OK);
    let body = error_response(id, code, &message, data.as_deref().map(str::as_bytes));
    Rescued { status, body, request_id, retry_after: None, challenge: None, turned_away: None }
}

/// A limit said no. At the door the status says so, too; a client's message that was read is answered within HTTP 200.
pub(super) fn rescue_limited(limited: &Limited, id: Option<&Id>, status: StatusCode) -> Rescued {
    let words = match limited.scope {
        Scope::Storage => "Rate limits cannot be checked at the moment",
        Scope::Global | Scope::Ip | Scope::Client | Scope::Server | Scope::Tool | Scope::Upstream => "Rate limit exceeded",
    };
    let millis = whole_millis(limited.retry_after);
    let data = format!("{{\"retryAfterMs\":{millis},\"scope\":\"{}\"}}", limited.scope.word());
    let body = error_response(id, code::SERVER_ERROR, words, Some(data.as_bytes()));
    Rescued { status, body, request_id: None, retry_after: Some(limited.retry_after), challenge: None, turned_away: None }
}

/// What was refused before anybody knew what it asks for, or could not have been told within HTTP 200.
pub(super) fn rescue_at_door(limited: &Limited) -> Rescued {
    Rescued { turned_away: Some(TurnedAway::Limited(*limited).into()), ..rescue_limited(limited, None, status_of(limited)) }
}

fn status_of(limited: &Limited) -> StatusCode {
    match (limited.stage, limited.scope) {
        (limits::Stage::Call, _) => StatusCode::OK,
        (limits::Stage::Door, Scope::Storage) => StatusCode::SERVICE_UNAVAILABLE,
        (limits::Stage::Door, _) => StatusCode::TOO_MANY_REQUESTS,
    }
}

/// A body that is no message.
pub(super) fn rescue_parse(error: &ParseError) -> Rescued {
    let prefix = if error.code() == code::PARSE_ERROR { "Parse error" } else { "Invalid request" };
    let body = error_response(error.id.as_ref(), error.code(), &format!("{prefix}: {error}"), None);
    Rescued { status: StatusCode::BAD_REQUEST, body, request_id: None, retry_after: None, challenge: None, turned_away: None }
}

/// A message whose version or headers contradict each other.
pub(super) fn rescue_opening(error: &OpeningError, id: Option<&Id>) -> Rescued {
    let data = match error {
        OpeningError::UnsupportedVersion { requested } | OpeningError::UnsupportedHeader { requested } => {
            let supported = crate::mcp::Version::ALL.map(|version| format!("\"{version}\"")).join(",");
            Some(format!("{{\"supported\":[{supported}],\"requested\":{}}}", quoted(&shorten(requested))))
        }
        OpeningError::InvalidMeta(_) | OpeningError::HeaderMismatch(_) | OpeningError::ResponseFromModernClient => None,
    };
    let body = error_response(id, error.code(), &error.to_string(), data.as_deref().map(str::as_bytes));
    Rescued { status: StatusCode::BAD_REQUEST, body, request_id: None, retry_after: None, challenge: None, turned_away: None }
}

/// A refusal that no message was needed for.
pub(super) fn refusal(status: StatusCode, code: i64, words: &str) -> Rescued {
    Rescued {
        status,
        body: error_response(None, code, words, None),
        request_id: None,
        retry_after: None,
        challenge: None,
        turned_away: None,
    }
}

/// A request of nobody who may ask.
pub(super) fn denied(why: Denied, challenge: Option<HeaderValue>) -> Rescued {
    let turned_away = Some(TurnedAway::Denied(why).into());
    Rescued { challenge, turned_away, ..refusal(why.status(), code::INVALID_REQUEST, why.words()) }
}

fn quoted(text: &str) -> String {
    String::from_utf8(json::quote(text)).unwrap_or_default()
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// `02:58Z`, or with the date when it is not today's.
fn clock_time(since: Duration) -> String {
    let Ok(seconds) = i64::try_from(since.as_secs()) else { return String::new() };
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp(seconds) else { return String::new() };
    let today = time::OffsetDateTime::now_utc().date() == at.date();
    let date = if today { String::new() } else { format!("{} ", at.date()) };
    format!("{date}{:02}:{:02}Z", at.hour(), at.minute())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{names::UpstreamName, reason::Explanation};

    fn text(rescued: &Rescued) -> serde_json::Value {
        serde_json::from_slice(&rescued.body).unwrap()
    }

    #[test]
    fn an_upstream_failure_names_the_reason_and_no_detail() {
        let secret = "CN=secret-host.corp at 10.1.2.3:443 in /etc/nexus/ca.pem";
        let error = GatewayError::Upstream {
            upstream: UpstreamName::parse("crm").unwrap(),
            error: UpstreamError::Down(Explanation::new(Reason::TlsExpired, secret, secret)),
            since: Some(Duration::from_secs(1_700_000_000)),
            request_id: None,
        };
        let rescued = rescue(&error, Some(&Id::from_u64(7)), Era::Legacy);
        let body = text(&rescued);
        assert_eq!(rescued.status, 200);
        assert_eq!(body["id"], 7);
        assert_eq!(body["error"]["code"], -32603);
        assert_eq!(body["error"]["data"]["reason"], "tls_expired");
        assert_eq!(body["error"]["data"]["request_id"], rescued.request_id.unwrap().to_string());
        let words = body["error"]["message"].as_str().unwrap();
        assert!(
            words.starts_with(
                "upstream \"crm\" is unavailable: its certificate has expired (tls_expired), since 2023-11-14 22:13Z, request "
            )
        );
        for part in ["secret-host", "10.1.2.3", "/etc/nexus"] {
            assert!(!body.to_string().contains(part), "{part}");
        }
    }

    #[test]
    fn an_unknown_resource_has_the_code_of_the_clients_era() {
        let error = GatewayError::Unknown { kind: ItemKind::Resource, name: "a://b".into() };
        assert_eq!(text(&rescue(&error, None, Era::Legacy))["error"]["code"], -32002);
        assert_eq!(text(&rescue(&error, None, Era::Modern))["error"]["code"], -32602);
    }

    #[test]
    fn an_unknown_method_is_404_for_a_modern_client_only() {
        let error = GatewayError::MethodNotFound("x".into());
        assert_eq!(rescue(&error, None, Era::Modern).status, 404);
        assert_eq!(rescue(&error, None, Era::Legacy).status, 200);
    }
}
