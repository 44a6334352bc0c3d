//! The step loop's body: pick rows, run them, then for each sequence verify its draft, append, draft anew, and count.

use web_time::Instant;

use super::Engine;
use super::sequence::SequenceOutput;
use crate::gpu::plan::{CORRUPTED, StepOutput};
use crate::metrics::{DeviceStep, Gauge, IterationStats};
use crate::speculate::verify;
use crate::{Error, ErrorCode, Result};

impl Engine {
    /// Runs one step over all sequences in flight; returns what it added to each that got tokens.
    ///
    /// # Errors
    /// `device_lost`; the sequences in flight are dropped then, and counted as failed.
    pub async fn step(&mut self) -> Result<Vec<SequenceOutput>> {
        let outputs = self.try_step().await;
        if outputs.is_err() {
            self.fail_all();
        }
        self.update_gauges();
        outputs
    }

    async fn try_step(&mut self) -> Result<Vec<SequenceOutput>> {
        self.warm_up(None).await?;
        self.admit();
        self.choose_depths();
        self.schedule();
        // It would take the time of an unread step before it for its own.
        let alone = !self.plan.has_unread();
        let started = Instant::now();
        let step = self.run().await?;
        let outputs = self.finish_step(step);
        if alone {
            self.count_cost(started.elapsed().as_secs_f64());
        }
        Ok(outputs)
    }

    /// Sees, once, whether the adapter keeps rows independent of their company ([`Plan::check_tile`]), which also compiles
    /// every pipeline; or takes what was `known` of the same [`fingerprint`](Self::fingerprint) on the same adapter, which
    /// [`check_again`](Self::check_again) doubts. The first step does it where the caller has not. Gives
    /// [`Plan::single_kernel_path`].
    ///
    /// # Errors
    /// `device_lost`.
    ///
    /// [`Plan::check_tile`]: crate::gpu::Plan::check_tile
    /// [`Plan::single_kernel_path`]: crate::gpu::Plan::single_kernel_path
    pub async fn warm_up(&mut self, known: Option<bool>) -> Result<bool> {
        if !self.warm {
            self.unchecked = self.plan.tiles();
            match known {
                Some(single) => self.plan.set_single_kernel_path(single),
                None => while self.check_next().await? {},
            }
            self.metrics.set(Gauge::SingleKernelPath, f64::from(u8::from(self.plan.single_kernel_path())));
            self.warm = true;
        }
        Ok(self.plan.single_kernel_path())
    }

    /// Repeats a part of the row check, one tile's, where `warm_up` took a known answer: the driver may be another since.
    /// Should a row depend on its company now, all steps to come take the single path, and no prompt to come uses what was
    /// computed before. Gives [`Plan::single_kernel_path`] once there is nothing left to repeat, and `None` while there is,
    /// or while sequences are in flight: it waits for them.
    ///
    /// # Errors
    /// `device_lost`.
    ///
    /// [`Plan::single_kernel_path`]: crate::gpu::Plan::single_kernel_path
    pub async fn check_again(&mut self) -> Result<Option<bool>> {
        if self.is_busy() {
            return Ok(None);
        }
        let more = self.check_next().await?;
        if self.plan.single_kernel_path() {
            self.kv.forget_prompts();
            self.metrics.set(Gauge::SingleKernelPath, 1.0);
        }
        Ok((!more).then_some(self.plan.single_kernel_path()))
    }

    /// Checks the next tile, while no sequence is in flight; gives whether there are more. The single path has one only.
    async fn check_next(&mut self) -> Result<bool> {
        if self.plan.single_kernel_path() {
            return Ok(false);
        }
        let Some(tile) = self.unchecked.pop() else { return Ok(false) };
        self.plan.set_block(0, 0, self.kv.scratch());
        self.plan.check_tile(tile).await?;
        Ok(!self.unchecked.is_empty() && !self.plan.single_kernel_path())
    }

    /// What tells this engine's kernels from others'.
    pub fn fingerprint(&self) -> u64 {
        self.plan.fingerprint()
    }

    /// Runs the scheduled rows on the device.
    async fn run(&mut self) -> Result<StepOutput> {
        let sampled: usize = self.shares.iter().map(|share| share.outputs).sum();
        let want_logits =
            self.running.iter().zip(&self.shares).any(|(s, share)| share.outputs > 0 && s.counts.is_some());
        let submitted = Instant::now();
        let step = self.plan.step(&self.rows, want_logits).await?;
        if step.tokens.len() != sampled {
            let message =
                format!("a step returned {} tokens instead of {sampled}; please report this", step.tokens.len());
            return Err(Error::new(ErrorCode::Internal, message));
        }
        self.metrics.on_device_step(&DeviceStep {
            seconds: submitted.elapsed().as_secs_f64(),
            gpu_seconds: step.gpu_seconds,
            dispatches: self.plan.dispatches(),
            rows: self.rows.len(),
            readback_bytes: (step.tokens.len() + step.logits.len()) * 4,
        });
        Ok(step)
    }

    /// Learns what a step of so many rows costs, from submitting it to having taken its samples in. A prompt's rows are
    /// not sampled and cost less.
    fn count_cost(&mut self, seconds: f64) {
        if self.shares.iter().all(|share| share.rows == share.outputs) {
            self.costs.record(self.rows.len(), seconds);
        }
    }

    /// Takes the samples of a step into its sequences, counts them, and lets go of those that ended.
    fn finish_step(&mut self, mut step: StepOutput) -> Vec<SequenceOutput> {
        let mut stats = IterationStats::default();
        let mut outputs = Vec::with_capacity(self.running.len());
        let mut first_row = 0;
        let now = self.now();
        for index in 0..self.running.len() {
            let share = self.shares[index];
            if share.outputs == 0 {
                self.advance_prefill(index, share.rows);
                continue;
            }
            self.finish_prefill(index, &mut stats);
            outputs.push(self.take_samples(index, &mut step, first_row, now, &mut stats));
            first_row += share.outputs;
        }
        self.metrics.on_iteration(&stats);
        for output in &mut outputs {
            let Some(reason) = output.finish_reason else { continue };
            let Some(index) = self.running.iter().position(|s| s.id == output.id) else { continue };
            let sequence = self.take_running(index);
            output.metrics = Some(self.count_finished(&sequence.request, &sequence.recorder, reason));
        }
        outputs
    }

    /// When this step computed a part of a prompt that is not its end: lets others use the blocks as soon as all that can
    /// be shared are there.
    fn advance_prefill(&mut self, index: usize, rows: usize) {
        let sequence = &mut self.running[index];
        let shareable = self.kv.shareable(sequence.prompt_len);
        let before = sequence.computed;
        sequence.computed += rows;
        if (before..sequence.computed).contains(&(shareable.wrapping_sub(1))) {
            self.kv.remember_prompt(&sequence.tokens[..sequence.computed], &sequence.blocks);
        }
    }

    /// When this step computed the end of a prompt: lets later prompts use its blocks, and counts it.
    fn finish_prefill(&mut self, index: usize, stats: &mut IterationStats) {
        let sequence = &self.running[index];
        if sequence.computed < sequence.prompt_len {
            stats.prompt_tokens += sequence.prompt_len;
            stats.cached_prompt_tokens += sequence.cached;
            self.kv.remember_prompt(&sequence.tokens[..sequence.prompt_len], &sequence.blocks);
        }
    }

    /// Verifies a sequence's draft against the samples of its rows, which begin at `first_row` of the step's outputs;
    /// appends what holds and drafts what comes next. A row whose logits are corrupted ends the sequence.
    fn take_samples(
        &mut self,
        index: usize,
        step: &mut StepOutput,
        first_row: usize,
        now: f64,
        stats: &mut IterationStats,
    ) -> SequenceOutput {
        let Self { running, kv, sampler, tokenizer, metrics, tokens, vocab, longest, acceptance, .. } = self;
        let sequence = &mut running[index];
        let mut output = SequenceOutput { id: sequence.id, ..Default::default() };

        let (guess, depth) = sequence.take_guess();
        let num_accepted = verify(&guess[..depth], tokens, |row| {
            let row = first_row + row;
            if step.tokens[row] == CORRUPTED {
                return None;
            }
            if sequence.counts.is_none() {
                return Some(step.tokens[row]);
            }
            let logits = &mut step.logits[row * *vocab..(row + 1) * *vocab];
            Some(sequence.sample(logits, sampler, tokenizer, &mut output))
        });
        let corrupted = tokens.len() == num_accepted;
        if !guess.is_empty() {
            metrics.on_depth(depth);
        }
        metrics.on_draft(depth, num_accepted);
        sequence.recorder.on_draft(depth, num_accepted);
        sequence.give_back(guess, tokens, acceptance);
        sequence.computed = sequence.tokens.len() + num_accepted;

        for (i, &token) in tokens.iter().enumerate() {
            output.draft_positions.push((i < num_accepted).then_some(i as u32));
            sequence.append(token, tokenizer, &mut output);
            if output.finish_reason.is_some() {
                break;
            }
        }
        if corrupted && output.finish_reason.is_none() {
            sequence.end_corrupted(&mut output);
            // Where the keys and values are to blame, no other prompt is to have them.
            sequence.blocks.iter().for_each(|block| kv.forget(*block));
            stats.corrupted_requests += 1;
        }
        output.cut_logprobs();
        if let Some(latency) = sequence.recorder.on_tokens(now, output.token_ids.len()) {
            metrics.on_tokens(latency);
        }
        stats.generation_tokens += output.token_ids.len();
        if let (None, Some(speculation)) = (output.finish_reason, &mut sequence.speculation) {
            let started = Instant::now();
            speculation.propose(sequence.tokens.len(), *longest, self.plan.capacity.positions);
            metrics.on_proposal(started.elapsed().as_secs_f64());
        }
        output
    }
}
