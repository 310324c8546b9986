//! Who wants to hear of which resource in one legacy session (MCP 2025-11-25, server/resources, "Subscriptions").
//!
//! A server knows one subscription a session and URI. Where several share the session, it is told of the first who comes and
//! of the last who goes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::Mutex;

use super::{Generation, Session, UpstreamError};
use crate::mcp::{Id, Kind, Message, Method, build, json::quote, splice::object};

/// By URI, the numbers of those who subscribed.
///
/// Locked while the server is asked: of two who come and go at once, the server must hear in the order that is kept here.
#[derive(Debug, Default)]
pub(super) struct Interest(Mutex<HashMap<Box<str>, BTreeSet<u64>>>);

impl Generation {
    /// Subscribes `who` and gives the server's response. `body`: the request to send, whose id is `id`.
    ///
    /// It is sent although somebody else may have subscribed already: whether `who` may is the server's to say each time.
    ///
    /// # Errors
    /// [`UpstreamError`]; the server's own error is a response.
    pub(crate) async fn subscribe(
        &self,
        session: &Arc<Session>,
        uri: &str,
        who: u64,
        id: u64,
        body: Bytes,
    ) -> Result<Message, UpstreamError> {
        let mut wanted = session.interest.0.lock().await;
        // Noted first: whoever gives up waiting is taken out again by `leave`.
        let is_new = wanted.entry(uri.into()).or_default().insert(who);
        let answer = self.ask(Some(session), Method::ResourcesSubscribe, id, body).await;
        if is_new && !answer.as_ref().is_ok_and(|answer| answer.kind() == Kind::Response) {
            take_out(&mut wanted, uri, who);
        }
        answer
    }

    /// The same with a request of the gateway's own.
    ///
    /// # Errors
    /// As [`Generation::subscribe`].
    pub(crate) async fn subscribe_to(&self, session: &Arc<Session>, uri: &str, who: u64) -> Result<Message, UpstreamError> {
        let id = session.next_id();
        self.subscribe(session, uri, who, id, request(Method::ResourcesSubscribe, id, uri)).await
    }

    /// Ends the subscription of `who`. The server is told, and its response given, unless others still want it.
    ///
    /// # Errors
    /// As [`Generation::subscribe`].
    pub(crate) async fn unsubscribe(
        &self,
        session: &Arc<Session>,
        uri: &str,
        who: u64,
        id: u64,
        body: Bytes,
    ) -> Result<Option<Message>, UpstreamError> {
        let mut wanted = session.interest.0.lock().await;
        take_out(&mut wanted, uri, who);
        if wanted.contains_key(uri) {
            return Ok(None);
        }
        self.ask(Some(session), Method::ResourcesUnsubscribe, id, body).await.map(Some)
    }

    /// The same with a request of the gateway's own.
    ///
    /// # Errors
    /// As [`Generation::subscribe`].
    pub(crate) async fn unsubscribe_from(&self, session: &Arc<Session>, uri: &str, who: u64) -> Result<(), UpstreamError> {
        let id = session.next_id();
        self.unsubscribe(session, uri, who, id, request(Method::ResourcesUnsubscribe, id, uri)).await.map(drop)
    }

    /// Ends all subscriptions of `who`.
    pub(crate) async fn leave(&self, session: &Arc<Session>, who: u64) {
        let mut wanted = session.interest.0.lock().await;
        let left: Vec<Box<str>> = wanted.iter().filter(|(_, by)| by.contains(&who)).map(|(uri, _)| uri.clone()).collect();
        for uri in left {
            take_out(&mut wanted, &uri, who);
            if wanted.contains_key(&uri) || session.has_ended() {
                continue;
            }
            let id = session.next_id();
            let body = request(Method::ResourcesUnsubscribe, id, &uri);
            if let Err(error) = self.ask(Some(session), Method::ResourcesUnsubscribe, id, body).await {
                tracing::debug!(%error, "a subscription that nobody needs any more could not be ended");
            }
        }
    }
}

fn take_out(wanted: &mut HashMap<Box<str>, BTreeSet<u64>>, uri: &str, who: u64) {
    if let Some(by) = wanted.get_mut(uri) {
        by.remove(&who);
        if by.is_empty() {
            wanted.remove(uri);
        }
    }
}

fn request(method: Method, id: u64, uri: &str) -> Bytes {
    build::request(&Id::from_u64(id), method, Some(&object(&[("uri", &quote(uri))])))
}
