//! A metric with its rows, written one after the other.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::meter::Reading;

/// A metric's name, type and meaning.
#[derive(Clone, Copy, Debug)]
pub(in crate::admin) struct Metric {
    /// As written; a counter's has `_total` added to it.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metric {
    pub(super) const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind }
    }

    /// As queries name it; those of a histogram add `_bucket`, `_count` or `_sum`.
    pub(super) fn query_name(&self) -> String {
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{suffix}", self.name)
    }
}

/// The labels of one row. Values are escaped when written.
pub(super) type Labels = Vec<(&'static str, String)>;

pub(in crate::admin) struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Writes a counter's rows; without rows nothing.
    pub(super) fn counter(&mut self, metric: Metric, rows: impl IntoIterator<Item = (Labels, u64)>) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(metric.name, metric.help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn gauge(&mut self, metric: Metric, rows: impl IntoIterator<Item = (Labels, i64)>) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(metric.name, metric.help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            // An empty set would be written as `{}`.
            if labels.is_empty() {
                encoder.encode_gauge(&value)?;
            } else {
                encoder.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    pub(super) fn histogram(&mut self, metric: Metric, rows: impl IntoIterator<Item = (Labels, Reading)>) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.0.encode_descriptor(metric.name, metric.help, None, MetricType::Histogram)?;
        for (labels, reading) in rows {
            let sum = reading.sum.as_secs_f64();
            encoder.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, reading.count, &reading.buckets, None)?;
        }
        Ok(())
    }
}
