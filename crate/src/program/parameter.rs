//! Parameters as runners keep them: planes of quantised tensors (format/quant) in memory of the runner's own kind.

use crate::Result;
use crate::format::quant::QuantType;

/// Where a runner keeps its parameters. The loader fills it as bytes arrive.
pub trait Memory {
    /// A piece of it, in 32-bit words.
    type Words;

    /// Most bytes of one piece.
    fn limit(&self) -> u64;

    /// A piece of `bytes` bytes, whose contents are undefined. `what` names it in messages.
    ///
    /// # Errors
    /// `adapter_too_small` when there is not that much in one piece.
    fn allocate(&self, bytes: u64, what: &str) -> Result<Self::Words>;

    /// Copies `bytes` (a multiple of four) to byte `offset` (likewise).
    fn write(&self, words: &Self::Words, offset: u64, bytes: &[u8]);

    /// Takes what was written off the loader's hands, where writes are queued.
    fn submit(&self);
}

/// A matrix, or a vector, inside a [`Part`]; of one tensor, or of several of one type, one below the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// The file's type, which memory keeps.
    pub ty: QuantType,
    /// Its first row in the parameter, where that lies in several parts.
    pub first: usize,
    /// Its rows, which are outputs of a product; of a vector, its length.
    pub rows: usize,
    /// Start of each plane (format/quant.rs), in 32-bit words, a multiple of four.
    pub planes: Vec<u32>,
}

/// A buffer with what one kernel reads.
#[derive(Clone, Debug)]
pub struct Part<W> {
    /// The memory.
    pub words: W,
    /// The matrices in it.
    pub matrices: Vec<Matrix>,
    /// A vector in it: a gain, or the bias of the matrices. Always F32.
    pub vector: Option<Matrix>,
}

/// A parameter, in several parts where it outgrows what is bound at once: each has a run of its rows.
#[derive(Clone, Debug)]
pub struct Parameter<W> {
    /// In the order of their rows.
    pub parts: Vec<Part<W>>,
}

impl<W> Parameter<W> {
    /// The one part of a parameter that is not split.
    pub fn whole(&self) -> &Part<W> {
        &self.parts[0]
    }
}
