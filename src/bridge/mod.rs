//! Between the legacy era and 2026-07-28: what a request, a result and an error need to make sense on the other side.
//!
//! Same-era messages pass without a change.

mod input;
mod request;
mod response;

pub(crate) use input::{all_accepted, declined, gave_up, input_request, input_required, input_responses, may_ask, url_elicitations};
pub(crate) use request::{adapt_request, standard_headers};
pub(crate) use response::{adapt_response, add_id};
