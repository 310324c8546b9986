//! From a TLS policy to an HTTP client: the only place for reqwest and for client-side rustls outside `tls`.

mod failure;
mod http_client;
mod look;
pub mod probe;
mod resolve;
mod system_cas;

pub use failure::SendError;
pub use http_client::{HttpClient, UpstreamBody};
pub use system_cas::system_cas;
