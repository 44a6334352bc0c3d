//! A lost device takes keys and values with it, and no token: with another runner the sequences go on from theirs.
//!
//! It is vLLM's preemption by recomputation, of all sequences at once. What follows is bit for bit what would have: the prompt's
//! rows and those of decoding keep their roles.

use super::{Engine, KvCache};
use crate::metrics::Gauge;
use crate::{Error, ErrorCode, Result};

impl Engine {
    /// Whether the sequences in flight outlive a step that fails with `device_lost`. They wait then for
    /// [`take_over`](Self::take_over), or for their [`abort`](Self::abort).
    pub fn set_recover(&mut self, recover: bool) {
        self.recover = recover;
    }

    /// Takes the runner of another engine of the same model, which has done nothing so far, and goes on with it.
    ///
    /// # Errors
    /// `device_lost` where its runner holds other numbers of rows, sequences or positions; all sequences in flight end with it.
    pub fn take_over(&mut self, other: Self) -> Result<()> {
        self.preempt_all();
        if other.capacity != self.capacity {
            self.fail_all();
            self.update_gauges();
            let message = "the model was loaded again after its device was lost, but has other room there, so that nothing goes on; \
                           call again";
            return Err(Error::new(ErrorCode::DeviceLost, message));
        }
        self.kv = KvCache::new(self.capacity.blocks, self.capacity.block_size, self.kv.caches_prefixes());
        self.runner = other.runner;
        self.in_flight.clear();
        self.batch.clear();
        (self.warm, self.unchecked) = (other.warm, other.unchecked);
        self.metrics.set(Gauge::SingleKernelPath, f64::from(u8::from(self.runner.single_kernel_path())));
        for sequence in &mut self.preempted {
            // The GPU may have given way to the CPU.
            sequence.choose_sampler(self.runner.draws());
            sequence.recorder.on_preempted();
        }
        self.metrics.on_recovery(self.preempted.len());
        self.update_gauges();
        Ok(())
    }

    /// Puts all running sequences before those that wait, without keys and values.
    pub(super) fn preempt_all(&mut self) {
        while let Some(last) = self.running.len().checked_sub(1) {
            let mut sequence = self.take_running(last);
            sequence.forget_computed();
            self.preempted.push_front(sequence);
        }
    }
}
