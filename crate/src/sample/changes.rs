//! What bias, `min_tokens`, `bad_words` and penalties make of single tokens' logits, in vLLM's order: as a list, for whoever applies it,
//! this module or a device (shaders/adjust.wgsl).

use std::collections::BTreeMap;

use super::counts::TokenCounts;
use super::logits::{MASK, finite};
use crate::config::SamplingParams;

/// What becomes of one token's logit: `bias` is added; then a positive one is divided by `factor` and another multiplied with it; then
/// both of `less` are taken off. A `factor` of 0 masks it. A masked logit stays masked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The token.
    pub token: u32,
    /// Added first.
    pub bias: f32,
    /// The repetition penalty; 1 for none.
    pub factor: f32,
    /// The frequency penalty for all occurrences, and the presence penalty.
    pub less: [f32; 2],
}

impl Change {
    const fn none(token: u32) -> Self {
        Self { token, bias: 0.0, factor: 1.0, less: [0.0; 2] }
    }

    const fn mask(token: u32) -> Self {
        Self { factor: 0.0, ..Self::none(token) }
    }

    /// What becomes of a logit.
    pub(super) fn of(&self, logit: f32) -> f32 {
        let biased = finite(logit + self.bias);
        if logit <= MASK || biased <= MASK || self.factor == 0.0 {
            return MASK;
        }
        let divided = if biased > 0.0 { biased / self.factor } else { biased * self.factor };
        finite(divided - self.less[0] - self.less[1])
    }
}

/// Whether a request has any.
pub fn has_changes(params: &SamplingParams) -> bool {
    penalises(params)
        || !params.logit_bias.is_empty()
        || !params.bad_words_token_ids.is_empty()
        || params.min_tokens > 0
}

/// Whether any penalty is on.
fn penalises(params: &SamplingParams) -> bool {
    params.repetition_penalty != 1.0 || params.frequency_penalty != 0.0 || params.presence_penalty != 0.0
}

/// The changes of the row after the tokens that were counted and after these of a draft, each token once, in no order. `eos` are the
/// model's ends, which `min_tokens` holds back.
pub fn changes(params: &SamplingParams, counts: &TokenCounts, draft: &[u32], eos: &[u32]) -> Vec<Change> {
    let bias = |(&token, &bias): (&u32, &f32)| (token, Change { bias, ..Change::none(token) });
    let mut named: BTreeMap<u32, Change> = params.logit_bias.iter().map(bias).collect();
    let mut mask = |token: u32| named.insert(token, Change::mask(token));
    for word in &params.bad_words_token_ids {
        if let Some((&last, before)) = word.split_last()
            && counts.ends_with(draft, before)
        {
            mask(last);
        }
    }
    if counts.output().len() + draft.len() < params.min_tokens {
        eos.iter().chain(&params.stop_token_ids).for_each(|token| _ = mask(*token));
    }
    let mut changes = Vec::new();
    if penalises(params) {
        changes.extend(counts.seen(draft).map(|(token, in_output)| {
            let mut change = named.remove(&token).unwrap_or(Change::none(token));
            if in_output > 0 {
                change.less = [params.frequency_penalty * in_output as f32, params.presence_penalty];
            }
            change.factor *= params.repetition_penalty;
            change
        }));
    }
    changes.extend(named.into_values());
    changes
}
