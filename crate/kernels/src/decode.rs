//! The product of a matrix and the rows of decoding: few rows, so the work is to unpack the weights, and all rows share it.
//!
//! Each output of each row is one chain: within a group `sum += q * x`, at its end `total += scale * sum`, and where there is a
//! min, `total += min * sum of x`. It is the same chain however many rows and panels a tile has.

use crate::format::{BUNDLE, Format, Kind, Masks, shrink, with_kind};
use crate::vector::{F32x4, U32x4};

/// Activations of a tile of `T` rows as products read them, in scratch memory.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// `[inner][T]`, each divided by the power of two that its weight is multiplied with.
    pub x: *const f32,
    /// `[groups][T]`: where there is a min, the sum of a group's activations; else what its sum begins with.
    pub sums: *const f32,
}

/// Four outputs of `T` rows for each of `P` panels.
///
/// # Safety
/// Each panel has so many groups of the format; the tile is of the same rows, inner width and format.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "loops over registers, which two indices name")]
pub(crate) unsafe fn product<K: Kind, const T: usize, const P: usize>(
    panels: [*const u8; P],
    groups: usize,
    tile: Tile,
    masks: &Masks,
) -> [[F32x4; T]; P] {
    let format = const { K::FORMAT };
    let (per_vector, group) = (format.per_vector(), format.group());
    let mut totals = [[F32x4::splat(0.0); T]; P];
    let Tile { mut x, mut sums } = tile;
    let mut panels = panels;
    for _ in 0..groups {
        let mut sum = totals;
        if format.has_scale() {
            for t in 0..T {
                let start =
                    if format.has_min() { F32x4::splat(0.0) } else { unsafe { F32x4::load_splat(sums.add(t)) } };
                for of in &mut sum {
                    of[t] = start;
                }
            }
        }
        for _ in 0..group / per_vector {
            let mut words: [U32x4; P] = core::array::from_fn(|p| unsafe { U32x4::load(panels[p]) });
            // Four weights at a time: of eight at once an engine keeps more than there are registers for.
            for part in 0..per_vector.div_ceil(4) {
                if part > 0 {
                    words = words.map(U32x4::shr::<16>);
                }
                for j in 0..per_vector.min(4) {
                    let weights: [F32x4; P] = core::array::from_fn(|p| K::weight(words[p], j, masks));
                    for t in 0..T {
                        let x = unsafe { F32x4::load_splat(x.add((part * 4 + j) * T + t)) };
                        for p in 0..P {
                            sum[p][t] = weights[p].mul_add(x, sum[p][t]);
                        }
                    }
                }
            }
            x = unsafe { x.add(per_vector * T) };
            panels = panels.map(|panel| unsafe { panel.add(16) });
        }
        if format.has_scale() {
            for p in 0..P {
                let scale = unsafe { U32x4::load(panels[p]) }.as_f32();
                for t in 0..T {
                    totals[p][t] = scale.mul_add(sum[p][t], totals[p][t]);
                }
            }
            panels = panels.map(|panel| unsafe { panel.add(16) });
        } else {
            totals = sum;
        }
        if format.has_min() {
            for p in 0..P {
                let min = unsafe { U32x4::load(panels[p]) }.as_f32();
                for t in 0..T {
                    totals[p][t] = min.mul_add(unsafe { F32x4::load_splat(sums.add(t)) }, totals[p][t]);
                }
            }
            panels = panels.map(|panel| unsafe { panel.add(16) });
        }
        sums = unsafe { sums.add(T) };
        panels = panels.map(|panel| unsafe { panel.add((BUNDLE - 1) * format.group_bytes()) });
    }
    totals
}

/// Rows of the largest tile.
pub(crate) const MOST_ROWS: usize = 8;

/// The height of the tile for so many rows: seven take one of eight, with the last row twice.
pub(crate) fn height(rows: usize) -> usize {
    if rows == 7 { 8 } else { rows }
}

/// The products of `count` panels, whole bundles but for the last, with a tile of `rows` rows. Four outputs of row t and panel p go to
/// `out[(p * rows + t) * 4]`; there is room for whole bundles.
///
/// # Safety
/// As [`product`]; `out` has room.
pub(crate) unsafe fn products(
    (format, groups): (Format, usize),
    panels: *const u8,
    count: usize,
    (rows, tile): (usize, Tile),
    out: *mut f32,
) {
    with_kind!(format, K => unsafe {
        match rows {
            1 => run::<K, 1, 4>(panels, count, groups, tile, out),
            2 => run::<K, 2, 4>(panels, count, groups, tile, out),
            3 => run::<K, 3, 2>(panels, count, groups, tile, out),
            4 => run::<K, 4, 2>(panels, count, groups, tile, out),
            5 => run::<K, 5, 2>(panels, count, groups, tile, out),
            6 => run::<K, 6, 2>(panels, count, groups, tile, out),
            _ => run::<K, 8, MANY>(panels, count, groups, tile, out),
        }
    })
}

/// Panels at once of many rows. A fused multiply-add leaves registers for two of them.
const MANY: usize = if cfg!(target_feature = "relaxed-simd") { 2 } else { 1 };

unsafe fn run<K: Kind, const T: usize, const P: usize>(
    panels: *const u8,
    count: usize,
    groups: usize,
    tile: Tile,
    out: *mut f32,
) {
    let masks = K::masks();
    let format = const { K::FORMAT };
    for first in (0..count).step_by(P) {
        let at = core::array::from_fn(|p| unsafe { panels.add(format.panel_at(first + p, groups * format.group())) });
        let made: [[F32x4; T]; P] = unsafe { product::<K, T, P>(at, groups, tile, &masks) };
        for (p, rows) in made.into_iter().enumerate() {
            for (t, four) in rows.into_iter().enumerate() {
                unsafe { four.store(out.add(((first + p) * T + t) * 4)) };
            }
        }
    }
}

/// Lays row `t` of a tile of `rows` out for products.
///
/// # Safety
/// As [`lay_out`]; the row has `inner` values.
pub(crate) unsafe fn lay_out_row(
    (format, bias): (Format, f32),
    row: *const f32,
    inner: usize,
    place: (usize, usize),
    to: (*mut f32, *mut f32),
) {
    with_kind!(format, K => unsafe { lay_out::<K>(|i| F32x4::load(row.add(i * 4)), inner, place, bias, to) })
}

/// Lays row `t` of a tile of `rows` out for products: `values(i)` are its activations `4i ..`.
///
/// # Safety
/// `x` has room for `inner * rows` values, `sums` for one for each group and row.
#[inline(always)]
pub(crate) unsafe fn lay_out<K: Kind>(
    values: impl Fn(usize) -> F32x4,
    inner: usize,
    (t, rows): (usize, usize),
    bias: f32,
    (x, sums): (*mut f32, *mut f32),
) {
    let format = const { K::FORMAT };
    let shrinks = F32x4::new(K::SHIFTS.map(shrink));
    let quads = format.group() / 4;
    for group in 0..inner / format.group() {
        let mut sum = F32x4::splat(0.0);
        for i in group * quads..(group + 1) * quads {
            let four = values(i);
            sum = sum + four;
            if rows == 1 {
                unsafe { (four * shrinks).store(x.add(i * 4)) };
                continue;
            }
            for (j, v) in (four * shrinks).lanes().into_iter().enumerate() {
                unsafe { *x.add((i * 4 + j) * rows + t) = v };
            }
        }
        if format.has_scale() {
            let sum = if format.has_min() { sum.sum() } else { -bias * sum.sum() };
            unsafe { *sums.add(group * rows + t) = sum };
        }
    }
}
