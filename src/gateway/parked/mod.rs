//! A legacy server asks in the middle of a modern client's call: the client gets `input_required` and a sealed state, the
//! call waits upstream, and the client's retry brings the answers (MCP 2026-07-28, basic/patterns/mrtr).
//!
//! A call is carried by the client's own request until its server asks something. From then on a task of its own carries
//! it ([`call`]), to which requests of the client attach themselves one after the other ([`attachment`]).

mod again;
mod attachment;
mod begin;
mod call;
mod incoming;
mod resume;
mod state;
mod table;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

pub(super) use attachment::{Attached, Attachment};
pub(super) use begin::Begun;
pub(super) use call::park;
pub(super) use incoming::Incoming;
pub(super) use table::Parking;

use super::GatewayError;
use crate::{
    auth::PrincipalKey,
    mcp::Method,
    names::UpstreamName,
    upstream::{ClientCapabilities, Membership},
};

/// A call whose client can be asked something in the middle of it.
#[derive(Debug)]
pub(super) struct Askable {
    pub(super) capabilities: ClientCapabilities,
    pub(super) principal: PrincipalKey,
    pub(super) upstream: UpstreamName,
    pub(super) method: Method,
    /// The tool, prompt or resource, as the upstream calls it.
    pub(super) name: Arc<str>,
    arguments: Arguments,
    /// How often this request was made again because of URLs.
    pub(super) again: u32,
}

/// What the states of a call are bound to besides its name.
#[derive(Debug)]
enum Arguments {
    /// Raw, within the whole of the request.
    Raw(Option<Bytes>),
    /// With everything else already.
    Bond([u8; 32]),
}

impl Askable {
    fn bond(&self) -> [u8; 32] {
        match &self.arguments {
            Arguments::Raw(raw) => state::bond(&self.principal, self.upstream.as_str(), self.method, &self.name, raw.as_deref()),
            Arguments::Bond(bond) => *bond,
        }
    }

    /// Lets go of the request, which may be large, while the call waits.
    fn forget_arguments(&mut self) {
        self.arguments = Arguments::Bond(self.bond());
    }
}

/// What a modern client's call in a legacy session has besides its own stream.
#[derive(Debug, Default)]
pub(super) struct Aside {
    pub(super) askable: Option<Box<Askable>>,
    /// Its place among the calls of the session.
    pub(super) membership: Option<Membership>,
}

impl Aside {
    /// The next message that the server said in the session and not on the call's stream. Never ready where there are
    /// none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Bytes {
        match &mut self.membership {
            Some(membership) => match membership.next().await {
                Some(message) => message,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

/// A client comes back for a call that waits.
#[derive(Debug)]
struct Retry {
    round: u32,
    /// Of `inputResponses`.
    digest: [u8; 32],
    /// Raw `inputResponses`.
    responses: Option<Bytes>,
    attachment: Attachment,
    verdict: oneshot::Sender<Result<(), GatewayError>>,
}
