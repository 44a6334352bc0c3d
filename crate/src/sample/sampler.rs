//! Chooses a row's token and reports its log probabilities.

use serde::Serialize;

use super::changes::has_changes;
use super::constraint::Mask;
use super::counts::TokenCounts;
use super::logits::{MASK, adjust, descending, keep, narrow, sanitize};
use super::rng::{Noise, gumbel_bound, to_gumbel};
use crate::config::SamplingParams;

/// A row's outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The chosen token.
    pub token: u32,
    /// With `logprobs: N`, the chosen token first, then the N most likely others in order; the chosen one is not
    /// repeated if it is among the N.
    pub logprobs: Option<Vec<TokenLogprob>>,
}

/// How likely a token was by the raw logits: before bias, penalties and temperature, as in vLLM.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token.
    pub token_id: u32,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// Its place among all tokens, 1 for the most likely; equally likely tokens are ranked by id.
    pub rank: u32,
}

/// Samples rows, one after the other. It holds the model's end-of-sequence tokens and scratch memory, and nothing of
/// the rows before.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    eos_token_ids: Vec<u32>,
    raw: Vec<f32>,
    ids: Vec<u32>,
}

/// Whether a request's rows must come to this sampler. False where the first largest raw logit is the answer; on a device that
/// `draws` ([`Runner::draws`](crate::program::Runner::draws)) only what looks at all logits needs them here: `logprobs`,
/// `allowed_token_ids`, `structured_outputs`. It depends on nothing else, so that drafts change no token.
pub fn needs_logits(params: &SamplingParams, draws: bool) -> bool {
    !draws && (!params.is_greedy() || has_changes(params))
        || params.logprobs.is_some()
        || params.allowed_token_ids.is_some()
        || params.structured_outputs.is_some()
}

impl Sampler {
    /// A sampler for a model with these end-of-sequence tokens, which `min_tokens` holds back.
    pub fn new(eos_token_ids: impl Into<Vec<u32>>) -> Self {
        Self { eos_token_ids: eos_token_ids.into(), ..Self::default() }
    }

    /// Chooses the token at `position` from its row of logits, which is overwritten. `counts` holds the tokens before
    /// it. What a [`LogitsProcessor`](super::LogitsProcessor) made of the row is `processed`. A `mask` leaves other tokens out before all else, and what leaves out all of its tokens, such as `min_tokens` where
    /// an output is complete, leaves its first. If everything is masked without one, or the row is empty, the token is 0.
    pub fn sample(
        &mut self,
        logits: &mut [f32],
        params: &SamplingParams,
        counts: &TokenCounts,
        seed: u64,
        position: u32,
        processed: Option<&[f32]>,
        mask: Option<&Mask>,
    ) -> Sampled {
        sanitize(logits);
        if params.logprobs.is_some() {
            self.raw.clear();
            self.raw.extend_from_slice(logits);
        }
        if let Some(processed) = processed {
            logits.copy_from_slice(processed);
            sanitize(logits);
        }
        if let Some(mask) = mask {
            keep(logits, mask);
        }
        adjust(logits, params, counts, &self.eos_token_ids);
        let token = if params.is_greedy() {
            argmax(logits)
        } else {
            narrow(logits, params, &mut self.ids);
            gumbel_argmax(logits, seed, position)
        };
        let token = match mask {
            Some(mask) if !mask.allows(token) => mask.first(logits.len()).unwrap_or(token),
            _ => token,
        };
        let logprobs = params.logprobs.map(|n| self.logprobs(token, n as usize));
        Sampled { token, logprobs }
    }

    /// How likely a token of the prompt was by its row of logits, and the `n` most likely ones, as with
    /// [`Sampled::logprobs`].
    pub fn score(&mut self, logits: &[f32], token: u32, n: usize) -> Vec<TokenLogprob> {
        self.raw.clear();
        self.raw.extend_from_slice(logits);
        sanitize(&mut self.raw);
        self.logprobs(token, n)
    }

    fn logprobs(&mut self, token: u32, n: usize) -> Vec<TokenLogprob> {
        let (raw, ids) = (&self.raw, &mut self.ids);
        let max = raw.iter().copied().fold(MASK, f32::max);
        let sum: f64 = raw.iter().map(|&logit| (f64::from(logit) - f64::from(max)).exp()).sum();
        let entry = |id: u32, rank: usize| {
            let logprob = (f64::from(raw[id as usize]) - f64::from(max) - sum.ln()) as f32;
            TokenLogprob { token_id: id, logprob: logprob.max(MASK), rank: rank as u32 }
        };

        ids.clear();
        ids.extend(0..raw.len() as u32);
        if n < ids.len() {
            ids.select_nth_unstable_by(n, |&a, &b| descending(raw, a, b));
            ids.truncate(n);
        }
        ids.sort_unstable_by(|&a, &b| descending(raw, a, b));

        let mut all = Vec::with_capacity(n + 1);
        if (token as usize) < raw.len() {
            let better = (0..raw.len() as u32).filter(|&id| descending(raw, id, token).is_lt()).count();
            all.push(entry(token, better + 1));
        }
        all.extend(ids.iter().enumerate().filter(|(_, id)| **id != token).map(|(i, &id)| entry(id, i + 1)));
        all
    }
}

/// The first largest.
fn argmax(logits: &[f32]) -> u32 {
    let (mut token, mut best) = (0, MASK);
    for (id, &logit) in (0..).zip(logits) {
        if logit > best {
            (token, best) = (id, logit);
        }
    }
    token
}

/// The unmasked token with the largest `logit + gumbel`; the most likely one, tried first, wins a tie, then the lowest
/// id. Most draws lose by their bound already and cost no logarithm.
fn gumbel_argmax(logits: &[f32], seed: u64, position: u32) -> u32 {
    let mut noise = Noise::new(seed, position);
    let mut token = argmax(logits);
    let mut best = logits.get(token as usize).map_or(MASK, |logit| logit + to_gumbel(noise.bits(token)));
    for (id, &logit) in (0..).zip(logits) {
        if logit == MASK {
            continue;
        }
        let bits = noise.bits(id);
        if logit + gumbel_bound(bits) > best {
            let score = logit + to_gumbel(bits);
            if score > best {
                (token, best) = (id, score);
            }
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use super::super::rng::gumbel;
    use super::*;
    use crate::config::StructuredOutputs;
    use proptest::prelude::*;

    const ROW: [f32; 8] = [1.5, -0.5, 2.0, 0.0, 1.0, -3.0, 1.9, 0.7];

    fn sample(row: &[f32], params: &SamplingParams, seed: u64, position: u32) -> Sampled {
        Sampler::default().sample(&mut row.to_vec(), params, &TokenCounts::default(), seed, position, None, None)
    }

    /// Pearson's statistic of many samples against `softmax(ROW / T)` over the tokens in `kept`.
    fn assert_follows(params: &SamplingParams, kept: &[usize]) {
        let weight = |t: usize| (f64::from(ROW[t]) / f64::from(params.temperature)).exp();
        let sum: f64 = kept.iter().map(|&t| weight(t)).sum();
        let draws = 40_000;
        let (mut sampler, counts, mut seen) = (Sampler::default(), TokenCounts::default(), [0u32; 8]);
        for i in 0..draws {
            let (seed, position) = (u64::from(i % 7), i / 7);
            seen[sampler.sample(&mut ROW.clone(), params, &counts, seed, position, None, None).token as usize] += 1;
        }
        assert_eq!(kept.iter().map(|&t| seen[t]).sum::<u32>(), draws, "a masked token was sampled: {seen:?}");
        let statistic: f64 = kept
            .iter()
            .map(|&t| {
                let expected = weight(t) / sum * f64::from(draws);
                (f64::from(seen[t]) - expected).powi(2) / expected
            })
            .sum();
        // The 99.9 % quantiles for one to seven degrees of freedom.
        let limit = [0.0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32][kept.len() - 1];
        assert!(statistic <= limit + 1e-9, "{statistic} > {limit}: {seen:?}");
    }

    #[test]
    fn samples_follow_the_softmax() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7];
        for temperature in [0.5, 1.0, 2.0] {
            assert_follows(&SamplingParams { temperature, ..Default::default() }, &all);
        }
    }

    #[test]
    fn samples_follow_the_softmax_of_what_is_left() {
        let default = SamplingParams::default();
        assert_follows(&SamplingParams { top_k: 3, ..default.clone() }, &[0, 2, 6]);
        assert_follows(&SamplingParams { top_k: 1, ..default.clone() }, &[2]);
        assert_follows(&SamplingParams { min_p: 0.3, temperature: 0.8, ..default.clone() }, &[0, 2, 6]);
        assert_follows(&SamplingParams { top_p: 0.6, ..default.clone() }, &[0, 2, 6]);
        assert_follows(&SamplingParams { top_k: 4, top_p: 0.7, min_p: 0.05, ..default }, &[0, 2, 6]);
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_the_largest() {
        let greedy = SamplingParams { temperature: 0.0, ..Default::default() };
        assert_eq!(sample(&[1.0, 3.0, 3.0, -0.0], &greedy, 1, 1).token, 1);
        assert_eq!(sample(&[-0.0, 0.0], &greedy, 1, 1).token, 0);
        assert_eq!(sample(&[f32::NAN, f32::NEG_INFINITY, -7.0], &greedy, 1, 1).token, 2);
    }

    #[test]
    fn hopeless_rows_give_token_0() {
        for temperature in [0.0, 1.0] {
            let params = SamplingParams { temperature, logprobs: Some(2), top_p: 0.5, top_k: 2, ..Default::default() };
            assert_eq!(sample(&[], &params, 1, 1), Sampled { token: 0, logprobs: Some(vec![]) });
            assert_eq!(sample(&[f32::NAN; 3], &params, 1, 1).token, 0);
            assert_eq!(sample(&[MASK, f32::INFINITY], &params, 1, 1).token, 1);
        }
    }

    #[test]
    fn logprobs_are_of_the_raw_logits_with_the_sampled_token_first() {
        let params = SamplingParams {
            temperature: 0.0,
            logprobs: Some(2),
            logit_bias: [(3, 100.0)].into(),
            ..Default::default()
        };
        let total: f64 = ROW.iter().map(|l| f64::from(*l).exp()).sum();
        let logprob = |t: usize| (f64::from(ROW[t]) - total.ln()) as f32;
        let of = |id: u32, rank| (id, logprob(id as usize), rank);
        let check = |params: &SamplingParams, expected: &[(u32, f32, u32)]| {
            let got = sample(&ROW, params, 0, 0).logprobs.unwrap();
            assert_eq!(got.len(), expected.len(), "{got:?}");
            for (got, want) in got.iter().zip(expected) {
                assert_eq!((got.token_id, got.rank), (want.0, want.2));
                assert!((got.logprob - want.1).abs() < 1e-6);
            }
        };
        check(&params, &[of(3, 6), of(2, 1), of(6, 2)]);
        check(&SamplingParams { logit_bias: [(6, 100.0)].into(), ..params.clone() }, &[of(6, 2), of(2, 1)]);
        check(&SamplingParams { logprobs: Some(0), ..params.clone() }, &[of(3, 6)]);
        assert_eq!(sample(&ROW, &SamplingParams { logprobs: Some(20), ..params }, 0, 0).logprobs.unwrap().len(), 8);
        assert_eq!(sample(&ROW, &SamplingParams::default(), 0, 0).logprobs, None);
    }

    #[test]
    fn the_model_s_eos_waits_for_min_tokens() {
        let params = SamplingParams { temperature: 0.0, min_tokens: 1, ..Default::default() };
        let mut sampler = Sampler::new([2]);
        let mut counts = TokenCounts::new(&[1]);
        assert_eq!(sampler.sample(&mut ROW.clone(), &params, &counts, 0, 0, None, None).token, 6);
        counts.push(6);
        assert_eq!(sampler.sample(&mut ROW.clone(), &params, &counts, 0, 1, None, None).token, 2);
    }

    #[test]
    fn a_mask_comes_before_all_else() {
        let mask = Mask { words: vec![1 << 3 | 1 << 4 | 1 << 5] };
        let mut sampler = Sampler::new([5]);
        let mut sample = |params: &SamplingParams, mask: &Mask, seed| {
            sampler.sample(&mut ROW.clone(), params, &TokenCounts::default(), seed, 0, None, Some(mask)).token
        };
        let greedy = SamplingParams { temperature: 0.0, ..Default::default() };
        assert_eq!(sample(&greedy, &mask, 0), 4);
        // A bias lifts none that the mask leaves out.
        assert_eq!(
            sample(&SamplingParams { logit_bias: [(2, 100.0), (3, 90.0)].into(), ..greedy.clone() }, &mask, 0),
            3
        );
        // `top_k` and `top_p` choose among what the mask leaves.
        let narrow = SamplingParams { top_k: 1, top_p: 0.1, ..Default::default() };
        assert!((0..50).all(|seed| sample(&narrow, &mask, seed) == 4));
        let seen: std::collections::BTreeSet<u32> =
            (0..500).map(|seed| sample(&SamplingParams::default(), &mask, seed)).collect();
        assert_eq!(seen, [3, 4, 5].into());
        // An output that is complete ends, however short it is.
        let end = Mask { words: vec![1 << 5] };
        for temperature in [0.0, 1.0] {
            let params = SamplingParams { temperature, min_tokens: 9, ..Default::default() };
            assert_eq!(sample(&params, &end, 1), 5);
        }
    }

    #[test]
    fn what_changes_logits_needs_them() {
        let greedy = SamplingParams { temperature: 0.0, ..Default::default() };
        assert!(!needs_logits(&greedy, false));
        let narrowed = SamplingParams { top_k: 5, top_p: 0.5, min_p: 0.1, ..Default::default() };
        assert!(!needs_logits(&SamplingParams { temperature: 0.0, ..narrowed.clone() }, false));
        assert!(needs_logits(&narrowed, false) && !needs_logits(&narrowed, true));
        for params in [
            SamplingParams { repetition_penalty: 1.1, ..greedy.clone() },
            SamplingParams { presence_penalty: 0.1, ..greedy.clone() },
            SamplingParams { frequency_penalty: -0.1, ..greedy.clone() },
            SamplingParams { logit_bias: [(1, 1.0)].into(), ..greedy.clone() },
            SamplingParams { bad_words_token_ids: vec![vec![1]], ..greedy.clone() },
            SamplingParams { min_tokens: 1, ..greedy.clone() },
        ] {
            assert!(needs_logits(&params, false) && !needs_logits(&params, true), "{params:?}");
        }
        for params in [
            SamplingParams { logprobs: Some(0), ..greedy.clone() },
            SamplingParams { allowed_token_ids: Some(vec![1]), ..greedy.clone() },
            SamplingParams {
                structured_outputs: StructuredOutputs::from_json(&serde_json::json!({ "regex": "a" })).ok(),
                ..greedy
            },
        ] {
            assert!([false, true].iter().all(|draws| needs_logits(&params, *draws)), "{params:?}");
        }
    }

    proptest! {
        #[test]
        fn the_same_row_seed_and_position_give_the_same_token(
            row in prop::collection::vec(-20f32..20.0, 1..600), seed: u64, position: u32, other in 1usize..300,
        ) {
            let params = SamplingParams { top_p: 0.95, ..Default::default() };
            let counts = TokenCounts::default();
            let first = sample(&row, &params, seed, position);
            // A sampler that has just served another row gives the same.
            let mut used = Sampler::default();
            used.sample(&mut vec![0.5; other], &params, &counts, 1, 2, None, None);
            prop_assert_eq!(used.sample(&mut row.clone(), &params, &counts, seed, position, None, None), first);
        }

        #[test]
        fn skipping_by_the_bound_changes_nothing(
            row in prop::collection::vec(-20f32..20.0, 1..600), seed: u64, position: u32,
        ) {
            let scores: Vec<f32> = (0..).zip(&row).map(|(t, l)| l + gumbel(seed, position, t)).collect();
            let best = scores.iter().copied().fold(MASK, f32::max);
            let token = sample(&row, &SamplingParams::default(), seed, position).token;
            prop_assert_eq!(scores[token as usize], best);
        }
    }
}
