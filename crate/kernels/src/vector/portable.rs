//! Lanes as arrays: the same arithmetic, rounded at the same places, on any machine.

/// Four f32.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct F32x4([f32; 4]);

/// Four u32.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct U32x4([u32; 4]);

#[inline(always)]
fn each<A: Copy, B: Copy, C>(a: [A; 4], b: [B; 4], f: impl Fn(A, B) -> C) -> [C; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl F32x4 {
    /// The same value in all lanes.
    #[inline(always)]
    pub fn splat(v: f32) -> Self {
        Self([v; 4])
    }

    /// These lanes.
    #[inline(always)]
    pub fn new(lanes: [f32; 4]) -> Self {
        Self(lanes)
    }

    /// The lanes.
    #[inline(always)]
    pub fn lanes(self) -> [f32; 4] {
        self.0
    }

    /// Four values at `from`.
    ///
    /// # Safety
    /// Sixteen readable bytes.
    #[inline(always)]
    pub unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    /// The value at `from` in all lanes.
    ///
    /// # Safety
    /// Four readable bytes.
    #[inline(always)]
    pub unsafe fn load_splat(from: *const f32) -> Self {
        Self([unsafe { *from }; 4])
    }

    /// Writes four values to `to`.
    ///
    /// # Safety
    /// Sixteen writable bytes.
    #[inline(always)]
    pub unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    /// `self * by + to`, rounded twice.
    #[inline(always)]
    pub fn mul_add(self, by: Self, to: Self) -> Self {
        self * by + to
    }

    /// Lane by lane, `self` where one is NaN.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self(each(self.0, other.0, |a, b| if a < b { b } else { a }))
    }

    /// Lane by lane, `self` where one is NaN.
    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        Self(each(self.0, other.0, |a, b| if b < a { b } else { a }))
    }

    /// Square roots.
    #[inline(always)]
    pub fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }

    /// All ones where `self > other`.
    #[inline(always)]
    pub fn above(self, other: Self) -> U32x4 {
        U32x4(each(self.0, other.0, |a, b| if a > b { u32::MAX } else { 0 }))
    }

    /// The sums of the lanes of each, `(v0 + v2) + (v1 + v3)`.
    #[inline(always)]
    pub fn sums(of: [Self; 4]) -> Self {
        Self(of.map(|Self([a, b, c, d])| (a + c) + (b + d)))
    }

    /// The lanes' bits.
    #[inline(always)]
    pub fn bits(self) -> U32x4 {
        U32x4(self.0.map(f32::to_bits))
    }
}

macro_rules! operator {
    ($($name:ident $method:ident $operator:tt)*) => {
        $(impl core::ops::$name for F32x4 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(each(self.0, other.0, |a, b| a $operator b))
            }
        })*
    };
}

operator! { Add add + Sub sub - Mul mul * Div div / }

impl U32x4 {
    /// The same value in all lanes.
    #[inline(always)]
    pub fn splat(v: u32) -> Self {
        Self([v; 4])
    }

    /// Four words at `from`.
    ///
    /// # Safety
    /// Sixteen readable bytes.
    #[inline(always)]
    pub unsafe fn load(from: *const u8) -> Self {
        Self(unsafe { from.cast::<[u32; 4]>().read_unaligned() })
    }

    /// The lanes.
    #[inline(always)]
    pub fn lanes(self) -> [u32; 4] {
        self.0
    }

    /// These lanes.
    #[inline(always)]
    pub fn new(lanes: [u32; 4]) -> Self {
        Self(lanes)
    }

    /// The bits of `a` where those of `self` are set, else of `b`.
    #[inline(always)]
    pub fn select(self, a: Self, b: Self) -> Self {
        (a & self) | Self(each(b.0, self.0, |b, mask| b & !mask))
    }

    /// Four u16 at `from`.
    ///
    /// # Safety
    /// Eight readable bytes.
    #[inline(always)]
    pub unsafe fn load_halves(from: *const u8) -> Self {
        Self(unsafe { from.cast::<[u16; 4]>().read_unaligned() }.map(u32::from))
    }

    /// Lanes shifted down.
    #[inline(always)]
    pub fn shr<const N: u32>(self) -> Self {
        Self(self.0.map(|v| v >> N))
    }

    /// Lanes shifted up.
    #[inline(always)]
    pub fn shl<const N: u32>(self) -> Self {
        Self(self.0.map(|v| v << N))
    }

    /// All ones where `self > other`, as signed numbers.
    #[inline(always)]
    pub fn above(self, other: Self) -> Self {
        Self(each(self.0, other.0, |a, b| if a as i32 > b as i32 { u32::MAX } else { 0 }))
    }

    /// Lanes added, modulo 2^32.
    #[inline(always)]
    pub fn plus(self, other: Self) -> Self {
        Self(each(self.0, other.0, u32::wrapping_add))
    }

    /// Lanes as signed numbers.
    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(self.0.map(|v| v as i32 as f32))
    }

    /// Lanes as f32's bits.
    #[inline(always)]
    pub fn as_f32(self) -> F32x4 {
        F32x4(self.0.map(f32::from_bits))
    }
}

impl core::ops::BitAnd for U32x4 {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(each(self.0, other.0, |a, b| a & b))
    }
}

impl core::ops::BitOr for U32x4 {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(each(self.0, other.0, |a, b| a | b))
    }
}
