//! What all upstreams offer together: names, owners, and ready-made lists. Pure: no I/O, no waiting.

mod build;
mod lookup;
mod names;
mod template;

pub use build::{Listed, Source, merge};
pub use lookup::{Catalog, Found, Lookup};
pub use names::shown;
