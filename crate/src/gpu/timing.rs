//! The GPU's own clock around a step.

use burn_wgpu::wgpu;

use super::Gpu;

/// Two timestamps, read back with the step's result.
pub(super) struct Timer {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    /// Nanoseconds a tick.
    period: f32,
}

impl Timer {
    /// A timer, where the device has timestamp queries.
    pub fn new(gpu: &Gpu) -> Option<Self> {
        gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| Self {
            queries: gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("step times"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("step times"),
                size: 16,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
            period: gpu.queue.get_timestamp_period(),
        })
    }

    /// What a pass writes at its start and end.
    pub fn writes(&self) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    /// Copies both to the start of `to`; gives their bytes.
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder, to: &wgpu::Buffer) -> u64 {
        encoder.resolve_query_set(&self.queries, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, to, 0, 16);
        16
    }

    /// Seconds between the two.
    pub fn seconds(&self, times: &[u8]) -> f64 {
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(times);
        ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.period) * 1e-9
    }
}
