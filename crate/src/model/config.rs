//! An architecture as data: what differs from one decoder to another. `arch/` fills it in from a file's keys; everything
//! after it reads it and knows no architecture by name.

use crate::program::{Activation, QkNorm, Scales, Shape, Softcaps};
use crate::{Error, ErrorCode, Result};

// Far beyond any model; within them no size overflows and no dispatch exceeds WebGPU's 65535 workgroups.
const MAX_LAYERS: usize = 4096;
const MAX_CONTEXT: usize = 1 << 24;
const MAX_VOCAB: usize = 4_000_000;
const MAX_WIDTH: usize = 1 << 17;
/// A quarter of it is a workgroup, and a head's query and sum are registers of one invocation.
const MAX_HEAD_DIM: usize = 256;

/// Shape and constants of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// `general.architecture`, which prefixes the file's keys.
    pub arch: &'static str,
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
    /// Epsilon of the RMS norms.
    pub eps: f32,
    /// What differs from layer to layer; one entry for each transformer block.
    pub layers: Vec<LayerConfig>,
    /// Rotary tables, which layers name by index.
    pub ropes: Vec<Rope>,
    /// Which values of a head turn together in the file's q and k.
    pub pairs: Pairs,
    /// A norm before the attention and one before the feed-forward.
    pub pre_norm: bool,
    /// A norm after the attention and one after the feed-forward, before each joins the residual stream.
    pub post_norm: bool,
    /// A norm of q and k before the rotation.
    pub qk_norm: Option<QkNorm>,
    /// A bias on q, k and v.
    pub qkv_bias: bool,
    /// q, k and v are one tensor, and so are gate and up.
    pub fused: bool,
    /// What the gate goes through.
    pub activation: Activation,
    /// Constant factors.
    pub scales: Scales,
    /// `cap * tanh(v / cap)` of attention scores and of logits.
    pub softcaps: Softcaps,
    /// What the file leaves out of its norms' gains: 1 where they are stored as differences from it.
    pub gain_offset: f32,
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerConfig {
    /// Positions that a row sees, its own among them; `None` for all.
    pub window: Option<usize>,
    /// Which of [`ModelConfig::ropes`] turns q and k; `None` for a layer without positions.
    pub rope: Option<usize>,
}

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub base: f32,
    /// Values of a head that turn, the first ones; the others pass.
    pub dims: usize,
    /// Divides every frequency (linear scaling of positions).
    pub factor: f32,
    /// Multiplies cosine and sine (LongRoPE).
    pub magnitude: f32,
    /// Further divisors, one for each turning pair.
    pub divisors: Option<Divisors>,
    /// Those for sequences longer than so many positions (LongRoPE). As in vLLM, `max_model_len` decides.
    pub long: Option<(usize, Divisors)>,
}

/// What divides a rotary table's frequencies, each its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Divisors {
    /// This tensor of the file, F32.
    Tensor(&'static str),
    /// These.
    Values(Vec<f32>),
}

impl Rope {
    /// Whole heads turn by the plain frequencies of this base.
    pub fn plain(base: f32, head_dim: usize) -> Self {
        Self { base, dims: head_dim, factor: 1.0, magnitude: 1.0, divisors: None, long: None }
    }
}

impl Rope {
    /// The divisors for sequences of up to `positions`.
    pub fn divisors(&self, positions: usize) -> Option<&Divisors> {
        match &self.long {
            Some((original, long)) if positions > *original => Some(long),
            _ => self.divisors.as_ref(),
        }
    }

    /// The tensors that it may take, each with one F32 value for each turning pair.
    pub fn tensors(&self) -> impl Iterator<Item = &'static str> + '_ {
        let long = self.long.iter().map(|(_, divisors)| divisors);
        self.divisors.iter().chain(long).filter_map(|divisors| match divisors {
            Divisors::Tensor(name) => Some(*name),
            Divisors::Values(_) => None,
        })
    }
}

/// Which values of a head are a pair that turns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Values 2i and 2i + 1, as GGUF's converter leaves Llama's.
    Neighbours,
    /// Values i and i + dims / 2 (NEOX, Hugging Face). The loader makes them neighbours.
    Halves,
}

impl ModelConfig {
    /// Refuses shapes that the kernels do not cover.
    ///
    /// # Errors
    /// `unsupported_model`, with the file's key.
    pub(super) fn check(&self) -> Result<()> {
        let arch = self.arch;
        let wrong = |what: String| Err(Error::new(ErrorCode::UnsupportedModel, what));
        for (name, value, most) in [
            ("block_count", self.layers.len(), MAX_LAYERS),
            ("context_length", self.context, MAX_CONTEXT),
            ("vocab_size", self.vocab, MAX_VOCAB),
            ("attention.head_count", self.heads, MAX_WIDTH / 32),
            ("attention.key_length", self.head_dim, MAX_HEAD_DIM),
            ("embedding_length", self.d, MAX_WIDTH),
            ("feed_forward_length", self.ff, MAX_WIDTH),
        ] {
            if value == 0 || value > most {
                return wrong(format!("{arch}.{name} is {value}; supported are 1 to {most}"));
            }
        }
        let mut numbers = vec![("attention.layer_norm_rms_epsilon", self.eps)];
        numbers.extend(self.ropes.iter().flat_map(|rope| {
            [
                ("rope.freq_base", rope.base),
                ("rope.scaling.factor", rope.factor),
                ("rope.scaling.attn_factor", rope.magnitude),
            ]
        }));
        numbers.extend([
            ("embedding_scale", self.scales.embedding),
            ("residual_scale", self.scales.residual),
            ("attention.scale", self.scales.attention),
            ("logit_scale", self.scales.logits),
        ]);
        numbers.extend(self.softcaps.attention.map(|cap| ("attn_logit_softcapping", cap)));
        numbers.extend(self.softcaps.logits.map(|cap| ("final_logit_softcapping", cap)));
        for (name, value) in numbers {
            if !value.is_finite() || value <= 0.0 {
                return wrong(format!("{arch}.{name} is {value}; it must be a positive number"));
            }
        }
        for (name, value, multiple) in [
            ("embedding_length", self.d, 32),
            ("feed_forward_length", self.ff, 32),
            ("attention.key_length", self.head_dim, 4),
            ("attention.key_length times head_count", self.q_d(), 32),
        ] {
            if value % multiple != 0 {
                return wrong(format!("{arch}.{name} is {value}; the kernels need a multiple of {multiple}"));
            }
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return wrong(format!(
                "{} query heads cannot share {} key heads; head_count must be a multiple of head_count_kv",
                self.heads, self.kv_heads
            ));
        }
        for rope in &self.ropes {
            if rope.dims == 0 || rope.dims > self.head_dim || !rope.dims.is_multiple_of(4) {
                return wrong(format!(
                    "{arch}.rope.dimension_count is {}; the kernels need a multiple of 4 up to the head's width, {}",
                    rope.dims, self.head_dim
                ));
            }
        }
        if self.layers.iter().any(|layer| layer.window == Some(0)) {
            return wrong(format!("{arch}.attention.sliding_window is 0; a row sees at least itself"));
        }
        Ok(())
    }

    /// Positions that a row sees in any layer, its own among them; none where a layer sees all.
    pub fn window(&self) -> Option<usize> {
        self.layers.iter().map(|layer| layer.window).try_fold(1, |most, window| Some(most.max(window?)))
    }

    /// The same window for all layers.
    pub(super) fn set_window(&mut self, window: Option<usize>) {
        self.layers.iter_mut().for_each(|layer| layer.window = window);
    }

    /// What a program says of it.
    pub fn shape(&self) -> Shape {
        let Self { d, ff, heads, kv_heads, head_dim, vocab, eps, activation, scales, softcaps, .. } = *self;
        let layers = self.layers.len();
        Shape { layers, d, ff, heads, kv_heads, head_dim, vocab, eps, activation, scales, softcaps }
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
