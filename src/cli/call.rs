//! `nexus call TOOL [JSON]`: one call, as an agent would make it.

use std::{io::Write as _, sync::Arc};

use bytes::Bytes;
use clap::Args;
use http_body_util::BodyExt as _;
use serde_json::{Value, value::RawValue};

use super::{
    FAILURE, USAGE, World,
    announce::{Announcer, trouble},
    fail, start, written,
};
use crate::{
    audit::Target,
    auth,
    gateway::{Client, Gateway, GatewayError, ModernClient, Reply},
    mcp::{Id, Message, Method, build, splice::object},
    upstream::{State, own_meta},
};

#[derive(Debug, Args)]
pub(super) struct CallArgs {
    /// The tool's name as `nexus tools` shows it
    tool: String,
    /// Its arguments, a JSON object
    #[arg(default_value = "{}", value_name = "JSON")]
    arguments: String,
}

pub(super) async fn run(world: &World, args: CallArgs) -> u8 {
    let Ok(arguments) = serde_json::from_str::<Box<RawValue>>(&args.arguments) else {
        return fail(USAGE, "error: the arguments are not JSON\n  fix: quote them for the shell, such as '{\"city\":\"Bonn\"}'");
    };
    if !arguments.get().starts_with('{') {
        return fail(USAGE, "error: the arguments are not a JSON object\n  fix: name them, such as '{\"city\":\"Bonn\"}'");
    }
    let (_, config) = match start::load(world) {
        Ok(loaded) => loaded,
        Err(refused) => return refused.code,
    };
    let gateway = start::gateway_alone(world, &config);
    // Stdout is the answer's.
    let is_stdout = config.telemetry.audit.as_ref().is_some_and(|audit| audit.target == Target::Stdout);
    if !is_stdout && let Err(code) = start::audit(&gateway, &config) {
        return code;
    }
    Announcer::new(world.global.log_style).tried(&gateway).await;
    let code = match Box::pin(call(&gateway, &args.tool, arguments.get())).await {
        Ok(answer) => print(&answer),
        Err(GatewayError::Upstream { upstream, error, .. }) => {
            fail(FAILURE, &format!("error: upstream {upstream}: {}", trouble(&error.explanation())))
        }
        Err(GatewayError::Ambiguous { name, candidates }) => {
            fail(FAILURE, &format!("error: several upstreams offer {name}\n  fix: call {}", candidates.join(" or ")))
        }
        Err(error) => {
            for upstream in gateway.upstreams().iter() {
                if let State::Down(why) = &upstream.status().borrow().state {
                    fail(FAILURE, &format!("upstream {}: down · {}", upstream.name(), trouble(why)));
                }
            }
            fail(
                FAILURE,
                &format!("error: {error}\n  fix: `nexus tools` lists the names; the tools of an upstream that is down are not known"),
            )
        }
    };
    gateway.shut_down().await;
    start::audit_is_written(&gateway).await;
    code
}

async fn call(gateway: &Arc<Gateway>, tool: &str, arguments: &str) -> Result<Bytes, GatewayError> {
    let name = crate::mcp::json::quote(tool);
    let params = object(&[("name", &name), ("arguments", arguments.as_bytes()), ("_meta", &own_meta().object())]);
    let body = build::request(&Id::from_u64(1), Method::ToolsCall, Some(&params));
    let message = Message::parse(body).map_err(|_| GatewayError::InvalidParams("the call cannot be written as a message"))?;
    let client = Client::Modern(Arc::new(ModernClient::default()));
    match gateway.handle(&auth::Caller::local(), &client, message).await? {
        Reply::Message { body, .. } => Ok(body),
        Reply::Pieces(pieces) => Ok(pieces.concat().into()),
        Reply::Json(json) => Ok(json.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default()),
        Reply::Events(mut events) => {
            let mut last = Bytes::new();
            while let Some(message) = events.next().await {
                last = message?;
            }
            Ok(last)
        }
    }
}

/// Text content as text, everything else as JSON.
fn print(answer: &[u8]) -> u8 {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return fail(FAILURE, "error: the answer broke off") };
    if let Some(error) = answer.get("error") {
        return fail(FAILURE, &format!("error: {error}"));
    }
    let Some(result) = answer.get("result") else { return fail(FAILURE, "error: the answer holds no result") };
    let is_error = result.get("isError") == Some(&Value::Bool(true));
    let mut out = std::io::stdout().lock();
    let outcome = match result.get("content").and_then(Value::as_array) {
        Some(content) => content.iter().try_for_each(|item| match item.get("text").and_then(Value::as_str) {
            Some(text) => writeln!(out, "{text}"),
            None => writeln!(out, "{item}"),
        }),
        None => writeln!(out, "{result}"),
    };
    written(outcome.map(|()| if is_error { FAILURE } else { 0 }))
}
