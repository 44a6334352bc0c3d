//! The shape of a Llama model, out of GGUF metadata.

use crate::format::gguf::Metadata;
use crate::{Error, ErrorCode, Result};

/// Shape and constants of the architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub d: usize,
    /// Width of the feed-forward's inner layer.
    pub ff: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions the model was trained for.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Epsilon of the RMS norms.
    pub eps: f32,
}

impl ModelConfig {
    /// Reads `general.architecture` and the `llama.*` keys.
    ///
    /// # Errors
    /// `unsupported_model` for another architecture or a shape the kernels do not cover; `invalid_file` for a missing key.
    pub fn from_metadata(m: &Metadata) -> Result<Self> {
        let architecture = m.str("general.architecture")?;
        if architecture != "llama" {
            return Err(Error::new(
                ErrorCode::UnsupportedModel,
                format!("general.architecture is '{architecture}'; supported: llama"),
            ));
        }
        let number = |key: &str| m.u32(&format!("llama.{key}")).map(|v| v as usize);
        let d = number("embedding_length")?;
        let heads = number("attention.head_count")?;
        let kv_heads = m.opt_u32("llama.attention.head_count_kv")?.map_or(heads, |v| v as usize);
        let head_dim = match m.opt_u32("llama.attention.key_length")? {
            Some(v) => v as usize,
            None if heads > 0 => d / heads,
            None => 0,
        };
        let vocab = match m.opt_u32("llama.vocab_size")? {
            Some(v) => v as usize,
            None => m.strings("tokenizer.ggml.tokens")?.len(),
        };
        let config = Self {
            layers: number("block_count")?,
            d,
            ff: number("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            vocab,
            context: number("context_length")?,
            rope_base: m.opt_f32("llama.rope.freq_base")?.unwrap_or(10_000.0),
            eps: m.f32("llama.attention.layer_norm_rms_epsilon")?,
        };
        config.check(m)?;
        Ok(config)
    }

    fn check(&self, m: &Metadata) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorCode::UnsupportedModel, what));
        for (name, value) in
            [("embedding_length", self.d), ("feed_forward_length", self.ff), ("attention.key_length", self.head_dim)]
        {
            if value == 0 || value % 32 != 0 {
                return wrong(format!("llama.{name} is {value}; the kernels need a multiple of 32"));
            }
        }
        if self.kv_heads == 0 || self.heads % self.kv_heads != 0 {
            return wrong(format!(
                "{} query heads cannot share {} key heads; head_count must be a multiple of head_count_kv",
                self.heads, self.kv_heads
            ));
        }
        if let Some(n) = m.opt_u32("llama.rope.dimension_count")?.filter(|n| *n as usize != self.head_dim) {
            return wrong(format!(
                "llama.rope.dimension_count is {n}; only whole heads ({}) are supported",
                self.head_dim
            ));
        }
        if let Some(kind) = m.opt_str("llama.rope.scaling.type")?.filter(|kind| *kind != "none") {
            return wrong(format!(
                "llama.rope.scaling.type is '{kind}'; supported: none, or Llama 3's rope_freqs tensor"
            ));
        }
        Ok(())
    }

    /// Width of all query heads.
    pub fn q_d(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads.
    pub fn kv_d(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
