//! Float tensors into the type that memory keeps, as their bytes arrive: ggml's own rounding, so that the blocks are those that
//! `llama-quantize` writes.

use half::f16;

use super::{QuantType, dequantize};
use crate::error::Result;

/// Takes F32, F16 or BF16 values and gives them as another type.
pub struct Converter {
    from: QuantType,
    to: QuantType,
    /// Added to every value; what some files leave out of their norms' gains.
    offset: f32,
    /// The start of a block whose end has not arrived.
    partial: Vec<u8>,
}

impl Converter {
    /// A converter to F32, Q8_0 or Q4_0, for whole blocks of it; or nothing, where the bytes are right as they are.
    pub fn new(from: QuantType, to: QuantType, offset: f32) -> Option<Self> {
        (from != to || offset != 0.0).then(|| Self { from, to, offset, partial: Vec::new() })
    }

    /// Bytes that wait for the rest of their block.
    pub fn waiting(&self) -> usize {
        self.partial.len()
    }

    /// Takes the next bytes, and gives those of the whole blocks that they complete.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn push(&mut self, mut bytes: &[u8], mut give: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let block = self.to.block_len() * self.from.block_bytes();
        if !self.partial.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(block - self.partial.len()));
            self.partial.extend_from_slice(now);
            bytes = later;
            if self.partial.len() < block {
                return Ok(());
            }
            give(&self.converted(&self.partial)?)?;
            self.partial.clear();
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / block * block);
        for blocks in blocks.chunks(4096 * block) {
            give(&self.converted(blocks)?)?;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    fn converted(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut values = Vec::new();
        dequantize(self.from, bytes, &mut values)?;
        values.iter_mut().for_each(|value| *value += self.offset);
        let mut out = Vec::with_capacity(values.len() / self.to.block_len() * self.to.block_bytes());
        match self.to {
            QuantType::Q8_0 => values.chunks_exact(32).for_each(|block| q8_0(block, &mut out)),
            QuantType::Q4_0 => values.chunks_exact(32).for_each(|block| q4_0(block, &mut out)),
            _ => values.iter().for_each(|value| out.extend(value.to_le_bytes())),
        }
        Ok(out)
    }
}

/// `d = max|x| / 127`, quants are rounded half away from zero (ggml's `quantize_row_q8_0_ref`).
fn q8_0(values: &[f32], out: &mut Vec<u8>) {
    let most = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let d = most / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(values.iter().map(|v| (v * inverse).round() as i8 as u8));
}

/// `d` is the value that is farthest from zero over -8, quants are truncated after 8.5 was added (ggml's
/// `quantize_row_q4_0_ref`).
fn q4_0(values: &[f32], out: &mut Vec<u8>) {
    let farthest = values.iter().fold(0.0f32, |most, v| if v.abs() > most.abs() { *v } else { most });
    let d = farthest / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let quant = |v: f32| ((v * inverse + 8.5) as i8).min(15) as u8;
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(values[..16].iter().zip(&values[16..]).map(|(low, high)| quant(*low) | quant(*high) << 4));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(from: QuantType, to: QuantType, offset: f32, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut converter = Converter::new(from, to, offset).unwrap();
        let mut out = Vec::new();
        for bytes in bytes.chunks(piece) {
            converter.push(bytes, |bytes| Ok(out.extend_from_slice(bytes))).unwrap();
        }
        assert_eq!(converter.waiting(), 0);
        out
    }

    /// tests/fixtures/quant/make.py wrote what the `gguf` package makes of these values.
    #[test]
    fn blocks_are_those_of_ggml() {
        let values = include_bytes!("../../../../tests/fixtures/quant/floats.bin");
        for (to, expected) in [
            (QuantType::Q8_0, &include_bytes!("../../../../tests/fixtures/quant/floats.q8_0.bin")[..]),
            (QuantType::Q4_0, include_bytes!("../../../../tests/fixtures/quant/floats.q4_0.bin")),
        ] {
            for piece in [1, 100, values.len()] {
                assert!(converted(QuantType::F32, to, 0.0, values, piece) == expected, "{to:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn halves_become_floats_with_what_is_to_be_added() {
        let bytes: Vec<u8> = [0.5f32, -2.0].iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        let out = converted(QuantType::BF16, QuantType::F32, 1.0, &bytes, 3);
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&out), [1.5, -1.0]);
        assert!(Converter::new(QuantType::F32, QuantType::F32, 0.0).is_none());
    }
}
