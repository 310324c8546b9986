//! A legacy client's requests that are under way.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    mcp::{Id, json::unescape},
    upstream::{Generation, Session, UpstreamId},
};

/// A client's request on its way, by the client's id.
#[derive(Clone, Debug)]
pub(super) enum InFlight {
    /// Cancelled by a notification in the upstream session; `stop` ends our own wait, where no end of a stream does.
    Legacy { generation: Arc<Generation>, session: Arc<Session>, id: u64, stop: Option<CancellationToken> },
    /// Cancelled by closing the stream.
    Modern(CancellationToken),
    /// Two open requests have this id: a cancellation could hit the wrong one.
    Ambiguous,
}

/// The requests of one session, by their ids.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Id, Open>>);

/// All that are under way with one id.
#[derive(Debug)]
struct Open {
    /// How many. An id is ambiguous until the last of them has ended: which one ended first is not known to the client.
    count: usize,
    flight: InFlight,
    /// The progress tokens in use, raw, and for which upstream.
    tokens: Vec<(UpstreamId, Bytes)>,
}

impl Flights {
    pub(super) fn began(&self, id: &Id, upstream: UpstreamId, token: Option<&Bytes>, flight: InFlight) {
        // A copy, so that the whole request is not held.
        let token = token.map(|token| (upstream, Bytes::copy_from_slice(token)));
        let mut open = self.0.lock();
        match open.get_mut(id) {
            Some(open) => {
                open.count += 1;
                open.flight = InFlight::Ambiguous;
                open.tokens.extend(token);
            }
            None => {
                open.insert(id.clone(), Open { count: 1, flight, tokens: token.into_iter().collect() });
            }
        }
    }

    /// The request goes on upstream as another one.
    pub(super) fn goes_on(&self, id: &Id, flight: InFlight) {
        if let Some(held) = self.0.lock().get_mut(id)
            && !matches!(held.flight, InFlight::Ambiguous)
        {
            held.flight = flight;
        }
    }

    pub(super) fn finished(&self, id: &Id) {
        let mut open = self.0.lock();
        if let Some(held) = open.get_mut(id) {
            held.count -= 1;
            if held.count == 0 {
                open.remove(id);
            }
        }
    }

    pub(super) fn flight(&self, id: &Id) -> Option<InFlight> {
        self.0.lock().get(id).map(|open| open.flight.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Whether a progress token, raw, is that of a request to another upstream, and of none to this one.
    pub(super) fn is_of_another(&self, upstream: UpstreamId, token: &[u8]) -> bool {
        let open = self.0.lock();
        let users = || open.values().flat_map(|open| &open.tokens).filter(|(_, used)| same_token(used, token));
        users().next().is_some() && users().all(|(user, _)| *user != upstream)
    }
}

/// Whether two raw progress tokens are one, however a server writes what it was given.
pub(super) fn same_token(one: &[u8], other: &[u8]) -> bool {
    let number = |raw: &[u8]| std::str::from_utf8(raw).ok().and_then(|raw| raw.parse::<f64>().ok());
    if one == other {
        return true;
    }
    match (unescape(one), unescape(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => matches!((number(one), number(other)), (Some(one), Some(other)) if one.to_bits() == other.to_bits()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_ambiguous_until_all_that_have_it_have_ended() {
        let (flights, id) = (Flights::default(), Id::from_u64(1));
        let begin = || flights.began(&id, UpstreamId::of_test(1), None, InFlight::Modern(CancellationToken::new()));
        begin();
        assert!(matches!(flights.flight(&id), Some(InFlight::Modern(_))));
        begin();
        flights.finished(&id);
        assert!(matches!(flights.flight(&id), Some(InFlight::Ambiguous)), "one of the two is still open");
        begin();
        assert!(matches!(flights.flight(&id), Some(InFlight::Ambiguous)));
        flights.finished(&id);
        flights.finished(&id);
        flights.finished(&id);
        assert!(flights.is_empty());
    }

    #[test]
    fn a_token_is_its_upstreams_own() {
        let flights = Flights::default();
        let (one, other) = (UpstreamId::of_test(1), UpstreamId::of_test(2));
        let begin = |id: u64, upstream, token: &'static str| {
            flights.began(&Id::from_u64(id), upstream, Some(&Bytes::from_static(token.as_bytes())), InFlight::Ambiguous);
        };
        begin(1, one, "7");
        assert!(flights.is_of_another(other, b"7") && flights.is_of_another(other, b"7.0") && !flights.is_of_another(one, b"7"));
        assert!(!flights.is_of_another(other, b"\"7\"") && !flights.is_of_another(other, b"8"));
        begin(2, other, "7");
        assert!(!flights.is_of_another(other, b"7"), "both use it");
        begin(3, one, "\"\\u00e9\"");
        assert!(flights.is_of_another(other, "\"é\"".as_bytes()));
    }
}
