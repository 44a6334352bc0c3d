//! Histograms with the bucket bounds that vLLM gives them.

/// Time to the first token, seconds.
pub(super) const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];

/// Time between or per output tokens, seconds.
pub(super) const PER_TOKEN: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];

/// Phases of a request, seconds.
pub(super) const REQUEST: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];

/// Tokens of an engine step.
pub(super) const ITERATION_TOKENS: &[f64] =
    &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// The parameter `n`.
pub(super) const PARAM_N: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];

/// Preemptions of a request.
pub(super) const PREEMPTIONS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0];

/// One step on the GPU, seconds.
pub(super) const STEP_TIME: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// One proposal, seconds.
pub(super) const DRAFT_TIME: &[f64] = &[1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 0.001, 0.01];

/// Draft tokens of a request's step.
pub(super) const DEPTH: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 16.0, 32.0, 64.0];

/// Dispatches of a step.
pub(super) const DISPATCHES: &[f64] = &[25.0, 50.0, 100.0, 150.0, 200.0, 300.0, 400.0, 600.0, 800.0, 1200.0, 2400.0];

/// Rows of a step.
pub(super) const ROWS: &[f64] = &[1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Token counts up to `max_model_len`: 1, 2, 5, 10, 20, 50 and so on, as long as they do not exceed it.
pub(super) fn one_two_five(max_model_len: usize) -> Vec<f64> {
    (0..)
        .map(|i| [1.0, 2.0, 5.0][i % 3] * 10f64.powi((i / 3) as i32))
        .take_while(|&b| b <= max_model_len as f64)
        .collect()
}

/// Observations counted by bucket. Recording allocates nothing.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    bounds: Vec<f64>,
    /// How many fell into each bucket and no lower one; the last has no bound.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    pub fn new(bounds: Vec<f64>) -> Self {
        let counts = vec![0; bounds.len() + 1];
        Self { bounds, counts, sum: 0.0 }
    }

    /// Counts a value. One that is not finite (a clock gone wrong) is left out, since it would spoil the sum for good.
    pub fn observe(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let bucket = self.bounds.iter().position(|&bound| value <= bound).unwrap_or(self.bounds.len());
        self.counts[bucket] += 1;
        self.sum += value;
    }

    pub fn reset(&mut self) {
        self.counts.fill(0);
        self.sum = 0.0;
    }

    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Upper bounds and how many observations did not exceed them; the last bound is infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_bounds_stop_at_max_model_len() {
        assert_eq!(one_two_five(88), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(one_two_five(2000).last(), Some(&2000.0));
        assert_eq!(one_two_five(1999).last(), Some(&1000.0));
        assert!(one_two_five(0).is_empty());
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::new(vec![1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 3.0, f64::NAN] {
            histogram.observe(value);
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(1.0, 2), (2.0, 3), (f64::INFINITY, 4)]);
        assert_eq!(histogram.sum(), 6.0);
    }
}
