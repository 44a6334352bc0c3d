//! `num_speculative_tokens: "auto"` against every fixed K, without a model: the engine runs known token sequences, and a
//! step of R rows costs c(R) as measured. Whatever the depth, the tokens are the same, so the cost alone compares them.

mod common;

use common::Random;
use embergram::engine::replay::{Replay, Text};
use embergram::speculate::SpeculativeConfig;
use serde_json::Value;

const MAX: usize = 8;

/// What a step costs, by rows: where rows are dear, SmolLM2 on SwiftShader and on the CPU backend (docs/speculation.md), and a
/// GPU-like one.
const DEAR: &[(usize, f64)] = &[(1, 1.0), (2, 1.45), (4, 2.36), (6, 3.28), (8, 4.21), (16, 8.42)];
const MEASURED: &[(usize, f64)] = &[(1, 1.0), (2, 1.22), (4, 1.71), (6, 2.2), (8, 2.64), (16, 5.2)];
const CPU: &[(usize, f64)] =
    &[(1, 1.0), (2, 1.7), (3, 2.3), (4, 2.9), (5, 3.3), (6, 3.6), (7, 4.4), (8, 4.7), (9, 5.7), (16, 9.4)];
const CPU_FAST: &[(usize, f64)] =
    &[(1, 1.0), (2, 1.4), (3, 1.8), (4, 2.2), (5, 2.6), (6, 3.0), (7, 3.4), (8, 3.8), (9, 4.2), (16, 7.0)];
const CHEAP: &[(usize, f64)] = &[(1, 1.0), (2, 1.03), (4, 1.08), (6, 1.15), (8, 1.2), (16, 1.5)];

fn config(num_speculative_tokens: usize, adaptive: bool) -> SpeculativeConfig {
    SpeculativeConfig { num_speculative_tokens, adaptive, prompt_lookup_min: 2, prompt_lookup_max: 4 }
}

fn read(path: &str) -> Value {
    let file = std::fs::read(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    serde_json::from_slice(&file).unwrap()
}

/// A prompt and its output out of an object with both.
fn text(of: &Value) -> (Vec<u32>, Vec<u32>) {
    let ids = |key: &str| of[key].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as u32).collect();
    (ids("prompt_token_ids"), ids("output_token_ids"))
}

/// What vLLM recorded.
fn recorded() -> Vec<(String, Vec<u32>, Vec<u32>)> {
    let golden = read("tests/golden/vllm_golden.json");
    let named = |p: &Value| {
        let (prompt, output) = text(p);
        (p["name"].to_string(), prompt, output)
    };
    golden["runs"]["0"]["prompts"].as_array().unwrap().iter().map(named).collect()
}

/// What SmolLM2 says to the benchmark's prompts (`npm run bench` writes it with its results).
fn benchmark() -> Vec<(String, Texts)> {
    let Value::Object(workloads) = read("bench/workload_tokens.json") else { panic!("an object of workloads") };
    let texts = |v: Value| v.as_array().unwrap().iter().map(text).collect();
    workloads.into_iter().map(|(name, v)| (format!("benchmark {name}"), texts(v))).collect()
}

impl Random {
    /// Text of words: few are frequent, and some follow others often, so that pairs come again by chance.
    fn prose(&mut self, len: usize) -> Vec<u32> {
        let mut text = vec![0];
        while text.len() < len {
            let before = text[text.len() - 1] as usize;
            let word = if self.below(3) == 0 {
                (before * 7 + self.below(3)) % 400
            } else {
                self.below(400).min(self.below(400))
            };
            text.push(word as u32);
        }
        text
    }

    /// A copy in which one token in `each` is another.
    fn edited(&mut self, text: &[u32], each: usize) -> Vec<u32> {
        text.iter().map(|&t| if self.below(each) == 0 { 1000 + self.below(50) as u32 } else { t }).collect()
    }
}

/// Texts of one kind; a workload's cost is that of all of them.
type Texts = Vec<Text>;

fn workloads() -> Vec<(String, Texts)> {
    let mut random = Random(7);
    let mut all: Vec<(String, Texts)> = recorded()
        .into_iter()
        .map(|(name, prompt, output)| (format!("recorded {name}"), vec![(prompt, output)]))
        .collect();
    all.push(("all recorded".into(), recorded().into_iter().map(|(_, p, o)| (p, o)).collect()));
    all.extend(benchmark());
    for each in [1_000_000, 30, 12, 6, 3] {
        let texts = (0..10).map(|_| {
            let prompt = random.prose(150);
            let output = random.edited(&prompt, each)[..128].to_vec();
            (prompt, output)
        });
        all.push((format!("copy, one of {each} tokens edited"), texts.collect()));
    }
    let prose = (0..10).map(|_| (random.prose(30), random.prose(128)));
    all.push(("prose".into(), prose.collect()));
    let both = (0..10).map(|_| {
        let prompt = random.prose(100);
        let output = [random.prose(50), prompt[..60].to_vec(), random.prose(50)].concat();
        (prompt, output)
    });
    all.push(("prose, a copy, prose".into(), both.collect()));
    all
}

#[test]
fn auto_costs_at_most_a_twentieth_more_than_the_best_fixed_depth_and_a_fiftieth_more_than_none() {
    for (kind, table) in [
        ("dear rows", DEAR),
        ("SwiftShader's rows", MEASURED),
        ("the CPU's rows", CPU),
        ("the CPU's fast rows", CPU_FAST),
        ("cheap rows", CHEAP),
    ] {
        for (name, texts) in workloads() {
            let all = |config: Option<SpeculativeConfig>| {
                let replay = Replay::run(&texts, usize::MAX, config.as_ref(), table).unwrap();
                replay.cost(table).unwrap()
            };
            let none = all(None);
            let fixed = (1..=MAX).map(|k| (k, all(Some(config(k, false)))));
            let (best_k, best) = fixed.chain([(0, none)]).min_by(|a, b| a.1.total_cmp(&b.1)).expect("nine depths");
            let auto = all(Some(config(MAX, true)));
            println!(
                "{kind}, {name}: auto {auto:.1}, best K = {best_k} {best:.1}, ratio {:.3}, K=0 {none:.1}",
                best / auto
            );
            // Where rows are this dear, a single text can be short for learning which depth is best.
            let least = if kind.starts_with("the CPU") { 0.92 } else { 0.95 };
            assert!(best / auto >= least, "{kind}, {name}: auto costs {auto:.1}, K = {best_k} costs {best:.1}");
            assert!(none / auto >= 0.98, "{kind}, {name}: auto costs {auto:.1}, no speculation {none:.1}");
        }
    }
}
