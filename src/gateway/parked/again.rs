//! A legacy server's error that sends the user to URLs first: its modern client is asked, and then the call is made again
//! (MCP 2025-11-25, client/elicitation; 2026-07-28, basic/patterns/mrtr).

use super::{
    Askable,
    state::{Kind, RequestState},
    table::random,
};
use crate::{bridge, gateway::Gateway, mcp::Message};

/// How often one request is made again for this reason.
const MAX_AGAIN: u32 = 16;
/// Most URLs in one error.
const MAX_URLS: usize = 16;

impl Askable {
    /// The result to give instead of such an error. `None`: it is another error, or the client cannot be sent to URLs.
    pub(in crate::gateway) fn visit_first(&self, gateway: &Gateway, error: &Message) -> Option<Vec<u8>> {
        if !self.capabilities.elicitation_url || self.again >= MAX_AGAIN {
            return None;
        }
        let requests = bridge::url_elicitations(error, MAX_URLS)?;
        let keys: Vec<_> = (1..=requests.len()).map(|n| format!("visit-{n}")).collect();
        let state = RequestState {
            kind: Kind::Again,
            id: random(),
            round: self.again + 1,
            expires: gateway.surroundings.clock.now() + gateway.config().parked.ttl,
        };
        let state = gateway.parking.sealer.seal(&self.bond(), &state.encode());
        Some(bridge::input_required(keys.iter().map(String::as_str).zip(requests.iter().map(Vec::as_slice)), &state))
    }
}
