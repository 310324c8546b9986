//! Whether a request may go now.
//!
//! ```text
//! Table ─ read ─▶ LimitsConfig, UpstreamLimits ─ Limiter::new ─▶ Limiter: knock ─▶ Toll; admit (a call, with its Toll) ─▶ Admission
//!                                                                    │    pay (a Toll alone)
//!                                        Demands (buckets, all or none) ─▶ Memory, or Shared (Redis)
//! ```
//!
//! What counts every request, and the requests of an address, could be asked before anything is read, and the rest not before it
//! is known what is called. Asked twice, Redis costs two round trips, and a call that is refused the second time has cost what it
//! took the first time. So a request comes in owing, and its call pays for everything at once; what becomes no call pays for
//! coming in. At the door is looked at what is known without asking, so that a flood is cheap: the buckets themselves in memory,
//! or what Redis has refused just now. Of those who owe there are only so many, because they have been charged nothing yet.
//!
//! The arithmetic is in `quota.rs`; the script in `shared.rs` is the same in Lua, and a test drives both with one clock.

mod config;
mod debts;
mod demand;
mod digest;
mod limiter;
mod memory;
mod quota;
pub mod read;
mod shared;
mod waits;

pub use config::{LimitsConfig, OnError, Per, StorageConfig, UpstreamLimits};
pub use demand::{Demand, Demands, Refused, Rule, Scope, Whose};
pub use limiter::{Admission, Charged, Limited, Limiter, Stage};
pub use memory::Memory;
pub use quota::Quota;
pub use shared::Shared;
pub use waits::Waits;

pub use crate::auth::Network;
/// What the connections to Redis need of the rest.
pub use crate::redis::Surroundings;
