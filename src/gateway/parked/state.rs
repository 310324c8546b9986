//! What a modern client holds while its call waits: sealed, so it says nothing to anybody but the gateway.

use std::time::Duration;

use crate::{
    auth::PrincipalKey,
    mcp::{
        Method,
        digest::{digest, digest_of_parts},
    },
};

/// Names a call that waits, or one that is to be made again.
pub(super) type CallId = [u8; 16];

/// The content of a `requestState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestState {
    pub(super) kind: Kind,
    pub(super) id: CallId,
    /// Which of the call's rounds it belongs to.
    pub(super) round: u32,
    /// Wall-clock time from which it is worth nothing.
    pub(super) expires: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The call waits upstream for the answers.
    Waiting,
    /// The call is over and is made again.
    Again,
}

const LENGTH: usize = 1 + 16 + 4 + 8;

impl RequestState {
    pub(super) fn encode(self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        let kind = match self.kind {
            Kind::Waiting => 1,
            Kind::Again => 2,
        };
        let expires = u64::try_from(self.expires.as_millis()).unwrap_or(u64::MAX);
        let parts = [kind].into_iter().chain(self.id).chain(self.round.to_be_bytes()).chain(expires.to_be_bytes());
        out.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
        out
    }

    pub(super) fn decode(raw: &[u8]) -> Option<Self> {
        let (kind, rest) = raw.split_first()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (round, rest) = rest.split_first_chunk::<4>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let kind = match kind {
            1 => Kind::Waiting,
            2 => Kind::Again,
            _ => return None,
        };
        let expires = Duration::from_millis(u64::from_be_bytes(*expires));
        rest.is_empty().then_some(Self { kind, id: *id, round: u32::from_be_bytes(*round), expires })
    }
}

/// What a `requestState` is good for and nothing else: one principal's request of one method about one name with the same
/// arguments, to one upstream.
pub(super) fn bond(principal: &PrincipalKey, upstream: &str, method: Method, name: &str, arguments: Option<&[u8]>) -> [u8; 32] {
    bond_of(principal.as_bytes(), upstream, method, name, arguments)
}

fn bond_of(principal: &[u8], upstream: &str, method: Method, name: &str, arguments: Option<&[u8]>) -> [u8; 32] {
    // Without arguments is with none.
    let arguments = digest(arguments.unwrap_or(b"{}"));
    digest_of_parts([principal, upstream.as_bytes(), method.as_str().as_bytes(), name.as_bytes(), &arguments[..]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Sealer;

    fn state() -> RequestState {
        RequestState { kind: Kind::Waiting, id: *b"0123456789abcdef", round: 7, expires: Duration::from_millis(1_700_000_000_123) }
    }

    #[test]
    fn a_state_is_read_back_as_it_was_written() {
        for kind in [Kind::Waiting, Kind::Again] {
            let state = RequestState { kind, ..state() };
            assert_eq!(RequestState::decode(&state.encode()), Some(state));
        }
        let raw = state().encode();
        assert_eq!(RequestState::decode(&raw[1..]), None);
        assert_eq!(RequestState::decode(&[&raw[..], b"x"].concat()), None);
        assert_eq!(RequestState::decode(&[9; LENGTH]), None);
    }

    #[test]
    fn a_state_is_worth_nothing_to_another_principal_upstream_method_name_or_arguments() {
        let sealer = Sealer::new(&[]);
        let arguments: &[u8] = br#"{"a":1,"b":[2]}"#;
        let bond = |principal: &[u8], upstream, method, name, arguments| bond_of(principal, upstream, method, name, Some(arguments));
        let token = sealer.seal(&bond(b"alice", "crm", Method::ToolsCall, "work", arguments), &state().encode());
        let opens = |bond: [u8; 32]| sealer.open(&bond, &token).is_some();
        assert!(opens(bond(b"alice", "crm", Method::ToolsCall, "work", br#"{ "b": [2], "a": 1 }"#)));
        for other in [
            bond(b"bob", "crm", Method::ToolsCall, "work", arguments),
            bond(b"alice", "erp", Method::ToolsCall, "work", arguments),
            bond(b"alice", "crm", Method::PromptsGet, "work", arguments),
            bond(b"alice", "crm", Method::ToolsCall, "play", arguments),
            bond(b"alice", "crm", Method::ToolsCall, "work", br#"{"a":1,"b":[3]}"#),
            bond(b"alice", "crm", Method::ToolsCall, "work", b"{}"),
            bond(b"alicecrm", "", Method::ToolsCall, "work", arguments),
        ] {
            assert!(!opens(other));
        }
    }

    #[test]
    fn no_arguments_are_empty_arguments() {
        let of = |arguments| bond_of(b"p", "u", Method::ToolsCall, "n", arguments);
        assert_eq!(of(None), of(Some(b"{ }")));
    }
}
