//! Requests from their arrival to their end, each counted once.

use std::rc::Rc;

use super::sequence::{Request, Sequence, SequenceOutput, Speculation, Waiting};
use super::{Engine, Parent};
use crate::config::{SamplingParams, StructuredOutputs};
use crate::metrics::{FinishReason, FinishedRequest, ParentRequest, RequestMetrics, RequestRecorder};
use crate::program::BlockEntry;
use crate::sample::{Constraint, LogitsProcessor};
use crate::text::StopStrings;
use crate::{Error, ErrorCode, Result};

impl Engine {
    /// Queues `params.n` sequences of this prompt; sequence i samples with `seed + i`, from logits that `processors` have changed.
    /// Returns their ids, in order.
    ///
    /// # Errors
    /// `invalid_prompt` for an empty prompt or a token outside the vocabulary, `prompt_too_long` when no token fits
    /// after it or the cache can never hold it, `invalid_params` for ids outside the vocabulary or a grammar that does not
    /// compile, `queue_full` when more would wait than may. Nothing is queued then.
    pub fn add(
        &mut self,
        prompt: &[u32],
        params: &SamplingParams,
        processors: Vec<Box<dyn LogitsProcessor>>,
        seed: u64,
    ) -> Result<Vec<u64>> {
        self.check_prompt(prompt, 1)?;
        params.check_vocabulary(self.vocab)?;
        let capacity = self.capacity;
        let wanted = params.max_tokens.unwrap_or(capacity.positions);
        let max_len = prompt.len().saturating_add(wanted).min(capacity.positions);
        // Drafts may reach beyond the longest output.
        let prediction = params.prediction.as_deref().map(|text| self.predicted(text)).transpose()?;
        let speculation = Speculation::new(self.speculation, prediction)?;
        let drafts = speculation.as_ref().map_or(0, |s| s.config.num_speculative_tokens);
        let room = max_len.saturating_add(drafts).min(capacity.positions);
        self.check_room(room)?;
        self.check_queue(params.n)?;
        let bad_words_token_ids = self.bad_words(&params.bad_words)?;
        let constraint = params.structured_outputs.as_ref().map(|outputs| self.compile(outputs)).transpose()?;
        let parent = (params.n > 1).then_some(self.next_id);
        let request = Rc::new(Request {
            parent,
            prompt: prompt.into(),
            stops: StopStrings::new(params.stop.clone(), params.include_stop_str_in_output)?,
            speculation,
            constraint,
            processors,
            params: SamplingParams { bad_words_token_ids, ..params.clone() },
            pooling: None,
            max_len,
            room,
            arrival: self.now(),
        });
        if let Some(first) = parent {
            let request = ParentRequest { n: params.n, max_generation_tokens: 0 };
            self.parents.insert(first, Parent { left: params.n, request });
        }
        let ids: Vec<u64> = (self.next_id..).take(params.n).collect();
        self.next_id += params.n as u64;
        let sequence = |(i, id): (u64, &u64)| Waiting { id: *id, seed: seed.wrapping_add(i), request: request.clone() };
        self.waiting.extend((0..).zip(&ids).map(sequence));
        self.update_gauges();
        Ok(ids)
    }

    /// Words as tokens, at the beginning of a text and, as far as that makes another token, within one. As in vLLM.
    fn bad_words(&self, words: &[String]) -> Result<Vec<Vec<u32>>> {
        let mut found = Vec::new();
        for word in words {
            let word = word.trim_start();
            let alone = self.tokenizer.encode(word, false)?;
            let within = self.tokenizer.encode(&format!(" {word}"), false)?;
            if alone.is_empty() {
                let message = format!("bad_words has {word:?}, which is no token of this model; leave it out");
                return Err(Error::new(ErrorCode::InvalidParams, message));
            }
            let differs = within.first() != alone.first() && within.len() == alone.len();
            found.push(alone);
            found.extend(differs.then_some(within));
        }
        Ok(found)
    }

    /// The tokens of a predicted output, as far as any output can go.
    fn predicted(&self, text: &str) -> Result<Vec<u32>> {
        let most = self.tokenizer.max_bytes(self.capacity.positions);
        if text.len() > most {
            let message = format!(
                "prediction has {} bytes, but max_model_len, {}, is at most {most} bytes of it; shorten it",
                text.len(),
                self.capacity.positions
            );
            return Err(Error::new(ErrorCode::InvalidParams, message));
        }
        self.tokenizer.encode_rest(text)
    }

    fn compile(&self, outputs: &StructuredOutputs) -> Result<Box<dyn Constraint>> {
        let Some(grammars) = &self.grammars else {
            let message = "structured_outputs needs a compiler of grammars, and this engine has none; set one first";
            return Err(Error::new(ErrorCode::InvalidConfig, message));
        };
        grammars.compile(outputs)
    }

    /// Refuses what the KV cache can never hold.
    pub(super) fn check_room(&self, positions: usize) -> Result<()> {
        let need = positions.div_ceil(self.capacity.block_size);
        if need <= self.kv.len() {
            return Ok(());
        }
        let message = format!(
            "the request may need {need} KV blocks, but there are {}; lower max_tokens or raise kv_cache_memory_bytes",
            self.kv.len()
        );
        Err(Error::new(ErrorCode::PromptTooLong, message))
    }

    pub(super) fn check_queue(&mut self, n: usize) -> Result<()> {
        let (waiting, most) = (self.waiting.len(), self.max_num_waiting);
        if waiting + n <= most {
            return Ok(());
        }
        self.metrics.on_rejection();
        let message = format!(
            "{waiting} sequences wait and this request has {n}, but max_num_waiting is {most}; call again when earlier \
             calls have ended, or load with a larger max_num_waiting"
        );
        Err(Error::new(ErrorCode::QueueFull, message))
    }

    /// Refuses a prompt that does not leave room for so many tokens.
    pub(super) fn check_prompt(&self, prompt: &[u32], tokens: usize) -> Result<()> {
        let positions = self.capacity.positions;
        if prompt.is_empty() {
            return Err(Error::new(ErrorCode::InvalidPrompt, "the prompt has no tokens; give at least one"));
        }
        if let Some(token) = prompt.iter().find(|t| **t as usize >= self.vocab) {
            let message = format!("the prompt has token {token}; ids go from 0 to {}", self.vocab - 1);
            return Err(Error::new(ErrorCode::InvalidPrompt, message));
        }
        if prompt.len() + tokens > positions {
            let left = if tokens > 0 { " and one must be left to generate" } else { "" };
            let message = format!(
                "the prompt has {} tokens, but max_model_len is {positions}{left}; shorten it or load with a larger \
                 max_model_len",
                prompt.len()
            );
            return Err(Error::new(ErrorCode::PromptTooLong, message));
        }
        Ok(())
    }

    /// Ends a sequence between two steps. Returns its last output, or `None` when it is not in flight.
    pub fn abort(&mut self, id: u64) -> Option<SequenceOutput> {
        let mut output = SequenceOutput { id, finish_reason: Some(FinishReason::Abort), ..Default::default() };
        let (request, recorder) = match self.waiting.iter().position(|s| s.id == id) {
            Some(i) => {
                let request = self.waiting.remove(i)?.request;
                let recorder = request.recorder();
                (request, recorder)
            }
            None => {
                let mut sequence = match self.running.iter().position(|s| s.id == id) {
                    Some(i) => self.take_running(i),
                    None => self.preempted.remove(self.preempted.iter().position(|s| s.id == id)?)?,
                };
                sequence.flush_text(&mut output);
                (sequence.request, sequence.recorder)
            }
        };
        output.metrics = Some(self.count_finished(&request, &recorder, FinishReason::Abort));
        self.update_gauges();
        Some(output)
    }

    /// Drops all sequences after a step that failed.
    pub(super) fn fail_all(&mut self) {
        self.preempt_all();
        while let Some(sequence) = self.preempted.pop_front() {
            self.count_finished(&sequence.request, &sequence.recorder, FinishReason::Error);
        }
        while let Some(Waiting { request, .. }) = self.waiting.pop_front() {
            self.count_finished(&request, &request.recorder(), FinishReason::Error);
        }
    }

    /// Gives waiting sequences a slot and KV blocks, first come first served, as far as there are any. Of a prompt's `n`
    /// sequences the first computes for all the blocks that all can share; until then the others wait, and whoever came after.
    pub(super) fn admit(&mut self) {
        let now = self.now();
        while let Some(sequence) = self.preempted.front() {
            let Some(prefix) = self.kv.admit(sequence.known(), sequence.request.room) else { return };
            let Some(sequence) = self.preempted.pop_front() else { return };
            self.run_with(sequence, prefix);
        }
        while let (Some(next), true) = (self.waiting.front(), !self.free_slots.is_empty()) {
            let request = &next.request;
            let shareable = self.kv.shareable(request.prompt.len());
            let computes = |s: &Sequence| s.request.parent == request.parent && s.computed < shareable;
            if request.parent.is_some() && self.running.iter().any(computes) {
                break;
            }
            let Some(prefix) = self.kv.admit(next.known(), request.room) else { break };
            let Some(next) = self.waiting.pop_front() else { break };
            let mut sequence = Sequence::new(next, &self.tokenizer, self.runner.draws());
            sequence.cached = prefix.len() * self.capacity.block_size;
            sequence.recorder.on_scheduled(now, sequence.cached);
            if self.kv.caches_prefixes() {
                self.metrics.on_prefix_cache(sequence.prompt_len, sequence.cached);
            }
            self.run_with(sequence, prefix);
        }
    }

    /// Takes a sequence into the steps, with a free slot and the blocks that hold its beginning.
    fn run_with(&mut self, mut sequence: Sequence, prefix: Vec<u32>) {
        let slot = self.free_slots.pop().expect("no more sequences run than there are slots");
        for (i, block) in prefix.iter().enumerate() {
            self.batch.tables.push(BlockEntry { slot: slot as u32, index: i as u32, block: *block });
        }
        let block_size = self.capacity.block_size;
        sequence.slot = slot;
        sequence.computed = prefix.len() * block_size;
        sequence.promised = sequence.request.room.div_ceil(block_size) - prefix.len();
        sequence.blocks = prefix;
        self.running.push(sequence);
    }

    /// Takes a sequence out of the steps, and its slot and blocks back.
    pub(super) fn take_running(&mut self, index: usize) -> Sequence {
        let sequence = self.running.remove(index);
        self.kv.release(sequence.own_blocks(), sequence.promised);
        self.free_slots.push(sequence.slot);
        sequence
    }

    /// Counts a sequence that ended. Each comes here once, when it leaves `waiting` or `running` for good.
    pub(super) fn count_finished(
        &mut self,
        request: &Request,
        recorder: &RequestRecorder,
        reason: FinishReason,
    ) -> RequestMetrics {
        let metrics = recorder.finish(self.now());
        let parent = self.parent_of(request.parent, metrics.num_generation_tokens);
        self.metrics.on_request_finished(&FinishedRequest {
            reason,
            // vLLM fills in what is left of the context before it counts.
            max_tokens: request
                .pooling
                .is_none()
                .then(|| request.params.max_tokens.unwrap_or(request.max_len - request.prompt.len())),
            parent,
            ..metrics.finished()
        });
        metrics
    }

    /// What to observe of the request whose sequence ended with this many tokens, if it was the request's last.
    fn parent_of(&mut self, parent: Option<u64>, generated: usize) -> Option<ParentRequest> {
        let Some(first) = parent else { return Some(ParentRequest { n: 1, max_generation_tokens: generated }) };
        let entry = self.parents.get_mut(&first)?;
        entry.left -= 1;
        entry.request.max_generation_tokens = entry.request.max_generation_tokens.max(generated);
        let (left, request) = (entry.left, entry.request);
        if left > 0 {
            return None;
        }
        self.parents.remove(&first);
        Some(request)
    }
}
