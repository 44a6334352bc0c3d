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

    /// Every token of prompt and output, in no order, each once, and how often it is in the output.
    pub(super) fn seen(&self) -> impl Iterator<Item = (u32, u32)> {
        self.in_output.iter().map(|(&token, &count)| (token, count))
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
        let mut all: Vec<_> = counts.seen().collect();
        all.sort_unstable();
        assert_eq!(all, [(5, 0), (7, 1), (9, 2)]);
        assert_eq!(counts.output(), [7, 9, 9]);
    }
}
