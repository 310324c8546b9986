//! `[server.csrf]`: a header that a web page cannot send to another origin without being asked first.

use http::{
    HeaderMap, HeaderName,
    header::{ORIGIN, REFERER},
};

use crate::{
    problem::Problems,
    table::{Keys, Table, built},
};

pub const KEYS: Keys = Keys {
    table: "server.csrf",
    doc: "A header that a web page cannot send unasked.",
    keys: &[built("enabled", "Whether POST and DELETE of browsers must carry it."), built("header_name", "Its name; any value will do.")],
};

const HEADER: HeaderName = HeaderName::from_static("x-nexus-csrf-protection");
/// Set by browsers, and by no page (Fetch metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The header that browsers must send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csrf {
    header: HeaderName,
}

impl Csrf {
    /// Whether a request that changes something may go on.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        let is_of_a_browser = headers.contains_key(ORIGIN) || headers.contains_key(FETCH_SITE) || headers.contains_key(REFERER);
        !is_of_a_browser || headers.contains_key(&self.header)
    }

    /// `None`: it is off.
    pub(super) fn read(mut table: Table, problems: &mut Problems) -> Option<Self> {
        let enabled = table.bool("enabled", problems).unwrap_or(false);
        let header = match table.string("header_name", problems).map(HeaderName::try_from) {
            Some(Ok(name)) => name,
            Some(Err(_)) => {
                let why = "no request can have such a header";
                table.error("header_name", problems, "this is no header's name", why, "write \"X-Nexus-CSRF-Protection\"");
                HEADER
            }
            None => HEADER,
        };
        table.finish(&KEYS, problems);
        enabled.then_some(Self { header })
    }
}
