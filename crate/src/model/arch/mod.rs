//! What the keys of each architecture mean, one short file each. Adding one: its file, a line of [`ALL`], a test
//! (docs/adding-a-model.md).

pub mod folder;
mod gemma3;
mod granite;
mod llama;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use super::config::{Divisors, LayerConfig, ModelConfig, Pairs, Rope};
use super::keys;
use crate::error::{Error, ErrorCode, Result, excerpt};
use crate::format::gguf::Metadata;
use crate::program::{Activation, Scales, Softcaps};

/// An architecture: its names, and how it is read out of a file's keys.
pub struct Architecture {
    /// GGUF's `general.architecture`.
    pub name: &'static str,
    /// Hugging Face's `model_type`s.
    pub model_types: &'static [&'static str],
    read: fn(&Keys) -> Result<ModelConfig>,
    read_folder: fn(&folder::Keys) -> Result<ModelConfig>,
}

/// All that the engine runs.
pub const ALL: &[Architecture] = &[
    llama::ARCHITECTURE,
    qwen2::ARCHITECTURE,
    qwen3::ARCHITECTURE,
    gemma3::ARCHITECTURE,
    phi3::ARCHITECTURE,
    smollm3::ARCHITECTURE,
    granite::ARCHITECTURE,
    olmo2::ARCHITECTURE,
];

/// Reads a model's shape out of GGUF metadata; `has_tensor` says whether the file has a tensor of this name.
///
/// # Errors
/// `unsupported_model` for another architecture, a shape the kernels do not cover, or a key that would change the arithmetic
/// and is not honoured; `invalid_file` for a missing key.
pub fn read(metadata: &Metadata, has_tensor: &dyn Fn(&str) -> bool) -> Result<ModelConfig> {
    let name = metadata.str("general.architecture")?;
    let Some(Architecture { name, read, .. }) = ALL.iter().find(|known| known.name == name) else {
        let known: Vec<_> = ALL.iter().map(|known| known.name).collect();
        let message = format!("general.architecture is '{}'; supported: {}", excerpt(name), known.join(", "));
        return Err(Error::new(ErrorCode::UnsupportedModel, message));
    };
    let config = read(&Keys { metadata, arch: name, has_tensor })?;
    config.check()?;
    keys::check(metadata, &config)?;
    Ok(config)
}

/// A file's keys, those of its architecture by their names without its prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    arch: &'static str,
    has_tensor: &'a dyn Fn(&str) -> bool,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.metadata.u32(&self.key(key)).map(|v| v as usize)
    }

    fn opt_size(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.metadata.opt_u32(&self.key(key))?.map(|v| v as usize))
    }

    fn opt_number(&self, key: &str) -> Result<Option<f32>> {
        self.metadata.opt_f32(&self.key(key))
    }

    /// Positions that a row sees; 0 in a file means all.
    fn window(&self) -> Result<Option<usize>> {
        Ok(self.opt_size("attention.sliding_window")?.filter(|window| *window > 0))
    }

    /// The shape that most architectures have: norms before, whole heads that turn as neighbours, SwiGLU. An architecture says
    /// where it differs.
    fn base(&self) -> Result<ModelConfig> {
        let d = self.size("embedding_length")?;
        let heads = self.size("attention.head_count")?;
        let head_dim = match self.opt_size("attention.key_length")? {
            Some(width) => width,
            None => d.checked_div(heads).unwrap_or(0),
        };
        let vocab = match self.opt_size("vocab_size")? {
            Some(vocab) => vocab,
            None => self.metadata.strings("tokenizer.ggml.tokens")?.len(),
        };
        let layers = self.size("block_count")?;
        let divisors = (self.has_tensor)("rope_freqs.weight").then_some(Divisors::Tensor("rope_freqs.weight"));
        let rope = Rope {
            base: self.opt_number("rope.freq_base")?.unwrap_or(10_000.0),
            dims: self.opt_size("rope.dimension_count")?.unwrap_or(head_dim),
            factor: self.linear_scaling()?,
            magnitude: 1.0,
            divisors,
            long: None,
        };
        Ok(ModelConfig {
            arch: self.arch,
            d,
            ff: self.size("feed_forward_length")?,
            heads,
            kv_heads: self.opt_size("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            vocab,
            context: self.size("context_length")?,
            eps: self.metadata.f32(&self.key("attention.layer_norm_rms_epsilon"))?,
            // More than there can be are refused by their number.
            layers: vec![LayerConfig { window: None, rope: Some(0) }; layers.min(1 << 16)],
            ropes: vec![rope],
            pairs: Pairs::Neighbours,
            pre_norm: true,
            post_norm: false,
            qk_norm: None,
            qkv_bias: false,
            fused: false,
            activation: Activation::Silu,
            scales: Scales::plain(head_dim),
            softcaps: Softcaps::default(),
            gain_offset: 0.0,
        })
    }

    /// What positions are divided by.
    fn linear_scaling(&self) -> Result<f32> {
        match self.metadata.opt_str(&self.key("rope.scaling.type"))? {
            None | Some("none") => Ok(1.0),
            Some("linear") => Ok(self.opt_number("rope.scaling.factor")?.unwrap_or(1.0)),
            Some("longrope") if self.arch == "phi3" => Ok(1.0),
            Some(kind) => {
                let message =
                    format!("{}.rope.scaling.type is '{}'; supported: none, linear", self.arch, excerpt(kind));
                Err(Error::new(ErrorCode::UnsupportedModel, message))
            }
        }
    }
}
