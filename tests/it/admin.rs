//! What operators, orchestrators and Prometheus are told, and who is told nothing.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod guard;
mod ready;
