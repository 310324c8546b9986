//! Between the legacy era and 2026-07-28: what a request, a result and an error need to make sense on the other side.
//!
//! Same-era messages pass without a change.

mod request;
mod response;

pub(crate) use request::{adapt_request, standard_headers};
pub(crate) use response::{adapt_response, add_id};
