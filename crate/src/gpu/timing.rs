//! The GPU's own clock around passes.

use burn_wgpu::wgpu;

use super::Gpu;

/// Most spans of one timer: a query set has 4096 queries at most.
pub(super) const MAX_SPANS: usize = 2048;

/// Two timestamps for each span, which is a pass; read back with a step's result.
pub(super) struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    spans: u32,
    /// Nanoseconds a tick.
    period: f32,
}

impl Timer {
    /// A timer of so many spans, where the device has timestamp queries.
    pub fn new(gpu: &Gpu, spans: usize) -> Option<Self> {
        let spans = spans as u32;
        gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| Self {
            queries: gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("step times"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * spans,
            }),
            resolved: gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("step times"),
                size: u64::from(spans) * 16,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
            spans,
            period: gpu.queue.get_timestamp_period(),
        })
    }

    /// What the pass of a span writes at its start and end.
    pub fn writes(&self, span: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(2 * span as u32),
            end_of_pass_write_index: Some(2 * span as u32 + 1),
        }
    }

    /// Bytes of all timestamps.
    pub fn bytes(&self) -> u64 {
        u64::from(self.spans) * 16
    }

    /// Copies all timestamps to the start of `to`.
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder, to: &wgpu::Buffer) {
        encoder.resolve_query_set(&self.queries, 0..2 * self.spans, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, to, 0, self.bytes());
    }

    /// Seconds of each span.
    pub fn seconds(&self, times: &[u8]) -> Vec<f64> {
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(times);
        let seconds = |ticks: &[u64]| ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.period) * 1e-9;
        ticks.chunks_exact(2).map(seconds).collect()
    }
}
