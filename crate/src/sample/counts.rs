//! Which tokens came before a row, for the penalties.

use std::collections::HashMap;

/// How often each token occurred before a row, kept up to date token by token. [`push`](Self::push) drafted tokens to
/// score the rows of a speculation one after the other, and [`pop`](Self::pop) those that were rejected.
#[derive(Clone, Debug, Default)]
pub struct TokenCounts {
    tokens: HashMap<u32, Count>,
    output: Vec<u32>,
}

/// A token's occurrences. An entry that fell back to nothing stays, so that the next push of it allocates nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) in_prompt: bool,
    pub(super) in_output: u32,
}

impl TokenCounts {
    /// Counts before the first output token of a request with this prompt.
    pub fn new(prompt: &[u32]) -> Self {
        let tokens = prompt.iter().map(|&token| (token, Count { in_prompt: true, in_output: 0 })).collect();
        Self { tokens, output: Vec::new() }
    }

    /// Adds an output token.
    pub fn push(&mut self, token: u32) {
        self.tokens.entry(token).or_default().in_output += 1;
        self.output.push(token);
    }

    /// Takes the last output token back; `None` when there is none.
    pub fn pop(&mut self) -> Option<u32> {
        let token = self.output.pop()?;
        if let Some(count) = self.tokens.get_mut(&token) {
            count.in_output -= 1;
        }
        Some(token)
    }

    /// The output tokens, oldest first.
    pub fn output(&self) -> &[u32] {
        &self.output
    }

    /// Every token seen, in no order, each once.
    pub(super) fn seen(&self) -> impl Iterator<Item = (u32, Count)> {
        self.tokens.iter().map(|(&token, &count)| (token, count)).filter(|(_, c)| c.in_prompt || c.in_output > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(counts: &TokenCounts) -> Vec<(u32, bool, u32)> {
        let mut all: Vec<_> = counts.seen().map(|(t, c)| (t, c.in_prompt, c.in_output)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn push_counts_output_apart_from_the_prompt() {
        let mut counts = TokenCounts::new(&[5, 5, 7]);
        counts.push(7);
        counts.push(9);
        counts.push(9);
        assert_eq!(snapshot(&counts), [(5, true, 0), (7, true, 1), (9, false, 2)]);
        assert_eq!(counts.output(), [7, 9, 9]);
    }

    #[test]
    fn pop_undoes_push() {
        let mut counts = TokenCounts::new(&[1]);
        counts.push(2);
        let before = snapshot(&counts);
        counts.push(1);
        counts.push(3);
        assert_eq!((counts.pop(), counts.pop()), (Some(3), Some(1)));
        assert_eq!(snapshot(&counts), before);
        assert_eq!((counts.pop(), counts.pop()), (Some(2), None));
        assert_eq!(snapshot(&counts), [(1, true, 0)]);
    }
}
