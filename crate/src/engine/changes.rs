//! What a runner that draws does to logits, as its batch has it.

use crate::config::SamplingParams;
use crate::program::Change;
use crate::sample::{self, TokenCounts};

/// The changes of the row with this place among those with output; else as [`sample::changes`].
pub fn changes(
    output: u32,
    params: &SamplingParams,
    counts: &TokenCounts,
    draft: &[u32],
    eos: &[u32],
) -> impl Iterator<Item = Change> + use<> {
    sample::changes(params, counts, draft, eos).into_iter().map(move |change| {
        let sample::Change { token, bias, factor, less: [frequency, presence] } = change;
        Change { output, token, bias, factor, less: frequency + presence }
    })
}
