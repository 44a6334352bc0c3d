//! A decoder's parameters, one field each, and the program that it becomes.

use super::ModelConfig;
use super::config::Pairs;
use crate::Result;
use crate::program::{Buffer, Op, Program, QkNorm, Then};

/// All parameters of a model, each a `P`: what a file must have of it, or where a runner keeps it.
#[derive(Clone, Debug)]
pub struct Decoder<P> {
    /// `[vocab, d]`
    pub embedding: P,
    /// The transformer blocks.
    pub layers: Vec<Layer<P>>,
    /// Gain of the last norm, `[d]`.
    pub norm: P,
    /// `[vocab, d]`; without it the embedding is the output matrix too.
    pub output: Option<P>,
}

/// A transformer block's parameters. Which norms it has is the architecture's.
#[derive(Clone, Debug)]
pub struct Layer<P> {
    /// Gain before the attention, `[d]`.
    pub attn_norm: Option<P>,
    /// q, k and v, one below the other, `[q_d + 2 kv_d, d]`, and their bias.
    pub attn_qkv: P,
    /// Gains of q, then of k.
    pub qk_norm: Option<P>,
    /// `[d, q_d]`
    pub attn_output: P,
    /// Gain after the attention, `[d]`.
    pub attn_post_norm: Option<P>,
    /// Gain before the feed-forward, `[d]`.
    pub ffn_norm: Option<P>,
    /// `[ff, d]`
    pub ffn_gate: P,
    /// `[ff, d]`
    pub ffn_up: P,
    /// `[d, ff]`
    pub ffn_down: P,
    /// Gain after the feed-forward, `[d]`.
    pub ffn_post_norm: Option<P>,
}

/// A parameter as a file has it: runs of tensors' rows, one below the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// What messages call it.
    pub name: String,
    /// Its parts, in order.
    pub pieces: Vec<Piece>,
    /// Whether it may lie in several buffers, each with a run of its rows: what has a vocabulary's size, and alone outgrows
    /// what an adapter binds at once (128 MiB on many phones).
    pub splits: bool,
}

/// Rows of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The tensor's name in the file.
    pub tensor: String,
    /// The whole tensor's shape, innermost first.
    pub shape: [usize; 2],
    /// Which of its rows, or values where it is a vector.
    pub rows: std::ops::Range<usize>,
    /// Where values `i` and `i + dims / 2` of each head turn together: the loader makes them neighbours.
    pub halves: Option<Halves>,
    /// Added to every value.
    pub offset: f32,
}

/// Heads whose first `dims` rows come as two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// Rows of a head.
    pub head_dim: usize,
    /// How many of them turn.
    pub dims: usize,
}

impl Halves {
    /// The row that comes to place `at` of a head.
    pub fn source(&self, at: usize) -> usize {
        if at < self.dims { at / 2 + at % 2 * (self.dims / 2) } else { at }
    }
}

impl Piece {
    /// Whether the tensor is a vector: its rows are single values.
    pub fn is_vector(&self) -> bool {
        self.shape[1] == 1
    }
}

/// GGUF's names of the tensors that a model of this shape has.
struct Specs<'a> {
    config: &'a ModelConfig,
    /// What comes before the names: a layer's prefix, or nothing.
    prefix: String,
}

impl Specs<'_> {
    fn matrix(&self, name: &str, inner: usize, rows: usize) -> Piece {
        self.rows(name, [inner, rows], 0..rows)
    }

    fn vector(&self, name: &str, len: usize) -> Piece {
        self.rows(name, [len, 1], 0..len)
    }

    fn rows(&self, name: &str, shape: [usize; 2], rows: std::ops::Range<usize>) -> Piece {
        let end = if name.contains('.') { "" } else { ".weight" };
        Piece { tensor: format!("{}{name}{end}", self.prefix), shape, rows, halves: None, offset: 0.0 }
    }

    fn spec(&self, name: &str, pieces: Vec<Piece>) -> Spec {
        Spec { name: format!("{}{name}", self.prefix), pieces, splits: false }
    }

    fn one(&self, piece: Piece) -> Spec {
        Spec { name: piece.tensor.clone(), pieces: vec![piece], splits: false }
    }

    /// A matrix of a vocabulary's size.
    fn vocabulary(&self, name: &str) -> Spec {
        Spec { splits: true, ..self.one(self.matrix(name, self.config.d, self.config.vocab)) }
    }

    /// A gain as long as the residual stream.
    fn gain(&self, name: &str) -> Spec {
        self.one(self.gains(name, self.config.d))
    }

    /// What a norm multiplies with.
    fn gains(&self, name: &str, len: usize) -> Piece {
        Piece { offset: self.config.gain_offset, ..self.vector(name, len) }
    }

    /// q and k with the two halves of each head made neighbours, where the file has halves.
    fn turning(&self, piece: Piece) -> Piece {
        let config = self.config;
        let dims = config.ropes.first().map_or(config.head_dim, |rope| rope.dims);
        let halves = (config.pairs == Pairs::Halves).then_some(Halves { head_dim: config.head_dim, dims });
        Piece { halves, ..piece }
    }

    fn qkv(&self) -> Spec {
        let config = self.config;
        let (d, q_d, kv_d) = (config.d, config.q_d(), config.kv_d());
        let mut pieces = if config.fused {
            let part = |rows| self.rows("attn_qkv", [d, q_d + 2 * kv_d], rows);
            vec![self.turning(part(0..q_d + kv_d)), part(q_d + kv_d..q_d + 2 * kv_d)]
        } else {
            let [q, k, v] =
                [("attn_q", q_d), ("attn_k", kv_d), ("attn_v", kv_d)].map(|(n, rows)| self.matrix(n, d, rows));
            vec![self.turning(q), self.turning(k), v]
        };
        if config.qkv_bias {
            let [q, k, v] = [("attn_q.bias", q_d), ("attn_k.bias", kv_d), ("attn_v.bias", kv_d)]
                .map(|(n, len)| self.vector(n, len));
            pieces.extend([self.turning(q), self.turning(k), v]);
        }
        self.spec("attn_qkv", pieces)
    }

    fn qk_norm(&self, over: QkNorm) -> Spec {
        let config = self.config;
        let (q, k) = match over {
            QkNorm::Head => (config.head_dim, config.head_dim),
            QkNorm::Whole => (config.q_d(), config.kv_d()),
        };
        let gains = [("attn_q_norm", q), ("attn_k_norm", k)].map(|(name, len)| self.turning(self.gains(name, len)));
        self.spec("attn_qk_norm", gains.to_vec())
    }

    /// Gate or up, which are one tensor where the file has them fused.
    fn gate_or_up(&self, name: &str, fused_first: usize) -> Spec {
        let ModelConfig { d, ff, fused, .. } = *self.config;
        let piece = match fused {
            true => self.rows("ffn_up", [d, 2 * ff], fused_first..fused_first + ff),
            false => self.matrix(name, d, ff),
        };
        self.spec(name, vec![piece])
    }
}

impl<P> Decoder<P> {
    /// A model's parameters, each made by `make` out of what the file must have; `tied` says that there is no output
    /// matrix. The first error ends it: a header may claim more layers than a list of their specs could be held for.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn new(config: &ModelConfig, tied: bool, mut make: impl FnMut(Spec) -> Result<P>) -> Result<Self> {
        let ends = Specs { config, prefix: String::new() };
        Ok(Self {
            embedding: make(ends.vocabulary("token_embd"))?,
            norm: make(ends.gain("output_norm"))?,
            output: if tied { None } else { Some(make(ends.vocabulary("output"))?) },
            layers: (0..config.layers.len()).map(|i| Layer::new(config, i, &mut make)).collect::<Result<_>>()?,
        })
    }

    /// The same with each parameter made into something else.
    pub fn map<Q>(&self, f: impl Fn(&P) -> Q) -> Decoder<Q> {
        Decoder {
            embedding: f(&self.embedding),
            norm: f(&self.norm),
            output: self.output.as_ref().map(&f),
            layers: self.layers.iter().map(|layer| layer.map(&f)).collect(),
        }
    }

    /// The forward pass.
    pub fn program<'a>(&'a self, config: &ModelConfig) -> Program<'a, P> {
        let mut ops = vec![Op::Embed { table: &self.embedding }];
        for (i, (layer, shape)) in self.layers.iter().zip(&config.layers).enumerate() {
            let qk_norm = layer.qk_norm.as_ref().zip(config.qk_norm);
            let then = if qk_norm.is_some() { Then::Norm } else { Then::Rotate(shape.rope) };
            ops.push(Op::Qkv { layer: i, norm: layer.attn_norm.as_ref(), weights: &layer.attn_qkv, then });
            if let Some((gains, over)) = qk_norm {
                ops.push(Op::QkNorm { layer: i, gains, over, rope: shape.rope });
            }
            ops.push(Op::Attention { layer: i, window: shape.window });
            ops.extend(joins(Buffer::Attended, &layer.attn_output, layer.attn_post_norm.as_ref()));
            let (norm, gate, up) = (layer.ffn_norm.as_ref(), &layer.ffn_gate, &layer.ffn_up);
            ops.push(Op::GateUp { norm, gate, up });
            ops.extend(joins(Buffer::Inner, &layer.ffn_down, layer.ffn_post_norm.as_ref()));
        }
        let output = self.output.as_ref().unwrap_or(&self.embedding);
        ops.extend([Op::Logits { norm: &self.norm, output }, Op::Argmax]);
        Program { shape: config.shape(), ropes: config.ropes.len(), ops }
    }
}

/// A projection joins the residual stream, by way of a norm where there is one.
fn joins<'a, P>(from: Buffer, weights: &'a P, norm: Option<&'a P>) -> impl Iterator<Item = Op<'a, P>> {
    let to = if norm.is_some() { Buffer::Branch } else { Buffer::Residual };
    [Op::Project { from, weights, to }].into_iter().chain(norm.map(|gain| Op::AddNormed { gain }))
}

impl<P> Layer<P> {
    fn new(config: &ModelConfig, index: usize, make: &mut impl FnMut(Spec) -> Result<P>) -> Result<Self> {
        let specs = Specs { config, prefix: format!("blk.{index}.") };
        let (d, q_d, ff) = (config.d, config.q_d(), config.ff);
        let mut gain = |there: bool, name: &str| there.then(|| make(specs.gain(name))).transpose();
        let (pre, post) = (config.pre_norm, config.post_norm);
        Ok(Self {
            attn_norm: gain(pre, "attn_norm")?,
            attn_post_norm: gain(post, "post_attention_norm")?,
            ffn_norm: gain(pre, "ffn_norm")?,
            ffn_post_norm: gain(post, "post_ffw_norm")?,
            attn_qkv: make(specs.qkv())?,
            qk_norm: config.qk_norm.map(|over| make(specs.qk_norm(over))).transpose()?,
            attn_output: make(specs.one(specs.matrix("attn_output", q_d, d)))?,
            ffn_gate: make(specs.gate_or_up("ffn_gate", 0))?,
            ffn_up: make(specs.gate_or_up("ffn_up", ff))?,
            ffn_down: make(specs.one(specs.matrix("ffn_down", ff, d)))?,
        })
    }

    fn map<Q>(&self, f: &impl Fn(&P) -> Q) -> Layer<Q> {
        let optional = |parameter: &Option<P>| parameter.as_ref().map(f);
        Layer {
            attn_norm: optional(&self.attn_norm),
            attn_qkv: f(&self.attn_qkv),
            qk_norm: optional(&self.qk_norm),
            attn_output: f(&self.attn_output),
            attn_post_norm: optional(&self.attn_post_norm),
            ffn_norm: optional(&self.ffn_norm),
            ffn_gate: f(&self.ffn_gate),
            ffn_up: f(&self.ffn_up),
            ffn_down: f(&self.ffn_down),
            ffn_post_norm: optional(&self.ffn_post_norm),
        }
    }
}
