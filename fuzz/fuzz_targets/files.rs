#![no_main]

#[allow(dead_code, reason = "a target has one of the entries")]
#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::files(bytes));
