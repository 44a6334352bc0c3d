//! Runs what vLLM recorded, without a model: the engine is given the recorded tokens in place of a model's, and rows,
//! drafts, counters and metrics must come out as recorded. Reads every recording in `tests/golden`, or in the folder
//! that `EMBERGRAM_GOLDEN` names.

mod golden;

use std::collections::BTreeMap;

use embergram::config::SamplingParams;
use embergram::engine::scripted::{Log, Scripted};
use embergram::engine::{Engine, SequenceOutput};
use embergram::metrics::{CacheConfig, Registry, SpeculationStats};
use embergram::program::{Batch, Capacity, Row};
use embergram::speculate::{NgramProposer, Proposer, SpeculativeConfig};
use embergram::text::{Tokenizer, TokenizerSource};
use futures::FutureExt;
use golden::{Prompt, Run};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
struct NgramCase {
    context: Vec<u32>,
    prompt_lookup_min: usize,
    prompt_lookup_max: usize,
    max_model_len: usize,
    num_speculative_tokens: usize,
    draft: Vec<u32>,
}

#[test]
fn the_proposer_proposes_what_vllms_proposes() {
    let mut seen = 0;
    for (file, json) in golden::files() {
        if !json.get(0).is_some_and(|case| case["context"].is_array()) {
            continue;
        }
        let cases: Vec<NgramCase> = serde_json::from_value(json).expect(&file);
        for case in cases {
            let mut proposer = NgramProposer::new(case.prompt_lookup_min, case.prompt_lookup_max).unwrap();
            proposer.extend(&case.context);
            let room = case.max_model_len.saturating_sub(case.context.len());
            let mut draft = Vec::new();
            proposer.propose(case.num_speculative_tokens.min(room), &mut draft);
            assert_eq!(draft, case.draft, "{file}: {case:?}");
            seen += 1;
        }
    }
    assert!(seen > 0, "no n-gram cases found");
}

#[test]
fn recordings_replay_to_the_same_drafts_and_metrics() {
    let runs = golden::runs("");
    assert!(!runs.is_empty(), "no recordings found");
    for (name, run) in &runs {
        for in_flight in [1, 2] {
            Replay::new(run, format!("{name}, {in_flight} in flight"), in_flight).all();
        }
    }
}

/// One recorded run on an engine that says what vLLM's model said.
struct Replay<'a> {
    run: &'a Run,
    name: String,
    speculates: bool,
    in_flight: usize,
    engine: Engine,
    log: Log,
    /// By sequence, what the engine gave.
    outputs: BTreeMap<u64, SequenceOutput>,
}

impl<'a> Replay<'a> {
    fn new(run: &'a Run, name: String, in_flight: usize) -> Self {
        let speculation = run.config.get("speculative_config").map(|json| SpeculativeConfig::from_json(json).unwrap());
        let model_name = run.metrics.iter().find_map(|metric| metric["labels"]["model_name"].as_str()).unwrap();
        let mut registry = Registry::new(model_name, run.max_model_len);
        let labels = &named(&run.metrics, "vllm:cache_config_info").unwrap()["labels"];
        let text = |key: &str| labels[key].as_str().unwrap();
        let block_size = text("block_size").parse().unwrap();
        registry.set_cache_config(CacheConfig {
            block_size,
            num_gpu_blocks: text("num_gpu_blocks").parse().unwrap(),
            kv_cache_memory_bytes: text("kv_cache_memory_bytes").parse().unwrap(),
            enable_prefix_caching: text("enable_prefix_caching") == "True",
            cache_dtype: text("cache_dtype").into(),
            sliding_window: text("sliding_window").parse().ok(),
        });
        let capacity = Capacity {
            // All prompts were prefilled in one step.
            rows: 2048,
            outputs: 256,
            slots: run.prompts.len(),
            positions: run.max_model_len,
            blocks: run.prompts.len() * run.max_model_len.div_ceil(block_size),
            block_size,
        };
        // What a step sampled before the cut goes on where the output ends.
        let said = |prompt: &Prompt| prompt.steps.iter().flat_map(|step| step.sampled.clone()).collect::<Vec<u32>>();
        let texts = run.prompts.iter().map(|p| [p.prompt_token_ids.clone(), said(p)].concat()).collect();
        let mut runner = Scripted::new(capacity, texts);
        runner.set_steps_in_flight(in_flight);
        let log = runner.log();
        let vocab = 1 << 20;
        let mut engine = Engine::new(Box::new(runner), tokenizer(run), vocab, true, registry);
        engine.set_speculation(speculation);
        Self { run, name, speculates: speculation.is_some(), in_flight, engine, log, outputs: BTreeMap::new() }
    }

    fn all(mut self) {
        let together = if self.run.mode == "batch" { self.run.prompts.len() } else { 1 };
        for prompts in self.run.prompts.chunks(together) {
            let params =
                SamplingParams { temperature: 0.0, max_tokens: Some(self.run.max_tokens), ..Default::default() };
            let ids: Vec<u64> = prompts
                .iter()
                .map(|p| self.engine.add(&p.prompt_token_ids, &params, Vec::new(), 0).unwrap()[0])
                .collect();
            while self.engine.is_busy() {
                for delta in self.engine.step().now_or_never().expect("a scripted step is ready").unwrap() {
                    self.outputs.entry(delta.id).or_default().extend(delta);
                }
            }
            self.check_steps(prompts);
            for (prompt, id) in prompts.iter().zip(&ids) {
                self.check_output(prompt, &self.outputs[id]);
            }
            let last = &prompts[prompts.len() - 1];
            self.check_metrics(&last.spec_metrics_cumulative, &last.name);
        }
        self.check_metrics(&self.run.metrics, "at the end");
        self.check_no_others();
        self.check_rates();
    }

    /// The engine scheduled the rows that vLLM did, and the same drafts among them.
    fn check_steps(&self, prompts: &[Prompt]) {
        let batches = self.log.take();
        for (slot, prompt) in prompts.iter().enumerate() {
            let mut known = prompt.prompt_token_ids.clone();
            // Slots are given in the order of requests; one request alone always gets the first.
            let rows =
                |batch: &Batch| batch.rows.iter().filter(|r| r.slot as usize == slot).copied().collect::<Vec<_>>();
            let ours: Vec<Vec<Row>> = batches.iter().map(rows).filter(|rows| !rows.is_empty()).collect();
            // A step that was in flight when its sequence ended was for nothing.
            let beyond = ours.len().checked_sub(prompt.steps.len()).expect("a step for each recorded one");
            assert!(beyond < self.in_flight, "{}, {}: {beyond} steps too many", self.name, prompt.name);
            for (i, (rows, step)) in ours.iter().zip(&prompt.steps).enumerate() {
                let name = format!("{}, {}, step {i}", self.name, prompt.name);
                let beyond = rows.iter().filter(|row| row.position as usize >= known.len());
                assert_eq!(beyond.map(|row| row.token).collect::<Vec<_>>(), step.draft, "{name}: draft");
                assert_eq!(rows.len(), step.scheduled, "{name}: rows");
                known.extend(&step.sampled);
            }
        }
    }

    fn check_output(&self, prompt: &Prompt, ours: &SequenceOutput) {
        let name = format!("{}, {}", self.name, prompt.name);
        assert_eq!(ours.token_ids, prompt.output_token_ids, "{name}: output");
        let reason = serde_json::to_value(ours.finish_reason).unwrap();
        assert_eq!(reason, prompt.finish_reason.as_str(), "{name}");
        let metrics = ours.metrics.as_ref().unwrap();
        assert_eq!(metrics.num_generation_tokens, prompt.output_token_ids.len(), "{name}");
        assert_eq!(metrics.speculative_decoding.is_some(), self.speculates, "{name}");
        if let (Some(recorded), Some(ours)) = (&prompt.output_spec_decode_metrics, &metrics.speculative_decoding) {
            let steps: u64 = recorded.histogram.iter().sum();
            let accepted: u64 = recorded.histogram.iter().zip(0..).map(|(steps, accepted)| steps * accepted).sum();
            assert_eq!(ours.acceptance_histogram, recorded.histogram, "{name}");
            assert_eq!(ours.num_spec_tokens, recorded.num_spec_tokens, "{name}");
            assert_eq!(ours.num_draft_tokens, recorded.num_draft_tokens, "{name}");
            assert_eq!((ours.num_spec_steps, ours.num_accepted_draft_tokens), (steps, accepted), "{name}");
        }
    }

    /// Every recorded metric is among ours, with the same labels and, times aside, the same content.
    fn check_metrics(&self, recorded: &[Value], when: &str) {
        let ours = self.snapshot();
        for metric in recorded {
            let metric = comparable(metric);
            let name = metric["name"].as_str().unwrap();
            if name == "vllm:cache_config_info" {
                let ours = named(&ours, name).unwrap();
                assert_eq!(ours["value"], metric["value"]);
                // We leave out labels that mean nothing here; and vLLM gives most of Gemma's layers a cache of their window
                // only, so that more fits.
                let windowed = ["kv_cache_max_concurrency", "kv_cache_size_tokens"];
                let own = |key: &str| windowed.contains(&key) && self.name.contains("gemma3");
                for (key, value) in ours["labels"].as_object().unwrap().iter().filter(|(key, _)| !own(key)) {
                    assert_eq!(Some(value), metric["labels"].get(key), "{}, {when}: {name} {key}", self.name);
                }
                continue;
            }
            let same = ours.iter().find(|ours| ours["name"] == name && ours["labels"] == metric["labels"]);
            let same = same.unwrap_or_else(|| panic!("{}, {when}: no {name} {}", self.name, metric["labels"]));
            assert_eq!(comparable(same), metric, "{}, {when}", self.name);
        }
    }

    /// Under vLLM's prefix we report what it reports, in its order, and nothing else; it has one metric more where
    /// `VLLM_COMPUTE_NANS_IN_LOGITS` is set, which the recordings did without.
    fn check_no_others(&self) {
        let names = |metrics: &[Value]| -> Vec<String> {
            let names = metrics.iter().map(|metric| metric["name"].as_str().unwrap().to_owned());
            names.filter(|name| name.starts_with("vllm:") && name != "vllm:corrupted_requests").collect()
        };
        assert_eq!(names(&self.snapshot()), names(&self.run.metrics), "{}", self.name);
    }

    fn check_rates(&self) {
        let stats = SpeculationStats::of(&self.engine.metrics().snapshot());
        assert_eq!(stats.is_some(), self.speculates, "{}", self.name);
        let value = |name| named(&self.run.metrics, name).unwrap()["value"].as_f64().unwrap();
        if let Some(stats) = stats {
            let accepted = value("vllm:spec_decode_num_accepted_tokens");
            assert_eq!(stats.acceptance_rate(), accepted / value("vllm:spec_decode_num_draft_tokens"));
            assert_eq!(stats.mean_acceptance_length(), 1.0 + accepted / value("vllm:spec_decode_num_drafts"));
        }
    }

    fn snapshot(&self) -> Vec<Value> {
        let snapshot = self.engine.metrics().snapshot();
        snapshot.iter().map(|metric| serde_json::to_value(metric).unwrap()).collect()
    }
}

/// A tokenizer whose text nobody reads. What ended a recorded output by itself is the model's end of sequence.
fn tokenizer(run: &Run) -> Tokenizer {
    let stopped = run.prompts.iter().find(|prompt| prompt.finish_reason == "stop");
    let eos = stopped.map(|prompt| *prompt.output_token_ids.last().unwrap());
    let tokens = (0..=eos.unwrap_or(0)).map(|id| format!("t{id}")).collect();
    let source = TokenizerSource { model: "gpt2".into(), pre: "gpt-2".into(), tokens, eos, ..Default::default() };
    Tokenizer::new(source).unwrap()
}

fn named<'v>(metrics: &'v [Value], name: &str) -> Option<&'v Value> {
    metrics.iter().find(|metric| metric["name"] == name)
}

/// A metric with its type in lower case; if it is a histogram of times, only the bounds of its buckets are left of them.
fn comparable(metric: &Value) -> Value {
    let mut metric = metric.clone();
    metric["type"] = metric["type"].as_str().unwrap().to_lowercase().into();
    if metric["type"] == "histogram" && metric["name"].as_str().unwrap().ends_with("_seconds") {
        assert_eq!(metric["buckets"]["+Inf"], metric["count"]);
        metric["sum"] = Value::Null;
        metric["buckets"].as_object_mut().unwrap().values_mut().for_each(|count| *count = Value::Null);
    }
    metric
}
