//! The product of a matrix of quants and any rows, with activations of eight bits (`precision: "fast"`): each 32 become signed bytes
//! and a scale, and the products of a group of weights with them are summed as integers.
//!
//! Each output of each row is one chain over the groups: `total += scale * (step * sum of q * x)`, and where quants have a min or a
//! bias, `total += min * (step * sum of x)`. Integers are exact, so the instructions that make such a sum change no bit.
//!
//! The weights of a unit are unpacked into eight registers, and every row passes over them: nothing depends on how many there are.

use core::array::from_fn;

use crate::format::{BUNDLE, Format};
use crate::vector::{F32x4, U32x4};

/// Activations that share a step.
const BLOCK: usize = 32;

/// The largest byte.
const MOST: f32 = 127.0;

/// Bytes after a group's activations: their step, and the step times their sum.
const TAIL: usize = 16;

/// Whether there are products of signed bytes with bytes of seven bits. Without, all are 16-bit integers.
const HAS_BYTES: bool = cfg!(any(not(target_arch = "wasm32"), target_feature = "relaxed-simd"));

/// How activations lie beside weights of a format: those of a group together, and so for each row of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    nibbles: bool,
    /// Weights, and activations, of a group.
    group: usize,
    /// As i16.
    wide: bool,
}

impl Reading {
    /// How weights of this format and bias are read.
    pub fn of(format: Format, bias: f32) -> Self {
        // A bias of 128 tells quants of all eight bits.
        Self { nibbles: format.per_vector() == 8, group: format.group(), wide: !HAS_BYTES || bias > 64.0 }
    }

    /// Bytes of a group of a row.
    const fn group_bytes(self) -> usize {
        (if self.wide { 2 } else { 1 }) * self.group + TAIL
    }

    /// Most rows of so many activations that so many bytes have room for.
    pub fn most_rows(inner: usize, bytes: usize) -> usize {
        let widest = Self { nibbles: false, group: 16, wide: true };
        bytes / (inner / widest.group * widest.group_bytes())
    }

    /// Lays row `t` of `rows` out: `[groups][rows]` groups.
    ///
    /// # Safety
    /// The row has `inner` values, a multiple of 32; `to` has room for all rows.
    pub unsafe fn lay_out(self, row: *const f32, inner: usize, (t, rows): (usize, usize), to: *mut u8) {
        let each = self.group_bytes();
        for block in 0..inner / BLOCK {
            let values: [F32x4; 8] = from_fn(|i| unsafe { F32x4::load(row.add(block * BLOCK + i * 4)) });
            let (step, quants) = quantised(values);
            for (i, quants) in quants.chunks_exact(self.group / 4).enumerate() {
                let group = block * (BLOCK / self.group) + i;
                unsafe { self.write(step, quants, to.add((group * rows + t) * each)) };
            }
        }
    }

    /// Writes a group, its activations as i32.
    #[inline(always)]
    unsafe fn write(self, step: f32, quants: &[U32x4], to: *mut u8) {
        let mut sum = U32x4::splat(0);
        for (i, q) in quants.chunks_exact(4).enumerate() {
            sum = q.iter().fold(sum, |sum, q| sum.plus(*q));
            let (low, high) = (q[0].to_halves(q[1]), q[2].to_halves(q[3]));
            let mask = U32x4::splat(0xffff);
            unsafe {
                match (self.wide, self.nibbles) {
                    (false, false) => low.to_bytes(high).store(to.add(i * 16)),
                    // The even nibbles of a word are bytes, and the odd ones.
                    (false, true) => low.to_bytes(high).even_bytes_first().store(to.add(i * 16)),
                    // Nibbles that are 16 bits apart.
                    (true, true) => {
                        ((q[0] & mask) | q[1].shl::<16>()).store(to.add(i * 32));
                        ((q[2] & mask) | q[3].shl::<16>()).store(to.add(i * 32 + 16));
                    }
                    (true, false) => {
                        low.even_halves_first().store(to.add(i * 32));
                        high.even_halves_first().store(to.add(i * 32 + 16));
                    }
                }
            }
        }
        let tail = [step, step * sum.to_f32().sum(), 0.0, 0.0];
        unsafe { F32x4::new(tail).store(to.add(self.group_bytes() - TAIL).cast()) };
    }
}

/// What a unit is, and 32 activations as multiples of it. Where one is not finite the unit is not.
#[inline(always)]
fn quantised(values: [F32x4; 8]) -> (f32, [U32x4; 8]) {
    // Floats without sign are in the order of their bits, and NaN is the largest.
    let sizes = values.map(|v| v.bits() & U32x4::splat(0x7fff_ffff));
    let largest = sizes.into_iter().fold(U32x4::splat(0), U32x4::most);
    let largest = f32::from_bits(largest.lanes().into_iter().fold(0, u32::max));
    // Smaller ones would have no inverse.
    let inverse = if largest < 1e-30 { 0.0 } else { MOST / largest };
    // To add it rounds to the nearest integer, and leaves it in the lower bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = |v: F32x4| {
        let v = v * F32x4::splat(inverse) + F32x4::splat(ROUND);
        v.bits().plus(U32x4::splat(ROUND.to_bits().wrapping_neg()))
    };
    (largest / MOST, values.map(rounded))
}

/// How the weights of a unit are unpacked and multiplied: `V` vectors out of `WORDS` vectors of words.
trait Unit<const V: usize> {
    const FORMAT: Format;
    const WORDS: usize;
    /// Bytes of a row's activations for a unit.
    const ACTIVATIONS: usize = V * 4;

    unsafe fn unpack(words: *const u8, mask: U32x4) -> [U32x4; V];

    /// The products of the unit's weights and a row's activations.
    unsafe fn dot(weights: &[U32x4; V], x: *const u8) -> U32x4;

    /// What unpacking masks with.
    const MASK: u32;
}

/// Bytes against bytes. `CHUNK` sums of two products have no more than 15 bits and a sign.
#[inline(always)]
unsafe fn dot_bytes<const V: usize, const CHUNK: usize>(weights: &[U32x4; V], x: *const u8) -> U32x4 {
    let product = |i: usize| unsafe { U32x4::load_splat(x.add(i * 4)) }.dot_bytes(weights[i]);
    let chunk = |first: usize| (first + 1..first + CHUNK).fold(product(first), |sum, i| sum.plus_halves(product(i)));
    (CHUNK..V).step_by(CHUNK).fold(chunk(0).pairs(), |sum, first| sum.plus(chunk(first).pairs()))
}

/// i16 against i16.
#[inline(always)]
unsafe fn dot_halves<const V: usize>(weights: &[U32x4; V], x: *const u8) -> U32x4 {
    let product = |i: usize| unsafe { U32x4::load_splat(x.add(i * 4)) }.dot_halves(weights[i]);
    (1..V).fold(product(0), |sum, i| sum.plus(product(i)))
}

/// Nibbles as bytes: at most 15 * 127 * 2, and eight of that.
struct Nibbles<const MIN: bool>;
/// Bytes of at most five bits: 31 * 127 * 2, and four of that.
struct Bytes<const MIN: bool>;
/// Bytes of at most six bits: 63 * 127 * 2, and two of that.
struct FineBytes;
/// Nibbles as i16.
struct WideNibbles<const MIN: bool>;
/// Bytes as i16.
struct WideBytes<const MIN: bool, const FINE: bool>;

impl<const MIN: bool> Unit<8> for Nibbles<MIN> {
    const FORMAT: Format = if MIN { Format::U4Min } else { Format::U4 };
    const WORDS: usize = 4;
    const MASK: u32 = 0x0f0f_0f0f;

    #[inline(always)]
    unsafe fn unpack(words: *const u8, mask: U32x4) -> [U32x4; 8] {
        from_fn(|i| {
            let word = unsafe { U32x4::load(words.add(i / 2 * 16)) };
            if i % 2 == 0 { word & mask } else { word.shr::<4>() & mask }
        })
    }

    #[inline(always)]
    unsafe fn dot(weights: &[U32x4; 8], x: *const u8) -> U32x4 {
        unsafe { dot_bytes::<8, 8>(weights, x) }
    }
}

impl<const MIN: bool> Unit<8> for Bytes<MIN> {
    const FORMAT: Format = if MIN { Format::U8Min } else { Format::U8 };
    const WORDS: usize = 8;
    const MASK: u32 = 0;

    #[inline(always)]
    unsafe fn unpack(words: *const u8, _: U32x4) -> [U32x4; 8] {
        from_fn(|i| unsafe { U32x4::load(words.add(i * 16)) })
    }

    #[inline(always)]
    unsafe fn dot(weights: &[U32x4; 8], x: *const u8) -> U32x4 {
        unsafe { dot_bytes::<8, 4>(weights, x) }
    }
}

impl Unit<4> for FineBytes {
    const FORMAT: Format = Format::U8Fine;
    const WORDS: usize = 4;
    const MASK: u32 = 0;

    #[inline(always)]
    unsafe fn unpack(words: *const u8, _: U32x4) -> [U32x4; 4] {
        from_fn(|i| unsafe { U32x4::load(words.add(i * 16)) })
    }

    #[inline(always)]
    unsafe fn dot(weights: &[U32x4; 4], x: *const u8) -> U32x4 {
        unsafe { dot_bytes::<4, 2>(weights, x) }
    }
}

impl<const MIN: bool> Unit<8> for WideNibbles<MIN> {
    const FORMAT: Format = if MIN { Format::U4Min } else { Format::U4 };
    const WORDS: usize = 2;
    const MASK: u32 = 0x000f_000f;

    #[inline(always)]
    unsafe fn unpack(words: *const u8, mask: U32x4) -> [U32x4; 8] {
        from_fn(|i| {
            let word = unsafe { U32x4::load(words.add(i / 4 * 16)) };
            let shifted = match i % 4 {
                0 => word,
                1 => word.shr::<4>(),
                2 => word.shr::<8>(),
                _ => word.shr::<12>(),
            };
            shifted & mask
        })
    }

    #[inline(always)]
    unsafe fn dot(weights: &[U32x4; 8], x: *const u8) -> U32x4 {
        unsafe { dot_halves(weights, x) }
    }
}

impl<const MIN: bool, const FINE: bool> Unit<8> for WideBytes<MIN, FINE> {
    const FORMAT: Format = match (MIN, FINE) {
        (false, false) => Format::U8,
        (true, false) => Format::U8Min,
        (_, true) => Format::U8Fine,
    };
    const WORDS: usize = 4;
    const MASK: u32 = 0x00ff_00ff;

    #[inline(always)]
    unsafe fn unpack(words: *const u8, mask: U32x4) -> [U32x4; 8] {
        from_fn(|i| {
            let word = unsafe { U32x4::load(words.add(i / 2 * 16)) };
            if i % 2 == 0 { word & mask } else { word.shr::<8>() & mask }
        })
    }

    #[inline(always)]
    unsafe fn dot(weights: &[U32x4; 8], x: *const u8) -> U32x4 {
        unsafe { dot_halves(weights, x) }
    }
}

/// The products of `count` panels, whole bundles but for the last, with `rows` rows that were laid out for them. Four outputs of row t
/// and panel p go to `out[(p * rows + t) * 4]`; there is room for whole bundles.
///
/// # Safety
/// The matrix has so many panels of `groups` groups; rows and room are there.
pub(crate) unsafe fn products(
    (format, bias, groups): (Format, f32, usize),
    panels: *const u8,
    count: usize,
    (rows, x): (usize, *const u8),
    out: *mut f32,
) {
    let wide = Reading::of(format, bias).wide;
    for bundle in (0..count).step_by(BUNDLE) {
        unsafe {
            let panels = panels.add(format.panel_at(bundle, groups * format.group()));
            let out = out.add(bundle * rows * 4);
            let sizes = (groups, rows);
            match (format, wide) {
                (Format::U4, false) => bundle_of::<Nibbles<false>, 8>(panels, bias, sizes, x, out),
                (Format::U4Min, false) => bundle_of::<Nibbles<true>, 8>(panels, bias, sizes, x, out),
                (Format::U8, false) => bundle_of::<Bytes<false>, 8>(panels, bias, sizes, x, out),
                (Format::U8Min, false) => bundle_of::<Bytes<true>, 8>(panels, bias, sizes, x, out),
                (Format::U8Fine, false) => bundle_of::<FineBytes, 4>(panels, bias, sizes, x, out),
                (Format::U4, true) => bundle_of::<WideNibbles<false>, 8>(panels, bias, sizes, x, out),
                (Format::U4Min, true) => bundle_of::<WideNibbles<true>, 8>(panels, bias, sizes, x, out),
                (Format::U8, true) => bundle_of::<WideBytes<false, false>, 8>(panels, bias, sizes, x, out),
                (Format::U8Min, true) => bundle_of::<WideBytes<true, false>, 8>(panels, bias, sizes, x, out),
                (Format::U8Fine, true) => bundle_of::<WideBytes<false, true>, 8>(panels, bias, sizes, x, out),
                (Format::F32 | Format::F16 | Format::BF16, _) => unreachable!("floats have no quants"),
            }
        }
    }
}

unsafe fn bundle_of<U: Unit<V>, const V: usize>(
    mut panel: *const u8,
    bias: f32,
    (groups, rows): (usize, usize),
    x: *const u8,
    out: *mut f32,
) {
    let format = const { U::FORMAT };
    let units = format.group() / format.per_vector() / U::WORDS;
    let each = units * U::ACTIVATIONS + TAIL;
    // It must stay in a register: an engine may make a constant anew in each turn.
    let mask = U32x4::splat(core::hint::black_box(U::MASK));
    for i in 0..BUNDLE * rows {
        unsafe { F32x4::splat(0.0).store(out.add(i * 4)) };
    }
    for group in 0..groups {
        let x = unsafe { x.add(group * rows * each) };
        for p in 0..BUNDLE {
            let scales = unsafe { panel.add(units * U::WORDS * 16) };
            let scale = unsafe { U32x4::load(scales) }.as_f32();
            let min = match format.has_min() {
                true => unsafe { U32x4::load(scales.add(16)) }.as_f32(),
                false => scale * F32x4::splat(-bias),
            };
            for unit in 0..units {
                let weights = unsafe { U::unpack(panel.add(unit * U::WORDS * 16), mask) };
                let (mut x, mut to) = (x, unsafe { out.add(p * rows * 4) });
                for _ in 0..rows {
                    unsafe {
                        let sum = U::dot(&weights, x.add(unit * U::ACTIVATIONS)).to_f32();
                        let step = F32x4::load_splat(x.add(units * U::ACTIVATIONS).cast());
                        let mut total = scale.mul_add(sum * step, F32x4::load(to));
                        if unit + 1 == units {
                            let of_all = F32x4::load_splat(x.add(units * U::ACTIVATIONS + 4).cast());
                            total = min.mul_add(of_all, total);
                        }
                        total.store(to);
                        x = x.add(each);
                        to = to.add(4);
                    }
                }
            }
            panel = unsafe { panel.add(format.group_bytes()) };
        }
    }
}
