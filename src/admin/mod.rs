//! What operators, orchestrators and Prometheus ask the running gateway: its condition, its events, its numbers.

mod api;
mod audit;
mod config;
mod guard;
pub mod metrics;
mod page;
pub mod read;
mod ready;
mod recorder;
mod reload;
mod respond;
mod server;

pub use config::{AdminConfig, MetricsAccess};
pub use guard::ACTION_HEADER;
pub use recorder::record;
pub use reload::Reload;
pub use server::{Admin, Bound, Parts};
