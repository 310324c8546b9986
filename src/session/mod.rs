//! Sessions of legacy clients: plain records and where they are kept. Live handles (streams, upstream sessions) are
//! kept by the gateway, beside the record. Also what clients keep for the gateway, sealed.

mod id;
mod record;
mod seal;

pub use id::SessionId;
pub use record::SessionRecord;
pub use seal::Sealer;
