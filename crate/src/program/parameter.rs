//! Parameters as runners keep them: planes or panels of quantised tensors (format/quant) in memory of the runner's own kind.

use crate::format::quant::QuantType;

/// A matrix, or a vector, inside a [`Part`]; of one tensor, or of several of one type, one below the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// The file's type, which memory keeps.
    pub ty: QuantType,
    /// Its first row in the parameter, where that lies in several parts.
    pub first: usize,
    /// Its rows, which are outputs of a product; of a vector, its length.
    pub rows: usize,
    /// Start of each plane (format/quant.rs), or of the panels, in 32-bit words, a multiple of four.
    pub planes: Vec<u32>,
}

/// A buffer with what one kernel reads; `W` is the memory, or what stands for it.
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
    /// The same parameter in other memory.
    pub fn map<V>(&self, words: impl Fn(&W) -> V) -> Parameter<V> {
        let part = |part: &Part<W>| Part {
            words: words(&part.words),
            matrices: part.matrices.clone(),
            vector: part.vector.clone(),
        };
        Parameter { parts: self.parts.iter().map(part).collect() }
    }

    /// The one part of a parameter that is not split.
    pub fn whole(&self) -> &Part<W> {
        &self.parts[0]
    }
}
