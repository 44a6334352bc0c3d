//! The model as a user has it: load it from the bytes of a GGUF, generate, read the metrics.

use crate::config::{LlmConfig, SamplingParams};
use crate::engine::{Engine, SequenceOutput};
use crate::format::gguf::Metadata;
use crate::gpu::plan::Capacity;
use crate::gpu::{Gpu, Plan};
use crate::metrics::{CacheConfig, Registry, Snapshot};
use crate::model::{Loader, ModelConfig};
use crate::sample::request_seed;
use crate::speculate::{SpeculativeConfig, StepCost};
use crate::text::{ChatTemplate, Message, Tokenizer, TokenizerSource};
use crate::{Error, ErrorCode, Result};
use serde::Serialize;

/// Rows a step where `max_num_batched_tokens` is not given.
const DEFAULT_ROWS: usize = 64;
/// Bytes of KV cache where `kv_cache_memory_bytes` is not given, unless all sequences need less.
const DEFAULT_KV_BYTES: u64 = 256 << 20;

/// A prompt as text or as token ids.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Text, tokenized with the model's special tokens.
    Text(String),
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
}

/// Takes a GGUF file piece by piece and becomes an [`Llm`].
pub struct LlmLoader {
    gpu: Gpu,
    config: LlmConfig,
    loader: Loader<Gpu>,
}

impl LlmLoader {
    /// A loader onto this device. Checks what can be checked before any byte has come.
    ///
    /// # Errors
    /// `invalid_config` for a bad `speculative_config`.
    pub fn new(gpu: Gpu, config: LlmConfig) -> Result<Self> {
        speculation(&config)?;
        Ok(Self { loader: Loader::new(gpu.clone()), gpu, config })
    }

    /// Takes the header of a further part of a split file; see [`Loader::announce`].
    pub fn announce(&mut self, bytes: &[u8]) -> Result<bool> {
        self.loader.announce(bytes)
    }

    /// Ends one part of a split file; see [`Loader::next_part`].
    pub fn next_part(&mut self) -> Result<()> {
        self.loader.next_part()
    }

    /// Takes the next bytes, in pieces of any size; see [`Loader::push`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.loader.push(bytes)
    }

    /// Takes a whole source, such as an open file; see [`Loader::read`].
    pub fn read(&mut self, source: impl std::io::Read) -> Result<()> {
        self.loader.read(source)
    }

    /// Ends the file and builds tokenizer, cache and pipelines.
    ///
    /// # Errors
    /// `truncated_file`, `unsupported_model` for a tokenizer or template the engine does not know, `invalid_config` for a
    /// `max_model_len` beyond the model's context or a cache too small for one block, `adapter_too_small` for options that
    /// ask for more than the adapter's limits.
    pub fn finish(self) -> Result<Llm> {
        let mut model = self.loader.finish()?;
        let capacity = capacity(&self.config, &model.config, &self.gpu)?;
        let plan = Plan::new(&self.gpu, &model.program(capacity.positions), capacity)?;
        let (model, header) = (&model.config, &mut model.header);
        let tokenizer = Tokenizer::new(tokenizer_source(&mut header.metadata)?)?;
        let template = chat_template(&header.metadata, &tokenizer)?;
        let name = match &self.config.served_model_name {
            Some(name) => name.clone(),
            None => header.metadata.opt_str("general.name")?.unwrap_or("model").to_string(),
        };
        let mut metrics = Registry::new(name.clone(), capacity.positions);
        metrics.set_cache_config(CacheConfig {
            block_size: capacity.block_size,
            num_gpu_blocks: capacity.blocks,
            kv_cache_memory_bytes: capacity.blocks as u64 * block_bytes(model, capacity.block_size),
            enable_prefix_caching: self.config.enable_prefix_caching,
            cache_dtype: "float32".to_string(),
            sliding_window: None,
        });
        let mut engine = Engine::new(plan, tokenizer, model.vocab, self.config.enable_prefix_caching, metrics);
        engine.set_speculation(speculation(&self.config)?);
        let info = ModelInfo {
            name,
            max_model_len: capacity.positions,
            vocab_size: model.vocab,
            has_chat_template: template.is_some(),
        };
        Ok(Llm { info, engine, template, seed: self.config.seed, unseeded: 0, undelivered: Vec::new() })
    }
}

fn speculation(config: &LlmConfig) -> Result<Option<SpeculativeConfig>> {
    config.speculative_config.as_ref().map(SpeculativeConfig::from_json).transpose()
}

fn layer_block_bytes(model: &ModelConfig, block_size: usize) -> u64 {
    block_size as u64 * 2 * model.kv_d() as u64 * 4
}

fn block_bytes(model: &ModelConfig, block_size: usize) -> u64 {
    model.layers.len() as u64 * layer_block_bytes(model, block_size)
}

/// What the plan's buffers are to hold. Options may ask for any size, and addresses have 32 bits in a browser: all that can
/// be too large is refused here, before anything is made of it.
fn capacity(config: &LlmConfig, model: &ModelConfig, gpu: &Gpu) -> Result<Capacity> {
    let invalid = |message: String| Err(Error::new(ErrorCode::InvalidConfig, message));
    let bytes = block_bytes(model, config.block_size);
    let affordable = config.kv_cache_memory_bytes.unwrap_or(DEFAULT_KV_BYTES) / bytes;
    if affordable == 0 {
        return invalid(format!("kv_cache_memory_bytes is too small for one block; give at least {bytes}"));
    }
    // As in vLLM one sequence of the greatest length must fit, so that no request is refused later for want of memory.
    let held = affordable.saturating_mul(config.block_size as u64);
    let positions = config.max_model_len.unwrap_or((model.context as u64).min(held) as usize);
    if positions > model.context {
        return invalid(format!(
            "max_model_len is {positions}, but the model's context is {}; lower it",
            model.context
        ));
    }
    if positions as u64 > held {
        let needed = (positions as u64).div_ceil(config.block_size as u64).saturating_mul(bytes);
        return invalid(format!(
            "max_model_len is {positions}, but the KV cache holds {held} positions; lower it, or give \
             kv_cache_memory_bytes at least {needed}"
        ));
    }
    // Each sequence needs a row of a step, and a sample.
    let least = DEFAULT_ROWS.max(config.max_num_seqs);
    let rows = config.max_num_batched_tokens.unwrap_or(least);
    let outputs = rows.min(least);
    // A step has a workgroup for each row, or for each eight heads of a row.
    let most = gpu.device.limits().max_compute_workgroups_per_dimension as usize / model.heads.div_ceil(8);
    if rows > most {
        let message = format!(
            "max_num_batched_tokens or max_num_seqs asks for {rows} rows a step, but this model on adapter '{}' can have \
             {most}; lower it",
            gpu.adapter.name
        );
        return Err(Error::new(ErrorCode::AdapterTooSmall, message));
    }
    let table = positions.div_ceil(config.block_size) as u64;
    let wanted = config.max_num_seqs as u64 * table;
    let fits = |count: usize, words: u64, what: &str, remedy: &str| {
        gpu.fits((count as u64).saturating_mul(words * 4), what, remedy)
    };
    let widest = model.ff.max(model.d).max(model.q_d()) as u64;
    fits(rows, widest, "the activations of a step's rows", "lower max_num_batched_tokens or max_num_seqs")?;
    fits(outputs, model.vocab as u64 + 1, "the logits of a step's rows", "lower max_num_seqs")?;
    fits(config.max_num_seqs, table, "the block tables", "lower max_num_seqs or max_model_len")?;
    fits(positions, model.head_dim as u64, "the rotary table", "lower max_model_len")?;
    let blocks = wanted.min(affordable);
    let layer = blocks.saturating_mul(layer_block_bytes(model, config.block_size));
    gpu.fits(layer, "the KV cache of a layer", "lower kv_cache_memory_bytes")?;
    Ok(Capacity {
        rows,
        outputs,
        slots: config.max_num_seqs,
        positions,
        blocks: blocks as usize,
        block_size: config.block_size,
    })
}

fn tokenizer_source(m: &mut Metadata) -> Result<TokenizerSource> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const MERGES: &str = "tokenizer.ggml.merges";
    let token_types = match m.get("tokenizer.ggml.token_type") {
        Some(_) => m.i32s("tokenizer.ggml.token_type")?.to_vec(),
        None => Vec::new(),
    };
    let pre = m.opt_str("tokenizer.ggml.pre")?.unwrap_or("default").to_string();
    let bos = m.opt_u32("tokenizer.ggml.bos_token_id")?;
    let model = m.str("tokenizer.ggml.model")?.to_string();
    let sentencepiece = model == "llama";
    // Files of Llama 2 and 3 often do without the key.
    let adds_bos = bos.is_some() && TokenizerSource::adds_bos(&model, &pre);
    let add_bos = m.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
    let scores = if sentencepiece { m.f32s("tokenizer.ggml.scores")?.to_vec() } else { Vec::new() };
    Ok(TokenizerSource {
        model,
        scores,
        add_space_prefix: m.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        rstrip_special: sentencepiece && m.opt_str("general.architecture")? == Some("phi3"),
        pre,
        bos,
        eos: m.opt_u32("tokenizer.ggml.eos_token_id")?,
        eot: m.opt_u32("tokenizer.ggml.eot_token_id")?,
        add_bos,
        token_types,
        tokens: m.take_strings(TOKENS)?,
        merges: if sentencepiece { Vec::new() } else { m.take_strings(MERGES)? },
    })
}

fn chat_template(m: &Metadata, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
    let Some(source) = m.opt_str("tokenizer.chat_template")? else { return Ok(None) };
    let text = |id: Option<u32>| id.map_or(String::new(), |id| tokenizer.decode(&[id], false));
    let eos = m.opt_u32("tokenizer.ggml.eos_token_id")?;
    ChatTemplate::new(source, &text(tokenizer.bos()), &text(eos)).map(Some)
}

fn fresh_seed() -> Result<u64> {
    getrandom::u64().map_err(|e| Error::new(ErrorCode::Internal, format!("no random seed ({e}); give `seed`")))
}

/// What is known of a loaded model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelInfo {
    /// `served_model_name`, or else the file's own name for it.
    pub name: String,
    /// Most tokens of a prompt and its output together.
    pub max_model_len: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Whether `chat_prompt` works.
    pub has_chat_template: bool,
}

/// A loaded model.
///
/// [`generate`](Self::generate) runs prompts to their ends. A caller with other things to do between two steps queues
/// requests with [`add`](Self::add) and calls [`step`](Self::step) while it [`is_busy`](Self::is_busy).
pub struct Llm {
    info: ModelInfo,
    engine: Engine,
    template: Option<ChatTemplate>,
    seed: Option<u64>,
    /// Requests so far that brought no seed.
    unseeded: u64,
    /// What `generate` got for sequences that are not its own, for the next `step`.
    undelivered: Vec<SequenceOutput>,
}

impl Llm {
    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Text or ids to ids.
    pub fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        match prompt {
            Prompt::Text(text) => self.engine.tokenizer().encode(text, true),
            Prompt::Tokens(ids) => Ok(ids.clone()),
        }
    }

    /// The text of these ids, special tokens included; see [`Tokenizer::decode`].
    pub fn detokenize(&self, ids: &[u32]) -> String {
        self.engine.tokenizer().decode(ids, false)
    }

    /// The prompt of a chat, by the model's own template.
    ///
    /// # Errors
    /// `unsupported_model` when the file has none, `invalid_prompt` when the template refuses the messages.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Prompt> {
        let Some(template) = &self.template else {
            let message = "the model has no chat template; call generate with a prompt in its own format";
            return Err(Error::new(ErrorCode::UnsupportedModel, message));
        };
        // The template writes the special tokens itself.
        Ok(Prompt::Tokens(self.engine.tokenizer().encode(&template.render(messages, true)?, false)?))
    }

    /// Queues a request. Returns the ids of its `n` sequences, in order; sequence i samples with its seed + i.
    ///
    /// The seed is the request's own. Without one it comes of the engine's seed and of how many requests without one came
    /// before: such requests differ from each other, and the same requests in the same order give the same tokens again,
    /// as in vLLM. Without an engine's seed it is random.
    ///
    /// # Errors
    /// See [`Engine::add`]. Nothing is queued then.
    pub fn add(&mut self, prompt: &Prompt, params: &SamplingParams) -> Result<Vec<u64>> {
        let tokens = self.tokenize(prompt)?;
        let seed = match (params.seed, self.seed) {
            (Some(seed), _) => seed,
            (None, Some(seed)) => request_seed(seed, self.unseeded),
            (None, None) => fresh_seed()?,
        };
        let ids = self.engine.add(&tokens, params, seed)?;
        self.unseeded += u64::from(params.seed.is_none());
        Ok(ids)
    }

    /// Runs every pipeline once and checks what lossless speculation rests on; else the first step does. See
    /// [`Engine::warm_up`].
    pub async fn warm_up(&mut self, known: Option<bool>) -> Result<bool> {
        self.engine.warm_up(known).await
    }

    /// What tells the kernels of this model from those of others; what [`warm_up`](Self::warm_up) saw may be kept by it.
    pub fn fingerprint(&self) -> u64 {
        self.engine.fingerprint()
    }

    /// Runs one step over all sequences in flight; returns what it added to each that got tokens. The last output of a
    /// sequence has its `finish_reason`.
    ///
    /// # Errors
    /// See [`Engine::step`]: all sequences in flight are lost then.
    pub async fn step(&mut self) -> Result<Vec<SequenceOutput>> {
        let new = if self.engine.is_busy() { self.engine.step().await? } else { Vec::new() };
        let mut outputs = std::mem::take(&mut self.undelivered);
        outputs.extend(new);
        Ok(outputs)
    }

    /// Ends a sequence between two steps. Returns its last output, or `None` when it is not in flight.
    pub fn abort(&mut self, id: u64) -> Option<SequenceOutput> {
        self.engine.abort(id)
    }

    /// Whether [`step`](Self::step) has something to do.
    pub fn is_busy(&self) -> bool {
        self.engine.is_busy() || !self.undelivered.is_empty()
    }

    /// Runs all prompts to their ends, in shared steps. Returns each prompt's `n` outputs, in order. When one is refused,
    /// none of them runs. Sequences queued by [`add`](Self::add) run along.
    ///
    /// # Errors
    /// See [`add`](Self::add) and [`step`](Self::step).
    pub async fn generate(&mut self, prompts: &[Prompt], params: &SamplingParams) -> Result<Vec<Vec<SequenceOutput>>> {
        let mut outputs: Vec<Vec<SequenceOutput>> = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            match self.add(prompt, params) {
                Ok(ids) => {
                    let empty = |id| SequenceOutput { id, ..Default::default() };
                    outputs.push(ids.into_iter().map(empty).collect());
                }
                Err(error) => {
                    for output in outputs.iter().flatten() {
                        self.engine.abort(output.id);
                    }
                    return Err(error);
                }
            }
        }
        while outputs.iter().flatten().any(|output| output.finish_reason.is_none()) {
            for delta in self.engine.step().await? {
                match outputs.iter_mut().flatten().find(|output| output.id == delta.id) {
                    Some(output) => output.extend(delta),
                    None => self.undelivered.push(delta),
                }
            }
        }
        Ok(outputs)
    }

    /// Speculation for the requests that come; the model stays as it is.
    pub fn set_speculation(&mut self, config: Option<SpeculativeConfig>) {
        self.engine.set_speculation(config);
    }

    /// What steps cost by rows, as measured so far; steps with prompt rows are not among them.
    pub fn step_costs(&self) -> Vec<StepCost> {
        self.engine.step_costs()
    }

    /// Lets `num_speculative_tokens: "auto"` go by these costs, `(rows, cost)` ascending, and not by what it measures, so
    /// that the depths it picks are the same in each run. Empty: back to what is measured.
    pub fn fix_step_costs(&mut self, table: &[(usize, f64)]) {
        self.engine.fix_step_costs(table);
    }

    /// All metrics as they are now; as JSON, vLLM's `LLM.get_metrics()`.
    pub fn metrics(&self) -> Snapshot {
        self.engine.metrics().snapshot()
    }

    /// The same as Prometheus text exposition.
    pub fn metrics_text(&self) -> String {
        self.metrics().to_prometheus()
    }

    /// Sets counters and histograms back to zero; gauges stay.
    pub fn reset_metrics(&mut self) {
        self.engine.reset_metrics();
    }
}
