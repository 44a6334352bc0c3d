//! Speculation changes no token: many requests with all kinds of parameters, in batches of 1 to 8, give with every K, and
//! with `"auto"`, the tokens, text and log probabilities of K = 0, bit for bit.

use std::ops::Range;

use embergram::config::SamplingParams;
use embergram::engine::SequenceOutput;
use embergram::llm::Llm;
use embergram::speculate::SpeculativeConfig;
use serde_json::{Value, json};
use web_time::Instant;

use super::random::Random;
use super::requests::{counter, finish, params, tokens};

/// The tiny model's ids of words and their beginnings.
const WORDS: Range<usize> = 259..349;

struct Case {
    prompt: Vec<u32>,
    params: SamplingParams,
}

/// A prompt that partly repeats itself, and parameters: every one in many cases, in changing company.
fn case(i: usize, words: &Range<usize>) -> Case {
    let mut random = Random(i as u64);
    let mut prompt: Vec<u32> =
        (0..4 + random.below(12)).map(|_| (words.start + random.below(words.len())) as u32).collect();
    for _ in 0..random.below(4) {
        let from = random.below(prompt.len() - 2);
        prompt.extend_from_within(from..);
    }
    prompt.truncate(80);
    let mut p = json!({ "max_tokens": 24 + random.below(25), "seed": random.next(), "temperature": 0 });
    let mut set = |one_of: usize, key: &str, value: Value| {
        if random.below(one_of) == 0 {
            p[key] = value;
        }
    };
    if !i.is_multiple_of(3) {
        set(1, "temperature", json!([0.1, 0.25, 0.4, 0.7, 1.0][i % 5]));
        set(3, "top_k", json!(4 + i % 20));
        set(3, "top_p", json!(0.85));
        set(3, "min_p", json!(0.05));
        set(5, "n", json!(2 + i % 2));
    }
    set(4, "repetition_penalty", json!(1.05));
    set(6, "presence_penalty", json!(0.3));
    set(6, "frequency_penalty", json!(-0.2));
    set(5, "logit_bias", json!({ "270": 2, "300": -5, "2": -100 }));
    set(4, "logprobs", json!(3));
    set(4, "stop", json!(["the the", " wor"]));
    set(6, "stop_token_ids", json!([280, 316]));
    set(6, "min_tokens", json!(12));
    set(2, "ignore_eos", json!(true));
    set(8, "include_stop_str_in_output", json!(true));
    // To the end of the context, where drafts run out of room.
    set(9, "max_tokens", json!(null));
    Case { prompt, params: params(p) }
}

/// Speculation with this `num_speculative_tokens`; none for 0.
pub fn speculation(k: Value) -> Option<SpeculativeConfig> {
    let config = json!({
        "method": "ngram", "num_speculative_tokens": k, "prompt_lookup_min": 1, "prompt_lookup_max": 3,
    });
    (k != 0).then(|| SpeculativeConfig::from_json(&config).unwrap())
}

/// What the speculation of some requests came to.
#[derive(Debug, Default)]
pub struct Drafts {
    pub drafted: u64,
    pub accepted: u64,
}

impl Drafts {
    pub fn rejected(&self) -> u64 {
        self.drafted - self.accepted
    }
}

/// Runs the cases in batches of 1, 2, .. 8, 1, .. with the speculation that `k` gives the case.
async fn run(llm: &mut Llm, cases: &[Case], k: &dyn Fn(usize) -> Value) -> Vec<Vec<SequenceOutput>> {
    let mut outputs = Vec::new();
    let mut size = 1;
    while outputs.len() < cases.len() {
        let batch = outputs.len()..(outputs.len() + size).min(cases.len());
        size = size % 8 + 1;
        let mut ids = Vec::new();
        for i in batch.clone() {
            llm.set_speculation(speculation(k(i)));
            ids.push(llm.add(&tokens(&cases[i].prompt), &cases[i].params).unwrap());
        }
        let mut all = finish(llm, &ids.concat()).await.into_iter();
        outputs.extend(ids.iter().map(|ids| all.by_ref().take(ids.len()).collect()));
    }
    outputs
}

/// Everything but the times and the speculation is the same.
pub fn assert_same(expected: &[Vec<SequenceOutput>], got: &[Vec<SequenceOutput>], what: &str) {
    assert_eq!(expected.len(), got.len());
    for (i, (expected, got)) in expected.iter().flatten().zip(got.iter().flatten()).enumerate() {
        let plain = |o: &SequenceOutput| SequenceOutput { id: 0, draft_positions: vec![], metrics: None, ..o.clone() };
        assert_eq!(plain(expected), plain(got), "{what}, sequence {i}");
    }
}

/// The sums over the requests are what the engine counted.
pub fn count(outputs: &[Vec<SequenceOutput>], drafts: &mut Drafts) -> [u64; 4] {
    let mut sums = [0; 4];
    for output in outputs.iter().flatten() {
        let metrics = output.metrics.as_ref().unwrap();
        assert_eq!(metrics.num_generation_tokens, output.token_ids.len());
        assert_eq!(output.draft_positions.len(), output.token_ids.len());
        sums[3] += output.token_ids.len() as u64;
        let Some(s) = &metrics.speculative_decoding else { continue };
        let kept = output.draft_positions.iter().flatten().count() as u64;
        assert!(kept <= s.num_accepted_draft_tokens, "no more kept than accepted");
        sums[0] += s.num_spec_steps;
        sums[1] += s.num_draft_tokens;
        sums[2] += s.num_accepted_draft_tokens;
    }
    drafts.drafted += sums[1];
    drafts.accepted += sums[2];
    sums
}

fn counters(llm: &Llm) -> [u64; 4] {
    [
        "vllm:spec_decode_num_drafts",
        "vllm:spec_decode_num_draft_tokens",
        "vllm:spec_decode_num_accepted_tokens",
        "vllm:generation_tokens",
    ]
    .map(|name| counter(llm, name, None))
}

fn counters_or_zero(llm: &Llm) -> [u64; 4] {
    let known = embergram::metrics::SpeculationStats::of(&llm.metrics()).is_some();
    if known { counters(llm) } else { [0, 0, 0, counter(llm, "vllm:generation_tokens", None)] }
}

/// The options that the tiny model is loaded with for [`every_depth_gives_the_tokens_of_none`].
pub fn config() -> Value {
    json!({ "max_model_len": 160, "max_num_seqs": 8, "max_num_batched_tokens": 48 })
}

/// Runs so many cases, with prompts of these tokens, without speculation and with drafts of up to five tokens.
pub async fn drafts_change_no_token(llm: &mut Llm, cases: usize, words: Range<usize>) -> Drafts {
    let cases: Vec<Case> = (0..cases).map(|i| case(i, &words)).collect();
    let expected = run(llm, &cases, &|_| json!(0)).await;
    let got = run(llm, &cases, &|_| json!(5)).await;
    assert_same(&expected, &got, "K = 5");
    let mut drafts = Drafts::default();
    count(&got, &mut drafts);
    drafts
}

/// Runs so many cases without speculation, with every depth, and with another depth for each request. `report` gets a line
/// a run.
pub async fn every_depth_gives_the_tokens_of_none(llm: &mut Llm, cases: usize, report: impl Fn(String)) {
    let cases: Vec<Case> = (0..cases).map(|i| case(i, &WORDS)).collect();
    let expected = run(llm, &cases, &|_| json!(0)).await;
    let (greedy, sampled): (Vec<usize>, Vec<usize>) = (0..cases.len()).partition(|i| cases[*i].params.is_greedy());
    let (mut greedy_drafts, mut sampled_drafts) = (Drafts::default(), Drafts::default());
    let depths = [json!(1), json!(3), json!(5), json!(8), json!("auto"), json!(0)];
    for run_of in 0..depths.len() {
        let mixed = run_of == depths.len() - 1;
        let k = |case: usize| if mixed { depths[case % depths.len()].clone() } else { depths[run_of].clone() };
        let what = if mixed { "another K for each request".to_string() } else { format!("K = {}", depths[run_of]) };
        let before = counters_or_zero(llm);
        let started = Instant::now();
        let got = run(llm, &cases, &k).await;
        assert_same(&expected, &got, &what);
        let of = |which: &[usize], drafts: &mut Drafts| {
            count(&which.iter().map(|i| got[*i].clone()).collect::<Vec<_>>(), drafts)
        };
        let (a, b) = (of(&greedy, &mut greedy_drafts), of(&sampled, &mut sampled_drafts));
        let after = counters(llm);
        for i in 0..4 {
            assert_eq!(after[i] - before[i], a[i] + b[i], "{what}: the requests' sums are the engine's counters");
        }
        let time = started.elapsed();
        report(format!("{what}: drafts, tokens, accepted, generated: greedy {a:?}, sampled {b:?}, {time:?}"));
    }
    report(format!("greedy {greedy_drafts:?}, sampled {sampled_drafts:?}"));
    for drafts in [&greedy_drafts, &sampled_drafts] {
        assert!(drafts.accepted >= 300 && drafts.rejected() >= 300, "too few drafts to tell: {drafts:?}");
    }
    assert!(greedy_drafts.accepted + sampled_drafts.accepted >= 1000);
    assert!(greedy_drafts.rejected() + sampled_drafts.rejected() >= 1000);
}
