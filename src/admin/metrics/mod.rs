//! `/metrics`: what is counted anyway, written as OpenMetrics 1.0 text when somebody asks.
//!
//! Nothing here is on the path of a call, and nothing is kept between two scrapes: what is gone has no series any more.

mod calls;
mod certificates;
mod page;
mod upstreams;

use std::{fmt, sync::Arc};

use http::HeaderValue;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text::encode},
    registry::Registry,
};

pub(super) use page::{Kind, Metric, Page};

use super::server::Parts;

/// OpenMetrics 1.0; Prometheus asks for it, and reads it whatever it asked for.
pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Every metric by its name in queries, and what it says.
pub fn names() -> Vec<(String, &'static str)> {
    let all = [calls::ALL, upstreams::ALL, certificates::ALL].concat();
    all.into_iter().map(|metric| (metric.query_name(), metric.help)).collect()
}

/// The page of this moment.
///
/// # Errors
/// Never, as long as a `String` can be written to.
pub(super) fn page(parts: &Arc<Parts>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Everything(Arc::clone(parts))));
    let mut text = String::with_capacity(16 * 1024);
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Everything(Arc<Parts>);

impl Collector for Everything {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        calls::write(&mut page, &self.0.gateway)?;
        upstreams::write(&mut page, &self.0.gateway)?;
        certificates::write(&mut page, &self.0)
    }
}
