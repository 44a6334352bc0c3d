//! The product of a matrix and the rows of prompts: many rows, so weights become floats once, eight outputs at a time, and a
//! register tile of rows and outputs runs at the machine's rate of multiplications.
//!
//! Each output of each row is one chain of `sum += w * x` over all weights, whatever the number of rows.

use crate::format::{Format, Kind, shrink, with_kind};
use crate::vector::{F32x4, U32x4};

/// Rows of the largest register tile: with two vectors of outputs, twelve sums of sixteen registers.
pub(crate) const MOST_ROWS: usize = 6;
/// Outputs of a register tile.
pub(crate) const OUTPUTS: usize = 8;
/// Weights of an output that are floats at a time: with eight outputs, 16 KiB, half of a small first-level cache.
pub(crate) const DEPTH: usize = 512;

/// Makes weights `first .. first + count` of a panel's four outputs floats: weight k goes to `out[(k - first) * OUTPUTS]`. `first` and `count` are
/// multiples of 32. It is ggml's arithmetic, rounded at the same places.
///
/// # Safety
/// The panel has so many weights, `out` room for them.
pub(crate) unsafe fn unpack(
    (format, bias): (Format, f32),
    panel: *const u8,
    (first, count): (usize, usize),
    out: *mut f32,
) {
    with_kind!(format, K => unsafe { unpack_kind::<K>(bias, panel, first, count, out) })
}

unsafe fn unpack_kind<K: Kind>(bias: f32, panel: *const u8, first: usize, count: usize, mut out: *mut f32) {
    let format = const { K::FORMAT };
    let masks = K::masks();
    let vectors = format.group() / format.per_vector();
    let mut at = unsafe { panel.add(first / format.group() * format.group_bytes()) };
    for _ in 0..count / format.group() {
        let (mut scales, mut offset) = ([F32x4::splat(1.0); 4], F32x4::splat(0.0));
        if format.has_scale() {
            let scale = unsafe { U32x4::load(at.add(16 * vectors)) }.as_f32();
            scales = K::SHIFTS.map(|shift| scale * F32x4::splat(shrink(shift)));
            // Where there is no min, `scale * bias` and the sum are exact: scales have at most 18 bits, quants 8.
            offset = match format.has_min() {
                true => unsafe { U32x4::load(at.add(16 * (vectors + 1))) }.as_f32(),
                false => scale * F32x4::splat(-bias),
            };
        }
        for vector in 0..vectors {
            let words = unsafe { U32x4::load(at.add(16 * vector)) };
            for j in 0..format.per_vector() {
                let mut weight = K::weight(words, j, &masks);
                if format.has_scale() {
                    weight = weight * scales[j % 4] + offset;
                }
                unsafe { weight.store(out) };
                out = unsafe { out.add(OUTPUTS) };
            }
        }
        at = unsafe { at.add(format.group_bytes()) };
    }
}

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
