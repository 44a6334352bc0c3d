//! The model as a user has it: load it from the bytes of a GGUF, generate, read the metrics.

pub mod backend;
mod capacity;
mod facts;
#[cfg(all(test, not(target_family = "wasm")))]
mod growth_tests;
pub mod inspect;
#[cfg(all(test, not(target_family = "wasm")))]
mod known_answer_tests;
mod loader;
mod templates;
pub mod weights;

use std::borrow::Cow;
use std::sync::Arc;

use crate::config::{ChatOptions, PoolingParams, SamplingDefaults, SamplingParams};
use crate::engine::{Engine, SequenceOutput};
use crate::metrics::Snapshot;
use crate::sample::{Grammars, LogitsProcessor, request_seed};
use crate::speculate::{SpeculativeConfig, StepCost};
use crate::text::{LocalTime, Message, Tokenizer};
use crate::{Error, ErrorCode, Result};
pub use backend::Cpu;
pub use loader::LlmLoader;
use serde::Serialize;
use templates::Templates;

/// Bytes of text that `tokenize` takes in any case; each costs some 64 of memory on the way.
const TEXT_BYTES: usize = 1 << 20;

/// A prompt as text or as token ids.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Text, tokenized with the model's special tokens.
    Text(String),
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
}

fn fresh_seed() -> Result<u64> {
    getrandom::u64().map_err(|e| Error::new(ErrorCode::Internal, format!("no random seed ({e}); give `seed`")))
}

/// What is known of a loaded model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelInfo {
    /// `served_model_name`, or else the beginning of the file's own name for it.
    pub name: String,
    /// Most tokens of a prompt and its output together.
    pub max_model_len: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Values of a hidden state, and so of an embedding.
    pub hidden_size: usize,
    /// Whether `chat_prompt` works without a `chat_template`: false also where the file's does not parse, which
    /// `chat_prompt` then tells.
    pub has_chat_template: bool,
    /// The source of its chat template, or of that for conversations with tools where it has two: it tells how the model
    /// writes calls of tools.
    pub chat_template: Option<String>,
    /// Sampling parameters that the model recommends; a request takes those that it leaves out. Empty with
    /// `generation_config: "vllm"`.
    pub defaults: SamplingDefaults,
    /// What products with quantised weights take activations as: `full` or `fast`.
    pub precision: &'static str,
}

/// A loaded model.
///
/// [`generate`](Self::generate) runs prompts to their ends. A caller with other things to do between two steps queues
/// requests with [`add`](Self::add) and calls [`step`](Self::step) while it [`is_busy`](Self::is_busy).
pub struct Llm {
    info: ModelInfo,
    engine: Engine,
    templates: Templates,
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

    /// The ids of a text, special tokens added as the model wants.
    ///
    /// # Errors
    /// `prompt_too_long`, see [`check_text`](Self::check_text).
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        self.check_text(text.len())?;
        self.engine.tokenizer().encode(text, true)
    }

    /// The ids of a prompt: those of its text, or its own.
    ///
    /// # Errors
    /// `prompt_too_long`, see [`check_prompt_text`](Self::check_prompt_text).
    pub fn prompt_tokens<'a>(&self, prompt: &'a Prompt) -> Result<Cow<'a, [u32]>> {
        match prompt {
            Prompt::Text(text) => {
                self.check_prompt_text(text.len())?;
                self.engine.tokenizer().encode(text, true).map(Cow::Owned)
            }
            Prompt::Tokens(ids) => Ok(Cow::Borrowed(ids)),
        }
    }

    /// Refuses to tokenize a text of so many bytes or more, for what that would cost: the limit is 1 MiB, or what a prompt
    /// may have where that is more.
    ///
    /// # Errors
    /// `prompt_too_long`.
    pub fn check_text(&self, bytes: usize) -> Result<()> {
        let most = self.max_prompt_bytes().max(TEXT_BYTES);
        if bytes <= most {
            return Ok(());
        }
        let message = format!("the text has {bytes} bytes or more, but at most {most} are tokenized at a time; cut it");
        Err(Error::new(ErrorCode::PromptTooLong, message))
    }

    /// Refuses the text of a prompt that cannot fit, whatever its tokens are: one of more bytes than `max_model_len` of the
    /// longest token.
    ///
    /// # Errors
    /// `prompt_too_long`.
    pub fn check_prompt_text(&self, bytes: usize) -> Result<()> {
        let most = self.max_prompt_bytes();
        if bytes <= most {
            return Ok(());
        }
        let message = format!(
            "the prompt has {bytes} bytes of text or more, but max_model_len, {}, is at most {most} bytes of it; shorten it \
             or load with a larger max_model_len",
            self.info.max_model_len
        );
        Err(Error::new(ErrorCode::PromptTooLong, message))
    }

    /// Most bytes of text that can make `max_model_len` tokens.
    pub fn max_prompt_bytes(&self) -> usize {
        self.engine.tokenizer().max_bytes(self.info.max_model_len)
    }

    /// The text of these ids, special tokens included, with U+FFFD for bytes that are no UTF-8.
    pub fn detokenize(&self, ids: &[u32]) -> String {
        self.engine.tokenizer().decode(ids, false)
    }

    /// A request's parameters: its own, then the model's defaults, then vLLM's.
    ///
    /// # Errors
    /// `invalid_params`, see [`SamplingParams::from_json`].
    pub fn sampling_params(&self, given: &serde_json::Value) -> Result<SamplingParams> {
        self.info.defaults.params(given)
    }

    /// The prompt of a chat, by the template of the options, or else by that of the load or the file.
    ///
    /// # Errors
    /// `unsupported_model` when there is no template or it does not parse, `invalid_params` when the given one does not,
    /// `invalid_prompt` when the template refuses the messages, `prompt_too_long` as for any prompt.
    pub fn chat_prompt(&self, messages: &[Message], options: &ChatOptions) -> Result<Prompt> {
        let ChatOptions { chat_template, render } = options;
        let text = match chat_template {
            Some(source) => {
                let template = self.templates.of_caller(source, ErrorCode::InvalidParams)?;
                template.render(messages, render, LocalTime::now())?
            }
            None => self.templates.for_tools(render.tools.is_some())?.render(messages, render, LocalTime::now())?,
        };
        self.check_prompt_text(text.len())?;
        // The template writes the special tokens itself.
        Ok(Prompt::Tokens(self.engine.tokenizer().encode(&text, false)?))
    }

    /// Queues a request. Returns the ids of its `n` sequences, in order; sequence i samples with its seed + i.
    ///
    /// The seed is the request's own. Without one it is derived from the engine's seed and of how many requests without one came
    /// before: such requests differ from each other, and the same requests in the same order give the same tokens again,
    /// as in vLLM. Without an engine's seed it is random.
    ///
    /// # Errors
    /// See [`Engine::add`]. Nothing is queued then.
    pub fn add(&mut self, prompt: &Prompt, params: &SamplingParams) -> Result<Vec<u64>> {
        self.add_processed(prompt, params, Vec::new())
    }

    /// The same with processors of its logits, which change them one after the other before anything else does.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_processed(
        &mut self,
        prompt: &Prompt,
        params: &SamplingParams,
        processors: Vec<Box<dyn LogitsProcessor>>,
    ) -> Result<Vec<u64>> {
        let tokens = self.prompt_tokens(prompt)?;
        let seed = match (params.seed, self.seed) {
            (Some(seed), _) => seed,
            (None, Some(seed)) => request_seed(seed, self.unseeded),
            (None, None) => fresh_seed()?,
        };
        let ids = self.engine.add(&tokens, params, processors, seed)?;
        self.unseeded += u64::from(params.seed.is_none());
        Ok(ids)
    }

    /// Queues a prompt for its embedding. Returns its sequence's id, whose one output has it.
    ///
    /// # Errors
    /// See [`Engine::add_pooling`]; `invalid_params` for more `dimensions` than the model's hidden states have.
    pub fn add_pooling(&mut self, prompt: &Prompt, params: PoolingParams) -> Result<u64> {
        let width = self.info.hidden_size;
        if let Some(dimensions) = params.dimensions.filter(|dimensions| *dimensions > width) {
            let message = format!(
                "pooling parameter dimensions is {dimensions}, but the model's hidden states have {width} values"
            );
            return Err(Error::new(ErrorCode::InvalidParams, message));
        }
        let tokens = self.prompt_tokens(prompt)?;
        self.engine.add_pooling(&tokens, params)
    }

    /// What compiles the grammars of requests with `structured_outputs`, over [`tokenizer`](Self::tokenizer)'s vocabulary.
    pub fn set_grammars(&mut self, grammars: Box<dyn Grammars>) {
        self.engine.set_grammars(grammars);
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.engine.tokenizer()
    }

    /// Runs every pipeline once and checks what lossless speculation rests on; else the first step does. See
    /// [`Engine::warm_up`].
    pub async fn warm_up(&mut self, known: Option<bool>) -> Result<bool> {
        self.engine.warm_up(known).await
    }

    /// Sees whether the device's kernels compute what they should. See [`Engine::known_answer`].
    pub async fn known_answer(&mut self) -> Result<Option<String>> {
        self.engine.known_answer().await
    }

    /// Repeats a part of the check whose outcome `warm_up` was told. See [`Engine::check_again`].
    pub async fn check_again(&mut self) -> Result<Option<bool>> {
        self.engine.check_again().await
    }

    /// That this model runs here since a GPU failed its known answer; metrics say so.
    pub fn set_wrong_kernel(&mut self) {
        self.engine.set_wrong_kernel();
    }

    /// Whether sequences in flight outlive a device that is lost. See [`Engine::set_recover`].
    pub fn set_recover(&mut self, recover: bool) {
        self.engine.set_recover(recover);
    }

    /// Goes on with the device of another load of the same model, after its own was lost. See [`Engine::take_over`].
    ///
    /// # Errors
    /// `device_lost` where the other load has other room.
    pub fn take_over(&mut self, other: Self) -> Result<()> {
        self.engine.take_over(other.engine)
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
