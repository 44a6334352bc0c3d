//! Replays what vLLM recorded, without a model: its tokens go through the proposer, the verifier and the registry, and
//! drafts, counters and metrics must come out as recorded. Reads every recording in `tests/golden`, or in the folder
//! that `EMBERGRAM_GOLDEN` names.

mod golden;

use embergram::metrics::{
    CacheConfig, FinishReason, FinishedRequest, IterationStats, ParentRequest, Registry, RequestRecorder,
    SpeculationStats,
};
use embergram::speculate::{DraftWindow, NgramProposer, Proposer, SpeculativeConfig, verify};
use golden::{Prompt, Run, Step};
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
        Replay::new(run, name.clone()).all();
    }
}

/// One recorded run on its way through the registry.
struct Replay<'a> {
    run: &'a Run,
    name: String,
    speculation: Option<SpeculativeConfig>,
    registry: Registry,
    /// Seconds, one a step: enough to tell earlier from later.
    clock: f64,
    /// The longest sequence of the step before, with its draft tokens.
    longest: usize,
}

/// One sequence of it.
struct Sequence<'a> {
    prompt: &'a Prompt,
    name: String,
    context: Vec<u32>,
    proposer: Option<NgramProposer>,
    recorder: RequestRecorder,
    next_step: usize,
}

impl<'a> Replay<'a> {
    fn new(run: &'a Run, name: String) -> Self {
        let speculation = run.config.get("speculative_config").map(|json| SpeculativeConfig::from_json(json).unwrap());
        let model_name = run.metrics.iter().find_map(|metric| metric["labels"]["model_name"].as_str()).unwrap();
        let mut registry = Registry::new(model_name, run.max_model_len);
        if let Some(config) = &speculation {
            registry.configure_speculation(config.num_speculative_tokens);
        }
        let labels = &named(&run.metrics, "vllm:cache_config_info").unwrap()["labels"];
        let text = |key: &str| labels[key].as_str().unwrap();
        registry.set_cache_config(CacheConfig {
            block_size: text("block_size").parse().unwrap(),
            num_gpu_blocks: text("num_gpu_blocks").parse().unwrap(),
            kv_cache_memory_bytes: text("kv_cache_memory_bytes").parse().unwrap(),
            enable_prefix_caching: text("enable_prefix_caching") == "True",
            cache_dtype: text("cache_dtype").into(),
            sliding_window: text("sliding_window").parse().ok(),
        });
        Self { run, name, speculation, registry, clock: 0.0, longest: 0 }
    }

    fn all(mut self) {
        let together = if self.run.mode == "batch" { self.run.prompts.len() } else { 1 };
        for prompts in self.run.prompts.chunks(together) {
            let mut sequences: Vec<_> = prompts.iter().map(|prompt| self.arrive(prompt)).collect();
            while sequences.iter().any(|sequence| sequence.next_step < sequence.prompt.steps.len()) {
                self.iteration(&mut sequences);
            }
            for sequence in &sequences {
                self.check_sequence(sequence);
            }
            let last = &prompts[prompts.len() - 1];
            self.check_metrics(&last.spec_metrics_cumulative, &last.name);
        }
        self.check_metrics(&self.run.metrics, "at the end");
        self.check_no_others();
        self.check_rates();
    }

    fn arrive(&mut self, prompt: &'a Prompt) -> Sequence<'a> {
        let k = self.speculation.as_ref().map(|config| config.num_speculative_tokens);
        let mut proposer = self
            .speculation
            .as_ref()
            .map(|config| NgramProposer::new(config.prompt_lookup_min, config.prompt_lookup_max).unwrap());
        if let Some(proposer) = &mut proposer {
            proposer.extend(&prompt.prompt_token_ids);
        }
        // The recordings' blocks of 128 tokens are longer than anything their prompts share.
        self.registry.on_prefix_cache(prompt.prompt_token_ids.len(), 0);
        Sequence {
            prompt,
            name: format!("{}, {}", self.name, prompt.name),
            context: prompt.prompt_token_ids.clone(),
            proposer,
            recorder: RequestRecorder::new(self.clock, prompt.prompt_token_ids.len(), k),
            next_step: 0,
        }
    }

    /// One engine step over all sequences that are not done.
    fn iteration(&mut self, sequences: &mut [Sequence]) {
        self.clock += 1.0;
        let mut stats = IterationStats::default();
        let longest = std::mem::take(&mut self.longest);
        for sequence in sequences {
            let Some(step) = sequence.prompt.steps.get(sequence.next_step) else { continue };
            sequence.recorder.on_scheduled(self.clock - 0.5, 0);
            if sequence.next_step == 0 {
                stats.prompt_tokens += sequence.context.len();
            }
            stats.generation_tokens += self.step(sequence, step, longest);
        }
        self.registry.on_iteration(&stats);
    }

    /// One step of a sequence; returns how many tokens of it were left after the cut.
    fn step(&mut self, sequence: &mut Sequence, step: &Step, longest: usize) -> usize {
        let name = format!("{}, step {}", sequence.name, sequence.next_step);
        let prefill = sequence.next_step == 0;
        let mut draft = Vec::new();
        if let (Some(config), Some(proposer), false) = (&self.speculation, &sequence.proposer, prefill) {
            let window = DraftWindow { k: config.num_speculative_tokens, max_model_len: self.run.max_model_len };
            window.draft(proposer, sequence.context.len(), longest, &mut draft);
        }
        assert_eq!(draft, step.draft, "{name}: draft");
        let first_rows = if prefill { sequence.context.len() } else { 1 };
        assert_eq!(step.scheduled, first_rows + draft.len(), "{name}: rows");

        self.longest = self.longest.max(sequence.context.len() + draft.len());

        let mut tokens = Vec::new();
        let num_accepted = verify(&draft, &mut tokens, |row| Some(step.sampled[row]));
        assert_eq!(tokens, step.sampled, "{name}: tokens");
        self.registry.on_draft(draft.len(), num_accepted);
        sequence.recorder.on_draft(draft.len(), num_accepted);

        let prompt = sequence.prompt;
        let room = prompt.prompt_token_ids.len() + prompt.output_token_ids.len() - sequence.context.len();
        let kept = &tokens[..tokens.len().min(room)];
        sequence.context.extend_from_slice(kept);
        if let Some(proposer) = &mut sequence.proposer {
            proposer.extend(kept);
        }
        if let Some(latency) = sequence.recorder.on_tokens(self.clock, kept.len()) {
            self.registry.on_tokens(latency);
        }
        sequence.next_step += 1;
        if sequence.next_step == prompt.steps.len() {
            self.finish(sequence);
        }
        kept.len()
    }

    fn finish(&mut self, sequence: &Sequence) {
        let prompt = sequence.prompt;
        self.registry.on_request_finished(&FinishedRequest {
            reason: match prompt.finish_reason.as_str() {
                "stop" => FinishReason::Stop,
                "length" => FinishReason::Length,
                other => panic!("{}: finished by {other}", sequence.name),
            },
            max_tokens: Some(self.run.max_tokens),
            parent: Some(ParentRequest { n: 1, max_generation_tokens: prompt.output_token_ids.len() }),
            ..sequence.recorder.finish(self.clock).finished()
        });
    }

    fn check_sequence(&self, sequence: &Sequence) {
        let Sequence { prompt, name, context, recorder, .. } = sequence;
        assert_eq!(context[prompt.prompt_token_ids.len()..], prompt.output_token_ids, "{name}: output");
        let metrics = recorder.finish(self.clock);
        assert_eq!(metrics.num_generation_tokens, prompt.output_token_ids.len(), "{name}");
        assert_eq!(metrics.speculative_decoding.is_some(), self.speculation.is_some(), "{name}");
        if let (Some(recorded), Some(ours)) = (&prompt.output_spec_decode_metrics, metrics.speculative_decoding) {
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
        let stats = SpeculationStats::of(&self.registry.snapshot());
        assert_eq!(stats.is_some(), self.speculation.is_some(), "{}", self.name);
        let value = |name| named(&self.run.metrics, name).unwrap()["value"].as_f64().unwrap();
        if let Some(stats) = stats {
            let accepted = value("vllm:spec_decode_num_accepted_tokens");
            assert_eq!(stats.acceptance_rate(), accepted / value("vllm:spec_decode_num_draft_tokens"));
            assert_eq!(stats.mean_acceptance_length(), 1.0 + accepted / value("vllm:spec_decode_num_drafts"));
        }
    }

    fn snapshot(&self) -> Vec<Value> {
        let snapshot = self.registry.snapshot();
        snapshot.iter().map(|metric| serde_json::to_value(metric).unwrap()).collect()
    }
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
