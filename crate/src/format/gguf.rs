//! GGUF versions 2 and 3, little-endian, parsed as the bytes arrive.
//!
//! A file is a header (key-values, then the tensor table), padding, and the tensors' bytes. [`Parser`] takes the
//! header, [`DataCursor`] the rest. Neither holds more than what a header says.

mod cursor;
mod input;
mod metadata;
mod parser;
mod tensors;
#[cfg(test)]
mod tests;

pub use cursor::DataCursor;
pub use metadata::{Array, Metadata, Value};
pub use parser::Parser;

use super::quant::QuantType;
use crate::error::{Error, ErrorCode};

/// One tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, unique in the file.
    pub name: String,
    /// Elements in each dimension, the innermost (contiguous) first; one to four, none of them zero.
    pub shape: Vec<u64>,
    /// How its elements are stored. `shape[0]` is a multiple of the type's block length.
    pub ty: QuantType,
    /// Where its bytes start, counted from [`Header::data_offset`].
    pub offset: u64,
    /// How many bytes it has.
    pub size: u64,
}

impl TensorInfo {
    /// The number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// Everything before the tensors' bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// GGUF's version, 2 or 3.
    pub version: u32,
    /// The key-values.
    pub metadata: Metadata,
    /// Bytes of the header, without the padding after it.
    pub metadata_bytes: u64,
    /// The tensors, ordered by their place in the file; none overlap.
    pub tensors: Vec<TensorInfo>,
    /// Where the tensors' bytes start in the file: the header's end, rounded up to the file's alignment.
    pub data_offset: u64,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidFile, message)
}
