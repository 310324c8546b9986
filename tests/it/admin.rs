//! What operators, orchestrators and Prometheus are told, and who is told nothing.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod api;
mod certificates;
mod events;
mod guard;
mod metrics;
mod page;
mod program;
mod ready;
mod runbook;
mod status;
