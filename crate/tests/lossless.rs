//! Speculation changes no token: many requests with all kinds of parameters, in batches of 1 to 8, give with every K, and
//! with `"auto"`, the tokens, text and log probabilities of K = 0, bit for bit, on this machine's adapter.
//!
//! A part of the cases by default, all of them and the real model's under `EMBERGRAM_FULL=1`.

mod common;

use common::{Random, counter, finish, full, params, tokens};
use embergram::config::SamplingParams;
use embergram::engine::SequenceOutput;
use embergram::llm::{Llm, Prompt};
use embergram::speculate::SpeculativeConfig;
use serde_json::{Value, json};

/// The tiny model's ids of words and their beginnings.
const WORDS: std::ops::Range<usize> = 259..349;
const CASES: usize = 240;
const CASES_BY_DEFAULT: usize = 60;

struct Case {
    prompt: Vec<u32>,
    params: SamplingParams,
}

/// A prompt that partly repeats itself, and parameters: every one in many cases, in changing company.
fn case(i: usize) -> Case {
    let mut random = Random(i as u64);
    let mut prompt: Vec<u32> =
        (0..4 + random.below(12)).map(|_| (WORDS.start + random.below(WORDS.len())) as u32).collect();
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
    if i % 3 != 0 {
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

fn speculation(k: Value) -> Option<SpeculativeConfig> {
    let config = json!({
        "method": "ngram", "num_speculative_tokens": k, "prompt_lookup_min": 1, "prompt_lookup_max": 3,
    });
    (k != 0).then(|| SpeculativeConfig::from_json(&config).unwrap())
}

/// What the speculation of some requests came to.
#[derive(Debug, Default)]
struct Drafts {
    drafted: u64,
    accepted: u64,
}

impl Drafts {
    fn rejected(&self) -> u64 {
        self.drafted - self.accepted
    }
}

/// Runs the cases in batches of 1, 2, .. 8, 1, .. with the speculation that `k` gives the case.
fn run(llm: &mut Llm, cases: &[Case], k: impl Fn(usize) -> Value) -> Vec<Vec<SequenceOutput>> {
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
        let mut all = finish(llm, &ids.concat()).into_iter();
        outputs.extend(ids.iter().map(|ids| all.by_ref().take(ids.len()).collect()));
    }
    outputs
}

/// Everything but the times and the speculation is the same.
fn assert_same(expected: &[Vec<SequenceOutput>], got: &[Vec<SequenceOutput>], what: &str) {
    assert_eq!(expected.len(), got.len());
    for (i, (expected, got)) in expected.iter().flatten().zip(got.iter().flatten()).enumerate() {
        let plain = |o: &SequenceOutput| SequenceOutput { id: 0, draft_positions: vec![], metrics: None, ..o.clone() };
        assert_eq!(plain(expected), plain(got), "{what}, sequence {i}");
    }
}

/// The sums over the requests are what the engine counted.
fn count(outputs: &[Vec<SequenceOutput>], drafts: &mut Drafts) -> [u64; 4] {
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

#[test]
fn every_depth_gives_the_tokens_of_none() {
    let mut llm = common::tiny(json!({ "max_model_len": 160, "max_num_seqs": 8, "max_num_batched_tokens": 48 }));
    let cases: Vec<Case> = (0..if full() { CASES } else { CASES_BY_DEFAULT }).map(case).collect();
    let expected = run(&mut llm, &cases, |_| json!(0));
    let (greedy, sampled): (Vec<usize>, Vec<usize>) = (0..cases.len()).partition(|i| cases[*i].params.is_greedy());
    let (mut greedy_drafts, mut sampled_drafts) = (Drafts::default(), Drafts::default());
    let depths = [json!(1), json!(3), json!(5), json!(8), json!("auto")];
    let mixed = |i: usize| [&depths[..], &[json!(0)]].concat()[i % 6].clone();
    let mut check = |what: &str, k: &dyn Fn(usize) -> Value| {
        let before = counters_or_zero(&llm);
        let started = std::time::Instant::now();
        let got = run(&mut llm, &cases, k);
        assert_same(&expected, &got, what);
        let of = |which: &[usize], drafts: &mut Drafts| {
            count(&which.iter().map(|i| got[*i].clone()).collect::<Vec<_>>(), drafts)
        };
        let (a, b) = (of(&greedy, &mut greedy_drafts), of(&sampled, &mut sampled_drafts));
        let after = counters(&llm);
        for i in 0..4 {
            assert_eq!(after[i] - before[i], a[i] + b[i], "{what}: the requests' sums are the engine's counters");
        }
        println!("{what}: drafts, tokens, accepted, generated: greedy {a:?}, sampled {b:?}, {:?}", started.elapsed());
    };
    for k in &depths {
        check(&format!("K = {k}"), &|_| k.clone());
    }
    check("another K for each request", &mixed);
    println!("greedy {greedy_drafts:?}, sampled {sampled_drafts:?}");
    for drafts in [&greedy_drafts, &sampled_drafts] {
        assert!(drafts.accepted >= 300 && drafts.rejected() >= 300, "too few drafts to tell: {drafts:?}");
    }
    assert!(greedy_drafts.accepted + sampled_drafts.accepted >= 1000);
    assert!(greedy_drafts.rejected() + sampled_drafts.rejected() >= 1000);
}

fn counters_or_zero(llm: &Llm) -> [u64; 4] {
    let known = embergram::metrics::SpeculationStats::of(&llm.metrics()).is_some();
    if known { counters(llm) } else { [0, 0, 0, counter(llm, "vllm:generation_tokens", None)] }
}

/// The real model is slow on a CPU adapter: six requests, greedy and sampled.
#[test]
fn the_real_model_s_tokens_are_those_of_no_speculation() {
    if !full() {
        return;
    }
    let mut llm = common::load("EMBERGRAM_MODEL", json!({ "max_model_len": 512, "max_num_seqs": 6 }));
    let requests = [
        ("def add(a, b):\n    return a + b\n\ndef add(a, b):\n", json!({ "temperature": 0 })),
        ("One, two, three. One, two, three. One,", json!({ "temperature": 0.7, "seed": 3, "top_p": 0.9 })),
        ("Once upon a time", json!({ "temperature": 1.0, "seed": 4 })),
        ("{\"a\": 1, \"b\": 2}\n{\"a\": 1, \"b\":", json!({ "temperature": 0, "repetition_penalty": 1.1 })),
        (
            "The cat sat on the mat. The cat sat on",
            json!({ "temperature": 0.5, "seed": 5, "top_k": 20, "logprobs": 2 }),
        ),
        ("A list of colours: red, green,", json!({ "temperature": 0.8, "seed": 6, "min_p": 0.05 })),
    ];
    let mut drafts = Drafts::default();
    let mut run = |k: Value| {
        llm.set_speculation(speculation(k));
        let add = |(text, p): &(&str, Value)| {
            let mut p = p.clone();
            p["max_tokens"] = json!(48);
            llm.add(&Prompt::Text(text.to_string()), &params(p)).unwrap()
        };
        let ids: Vec<_> = requests.iter().flat_map(add).collect();
        vec![finish(&mut llm, &ids)]
    };
    let expected = run(json!(0));
    for k in [json!(5), json!("auto")] {
        let got = run(k.clone());
        assert_same(&expected, &got, &format!("K = {k}"));
        count(&got, &mut drafts);
    }
    assert!(drafts.accepted > 0 && drafts.rejected() > 0, "{drafts:?}");
}
