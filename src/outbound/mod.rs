//! From a TLS policy to an HTTP client: the only place for client-side connections, and for rustls outside `tls`.

mod connect;
mod dial;
mod failure;
mod http_client;
mod look;
pub mod probe;
pub mod read;
mod resolve;
mod stream;
mod system_cas;

pub use connect::HttpVersion;
pub use dial::Proxy;
pub use failure::SendError;
pub use http_client::{HttpClient, UpstreamBody, Way};
pub use stream::{SecureStream, connect, secure};
pub use system_cas::system_cas;
