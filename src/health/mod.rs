//! Watches certificates and upstreams, and tells the operator in time.
//!
//! ```text
//! timer ─▶ probe + protocol check ─▶ Board (what is known) ─▶ conditions ─ Ledger (what was told) ─▶ Alert ─▶ a queue for each channel
//! ```
//!
//! What decides is plain logic with the time as an argument: `threshold`, `streak`, `ledger`, `renewal`, `definitions`.

mod address;
mod alert;
mod board;
mod claim;
mod conditions;
mod config;
mod definitions;
mod deliver;
mod jitter;
mod judge;
mod ledger;
mod look;
pub mod read;
mod renewal;
mod store;
mod streak;
mod threshold;
mod watch;

pub use address::OwnAddress;
pub use alert::{Alert, CertificateNote, Grade, Stage, Topic};
pub use board::{Board, ChannelCounts, Checkup, Role, WatchedCertificate, WatchedList};
pub use config::{CertificatesConfig, ChannelConfig, Mail, MailLogin, MailSecurity, Receiver, SecretUrl};
pub use definitions::{Definitions, Difference};
pub use ledger::{Condition, Ledger};
pub use renewal::{Change, History, Shown};
pub use streak::{Standing, Streak};
pub use threshold::{Threshold, Thresholds};
pub use watch::{OwnListener, OwnTls, Watch, WatchParts};
