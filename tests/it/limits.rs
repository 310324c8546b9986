//! How often who may ask: the limits of the whole program, with both stores.

mod both_stores;
mod calls;
mod charged_once;
mod door;
mod fan_out;
mod redis_down;
mod sessions;
mod strangers;
mod way_in;

use std::time::Duration;

use crate::support::fake::{FakeSpec, modern};

/// An upstream with a tool or two, and these lines of its table.
fn tools(lines: &str) -> FakeSpec {
    modern().tool("work").tool("other").prompt("ask").toml(lines)
}

/// Long enough that no token comes back during a test.
const LONG: Duration = Duration::from_secs(3600);
