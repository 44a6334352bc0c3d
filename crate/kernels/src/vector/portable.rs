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

    /// The word at `from` in all lanes.
    ///
    /// # Safety
    /// Four readable bytes.
    #[inline(always)]
    pub unsafe fn load_splat(from: *const u8) -> Self {
        Self([unsafe { from.cast::<u32>().read_unaligned() }; 4])
    }

    /// Writes four words to `to`.
    ///
    /// # Safety
    /// Sixteen writable bytes.
    #[inline(always)]
    pub unsafe fn store(self, to: *mut u8) {
        unsafe { to.cast::<[u32; 4]>().write_unaligned(self.0) }
    }

    /// The larger of lanes, as signed numbers.
    #[inline(always)]
    pub fn most(self, other: Self) -> Self {
        Self(each(self.0, other.0, |a, b| (a as i32).max(b as i32) as u32))
    }

    /// Signed bytes times bytes below 128, neighbours added: eight i16, which must not overflow.
    #[inline(always)]
    pub fn dot_bytes(self, small: Self) -> Self {
        let product = |a: u32, b: u32, at: u32| i32::from((a >> at) as i8) * i32::from((b >> at) as i8);
        let sum = |a, b, at| u32::from((product(a, b, at) + product(a, b, at + 8)) as u16);
        Self(each(self.0, small.0, |a, b| sum(a, b, 0) | sum(a, b, 16) << 16))
    }

    /// i16 times i16, neighbours added: four i32.
    #[inline(always)]
    pub fn dot_halves(self, other: Self) -> Self {
        let product = |a: u32, b: u32, at: u32| i32::from((a >> at) as i16) * i32::from((b >> at) as i16);
        Self(each(self.0, other.0, |a, b| product(a, b, 0).wrapping_add(product(a, b, 16)) as u32))
    }

    /// i16 added, modulo 2^16.
    #[inline(always)]
    pub fn plus_halves(self, other: Self) -> Self {
        Self(each(self.0, other.0, |a, b| (a.wrapping_add(b) & 0xffff) | ((a >> 16).wrapping_add(b >> 16) << 16)))
    }

    /// Neighbouring i16 added: four i32.
    #[inline(always)]
    pub fn pairs(self) -> Self {
        Self(self.0.map(|v| (i32::from(v as i16) + i32::from((v >> 16) as i16)) as u32))
    }

    /// The i32 of both as eight i16, saturated.
    #[inline(always)]
    pub fn to_halves(self, other: Self) -> Self {
        let half = |v: u32| u32::from((v as i32).clamp(-0x8000, 0x7fff) as u16);
        let pack = |[a, b, c, d]: [u32; 4]| [half(a) | half(b) << 16, half(c) | half(d) << 16];
        let ([a, b], [c, d]) = (pack(self.0), pack(other.0));
        Self([a, b, c, d])
    }

    /// The i16 of both as sixteen i8, saturated.
    #[inline(always)]
    pub fn to_bytes(self, other: Self) -> Self {
        let byte = |v: u32| u32::from((v as i16).clamp(-0x80, 0x7f) as u8);
        let pack = |a: u32, b: u32| byte(a) | byte(a >> 16) << 8 | byte(b) << 16 | byte(b >> 16) << 24;
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([pack(a, b), pack(c, d), pack(e, f), pack(g, h)])
    }

    /// Of each eight bytes, those at even places and then the others.
    #[inline(always)]
    pub fn even_bytes_first(self) -> Self {
        let pack = |a: u32, b: u32| a & 0xff | (a >> 8 & 0xff00) | (b & 0xff) << 16 | (b << 8 & 0xff00_0000);
        let [a, b, c, d] = self.0;
        Self([pack(a, b), pack(a >> 8, b >> 8), pack(c, d), pack(c >> 8, d >> 8)])
    }

    /// Of each four i16, those at even places and then the others.
    #[inline(always)]
    pub fn even_halves_first(self) -> Self {
        let [a, b, c, d] = self.0;
        let (even, odd) = (|a: u32, b: u32| a & 0xffff | b << 16, |a: u32, b: u32| a >> 16 | (b & 0xffff_0000));
        Self([even(a, b), odd(a, b), even(c, d), odd(c, d)])
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
