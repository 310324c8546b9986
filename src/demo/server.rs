//! An MCP server in both eras: `initialize` up to 2025-11-25, `_meta` on every request in 2026-07-28. Knows no transport.

use std::{borrow::Cow, future::Future, sync::Arc};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::tools::{Arguments, Outcome, Tool, call_result};
use crate::mcp::{
    Era, Field, Id, Kind, Message, ParseError, Version,
    era::classify,
    errors::{Stage, code, error_response, http_status},
};

/// How long a client may keep what never changes while we run.
const TTL_MS: u32 = 300_000;

/// Progress notifications that may wait for a slow client.
const PROGRESS_QUEUE: usize = 8;

/// What one upstream does; everything else about MCP is in this file.
pub(super) trait Upstream: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn instructions(&self) -> &'static str;
    fn tools(&self) -> Vec<Tool>;

    /// Runs one of [`Self::tools`]. Dropped when the client goes away.
    fn call(&self, tool: &str, arguments: Arguments<'_>, progress: &Progress) -> impl Future<Output = Outcome> + Send;

    /// `None`: this upstream has no resources.
    fn resources(&self) -> Option<Vec<Value>> {
        None
    }
    fn templates(&self) -> Vec<Value> {
        Vec::new()
    }
    fn read(&self, _uri: &str) -> Option<Value> {
        None
    }
    /// Empty: this upstream has no prompts.
    fn prompts(&self) -> Vec<Value> {
        Vec::new()
    }
    fn prompt(&self, _name: &str, _arguments: Arguments<'_>) -> Option<Value> {
        None
    }
}

/// Tells the caller how far a tool is, if the caller asked for it.
#[derive(Clone, Debug)]
pub(super) struct Progress(Option<(Value, mpsc::Sender<Bytes>)>);

impl Progress {
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) async fn report(&self, done: u32, total: u32, words: String) {
        let Some((token, sender)) = &self.0 else { return };
        let params = json!({"progressToken": token, "progress": done, "total": total, "message": words});
        let notification = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
        // The receiver lives exactly as long as this call.
        let _ = sender.send(notification.to_string().into()).await;
    }
}

/// What goes back for one message.
#[derive(Debug)]
pub(super) enum Sent {
    Notification(Bytes),
    Reply(Reply),
}

/// The response to one request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) body: Bytes,
    /// As HTTP carries it; 200 unless the revision says otherwise.
    pub(super) status: u16,
}

impl Reply {
    pub(super) fn error(id: Option<&Id>, status: u16, code: i64, message: &str, data: Option<&Value>) -> Self {
        let data = data.map(Value::to_string);
        Self { body: error_response(id, code, message, data.as_deref().map(str::as_bytes)), status }
    }

    /// For bytes that are no message.
    pub(super) fn unreadable(error: &ParseError) -> Self {
        Self::error(error.id.as_ref(), 400, error.code(), &error.to_string(), None)
    }

    fn result(id: Option<&Id>, result: &Value) -> Self {
        // As it came, so that `1` stays `1` and `"1"` stays `"1"`.
        let id = id.map_or(Cow::Borrowed("null"), |id| String::from_utf8_lossy(id.as_json()));
        Self { body: format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into(), status: 200 }
    }
}

struct Refusal {
    code: i64,
    message: String,
    data: Option<Value>,
}

/// Whether the answer to `message` may come with progress notifications.
pub(super) fn reports_progress(message: &Message) -> bool {
    message.method() == "tools/call" && message.span(Field::MetaProgressToken).is_some()
}

/// What goes back for `message`, in order: progress notifications if it asked for them, then the reply if it is a request.
/// Dropping the stream cancels the work.
///
/// `header` is the value of `MCP-Protocol-Version`, where there are headers.
pub(super) fn converse<U: Upstream>(upstream: Arc<U>, message: Message, header: Option<String>) -> impl Stream<Item = Sent> + Send {
    let (sender, receiver) = mpsc::channel(PROGRESS_QUEUE);
    let work =
        (message.kind() == Kind::Request).then(|| Box::pin(async move { answer(&*upstream, &message, header.as_deref(), sender).await }));
    stream::unfold((work, receiver, None), |(mut work, mut receiver, mut reply)| async move {
        loop {
            if let Ok(notification) = receiver.try_recv() {
                return Some((Sent::Notification(notification), (work, receiver, reply)));
            }
            if let Some(reply) = reply.take() {
                return Some((Sent::Reply(reply), (work, receiver, None)));
            }
            let running = work.as_mut()?;
            tokio::select! {
                biased;
                done = running => {
                    work = None;
                    reply = Some(done);
                }
                Some(notification) = receiver.recv() => return Some((Sent::Notification(notification), (work, receiver, reply))),
            }
        }
    })
}

async fn answer<U: Upstream>(upstream: &U, message: &Message, header: Option<&str>, sender: mpsc::Sender<Bytes>) -> Reply {
    let era = match classify(message, header, false) {
        Ok(opening) => opening.era(),
        Err(error) => {
            let data = json!({"supported": Version::ALL.map(Version::as_str), "requested": message.meta_protocol_version()});
            let data = (error.code() == code::UNSUPPORTED_PROTOCOL_VERSION).then_some(data);
            return Reply::error(message.id(), 400, error.code(), &error.to_string(), data.as_ref());
        }
    };
    let params: Map<String, Value> = message.raw(Field::Params).and_then(|raw| serde_json::from_slice(&raw).ok()).unwrap_or_default();
    let progress = Progress(params.get("_meta").and_then(|meta| meta.get("progressToken")).map(|token| (token.clone(), sender)));
    match dispatch(upstream, era, message.method(), &params, &progress).await {
        Ok(mut result) => {
            if era == Era::Modern {
                complete(upstream, message.method(), &mut result);
            }
            Reply::result(message.id(), &result)
        }
        Err(Refusal { code, message: words, data }) => {
            Reply::error(message.id(), http_status(era, code, Stage::Handling), code, &words, data.as_ref())
        }
    }
}

async fn dispatch<U: Upstream>(
    upstream: &U,
    era: Era,
    method: &str,
    params: &Map<String, Value>,
    progress: &Progress,
) -> Result<Value, Refusal> {
    let has_resources = upstream.resources().is_some();
    let has_prompts = !upstream.prompts().is_empty();
    let text = |name: &str| params.get(name).and_then(Value::as_str).ok_or_else(|| invalid(format!("params.{name} must be a string")));
    if method.ends_with("/list") && params.get("cursor").is_some() {
        return Err(invalid("this cursor was never given out".to_owned()));
    }
    match method {
        "initialize" if era == Era::Legacy => Ok(initialize(upstream, params)),
        "ping" if era == Era::Legacy => Ok(json!({})),
        "server/discover" if era == Era::Modern => Ok(
            json!({"supportedVersions": Version::ALL.map(Version::as_str), "capabilities": capabilities(upstream), "instructions": upstream.instructions()}),
        ),
        "tools/list" => Ok(json!({"tools": upstream.tools().iter().map(Tool::to_json).collect::<Vec<_>>()})),
        "tools/call" => call(upstream, text("name")?, params, progress).await,
        "resources/list" if has_resources => Ok(json!({"resources": upstream.resources()})),
        "resources/templates/list" if has_resources => Ok(json!({"resourceTemplates": upstream.templates()})),
        "resources/read" if has_resources => {
            let uri = text("uri")?;
            let not_found = match era {
                Era::Legacy => code::RESOURCE_NOT_FOUND,
                Era::Modern => code::INVALID_PARAMS,
            };
            let found = upstream.read(uri).map(|content| json!({"contents": [content]}));
            found.ok_or_else(|| Refusal { code: not_found, message: "Resource not found".to_owned(), data: Some(json!({"uri": uri})) })
        }
        "prompts/list" if has_prompts => Ok(json!({"prompts": upstream.prompts()})),
        "prompts/get" if has_prompts => {
            let name = text("name")?;
            upstream.prompt(name, Arguments(&arguments(params)?)).ok_or_else(|| invalid(format!("unknown prompt \"{name}\"")))
        }
        _ => Err(Refusal { code: code::METHOD_NOT_FOUND, message: "Method not found".to_owned(), data: None }),
    }
}

async fn call<U: Upstream>(upstream: &U, name: &str, params: &Map<String, Value>, progress: &Progress) -> Result<Value, Refusal> {
    let tools = upstream.tools();
    let tool = tools.iter().find(|tool| tool.name == name).ok_or_else(|| invalid(format!("unknown tool \"{name}\"")))?;
    let arguments = arguments(params)?;
    let outcome = match Arguments(&arguments).only(tool) {
        Ok(()) => upstream.call(name, Arguments(&arguments), progress).await,
        Err(sentence) => Err(sentence),
    };
    Ok(call_result(&outcome))
}

fn arguments(params: &Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    match params.get("arguments") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(arguments)) => Ok(arguments.clone()),
        Some(_) => Err(invalid("params.arguments must be an object".to_owned())),
    }
}

fn initialize<U: Upstream>(upstream: &U, params: &Map<String, Value>) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    json!({
        "protocolVersion": Version::answer_to_initialize(asked).as_str(),
        "capabilities": capabilities(upstream),
        "serverInfo": server_info(upstream),
        "instructions": upstream.instructions(),
    })
}

fn capabilities<U: Upstream>(upstream: &U) -> Value {
    let mut capabilities = Map::from_iter([("tools".to_owned(), json!({}))]);
    if upstream.resources().is_some() {
        capabilities.insert("resources".to_owned(), json!({}));
    }
    if !upstream.prompts().is_empty() {
        capabilities.insert("prompts".to_owned(), json!({}));
    }
    Value::Object(capabilities)
}

fn server_info<U: Upstream>(upstream: &U) -> Value {
    json!({"name": format!("nexus-demo-{}", upstream.name()), "version": env!("CARGO_PKG_VERSION")})
}

/// What every result of 2026-07-28 carries (basic, "Results"), and the cacheable ones besides (server/utilities/caching).
fn complete<U: Upstream>(upstream: &U, method: &str, result: &mut Value) {
    let Some(result) = result.as_object_mut() else { return };
    result.insert("resultType".to_owned(), json!("complete"));
    result.insert("_meta".to_owned(), json!({"io.modelcontextprotocol/serverInfo": server_info(upstream)}));
    let (ttl, scope) = match method {
        "server/discover" | "tools/list" | "prompts/list" | "resources/templates/list" => (TTL_MS, "public"),
        // Notes change, and belong to whoever wrote them.
        "resources/list" | "resources/read" => (0, "private"),
        _ => return,
    };
    result.insert("ttlMs".to_owned(), json!(ttl));
    result.insert("cacheScope".to_owned(), json!(scope));
}

fn invalid(message: String) -> Refusal {
    Refusal { code: code::INVALID_PARAMS, message, data: None }
}
