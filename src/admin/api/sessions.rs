//! `/sessions`: the clients of the revisions with sessions. A session's id is a credential, so only its beginning is shown.

use std::sync::Arc;

use axum::{body::Body, extract::State};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{
    admin::{respond, server::Inner},
    gateway::{Gateway, LegacySession},
    tls::shown,
};

/// Most sessions that are listed one by one.
const MAX_LISTED: usize = 1000;

#[derive(Serialize)]
struct Sessions {
    /// All there are.
    count: usize,
    /// The first thousand of them.
    sessions: Vec<SessionView>,
}

#[derive(Serialize)]
struct SessionView {
    /// The beginning of the session's id, as in the log.
    id: String,
    client: Option<String>,
    client_version: Option<String>,
    protocol: String,
    idle_seconds: u64,
    /// It waits for an answer, or has a stream open.
    busy: bool,
    /// The upstreams that it has sessions with.
    upstreams: Vec<String>,
}

/// What a client says of itself (MCP 2025-11-25, basic/lifecycle).
#[derive(Default, Deserialize)]
struct ClientInfo {
    name: Option<String>,
    version: Option<String>,
}

impl SessionView {
    fn of(gateway: &Gateway, session: &LegacySession) -> Self {
        // Any client writes what it likes there.
        let info: ClientInfo = serde_json::from_slice(&session.record.client_info).unwrap_or_default();
        let upstreams = gateway.upstreams_of(&session.record.principal);
        let name = |id| upstreams.iter().find(|upstream| upstream.id() == id).map(|upstream| upstream.name().to_string());
        Self {
            id: format!("{:?}", session.id()),
            client: info.name.as_deref().map(shown),
            client_version: info.version.as_deref().map(shown),
            protocol: session.record.version.to_string(),
            idle_seconds: gateway.sessions().idle(session).as_secs(),
            busy: session.is_busy(),
            upstreams: session.reached().into_iter().filter_map(name).collect(),
        }
    }
}

pub(super) async fn all(State(state): State<Arc<Inner>>) -> Response<Body> {
    let gateway = &state.parts.gateway;
    let sessions = gateway.sessions().all().iter().take(MAX_LISTED).map(|session| SessionView::of(gateway, session)).collect();
    respond::json(StatusCode::OK, &Sessions { count: gateway.sessions().count(), sessions })
}
