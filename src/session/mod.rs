//! Sessions of legacy clients: plain records and where they are kept. Live handles (streams, upstream sessions) are
//! kept by the gateway, beside the record. Also what clients keep for the gateway, sealed.
//!
//! With `[state] store = "redis"` the records are in a [`Store`], where every replica finds them.

mod config;
mod id;
pub mod read;
mod record;
mod seal;
mod store;

pub use config::{StateConfig, StoreConfig};
pub use id::SessionId;
pub use record::SessionRecord;
pub use seal::Sealer;
pub use store::{Claim, Found, Held, Left, Notice, Others, Place, Placed, Renewed, Store, StoreError, Stored, UpstreamRecord};

/// What the connections to Redis need of the rest.
pub use crate::redis::Surroundings;
