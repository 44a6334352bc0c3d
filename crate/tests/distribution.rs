//! What the engine samples with speculation on follows the softmax of its logits under temperature, `top_k`, `top_p` and
//! `min_p`, by Pearson's chi-squared test.
//!
//! A real adapter runs the tiny model. Each token comes with the log probabilities of all tokens at its place, so its
//! distribution is known whatever came before. Line all tokens up, each as wide as it is likely: a point drawn evenly within
//! the sampled token's part is then spread evenly from 0 to 1, whatever the distribution, and places with different ones
//! can be counted together. This is done with the tokens lined up by likelihood and by id.

mod common;

use common::{Random, finish, tiny, tokens};
use embergram::config::SamplingParams;
use embergram::llm::Llm;
use serde_json::json;

const VOCAB: usize = 349;
/// Requests at once, and how many times; under `EMBERGRAM_FULL=1` ten times as many.
const BATCH: usize = 8;
const ROUNDS: usize = 12;
const TOKENS: usize = 24;
const BINS: usize = 24;
/// The 99.9 % quantile of the chi-squared distribution with 23 degrees of freedom.
const LIMIT: f64 = 49.73;

#[test]
fn samples_under_speculation_follow_the_softmax() {
    let mut llm = tiny(json!({
        "max_model_len": 128, "max_num_seqs": BATCH, "max_num_batched_tokens": 64,
        "speculative_config": {
            "method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 1, "prompt_lookup_max": 2,
        },
    }));
    let default = SamplingParams {
        max_tokens: Some(TOKENS),
        ignore_eos: true,
        logprobs: Some(VOCAB as u32),
        ..Default::default()
    };
    for params in [
        SamplingParams { temperature: 0.7, ..default.clone() },
        SamplingParams { top_k: 5, ..default.clone() },
        SamplingParams { top_p: 0.7, ..default.clone() },
        SamplingParams { temperature: 1.3, min_p: 0.1, ..default.clone() },
        SamplingParams { temperature: 0.8, top_k: 12, top_p: 0.9, min_p: 0.03, ..default.clone() },
    ] {
        follows(&mut llm, params);
    }
}

fn follows(llm: &mut Llm, params: SamplingParams) {
    let (mut by_likelihood, mut by_id) = ([0u32; BINS], [0u32; BINS]);
    let (mut drafted, mut accepted) = (0, 0);
    let mut within = Random(1);
    let rounds = if common::full() { 10 * ROUNDS } else { ROUNDS };
    for round in 0..rounds {
        let mut ids = Vec::new();
        for i in 0..BATCH {
            let mut random = Random(i as u64);
            let words: Vec<u32> = (0..12).map(|_| 259 + random.below(90) as u32).collect();
            let seed = Some((round * BATCH + i) as u64);
            ids.extend(llm.add(&tokens(&words), &SamplingParams { seed, ..params.clone() }).unwrap());
        }
        for output in finish(llm, &ids) {
            for (&token, logprobs) in output.token_ids.iter().zip(output.logprobs.as_ref().unwrap()) {
                assert_eq!(logprobs.len(), VOCAB);
                let mut row = vec![0.0; VOCAB];
                logprobs.iter().for_each(|l| row[l.token.token_id as usize] = f64::from(l.token.logprob));
                let p = distribution(&row, &params);
                let token = token as usize;
                assert!(p[token] > 0.0, "token {token} should have been left out by {params:?}");
                let share = p[token] * (within.below(1 << 30) as f64 + 0.5) / f64::from(1 << 30);
                let before = |comes_before: &dyn Fn(usize) -> bool| {
                    let mass: f64 = (0..VOCAB).filter(|t| comes_before(*t)).map(|t| p[t]).sum();
                    (((mass + share) * BINS as f64) as usize).min(BINS - 1)
                };
                by_id[before(&|t| t < token)] += 1;
                by_likelihood[before(&|t| p[t] > p[token] || (p[t] == p[token] && t < token))] += 1;
            }
            let speculation = output.metrics.unwrap().speculative_decoding.unwrap();
            drafted += speculation.num_draft_tokens;
            accepted += speculation.num_accepted_draft_tokens;
        }
    }
    let expected = (rounds * BATCH * TOKENS) as f64 / BINS as f64;
    for (order, seen) in [("likelihood", by_likelihood), ("id", by_id)] {
        let statistic: f64 = seen.iter().map(|seen| (f64::from(*seen) - expected).powi(2) / expected).sum();
        println!(
            "T {} k {} p {} min_p {}, by {order}: chi squared {statistic:.1}; {accepted} of {drafted} drafts accepted",
            params.temperature, params.top_k, params.top_p, params.min_p,
        );
        assert!(statistic <= LIMIT, "{params:?} by {order}: {statistic} > {LIMIT}: {seen:?}");
    }
    assert!(accepted >= 100 && drafted - accepted >= 100, "too few drafts to tell");
}

/// The probabilities that the parameters leave of a row, by their definitions.
fn distribution(row: &[f64], params: &SamplingParams) -> Vec<f64> {
    let mut p: Vec<f64> = row.iter().map(|l| (l / f64::from(params.temperature)).exp()).collect();
    let most = p.iter().copied().fold(0.0, f64::max);
    p.iter_mut().filter(|p| **p < f64::from(params.min_p) * most).for_each(|p| *p = 0.0);
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    if params.top_k > 0 {
        order[params.top_k as usize..].iter().for_each(|t| p[*t] = 0.0);
    }
    let mut total: f64 = p.iter().sum();
    let mut mass = 0.0;
    for t in order {
        if mass >= f64::from(params.top_p) * total {
            p[t] = 0.0;
        }
        mass += p[t];
    }
    total = p.iter().sum();
    p.iter().map(|p| p / total).collect()
}
