//! From the file's rows to bundles of four panels of four rows, as the CPU's kernels read them (`embergram_kernels::format`).

use embergram_kernels::format::{BUNDLE, Format};

use super::QuantType;
use super::dequantize::{fifth_bit, half_at, k_scale_min, nibbles};
use super::planes::WritePlane;
use crate::error::{Error, ErrorCode, Result};

/// Rows of a panel.
const PANEL_ROWS: usize = 4;

/// Rows of a bundle.
const ROWS: usize = PANEL_ROWS * BUNDLE;

/// About how many bytes a writer holds back before it writes.
const BATCH_BYTES: usize = 1 << 20;

/// Where the panels of a matrix lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelLayout {
    /// The file's type.
    pub ty: QuantType,
    /// Weights of a row, a multiple of 32.
    pub inner: u64,
    /// Bytes of a bundle, a multiple of 16.
    pub bundle_bytes: u64,
    /// Bytes of all of them.
    pub total_bytes: u64,
}

impl PanelLayout {
    /// The layout of a matrix of so many rows of `inner` weights; rows that are missing in the last bundle are zero.
    pub fn new(ty: QuantType, inner: u64, rows: u64) -> Self {
        let (format, _) = ty.panels();
        let bundle_bytes = format.bundle_bytes(inner as usize) as u64;
        Self { ty, inner, bundle_bytes, total_bytes: bundle_bytes.saturating_mul(rows.div_ceil(ROWS as u64)) }
    }

    /// Whether so many rows of several tensors may be one below the other in a matrix: each begins a bundle.
    pub fn joins(rows: usize) -> bool {
        rows.is_multiple_of(ROWS)
    }
}

impl QuantType {
    /// The panels' format of such weights, and what their quants have too much.
    pub fn panels(self) -> (Format, f32) {
        match self {
            Self::F32 => (Format::F32, 0.0),
            Self::F16 => (Format::F16, 0.0),
            Self::BF16 => (Format::BF16, 0.0),
            Self::Q4_0 => (Format::U4, 8.0),
            Self::Q4_1 | Self::Q4_K => (Format::U4Min, 0.0),
            Self::Q5_0 => (Format::U8, 16.0),
            Self::Q8_0 => (Format::U8, 128.0),
            Self::Q5_1 | Self::Q5_K => (Format::U8Min, 0.0),
            Self::Q6_K => (Format::U8Fine, 32.0),
        }
    }
}

/// Turns the file bytes of rows, in chunks of any size, into writes of panels, alone or with other rows of the matrix. About
/// 1 MiB and sixteen rows wait in it at most. After an error it must not be used again.
pub struct PanelWriter {
    ty: QuantType,
    inner: usize,
    /// The start of sixteen rows whose end has not arrived.
    partial: Vec<u8>,
    /// Bundles that wait to be written, and where they go.
    staged: Vec<u8>,
    at: u64,
    /// Bytes of the file that have not arrived.
    left: u64,
}

impl PanelWriter {
    /// A writer for so many elements, whole rows, whose blocks are those from `first` on. All rows of a matrix but the
    /// last ones must come in sixteens.
    pub fn part(layout: &PanelLayout, first: u64, elements: u64) -> Self {
        let PanelLayout { ty, inner, bundle_bytes, .. } = *layout;
        let row = first * ty.block_len() as u64 / inner;
        Self {
            ty,
            inner: inner as usize,
            partial: Vec::new(),
            staged: Vec::new(),
            at: row / ROWS as u64 * bundle_bytes,
            left: ty.bytes_for(elements),
        }
    }

    /// Takes the next bytes of the rows. [`ErrorCode::InvalidTensor`] if they are more than there should be.
    pub fn push(&mut self, mut bytes: &[u8], write: WritePlane<'_>) -> Result<()> {
        let more = (bytes.len() as u64).saturating_sub(self.left);
        if more > 0 {
            let message = format!("{more} bytes too many arrived for a {} tensor", self.ty.name());
            return Err(Error::new(ErrorCode::InvalidTensor, message));
        }
        self.left -= bytes.len() as u64;
        let size = ROWS * self.ty.bytes_for(self.inner as u64) as usize;
        if !self.partial.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(size - self.partial.len()));
            self.partial.extend_from_slice(now);
            bytes = later;
            if self.partial.len() < size {
                return Ok(());
            }
            let mut rows = std::mem::take(&mut self.partial);
            self.stage(&rows, write)?;
            rows.clear();
            self.partial = rows;
        }
        let mut bundles = bytes.chunks_exact(size);
        for rows in &mut bundles {
            self.stage(rows, write)?;
        }
        self.partial.extend_from_slice(bundles.remainder());
        Ok(())
    }

    /// Writes what is left, the last bundle with rows of zeros where there are less than sixteen.
    /// [`ErrorCode::TruncatedFile`] if bytes are missing.
    pub fn finish(&mut self, write: WritePlane<'_>) -> Result<()> {
        if self.left > 0 {
            let message =
                format!("{} bytes of a {} tensor are missing; download the file again", self.left, self.ty.name());
            return Err(Error::new(ErrorCode::TruncatedFile, message));
        }
        if !self.partial.is_empty() {
            let rows = std::mem::take(&mut self.partial);
            self.stage(&rows, write)?;
        }
        self.flush(write)
    }

    fn stage(&mut self, rows: &[u8], write: WritePlane<'_>) -> Result<()> {
        let (format, _) = self.ty.panels();
        let start = self.staged.len();
        let size = format.bundle_bytes(self.inner);
        self.staged.resize(start + size, 0);
        let bundle = &mut self.staged[start..];
        for (lane, row) in rows.chunks_exact(self.ty.bytes_for(self.inner as u64) as usize).enumerate() {
            pack_row(self.ty, format, row, lane, bundle);
        }
        if self.staged.len() + size > BATCH_BYTES { self.flush(write) } else { Ok(()) }
    }

    fn flush(&mut self, write: WritePlane<'_>) -> Result<()> {
        if !self.staged.is_empty() {
            write(self.at, &self.staged)?;
            self.at += self.staged.len() as u64;
            self.staged.clear();
        }
        Ok(())
    }
}

/// Writes a row into its lane of its panel of a bundle.
fn pack_row(ty: QuantType, format: Format, row: &[u8], place: usize, bundle: &mut [u8]) {
    let (panel, lane) = (place / PANEL_ROWS, place % PANEL_ROWS);
    let own = bundle.chunks_exact_mut(format.group_bytes()).skip(panel).step_by(BUNDLE);
    let mut vectors = own.flat_map(|group| group.chunks_exact_mut(16)).map(|v| &mut v[lane * 4..lane * 4 + 4]);
    let mut word = |bytes: [u8; 4]| vectors.next().expect("a panel has room for its rows").copy_from_slice(&bytes);
    if ty.is_float() {
        // The file's values follow one another in the words.
        row.chunks_exact(4).for_each(|bytes| word([bytes[0], bytes[1], bytes[2], bytes[3]]));
        return;
    }
    for block in row.chunks_exact(ty.block_bytes()) {
        groups(ty, block, |quants, scale, min| {
            match format.per_vector() {
                8 => quants.chunks_exact(8).for_each(|q| {
                    word([q[0] | q[1] << 4, q[2] | q[3] << 4, q[4] | q[5] << 4, q[6] | q[7] << 4]);
                }),
                _ => quants.chunks_exact(4).for_each(|q| word([q[0], q[1], q[2], q[3]])),
            }
            word(scale.to_le_bytes());
            if format.has_min() {
                word(min.to_le_bytes());
            }
        });
    }
}

/// Calls `each` with the unsigned quants, scale and min of every group of a block. The products of scales are those that ggml
/// rounds.
fn groups(ty: QuantType, block: &[u8], mut each: impl FnMut(&[u8], f32, f32)) {
    let mut quants = [0u8; 32];
    let d = half_at(block, 0);
    match ty {
        QuantType::Q4_0 => {
            nibbles(&block[2..], |i, q| quants[i] = q);
            each(&quants, d, 0.0);
        }
        QuantType::Q4_1 => {
            nibbles(&block[4..], |i, q| quants[i] = q);
            each(&quants, d, half_at(block, 2));
        }
        QuantType::Q5_0 => {
            nibbles(&block[6..], |i, q| quants[i] = q | fifth_bit(&block[2..6], i));
            each(&quants, d, 0.0);
        }
        QuantType::Q5_1 => {
            nibbles(&block[8..], |i, q| quants[i] = q | fifth_bit(&block[4..8], i));
            each(&quants, d, half_at(block, 2));
        }
        QuantType::Q8_0 => {
            quants.iter_mut().zip(&block[2..]).for_each(|(to, q)| *to = q ^ 0x80);
            each(&quants, d, 0.0);
        }
        QuantType::Q4_K | QuantType::Q5_K => {
            let (high, packed) = match ty {
                QuantType::Q4_K => (None, &block[16..]),
                _ => (Some(&block[16..48]), &block[48..]),
            };
            for group in 0..8 {
                let (scale, min) = k_scale_min(&block[4..16], group);
                for (i, to) in quants.iter_mut().enumerate() {
                    let fifth = high.map_or(0, |high| (high[i] >> group & 1) << 4);
                    *to = packed[group / 2 * 32 + i] >> (4 * (group % 2)) & 15 | fifth;
                }
                each(&quants, d * f32::from(scale), -(half_at(block, 2) * f32::from(min)));
            }
        }
        QuantType::Q6_K => {
            let d = half_at(block, 208);
            for run in 0..8 {
                let (half, run) = (run / 4, run % 4);
                for (i, to) in quants.iter_mut().enumerate() {
                    let low = block[half * 64 + run % 2 * 32 + i] >> (4 * (run / 2)) & 15;
                    *to = low | (block[128 + half * 32 + i] >> (2 * run) & 3) << 4;
                }
                for (i, quants) in quants.chunks_exact(16).enumerate() {
                    each(quants, d * f32::from(block[192 + half * 8 + run * 2 + i] as i8), 0.0);
                }
            }
        }
        QuantType::F32 | QuantType::F16 | QuantType::BF16 => unreachable!("floats have no groups"),
    }
}
