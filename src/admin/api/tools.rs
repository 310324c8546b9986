//! `/tools`: every tool that is known, and whether clients see it.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
};
use http::{Response, StatusCode};
use serde::Serialize;
use url::form_urlencoded;

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
    /// `listed`, `found` (by `search` only), `hidden`, `denied`, `quarantined`, `collision` or `down`.
    visibility: &'static str,
    /// What is wrong with a quarantined one, or what the list says that denies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The list of groups that denies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<String>,
    /// Whether `allow` or `deny` have a word in who sees it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    restricted: bool,
}

impl From<KnownTool> for ToolView {
    fn from(tool: KnownTool) -> Self {
        let visibility = tool.visible.word();
        let (why, list) = match tool.visible {
            Visibility::Quarantined(why) => (Some(why), None),
            Visibility::Denied { list, says } => (Some(says.to_owned()), Some(list)),
            _ => (None, None),
        };
        let upstream = tool.upstream.to_string();
        Self { name: tool.name, upstream, own_name: tool.own_name, visibility, why, list, restricted: tool.is_ruled }
    }
}

/// With `as=GROUP`, once or several times, as somebody in these groups sees them; an empty one stands for none.
pub(super) async fn all(State(state): State<Arc<Inner>>, request: Request) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let groups: Vec<String> =
        form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "as").map(|(_, group)| group.into()).collect();
    let groups = (!groups.is_empty()).then_some(&groups[..]);
    let tools = state.parts.gateway.known_tools(groups).into_iter().map(ToolView::from).collect();
    respond::json(StatusCode::OK, &Tools { tools })
}
