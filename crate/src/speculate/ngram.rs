//! The n-gram proposer: what followed these last tokens the first time?

use super::Proposer;
use crate::{Error, ErrorCode, Result};
use std::collections::HashMap;

/// Guesses that a sequence goes on as it did after an earlier occurrence of its last n tokens.
///
/// vLLM's rules: the longest n from `max` down to `min` that occurs earlier wins; among its occurrences the earliest
/// wins; an occurrence may overlap the last n tokens but not be them; the draft is what follows it, as far as the
/// sequence reaches.
///
/// vLLM scans the whole context at each proposal. Here every n-gram (n up to `max`) is a node of a trie that is walked
/// from a sequence's newest token backwards, and a node remembers where its n-gram first ended. A token costs one walk
/// of at most `max` nodes, which finds the match on the way; a proposal only copies. The trie is lazy: an n-gram seen
/// once is a leaf, and grows deeper only when it is seen again, so that memory follows what repeats.
#[derive(Clone, Debug)]
pub struct NgramProposer {
    min: usize,
    max: usize,
    tokens: Vec<u32>,
    nodes: Vec<Node>,
    /// The node reached from a node by the token before its n-gram.
    children: HashMap<(u32, u32), u32>,
    /// The longest match of the current last tokens.
    best: Option<Match>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Index of the last token of the first occurrence.
    first_end: usize,
    /// Whether its n-gram has occurred once only, so that its child is not made yet.
    once: bool,
}

#[derive(Clone, Copy, Debug)]
struct Match {
    n: usize,
    end: usize,
}

const ROOT: u32 = 0;

impl NgramProposer {
    /// A proposer for n-grams of `min` to `max` tokens; both at least 1, `min` at most `max`.
    pub fn new(min: usize, max: usize) -> Result<Self> {
        if min == 0 || min > max {
            return Err(Error::new(
                ErrorCode::InvalidConfig,
                format!(
                    "prompt_lookup_min is {min} and prompt_lookup_max is {max}; both must be at least 1, and \
                     prompt_lookup_min at most prompt_lookup_max"
                ),
            ));
        }
        let root = Node { first_end: 0, once: false };
        Ok(Self { min, max, tokens: Vec::new(), nodes: vec![root], children: HashMap::new(), best: None })
    }

    /// Adds one token: finds the longest match of the new last tokens, and makes it known for later ones.
    fn push(&mut self, token: u32) {
        self.tokens.push(token);
        self.best = None;
        let end = self.tokens.len() - 1;
        let mut node = ROOT;
        for depth in 0..self.max.min(self.tokens.len()) {
            self.unfold(node, depth);
            let before = self.tokens[end - depth];
            let Some(&child) = self.children.get(&(node, before)) else {
                self.add_child(node, before, end);
                return;
            };
            self.best = Some(Match { n: depth + 1, end: self.nodes[child as usize].first_end });
            node = child;
        }
    }

    /// Gives a node of `depth` tokens that was seen once the child of that one occurrence, now that it is seen again.
    fn unfold(&mut self, node: u32, depth: usize) {
        let Node { first_end, once } = self.nodes[node as usize];
        if !once {
            return;
        }
        self.nodes[node as usize].once = false;
        if let Some(start) = first_end.checked_sub(depth) {
            self.add_child(node, self.tokens[start], first_end);
        }
    }

    /// The longest match of the last tokens, were `tail` to follow: [`push`](Self::push) without a trace. Places that reach
    /// into the tail are not among those looked at.
    fn find(&self, tail: &[u32]) -> Option<Match> {
        let mut best = None;
        let mut node = ROOT;
        let last = tail.iter().rev().chain(self.tokens.iter().rev());
        for (depth, &before) in last.take(self.max).enumerate() {
            let Node { first_end, once } = self.nodes[node as usize];
            if once {
                // It has no child yet: its one occurrence is looked at.
                let start = first_end.checked_sub(depth);
                if start.is_none_or(|start| self.tokens[start] != before) {
                    break;
                }
                best = Some(Match { n: depth + 1, end: first_end });
                continue;
            }
            let Some(&child) = self.children.get(&(node, before)) else { break };
            best = Some(Match { n: depth + 1, end: self.nodes[child as usize].first_end });
            node = child;
        }
        best
    }

    fn add_child(&mut self, node: u32, before: u32, first_end: usize) {
        self.children.insert((node, before), self.nodes.len() as u32);
        self.nodes.push(Node { first_end, once: true });
    }
}

impl Proposer for NgramProposer {
    fn extend(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.push(token);
        }
    }

    fn propose_after(&self, tail: &[u32], max_draft: usize, out: &mut Vec<u32>) {
        out.clear();
        let best = if tail.is_empty() { self.best } else { self.find(tail) };
        if let Some(Match { n, end }) = best
            && n >= self.min
        {
            let following = &self.tokens[end + 1..];
            out.extend_from_slice(&following[..max_draft.min(following.len())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rules by the letter: try every n and every place.
    fn scan(tokens: &[u32], min: usize, max: usize, max_draft: usize) -> Vec<u32> {
        for n in (min..=max.min(tokens.len())).rev() {
            let suffix = &tokens[tokens.len() - n..];
            if let Some(start) = tokens[..tokens.len() - 1].windows(n).position(|window| window == suffix) {
                return tokens[start + n..].iter().copied().take(max_draft).collect();
            }
        }
        Vec::new()
    }

    fn draft(proposer: &NgramProposer, max_draft: usize) -> Vec<u32> {
        let mut out = vec![99];
        proposer.propose(max_draft, &mut out);
        out
    }

    /// The same of a text that `tail` would follow: places that end in it are none.
    fn scan_after(tokens: &[u32], tail: &[u32], min: usize, max: usize, max_draft: usize) -> Vec<u32> {
        let whole = [tokens, tail].concat();
        for n in (min..=max.min(whole.len())).rev() {
            let suffix = &whole[whole.len() - n..];
            if let Some(start) = tokens.windows(n).position(|window| window == suffix) {
                return tokens[start + n..].iter().copied().take(max_draft).collect();
            }
        }
        Vec::new()
    }

    proptest! {
        #[test]
        fn what_would_follow_is_looked_up_too(
            alphabet in 1u32..5,
            raw in prop::collection::vec(any::<u32>(), 0..80),
            tail in prop::collection::vec(0u32..5, 1..6),
            min in 1usize..5,
            more in 0usize..8,
            max_draft in 0usize..7,
        ) {
            let mut proposer = NgramProposer::new(min, min + more).unwrap();
            let tokens: Vec<u32> = raw.iter().map(|token| token % alphabet).collect();
            proposer.extend(&tokens);
            let before = draft(&proposer, max_draft);
            let mut out = vec![99];
            proposer.propose_after(&tail, max_draft, &mut out);
            prop_assert_eq!(out, scan_after(&tokens, &tail, min, min + more, max_draft));
            prop_assert_eq!(draft(&proposer, max_draft), before);
        }

        #[test]
        fn agrees_with_the_scan_after_every_token(
            alphabet in 1u32..5,
            raw in prop::collection::vec(any::<u32>(), 0..80),
            min in 1usize..5,
            more in 0usize..8,
            max_draft in 0usize..7,
        ) {
            let mut proposer = NgramProposer::new(min, min + more).unwrap();
            let mut tokens = Vec::new();
            for token in raw.iter().map(|token| token % alphabet) {
                tokens.push(token);
                proposer.extend(&[token]);
                prop_assert_eq!(draft(&proposer, max_draft), scan(&tokens, min, min + more, max_draft));
            }
        }
    }

    #[test]
    fn the_earliest_of_several_places_wins() {
        let mut proposer = NgramProposer::new(1, 2).unwrap();
        proposer.extend(&[1, 2, 7, 1, 2, 8, 1, 2]);
        assert_eq!(draft(&proposer, 3), [7, 1, 2]);
    }

    #[test]
    fn a_place_may_overlap_the_last_tokens() {
        let mut proposer = NgramProposer::new(2, 3).unwrap();
        proposer.extend(&[5, 5, 5, 5]);
        assert_eq!(draft(&proposer, 4), [5]);
    }

    #[test]
    fn nothing_to_say_about_an_empty_or_new_context() {
        let mut proposer = NgramProposer::new(1, 3).unwrap();
        assert!(draft(&proposer, 3).is_empty());
        proposer.extend(&[1, 2, 3]);
        assert!(draft(&proposer, 3).is_empty());
    }

    #[test]
    fn text_that_does_not_repeat_costs_two_nodes_a_token_whatever_the_longest_n() {
        let mut proposer = NgramProposer::new(1, 1_000_000).unwrap();
        proposer.extend(&(0..10_000).collect::<Vec<_>>());
        assert!(proposer.nodes.len() <= 20_001);
    }

    #[test]
    fn bounds_are_checked() {
        for (min, max) in [(0, 0), (0, 3), (4, 3)] {
            assert_eq!(NgramProposer::new(min, max).unwrap_err().code, ErrorCode::InvalidConfig);
        }
    }
}
