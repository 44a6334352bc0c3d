//! What is counted, and when.

pub use super::catalog::Gauge;
use super::catalog::{CATALOG, Counter, Entry, Hist, NUM_COUNTERS, NUM_GAUGES, NUM_HISTOGRAMS, Source};
use super::histogram::{self, Histogram};
use super::request::{FinishReason, FinishedRequest, Latency};
use super::snapshot::{Labels, Metric, Snapshot, Value};

/// One engine step, as vLLM's iteration statistics see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IterationStats {
    /// Prompt tokens of the requests whose prefill ended in this step: their whole prompts, however they were chunked.
    pub prompt_tokens: usize,
    /// Those of them that the prefix cache had.
    pub cached_prompt_tokens: usize,
    /// Output tokens after the cut at a stop token or at `max_tokens`.
    pub generation_tokens: usize,
    /// Requests put back into the queue.
    pub preemptions: usize,
    /// Requests that ended since their logits held a NaN or an infinity.
    pub corrupted_requests: usize,
}

/// One engine step, as the device sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeviceStep {
    /// From submitting to having the samples, in seconds.
    pub seconds: f64,
    /// What the GPU spent on it, in seconds, where that can be measured.
    pub gpu_seconds: Option<f64>,
    /// Compute dispatches.
    pub dispatches: usize,
    /// Rows: prompt, decode and draft tokens.
    pub rows: usize,
    /// Bytes read back.
    pub readback_bytes: usize,
}

/// The KV cache's configuration, for `vllm:cache_config_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Positions a block.
    pub block_size: usize,
    /// Blocks there are.
    pub num_gpu_blocks: usize,
    /// Their bytes.
    pub kv_cache_memory_bytes: u64,
    /// Whether prompts reuse blocks of earlier prompts.
    pub enable_prefix_caching: bool,
    /// The element type, such as `float32`.
    pub cache_dtype: String,
    /// The attention window, where the model has one.
    pub sliding_window: Option<usize>,
}

/// All counters, gauges and histograms of one engine. Recording an event allocates nothing.
#[derive(Clone, Debug)]
pub struct Registry {
    model_name: String,
    max_model_len: usize,
    counters: [u64; NUM_COUNTERS],
    gauges: [f64; NUM_GAUGES],
    histograms: [Histogram; NUM_HISTOGRAMS],
    /// As long as the largest K so far; none until speculation is configured.
    accepted_per_position: Option<Vec<u64>>,
    cache_config: Option<CacheConfig>,
}

impl Registry {
    /// A registry in which nothing has happened. Token counts have buckets up to `max_model_len`.
    pub fn new(model_name: impl Into<String>, max_model_len: usize) -> Self {
        let mut gauges = [0.0; NUM_GAUGES];
        gauges[Gauge::One as usize] = 1.0;
        Self {
            model_name: model_name.into(),
            max_model_len,
            counters: [0; NUM_COUNTERS],
            gauges,
            histograms: Hist::ALL.map(|hist| Histogram::new(hist.bounds(max_model_len))),
            accepted_per_position: None,
            cache_config: None,
        }
    }

    /// Renames the model (`served_model_name`).
    pub fn set_model_name(&mut self, model_name: impl Into<String>) {
        self.model_name = model_name.into();
    }

    /// Tells of the KV cache.
    pub fn set_cache_config(&mut self, config: CacheConfig) {
        self.cache_config = Some(config);
    }

    /// Tells that drafts may have `k` tokens from now on: its metrics appear, or grow if no earlier `k` was as large.
    pub fn configure_speculation(&mut self, k: usize) {
        let positions = self.accepted_per_position.get_or_insert_default();
        positions.resize(positions.len().max(k), 0);
    }

    /// Sets what is the case now.
    pub fn set(&mut self, gauge: Gauge, value: f64) {
        if !matches!(gauge, Gauge::Zero | Gauge::One) {
            self.gauges[gauge as usize] = value;
        }
    }

    /// A request was refused since too many wait.
    pub fn on_rejection(&mut self) {
        self.add(Counter::Rejected, 1);
    }

    /// A prompt of `queries` tokens was looked up in the prefix cache, which had `hits` of them.
    pub fn on_prefix_cache(&mut self, queries: usize, hits: usize) {
        self.add(Counter::PrefixCacheQueries, queries);
        self.add(Counter::PrefixCacheHits, hits);
    }

    /// A step of a request had `num_draft` draft tokens scheduled and accepted the first `num_accepted` of them, before
    /// any cut. A step without draft tokens is no draft.
    pub fn on_draft(&mut self, num_draft: usize, num_accepted: usize) {
        if num_draft == 0 {
            return;
        }
        let num_accepted = num_accepted.min(num_draft);
        self.add(Counter::Drafts, 1);
        self.add(Counter::DraftTokens, num_draft);
        self.add(Counter::AcceptedTokens, num_accepted);
        self.configure_speculation(num_draft);
        for accepted in self.accepted_per_position.iter_mut().flatten().take(num_accepted) {
            *accepted += 1;
        }
    }

    /// Of what the proposer offered for a step of a request, so many tokens were drafted.
    pub fn on_depth(&mut self, depth: usize) {
        self.observe(Hist::Depth, depth as f64);
    }

    /// The engine goes on with another device, and so many sequences were put back into the queue.
    pub fn on_recovery(&mut self, num_preempted: usize) {
        self.add(Counter::Recoveries, 1);
        self.add(Counter::Preemptions, num_preempted);
    }

    /// A step of a request had so many tokens that its grammar forced, beside its drafts.
    pub fn on_forced(&mut self, num_forced: usize) {
        self.add(Counter::ForcedTokens, num_forced);
    }

    /// A proposal took so long.
    pub fn on_proposal(&mut self, seconds: f64) {
        self.observe(Hist::DraftTime, seconds);
    }

    /// A step yielded tokens of a request.
    pub fn on_tokens(&mut self, latency: Latency) {
        match latency {
            Latency::FirstToken(seconds) => self.observe(Hist::TimeToFirstToken, seconds),
            Latency::InterToken(seconds) => self.observe(Hist::InterTokenLatency, seconds),
        }
    }

    /// A step is done.
    pub fn on_iteration(&mut self, stats: &IterationStats) {
        let cached = stats.cached_prompt_tokens.min(stats.prompt_tokens);
        self.add(Counter::PromptTokens, stats.prompt_tokens);
        self.add(Counter::PromptTokensCached, cached);
        self.add(Counter::PromptTokensComputed, stats.prompt_tokens - cached);
        self.add(Counter::GenerationTokens, stats.generation_tokens);
        self.add(Counter::Preemptions, stats.preemptions);
        self.add(Counter::Corrupted, stats.corrupted_requests);
        self.observe(Hist::IterationTokens, (stats.prompt_tokens + stats.generation_tokens) as f64);
    }

    /// The device is done with a step.
    pub fn on_device_step(&mut self, step: &DeviceStep) {
        self.observe(Hist::StepTime, step.seconds);
        if let Some(seconds) = step.gpu_seconds {
            self.observe(Hist::GpuTime, seconds);
        }
        self.observe(Hist::Dispatches, step.dispatches as f64);
        self.observe(Hist::Rows, step.rows as f64);
        self.add(Counter::ReadbackBytes, step.readback_bytes);
    }

    /// A sequence is done. What concerns its parent (the request with its `n`) is observed with the last of them.
    pub fn on_request_finished(&mut self, request: &FinishedRequest) {
        self.add(
            match request.reason {
                FinishReason::Stop => Counter::FinishedStop,
                FinishReason::Length => Counter::FinishedLength,
                FinishReason::Abort => Counter::FinishedAbort,
                FinishReason::Error => Counter::FinishedError,
            },
            1,
        );
        let computed = request.prompt_tokens.saturating_sub(request.cached_prompt_tokens);
        self.observe(Hist::PromptTokens, request.prompt_tokens as f64);
        self.observe(Hist::PrefillKvComputed, computed as f64);
        self.observe(Hist::GenerationTokens, request.generation_tokens as f64);
        self.observe(Hist::Preemptions, request.preemptions as f64);
        if let Some(max_tokens) = request.max_tokens {
            self.observe(Hist::ParamMaxTokens, max_tokens as f64);
        }
        if let Some(parent) = request.parent {
            self.observe(Hist::ParamN, parent.n as f64);
            self.observe(Hist::MaxGenerationTokens, parent.max_generation_tokens as f64);
        }
        self.observe(Hist::E2eLatency, request.e2e_time);
        self.observe(Hist::QueueTime, request.queue_time);
        self.observe(Hist::PrefillTime, request.prefill_time);
        self.observe(Hist::DecodeTime, request.decode_time);
        self.observe(Hist::InferenceTime, request.inference_time);
        self.observe(Hist::TimePerOutputToken, request.time_per_output_token());
    }

    /// Sets counters and histograms back to zero (`resetMetrics`). What is the case stays, and so does what appeared.
    pub fn reset(&mut self) {
        self.counters.fill(0);
        self.histograms.iter_mut().for_each(Histogram::reset);
        self.accepted_per_position.iter_mut().for_each(|positions| positions.fill(0));
    }

    /// Everything, as it is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(CATALOG.iter().filter_map(|entry| self.metric(entry)).collect())
    }

    fn metric(&self, entry: &Entry) -> Option<Metric> {
        let speculation = self.accepted_per_position.as_ref();
        let value = match entry.source {
            Source::Speculation(counter) => speculation.map(|_| Value::Counter(self.counters[counter as usize]))?,
            Source::AcceptedPerPosition => Value::Vector(speculation?.clone()),
            Source::Counter(counter) => Value::Counter(self.counters[counter as usize]),
            Source::Gauge(gauge) => Value::Gauge(self.gauges[gauge as usize]),
            Source::WasmHeap => Value::Gauge(wasm_heap_bytes() as f64),
            Source::Histogram(hist) => {
                let histogram = &self.histograms[hist as usize];
                Value::Histogram { sum: histogram.sum(), buckets: histogram.cumulative().collect() }
            }
            Source::CacheConfig => {
                let labels = self.cache_config.as_ref()?.labels(self.max_model_len);
                return Some(Metric { name: entry.name, labels, value: Value::Gauge(1.0) });
            }
        };
        let mut labels = Labels::default();
        labels.push("model_name", self.model_name.as_str());
        if entry.per_engine {
            labels.push("engine", "0");
        }
        if let Some((key, value)) = entry.label {
            labels.push(key, value);
        }
        Some(Metric { name: entry.name, labels, value })
    }

    fn add(&mut self, counter: Counter, amount: usize) {
        self.counters[counter as usize] += amount as u64;
    }

    fn observe(&mut self, hist: Hist, value: f64) {
        self.histograms[hist as usize].observe(value);
    }
}

/// Bytes of the WebAssembly heap as it is now; natively there is none.
fn wasm_heap_bytes() -> usize {
    #[cfg(target_arch = "wasm32")]
    return core::arch::wasm32::memory_size(0) << 16;
    #[cfg(not(target_arch = "wasm32"))]
    0
}

impl CacheConfig {
    /// vLLM's labels, in its (Python's) spelling, less those about what only vLLM has. As there, no `model_name`.
    fn labels(&self, max_model_len: usize) -> Labels {
        let python = |value: bool| if value { "True" } else { "False" };
        let blocks_a_sequence = max_model_len.div_ceil(self.block_size.max(1)).max(1);
        let concurrency = self.num_gpu_blocks as f64 / blocks_a_sequence as f64;
        // vLLM counts the tokens of sequences of full length: the unused end of their last blocks is not capacity.
        let tokens = (concurrency * max_model_len as f64) as u64;
        let mut labels = Labels::default();
        labels.push("block_size", self.block_size.to_string());
        labels.push("cache_dtype", self.cache_dtype.as_str());
        labels.push("is_attention_free", python(false));
        labels.push("sliding_window", self.sliding_window.map_or("None".into(), |window| window.to_string()));
        labels.push("enable_prefix_caching", python(self.enable_prefix_caching));
        labels.push("num_gpu_blocks", self.num_gpu_blocks.to_string());
        labels.push("kv_cache_size_tokens", tokens.to_string());
        labels.push("kv_cache_max_concurrency", format!("{concurrency:?}"));
        labels.push("hash_block_size", self.block_size.to_string());
        labels.push("kv_cache_memory_bytes", self.kv_cache_memory_bytes.to_string());
        labels.push("engine", "0");
        labels
    }
}

impl Hist {
    /// All of them, in order of their numbers.
    const ALL: [Self; NUM_HISTOGRAMS] = [
        Self::PromptTokens,
        Self::GenerationTokens,
        Self::IterationTokens,
        Self::MaxGenerationTokens,
        Self::ParamN,
        Self::ParamMaxTokens,
        Self::TimeToFirstToken,
        Self::InterTokenLatency,
        Self::TimePerOutputToken,
        Self::E2eLatency,
        Self::QueueTime,
        Self::InferenceTime,
        Self::PrefillTime,
        Self::DecodeTime,
        Self::Preemptions,
        Self::PrefillKvComputed,
        Self::StepTime,
        Self::GpuTime,
        Self::DraftTime,
        Self::Depth,
        Self::Dispatches,
        Self::Rows,
    ];

    fn bounds(self, max_model_len: usize) -> Vec<f64> {
        match self {
            Self::PromptTokens
            | Self::GenerationTokens
            | Self::MaxGenerationTokens
            | Self::ParamMaxTokens
            | Self::PrefillKvComputed => histogram::one_two_five(max_model_len),
            Self::IterationTokens => histogram::ITERATION_TOKENS.into(),
            Self::ParamN => histogram::PARAM_N.into(),
            Self::TimeToFirstToken => histogram::FIRST_TOKEN.into(),
            Self::InterTokenLatency | Self::TimePerOutputToken => histogram::PER_TOKEN.into(),
            Self::E2eLatency | Self::QueueTime | Self::InferenceTime | Self::PrefillTime | Self::DecodeTime => {
                histogram::REQUEST.into()
            }
            Self::Preemptions => histogram::PREEMPTIONS.into(),
            Self::StepTime | Self::GpuTime => histogram::STEP_TIME.into(),
            Self::DraftTime => histogram::DRAFT_TIME.into(),
            Self::Depth => histogram::DEPTH.into(),
            Self::Dispatches => histogram::DISPATCHES.into(),
            Self::Rows => histogram::ROWS.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(registry: &Registry) -> Option<Vec<u64>> {
        match registry.snapshot().get("vllm:spec_decode_num_accepted_tokens_per_pos")?.value.clone() {
            Value::Vector(values) => Some(values),
            other => panic!("not a vector: {other:?}"),
        }
    }

    #[test]
    fn histograms_are_numbered_in_order() {
        assert!(Hist::ALL.iter().enumerate().all(|(i, &hist)| hist as usize == i));
    }

    #[test]
    fn speculation_appears_when_configured_and_only_grows() {
        let mut registry = Registry::new("m", 128);
        assert_eq!(vector(&registry), None);
        assert!(registry.snapshot().get("vllm:spec_decode_num_drafts").is_none());
        registry.configure_speculation(2);
        registry.on_draft(2, 1);
        registry.on_draft(0, 0);
        registry.configure_speculation(3);
        registry.configure_speculation(1);
        assert_eq!(vector(&registry), Some(vec![1, 0, 0]));
        assert_eq!(registry.snapshot().counter("vllm:spec_decode_num_drafts"), Some(1));
        registry.reset();
        assert_eq!(vector(&registry), Some(vec![0, 0, 0]));
    }

    #[test]
    fn a_reset_leaves_gauges_alone() {
        let mut registry = Registry::new("m", 128);
        registry.set(Gauge::KvCacheUsage, 0.5);
        registry.set(Gauge::Zero, 7.0);
        registry.on_prefix_cache(10, 4);
        registry.on_iteration(&IterationStats { prompt_tokens: 10, cached_prompt_tokens: 4, ..Default::default() });
        registry.reset();
        let snapshot = registry.snapshot();
        assert_eq!(snapshot.counter("vllm:prompt_tokens"), Some(0));
        assert_eq!(snapshot.get("vllm:kv_cache_usage_perc").unwrap().value, Value::Gauge(0.5));
        assert_eq!(snapshot.get("vllm:engine_sleep_state").unwrap().value, Value::Gauge(1.0));
    }

    #[test]
    fn the_cache_configuration_is_in_labels() {
        let mut registry = Registry::new("m", 2048);
        assert!(registry.snapshot().get("vllm:cache_config_info").is_none());
        registry.set_cache_config(CacheConfig {
            block_size: 128,
            num_gpu_blocks: 182,
            kv_cache_memory_bytes: 1 << 30,
            enable_prefix_caching: true,
            cache_dtype: "auto".into(),
            sliding_window: None,
        });
        let snapshot = registry.snapshot();
        let labels = &snapshot.get("vllm:cache_config_info").unwrap().labels;
        for (key, value) in [
            ("block_size", "128"),
            ("num_gpu_blocks", "182"),
            ("enable_prefix_caching", "True"),
            ("kv_cache_size_tokens", "23296"),
            ("kv_cache_max_concurrency", "11.375"),
        ] {
            assert_eq!(labels.get(key), Some(value), "{key}");
        }
        assert_eq!(labels.get("model_name"), None);
    }
}
