//! Quantised blocks back to f32 on the CPU: the reference for the kernels, and the way small tensors are read.

use half::{bf16, f16};

use super::QuantType;
use crate::error::{Error, ErrorCode, Result};

/// Appends the weights of `bytes`, whole blocks of `ty` as they stand in the file, to `out`.
///
/// Each weight is computed in f32 in ggml's order of operations, so it equals ggml's bit for bit.
/// [`ErrorCode::InvalidTensor`] if `bytes` is not a whole number of blocks.
pub fn dequantize(ty: QuantType, bytes: &[u8], out: &mut Vec<f32>) -> Result<()> {
    let size = ty.block_bytes();
    if !bytes.len().is_multiple_of(size) {
        return Err(Error::new(
            ErrorCode::InvalidTensor,
            format!("{} bytes of {} are not whole blocks; a block has {size} bytes", bytes.len(), ty.name()),
        ));
    }
    out.reserve(bytes.len() / size * ty.block_len());
    for block in bytes.chunks_exact(size) {
        match ty {
            QuantType::F32 => out.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
            QuantType::F16 => out.push(half_at(block, 0)),
            QuantType::BF16 => out.push(bf16::from_le_bytes([block[0], block[1]]).to_f32()),
            QuantType::Q8_0 => {
                let d = half_at(block, 0);
                out.extend(block[2..].iter().map(|&q| f32::from(q as i8) * d));
            }
            QuantType::Q4_0 => {
                let d = half_at(block, 0);
                nibbles(&block[2..], |_, q| out.push(d * f32::from(i16::from(q) - 8)));
            }
            QuantType::Q4_1 => {
                let (d, m) = (half_at(block, 0), half_at(block, 2));
                nibbles(&block[4..], |_, q| out.push(d * f32::from(q) + m));
            }
            QuantType::Q5_0 => {
                let d = half_at(block, 0);
                let high = &block[2..6];
                nibbles(&block[6..], |i, q| out.push(d * f32::from(i16::from(q | fifth_bit(high, i)) - 16)));
            }
            QuantType::Q5_1 => {
                let (d, m) = (half_at(block, 0), half_at(block, 2));
                let high = &block[4..8];
                nibbles(&block[8..], |i, q| out.push(d * f32::from(q | fifth_bit(high, i)) + m));
            }
            QuantType::Q4_K => k_groups(block, &block[16..], |_, _| 0, out),
            QuantType::Q5_K => {
                let high = &block[16..48];
                k_groups(block, &block[48..], |group, i| (high[i] >> group & 1) << 4, out);
            }
            QuantType::Q6_K => q6_k(block, out),
        }
    }
    Ok(())
}

/// The f16 at byte `at`.
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Visits the 4-bit quants of `packed` with their indices: all low nibbles first, then all high ones.
pub(super) fn nibbles(packed: &[u8], mut visit: impl FnMut(usize, u8)) {
    for (i, byte) in packed.iter().enumerate() {
        visit(i, byte & 15);
    }
    for (i, byte) in packed.iter().enumerate() {
        visit(packed.len() + i, byte >> 4);
    }
}

/// Bit `i` of a 32-bit mask, moved to bit 4.
pub(super) fn fifth_bit(mask: &[u8], i: usize) -> u8 {
    (mask[i / 8] >> (i % 8) & 1) << 4
}

/// Q4_K and Q5_K: eight groups of 32 weights, each `d * scale * q - dmin * min`. Two groups share 32 bytes of `quants`;
/// `high(group, i)` gives what is to be added to weight `i` of a group.
fn k_groups(block: &[u8], quants: &[u8], high: impl Fn(usize, usize) -> u8, out: &mut Vec<f32>) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for group in 0..8 {
        let (scale, min) = k_scale_min(&block[4..16], group);
        let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
        let shift = 4 * (group % 2);
        let packed = &quants[group / 2 * 32..][..32];
        out.extend(packed.iter().enumerate().map(|(i, byte)| d * f32::from((byte >> shift & 15) | high(group, i)) - m));
    }
}

/// The 6-bit scale and minimum of one of eight groups. Groups 0 to 3 lie in the low six bits of bytes 0..4 and 4..8;
/// groups 4 to 7 have their low four bits in bytes 8..12 and their upper two atop the bytes of groups 0 to 3.
pub(super) fn k_scale_min(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 63, packed[group + 4] & 63);
    }
    let low = packed[group + 4];
    (low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
}

/// Q6_K: two halves of four runs of 32 weights. Runs take the low nibbles of bytes 0..32 and 32..64, then the high
/// ones, and bits 0..2, 2..4, 4..6, 6..8 of the 32 `high` bytes they share; each 16 weights have a scale.
fn q6_k(block: &[u8], out: &mut Vec<f32>) {
    let d = half_at(block, 208);
    for half in 0..2 {
        let low = &block[half * 64..][..64];
        let high = &block[128 + half * 32..][..32];
        for run in 0..4 {
            let shift = 4 * (run / 2);
            for i in 0..32 {
                let scale = block[192 + half * 8 + run * 2 + i / 16] as i8;
                let q = (low[run % 2 * 32 + i] >> shift & 15) | (high[i] >> (2 * run) & 3) << 4;
                out.push(d * f32::from(scale) * f32::from(i16::from(q) - 32));
            }
        }
    }
}
