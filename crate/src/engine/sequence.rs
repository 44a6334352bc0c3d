//! One sequence: its tokens, its blocks, its text, and when it ends.

use crate::Result;
use crate::config::SamplingParams;
use crate::metrics::{FinishReason, RequestMetrics, RequestRecorder};
use crate::sample::{TokenCounts, TokenLogprob, needs_logits};
use crate::speculate::{NgramProposer, Proposer};
use crate::text::{Detokenizer, StopStrings, Tokenizer};

/// What one step added to a sequence.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct SequenceOutput {
    /// The sequence's id, from `Engine::add`.
    pub id: u64,
    /// New text, whole characters only; text that may turn out to be a stop string is held back.
    pub text: String,
    /// New tokens, cut at the one that ended the sequence.
    pub token_ids: Vec<u32>,
    /// For each new token the sampled one and the most likely, when asked for.
    pub logprobs: Vec<Vec<TokenLogprob>>,
    /// Set with the last output.
    pub finish_reason: Option<FinishReason>,
    /// Set with the last output.
    pub metrics: Option<RequestMetrics>,
}

/// A sequence between its admission and its end.
pub struct Sequence {
    pub(super) id: u64,
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_len: usize,
    /// Positions whose keys and values are in the cache.
    pub(super) computed: usize,
    /// Prompt tokens that the prefix cache had.
    pub(super) cached: usize,
    pub(super) slot: usize,
    pub(super) blocks: Vec<u32>,
    /// Blocks promised to it at admission and not taken yet.
    pub(super) promised: usize,
    pub(super) params: SamplingParams,
    pub(super) seed: u64,
    pub(super) counts: Option<TokenCounts>,
    pub(super) proposer: Option<NgramProposer>,
    pub(super) draft: Vec<u32>,
    pub(super) recorder: RequestRecorder,
    detokenizer: Detokenizer,
    stops: StopStrings,
}

impl Sequence {
    pub(super) fn new(
        id: u64,
        prompt: Vec<u32>,
        params: SamplingParams,
        seed: u64,
        mut proposer: Option<NgramProposer>,
        recorder: RequestRecorder,
    ) -> Result<Self> {
        if let Some(proposer) = &mut proposer {
            proposer.extend(&prompt);
        }
        Ok(Self {
            id,
            prompt_len: prompt.len(),
            computed: 0,
            cached: 0,
            slot: 0,
            blocks: Vec::new(),
            promised: 0,
            counts: needs_logits(&params).then(|| TokenCounts::new(&prompt)),
            tokens: prompt,
            seed,
            proposer,
            draft: Vec::new(),
            recorder,
            detokenizer: Detokenizer::new(params.skip_special_tokens),
            stops: StopStrings::new(params.stop.clone(), params.include_stop_str_in_output)?,
            params,
        })
    }

    /// Positions the sequence holds at most.
    pub(super) fn max_len(&self, max_model_len: usize) -> usize {
        let wanted = self.params.max_tokens.unwrap_or(max_model_len);
        self.prompt_len.saturating_add(wanted).min(max_model_len)
    }

    /// Appends a sampled token; sets `output.finish_reason` when it is the last.
    pub(super) fn append(&mut self, token: u32, tokenizer: &Tokenizer, max_len: usize, output: &mut SequenceOutput) {
        self.tokens.push(token);
        if let Some(counts) = &mut self.counts {
            counts.push(token);
        }
        if let Some(proposer) = &mut self.proposer {
            proposer.extend(&[token]);
        }
        output.token_ids.push(token);
        let generated = self.tokens.len() - self.prompt_len;
        let may_stop = generated >= self.params.min_tokens;
        let is_eos = !self.params.ignore_eos && tokenizer.eos_ids().contains(&token);
        if may_stop && (is_eos || self.params.stop_token_ids.contains(&token)) {
            // The token that stops is among the ids and not in the text.
            output.finish_reason = Some(FinishReason::Stop);
        } else {
            let step = self.stops.push(&self.detokenizer.push(tokenizer, token));
            output.text.push_str(&step.text);
            if step.hit.is_some() {
                output.finish_reason = Some(FinishReason::Stop);
                return;
            }
            if self.tokens.len() >= max_len {
                output.finish_reason = Some(FinishReason::Length);
            }
        }
        if output.finish_reason.is_some() {
            let step = self.stops.push(&self.detokenizer.finish());
            output.text.push_str(&step.text);
            if step.hit.is_none() {
                output.text.push_str(&self.stops.finish());
            }
        }
    }
}
