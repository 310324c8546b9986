//! What goes up in whose name: the gateway's own credential, or the caller's, and nothing else of the caller's.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)] // Helpers of tests.

mod forward;
mod headers;
mod isolation;
mod recording;
mod single_flight;
mod tokens;

use serde_json::json;

use crate::support::{
    fake::{Answer, Call, FakeSpec, legacy, modern},
    offer::tool,
};

/// A kind of server.
pub(super) type Server = fn() -> FakeSpec;

pub(super) const SERVERS: [Server; 2] = [legacy, modern];

/// The bearer token of a request.
pub(super) fn token(call: &Call) -> &str {
    call.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

/// A server that takes its callers' own tokens: everybody has a tool of his own, and a call says whose it was.
pub(super) fn personal(server: Server) -> FakeSpec {
    let head = if server().is_modern() { r#""resultType":"complete","ttlMs":0,"cacheScope":"private","# } else { "" };
    let list = move |call: &Call| {
        let own = tool(&format!("of_{}", token(call)));
        Answer::json(call.response(&format!(r#"{head}"tools":[{},{own}]"#, tool("whoami"))))
    };
    let head = if server().is_modern() { r#""resultType":"complete","# } else { "" };
    let call = move |call: &Call| {
        let text = json!(format!("{} for {}", call.params()["name"].as_str().unwrap_or_default(), token(call)));
        Answer::json(call.response(&format!(r#"{head}"content":[{{"type":"text","text":{text}}}]"#)))
    };
    server().on("tools/list", list).on("tools/call", call).toml("[.auth]\ntype = \"forward\"")
}
