//! The step loop's body: pick rows, run them, take the samples in.

use web_time::Instant;

use super::sequence::SequenceOutput;
use super::{Engine, Flight};
use crate::metrics::{DeviceStep, Gauge};
use crate::program::StepOutput;
use crate::{Error, ErrorCode, Result};

/// After so many steps of some rows that were waited for, what running ahead costs is measured anew.
const STEPS_UNTIL_AHEAD_IS_TRIED: u64 = 128;

impl Engine {
    /// Runs one step over all sequences in flight; returns what it added to each that got tokens.
    ///
    /// # Errors
    /// `device_lost`; the sequences in flight are dropped then, and counted as failed, unless the engine is to
    /// [`recover`](Self::set_recover).
    pub async fn step(&mut self) -> Result<Vec<SequenceOutput>> {
        let outputs = self.try_step().await;
        match &outputs {
            Err(error) => {
                let lost = error.code == ErrorCode::DeviceLost;
                // What else is in flight must not be taken for a later step.
                let _ = self.rest().await;
                if self.recover && lost { self.preempt_all() } else { self.fail_all() }
            }
            Ok(_) => {}
        }
        self.update_gauges();
        outputs
    }

    async fn try_step(&mut self) -> Result<Vec<SequenceOutput>> {
        self.warm_up(None).await?;
        let most = if self.async_scheduling { self.runner.steps_in_flight() } else { 1 };
        while self.in_flight.len() < most && self.submit_next()? {}
        let Some(flight) = self.in_flight.pop_front() else { return Ok(Vec::new()) };
        let (step, seconds) = self.finish(&flight).await?;
        let processed = self.process(&flight, &step).await;
        let outputs = self.commit(&flight, step, &processed);
        self.count_cost(&flight, seconds);
        Ok(outputs)
    }

    /// Submits the next step, if it can be told and has any rows; gives whether it did.
    fn submit_next(&mut self) -> Result<bool> {
        self.admit();
        if self.in_flight.is_empty() {
            self.choose_depths();
        } else if !self.can_run_ahead() {
            return Ok(false);
        }
        self.schedule();
        if self.shares.is_empty() {
            return Ok(false);
        }
        let (batch, shares) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.shares));
        let submitted = Instant::now();
        self.runner.submit(&batch)?;
        self.in_flight.iter_mut().for_each(|before| before.alone = false);
        let behind = !self.in_flight.is_empty();
        self.in_flight.push_back(Flight { batch, shares, longest: self.longest, submitted, alone: !behind, behind });
        Ok(true)
    }

    /// Waits for the steps in flight, whose sequences have all ended: the device is needed for something else.
    pub(super) async fn rest(&mut self) -> Result<()> {
        while let Some(flight) = self.in_flight.pop_front() {
            self.runner.finish(&flight.batch).await?;
        }
        Ok(())
    }

    /// Sees, once, whether the device keeps rows independent of their company ([`Runner::check_rows`]), which also compiles
    /// every pipeline; or takes what was `known` of the same [`fingerprint`](Self::fingerprint) on the same device, which
    /// [`check_again`](Self::check_again) doubts. The first step does it where the caller has not. Gives
    /// [`Runner::single_kernel_path`].
    ///
    /// # Errors
    /// `device_lost`.
    ///
    /// [`Runner::check_rows`]: crate::program::Runner::check_rows
    /// [`Runner::single_kernel_path`]: crate::program::Runner::single_kernel_path
    pub async fn warm_up(&mut self, known: Option<bool>) -> Result<bool> {
        if !self.warm {
            self.unchecked = (0..self.runner.row_checks()).collect();
            match known {
                Some(single) => self.runner.set_single_kernel_path(single),
                None => {
                    self.runner.compile().await?;
                    while self.check_next().await? {}
                }
            }
            self.metrics.set(Gauge::SingleKernelPath, f64::from(u8::from(self.runner.single_kernel_path())));
            self.warm = true;
        }
        Ok(self.runner.single_kernel_path())
    }

    /// Repeats a part of the row check, where `warm_up` took a known answer: the driver may be another since.
    /// Should a row depend on its company now, all steps to come take the single path, and no prompt to come uses what was
    /// computed before. Gives [`Runner::single_kernel_path`] once there is nothing left to repeat, and `None` while there is,
    /// or while sequences are in flight: it waits for them.
    ///
    /// # Errors
    /// `device_lost`.
    ///
    /// [`Runner::single_kernel_path`]: crate::program::Runner::single_kernel_path
    pub async fn check_again(&mut self) -> Result<Option<bool>> {
        if self.is_busy() {
            return Ok(None);
        }
        let more = self.check_next().await?;
        if self.runner.single_kernel_path() {
            self.kv.forget_prompts();
            self.metrics.set(Gauge::SingleKernelPath, 1.0);
        }
        Ok((!more).then_some(self.runner.single_kernel_path()))
    }

    /// Runs the next part of the row check, while no sequence is in flight; gives whether there are more. The single path has one only.
    async fn check_next(&mut self) -> Result<bool> {
        if self.runner.single_kernel_path() {
            return Ok(false);
        }
        let Some(part) = self.unchecked.pop() else { return Ok(false) };
        self.rest().await?;
        self.runner.check_rows(part, self.kv.scratch()).await?;
        Ok(!self.unchecked.is_empty() && !self.runner.single_kernel_path())
    }

    /// What tells this engine's kernels from others'.
    pub fn fingerprint(&self) -> u64 {
        self.runner.fingerprint()
    }

    /// Waits for a step; gives the seconds that were its own.
    async fn finish(&mut self, flight: &Flight) -> Result<(StepOutput, f64)> {
        let sampled: usize = flight.shares.iter().map(|share| share.made().0).sum();
        let step = self.runner.finish(&flight.batch).await?;
        if step.tokens.len() != sampled {
            let message =
                format!("a step returned {} tokens instead of {sampled}; please report this", step.tokens.len());
            return Err(Error::new(ErrorCode::Internal, message));
        }
        // Steps run one after another, however early they were submitted.
        let begin = flight.submitted.max(self.finished);
        self.finished = Instant::now();
        let seconds = self.finished.duration_since(begin).as_secs_f64();
        self.metrics.on_device_step(&DeviceStep {
            seconds,
            gpu_seconds: step.device_seconds,
            dispatches: self.runner.launches(),
            rows: flight.batch.rows.len(),
            readback_bytes: (step.tokens.len() + step.logits.len() + step.hidden.len()) * 4,
        });
        Ok((step, seconds))
    }

    /// Learns what a step of so many rows costs: alone from submitting it to having taken its samples in, behind another from that one's
    /// end to its own. A prompt's rows are not sampled and cost less.
    fn count_cost(&mut self, flight: &Flight, seconds: f64) {
        let rows = flight.batch.rows.len();
        if flight.shares.iter().any(|share| share.rows != share.outputs || share.scored > 0) {
            return;
        }
        if flight.alone {
            let steps = self.costs.record(rows, flight.submitted.elapsed().as_secs_f64());
            if steps.is_multiple_of(STEPS_UNTIL_AHEAD_IS_TRIED) {
                self.ahead_costs.forget(rows);
            }
        } else if flight.behind {
            self.ahead_costs.record(rows, seconds);
        }
    }
}
