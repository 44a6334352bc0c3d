//! Metrics: what vLLM counts, by vLLM's names and rules, and what this engine counts beside it.
//!
//! The engine reports events to a [`Registry`]; a [`Snapshot`] of it is what `getMetrics()` returns as JSON and
//! `getMetricsText()` as Prometheus text. [`SpeculationStats`] reads from snapshots whether speculation pays, and
//! [`RequestRecorder`] follows one request. There is no clock in this room: times come from the caller, in seconds.

mod catalog;
mod derived;
mod exposition;
mod histogram;
mod registry;
mod request;
mod snapshot;

pub use derived::SpeculationStats;
pub use registry::{CacheConfig, DeviceStep, Gauge, IterationStats, Registry};
pub use request::{
    FinishReason, FinishedRequest, Latency, ParentRequest, RequestMetrics, RequestRecorder, SpeculativeDecoding,
};
pub use snapshot::{Labels, Metric, Snapshot, Value};
