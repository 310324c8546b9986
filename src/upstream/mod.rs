//! One upstream: its configuration, life cycle, sessions and transports.
//!
//! ```text
//! UpstreamConfig ─▶ supervisor ─ bring_up (files, TLS, era, greeting, walk) ─▶ Generation + Offer
//! call ─▶ Upstream::generation ─▶ Upstream::session ─▶ Generation::exchange ─▶ Answer
//! ```

mod answer;
mod awaiting;
mod bring_up;
mod busy;
mod capabilities;
mod checkup;
mod condition;
mod config;
mod credential;
mod crowd;
mod ending;
mod error;
mod generation;
mod instance;
mod interest;
mod life;
mod load_policy;
mod opening;
mod own;
mod pool;
pub mod read;
mod rotation;
mod session;
mod sharing;
mod status;
mod stdio_host;
mod supervisor;
mod traffic;
pub mod transport;
mod walk;

pub use answer::{Answer, AnswerBody, JsonAnswer, Messages};
pub use capabilities::ClientCapabilities;
pub use config::{Bounds, Difference, EndpointConfig, HttpConfig, Isolation, Protocol, StderrConfig, StdioConfig, UpstreamConfig};
pub use credential::{Behalf, CredentialConfig, HeaderRule, HeaderRules, ProofConfig, TokenConfig, check_key as check_signing_key};
pub use crowd::{Crowd, Hearing, Membership};
pub use ending::RotationRules;
pub use error::UpstreamError;
pub use generation::{Generation, Notice, Outgoing};
pub use instance::{Surroundings, Upstream, UpstreamId};
pub(crate) use own::{own_info, own_meta};
pub use session::{Session, SessionKey, SessionSpec};
pub use status::{Concern, State, Status};
pub(crate) use supervisor::supervise;
pub use traffic::{Took, Traffic};
