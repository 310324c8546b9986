//! The audit trail: who asked what of whom, with which outcome, one JSON object a line. Never a token, a header or a result.
//!
//! A call builds its line and puts it into a queue; nothing waits. A thread of its own writes, many lines at a time.

mod config;
pub mod read;
mod record;
mod request_id;
mod sink;
mod trail;
mod writer;

pub use config::{AuditConfig, Target};
pub use record::{Kind, MAX_ARGUMENTS, Outcome, Record, Who, whole_millis};
pub use request_id::RequestId;
pub use sink::Sink;
pub use trail::Trail;
