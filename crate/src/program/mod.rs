//! A forward pass as a list of operations over named buffers. `model` writes it, a runner executes it over the rows of a
//! step. A parameter is a `P`: whatever the runner keeps it as.

pub mod parameter;
pub mod runner;

use std::collections::HashSet;

pub use parameter::{Matrix, Parameter, Part};
pub use runner::{
    Batch, BlockEntry, CORRUPTED, CacheType, Capacity, Carry, Change, Draw, Numerics, Precision, Row, Runner, Running,
    StepOutput,
};

/// What a runner executes.
#[derive(Debug)]
pub struct Program<'a, P> {
    /// What all operations share.
    pub shape: Shape,
    /// How many rotary tables its operations name.
    pub ropes: usize,
    /// The forward pass, in order.
    pub ops: Vec<Op<'a, P>>,
}

/// Sizes and constants of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Transformer blocks, each with its own part of the KV cache.
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
    /// Epsilon of the RMS norms.
    pub eps: f32,
    /// What the feed-forward's gate goes through.
    pub activation: Activation,
    /// Constant factors.
    pub scales: Scales,
    /// Where values are bent.
    pub softcaps: Softcaps,
}

impl Shape {
    /// Width of all query heads.
    pub fn q_d(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads.
    pub fn kv_d(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// What an RMS norm of q (or of k) is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QkNorm {
    /// Each head by itself.
    Head,
    /// All heads together.
    Whole,
}

/// The nonlinearity of the feed-forward's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

/// Constant factors of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Of the embedding.
    pub embedding: f32,
    /// Of what joins the residual stream.
    pub residual: f32,
    /// Of the attention scores; plainly `head_dim ^ -0.5`.
    pub attention: f32,
    /// Of the logits.
    pub logits: f32,
}

impl Scales {
    /// No scales but the attention's usual one.
    pub fn plain(head_dim: usize) -> Self {
        Self { embedding: 1.0, residual: 1.0, attention: (head_dim as f32).powf(-0.5), logits: 1.0 }
    }
}

/// `cap * tanh(v / cap)`: values are bent smoothly to stay within plus and minus a cap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Softcaps {
    /// Of attention scores, after their scale.
    pub attention: Option<f32>,
    /// Of logits, after their scale.
    pub logits: Option<f32>,
}

/// Activations, f32, one line for each row. Those with `Squares` beside them are normed by who reads them: the writer adds
/// the sum of squares of each four values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Buffer {
    /// The residual stream, `[rows, d]`, and its squares.
    Residual,
    /// What joins the residual stream after a norm of its own, `[rows, d]`, and its squares.
    Branch,
    /// Queries as the attention reads them, `[rows, heads * head_dim]`.
    Query,
    /// Queries, then keys, before their norm, `[rows, (heads + kv_heads) * head_dim]`.
    RawQueryKey,
    /// The attention's result, `[rows, heads * head_dim]`.
    Attended,
    /// The feed-forward's inner layer, `[rows, ff]`.
    Inner,
}

impl Buffer {
    /// Values of each row.
    pub fn width(self, shape: &Shape) -> usize {
        match self {
            Self::Residual | Self::Branch => shape.d,
            Self::Query | Self::Attended => shape.q_d(),
            Self::RawQueryKey => shape.q_d() + shape.kv_d(),
            Self::Inner => shape.ff,
        }
    }
}

/// One operation. RMS norms are `x / sqrt(mean(x^2) + eps) * gain`; a `norm` that is `None` leaves its input as it is.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a, P> {
    /// `Residual = scale * table[token]`
    Embed {
        /// `[vocab, d]`
        table: &'a P,
    },
    /// q, k and v of the residual stream. v goes into the cache; q and k turn and go to `Query` and the cache, or, where a
    /// norm comes before the rotation, to `RawQueryKey`.
    Qkv {
        /// Whose cache.
        layer: usize,
        /// Gain of the norm before.
        norm: Option<&'a P>,
        /// q, k and v, one below the other, and their bias.
        weights: &'a P,
        /// Where q and k go.
        then: Then,
    },
    /// Norms q and k, turns them, and writes them to `Query` and the cache.
    QkNorm {
        /// Whose cache.
        layer: usize,
        /// Gains of q, then of k.
        gains: &'a P,
        /// What a norm is taken over.
        over: QkNorm,
        /// The rotary table, which turns them after the norm.
        rope: Option<usize>,
    },
    /// `Attended = softmax(cap(scale * q k)) v` over each row's own slot, up to its own position.
    Attention {
        /// Whose cache.
        layer: usize,
        /// Positions that a row sees, its own among them.
        window: Option<usize>,
    },
    /// `Residual += scale * weights from`, or `Branch = weights from`.
    Project {
        /// `Attended` or `Inner`.
        from: Buffer,
        /// `[d, width of from]`
        weights: &'a P,
        /// `Residual` or `Branch`.
        to: Buffer,
    },
    /// `Residual += norm(Branch)`
    AddNormed {
        /// Gain of the norm.
        gain: &'a P,
    },
    /// `Inner = activation(gate x) * (up x)` of the residual stream.
    GateUp {
        /// Gain of the norm before.
        norm: Option<&'a P>,
        /// `[ff, d]`
        gate: &'a P,
        /// `[ff, d]`
        up: &'a P,
    },
    /// Logits of the rows that are sampled: `cap(scale * output norm(Residual))`.
    Logits {
        /// Gain of the norm before.
        norm: &'a P,
        /// `[vocab, d]`
        output: &'a P,
    },
    /// The largest logit's token, the lowest id on ties.
    Argmax,
}

/// Norms a hidden state in place, as the operations do.
pub fn rms_norm(x: &mut [f32], gain: &[f32], eps: f32) {
    let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
    let scale = (squares / x.len() as f64 + f64::from(eps)).sqrt().recip();
    x.iter_mut().zip(gain).for_each(|(x, gain)| *x = (f64::from(*x) * scale) as f32 * gain);
}

/// What becomes of q and k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// They turn by this table, or not at all, and are ready.
    Rotate(Option<usize>),
    /// They go to [`Op::QkNorm`].
    Norm,
}

impl<'a, P> Program<'a, P> {
    /// The buffers that its operations touch.
    pub fn buffers(&self) -> Vec<Buffer> {
        let mut all = vec![Buffer::Residual, Buffer::Query, Buffer::Attended, Buffer::Inner];
        if self.ops.iter().any(|op| matches!(op, Op::QkNorm { .. })) {
            all.push(Buffer::RawQueryKey);
        }
        if self.ops.iter().any(|op| matches!(op, Op::AddNormed { .. })) {
            all.push(Buffer::Branch);
        }
        all
    }

    /// The parameters that it reads, each once: a tied embedding is the output matrix too.
    pub fn parameters(&self) -> Vec<&'a P> {
        let mut all: Vec<&'a P> = Vec::new();
        let mut seen = HashSet::new();
        for op in &self.ops {
            let read = match *op {
                Op::Embed { table } => [Some(table), None, None],
                Op::Qkv { norm, weights, .. } => [norm, Some(weights), None],
                Op::QkNorm { gains, .. } => [Some(gains), None, None],
                Op::Attention { .. } | Op::Argmax => [None; 3],
                Op::Project { weights, .. } => [Some(weights), None, None],
                Op::AddNormed { gain } => [Some(gain), None, None],
                Op::GateUp { norm, gate, up } => [norm, Some(gate), Some(up)],
                Op::Logits { norm, output } => [Some(norm), Some(output), None],
            };
            all.extend(read.into_iter().flatten().filter(|parameter| seen.insert(std::ptr::from_ref(*parameter))));
        }
        all
    }
}
