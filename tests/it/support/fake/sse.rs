//! A fake of 2024-11-05: a GET opens a stream that carries everything the server says, and messages are posted elsewhere.

use std::sync::Arc;

use http::{HeaderValue, Method};
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{
    Answer, Call,
    state::{Open, State},
};
use crate::support::wire;

impl State {
    pub(super) async fn answer_sse(self: &Arc<Self>, mut call: Call) -> Answer {
        let path = call.path.split('?').next().unwrap_or_default();
        match (&call.verb, path) {
            (&Method::GET, "/sse") => {
                self.seen.send_modify(|seen| seen.push(call.clone()));
                let handler = self.handlers.lock().get("GET").cloned();
                match handler {
                    Some(handler) => handler(call).await,
                    None => self.open_sse(),
                }
            }
            (&Method::POST, "/messages") => {
                let session = call.path.split_once("sessionId=").map(|(_, id)| id.to_owned()).unwrap_or_default();
                // So that a test finds the session where it is with the other transports.
                call.headers.insert("mcp-session-id", HeaderValue::try_from(&session).unwrap());
                self.seen.send_modify(|seen| seen.push(call.clone()));
                let open = self.streams.lock().iter().find(|open| open.session.as_deref() == Some(&*session)).cloned();
                match open.filter(|open| !open.sender.is_gone() && self.sessions.lock().contains(&session)) {
                    Some(open) => self.take_sse(call, open).await,
                    None => Answer::status(404),
                }
            }
            _ => {
                self.seen.send_modify(|seen| seen.push(call.clone()));
                Answer::new(405, "text/plain", "Method Not Allowed")
            }
        }
    }

    fn open_sse(&self) -> Answer {
        let id = format!("{}-session-{}", self.name, self.opened.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let (sender, body) = wire::stream();
        let first = format!("event: endpoint\ndata: /messages?sessionId={id}\n\n");
        // The channel of a new stream has room.
        let _ = futures_util::FutureExt::now_or_never(sender.bytes(first));
        self.sessions.lock().insert(id.clone());
        self.streams.lock().push(Open { id: Value::Null, session: Some(id), filter: Value::Null, sender });
        Answer::of(200, "text/event-stream", body)
    }

    async fn take_sse(self: &Arc<Self>, call: Call, open: Open) -> Answer {
        let key = call.method().to_owned();
        let handler = self.handlers.lock().get(&key).cloned();
        let state = Arc::clone(self);
        let refuses = self.refuses_posts.lock().contains(&key);
        if refuses {
            return Answer::status(503);
        }
        tokio::spawn(async move {
            let answer = match handler {
                Some(handler) => handler(call).await,
                None => state.legacy(&call),
            };
            let (parts, mut body) = answer.0.into_parts();
            let is_stream = parts.headers.get("content-type").is_some_and(|value| value == "text/event-stream");
            if is_stream {
                while let Some(Ok(frame)) = body.frame().await {
                    open.sender.bytes(frame.into_data().unwrap()).await;
                }
            } else {
                let text = body.collect().await.unwrap().to_bytes();
                if !text.is_empty() {
                    open.sender.event(std::str::from_utf8(&text).unwrap()).await;
                }
            }
        });
        Answer::new(202, "text/plain", "Accepted")
    }
}
