//! Every metric there is, in the order vLLM reports them: name, help, what it reads, its own label.

/// Counters: they only rise, until `resetMetrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    Drafts,
    DraftTokens,
    AcceptedTokens,
    PrefixCacheQueries,
    PrefixCacheHits,
    Preemptions,
    Corrupted,
    Rejected,
    PromptTokens,
    PromptTokensComputed,
    PromptTokensCached,
    GenerationTokens,
    FinishedStop,
    FinishedLength,
    FinishedAbort,
    FinishedError,
    ReadbackBytes,
    ForcedTokens,
    Recoveries,
    /// What vLLM reports and this engine has no occasion to count. Stays zero; keep it last.
    Never,
}

/// Gauges: what is the case now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Requests that have rows in the engine's steps.
    RequestsRunning,
    /// Requests that wait for KV memory or a slot.
    RequestsWaiting,
    /// The part of the KV blocks in use, 0 to 1.
    KvCacheUsage,
    /// Bytes of GPU buffers the engine holds.
    GpuMemoryBytes,
    /// 1 when rows had to be served by one kernel alone since several did not agree bit for bit on this adapter.
    SingleKernelPath,
    WrongKernel,
    /// What vLLM reports and is never the case here.
    #[doc(hidden)]
    Zero,
    /// What is always so.
    #[doc(hidden)]
    One,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hist {
    PromptTokens,
    GenerationTokens,
    IterationTokens,
    MaxGenerationTokens,
    ParamN,
    ParamMaxTokens,
    TimeToFirstToken,
    InterTokenLatency,
    TimePerOutputToken,
    E2eLatency,
    QueueTime,
    InferenceTime,
    PrefillTime,
    DecodeTime,
    Preemptions,
    PrefillKvComputed,
    StepTime,
    GpuTime,
    DraftTime,
    Depth,
    Dispatches,
    /// Keep it last.
    Rows,
}

/// How many of each there are.
pub(super) const NUM_COUNTERS: usize = Counter::Never as usize + 1;
pub(super) const NUM_GAUGES: usize = Gauge::One as usize + 1;
pub(super) const NUM_HISTOGRAMS: usize = Hist::Rows as usize + 1;

/// What a metric reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// Of speculation: reported once that has been configured.
    Speculation(Counter),
    /// Likewise; a vector with an element a draft position.
    AcceptedPerPosition,
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Hist),
    /// The WebAssembly heap's bytes, looked at when asked for.
    WasmHeap,
    /// Always 1; the labels are what it says. Reported once the cache's configuration is known.
    CacheConfig,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub name: &'static str,
    pub help: &'static str,
    pub source: Source,
    /// The label besides `model_name` and `engine`.
    pub label: Option<(&'static str, &'static str)>,
    /// vLLM's front end counts refusals, before there is an engine to name.
    pub per_engine: bool,
}

const fn entry(name: &'static str, source: Source, help: &'static str) -> Entry {
    Entry { name, help, source, label: None, per_engine: true }
}

const fn counter(name: &'static str, counter: Counter, help: &'static str) -> Entry {
    entry(name, Source::Counter(counter), help)
}

const fn gauge(name: &'static str, gauge: Gauge, help: &'static str) -> Entry {
    entry(name, Source::Gauge(gauge), help)
}

const fn histogram(name: &'static str, hist: Hist, help: &'static str) -> Entry {
    entry(name, Source::Histogram(hist), help)
}

impl Entry {
    const fn with(self, key: &'static str, value: &'static str) -> Self {
        Self { label: Some((key, value)), ..self }
    }

    const fn front_end(self) -> Self {
        Self { per_engine: false, ..self }
    }
}

/// The help of a metric of this name.
pub(super) fn help(name: &str) -> Option<&'static str> {
    CATALOG.iter().find(|entry| entry.name == name).map(|entry| entry.help)
}

use Counter as C;
use Gauge as G;
use Hist as H;

const WAITING_BY_REASON: &str = "Requests waiting, by reason.";
const SLEEP_STATE: &str = "Whether the engine is in this state of sleep.";
const PROMPT_BY_SOURCE: &str = "Prompt tokens, by where their KV came from.";
const CACHED_BY_SOURCE: &str = "Prompt tokens not computed again, by where their KV was kept.";
const SUCCESS: &str = "Finished requests, by reason.";
const REJECTIONS: &str = "Requests refused before they were queued, by reason.";

pub(super) const CATALOG: &[Entry] = &[
    entry(
        "vllm:spec_decode_num_drafts",
        Source::Speculation(C::Drafts),
        "Steps of a request that had at least one draft token.",
    ),
    entry("vllm:spec_decode_num_draft_tokens", Source::Speculation(C::DraftTokens), "Draft tokens scheduled."),
    entry("vllm:spec_decode_num_accepted_tokens", Source::Speculation(C::AcceptedTokens), "Draft tokens accepted."),
    entry(
        "vllm:spec_decode_num_accepted_tokens_per_pos",
        Source::AcceptedPerPosition,
        "Drafts whose token at this position was accepted.",
    ),
    counter("vllm:estimated_flops_per_gpu", C::Never, "Not estimated here."),
    counter("vllm:estimated_read_bytes_per_gpu", C::Never, "Not estimated here."),
    counter("vllm:estimated_write_bytes_per_gpu", C::Never, "Not estimated here."),
    gauge("vllm:num_requests_running", G::RequestsRunning, "Requests in the engine's steps."),
    gauge("vllm:num_requests_waiting", G::RequestsWaiting, "Requests waiting to be scheduled."),
    gauge("vllm:num_requests_waiting_by_reason", G::RequestsWaiting, WAITING_BY_REASON).with("reason", "capacity"),
    gauge("vllm:num_requests_waiting_by_reason", G::Zero, WAITING_BY_REASON).with("reason", "deferred"),
    gauge("vllm:engine_sleep_state", G::One, SLEEP_STATE).with("sleep_state", "awake"),
    gauge("vllm:engine_sleep_state", G::Zero, SLEEP_STATE).with("sleep_state", "weights_offloaded"),
    gauge("vllm:engine_sleep_state", G::Zero, SLEEP_STATE).with("sleep_state", "discard_all"),
    gauge("vllm:kv_cache_usage_perc", G::KvCacheUsage, "The part of the KV blocks in use; 1 is all of them."),
    counter("vllm:corrupted_requests", C::Corrupted, "Requests that ended at logits with a NaN or an infinity."),
    counter("vllm:prefix_cache_queries", C::PrefixCacheQueries, "Prompt tokens looked up in the prefix cache."),
    counter("vllm:prefix_cache_hits", C::PrefixCacheHits, "Prompt tokens found in the prefix cache."),
    counter("vllm:external_prefix_cache_queries", C::Never, "There is no external cache here."),
    counter("vllm:external_prefix_cache_hits", C::Never, "There is no external cache here."),
    counter("vllm:mm_cache_queries", C::Never, "There are no multi-modal inputs here."),
    counter("vllm:mm_cache_hits", C::Never, "There are no multi-modal inputs here."),
    counter(
        "vllm:num_preemptions",
        C::Preemptions,
        "Requests put back into the queue since their keys and values were gone.",
    ),
    counter("vllm:prompt_tokens", C::PromptTokens, "Prompt tokens of requests whose prefill is done."),
    counter("vllm:prompt_tokens_by_source", C::PromptTokensComputed, PROMPT_BY_SOURCE).with("source", "local_compute"),
    counter("vllm:prompt_tokens_by_source", C::PromptTokensCached, PROMPT_BY_SOURCE).with("source", "local_cache_hit"),
    counter("vllm:prompt_tokens_by_source", C::Never, PROMPT_BY_SOURCE).with("source", "external_kv_transfer"),
    counter("vllm:prompt_tokens_cached", C::PromptTokensCached, "Prompt tokens not computed again."),
    counter("vllm:prompt_tokens_cached_by_source", C::PromptTokensCached, CACHED_BY_SOURCE).with("source", "device"),
    counter("vllm:prompt_tokens_cached_by_source", C::Never, CACHED_BY_SOURCE).with("source", "host"),
    counter("vllm:prompt_tokens_cached_by_source", C::Never, CACHED_BY_SOURCE).with("source", "p2p"),
    counter("vllm:prompt_tokens_cached_by_source", C::Never, CACHED_BY_SOURCE).with("source", "disk"),
    counter("vllm:prompt_tokens_cached_by_source", C::Never, CACHED_BY_SOURCE).with("source", "external_unspecified"),
    counter("vllm:generation_tokens", C::GenerationTokens, "Output tokens, after the cut at a stop or at max_tokens."),
    counter("vllm:request_success", C::FinishedStop, SUCCESS).with("finished_reason", "stop"),
    counter("vllm:request_success", C::FinishedLength, SUCCESS).with("finished_reason", "length"),
    counter("vllm:request_success", C::FinishedAbort, SUCCESS).with("finished_reason", "abort"),
    counter("vllm:request_success", C::FinishedError, SUCCESS).with("finished_reason", "error"),
    counter("vllm:request_success", C::Never, SUCCESS).with("finished_reason", "repetition"),
    counter("vllm:admission_rejections", C::Rejected, REJECTIONS).with("reason", "max_num_queued_reqs").front_end(),
    counter("vllm:admission_rejections", C::Never, REJECTIONS).with("reason", "max_num_queued_tokens").front_end(),
    histogram("vllm:request_prompt_tokens", H::PromptTokens, "Prompt tokens of a request."),
    histogram("vllm:request_generation_tokens", H::GenerationTokens, "Output tokens of a request."),
    histogram("vllm:iteration_tokens_total", H::IterationTokens, "Prompt and output tokens of a step."),
    histogram(
        "vllm:request_max_num_generation_tokens",
        H::MaxGenerationTokens,
        "Output tokens of the longest of a request's n sequences.",
    ),
    histogram("vllm:request_params_n", H::ParamN, "The parameter n of a request."),
    histogram("vllm:request_params_max_tokens", H::ParamMaxTokens, "The parameter max_tokens of a request."),
    histogram("vllm:time_to_first_token_seconds", H::TimeToFirstToken, "From arrival to the first token."),
    histogram(
        "vllm:inter_token_latency_seconds",
        H::InterTokenLatency,
        "From one step that yields tokens of a request to the next.",
    ),
    histogram(
        "vllm:request_time_per_output_token_seconds",
        H::TimePerOutputToken,
        "A request's decode time by its tokens after the first.",
    ),
    histogram("vllm:e2e_request_latency_seconds", H::E2eLatency, "From arrival to the end of a request."),
    histogram("vllm:request_queue_time_seconds", H::QueueTime, "From queued to scheduled."),
    histogram("vllm:request_inference_time_seconds", H::InferenceTime, "From scheduled to the last token."),
    histogram("vllm:request_prefill_time_seconds", H::PrefillTime, "From scheduled to the first token."),
    histogram("vllm:request_decode_time_seconds", H::DecodeTime, "From the first token to the last."),
    histogram("vllm:request_num_preemptions", H::Preemptions, "Preemptions of a request."),
    histogram(
        "vllm:request_prefill_kv_computed_tokens",
        H::PrefillKvComputed,
        "Prompt tokens of a request that the prefix cache did not have.",
    ),
    entry("vllm:cache_config_info", Source::CacheConfig, "The configuration of the KV cache, as labels."),
    histogram("embergram:step_time_seconds", H::StepTime, "From submitting a step to having its samples."),
    histogram(
        "embergram:gpu_time_seconds",
        H::GpuTime,
        "What the GPU spent on a step, on adapters with timestamp queries.",
    ),
    histogram("embergram:draft_time_seconds", H::DraftTime, "Proposing the draft tokens of one step of a request."),
    counter(
        "embergram:forced_tokens",
        C::ForcedTokens,
        "Output tokens to which a grammar left no other, verified in the step of the token before.",
    ),
    counter(
        "embergram:recoveries",
        C::Recoveries,
        "Times that the engine went on with another device after it lost one.",
    ),
    histogram(
        "embergram:draft_depth",
        H::Depth,
        "Draft tokens of a step of a request for which the proposer offered some; 0 where auto found none that paid.",
    ),
    histogram("embergram:dispatches_per_step", H::Dispatches, "Compute dispatches of a step."),
    histogram("embergram:rows_per_step", H::Rows, "Rows of a step: prompt, decode and draft tokens."),
    counter("embergram:readback_bytes", C::ReadbackBytes, "Bytes read back from the GPU."),
    gauge("embergram:gpu_memory_bytes", G::GpuMemoryBytes, "Bytes of GPU buffers the engine holds."),
    entry("embergram:wasm_heap_bytes", Source::WasmHeap, "Bytes of the WebAssembly heap."),
    gauge(
        "embergram:single_kernel_path",
        G::SingleKernelPath,
        "1 if kernels for several rows disagreed with those for one on this adapter and are not used.",
    ),
    gauge("embergram:wrong_kernel", G::WrongKernel, "1 if a GPU is not used since it computed a kernel wrongly."),
];
