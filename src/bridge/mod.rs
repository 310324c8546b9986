//! Between the legacy era and 2026-07-28: what a request, a result and an error need to make sense on the other side.
//!
//! Same-era messages pass without a change.

mod declared;
mod input;
mod lists;
mod request;
mod required;
mod response;
mod task;

pub(crate) use declared::{Declared, TASKS};
pub(crate) use input::{all_accepted, declined, gave_up, input_request, input_required, input_responses, may_ask, url_elicitations};
pub(crate) use request::{Said, adapt_request, standard_headers};
pub(crate) use required::{Given, InputRequest, InputRequired, gathered, with_input};
pub(crate) use response::{Fit, LeadsOn, adapt_response, add_id, needs_tasks};
pub(crate) use task::{MAX_TASK_ID, Status, Task, task_params};
