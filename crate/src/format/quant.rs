//! The tensor types of GGUF that the engine computes with, and what their blocks look like.

mod convert;
mod dequantize;
mod panels;
mod planes;
#[cfg(test)]
mod tests;

pub use convert::Converter;
pub use dequantize::dequantize;
pub use panels::{PanelLayout, PanelWriter};
pub use planes::{PlaneLayout, PlaneSplitter, WritePlane};

/// How a tensor's weights are stored. The names are ggml's.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuantType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// One plane of the GPU layout: the same bytes of every block, side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneSpec {
    /// What the bytes are: `values`, `quants`, `high` (upper bits of the quants) or `scale`; Q6_K's have ggml's names.
    pub name: &'static str,
    /// Bytes each block gives to this plane.
    pub bytes_per_block: usize,
    /// Where those bytes start within a block of the file.
    pub start: usize,
}

const fn plane(name: &'static str, start: usize, bytes_per_block: usize) -> PlaneSpec {
    PlaneSpec { name, bytes_per_block, start }
}

impl QuantType {
    /// Every type, for messages and tests.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// The type with this number in a GGUF tensor table, if the engine has it.
    pub fn from_gguf(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// ggml's name, such as `Q4_0`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
        }
    }

    /// Whether its elements are plain floats.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Elements in a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of a block, in the file and (all planes together) on the GPU.
    pub fn block_bytes(self) -> usize {
        self.planes().iter().map(|plane| plane.bytes_per_block).sum()
    }

    /// Bytes that this many elements take in the file; a partial last block counts as a whole one, and what does not
    /// fit a u64 gives `u64::MAX`.
    pub fn bytes_for(self, elements: u64) -> u64 {
        elements.div_ceil(self.block_len() as u64).saturating_mul(self.block_bytes() as u64)
    }

    /// The planes of the GPU layout, in their order in the buffer. Each holds unchanged bytes of the file's blocks.
    pub fn planes(self) -> &'static [PlaneSpec] {
        match self {
            Self::F32 => const { &[plane("values", 0, 4)] },
            Self::F16 | Self::BF16 => const { &[plane("values", 0, 2)] },
            Self::Q8_0 => const { &[plane("quants", 2, 32), plane("scale", 0, 2)] },
            Self::Q4_0 => const { &[plane("quants", 2, 16), plane("scale", 0, 2)] },
            // Scale: d, m.
            Self::Q4_1 => const { &[plane("quants", 4, 16), plane("scale", 0, 4)] },
            Self::Q5_0 => const { &[plane("quants", 6, 16), plane("high", 2, 4), plane("scale", 0, 2)] },
            // Scale: d, m.
            Self::Q5_1 => const { &[plane("quants", 8, 16), plane("high", 4, 4), plane("scale", 0, 4)] },
            // Scale: d, dmin, then twelve bytes of packed 6-bit scales and minima.
            Self::Q4_K => const { &[plane("quants", 16, 128), plane("scale", 0, 16)] },
            Self::Q5_K => const { &[plane("quants", 48, 128), plane("high", 16, 32), plane("scale", 0, 16)] },
            // `scales` are sixteen i8.
            Self::Q6_K => {
                const { &[plane("ql", 0, 128), plane("qh", 128, 64), plane("scales", 192, 16), plane("d", 208, 2)] }
            }
        }
    }
}
