//! A thread's scratch memory: what lies where in it.

use crate::decode;
use crate::fast::Reading;
use crate::prompt::{self, DEPTH};
use crate::step::Shape;
use crate::unpack::OUTPUTS;

/// Panels that a thread takes at a time: whole bundles.
pub(crate) const PANELS: usize = 8;

/// About how many activations of prompt rows lie ready for products: half of a megabyte, which a second-level cache holds.
const READY: usize = 1 << 17;

/// Most rows of prompts whose activations lie ready.
const MOST_READY_ROWS: usize = 96;

/// Most rows whose activations lie ready as bytes: their outputs take no more room than those of prompts.
const MOST_FAST_ROWS: usize = MOST_READY_ROWS * OUTPUTS / (PANELS * 4);

/// Rows of prompts whose activations of this width lie ready at a time.
pub(crate) fn ready_rows(inner: usize) -> usize {
    let tiles = (READY / inner / prompt::MOST_ROWS).clamp(1, MOST_READY_ROWS / prompt::MOST_ROWS);
    tiles * prompt::MOST_ROWS
}

/// Rows whose activations of this width lie ready as bytes at a time, for each of two matrices.
pub(crate) fn ready_rows_fast(shape: &Shape, inner: usize) -> usize {
    Reading::most_rows(inner, most_ready(shape) * 2).min(MOST_FAST_ROWS)
}

/// Room for activations that lie ready, in f32: at least those of a tile.
fn most_ready(shape: &Shape) -> usize {
    READY.max(widest(shape) * prompt::MOST_ROWS)
}

/// The widest input of a product.
fn widest(shape: &Shape) -> usize {
    shape.d.max(shape.ff).max(shape.heads * shape.head_dim) as usize
}

/// Offsets in a thread's scratch memory, in f32.
#[derive(Clone, Copy)]
pub(crate) struct Scratch {
    /// A normed row.
    pub row: usize,
    /// Activations of a tile, for each of two matrices.
    pub x: [usize; 2],
    /// Their sums.
    pub sums: [usize; 2],
    /// Outputs of each of two matrices.
    pub out: [usize; 2],
    /// Activations of prompt rows, or of all rows as bytes for each of two matrices: the halves of the same room.
    pub ready: usize,
    pub fast: [usize; 2],
    /// Unpacked weights.
    pub weights: usize,
    /// Attention scores.
    pub scores: usize,
    /// Where it ends without the scores.
    end: usize,
}

impl Scratch {
    pub fn new(shape: &Shape) -> Self {
        let widest = widest(shape);
        let mut end = 0;
        let mut take = |values: usize| {
            end += values.next_multiple_of(4);
            end - values.next_multiple_of(4)
        };
        let tile = widest * decode::MOST_ROWS;
        let outputs = (PANELS * 4 * decode::MOST_ROWS).max(MOST_READY_ROWS * OUTPUTS);
        let (row, x) = (take(widest), [take(tile), take(tile)]);
        let sums = [take(tile / 16), take(tile / 16)];
        let out = [take(outputs), take(outputs)];
        let (ready, weights) = (take(most_ready(shape)), take(DEPTH * OUTPUTS));
        let fast = [ready, ready + most_ready(shape) / 2];
        Self { row, x, sums, out, ready, fast, weights, scores: end, end }
    }
}

/// Bytes of scratch memory that a thread needs for sequences of so many positions, a multiple of 64.
pub fn scratch_bytes(shape: &Shape, positions: usize) -> usize {
    ((Scratch::new(shape).end + positions + 4) * 4).next_multiple_of(64)
}
