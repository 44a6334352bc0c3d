//! Does speculation pay? The rates that vLLM's users derive from its counters.

use super::snapshot::{Snapshot, Value};

/// The speculation counters of a snapshot, or of the time between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpeculationStats {
    /// Steps of a request with draft tokens.
    pub num_drafts: u64,
    /// Draft tokens scheduled.
    pub num_draft_tokens: u64,
    /// Draft tokens accepted.
    pub num_accepted_tokens: u64,
    /// Drafts whose token at this position was accepted.
    pub num_accepted_tokens_per_pos: Vec<u64>,
}

impl SpeculationStats {
    /// All that a snapshot has counted; none if speculation had never been configured.
    pub fn of(snapshot: &Snapshot) -> Option<Self> {
        let per_position = match &snapshot.get("vllm:spec_decode_num_accepted_tokens_per_pos")?.value {
            Value::Vector(values) => values.clone(),
            _ => return None,
        };
        Some(Self {
            num_drafts: snapshot.counter("vllm:spec_decode_num_drafts")?,
            num_draft_tokens: snapshot.counter("vllm:spec_decode_num_draft_tokens")?,
            num_accepted_tokens: snapshot.counter("vllm:spec_decode_num_accepted_tokens")?,
            num_accepted_tokens_per_pos: per_position,
        })
    }

    /// What was counted after `earlier`, a state of the same counters with no reset in between.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.num_accepted_tokens_per_pos.iter().chain(std::iter::repeat(&0));
        let per_position = self.num_accepted_tokens_per_pos.iter().zip(before);
        Self {
            num_drafts: self.num_drafts.saturating_sub(earlier.num_drafts),
            num_draft_tokens: self.num_draft_tokens.saturating_sub(earlier.num_draft_tokens),
            num_accepted_tokens: self.num_accepted_tokens.saturating_sub(earlier.num_accepted_tokens),
            num_accepted_tokens_per_pos: per_position.map(|(now, before)| now.saturating_sub(*before)).collect(),
        }
    }

    /// The part of the draft tokens that was accepted; 0 without any, as vLLM reports it.
    pub fn acceptance_rate(&self) -> f64 {
        ratio(self.num_accepted_tokens, self.num_draft_tokens)
    }

    /// Tokens a step with a draft yields on average, the bonus token among them; 1 without drafts, as vLLM reports it.
    pub fn mean_acceptance_length(&self) -> f64 {
        1.0 + ratio(self.num_accepted_tokens, self.num_drafts)
    }

    /// The part of the drafts that was accepted up to each position.
    pub fn per_position_acceptance_rate(&self) -> Vec<f64> {
        self.num_accepted_tokens_per_pos.iter().map(|&accepted| ratio(accepted, self.num_drafts)).collect()
    }
}

/// `part / whole`, or 0 of nothing.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;

    #[test]
    fn rates_of_a_snapshot_and_of_a_difference() {
        let mut registry = Registry::new("m", 128);
        assert_eq!(SpeculationStats::of(&registry.snapshot()), None);
        registry.configure_speculation(2);
        registry.on_draft(2, 2);
        let before = SpeculationStats::of(&registry.snapshot()).unwrap();
        assert_eq!((before.acceptance_rate(), before.mean_acceptance_length()), (1.0, 3.0));
        registry.configure_speculation(4);
        registry.on_draft(4, 1);
        registry.on_draft(4, 0);
        let after = SpeculationStats::of(&registry.snapshot()).unwrap();
        let between = after.since(&before);
        assert_eq!((between.acceptance_rate(), between.mean_acceptance_length()), (0.125, 1.5));
        assert_eq!(between.per_position_acceptance_rate(), [0.5, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn nothing_drafted_is_no_division() {
        let none = SpeculationStats { num_accepted_tokens_per_pos: vec![0], ..Default::default() };
        assert_eq!((none.acceptance_rate(), none.mean_acceptance_length()), (0.0, 1.0));
        assert_eq!(none.per_position_acceptance_rate(), [0.0]);
    }
}
