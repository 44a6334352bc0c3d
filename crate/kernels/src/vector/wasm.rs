//! Lanes of WebAssembly SIMD.

use core::arch::wasm32::*;

/// Four f32.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct F32x4(v128);

/// Four u32.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct U32x4(v128);

impl F32x4 {
    /// The same value in all lanes.
    #[inline(always)]
    pub fn splat(v: f32) -> Self {
        Self(f32x4_splat(v))
    }

    /// These lanes.
    #[inline(always)]
    pub fn new([a, b, c, d]: [f32; 4]) -> Self {
        Self(f32x4(a, b, c, d))
    }

    /// The lanes.
    #[inline(always)]
    pub fn lanes(self) -> [f32; 4] {
        [
            f32x4_extract_lane::<0>(self.0),
            f32x4_extract_lane::<1>(self.0),
            f32x4_extract_lane::<2>(self.0),
            f32x4_extract_lane::<3>(self.0),
        ]
    }

    /// Four values at `from`.
    ///
    /// # Safety
    /// Sixteen readable bytes.
    #[inline(always)]
    pub unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { v128_load(from.cast()) })
    }

    /// The value at `from` in all lanes.
    ///
    /// # Safety
    /// Four readable bytes.
    #[inline(always)]
    pub unsafe fn load_splat(from: *const f32) -> Self {
        Self(unsafe { v128_load32_splat(from.cast()) })
    }

    /// Writes four values to `to`.
    ///
    /// # Safety
    /// Sixteen writable bytes.
    #[inline(always)]
    pub unsafe fn store(self, to: *mut f32) {
        unsafe { v128_store(to.cast(), self.0) }
    }

    /// `self * by + to`, rounded once or twice: the engine's choice under `relaxed-simd`, else twice.
    #[inline(always)]
    pub fn mul_add(self, by: Self, to: Self) -> Self {
        #[cfg(target_feature = "relaxed-simd")]
        return Self(f32x4_relaxed_madd(self.0, by.0, to.0));
        // In this order V8 finds registers for more rows: six take a tenth less time.
        #[cfg(not(target_feature = "relaxed-simd"))]
        return Self(f32x4_add(f32x4_mul(by.0, self.0), to.0));
    }

    /// Lane by lane, `self` where one is NaN.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self(f32x4_pmax(self.0, other.0))
    }

    /// Lane by lane, `self` where one is NaN.
    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        Self(f32x4_pmin(self.0, other.0))
    }

    /// Square roots.
    #[inline(always)]
    pub fn sqrt(self) -> Self {
        Self(f32x4_sqrt(self.0))
    }

    /// All ones where `self > other`.
    #[inline(always)]
    pub fn above(self, other: Self) -> U32x4 {
        U32x4(f32x4_gt(self.0, other.0))
    }

    /// The sums of the lanes of each, `(v0 + v2) + (v1 + v3)`.
    #[inline(always)]
    pub fn sums([a, b, c, d]: [Self; 4]) -> Self {
        let halves =
            |a: Self, b: Self| f32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a.0, b.0), i32x4_shuffle::<2, 6, 3, 7>(a.0, b.0));
        let (ab, cd) = (halves(a, b), halves(c, d));
        Self(f32x4_add(i64x2_shuffle::<0, 2>(ab, cd), i64x2_shuffle::<1, 3>(ab, cd)))
    }

    /// The lanes' bits.
    #[inline(always)]
    pub fn bits(self) -> U32x4 {
        U32x4(self.0)
    }
}

macro_rules! operator {
    ($($name:ident $method:ident $intrinsic:ident)*) => {
        $(impl core::ops::$name for F32x4 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self($intrinsic(self.0, other.0))
            }
        })*
    };
}

operator! { Add add f32x4_add Sub sub f32x4_sub Mul mul f32x4_mul Div div f32x4_div }

impl U32x4 {
    /// The same value in all lanes.
    #[inline(always)]
    pub fn splat(v: u32) -> Self {
        Self(u32x4_splat(v))
    }

    /// Four words at `from`.
    ///
    /// # Safety
    /// Sixteen readable bytes.
    #[inline(always)]
    pub unsafe fn load(from: *const u8) -> Self {
        Self(unsafe { v128_load(from.cast()) })
    }

    /// The lanes.
    #[inline(always)]
    pub fn lanes(self) -> [u32; 4] {
        [
            u32x4_extract_lane::<0>(self.0),
            u32x4_extract_lane::<1>(self.0),
            u32x4_extract_lane::<2>(self.0),
            u32x4_extract_lane::<3>(self.0),
        ]
    }

    /// These lanes.
    #[inline(always)]
    pub fn new([a, b, c, d]: [u32; 4]) -> Self {
        Self(u32x4(a, b, c, d))
    }

    /// The bits of `a` where those of `self` are set, else of `b`.
    #[inline(always)]
    pub fn select(self, a: Self, b: Self) -> Self {
        Self(v128_bitselect(a.0, b.0, self.0))
    }

    /// Four u16 at `from`.
    ///
    /// # Safety
    /// Eight readable bytes.
    #[inline(always)]
    pub unsafe fn load_halves(from: *const u8) -> Self {
        Self(unsafe { u32x4_load_extend_u16x4(from.cast()) })
    }

    /// Lanes shifted down.
    #[inline(always)]
    pub fn shr<const N: u32>(self) -> Self {
        Self(u32x4_shr(self.0, N))
    }

    /// Lanes shifted up.
    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        Self(i32x4_shl(self.0, N))
    }

    /// All ones where `self > other`, as signed numbers.
    #[inline(always)]
    pub fn above(self, other: Self) -> Self {
        Self(i32x4_gt(self.0, other.0))
    }

    /// Lanes added, modulo 2^32.
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        Self(i32x4_add(self.0, other.0))
    }

    /// The word at `from` in all lanes.
    ///
    /// # Safety
    /// Four readable bytes.
    #[inline(always)]
    pub unsafe fn load_splat(from: *const u8) -> Self {
        Self(unsafe { v128_load32_splat(from.cast()) })
    }

    /// Writes four words to `to`.
    ///
    /// # Safety
    /// Sixteen writable bytes.
    #[inline(always)]
    pub unsafe fn store(self, to: *mut u8) {
        unsafe { v128_store(to.cast(), self.0) }
    }

    /// The larger of lanes, as signed numbers.
    #[inline(always)]
    pub fn most(self, other: Self) -> Self {
        Self(i32x4_max(self.0, other.0))
    }

    /// Signed bytes times bytes below 128, neighbours added: eight i16, which must not overflow.
    #[inline(always)]
    pub fn dot_bytes(self, small: Self) -> Self {
        #[cfg(target_feature = "relaxed-simd")]
        return Self(i16x8_relaxed_dot_i8x16_i7x16(self.0, small.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        {
            let _ = small;
            unreachable!("an engine without relaxed SIMD has no products of bytes")
        }
    }

    /// i16 times i16, neighbours added: four i32.
    #[inline(always)]
    pub fn dot_halves(self, other: Self) -> Self {
        Self(i32x4_dot_i16x8(self.0, other.0))
    }

    /// i16 added, modulo 2^16.
    #[inline(always)]
    pub fn plus_halves(self, other: Self) -> Self {
        Self(i16x8_add(self.0, other.0))
    }

    /// Neighbouring i16 added: four i32.
    #[inline(always)]
    pub fn pairs(self) -> Self {
        Self(i32x4_extadd_pairwise_i16x8(self.0))
    }

    /// The i32 of both as eight i16, saturated.
    #[inline(always)]
    pub fn to_halves(self, other: Self) -> Self {
        Self(i16x8_narrow_i32x4(self.0, other.0))
    }

    /// The i16 of both as sixteen i8, saturated.
    #[inline(always)]
    pub fn to_bytes(self, other: Self) -> Self {
        Self(i8x16_narrow_i16x8(self.0, other.0))
    }

    /// Of each eight bytes, those at even places and then the others.
    #[inline(always)]
    pub fn even_bytes_first(self) -> Self {
        Self(i8x16_shuffle::<0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15>(self.0, self.0))
    }

    /// Of each four i16, those at even places and then the others.
    #[inline(always)]
    pub fn even_halves_first(self) -> Self {
        Self(i16x8_shuffle::<0, 2, 1, 3, 4, 6, 5, 7>(self.0, self.0))
    }

    /// Lanes as signed numbers.
    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(f32x4_convert_i32x4(self.0))
    }

    /// Lanes as f32's bits.
    #[inline(always)]
    pub fn as_f32(self) -> F32x4 {
        F32x4(self.0)
    }
}

impl core::ops::BitAnd for U32x4 {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(v128_and(self.0, other.0))
    }
}

impl core::ops::BitOr for U32x4 {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(v128_or(self.0, other.0))
    }
}
