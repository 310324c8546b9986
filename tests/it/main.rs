//! Whole-program tests: one binary, a file per subject.

#![allow(clippy::panic, reason = "a helper that finds something else fails its test")]

mod check;
mod config;
mod import;
// What the tests are written with.
mod support;
// Handshakes under every policy, with real servers.
mod tls_policy;
