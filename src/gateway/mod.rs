//! Builds the gateway and carries a request through it. [`handle`](Gateway::handle) is where to start reading.

mod adapt;
mod again;
mod build;
mod config;
mod conversation;
mod error;
mod follow;
mod forward;
mod greet;
mod handle;
mod inventory;
mod legacy;
mod listen;
mod lists;
mod outbox;
mod outlive;
mod parked;
mod pooled;
mod questions;
pub mod read;
mod rebuild;
mod relay;
mod reload;
mod reloader;
mod reply;
mod route;
mod tally;
mod task;
mod view;

pub use build::Gateway;
pub use config::{McpConfig, ParkedConfig, WhenDown};
pub use error::{GatewayError, ItemKind};
pub use handle::{Client, ModernClient};
pub use inventory::{KnownTool, Visibility};
pub use legacy::LegacySession;
pub use listen::Change;
pub use outbox::Outbox;
pub use reload::Changes;
pub use reloader::{Accepted, Configuration, Rejected, Reloader, Reread};
pub use reply::{EventReply, JsonReply, Reply};
pub use tally::{Outcome, Tally};

pub use crate::upstream::{Bounds, UpstreamError};
