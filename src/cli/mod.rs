//! The command line: one file per command.

pub mod check;
pub mod import;
pub mod snippet;
