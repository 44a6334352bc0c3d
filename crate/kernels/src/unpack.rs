//! Weights as floats in scratch memory.

use crate::format::{BUNDLE, Format, Kind, shrink, with_kind};
use crate::vector::{F32x4, U32x4};

/// Outputs whose unpacked weights lie side by side: two panels.
pub(crate) const OUTPUTS: usize = 8;

/// Makes weights `first .. first + count` of a panel's four outputs floats: weight k goes to `out[(k - first) * OUTPUTS]`. `first` and
/// `count` are multiples of 32. It is ggml's arithmetic, rounded at the same places.
///
/// # Safety
/// The panel has so many weights, `out` room for them.
pub(crate) unsafe fn weights(
    (format, bias): (Format, f32),
    panel: *const u8,
    (first, count): (usize, usize),
    out: *mut f32,
) {
    with_kind!(format, K => unsafe { unpack::<K>(bias, panel, first, count, out) })
}

unsafe fn unpack<K: Kind>(bias: f32, panel: *const u8, first: usize, count: usize, mut out: *mut f32) {
    let format = const { K::FORMAT };
    let masks = K::masks();
    let vectors = format.group() / format.per_vector();
    let mut at = unsafe { panel.add(first / format.group() * format.group_bytes() * BUNDLE) };
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
                let part = if j < 4 { words } else { words.shr::<16>() };
                let mut weight = K::weight(part, j % 4, &masks);
                if format.has_scale() {
                    weight = weight * scales[j % 4] + offset;
                }
                unsafe { weight.store(out) };
                out = unsafe { out.add(OUTPUTS) };
            }
        }
        at = unsafe { at.add(format.group_bytes() * BUNDLE) };
    }
}
