//! Four lanes at a time: WebAssembly's `v128`, or arrays that LLVM makes vectors of.
//!
//! `wide` 1.7 was looked at first. It has neither `f32x4.relaxed_madd` nor loads that splat, and its masks come from
//! comparisons of its own types; what is left is these few lines.

#[cfg(not(target_arch = "wasm32"))]
mod portable;
#[cfg(target_arch = "wasm32")]
mod wasm;

#[cfg(not(target_arch = "wasm32"))]
pub use portable::{F32x4, U32x4};
#[cfg(target_arch = "wasm32")]
pub use wasm::{F32x4, U32x4};

impl F32x4 {
    /// `(a0 + a1) + (a2 + a3)`
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let [a, b, c, d] = self.lanes();
        (a + b) + (c + d)
    }

    /// The largest lane.
    #[inline(always)]
    pub fn largest(self) -> f32 {
        let [a, b, c, d] = self.lanes();
        let most = |a: f32, b: f32| if a > b { a } else { b };
        most(most(a, b), most(c, d))
    }
}

/// `1 / sqrt(v)`
#[inline(always)]
pub fn inverse_sqrt(v: f32) -> f32 {
    1.0 / F32x4::splat(v).sqrt().lanes()[0]
}
