//! Steps in flight: each is recorded, submitted, and read back in its turn. Several may be, so that the device goes on with the next
//! while the first one's tokens cross to the CPU and are taken in there.

use burn_wgpu::wgpu;

use super::{Allocator, Counts, Plan};
use crate::Result;
use crate::gpu::readback::{Mapping, map};
use crate::program::{Batch, Buffer, StepOutput, rms_norm};

/// How many steps may be in flight on a GPU. A browser takes a millisecond or two to tell of a step's end, as long as one or two steps of a
/// small model take. What a sequence's end finds in flight is for nothing, so there are no more.
pub(super) const IN_FLIGHT: usize = 3;

/// How many passes are kept recorded: with and without drafts a step's rows differ.
const RECORDED: usize = 4;

/// A step that was submitted. Its results come through the buffer of its turn.
pub(super) struct Flight {
    mapping: Mapping,
    sizes: Sizes,
}

/// The bytes of what is read back, in this order.
struct Sizes {
    outputs: usize,
    times: usize,
    tokens: usize,
    logits: usize,
    /// The gain of the last norm, then the residual stream of the rows that want it.
    hidden: usize,
}

/// The pass of a step to come, recorded on the guess that it has as many rows as one before.
pub(super) struct Recorded {
    counts: Counts,
    single: bool,
    encoder: wgpu::CommandEncoder,
}

impl Plan {
    /// Submits a step of all dispatches. Its block tables are set.
    pub(super) fn begin(&mut self, batch: &Batch) -> Result<()> {
        let counts = self.write(batch)?;
        let encoder = match self.recorded(counts).and_then(|i| self.recorded.remove(i)) {
            Some(recorded) => recorded.encoder,
            None => self.record(counts, 0..self.dispatches.len())?,
        };
        self.submit(batch, counts, encoder)
    }

    /// Which of the recorded passes is for so many rows.
    fn recorded(&self, counts: Counts) -> Option<usize> {
        let single = self.single_kernel_path;
        self.recorded.iter().position(|recorded| recorded.counts == counts && recorded.single == single)
    }

    /// Runs a step of only these dispatches.
    pub(super) async fn run(
        &mut self,
        batch: &Batch,
        dispatches: impl IntoIterator<Item = usize>,
    ) -> Result<StepOutput> {
        let counts = self.write(batch)?;
        let encoder = self.record(counts, dispatches)?;
        self.submit(batch, counts, encoder)?;
        self.end().await
    }

    /// Writes what a step's kernels are told.
    fn write(&mut self, batch: &Batch) -> Result<Counts> {
        self.grow_cache()?;
        self.write_changes(&batch.changes)?;
        self.write_draws(&batch.draws);
        Ok(self.write_rows(batch))
    }

    /// Records a step's one pass.
    fn record(&self, counts: Counts, dispatches: impl IntoIterator<Item = usize>) -> Result<wgpu::CommandEncoder> {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("step") };
        let mut encoder = self.gpu.device.create_command_encoder(&descriptor);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("step"),
            timestamp_writes: self.timer.as_ref().map(|timer| timer.writes(0)),
        });
        for i in dispatches {
            self.encode(&self.dispatches[i], &mut pass, counts)?;
        }
        drop(pass);
        Ok(encoder)
    }

    /// Submits a recorded pass, and after it the copies of what is read back: the times, the tokens, what else is wanted.
    fn submit(&mut self, batch: &Batch, counts: Counts, mut encoder: wgpu::CommandEncoder) -> Result<()> {
        assert!(self.in_flight.len() < IN_FLIGHT, "more steps than may be in flight");
        let Batch { rows, logits, hidden, .. } = batch;
        let (line, row) = (self.shape.d * 4, self.shape.vocab * 4);
        let gain = self.gain.as_ref().filter(|_| !hidden.is_empty());
        let sizes = Sizes {
            outputs: counts.outputs,
            times: self.timer.as_ref().map_or(0, |timer| timer.bytes() as usize),
            // Something is read of each step: it tells that the step has ended.
            tokens: 4 * counts.outputs.max(1),
            logits: logits.len() * row,
            hidden: gain.map_or(0, |_| (1 + hidden.len()) * line),
        };
        self.turn = (self.turn + 1) % IN_FLIGHT;
        if self.readbacks[self.turn].size() < sizes.all() {
            let new = Allocator::new(&self.gpu).readback(sizes.all().next_power_of_two())?;
            let old = std::mem::replace(&mut self.readbacks[self.turn], new.clone());
            self.memory_bytes += new.size();
            self.memory_bytes -= old.size();
            old.destroy();
        }
        let to = &self.readbacks[self.turn];
        if let Some(timer) = &self.timer {
            timer.resolve(&mut encoder, to);
        }
        let mut at = sizes.times as u64;
        let mut copy = |from: &wgpu::Buffer, offset: u64, bytes: usize| {
            encoder.copy_buffer_to_buffer(from, offset, to, at, bytes as u64);
            at += bytes as u64;
        };
        copy(&self.memory.sampled, 0, sizes.tokens);
        for run in logits.chunk_by(|row, next| row + 1 == *next) {
            copy(&self.memory.logits, (run[0] * row) as u64, run.len() * row);
        }
        if let Some((words, offset)) = gain.map(|gain| gain.place()) {
            let (order, residual) = (self.order(rows), &self.memory.activations[&Buffer::Residual]);
            copy(words, offset, line);
            for wanted in hidden {
                let place = order.iter().position(|i| i == wanted).expect("a row of the step");
                copy(residual, (place * line) as u64, line);
            }
        }
        let submission = self.gpu.queue.submit([encoder.finish()]);
        self.in_flight.push_back(Flight { mapping: map(to, sizes.all(), Some(submission)), sizes });
        self.counts = counts;
        Ok(())
    }

    /// Waits for the step that was submitted first of those in flight. While the device is at work, the next one is recorded.
    pub(super) async fn end(&mut self) -> Result<StepOutput> {
        let Flight { mapping, sizes } = self.in_flight.pop_front().expect("a step in flight");
        if self.recorded(self.counts).is_none() {
            let (counts, single) = (self.counts, self.single_kernel_path);
            let encoder = self.record(counts, 0..self.dispatches.len())?;
            self.recorded.push_back(Recorded { counts, single, encoder });
            self.recorded.drain(..self.recorded.len().saturating_sub(RECORDED));
        }
        let (timer, d, eps) = (self.timer.as_ref(), self.shape.d, self.shape.eps);
        mapping
            .read(&self.gpu, |view| {
                let (times, rest) = view.split_at(sizes.times);
                let (tokens, rest) = rest.split_at(sizes.tokens);
                let (logits, rest) = rest.split_at(sizes.logits);
                let lines: Vec<f32> = bytemuck::pod_collect_to_vec(&rest[..sizes.hidden]);
                let (gain, states) = lines.split_at(d.min(lines.len()));
                let mut hidden = states.to_vec();
                hidden.chunks_exact_mut(d).for_each(|state| rms_norm(state, gain, eps));
                StepOutput {
                    tokens: bytemuck::pod_collect_to_vec(&tokens[..4 * sizes.outputs]),
                    logits: bytemuck::pod_collect_to_vec(logits),
                    hidden,
                    device_seconds: timer.map(|timer| timer.seconds(times)[0]),
                }
            })
            .await
    }
}

impl Sizes {
    fn all(&self) -> u64 {
        // A mapped range is a multiple of eight bytes long.
        ((self.times + self.tokens + self.logits + self.hidden) as u64).next_multiple_of(8)
    }
}
