//! What a step is made of, as it lies in memory: descriptors of operations, written once, and what the rows are, written
//! before every step. All addresses are offsets into the memory; 0 means that there is none.

use bytemuck::{Pod, Zeroable};

/// Sizes and constants of a model.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Shape {
    /// Width of the residual stream, a multiple of 32.
    pub d: u32,
    /// Width of the feed-forward's inner layer, a multiple of 32.
    pub ff: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of a head, a multiple of 4 up to 256.
    pub head_dim: u32,
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// 1 where the gate goes through GELU (tanh), 0 for SiLU.
    pub gelu: u32,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Factors: of the embedding, of what joins the residual stream, of attention scores, of logits.
    pub scales: [f32; 4],
    /// Caps of attention scores and of logits; 0 for none.
    pub caps: [f32; 2],
}

/// A matrix in bundles of panels (`format.rs`); rows that the last one has too many are zero.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Matrix {
    /// The number of its [`Format`](crate::format::Format).
    pub format: u32,
    /// Its rows: outputs of a product.
    pub rows: u32,
    /// Where its bundles begin, on a boundary of 16 bytes.
    pub at: u32,
    /// What its quants have too much.
    pub bias: f32,
}

/// What an operation does. `program::Op` says what each computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// `output = scale * matrix[token]`
    Embed,
    /// q, k and v of `input`.
    Qkv,
    /// Norms of q and k.
    QkNorm,
    /// Attention.
    Attention,
    /// `output = matrix input`
    Project,
    /// `output += scale * matrix input`
    ProjectAdd,
    /// `output += scale * norm(input)`
    AddNormed,
    /// `output = activation(matrix[0] input) * (matrix[1] input)`
    GateUp,
    /// Logits of the rows that are sampled.
    Logits,
    /// The best token of each.
    Argmax,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] = [
        Self::Embed,
        Self::Qkv,
        Self::QkNorm,
        Self::Attention,
        Self::Project,
        Self::ProjectAdd,
        Self::AddNormed,
        Self::GateUp,
        Self::Logits,
        Self::Argmax,
    ];
}

/// An operation.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Op {
    /// The number of its [`Kind`].
    pub kind: u32,
    /// Whose cache it reads or writes.
    pub layer: u32,
    /// Activations that it reads, `[rows, inner]` f32. No product writes them: threads read them while others write.
    pub input: u32,
    /// Width of `input`.
    pub inner: u32,
    /// Activations that it writes.
    pub output: u32,
    /// Gain of the norm before: as many f32 as `input` is wide; of `QkNorm` those of q, then of k.
    pub gain: u32,
    /// f32, added to the products.
    pub bias: u32,
    /// Rotary table, `[positions][head_dim / 2][cos, sin]` f32.
    pub rope: u32,
    /// Positions that a row sees; 0 for all.
    pub window: u32,
    /// 1: `Qkv` leaves q and k to `QkNorm`; `QkNorm` norms all heads together.
    pub flag: u32,
    /// How many of `matrix` there are.
    pub matrices: u32,
    /// Matrices; those of `Qkv` one below the other.
    pub matrix: [Matrix; 3],
}

/// A step. Rows of decoding come before those of prompts.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Step {
    /// The model.
    pub shape: Shape,
    /// [`Op`]s.
    pub ops: u32,
    /// How many.
    pub op_count: u32,
    /// A counter for each operation, u32, zero before the step.
    pub counters: u32,
    /// The threads' [`Control`](crate::threads::Control).
    pub control: u32,
    /// Each thread's scratch memory.
    pub scratch: u32,
    /// Bytes of it per thread; see [`scratch_bytes`](crate::scratch_bytes).
    pub scratch_bytes: u32,
    /// Rows.
    pub rows: u32,
    /// How many of them decode.
    pub decode_rows: u32,
    /// How many are sampled.
    pub outputs: u32,
    /// 1: one kernel serves all tiles.
    pub single: u32,
    /// Token of each row, u32.
    pub tokens: u32,
    /// Position of each row, u32.
    pub positions: u32,
    /// Where each row's block table begins, u32.
    pub tables: u32,
    /// Where each row's key of layer 0 lies, u32.
    pub places: u32,
    /// The row of each output, u32.
    pub output_rows: u32,
    /// Positions of a block.
    pub block_size: u32,
    /// 1: the cache holds IEEE halves; 0: f32.
    pub halves: u32,
    /// Bytes of a layer's keys in a block; its values follow, then the next layer's keys.
    pub block_bytes: u32,
    /// Queries, `[rows, heads * head_dim]` f32.
    pub query: u32,
    /// Sampled tokens, `[outputs]` u32.
    pub sampled: u32,
    /// 1: products with quants take activations of eight bits; 0: of 32.
    pub fast: u32,
}

// SAFETY: of 32-bit fields alone, without padding.
unsafe impl Zeroable for Op {}
// SAFETY: the same.
unsafe impl Pod for Op {}
// SAFETY: the same.
unsafe impl Zeroable for Step {}
// SAFETY: the same.
unsafe impl Pod for Step {}
