//! Functions that no instruction computes. The same code everywhere, so the same bits.

use crate::vector::F32x4;

// A float of this size has no bits below one: to add it rounds to the nearest integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// e to the power of `x`, within about two units of the last place. Below -87 and above 88 it stays at what they give; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: F32x4) -> F32x4 {
    let splat = F32x4::splat;
    let x = x.max(splat(-87.0)).min(splat(88.0));
    let rounded = x * splat(core::f32::consts::LOG2_E) + splat(ROUND);
    let n = rounded - splat(ROUND);
    // ln 2 in two parts, the first so short that its products are exact.
    let f = (x - n * splat(0.693_359_4)) - n * splat(-2.121_944_4e-4);
    let mut p = splat(1.987_569_2e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * f + splat(c);
    }
    let p = (p * (f * f) + f) + splat(1.0);
    let power = rounded.bits().shl::<23>().plus(splat(1.0).bits()).as_f32();
    p * power
}

/// `v / (1 + exp(-v))`
#[inline(always)]
pub(crate) fn silu(v: F32x4) -> F32x4 {
    v / (F32x4::splat(1.0) + exp(F32x4::splat(0.0) - v))
}

/// GELU by tanh: `0.5 v (1 + tanh(u))` is `v / (1 + exp(-2u))`, `u = sqrt(2 / pi) (v + 0.044715 v^3)`.
#[inline(always)]
pub(crate) fn gelu(v: F32x4) -> F32x4 {
    let splat = F32x4::splat;
    let u = v * (splat(1.595_769) + splat(0.071_354_814) * v * v);
    v / (splat(1.0) + exp(splat(0.0) - u))
}

/// `cap * tanh(v / cap)`
#[inline(always)]
pub(crate) fn capped(v: F32x4, cap: f32) -> F32x4 {
    let splat = F32x4::splat;
    let e = exp((splat(2.0 / cap) * v).max(splat(-80.0)).min(splat(80.0)));
    splat(cap) * (e - splat(1.0)) / (e + splat(1.0))
}
