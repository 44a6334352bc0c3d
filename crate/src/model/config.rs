//! The shape of a Llama model, out of GGUF metadata.

use super::keys;
use crate::error::{Error, ErrorCode, Result, excerpt};
use crate::format::gguf::Metadata;

// Far beyond any model; within them no size overflows and no dispatch exceeds WebGPU's 65535 workgroups.
const MAX_LAYERS: usize = 4096;
const MAX_CONTEXT: usize = 1 << 24;
const MAX_VOCAB: usize = 4_000_000;
const MAX_WIDTH: usize = 1 << 17;
/// A quarter of it is a workgroup, and a head's query and sum are registers of one invocation.
const MAX_HEAD_DIM: usize = 256;

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
    /// `unsupported_model` for another architecture, a shape the kernels do not cover, or a key that would change the
    /// arithmetic and is not honoured; `invalid_file` for a missing key.
    pub fn from_metadata(m: &Metadata) -> Result<Self> {
        let architecture = m.str("general.architecture")?;
        if architecture != "llama" {
            return Err(Error::new(
                ErrorCode::UnsupportedModel,
                format!("general.architecture is '{}'; supported: llama", excerpt(architecture)),
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
        config.check()?;
        keys::check(m, &config)?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorCode::UnsupportedModel, what));
        for (name, value, most) in [
            ("block_count", self.layers, MAX_LAYERS),
            ("context_length", self.context, MAX_CONTEXT),
            ("vocab_size", self.vocab, MAX_VOCAB),
            ("attention.head_count", self.heads, MAX_WIDTH / 32),
            ("attention.key_length", self.head_dim, MAX_HEAD_DIM),
            ("embedding_length", self.d, MAX_WIDTH),
            ("feed_forward_length", self.ff, MAX_WIDTH),
        ] {
            if value == 0 || value > most {
                return wrong(format!("llama.{name} is {value}; supported are 1 to {most}"));
            }
        }
        for (name, value) in [("rope.freq_base", self.rope_base), ("attention.layer_norm_rms_epsilon", self.eps)] {
            if !value.is_finite() || value <= 0.0 {
                return wrong(format!("llama.{name} is {value}; it must be a positive number"));
            }
        }
        for (name, value) in
            [("embedding_length", self.d), ("feed_forward_length", self.ff), ("attention.key_length", self.head_dim)]
        {
            if value % 32 != 0 {
                return wrong(format!("llama.{name} is {value}; the kernels need a multiple of 32"));
            }
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return wrong(format!(
                "{} query heads cannot share {} key heads; head_count must be a multiple of head_count_kv",
                self.heads, self.kv_heads
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
