//! How bytes reach an upstream: one folder or file per transport.

pub mod stdio;
