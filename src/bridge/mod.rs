//! Between the legacy era and 2026-07-28: what a request, a result and an error need to make sense on the other side.
//!
//! Same-era messages pass without a change.

mod declared;
mod input;
mod lists;
mod request;
mod response;
mod task;

pub(crate) use declared::{Declared, TASKS};
pub(crate) use input::{Given, InputRequest, InputRequired, answer_input, input_responses};
pub(crate) use request::{Said, adapt_request, standard_headers};
pub(crate) use response::{Fit, LeadsOn, adapt_response, add_id, needs_tasks};
pub(crate) use task::{Status, Task, task_params};
