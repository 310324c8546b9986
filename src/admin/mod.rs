//! What operators, orchestrators and Prometheus ask the running gateway: its condition, its events, its numbers.

mod config;
mod guard;
pub mod read;
mod ready;
mod respond;
mod server;

pub use config::{AdminConfig, MetricsAccess};
pub use guard::ACTION_HEADER;
pub use server::{Admin, Bound, Parts};
