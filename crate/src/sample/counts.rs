//! Which tokens came before a row, for the penalties.

use std::collections::HashMap;

/// How often each token occurred before a row, kept up to date token by token.
#[derive(Clone, Debug, Default)]
pub struct TokenCounts {
    /// Occurrences in the output, of every token of prompt and output.
    in_output: HashMap<u32, u32>,
    output: Vec<u32>,
}

impl TokenCounts {
    /// Counts before the first output token of a request with this prompt.
    pub fn new(prompt: &[u32]) -> Self {
        Self { in_output: prompt.iter().map(|&token| (token, 0)).collect(), output: Vec::new() }
    }

    /// Adds an output token.
    pub fn push(&mut self, token: u32) {
        *self.in_output.entry(token).or_default() += 1;
        self.output.push(token);
    }

    /// The output tokens, oldest first.
    pub fn output(&self) -> &[u32] {
        &self.output
    }

    /// Whether the output ends with these tokens once a draft is added to it.
    pub(super) fn ends_with(&self, draft: &[u32], end: &[u32]) -> bool {
        let (before, of_draft) = end.split_at(end.len().saturating_sub(draft.len()));
        draft.ends_with(of_draft) && self.output.ends_with(before)
    }

    /// Every token of prompt, output and draft, in no order, each once, and how often it is in the output and the draft.
    pub(super) fn seen<'a>(&'a self, draft: &'a [u32]) -> impl Iterator<Item = (u32, u32)> + 'a {
        let drafted = |token: u32| draft.iter().filter(|drafted| **drafted == token).count() as u32;
        let known = self.in_output.iter().map(move |(&token, &count)| (token, count + drafted(token)));
        let new = draft.iter().enumerate();
        let new = new.filter(|(i, token)| !self.in_output.contains_key(token) && !draft[..*i].contains(token));
        known.chain(new.map(move |(_, &token)| (token, drafted(token))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_counts_output_apart_from_the_prompt() {
        let mut counts = TokenCounts::new(&[5, 5, 7]);
        counts.push(7);
        counts.push(9);
        counts.push(9);
        let seen = |draft: &[u32]| {
            let mut all: Vec<_> = counts.seen(draft).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(seen(&[]), [(5, 0), (7, 1), (9, 2)]);
        assert_eq!(seen(&[4, 9, 4, 5]), [(4, 2), (5, 1), (7, 1), (9, 3)]);
        assert_eq!(counts.output(), [7, 9, 9]);
        let ends = |draft: &[u32], end: &[u32]| counts.ends_with(draft, end);
        assert!(ends(&[], &[]) && ends(&[], &[9, 9]) && ends(&[3], &[9, 3]) && ends(&[1, 2, 3], &[2, 3]));
        assert!(!ends(&[], &[5, 7, 9, 9]) && !ends(&[3], &[9, 9]) && !ends(&[3], &[7, 3]));
    }
}
