//! Nexus: one MCP endpoint for agents, and for every upstream its own TLS policy, credential and limits.
//!
//! ```text
//! nexus.toml ─▶ RawConfig ─ check(&Sources, &mut Problems) ─▶ Config ─▶ Gateway::build
//! client ─▶ downstream ─▶ door ─▶ auth ─▶ catalog ─▶ limits ─▶ upstream ─▶ reply
//!            Message               Caller   Route    Admission   Reply
//! ```
//!
//! The modules in reading order; each names only what stands above it here.

pub mod clock;
pub mod events;
pub mod finding;
pub mod meter;
pub mod names;
pub mod problem;
pub mod reason;
pub mod secret;
pub mod sources;
pub mod table;

pub mod mcp;
pub mod tls;

pub mod outbound;

pub mod auth;
pub mod redis;

pub mod limits;
pub mod session;

pub mod upstream;

pub mod catalog;

pub mod bridge;

pub mod gateway;

pub mod health;

pub mod downstream;

pub mod admin;

pub mod config;

pub mod demo;

pub mod telemetry;

pub mod audit;

pub mod cli;
