//! What a runner that draws does to logits, as its batch has it.

use crate::config::SamplingParams;
use crate::program::Change;
use crate::sample::{self, TokenCounts};

/// The changes of the row with this place among those with output, which has `vocab` logits: a tokenizer may know ends that the model
/// cannot say. Else as [`sample::changes`].
pub fn changes(
    (output, vocab): (u32, usize),
    params: &SamplingParams,
    counts: &TokenCounts,
    draft: &[u32],
    eos: &[u32],
) -> impl Iterator<Item = Change> + use<> {
    let changes = sample::changes(params, counts, draft, eos).into_iter();
    changes.filter(move |change| (change.token as usize) < vocab).map(move |change| {
        let sample::Change { token, bias, factor, less: [frequency, presence] } = change;
        Change { output, token, bias, factor, less: frequency + presence }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_outside_the_vocabulary_changes_no_other_row() {
        let params =
            SamplingParams { min_tokens: 9, frequency_penalty: 0.5, presence_penalty: 0.25, ..Default::default() };
        let mut counts = TokenCounts::new(&[]);
        [3, 3].iter().for_each(|token| counts.push(*token));
        let mut all: Vec<Change> = changes((2, 10), &params, &counts, &[4], &[9, 10, 11]).collect();
        all.sort_by_key(|change| change.token);
        let change = |token, factor, less| Change { output: 2, token, bias: 0.0, factor, less };
        assert_eq!(all, [change(3, 1.0, 1.25), change(4, 1.0, 0.75), change(9, 0.0, 0.0)]);
    }
}
