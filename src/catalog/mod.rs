//! What all upstreams offer together: names, owners, and ready-made lists. Pure: no I/O, no waiting.

mod build;
mod lookup;
mod names;
mod own_tools;
pub mod search;
mod template;

pub use build::{Listed, Rules, Source, merge};
pub use lookup::{Catalog, Found, ListedTool, Lookup};
pub use names::{LONGEST_TOOL_NAME, Naming};
pub use own_tools::{MOST_FOUND, OwnTool, ToolsMode, search_result};
