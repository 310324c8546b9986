//! What operators, orchestrators and Prometheus are told, and who is told nothing.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod api;
mod events;
mod guard;
mod metrics;
mod ready;
mod runbook;
mod status;
