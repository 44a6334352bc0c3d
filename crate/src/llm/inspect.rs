//! What a model's headers tell before any of its weights is there: what it is, what it takes, and whether it runs here.

use serde::Serialize;
use serde_json::Value;

use super::capacity::block_bytes;
use crate::config::LlmConfig;
use crate::error::{Error, ErrorCode, Result};
use crate::model::{Arrangement, Limits, ModelConfig, Reader};

/// What is known of a model by its headers alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// GGUF's name of the architecture, such as `qwen2`.
    pub architecture: &'static str,
    /// Weights, an embedding that is the output matrix too counted once.
    pub parameters: u64,
    /// Bytes of weights in the backend's memory.
    pub weight_bytes: u64,
    /// Bytes that a token takes in the KV cache.
    pub kv_bytes_per_token: u64,
    /// Positions the model was trained for.
    pub context: usize,
    /// Positions that the KV cache of these options holds, up to `context`: what `max_model_len` would be by default.
    pub max_model_len: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
}

/// Takes headers as [`LlmLoader`](super::LlmLoader) does, and no weights. It needs no device.
pub struct Inspector {
    reader: Reader,
    /// Bytes of an adapter's binding; none for the CPU, which has one memory.
    binding: Option<u64>,
    config: LlmConfig,
}

impl Inspector {
    /// An inspector for an adapter with such bindings, in bytes, or for the CPU; and for these options of a load.
    pub fn new(binding: Option<u64>, config: LlmConfig) -> Self {
        let arrangement = match binding {
            // How many rows a dispatch multiplies with is the kernels' affair, and no vocabulary is refused for it.
            Some(bytes) => Arrangement::Planes(Limits { bytes: bytes.max(1), rows: u64::from(u32::MAX) & !3 }),
            None => Arrangement::Panels,
        };
        Self { reader: Reader::new(arrangement, config.quantization), binding, config }
    }

    /// Takes a folder's `config.json`; the headers that follow are those of its safetensors.
    ///
    /// # Errors
    /// See [`Reader::folder`].
    pub fn folder(&mut self, config: &Value) -> Result<()> {
        self.reader.folder(config)
    }

    /// Takes bytes from the beginning of a further part; gives true when its header is complete. See [`Reader::announce`].
    ///
    /// # Errors
    /// See there.
    pub fn announce(&mut self, bytes: &[u8]) -> Result<bool> {
        self.reader.announce(bytes)
    }

    /// Takes bytes from the beginning of the first part, until its header is complete: then it gives what all of them tell.
    ///
    /// # Errors
    /// What makes a load fail at the header, but for the tokenizer: `unsupported_model`, `invalid_tensor`,
    /// `unsupported_quantization`, `invalid_file`; and `adapter_too_small` for a parameter that one binding cannot hold.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Inspection>> {
        let limit = self.binding.unwrap_or(u64::MAX);
        self.reader.header(bytes)?;
        let Some(described) = self.reader.described() else { return Ok(None) };
        let buffers = &described.layout.buffers;
        if let Some(buffer) = buffers.iter().find(|buffer| buffer.bytes > limit) {
            let message = format!(
                "parameter '{}' needs {} bytes in one binding, but the adapter allows {limit}: use a smaller model \
                 or quantisation",
                buffer.parameter, buffer.bytes
            );
            return Err(Error::new(ErrorCode::AdapterTooSmall, message));
        }
        let weight_bytes = buffers.iter().map(|buffer| buffer.bytes).sum();
        Ok(Some(inspection(&described.config, described.layout.elements(), weight_bytes, &self.config)))
    }
}

fn inspection(model: &ModelConfig, parameters: u64, weight_bytes: u64, config: &LlmConfig) -> Inspection {
    let block = block_bytes(model, config);
    let held = config.kv_budget(parameters) / block * config.block_size as u64;
    Inspection {
        architecture: model.arch,
        parameters,
        weight_bytes,
        kv_bytes_per_token: block / config.block_size as u64,
        context: model.context,
        max_model_len: config.max_model_len.unwrap_or(usize::MAX).min(model.context).min(held as usize),
        vocab_size: model.vocab,
    }
}
