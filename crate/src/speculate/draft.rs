//! The draft that is scheduled: what the proposer offers, as vLLM treats it near the end of the context.

use super::Proposer;

/// Drafts of at most `k` tokens in contexts of at most `max_model_len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftWindow {
    /// Most draft tokens in a step.
    pub k: usize,
    /// Most tokens in a sequence.
    pub max_model_len: usize,
}

/// What vLLM drafts where it does not ask the proposer.
const PLACEHOLDER: u32 = 0;

impl DraftWindow {
    /// Puts into `out` (cleared first) the draft tokens for the next step of a sequence that holds `context_len` tokens, of which
    /// those of `tail` are sure to come but are not the proposer's yet.
    ///
    /// `longest` is the length of the longest sequence of the step before, that step's draft tokens among it and its
    /// samples not. Three rules of vLLM's, held to its recording with a small `max_model_len`:
    /// - Once `longest + k` exceeds `max_model_len`, its runner asks no proposer any more, for no sequence of the batch,
    ///   and hands on `k` tokens of id 0. They are scheduled and counted like any draft; verification rejects them
    ///   unless the model samples just that token.
    /// - The proposer offers no more than `max_model_len - context_len` tokens.
    /// - The scheduler keeps those that leave a place for the bonus token, so that the last steps before the end draft
    ///   at most 3, 2, 1 and 0.
    pub fn draft(
        &self,
        proposer: &impl Proposer,
        tail: &[u32],
        context_len: usize,
        longest: usize,
        out: &mut Vec<u32>,
    ) {
        let room = self.max_model_len.saturating_sub(context_len);
        if longest.saturating_add(self.k) > self.max_model_len {
            out.clear();
            out.resize(self.k.min(room), PLACEHOLDER);
        } else {
            proposer.propose_after(tail, self.k.min(room), out);
        }
        out.truncate(room.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sevens;

    impl Proposer for Sevens {
        fn extend(&mut self, _: &[u32]) {}

        fn propose_after(&self, _: &[u32], max_draft: usize, out: &mut Vec<u32>) {
            out.clear();
            out.resize(max_draft, 7);
        }
    }

    #[test]
    fn the_end_of_the_context_shortens_and_then_blanks_the_draft() {
        let window = DraftWindow { k: 5, max_model_len: 88 };
        for (context_len, longest, expected) in [
            (10, 9, vec![7; 5]),
            (82, 81, vec![7; 5]),
            (84, 83, vec![7; 3]),
            (82, 84, vec![0; 5]),
            (10, 84, vec![0; 5]),
            (86, 85, vec![0]),
            (87, 86, vec![]),
            (88, 87, vec![]),
            (100, usize::MAX, vec![]),
        ] {
            let mut out = vec![99];
            window.draft(&Sevens, &[], context_len, longest, &mut out);
            assert_eq!(out, expected, "context {context_len}, longest {longest}");
        }
    }
}
