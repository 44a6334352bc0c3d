//! The logits processors, in vLLM's order: bias, `min_tokens`, penalties; then, for sampling only, temperature,
//! `min_p`, `top_k`, `top_p`. Every value stays finite and masked tokens stay masked.

use std::cmp::Ordering;

use super::changes::changes;
use super::constraint::Mask;
use super::counts::TokenCounts;
use crate::config::SamplingParams;

/// The logit of a token that must not be chosen: the finite minimum. A logit that was there already counts as masked.
pub const MASK: f32 = f32::MIN;

/// Replaces what is not finite: NaN and -inf become [`MASK`], +inf the finite maximum. A sound model has none.
pub(super) fn sanitize(logits: &mut [f32]) {
    for logit in logits {
        *logit = finite(*logit);
    }
}

pub(super) fn finite(x: f32) -> f32 {
    if x.is_nan() { MASK } else { x.clamp(MASK, f32::MAX) }
}

/// Leaves the tokens of the mask alone.
pub(super) fn keep(logits: &mut [f32], mask: &Mask) {
    for (token, logit) in (0..).zip(logits) {
        if !mask.allows(token) {
            *logit = MASK;
        }
    }
}

/// The processors that may change the most likely token: masking all but `allowed_token_ids`, then [`changes`]. Ids outside the row
/// are passed over.
pub(super) fn adjust(logits: &mut [f32], params: &SamplingParams, counts: &TokenCounts, eos: &[u32]) {
    if let Some(allowed) = &params.allowed_token_ids {
        let mut allowed = allowed.iter().peekable();
        for (id, logit) in (0..).zip(logits.iter_mut()) {
            if allowed.next_if_eq(&&id).is_none() {
                *logit = MASK;
            }
        }
    }
    for change in changes(params, counts, &[], eos) {
        if let Some(logit) = logits.get_mut(change.token as usize) {
            *logit = change.of(*logit);
        }
    }
}

/// The processors of sampling: divides by the temperature and masks what `min_p`, `top_k` and `top_p` leave out. The
/// most likely token always stays. `ids` is scratch.
pub(super) fn narrow(logits: &mut [f32], params: &SamplingParams, ids: &mut Vec<u32>) {
    if params.temperature != 1.0 {
        for logit in logits.iter_mut().filter(|logit| **logit > MASK) {
            *logit = finite(*logit / params.temperature);
        }
    }
    if params.min_p > 0.0 {
        min_p(logits, params.min_p);
    }
    if params.top_k > 0 {
        top_k(logits, params.top_k as usize, ids);
    }
    if params.top_p < 1.0 {
        top_p(logits, params.top_p, ids);
    }
}

/// Keeps tokens at least `min_p` times as likely as the most likely one.
fn min_p(logits: &mut [f32], min_p: f32) {
    let least = f64::from(maximum(logits)) + f64::from(min_p).ln();
    mask_below(logits, least);
}

/// Keeps the `k` most likely tokens and those equally likely to the last of them, as vLLM does.
fn top_k(logits: &mut [f32], k: usize, ids: &mut Vec<u32>) {
    collect_unmasked(logits, ids);
    if k < ids.len() {
        let (_, &mut last, _) = ids.select_nth_unstable_by(k - 1, |&a, &b| descending(logits, a, b));
        mask_below(logits, logits[last as usize].into());
    }
}

/// Keeps the fewest most likely tokens whose probabilities sum to `p` or more; among equals the lowest ids.
fn top_p(logits: &mut [f32], p: f32, ids: &mut Vec<u32>) {
    collect_unmasked(logits, ids);
    let max = f64::from(maximum(logits));
    let weight = |logit: f32| (f64::from(logit) - max).exp();
    let wanted = f64::from(p) * ids.iter().map(|&id| weight(logits[id as usize])).sum::<f64>();

    // Few tokens usually hold the mass, so sort only as far down as needed.
    let (mut sorted, mut mass) = (0, 0.0);
    while sorted < ids.len() {
        let end = (sorted * 8).max(256).min(ids.len());
        let rest = &mut ids[sorted..];
        if end - sorted < rest.len() {
            rest.select_nth_unstable_by(end - sorted, |&a, &b| descending(logits, a, b));
        }
        rest[..end - sorted].sort_unstable_by(|&a, &b| descending(logits, a, b));
        for i in sorted..end {
            if i > 0 && mass >= wanted {
                ids[i..].iter().for_each(|&id| logits[id as usize] = MASK);
                return;
            }
            mass += weight(logits[ids[i] as usize]);
        }
        sorted = end;
    }
}

fn collect_unmasked(logits: &[f32], ids: &mut Vec<u32>) {
    ids.clear();
    ids.extend((0..).zip(logits).filter(|(_, logit)| **logit > MASK).map(|(id, _)| id));
}

fn mask_below(logits: &mut [f32], least: f64) {
    logits.iter_mut().filter(|logit| f64::from(**logit) < least).for_each(|logit| *logit = MASK);
}

fn maximum(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(MASK, f32::max)
}

/// Most likely first, among equals the lowest id. Both ids must be inside the row.
pub(super) fn descending(logits: &[f32], a: u32, b: u32) -> Ordering {
    logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definitions, word for word and slowly, with probabilities and a full sort.
    fn narrow_naively(logits: &[f32], params: &SamplingParams) -> Vec<bool> {
        let scaled: Vec<f64> = logits.iter().map(|l| f64::from(l / params.temperature)).collect();
        let softmax = |keep: &[bool]| -> Vec<f64> {
            let max = scaled.iter().copied().fold(f64::MIN, f64::max);
            let w: Vec<f64> = scaled.iter().zip(keep).map(|(l, k)| if *k { (l - max).exp() } else { 0.0 }).collect();
            let sum: f64 = w.iter().sum();
            w.iter().map(|w| w / sum).collect()
        };
        let mut keep = vec![true; logits.len()];
        let p = softmax(&keep);
        let top = p.iter().copied().fold(0.0, f64::max);
        for (k, p) in keep.iter_mut().zip(&p) {
            *k = *p >= f64::from(params.min_p) * top;
        }
        if params.top_k > 0 {
            let before = keep.clone();
            for i in 0..keep.len() {
                let better = (0..keep.len()).filter(|&j| before[j] && scaled[j] > scaled[i]).count();
                keep[i] &= better < params.top_k as usize;
            }
        }
        let p = softmax(&keep);
        let mut order: Vec<usize> = (0..p.len()).filter(|&i| keep[i]).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
        let mut mass = 0.0;
        for (n, &i) in order.iter().enumerate() {
            keep[i] = params.top_p >= 1.0 || n == 0 || mass < f64::from(params.top_p);
            mass += p[i];
        }
        keep
    }

    proptest! {
        #[test]
        fn narrowing_keeps_what_the_definitions_keep(
            logits in prop::collection::vec(-12f32..12.0, 1..900),
            temperature in 0.3f32..3.0,
            min_p in prop_oneof![Just(0.0f32), 0.001f32..1.0],
            top_k in prop_oneof![Just(0u32), 1u32..50],
            top_p in prop_oneof![Just(1.0f32), 0.01f32..0.999],
        ) {
            let params = SamplingParams { temperature, min_p, top_k, top_p, ..Default::default() };
            let expected = narrow_naively(&logits, &params);
            let mut row = logits.clone();
            narrow(&mut row, &params, &mut Vec::new());
            let kept: Vec<bool> = row.iter().map(|l| *l > MASK).collect();
            prop_assert_eq!(kept, expected);
        }

        #[test]
        fn nothing_ever_leaves_the_finite_numbers(
            mut logits in prop::collection::vec(prop_oneof![
                any::<f32>(), Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(f32::MAX), Just(f32::MIN),
            ], 0..40),
            temperature in 0.01f32..4.0,
            repetition_penalty in 0.01f32..9.0,
            min_p in 0.0f32..1.0, top_p in 0.01f32..1.0, top_k in 0u32..9,
        ) {
            let params = SamplingParams {
                temperature, repetition_penalty, min_p, top_p, top_k,
                frequency_penalty: 2.0, presence_penalty: -2.0, min_tokens: 9,
                stop_token_ids: vec![3, 1000], logit_bias: [(1, 100.0), (2, -100.0), (3, 100.0), (999, 1.0)].into(),
                ..Default::default()
            };
            let mut counts = TokenCounts::new(&[0, 1, 2, 3, 777]);
            counts.push(4);
            sanitize(&mut logits);
            adjust(&mut logits, &params, &counts, &[5]);
            narrow(&mut logits, &params, &mut Vec::new());
            prop_assert!(logits.iter().all(|l| l.is_finite()));
            prop_assert!([3, 5].iter().all(|&t| logits.get(t).is_none_or(|l| *l == MASK)));
        }
    }

    #[test]
    fn only_allowed_tokens_stay() {
        let params = SamplingParams { allowed_token_ids: Some(vec![0, 3, 99]), ..Default::default() };
        let mut row = [1.0, 5.0, 6.0, 2.0, 7.0];
        adjust(&mut row, &params, &TokenCounts::new(&[]), &[]);
        assert_eq!(row, [1.0, MASK, MASK, 2.0, MASK]);
    }

    #[test]
    fn a_bad_word_ends_nowhere() {
        let params =
            SamplingParams { bad_words_token_ids: vec![vec![1], vec![0, 2], vec![4, 0, 3]], ..Default::default() };
        let mut counts = TokenCounts::new(&[4, 0]);
        let mut row = [1.0; 5];
        adjust(&mut row, &params, &counts, &[]);
        // The prompt does not begin a word.
        assert_eq!(row, [1.0, MASK, 1.0, 1.0, 1.0]);
        for token in [4, 0] {
            counts.push(token);
        }
        let mut row = [1.0; 5];
        adjust(&mut row, &params, &counts, &[]);
        assert_eq!(row, [1.0, MASK, MASK, MASK, 1.0]);
    }

    #[test]
    fn penalties_follow_vllm() {
        let params = SamplingParams {
            repetition_penalty: 2.0,
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            ..Default::default()
        };
        let mut counts = TokenCounts::new(&[0, 1]);
        for token in [1, 2, 2, 2] {
            counts.push(token);
        }
        let mut row = [4.0, -4.0, 1.0, 7.0];
        adjust(&mut row, &params, &counts, &[]);
        // Prompt tokens: repetition alone. Output tokens: repetition, then frequency by count and presence once.
        assert_eq!(row, [2.0, -8.0 - 0.5 - 0.25, 0.5 - 1.5 - 0.25, 7.0]);
    }

    #[test]
    fn bias_comes_before_the_penalty_and_does_not_lift_the_mask() {
        let params = SamplingParams {
            repetition_penalty: 2.0,
            logit_bias: [(0, 3.0), (1, 100.0)].into(),
            min_tokens: 1,
            stop_token_ids: vec![1],
            ..Default::default()
        };
        let mut row = [1.0, 1.0, 1.0];
        adjust(&mut row, &params, &TokenCounts::new(&[0]), &[]);
        assert_eq!(row, [2.0, MASK, 1.0]);
    }

    #[test]
    fn min_tokens_masks_stop_and_eos_until_enough_were_made() {
        let params = SamplingParams { min_tokens: 1, stop_token_ids: vec![1], ..Default::default() };
        let mut counts = TokenCounts::new(&[0]);
        let mut row = [1.0; 4];
        adjust(&mut row, &params, &counts, &[2]);
        assert_eq!(row, [1.0, MASK, MASK, 1.0]);
        counts.push(0);
        let mut row = [1.0; 4];
        adjust(&mut row, &params, &counts, &[2]);
        assert_eq!(row, [1.0; 4]);
    }

    #[test]
    fn top_k_keeps_ties_with_the_last_and_top_p_the_lowest_ids() {
        let mut row = [1.0, 2.0, 2.0, 2.0, 0.0];
        top_k(&mut row, 2, &mut Vec::new());
        assert_eq!(row, [MASK, 2.0, 2.0, 2.0, MASK]);
        top_p(&mut row, 0.5, &mut Vec::new());
        assert_eq!(row, [MASK, 2.0, 2.0, MASK, MASK]);
    }
}
