//! Whole-program tests: one binary, a file per subject.

#![allow(clippy::panic, reason = "a helper that finds something else fails its test")]

// What `nexus check` finds.
mod check;
// A TOML file to checked values, or all its problems.
mod config;
// The demo's upstreams over their own transports.
mod demo;
// A desktop client's servers as TOML.
mod import;
// Clients and servers of one era.
mod same_era;
// A child process and its whole group.
mod stdio_child;
// What the tests are written with.
mod support;
// Handshakes under every policy, with real servers.
mod tls_policy;
