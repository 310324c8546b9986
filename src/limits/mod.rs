//! Whether a request may go now.
//!
//! ```text
//! Table ─ read ─▶ LimitsConfig, UpstreamLimits ─ Limiter::new ─▶ Limiter: knock (before anything is read), admit ─▶ Admission
//!                                                                    │
//!                                        Demands (up to three buckets, all or none) ─▶ Memory, or Shared (Redis)
//! ```
//!
//! The arithmetic is in `quota.rs`; the script in `shared.rs` is the same in Lua, and a test drives both with one clock.

mod config;
mod demand;
mod limiter;
mod memory;
mod quota;
pub mod read;
mod shared;

pub use config::{LimitsConfig, OnError, Per, StorageConfig, UpstreamLimits};
pub use demand::{Demand, Demands, Refused, Rule, Scope, Whose};
pub use limiter::{Admission, Limited, Limiter};
pub use memory::Memory;
pub use quota::Quota;
pub use shared::Shared;

pub use crate::auth::Network;
/// What the connections to Redis need of the rest.
pub use crate::redis::Surroundings;
