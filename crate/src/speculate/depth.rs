//! How deep to draft (`num_speculative_tokens: "auto"`): as deep as it pays, down to nothing.
//!
//! A draft token is a row more, which costs c(R + 1) - c(R), and brings a token if it and those before it hold. How
//! likely that is, each sequence learns from its own past: guesses are compared with the tokens that came whether they
//! were scheduled or not, so a sequence that has stopped drafting sees at once when drafting would pay again.

use super::StepCosts;

/// Guess after guess that held: from here on they count alike.
const LONGEST_RUN: usize = 6;
/// What an observation's weight is multiplied by at each later one of its kind.
const FADE: f64 = 0.98;
/// The share of guesses that hold before anything is known, by the guesses before that held.
const PRIOR: [f64; LONGEST_RUN + 1] = [0.4, 0.6, 0.7, 0.75, 0.8, 0.8, 0.8];
/// What is taken off that share where a row costs as much as a token.
const DOUBT: f64 = 0.3;
/// How many observations what was known before is worth.
const PRIOR_WEIGHT: f64 = 8.0;

/// The share of guesses that held, for each number of guesses in a row that held before. Text that is being copied holds
/// for long, and a chance hit ends soon; the run so far tells the two apart.
#[derive(Clone, Debug, Default)]
pub struct HoldRates {
    held: [f64; LONGEST_RUN + 1],
    seen: [f64; LONGEST_RUN + 1],
}

impl HoldRates {
    fn observe(&mut self, kind: usize, holds: bool) {
        self.held[kind] = self.held[kind] * FADE + f64::from(u8::from(holds));
        self.seen[kind] = self.seen[kind] * FADE + 1.0;
    }

    fn rate(&self, kind: usize, prior: f64) -> f64 {
        (self.held[kind] + prior * PRIOR_WEIGHT) / (self.seen[kind] + PRIOR_WEIGHT)
    }
}

/// How likely the guesses for one sequence are to hold: what it has seen itself, on top of what all have seen.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    /// Guesses in a row that held up to now.
    run: usize,
    own: HoldRates,
}

impl Acceptance {
    /// `guess` was offered for what came next, and `tokens` came. `all` learns from it too.
    pub fn observe(&mut self, guess: &[u32], tokens: &[u32], all: &mut HoldRates) {
        if guess.is_empty() {
            self.run = 0;
        }
        for (guess, token) in guess.iter().zip(tokens) {
            let kind = self.run.min(LONGEST_RUN);
            let holds = guess == token;
            self.own.observe(kind, holds);
            all.observe(kind, holds);
            self.run = if holds { self.run + 1 } else { 0 };
        }
    }

    /// The tokens that each further token of a guess is expected to bring: the chance that all up to it hold. Falls. The higher a
    /// row's [price](StepCosts::price), the less is believed before it is seen: what was not drafted is learnt from all the same.
    pub fn gains<'a>(&'a self, all: &'a HoldRates, price: f64) -> impl Iterator<Item = f64> + 'a {
        (self.run..).scan(1.0, move |gain, run| {
            let kind = run.min(LONGEST_RUN);
            *gain *= self.own.rate(kind, all.rate(kind, PRIOR[kind] * (1.0 - DOUBT * price)));
            Some(*gain)
        })
    }
}

/// A draft token that could be a row of the next step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bid {
    /// Whose it is.
    pub sequence: usize,
    /// Tokens it is expected to bring; a sequence's bids fall.
    pub gain: f64,
}

/// Leaves those bids that make a step of `base` rows, which bring a token each, yield the most tokens by cost. Without any bid it costs
/// `ahead`, if that is known: such a step need not wait for the one before it.
///
/// The best bids for any number of rows are the largest, so each number of rows is tried with them. A number of rows
/// that no step has had yet costs at least what fewer rows cost: it is tried if all bids at that cost would pay, and nothing beyond
/// it, so that costs become known from few rows to many and only as far as they could pay.
pub fn choose_bids(costs: &StepCosts, base: usize, ahead: Option<f64>, bids: &mut Vec<Bid>) {
    let Some(mut cost) = costs.known(base) else {
        bids.clear();
        return;
    };
    bids.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    let mut tokens = base as f64;
    let mut best = tokens / ahead.map_or(cost, |ahead| ahead.min(cost));
    let mut chosen = 0;
    for (i, bid) in bids.iter().enumerate() {
        let known = costs.known(base + i + 1);
        cost = known.unwrap_or(cost);
        tokens += bid.gain;
        let hoped = if known.is_none() { bids[i + 1..].iter().map(|bid| bid.gain).sum() } else { 0.0 };
        if (tokens + hoped) / cost > best {
            best = tokens / cost;
            chosen = i + 1;
        }
        if known.is_none() {
            break;
        }
    }
    bids.truncate(chosen);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(table: &[(usize, f64)]) -> StepCosts {
        let mut costs = StepCosts::new(0);
        costs.fix(table);
        costs
    }

    fn bids(gains: &[f64]) -> Vec<Bid> {
        gains.iter().map(|&gain| Bid { sequence: 0, gain }).collect()
    }

    #[test]
    fn rows_are_added_while_they_pay() {
        let table = costs(&[(1, 1.0), (2, 1.45), (4, 2.36), (6, 3.28), (8, 4.21), (16, 8.42)]);
        for (gains, chosen) in [
            (&[0.4, 0.2][..], 0),
            (&[0.5, 0.1], 1),
            // The third row of a tile of four is free.
            (&[0.95, 0.9, 0.85], 3),
            (&[0.95; 9], 7),
            (&[], 0),
        ] {
            let mut bids = bids(gains);
            choose_bids(&table, 1, None, &mut bids);
            assert_eq!(bids.len(), chosen, "{gains:?}");
        }
    }

    #[test]
    fn drafts_must_pay_for_the_pause_that_they_make() {
        let table = costs(&[(1, 3.0), (2, 3.1), (4, 3.2)]);
        for (ahead, chosen) in [(None, 3), (Some(3.5), 3), (Some(2.0), 3), (Some(0.8), 0)] {
            let mut bids = bids(&[0.9, 0.8, 0.7]);
            choose_bids(&table, 1, ahead, &mut bids);
            assert_eq!(bids.len(), chosen, "{ahead:?}");
        }
    }

    #[test]
    fn an_unknown_cost_is_tried_for_the_sake_of_what_may_come_after_it() {
        let mut costs = StepCosts::new(8);
        (0..3).for_each(|_| _ = costs.record(1, 3.0));
        for (gains, chosen) in [(&[0.9; 7][..], 1), (&[0.9; 1], 0)] {
            let mut bids = bids(gains);
            choose_bids(&costs, 1, Some(1.2), &mut bids);
            assert_eq!(bids.len(), chosen, "{gains:?}");
        }
    }

    #[test]
    fn the_likelier_tokens_of_a_batch_go_first() {
        let mut bids = vec![
            Bid { sequence: 0, gain: 0.2 },
            Bid { sequence: 0, gain: 0.1 },
            Bid { sequence: 1, gain: 0.9 },
            Bid { sequence: 1, gain: 0.8 },
        ];
        choose_bids(&costs(&[(2, 2.0), (3, 2.2), (4, 2.4), (5, 4.0)]), 2, None, &mut bids);
        assert_eq!(bids, [Bid { sequence: 1, gain: 0.9 }, Bid { sequence: 1, gain: 0.8 }]);
    }

    #[test]
    fn unknown_costs_are_tried_from_few_rows_to_many() {
        let mut costs = StepCosts::new(8);
        let chosen = |costs: &StepCosts| {
            let mut bids = bids(&[0.9; 7]);
            choose_bids(costs, 1, None, &mut bids);
            bids.len()
        };
        assert_eq!(chosen(&costs), 0, "first what a step costs without drafts");
        for (rows, cost, next) in [(1, 1.0, 1), (2, 1.1, 2), (3, 1.2, 3), (4, 4.0, 2)] {
            (0..3).for_each(|_| _ = costs.record(rows, cost));
            assert_eq!(chosen(&costs), next, "after {rows} rows");
        }
    }

    #[test]
    fn a_guess_that_was_not_scheduled_is_learnt_from() {
        let (mut acceptance, mut all) = (Acceptance::default(), HoldRates::default());
        for _ in 0..200 {
            acceptance.observe(&[1, 2], &[9], &mut all);
        }
        assert!(acceptance.gains(&all, 0.0).next().unwrap() < 0.1);
        for _ in 0..60 {
            acceptance.observe(&[1, 2], &[1], &mut all);
        }
        assert!(acceptance.gains(&all, 0.0).next().unwrap() > 0.9);
        let other = Acceptance::default();
        assert!(other.gains(&all, 0.0).next().unwrap() < 0.2, "a new sequence begins with what others saw");
        acceptance.observe(&[], &[1], &mut all);
        assert!(acceptance.gains(&all, 0.0).next().unwrap() < 0.2, "a run ends where there is no guess");
    }

    #[test]
    fn gains_fall() {
        let (mut acceptance, mut all) = (Acceptance::default(), HoldRates::default());
        acceptance.observe(&[1, 2, 3], &[1, 2, 7], &mut all);
        let gains: Vec<f64> = acceptance.gains(&all, 0.0).take(20).collect();
        assert!(gains.windows(2).all(|pair| pair[0] >= pair[1]), "{gains:?}");
    }
}
