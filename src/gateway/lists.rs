//! The merged lists, served from memory as one page.

use std::sync::Arc;

use bytes::Bytes;

use super::{Client, Gateway, GatewayError, Reply, forward::Forward, route::Route, tally::Counted};
use crate::{
    auth::Caller,
    mcp::{Era, Id, Message, Method, list::ListKind},
};

impl Gateway {
    pub(super) async fn list(
        self: &Arc<Self>,
        caller: &Caller,
        client: &Client,
        message: Message,
        id: &Id,
        kind: ListKind,
        counted: &mut Counted,
    ) -> Result<Reply, GatewayError> {
        if let Some(route) = Route::only(self.view_for(caller)) {
            return Box::pin(self.to_only_upstream(caller, client, message, kind.method(), route, counted)).await;
        }
        // The one page has no cursor, so none that a client sends can be ours.
        if message.span(crate::mcp::Field::Cursor).is_some() {
            return Err(GatewayError::InvalidParams("the cursor is unknown: this list has one page"));
        }
        self.pay(caller).await?;
        let view = self.settled_for(caller).await;
        let listed = view.catalog.list(kind);
        let (head, items): (&[u8], _) = match client.era() {
            Era::Legacy => (b",\"result\":{", listed.legacy.clone()),
            // No time-to-live is promised: a change is announced, and each catalog is its caller's own.
            Era::Modern => (b",\"result\":{\"resultType\":\"complete\",\"ttlMs\":0,\"cacheScope\":\"private\",", listed.modern.clone()),
        };
        let head = [&b"{\"jsonrpc\":\"2.0\",\"id\":"[..], id.as_json(), head].concat();
        Ok(Reply::Pieces([head.into(), items, Bytes::from_static(b"}}")]))
    }

    /// Sends what names no item to the upstream of a transparent gateway.
    pub(super) async fn to_only_upstream(
        self: &Arc<Self>,
        caller: &Caller,
        client: &Client,
        message: Message,
        method: Method,
        route: Route,
        counted: &mut Counted,
    ) -> Result<Reply, GatewayError> {
        counted.goes_to(&route);
        let admission = self.admit(caller, method, &route).await?;
        self.forward(Forward { caller, client, message, method, route, admission, again: 0, counted }).await
    }
}
