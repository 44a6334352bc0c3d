//! From the bytes of a model's files to an [`Llm`]. When the headers are complete, everything that they tell is checked and
//! made, down to the runner's memory; of the bytes after them nothing is asked but that they are all there.

use super::backend::Backend;
use super::capacity::block_bytes;
use super::facts::{Facts, Folder};
use super::templates::Templates;
use super::weights::{Load, WeightLoader, read};
use super::{Llm, ModelInfo};
use crate::config::{GenerationConfig, LlmConfig, SamplingDefaults};
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};
use crate::metrics::{CacheConfig, Registry};
use crate::program::Runner;
use crate::speculate::SpeculativeConfig;
use crate::text::{ChatTemplate, Tokenizer};

/// Takes a GGUF file piece by piece and becomes an [`Llm`].
pub struct LlmLoader {
    config: LlmConfig,
    weights: Box<dyn Load>,
    /// The small files of a folder.
    folder: Option<Folder>,
    /// What the headers told, once they are complete.
    prepared: Option<Prepared>,
}

/// All but the weights.
struct Prepared {
    tokenizer: Tokenizer,
    templates: Templates,
    runner: Box<dyn Runner>,
    name: String,
    defaults: SamplingDefaults,
}

impl LlmLoader {
    /// A loader onto this backend. Checks what can be checked before any byte has come.
    ///
    /// # Errors
    /// `invalid_config` for a bad `speculative_config` or `chat_template`.
    pub fn new(backend: &(impl Backend + 'static), config: LlmConfig) -> Result<Self> {
        speculation(&config)?;
        if let Some(source) = &config.chat_template {
            ChatTemplate::new(source, "", "").map_err(|e| Error::new(ErrorCode::InvalidConfig, e.message))?;
        }
        let weights = Box::new(WeightLoader::new(backend, config.quantization));
        Ok(Self { config, weights, folder: None, prepared: None })
    }

    /// Takes a small file of a Hugging Face folder whole: `config.json` first, then `tokenizer.json`, `tokenizer_config.json`,
    /// `generation_config.json` and `chat_template.jinja` as far as there are any. The parts that follow are its safetensors.
    ///
    /// # Errors
    /// `unsupported_model` for an architecture that the engine does not know, `invalid_file` for what is no JSON.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let folder = self.folder.get_or_insert_default();
        folder.add(name, bytes)?;
        if name == "config.json" {
            self.weights.reader().folder(&folder.json(name)?)?;
        }
        Ok(())
    }

    /// Takes the header of a further part of a split file; see [`Reader::announce`](crate::model::Reader::announce).
    pub fn announce(&mut self, bytes: &[u8]) -> Result<bool> {
        self.weights.reader().announce(bytes)
    }

    /// Ends one part of a split file; see [`Reader::next_part`](crate::model::Reader::next_part).
    pub fn next_part(&mut self) -> Result<()> {
        self.weights.reader().next_part()
    }

    /// Takes the next bytes, in pieces of any size.
    ///
    /// # Errors
    /// With the piece that completes the headers, all that they tell against the model: `unsupported_model` for an
    /// architecture, a tokenizer or a key that the engine does not know, `invalid_tensor` for tensors that are not the
    /// architecture's, `invalid_config` for a `max_model_len` beyond the model's context or a cache too small for one block,
    /// `adapter_too_small` for a model or options that ask for more than the adapter has. Later `device_lost`, and
    /// `adapter_too_small` where memory ran out.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let used = self.weights.reader().header(bytes)?;
        if self.prepared.is_none() {
            self.prepared = self.prepare()?;
        }
        self.weights.push(&bytes[used..])
    }

    /// Takes a whole source, such as an open file, in pieces of 1 MiB.
    ///
    /// # Errors
    /// `invalid_file` when the source cannot be read; else as [`Self::push`].
    pub fn read(&mut self, source: impl std::io::Read) -> Result<()> {
        read(source, |piece| self.push(piece))
    }

    /// Makes what the headers tell of, once they are complete: first what costs no memory of the device.
    fn prepare(&mut self) -> Result<Option<Prepared>> {
        let Some(described) = self.weights.reader().described() else { return Ok(None) };
        let mut metadata = std::mem::take(&mut described.metadata);
        let model = described.config.clone();
        let facts = match self.folder.take() {
            Some(folder) => folder.facts()?,
            None => Facts::of_gguf(&mut metadata)?,
        };
        let templates = Templates::new(&facts, self.config.chat_template.as_deref())?;
        let Facts { tokenizer, name, sampling, .. } = facts;
        let defaults = match self.config.generation_config {
            GenerationConfig::Auto => sampling?,
            GenerationConfig::Vllm => SamplingDefaults::default(),
        };
        let name = self.config.served_model_name.clone().unwrap_or(name);
        let runner = self.weights.prepare(&model, &self.config)?;
        Ok(Some(Prepared { tokenizer, templates, runner, name, defaults }))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// `truncated_file` when something is missing of it; `invalid_tensor` for a `rope_freqs` that holds no factors.
    pub fn finish(self) -> Result<Llm> {
        let (model, ropes) = self.weights.finish()?;
        let Prepared { tokenizer, templates, mut runner, name, defaults } =
            self.prepared.expect("the headers were complete");
        let capacity = runner.capacity();
        runner.set_ropes(&ropes.tables(capacity.positions));
        let mut metrics = Registry::new(name.clone(), capacity.positions);
        metrics.set_cache_config(CacheConfig {
            block_size: capacity.block_size,
            num_gpu_blocks: capacity.blocks,
            kv_cache_memory_bytes: capacity.blocks as u64 * block_bytes(&model, &self.config),
            enable_prefix_caching: self.config.enable_prefix_caching,
            cache_dtype: self.config.kv_cache_dtype.name().to_string(),
            sliding_window: None,
        });
        let mut engine = Engine::new(runner, tokenizer, model.vocab, self.config.enable_prefix_caching, metrics);
        engine.set_speculation(speculation(&self.config)?);
        engine.set_max_num_waiting(self.config.max_num_waiting);
        engine.set_async_scheduling(self.config.async_scheduling);
        engine.set_window(model.window());
        let info = ModelInfo {
            name,
            max_model_len: capacity.positions,
            vocab_size: model.vocab,
            hidden_size: model.d,
            has_chat_template: templates.own.is_ok(),
            chat_template: templates.source.clone(),
            defaults,
            precision: self.config.precision.name(),
        };
        Ok(Llm { info, engine, templates, seed: self.config.seed, unseeded: 0, undelivered: Vec::new() })
    }
}

fn speculation(config: &LlmConfig) -> Result<Option<SpeculativeConfig>> {
    config.speculative_config.as_ref().map(SpeculativeConfig::from_json).transpose()
}
