//! c(R): what a step costs by its rows, measured as the engine runs.

use serde::Serialize;

/// Steps after which the cost of a number of rows counts as known: the first may pay for a pipeline's compilation.
const TRUSTED: usize = 3;
/// Steps whose median is the cost, the latest.
const KEPT: usize = 9;

/// The costs of steps in which every row is sampled, by rows.
#[derive(Clone, Debug)]
pub struct StepCosts {
    /// Of each number of rows, from 0.
    by_rows: Vec<Samples>,
    /// Costs that are given and not measured, `(rows, cost)`, ascending.
    fixed: Option<Vec<(usize, f64)>>,
}

#[derive(Clone, Debug, Default)]
struct Samples {
    /// Steps so far.
    steps: u64,
    seconds: [f64; KEPT],
    median: f64,
}

/// What is known of steps of so many rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepCost {
    /// Rows a step, all of them sampled.
    pub rows: usize,
    /// Steps so far.
    pub steps: u64,
    /// Median time of the latest of them.
    pub seconds: f64,
}

impl StepCosts {
    /// Nothing is known yet of steps of up to `rows` rows.
    pub fn new(rows: usize) -> Self {
        Self { by_rows: vec![Samples::default(); rows + 1], fixed: None }
    }

    /// Takes costs, in any unit, as given from now on: `(rows, cost)`, ascending, each for the rows down to the entry
    /// before, and the last also for more. Empty: back to what is measured.
    pub fn fix(&mut self, table: &[(usize, f64)]) {
        self.fixed = (!table.is_empty()).then(|| table.to_vec());
    }

    /// A step of `rows` rows, all of them sampled, took so long. Gives how many there were so far.
    pub fn record(&mut self, rows: usize, seconds: f64) -> u64 {
        let Some(samples) = self.by_rows.get_mut(rows) else { return 0 };
        samples.seconds[(samples.steps % KEPT as u64) as usize] = seconds;
        samples.steps += 1;
        let kept = (samples.steps as usize).min(KEPT);
        let mut sorted = samples.seconds;
        sorted[..kept].sort_unstable_by(f64::total_cmp);
        samples.median = sorted[kept / 2];
        samples.steps
    }

    /// Nothing is known any more of steps of so many rows.
    pub fn forget(&mut self, rows: usize) {
        if let Some(samples) = self.by_rows.get_mut(rows) {
            *samples = Samples::default();
        }
    }

    /// The cost of a step of `rows` rows; none until it is known.
    pub fn known(&self, rows: usize) -> Option<f64> {
        match &self.fixed {
            Some(table) => table.iter().find(|(most, _)| rows <= *most).or(table.last()).map(|(_, cost)| *cost),
            None => self.by_rows.get(rows).filter(|s| s.steps >= TRUSTED as u64).map(|s| s.median),
        }
    }

    /// The same, but that costs which are given are no measurements.
    pub fn measured_of(&self, rows: usize) -> Option<f64> {
        if self.fixed.is_some() { None } else { self.known(rows) }
    }

    /// What one row more costs than a step of `rows` rows, in tokens that such a step brings: at most 1; 0 where it is not known.
    pub fn price(&self, rows: usize) -> f64 {
        let (Some(cost), Some(more)) = (self.known(rows), self.known(rows + 1)) else { return 0.0 };
        ((more / cost - 1.0) * rows as f64).clamp(0.0, 1.0)
    }

    /// What was measured, by rows, ascending.
    pub fn measured(&self) -> impl Iterator<Item = StepCost> {
        let seen = self.by_rows.iter().enumerate().filter(|(_, s)| s.steps > 0);
        seen.map(|(rows, s)| StepCost { rows, steps: s.steps, seconds: s.median })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_the_median_of_the_latest_and_known_after_three() {
        let mut costs = StepCosts::new(4);
        costs.record(2, 100.0);
        costs.record(2, 1.0);
        assert_eq!(costs.known(2), None);
        costs.record(2, 2.0);
        assert_eq!(costs.known(2), Some(2.0));
        for _ in 0..KEPT {
            costs.record(2, 5.0);
        }
        assert_eq!((costs.known(2), costs.known(1)), (Some(5.0), None));
        costs.record(9, 1.0);
        assert_eq!(costs.known(9), None, "more rows than a step can have");
        assert_eq!(costs.measured().collect::<Vec<_>>(), [StepCost { rows: 2, steps: 12, seconds: 5.0 }]);
    }

    #[test]
    fn given_costs_hold_for_the_rows_of_their_tile() {
        let mut costs = StepCosts::new(4);
        costs.fix(&[(1, 1.0), (4, 2.0)]);
        assert_eq!([1, 2, 4, 9].map(|rows| costs.known(rows)), [1.0, 2.0, 2.0, 2.0].map(Some));
        assert_eq!([1, 2].map(|rows| costs.price(rows)), [1.0, 0.0]);
        costs.fix(&[(2, 2.0), (4, 2.5)]);
        assert_eq!(costs.price(2), 0.5);
        costs.fix(&[]);
        assert_eq!((costs.known(1), costs.price(1)), (None, 0.0));
    }
}
