//! Hidden states, for embeddings: the residual stream of some rows, normed as the output matrix would have it.

use burn_wgpu::wgpu::{self, BufferUsages as Usage};

use super::{DeviceWords, Plan, read};
use crate::Result;
use crate::program::{Buffer, Op, Parameter, Program, Row, rms_norm};

/// What it takes to read them back.
pub(super) struct Hidden {
    /// The gain of the norm before the output matrix.
    gain: Option<DeviceWords>,
    /// Made when they are first wanted.
    readback: Option<wgpu::Buffer>,
}

impl Hidden {
    pub(super) fn new(program: &Program<'_, Parameter<DeviceWords>>) -> Self {
        let gain = program.ops.iter().find_map(|op| match *op {
            Op::Logits { norm, .. } => Some(norm.whole().words.clone()),
            _ => None,
        });
        Self { gain, readback: None }
    }
}

impl Plan {
    /// Hidden states of some rows of the step that ran last, `[wanted, d]`.
    pub(super) async fn read_hidden(&mut self, rows: &[Row], wanted: &[usize]) -> Result<Vec<f32>> {
        let (Some(gain), false) = (&self.hidden.gain, wanted.is_empty()) else { return Ok(Vec::new()) };
        let device = &self.gpu.device;
        let line = (self.shape.d * 4) as u64;
        let readback = self.hidden.readback.get_or_insert_with(|| {
            let size = line * (self.capacity.rows as u64 + 1);
            let usage = Usage::MAP_READ | Usage::COPY_DST;
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("hidden"),
                size,
                usage,
                mapped_at_creation: false,
            })
        });
        let readback = readback.clone();
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("hidden") });
        let (words, offset) = gain.place();
        encoder.copy_buffer_to_buffer(words, offset, &readback, 0, line);
        let order = self.order(rows);
        let residual = &self.memory.activations[&Buffer::Residual];
        for (to, row) in (1..).zip(wanted) {
            let place = order.iter().position(|i| i == row).expect("a row of the step") as u64;
            encoder.copy_buffer_to_buffer(residual, place * line, &readback, to * line, line);
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.unread = None;
        let bytes = line * (wanted.len() as u64 + 1);
        let (d, eps) = (self.shape.d, self.shape.eps);
        read(&self.gpu, &readback, bytes, |view| {
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(view);
            let (gain, states) = values.split_at(d);
            let mut states = states.to_vec();
            states.chunks_exact_mut(d).for_each(|state| rms_norm(state, gain, eps));
            states
        })
        .await
    }
}
