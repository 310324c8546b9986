//! `/tools`: every tool that is known, and whether clients see it.

use std::sync::Arc;

use axum::{body::Body, extract::State};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::admin::{respond, server::Inner};
use crate::gateway::{KnownTool, Visibility};

#[derive(Serialize)]
struct Tools {
    tools: Vec<ToolView>,
}

#[derive(Serialize)]
struct ToolView {
    /// As clients see it, or would.
    name: Option<String>,
    upstream: String,
    /// As the upstream calls it.
    own_name: Option<String>,
    /// `listed`, `found` (by `search` only), `hidden`, `quarantined`, `collision` or `down`.
    visibility: &'static str,
    /// What is wrong with a quarantined one.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl From<KnownTool> for ToolView {
    fn from(tool: KnownTool) -> Self {
        let visibility = tool.visible.word();
        let why = if let Visibility::Quarantined(why) = tool.visible { Some(why) } else { None };
        Self { name: tool.name, upstream: tool.upstream.to_string(), own_name: tool.own_name, visibility, why }
    }
}

pub(super) async fn all(State(state): State<Arc<Inner>>) -> Response<Body> {
    let tools = state.parts.gateway.known_tools().into_iter().map(ToolView::from).collect();
    respond::json(StatusCode::OK, &Tools { tools })
}
