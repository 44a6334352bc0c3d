//! Keys and values in memory: f32, or IEEE halves.

use crate::format::{F16, Kind, Masks};
use crate::run::Context;
use crate::vector::{F32x4, U32x4};

/// What the cache holds.
pub(crate) trait Element: Copy {
    /// Bytes of one value.
    const BYTES: usize;

    /// What loads need.
    fn new() -> Self;

    /// Four values at `from`.
    ///
    /// # Safety
    /// They are there.
    unsafe fn load(self, from: *const u8) -> F32x4;
}

/// An f32.
#[derive(Clone, Copy)]
pub(crate) struct Single;

/// An IEEE half.
#[derive(Clone, Copy)]
pub(crate) struct Half(Masks);

impl Element for Single {
    const BYTES: usize = 4;

    fn new() -> Self {
        Self
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> F32x4 {
        unsafe { F32x4::load(from.cast()) }
    }
}

impl Element for Half {
    const BYTES: usize = 2;

    fn new() -> Self {
        Self(F16::masks())
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> F32x4 {
        F16::weight(unsafe { U32x4::load_halves(from) }, 0, &self.0)
    }
}

/// The nearest half, ties to even; beyond the largest an infinity.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let (sign, size) = ((bits >> 16 & 0x8000) as u16, bits & 0x7fff_ffff);
    let size = match size {
        0x7f80_0001.. => 0x7e00,
        0x4780_0000.. => 0x7c00,
        // Normal halves: the exponent's bias is 112 less, and thirteen bits are rounded away.
        0x3880_0000.. => (size + 0xfff + (size >> 13 & 1) - (112 << 23)) >> 13,
        // A half of this size has no bits below the smallest half: the sum is rounded to it.
        _ => (f32::from_bits(size) + 0.5).to_bits() - 0.5f32.to_bits(),
    };
    sign | size as u16
}

/// Writes four values of a row's key, or value, of the operation's layer, `at` being the first one's place.
///
/// # Safety
/// As [`run`](crate::run).
pub(crate) unsafe fn store(context: &Context, (row, is_value): (usize, bool), at: usize, v: F32x4) {
    let step = context.step;
    let part = context.op.layer * 2 + u32::from(is_value);
    let line = context.memory.get::<u8>(unsafe { context.word(step.places, row) } + part * step.block_bytes);
    if step.halves == 0 {
        return unsafe { v.store(line.cast::<f32>().add(at)) };
    }
    let line = line.cast::<u16>().wrapping_add(at);
    v.lanes().into_iter().enumerate().for_each(|(i, v)| unsafe { *line.add(i) = half(v) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_and_those_between_are_rounded() {
        let cache = Half::new();
        let single = |half: u16| unsafe { cache.load([half; 4].as_ptr().cast()) }.lanes()[0];
        for bits in 0..=u16::MAX {
            let value = single(bits);
            assert!(half(value) == bits || value.is_nan() && half(value) & 0x7fff > 0x7c00, "{bits:x}: {value}");
        }
        // Halfway between two halves, and a little more.
        for (low, step) in [(0x3c00u16, 1.0 / 2048.0), (0x0001, 2.0f32.powi(-25)), (0x7bfe, 16.0)] {
            let middle = single(low) + step;
            assert_eq!(half(middle), low + (low & 1), "{low:x}");
            assert_eq!(half(f32::from_bits(middle.to_bits() + 1)), low + 1, "{low:x}");
        }
        assert_eq!([half(65519.9), half(65520.0), half(1e9), half(-1e9)], [0x7bff, 0x7c00, 0x7c00, 0xfc00]);
    }
}
