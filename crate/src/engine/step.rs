//! The step loop's body: pick rows, run them, verify drafts, append.

use std::collections::VecDeque;

use web_time::Instant;

use super::kv_cache::KvCache;
use super::sequence::{Sequence, SequenceOutput};
use crate::config::SamplingParams;
use crate::gpu::{Plan, Row};
use crate::metrics::{
    DeviceStep, FinishReason, FinishedRequest, IterationStats, ParentRequest, Registry, RequestMetrics, RequestRecorder,
};
use crate::sample::{Sampled, Sampler, needs_logits};
use crate::speculate::{DraftWindow, NgramProposer, SpeculativeConfig, verify};
use crate::text::Tokenizer;
use crate::{Error, ErrorCode, Result};

/// The sequences in flight over one plan.
pub struct Engine {
    plan: Plan,
    tokenizer: Tokenizer,
    sampler: Sampler,
    kv: KvCache,
    metrics: Registry,
    speculation: Option<SpeculativeConfig>,
    vocab: usize,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    free_slots: Vec<usize>,
    next_id: u64,
    /// The longest sequence of the step before, its draft tokens among it (see [`DraftWindow`]).
    longest: usize,
    started: Instant,
}

/// A sequence's part of a step: how many rows, and how many of them are sampled.
struct Share {
    outputs: usize,
    rows: usize,
}

impl Engine {
    /// An engine without requests. `vocab` is the number of logits a row has.
    pub fn new(plan: Plan, tokenizer: Tokenizer, vocab: usize, prefix_caching: bool, metrics: Registry) -> Self {
        let capacity = plan.capacity;
        Self {
            sampler: Sampler::new(tokenizer.eos_ids()),
            kv: KvCache::new(capacity.blocks, capacity.block_size, prefix_caching),
            plan,
            tokenizer,
            metrics,
            speculation: None,
            vocab,
            waiting: VecDeque::new(),
            running: Vec::new(),
            free_slots: (0..capacity.slots).rev().collect(),
            next_id: 0,
            longest: 0,
            started: Instant::now(),
        }
    }

    /// Speculation for requests added from now on; `None` for none.
    pub fn set_speculation(&mut self, config: Option<SpeculativeConfig>) {
        if let Some(config) = &config {
            self.metrics.configure_speculation(config.num_speculative_tokens);
        }
        self.speculation = config;
    }

    /// The counters.
    pub fn metrics(&self) -> &Registry {
        &self.metrics
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Queues `params.n` sequences of this prompt; sequence i samples with `seed + i`. Returns their ids, in order.
    ///
    /// # Errors
    /// `invalid_prompt` for an empty prompt or a token outside the vocabulary, `prompt_too_long` when no token fits
    /// behind it or the cache can never hold it, `invalid_params` for ids outside the vocabulary.
    pub fn add(&mut self, prompt: &[u32], params: &SamplingParams, seed: u64) -> Result<Vec<u64>> {
        let positions = self.plan.capacity.positions;
        if prompt.is_empty() {
            return Err(Error::new(ErrorCode::InvalidPrompt, "the prompt has no tokens; give at least one"));
        }
        if let Some(token) = prompt.iter().find(|t| **t as usize >= self.vocab) {
            let message = format!("the prompt has token {token}; ids go from 0 to {}", self.vocab - 1);
            return Err(Error::new(ErrorCode::InvalidPrompt, message));
        }
        if prompt.len() >= positions {
            let message = format!(
                "the prompt has {} tokens, but max_model_len is {positions} and one must be left to generate; shorten it \
                 or load with a larger max_model_len",
                prompt.len()
            );
            return Err(Error::new(ErrorCode::PromptTooLong, message));
        }
        params.check_vocabulary(self.vocab)?;
        let mut added = Vec::with_capacity(params.n);
        for i in 0..params.n as u64 {
            let proposer = match &self.speculation {
                Some(c) => Some(NgramProposer::new(c.prompt_lookup_min, c.prompt_lookup_max)?),
                None => None,
            };
            let id = self.next_id + i;
            let recorder =
                RequestRecorder::new(self.now(), self.speculation.as_ref().map(|c| c.num_speculative_tokens));
            let seed = seed.wrapping_add(i);
            added.push(Sequence::new(id, prompt.to_vec(), params.clone(), seed, proposer, recorder)?);
        }
        let need = self.room(&added[0]).div_ceil(self.plan.capacity.block_size);
        if need > self.kv.len() {
            let message = format!(
                "the request may need {need} KV blocks, but there are {}; lower max_tokens or raise kv_cache_memory_bytes",
                self.kv.len()
            );
            return Err(Error::new(ErrorCode::PromptTooLong, message));
        }
        self.next_id += params.n as u64;
        let ids = added.iter().map(|s| s.id).collect();
        self.waiting.extend(added);
        Ok(ids)
    }

    /// Ends a sequence between two steps. Returns its last output, or `None` when it is not in flight.
    pub fn abort(&mut self, id: u64) -> Option<SequenceOutput> {
        let sequence = match self.waiting.iter().position(|s| s.id == id) {
            Some(i) => self.waiting.remove(i)?,
            None => {
                let i = self.running.iter().position(|s| s.id == id)?;
                let sequence = self.running.remove(i);
                self.release(&sequence);
                sequence
            }
        };
        let metrics = Some(self.count_finished(&sequence, FinishReason::Abort));
        Some(SequenceOutput { id, finish_reason: Some(FinishReason::Abort), metrics, ..Default::default() })
    }

    /// Whether any sequence is in flight.
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.running.is_empty()
    }

    /// Positions to promise a sequence: its longest output, and the drafts that may reach beyond it.
    fn room(&self, sequence: &Sequence) -> usize {
        let positions = self.plan.capacity.positions;
        let drafts = self.speculation.as_ref().map_or(0, |c| c.num_speculative_tokens);
        (sequence.max_len(positions) + drafts).min(positions)
    }

    /// Seconds since the engine was made.
    fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn admit(&mut self) {
        let now = self.now();
        while let (Some(next), false) = (self.waiting.front(), self.free_slots.is_empty()) {
            let room = self.room(next);
            let Some(prefix) = self.kv.admit(&next.tokens, room) else { break };
            let mut sequence = self.waiting.pop_front().expect("just seen");
            sequence.slot = self.free_slots.pop().expect("just seen");
            for (i, block) in prefix.iter().enumerate() {
                self.plan.set_block(sequence.slot, i, *block);
            }
            sequence.cached = prefix.len() * self.plan.capacity.block_size;
            sequence.computed = sequence.cached;
            sequence.promised = room.div_ceil(self.plan.capacity.block_size) - prefix.len();
            sequence.blocks = prefix;
            sequence.recorder.on_scheduled(now);
            self.metrics.on_prefix_cache(sequence.prompt_len, sequence.cached);
            self.running.push(sequence);
        }
    }

    fn release(&mut self, sequence: &Sequence) {
        self.kv.release(&sequence.blocks, sequence.promised);
        self.free_slots.push(sequence.slot);
    }

    /// Counts a sequence that ended, once.
    fn count_finished(&mut self, sequence: &Sequence, reason: FinishReason) -> RequestMetrics {
        let metrics = sequence.recorder.finish(self.now());
        let generated = sequence.tokens.len() - sequence.prompt_len;
        self.metrics.on_request_finished(&FinishedRequest {
            reason,
            prompt_tokens: sequence.prompt_len,
            cached_prompt_tokens: sequence.cached,
            max_tokens: sequence.params.max_tokens,
            parent: Some(ParentRequest { n: 1, max_generation_tokens: generated }),
            ..metrics.finished()
        });
        metrics
    }

    /// Runs one step over all sequences in flight; returns what it added to each that got tokens.
    ///
    /// # Errors
    /// `device_lost`; the sequences in flight are dropped then.
    pub async fn step(&mut self) -> Result<Vec<SequenceOutput>> {
        self.admit();
        let (rows, shares) = self.schedule();
        let want_logits = self.running.iter().any(|s| needs_logits(&s.params));
        let submitted = Instant::now();
        let mut step = match self.plan.step(&rows, want_logits).await {
            Ok(step) => step,
            Err(error) => {
                for sequence in std::mem::take(&mut self.waiting) {
                    self.count_finished(&sequence, FinishReason::Error);
                }
                for sequence in std::mem::take(&mut self.running) {
                    self.release(&sequence);
                    self.count_finished(&sequence, FinishReason::Error);
                }
                return Err(error);
            }
        };
        self.metrics.on_device_step(&DeviceStep {
            seconds: submitted.elapsed().as_secs_f64(),
            dispatches: self.plan.dispatches(),
            rows: rows.len(),
            readback_bytes: (step.tokens.len() + step.logits.len()) * 4,
        });
        let now = self.now();
        let longest = self.longest;
        let mut stats = IterationStats::default();
        let positions = self.plan.capacity.positions;
        let mut outputs = Vec::new();
        let mut first = 0;
        for (sequence, share) in self.running.iter_mut().zip(&shares) {
            let here = first..first + share.outputs;
            first = here.end;
            let draft = std::mem::take(&mut sequence.draft);
            let prompt_done = sequence.computed < sequence.prompt_len;
            sequence.computed += share.rows - draft.len();
            if here.is_empty() {
                continue;
            }
            if prompt_done {
                stats.prompt_tokens += sequence.prompt_len;
                stats.cached_prompt_tokens += sequence.cached;
                self.kv.remember_prompt(&sequence.tokens[..sequence.prompt_len], &sequence.blocks);
            }
            let sampled: Vec<Sampled> = match &mut sequence.counts {
                None => step.tokens[here].iter().map(|t| Sampled { token: *t, logprobs: None }).collect(),
                Some(counts) => {
                    let mut sampled = Vec::with_capacity(share.outputs);
                    for (i, row) in here.enumerate() {
                        let logits = &mut step.logits[row * self.vocab..(row + 1) * self.vocab];
                        let position = (sequence.tokens.len() + i) as u32;
                        sampled.push(self.sampler.sample(logits, &sequence.params, counts, sequence.seed, position));
                        if let Some(token) = draft.get(i) {
                            counts.push(*token);
                        }
                    }
                    draft.iter().for_each(|_| {
                        counts.pop();
                    });
                    sampled
                }
            };
            let ids: Vec<u32> = sampled.iter().map(|s| s.token).collect();
            let verified = verify(&draft, &ids)?;
            self.metrics.on_draft(draft.len(), verified.num_accepted);
            sequence.recorder.on_draft(draft.len(), verified.num_accepted);
            sequence.computed += verified.num_accepted;
            let mut output = SequenceOutput { id: sequence.id, ..Default::default() };
            let max_len = sequence.max_len(positions);
            for sample in sampled.into_iter().take(verified.tokens.len()) {
                sequence.append(sample.token, &self.tokenizer, max_len, &mut output);
                output.logprobs.extend(sample.logprobs);
                if output.finish_reason.is_some() {
                    break;
                }
            }
            if let Some(latency) = sequence.recorder.on_tokens(now, output.token_ids.len()) {
                self.metrics.on_tokens(latency);
            }
            stats.generation_tokens += output.token_ids.len();
            if let (None, Some(proposer), Some(config)) = (output.finish_reason, &sequence.proposer, &self.speculation)
            {
                let window = DraftWindow { k: config.num_speculative_tokens, max_model_len: positions };
                window.draft(proposer, sequence.tokens.len(), longest, &mut sequence.draft);
            }
            outputs.push(output);
        }
        self.metrics.on_iteration(&stats);
        for output in &mut outputs {
            let Some(reason) = output.finish_reason else { continue };
            let i = self.running.iter().position(|s| s.id == output.id).expect("it just ran");
            let sequence = self.running.remove(i);
            self.release(&sequence);
            output.metrics = Some(self.count_finished(&sequence, reason));
        }
        Ok(outputs)
    }

    /// The rows of the next step, oldest sequence first, within the budget of the plan's rows: what is not computed yet,
    /// and behind a sequence's newest token its draft.
    fn schedule(&mut self) -> (Vec<Row>, Vec<Share>) {
        let block_size = self.plan.capacity.block_size;
        let mut budget = self.plan.capacity.rows;
        let mut room = self.plan.capacity.outputs;
        let mut rows = Vec::with_capacity(budget);
        let mut shares = Vec::with_capacity(self.running.len());
        self.longest = 0;
        for sequence in &mut self.running {
            let pending = sequence.tokens.len() - sequence.computed;
            let mut taken = pending.min(budget);
            if taken == pending && room == 0 {
                taken -= 1;
            }
            let samples = taken == pending;
            let drafts = if samples { (budget - taken).min(room.saturating_sub(1)) } else { 0 };
            sequence.draft.truncate(drafts);
            let end = sequence.computed + taken + sequence.draft.len();
            self.longest = self.longest.max(end);
            while sequence.blocks.len() * block_size < end {
                let block = self.kv.take_reserved();
                sequence.promised -= 1;
                self.plan.set_block(sequence.slot, sequence.blocks.len(), block);
                sequence.blocks.push(block);
            }
            let known = sequence.tokens[sequence.computed..sequence.computed + taken].iter();
            for (position, token) in (sequence.computed..).zip(known.chain(&sequence.draft)) {
                let output = position + 1 >= sequence.tokens.len();
                rows.push(Row { token: *token, slot: sequence.slot as u32, position: position as u32, output });
            }
            let outputs = if samples { 1 + sequence.draft.len() } else { 0 };
            let share = Share { outputs, rows: taken + sequence.draft.len() };
            budget -= share.rows;
            room -= outputs;
            shares.push(share);
        }
        (rows, shares)
    }
}
