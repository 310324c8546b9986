//! Sessions of legacy clients: plain records and where they are kept. Live handles (streams, upstream sessions) are
//! kept by the gateway, beside the record.

mod id;
mod record;

pub use id::SessionId;
pub use record::SessionRecord;
