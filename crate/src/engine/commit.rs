//! What a step's samples mean for its sequences: verify the draft, append, draft anew, count, let go of what ended.

use super::process::Processed;
use super::sequence::SequenceOutput;
use super::{Engine, Flight};
use crate::metrics::IterationStats;
use crate::program::{CORRUPTED, StepOutput};
use crate::speculate::verify;
use crate::{Error, ErrorCode};

impl Engine {
    /// Takes the samples of a step into its sequences, counts them, and lets go of those that ended. Of a sequence that ended before,
    /// nothing is left to do.
    pub(super) fn commit(
        &mut self,
        flight: &Flight,
        mut step: StepOutput,
        processed: &Processed,
    ) -> Vec<SequenceOutput> {
        let mut stats = IterationStats::default();
        let mut outputs = Vec::with_capacity(flight.shares.len());
        let (mut next_row, mut next_logits, mut next_hidden) = (0, 0, 0);
        let width = step.hidden.len() / flight.batch.hidden.len().max(1);
        let now = self.now();
        for share in &flight.shares {
            let (first_row, first_logits, first_hidden) = (next_row, next_logits, next_hidden);
            next_row += share.made().0;
            next_logits += share.made().1;
            next_hidden += share.pooled * width;
            let Some(index) = self.running.iter().position(|sequence| sequence.id == share.id) else { continue };
            let Self { running, sampler, tokenizer, vocab, .. } = self;
            let sequence = &mut running[index];
            sequence.in_flight.rows -= share.rows;
            sequence.in_flight.tokens -= usize::from(share.outputs > 0);
            sequence.in_flight.drafted -= share.outputs.saturating_sub(1);
            for row in 0..share.scored {
                let logits = &step.logits[(first_logits + row) * *vocab..][..*vocab];
                sequence.score(sequence.computed + row + 1, logits, sampler, tokenizer);
            }
            if sequence.pool.is_some() {
                outputs.extend(self.pool(index, share.rows, &step.hidden[first_hidden..next_hidden], &mut stats));
                continue;
            }
            if share.outputs == 0 {
                self.advance_prefill(index, share.rows);
                continue;
            }
            self.finish_prefill(index, &mut stats);
            let at = (first_row + share.scored, first_logits + share.scored);
            let drafted = share.outputs - 1;
            outputs.push(self.take_samples(
                index,
                drafted,
                &mut step,
                processed,
                at,
                (now, flight.longest),
                &mut stats,
            ));
        }
        if flight.shares.iter().any(|share| self.running.iter().any(|sequence| sequence.id == share.id)) {
            self.metrics.on_iteration(&stats);
        }
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
    pub(super) fn advance_prefill(&mut self, index: usize, rows: usize) {
        let sequence = &mut self.running[index];
        let shareable = self.kv.shareable(sequence.prompt_len);
        let before = sequence.computed;
        sequence.computed += rows;
        // What is soon given back is made known while it is still there.
        let whole = (before..sequence.computed).contains(&(shareable.wrapping_sub(1)));
        if (whole || self.window.is_some()) && sequence.given_back == 0 {
            let known = sequence.computed.min(sequence.prompt_len);
            self.kv.remember_prompt(&sequence.tokens[..known], &sequence.blocks);
        }
    }

    /// When this step computed the end of a prompt: lets later prompts use its blocks, and counts it, once.
    pub(super) fn finish_prefill(&mut self, index: usize, stats: &mut IterationStats) {
        let sequence = &self.running[index];
        if sequence.computed < sequence.prompt_len {
            if sequence.tokens.len() == sequence.prompt_len {
                stats.prompt_tokens += sequence.prompt_len;
                stats.cached_prompt_tokens += sequence.cached;
            }
            if sequence.given_back == 0 {
                self.kv.remember_prompt(&sequence.tokens[..sequence.prompt_len], &sequence.blocks);
            }
        }
    }

    /// Verifies a sequence's draft, of so many tokens, against the samples of its rows, which begin at these places of the step's tokens and
    /// logits; appends what holds and drafts what comes next. A row whose logits are corrupted ends the sequence.
    fn take_samples(
        &mut self,
        index: usize,
        drafted: usize,
        step: &mut StepOutput,
        processed: &Processed,
        (first_row, first_logits): (usize, usize),
        (now, longest): (f64, usize),
        stats: &mut IterationStats,
    ) -> SequenceOutput {
        let Self { running, kv, sampler, tokenizer, metrics, tokens, draft, mask, vocab, acceptance, .. } = self;
        let sequence = &mut running[index];
        let prompt_logprobs = sequence.prompt_logprobs.take();
        let mut output = SequenceOutput { id: sequence.id, prompt_logprobs, ..Default::default() };

        let forced = sequence.take_forced();
        let (guess, depth) = sequence.take_guess();
        // A guess that came while this step was in flight is none of its draft.
        let depth = depth.min(drafted.saturating_sub(forced.len()));
        draft.clear();
        draft.extend(forced.iter().chain(&guess[..depth]));
        // Why there is no next token, where there is none.
        let mut end: Option<Error> = None;
        let num_accepted = verify(draft, tokens, |row| {
            let token = step.tokens[first_row + row];
            if token == CORRUPTED {
                end = Some(sequence.corrupted());
                return None;
            }
            if !sequence.on_cpu {
                return Some(token);
            }
            let logits = &mut step.logits[(first_logits + row) * *vocab..][..*vocab];
            let processed = processed.get(&(first_row + row));
            sequence.sample(logits, processed, sampler, tokenizer, mask, &mut output).unwrap_or_else(|error| {
                end = Some(error);
                None
            })
        });
        let ended = tokens.len() == num_accepted;
        // What a grammar forces is no guess: vLLM's counters of speculation know nothing of it.
        let held = num_accepted.min(forced.len());
        let num_guessed = num_accepted - held;
        if !guess.is_empty() {
            metrics.on_depth(depth);
        }
        metrics.on_draft(depth, num_guessed);
        sequence.recorder.on_draft(depth, num_guessed);
        if sequence.predicted() {
            sequence.recorder.on_prediction(depth, num_guessed);
        }
        // Of a guess behind a forced token that did not hold, nothing is learnt.
        let learnt = if held == forced.len() { &tokens[held..] } else { &[] };
        sequence.give_back(guess, learnt, acceptance);
        sequence.computed = sequence.tokens.len() + num_accepted;

        for (i, &token) in tokens.iter().enumerate() {
            output.draft_positions.push((held..num_accepted).contains(&i).then(|| (i - held) as u32));
            output.forced.push(i < held);
            sequence.append(token, tokenizer, &mut output);
            if output.finish_reason.is_some() {
                break;
            }
        }
        if ended && output.finish_reason.is_none() {
            if end.as_ref().is_some_and(|error| error.code == ErrorCode::CorruptedLogits) {
                // Where the keys and values are to blame, no other prompt is to have them.
                sequence.own_blocks().iter().for_each(|block| kv.forget(*block));
                stats.corrupted_requests += 1;
            }
            sequence.end(end, &mut output);
        }
        let num_forced = output.forced.iter().filter(|forced| **forced).count();
        metrics.on_forced(num_forced);
        sequence.recorder.on_forced(num_forced);
        output.cut_logprobs();
        if let Some(latency) = sequence.recorder.on_tokens(now, output.token_ids.len()) {
            metrics.on_tokens(latency);
        }
        stats.generation_tokens += output.token_ids.len();
        if output.finish_reason.is_none()
            && let Some(seconds) = sequence.propose(longest, self.capacity.positions)
        {
            metrics.on_proposal(seconds);
        }
        output
    }
}
