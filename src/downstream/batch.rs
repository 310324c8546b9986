//! Batches, which only MCP 2025-03-26 has: taken apart, worked off together, and answered together.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::StatusCode;
use http_body_util::BodyExt as _;

use super::{
    passage::Passage,
    rescue::{rescue, rescue_limited, rescue_parse},
    turned_away::{self, TurnedAway},
};
use crate::{
    audit::RequestId,
    auth::Caller,
    gateway::{Client, EventReply, Gateway, GatewayError, JsonReply, LegacySession, Reply, UpstreamError, has_line},
    limits::{Limited, Stage},
    mcp::{
        Era, Id, Kind, Message,
        errors::{code, error_response},
    },
};

/// Requests of one batch that are in work at once.
const AT_ONCE: usize = 16;

/// How a batch came in. Each of its messages but the first, for which the batch has paid, owes what it would owe alone.
#[derive(Clone, Copy, Debug)]
pub(super) enum WayIn {
    /// A process has no door.
    Process,
    /// From this address.
    Http(Option<IpAddr>),
}

impl WayIn {
    fn address(self) -> Option<IpAddr> {
        match self {
            Self::Process => None,
            Self::Http(address) => address,
        }
    }
}

/// What comes of a batch.
#[derive(Debug)]
pub(super) enum Part {
    /// A request is answered with messages of which the answer is the last.
    Begins,
    /// One of these messages.
    Message(Bytes),
    Answer(Bytes),
}

/// Works a batch off: notifications and answers as they come, requests several at a time. Each request has its answer, unless it
/// was cancelled; together they are no longer than `mcp.bounds.max_event`. A client that goes away has not cancelled.
pub(super) fn parts(
    gateway: Arc<Gateway>,
    caller: Caller,
    session: Arc<LegacySession>,
    messages: Vec<Bytes>,
    way_in: WayIn,
) -> BoxStream<'static, Part> {
    let room = Arc::new(AtomicUsize::new(gateway.config().bounds.max_event));
    let client = Client::Legacy(session);
    let worked_off = stream::iter(messages.into_iter().enumerate()).flat_map_unordered(AT_ONCE, move |(at, message)| {
        let way_in = if at == 0 { WayIn::Process } else { way_in };
        let (gateway, caller, client, room) = (Arc::clone(&gateway), caller.clone(), client.clone(), Arc::clone(&room));
        stream::once(one(gateway, caller, client, message, way_in, room)).flatten().boxed()
    });
    worked_off.boxed()
}

/// What wants no answer gets none, also where it was not heard.
pub(super) fn heard(outcome: Result<(), GatewayError>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "what a client says was not heard by another replica");
    }
}

async fn one(
    gateway: Arc<Gateway>,
    caller: Caller,
    client: Client,
    text: Bytes,
    way_in: WayIn,
    room: Arc<AtomicUsize>,
) -> BoxStream<'static, Part> {
    let parsed = Message::parse(text);
    let kind = parsed.as_ref().map_or(Kind::Request, Message::kind);
    let id = parsed.as_ref().ok().and_then(|message| message.id().cloned());
    let passage = match way_in {
        WayIn::Process => Passage::free(),
        WayIn::Http(address) => match Passage::begin(&gateway, address).await {
            Ok(passage) => passage,
            Err(limited) => return refused(&gateway, &limited, kind, id.as_ref(), address),
        },
    };
    let address = way_in.address();
    let is_initialize = |message: &Message| message.method() == "initialize";
    let becomes_call = parsed.as_ref().is_ok_and(|message| kind == Kind::Request && !is_initialize(message));
    if !becomes_call && let Err(limited) = passage.pay().await {
        return refused(&gateway, &limited, kind, id.as_ref(), address);
    }
    let message = match parsed {
        Ok(message) => message,
        Err(error) => return only(rescue_parse(&error).body),
    };
    match kind {
        Kind::Request if is_initialize(&message) => {
            let words = "Invalid request: initialize must not be part of a batch";
            return only(error_response(id.as_ref(), code::INVALID_REQUEST, words, None));
        }
        Kind::Response | Kind::ErrorResponse => {
            heard(gateway.answered(&client, message).await);
            return stream::empty().boxed();
        }
        Kind::Request | Kind::Notification => {}
    }
    let parts = work_off(Arc::clone(&gateway), caller.again(passage.toll()), client, message, &room).await;
    match passage.pay().await {
        Ok(()) => parts,
        Err(limited) => refused(&gateway, &limited, Kind::Request, id.as_ref(), address),
    }
}

/// A message that was not let in. Whoever wants no answer cannot be told.
fn refused(gateway: &Gateway, limited: &Limited, kind: Kind, id: Option<&Id>, address: Option<IpAddr>) -> BoxStream<'static, Part> {
    if kind != Kind::Request {
        return stream::empty().boxed();
    }
    turned_away::record(gateway, &TurnedAway::Limited(*limited), RequestId::next(), address, None);
    only(rescue_limited(limited, id, StatusCode::OK).body)
}

async fn work_off(
    gateway: Arc<Gateway>,
    caller: Caller,
    client: Client,
    message: Message,
    room: &Arc<AtomicUsize>,
) -> BoxStream<'static, Part> {
    if message.kind() == Kind::Notification {
        heard(gateway.notified(&client, &message).await);
        return stream::empty().boxed();
    }
    let (id, address) = (message.id().cloned(), caller.address());
    let has_line = has_line(message.method());
    match gateway.handle_to_the_end(caller, client, message).await {
        Err(GatewayError::Limited(limited)) if limited.stage == Stage::Door && !has_line => {
            refused(&gateway, &limited, Kind::Request, id.as_ref(), address)
        }
        Err(error) => only(rescue(&error, id.as_ref(), Era::Legacy).body),
        Ok(Reply::Events(events)) => {
            let room = Arc::clone(room);
            let messages = stream::unfold(*events, move |events| next(events, id.clone(), Arc::clone(&room)));
            stream::once(async { Part::Begins }).chain(messages).boxed()
        }
        Ok(Reply::Message { body, .. }) => only(fitting(body, id.as_ref(), room)),
        Ok(Reply::Pieces(pieces)) => only(fitting(pieces.concat().into(), id.as_ref(), room)),
        Ok(Reply::Json(json)) => match collect(*json, room.load(Ordering::Relaxed)).await {
            Ok(whole) => only(fitting(whole, id.as_ref(), room)),
            Err(words) => only(error_response(id.as_ref(), code::INTERNAL_ERROR, &words, None)),
        },
    }
}

async fn next(mut events: EventReply, id: Option<Id>, room: Arc<AtomicUsize>) -> Option<(Part, EventReply)> {
    let part = match events.next().await? {
        Ok(message) if events.is_over() => Part::Answer(fitting(message, id.as_ref(), &room)),
        Ok(message) => Part::Message(message),
        Err(error) => Part::Answer(rescue(&error, id.as_ref(), Era::Legacy).body),
    };
    Some((part, events))
}

fn only(answer: Bytes) -> BoxStream<'static, Part> {
    stream::once(async { Part::Answer(answer) }).boxed()
}

/// The answers wait for each other in memory, so that only so much of them is kept.
fn fitting(answer: Bytes, id: Option<&Id>, room: &AtomicUsize) -> Bytes {
    let taken = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(answer.len()));
    match taken {
        Ok(_) => answer,
        Err(_) => error_response(id, code::INTERNAL_ERROR, "the answers to this batch are too long together (mcp.bounds.max_event)", None),
    }
}

/// Collects what a client over streamable HTTP gets bit by bit, at most `limit` bytes. The error is for the client.
pub(super) async fn collect(json: JsonReply, limit: usize) -> Result<Bytes, String> {
    let error = match http_body_util::Limited::new(json, limit).collect().await {
        Ok(whole) => return Ok(whole.to_bytes()),
        Err(error) => error,
    };
    let Ok(error) = error.downcast::<UpstreamError>() else {
        return Err(format!("the upstream's answer is longer than {limit} bytes (mcp.bounds.max_event)"));
    };
    tracing::warn!(reason = error.reason().code(), detail = %error.explanation().detail, "an answer broke off");
    Err(format!("the upstream's answer broke off: {}", error.reason().words()))
}
