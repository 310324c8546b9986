//! Whole-program tests: one binary, a file per subject.

#![allow(clippy::panic, reason = "a helper that finds something else fails its test")]

mod config;
mod demo;
mod import;
mod stdio_child;
