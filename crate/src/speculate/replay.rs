//! What a known text would have cost at another depth. Drafts never change a token, so a text that was generated once can
//! be replayed under any setting without its model.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Acceptance, Bid, HoldRates, NgramProposer, Proposer, SpeculativeConfig, StepCosts, choose_bids, verify};
use crate::Result;

/// The steps that generate a text behind its prefill, as one sequence that has the engine for itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replay {
    /// Steps by rows.
    pub steps_by_rows: BTreeMap<usize, u64>,
    /// Draft tokens scheduled.
    pub num_draft_tokens: u64,
    /// Draft tokens accepted, counted before the output is cut, as the engine does.
    pub num_accepted_tokens: u64,
}

impl Replay {
    /// Goes through `max_tokens` tokens of `output` behind `prompt`. What `output` has beyond them is what would have come:
    /// without it the last draft counts as rejected where it goes on. `costs` and `all` are what `"auto"` decides by, and
    /// `all` learns, as from sequence to sequence in an engine. The context never ends here.
    ///
    /// # Errors
    /// `config` has impossible bounds of n-grams.
    pub fn run(
        prompt: &[u32],
        output: &[u32],
        max_tokens: usize,
        config: Option<&SpeculativeConfig>,
        costs: &StepCosts,
        all: &mut HoldRates,
    ) -> Result<Self> {
        let mut replay = Self::default();
        let mut proposer = match config {
            Some(config) => Some(NgramProposer::new(config.prompt_lookup_min, config.prompt_lookup_max)?),
            None => None,
        };
        let mut acceptance = Acceptance::default();
        let (mut guess, mut tokens, mut bids) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = |tokens: &[u32], guess: &mut Vec<u32>| {
            if let (Some(proposer), Some(config)) = (&mut proposer, config) {
                proposer.extend(tokens);
                proposer.propose(config.num_speculative_tokens, guess);
            }
        };
        // The first token comes with the prefill.
        let mut done = 1;
        known(prompt, &mut guess);
        known(&output[..done], &mut guess);
        while done < max_tokens.min(output.len()) {
            let mut depth = guess.len();
            if config.is_some_and(|config| config.adaptive) {
                bids.clear();
                bids.extend(acceptance.gains(all).take(depth).map(|gain| Bid { sequence: 0, gain }));
                choose_bids(costs, 1, &mut bids);
                depth = bids.len();
            }
            let token = |row: usize| Some(output.get(done + row).copied().unwrap_or(u32::MAX));
            replay.num_accepted_tokens += verify(&guess[..depth], &mut tokens, token) as u64;
            replay.num_draft_tokens += depth as u64;
            *replay.steps_by_rows.entry(1 + depth).or_insert(0) += 1;
            acceptance.observe(&guess, &tokens, all);
            tokens.truncate(output.len() - done);
            done += tokens.len();
            known(&tokens, &mut guess);
        }
        Ok(replay)
    }

    /// Adds the steps of another text.
    pub fn add(&mut self, other: &Self) {
        for (rows, steps) in &other.steps_by_rows {
            *self.steps_by_rows.entry(*rows).or_insert(0) += steps;
        }
        self.num_draft_tokens += other.num_draft_tokens;
        self.num_accepted_tokens += other.num_accepted_tokens;
    }

    /// Steps, whatever their rows.
    pub fn steps(&self) -> u64 {
        self.steps_by_rows.values().sum()
    }

    /// What the steps cost, in the unit of `costs`; none if one has a number of rows whose cost is not known.
    pub fn cost(&self, costs: &StepCosts) -> Option<f64> {
        self.steps_by_rows.iter().map(|(rows, steps)| Some(costs.known(*rows)? * *steps as f64)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: [u32; 6] = [1, 2, 3, 4, 5, 6];

    fn fixed(k: usize) -> SpeculativeConfig {
        SpeculativeConfig { num_speculative_tokens: k, adaptive: false, prompt_lookup_min: 2, prompt_lookup_max: 3 }
    }

    fn run(output: &[u32], max_tokens: usize, config: Option<&SpeculativeConfig>) -> Replay {
        Replay::run(&PROMPT, output, max_tokens, config, &StepCosts::new(0), &mut HoldRates::default()).unwrap()
    }

    #[test]
    fn without_speculation_a_token_is_a_step_of_one_row() {
        assert_eq!(run(&[9, 8, 7, 6], 4, None).steps_by_rows, BTreeMap::from([(1, 3)]));
    }

    #[test]
    fn a_copy_takes_fewer_steps_of_more_rows() {
        // Behind 1, 2 came 3, 4, 5, which holds; behind 4, 5, 6 came 1, 2, 3, which does not.
        let replay = run(&[1, 2, 3, 4, 5, 6, 9, 9], 8, Some(&fixed(3)));
        assert_eq!(replay.steps_by_rows, BTreeMap::from([(1, 2), (4, 2)]));
        assert_eq!((replay.num_draft_tokens, replay.num_accepted_tokens), (6, 3));
    }

    #[test]
    fn what_would_have_come_behind_the_end_counts_as_accepted() {
        let output = [1, 2, 3, 4, 5, 6];
        assert_eq!(run(&output, 3, Some(&fixed(3))).num_accepted_tokens, 3);
        assert_eq!(run(&output[..3], 3, Some(&fixed(3))).num_accepted_tokens, 1);
    }

    #[test]
    fn costs_are_those_of_the_rows() {
        let mut costs = StepCosts::new(0);
        let replay = run(&[1, 2, 3, 4, 5, 6], 6, Some(&fixed(3)));
        assert_eq!(replay.cost(&costs), None);
        costs.fix(&[(1, 1.0), (4, 2.5)]);
        assert_eq!(replay.cost(&costs), Some(3.5));
        let mut twice = replay.clone();
        twice.add(&replay);
        assert_eq!((twice.steps(), twice.cost(&costs)), (4, Some(7.0)));
    }
}
