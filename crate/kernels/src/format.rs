//! How weights lie in memory. Four outputs (rows of a matrix) are a **panel**, and the lanes of its vectors are these outputs:
//! a product needs no sum over lanes, and every output is one chain of additions. Four panels are a **bundle**: in memory their
//! groups take turns, so that a product of all four reads one run of bytes.
//!
//! A vector of a panel holds as many weights of each output as fit 32 bits. The outputs follow one another in it, so that the
//! bytes of one are whole words. They are made floats where they stand in the word: a mask and a conversion, no shift. That
//! leaves a weight times a power of two, which is taken out of the activation beforehand and changes no rounding.

use crate::vector::{F32x4, U32x4};

/// A panel's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Format {
    /// f32.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an f32.
    BF16,
    /// `scale * (q - bias)`, q of 4 bits, a scale for each 32 weights.
    U4,
    /// `scale * q + min`, q of 4 bits, scale and min for each 32 weights.
    U4Min,
    /// `scale * (q - bias)`, q of 8 bits, a scale for each 32 weights.
    U8,
    /// `scale * q + min`, q of 8 bits, scale and min for each 32 weights.
    U8Min,
    /// `scale * (q - bias)`, q of 8 bits, a scale for each 16 weights.
    U8Fine,
}

impl Format {
    /// Every format, in the order of their numbers.
    pub const ALL: [Self; 8] =
        [Self::F32, Self::F16, Self::BF16, Self::U4, Self::U4Min, Self::U8, Self::U8Min, Self::U8Fine];

    /// Weights of an output in a vector of quants.
    pub const fn per_vector(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::U4 | Self::U4Min => 8,
            Self::U8 | Self::U8Min | Self::U8Fine => 4,
        }
    }

    /// Weights of an output in a group, whose scale follows its quants.
    pub const fn group(self) -> usize {
        if matches!(self, Self::U8Fine) { 16 } else { 32 }
    }

    /// Whether a group has a scale.
    pub const fn has_scale(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Whether a group has a min.
    pub const fn has_min(self) -> bool {
        matches!(self, Self::U4Min | Self::U8Min)
    }

    /// Bytes of a group of a panel: quants, scales, mins.
    pub const fn group_bytes(self) -> usize {
        16 * (self.group() / self.per_vector() + self.has_scale() as usize + self.has_min() as usize)
    }

    /// The format of this number.
    #[inline(always)]
    pub fn of(number: u32) -> Self {
        Self::ALL[number as usize]
    }

    /// Bytes of a bundle of so many weights per output, a multiple of 32.
    pub const fn bundle_bytes(self, inner: usize) -> usize {
        inner / self.group() * self.group_bytes() * BUNDLE
    }

    /// Where panel `panel` of a matrix begins; its groups are [`BUNDLE`] times a group's bytes apart.
    pub const fn panel_at(self, panel: usize, inner: usize) -> usize {
        panel / BUNDLE * self.bundle_bytes(inner) + panel % BUNDLE * self.group_bytes()
    }
}

/// Panels of a bundle.
pub const BUNDLE: usize = 4;

/// Constants that must stay in registers. An engine may build a vector constant anew in each turn of a loop, so they come out
/// of memory that a compiler cannot see through.
#[derive(Clone, Copy)]
pub(crate) struct Masks([U32x4; 4]);

/// A format, as kernels are compiled for it.
pub(crate) trait Kind {
    /// Which it is.
    const FORMAT: Format;
    /// What the masks are.
    const MASKS: [u32; 4];
    /// A weight is itself times two to the power of `SHIFTS[j]`.
    const SHIFTS: [u32; 4];

    /// Weight `j` of the four outputs of a vector; of those after the fourth, weight `j - 4` of the vector shifted by 16 bits.
    fn weight(v: U32x4, j: usize, masks: &Masks) -> F32x4;

    /// The masks, out of memory.
    #[inline(always)]
    fn masks() -> Masks {
        let words = Self::MASKS;
        let seen = core::hint::black_box(&words);
        Masks([U32x4::splat(seen[0]), U32x4::splat(seen[1]), U32x4::splat(seen[2]), U32x4::splat(seen[3])])
    }
}

pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct BF16;
/// Quants of four bits.
pub(crate) struct U4<const MIN: bool>;
/// Quants of eight bits.
pub(crate) struct U8<const MIN: bool, const FINE: bool>;

impl Kind for F32 {
    const FORMAT: Format = Format::F32;
    const MASKS: [u32; 4] = [0; 4];
    const SHIFTS: [u32; 4] = [0; 4];

    #[inline(always)]
    fn weight(v: U32x4, _: usize, _: &Masks) -> F32x4 {
        v.as_f32()
    }
}

impl Kind for BF16 {
    const FORMAT: Format = Format::BF16;
    const MASKS: [u32; 4] = [0xffff_0000; 4];
    const SHIFTS: [u32; 4] = [0; 4];

    #[inline(always)]
    fn weight(v: U32x4, j: usize, masks: &Masks) -> F32x4 {
        if j == 0 { v.shl::<16>().as_f32() } else { (v & masks.0[0]).as_f32() }
    }
}

impl Kind for F16 {
    const FORMAT: Format = Format::F16;
    // The sign, the rest, the largest that is finite, and what takes an infinity's exponent to that of an f32.
    const MASKS: [u32; 4] = [0x8000_0000, 0x0fff_e000, 0x0f7f_ffff, 0x7f80_0000];
    const SHIFTS: [u32; 4] = [0; 4];

    #[inline(always)]
    fn weight(v: U32x4, j: usize, masks: &Masks) -> F32x4 {
        let Masks([sign, rest, finite, infinite]) = *masks;
        let high = if j == 0 { v.shl::<16>() } else { v };
        let rest = high.shr::<3>() & rest;
        // The exponents' biases differ by 112; the product is exact, for subnormals too.
        let value = rest.as_f32() * U32x4::splat(0x7780_0000).as_f32();
        (value.bits() | (high & sign) | (rest.above(finite) & infinite)).as_f32()
    }
}

impl<const MIN: bool> Kind for U4<MIN> {
    const FORMAT: Format = if MIN { Format::U4Min } else { Format::U4 };
    const MASKS: [u32; 4] = [0xf, 0xf0, 0xf00, 0xf000];
    const SHIFTS: [u32; 4] = [0, 4, 8, 12];

    #[inline(always)]
    fn weight(v: U32x4, j: usize, masks: &Masks) -> F32x4 {
        (v & masks.0[j]).to_f32()
    }
}

impl<const MIN: bool, const FINE: bool> Kind for U8<MIN, FINE> {
    const FORMAT: Format = if FINE {
        Format::U8Fine
    } else if MIN {
        Format::U8Min
    } else {
        Format::U8
    };
    const MASKS: [u32; 4] = [0xff, 0xff00, 0xff_0000, 0];
    const SHIFTS: [u32; 4] = [0, 8, 16, 0];

    #[inline(always)]
    fn weight(v: U32x4, j: usize, masks: &Masks) -> F32x4 {
        if j == 3 { v.shr::<24>().to_f32() } else { (v & masks.0[j]).to_f32() }
    }
}

/// Two to the power of minus `shift`.
pub(crate) const fn shrink(shift: u32) -> f32 {
    f32::from_bits((127 - shift) << 23)
}

/// Runs `$body` with `$kind` as the kind of a format.
macro_rules! with_kind {
    ($format:expr, $kind:ident => $body:expr) => {
        match $format {
            $crate::format::Format::F32 => {
                type $kind = $crate::format::F32;
                $body
            }
            $crate::format::Format::F16 => {
                type $kind = $crate::format::F16;
                $body
            }
            $crate::format::Format::BF16 => {
                type $kind = $crate::format::BF16;
                $body
            }
            $crate::format::Format::U4 => {
                type $kind = $crate::format::U4<false>;
                $body
            }
            $crate::format::Format::U4Min => {
                type $kind = $crate::format::U4<true>;
                $body
            }
            $crate::format::Format::U8 => {
                type $kind = $crate::format::U8<false, false>;
                $body
            }
            $crate::format::Format::U8Min => {
                type $kind = $crate::format::U8<true, false>;
                $body
            }
            $crate::format::Format::U8Fine => {
                type $kind = $crate::format::U8<false, true>;
                $body
            }
        }
    };
}
pub(crate) use with_kind;
