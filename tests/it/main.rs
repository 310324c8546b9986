//! Whole-program tests: one binary, a file per subject.

mod config;
