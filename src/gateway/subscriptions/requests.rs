//! `resources/subscribe` and `resources/unsubscribe` of legacy clients (MCP 2025-11-25, server/resources, "Subscriptions").

use std::sync::Arc;

use super::{MAX_URI, MAX_URIS};
use crate::{
    auth::{Caller, Wanted},
    bridge,
    gateway::{
        Client, Gateway, GatewayError, ItemKind, LegacySession, Reply, forward::Shares, replicas::Changed, route::Route, tally::Counted,
    },
    mcp::{Era, Field, Id, Message, Method, Splices},
    reason::Reason,
    upstream::{Upstream, UpstreamError},
};

/// What came of it.
enum Done {
    /// The upstream's own answer.
    Answered(Box<Message>),
    Accepted,
    /// The upstream does not follow this resource.
    Unknown,
}

/// One such request.
struct Asked<'a> {
    client: &'a Client,
    session: &'a Arc<LegacySession>,
    message: &'a Message,
    subscribes: bool,
    uri: &'a str,
}

impl Gateway {
    /// Begins or ends a client's subscription at the upstream that owns the resource, of whatever era.
    pub(in crate::gateway) async fn subscription(
        self: &Arc<Self>,
        caller: &Caller,
        client: &Client,
        message: &Message,
        id: &Id,
        method: Method,
        counted: &mut Counted,
    ) -> Result<Reply, GatewayError> {
        let session = client.session().ok_or_else(|| GatewayError::MethodNotFound(message.method().to_owned()))?;
        let uri = message.uri().ok_or(GatewayError::InvalidParams("the request does not say what it is about"))?.into_owned();
        let subscribes = method == Method::ResourcesSubscribe;
        if uri.len() > MAX_URI {
            return Err(GatewayError::InvalidParams("the URI is longer than 8 KiB"));
        }
        let known = session.subscribed.owner(&uri);
        if subscribes && known.is_none() && session.subscribed.count() >= MAX_URIS {
            return Err(GatewayError::InvalidParams("this session follows 1024 resources already"));
        }
        // Whoever was asked first is asked again, also when another lists the resource by now.
        let view = self.view_for(caller);
        let remembered = known.and_then(|owner| Route::to(&view, &owner, uri.as_str().into(), None));
        let remembered = remembered.filter(|route| view.sees(route.index, Wanted::Other));
        let route = match remembered {
            Some(route) => route,
            None => self.route(caller, method, message).await?,
        };
        counted.goes_to(&route);
        let _admitted = self.admit(caller, method, &route).await?;
        if route.view.lineup.is_transparent() {
            self.first_try(&route.upstream).await;
        }
        counted.watch().sent();
        let asked = Asked { client, session, message, subscribes, uri: &uri };
        let mut done = self.subscription_once(&route.upstream, &asked).await;
        if matches!(&done, Err(error) if was_not_executed(error)) {
            done = self.subscription_once(&route.upstream, &asked).await;
        }
        if session.is_shared() && matches!(done, Ok(Done::Answered(_) | Done::Accepted)) {
            Box::pin(self.share_subscription(session, &route.upstream, &uri)).await;
        }
        match done {
            Ok(Done::Answered(answer)) => Ok(under(id, &answer)),
            Ok(Done::Accepted) => Ok(Reply::result(id, b"{}")),
            Ok(Done::Unknown) => Err(GatewayError::Unknown { kind: ItemKind::Resource, name: uri }),
            Err(error) => {
                route.upstream.report(&error);
                Err(Self::upstream_error(&route.upstream, error))
            }
        }
    }

    /// Tells other replicas whether the client follows a resource now.
    async fn share_subscription(&self, session: &LegacySession, upstream: &Upstream, uri: &str) {
        let name = upstream.name();
        let changed = match session.subscribed.of(name).contains(uri) {
            true => Changed::Subscribed(name.as_str(), uri),
            false => Changed::Unsubscribed(name.as_str(), uri),
        };
        self.share(session, changed).await;
    }

    async fn subscription_once(self: &Arc<Self>, upstream: &Arc<Upstream>, asked: &Asked<'_>) -> Result<Done, UpstreamError> {
        let Asked { client, session, message, uri, .. } = *asked;
        let generation = upstream.generation()?;
        if generation.era_for(Era::Legacy) == Era::Modern {
            if asked.subscribes {
                let taken = self.feed_more(session, upstream, uri).await?;
                return Ok(if taken.is_some() { Done::Accepted } else { Done::Unknown });
            }
            self.feed_less(session, upstream, uri).await?;
            return Ok(Done::Accepted);
        }
        let held = self.session_for(upstream, &generation, Era::Legacy, &session.record.principal, client, Shares::Subscriptions).await?;
        let up = &held.session;
        let id = up.next_id();
        let body = renumbered(message, id);
        let answered = if asked.subscribes {
            generation.subscribe(up, uri, session.number, id, body).await.map(Some)
        } else {
            session.subscribed.remove(upstream.name(), uri);
            generation.unsubscribe(up, uri, session.number, id, body).await
        };
        if let Err(UpstreamError::SessionLost) = &answered {
            Self::forget(upstream, &held, client).await;
        }
        let answer = answered?;
        if asked.subscribes && answer.as_ref().is_some_and(|answer| answer.span(Field::Result).is_some()) {
            session.subscribed.add(upstream.name(), uri);
            self.keep_subscribed(session, upstream, up);
        }
        Ok(answer.map_or(Done::Accepted, |answer| Done::Answered(Box::new(answer))))
    }
}

/// The client's request under an id of ours. Its progress token would meet those of others who share the session.
fn renumbered(message: &Message, id: u64) -> bytes::Bytes {
    let mut splices = Splices::new();
    for span in [message.id_span(), message.span(Field::MetaProgressToken)].into_iter().flatten() {
        splices.replace(span, Id::from_u64(id).into_json());
    }
    splices.apply(message.bytes())
}

/// An upstream's response under the client's id.
fn under(id: &Id, answer: &Message) -> Reply {
    let mut splices = Splices::new();
    match answer.id_span() {
        Some(span) => splices.replace(span, id.clone().into_json()),
        None => bridge::add_id(&mut splices, answer, id),
    }
    Reply::message(splices.apply(answer.bytes()))
}

fn was_not_executed(error: &UpstreamError) -> bool {
    match error {
        UpstreamError::SessionLost | UpstreamError::WrongEra => true,
        UpstreamError::Failed { never_sent, explanation } => *never_sent && explanation.reason == Reason::Drained,
        _ => false,
    }
}
