//! The product of a matrix and the rows of prompts: many rows, so weights become floats once, eight outputs at a time, and a
//! register tile of rows and outputs runs at the machine's rate of multiplications.
//!
//! Each output of each row is one chain of `sum += w * x` over all weights, whatever the number of rows.

use crate::unpack::OUTPUTS;
use crate::vector::F32x4;

/// Rows of the largest register tile: with two vectors of outputs, twelve sums of sixteen registers.
pub(crate) const MOST_ROWS: usize = 6;
/// Weights of an output that are floats at a time: with eight outputs, 16 KiB, half of a small first-level cache.
pub(crate) const DEPTH: usize = 512;

/// The products of `rows` activations, `x[k * rows + row]`, with `depth` weights of eight outputs, added to
/// `sums[row * OUTPUTS]`, or begun there.
///
/// # Safety
/// All of it is there; `rows` is at most [`MOST_ROWS`].
pub(crate) unsafe fn products(
    rows: usize,
    x: *const f32,
    weights: *const f32,
    depth: usize,
    sums: *mut f32,
    begin: bool,
) {
    unsafe {
        match rows {
            1 => tile::<1>(x, weights, depth, sums, begin),
            2 => tile::<2>(x, weights, depth, sums, begin),
            3 => tile::<3>(x, weights, depth, sums, begin),
            4 => tile::<4>(x, weights, depth, sums, begin),
            5 => tile::<5>(x, weights, depth, sums, begin),
            _ => tile::<6>(x, weights, depth, sums, begin),
        }
    }
}

unsafe fn tile<const R: usize>(mut x: *const f32, mut weights: *const f32, depth: usize, sums: *mut f32, begin: bool) {
    let mut low = [F32x4::splat(0.0); R];
    let mut high = [F32x4::splat(0.0); R];
    if !begin {
        for r in 0..R {
            low[r] = unsafe { F32x4::load(sums.add(r * OUTPUTS)) };
            high[r] = unsafe { F32x4::load(sums.add(r * OUTPUTS + 4)) };
        }
    }
    // The depth is a multiple of 32.
    for _ in 0..depth / 4 {
        for k in 0..4 {
            let a = unsafe { F32x4::load(weights.add(k * OUTPUTS)) };
            let b = unsafe { F32x4::load(weights.add(k * OUTPUTS + 4)) };
            for r in 0..R {
                let x = unsafe { F32x4::load_splat(x.add(k * R + r)) };
                low[r] = a.mul_add(x, low[r]);
                high[r] = b.mul_add(x, high[r]);
            }
        }
        x = unsafe { x.add(4 * R) };
        weights = unsafe { weights.add(4 * OUTPUTS) };
    }
    for r in 0..R {
        unsafe {
            low[r].store(sums.add(r * OUTPUTS));
            high[r].store(sums.add(r * OUTPUTS + 4));
        }
    }
}
