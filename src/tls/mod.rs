//! TLS policy of one upstream: trust, names, identity, verification, and the explanation of failures. And the server
//! side of it, for our own listeners.
//!
//! ```text
//! TlsSettings ─ load(files) ─▶ TlsPolicy ─ client_config() ─▶ rustls::ClientConfig + Observed ─ explain(error) ─▶ Explanation
//! ```
//!
//! ```text
//! ServerTlsSettings ─ load(files) ─▶ ServerTls ─ config() ─▶ rustls::ServerConfig
//! ```
//!
//! No I/O but through `Sources`, and no HTTP.

mod client_name;
mod crl;
mod danger;
pub mod dev;
mod diagnose;
mod effort;
mod encrypted_key;
mod explain;
mod files;
mod identity;
mod inspect;
mod key_file;
mod key_log;
mod key_pair;
mod load;
mod observed;
mod pem;
mod pkcs12;
mod policy;
pub mod read;
mod report;
mod resumption;
mod revocation;
mod server;
pub mod server_read;
mod settings;
mod signing_key;
mod survey;
mod trust;
mod verifier;

pub use client_name::{AlternativeName, ClientName, SubjectAttribute};
pub use crl::CrlFacts;
pub use diagnose::{Seen, Shows};
pub use explain::{Handshake, explain, find_in_chain, not_tls};
pub use inspect::{CertificateFacts, Validity, changes_the_line, shown, shown_date, shown_span};
pub use observed::Observed;
pub use policy::TlsPolicy;
pub use report::{CertificateView, ChainLink, FindingView, Negotiated, Position, Report, ReportView, TlsView, Verdict};
pub use server::{ClientCertificates, Demand, ServerIdentityFiles, ServerTls, ServerTlsSettings, handshake_refusal};
pub use settings::{
    ClientIdentityFiles, CrlExpired, CrlMissing, CrlScope, ExpectedSan, KeyPermissions, MinVersion, Pkcs12File, PostQuantum,
    RevocationSettings, SpkiPin, TlsSettings,
};
pub use signing_key::{SigningKey, signing_key};
pub use survey::{CertificateItem, Item, KeyItem, survey};
pub use trust::SystemCas;
