//! From the file's blocks to the GPU's planes.
//!
//! A shader that reads 18-byte blocks out of u32 words spends its time shifting. So a tensor's buffer holds the same
//! part of every block side by side (a plane), and the quants become whole, aligned words.

use super::QuantType;
use crate::error::{Error, ErrorCode, Result};

/// Every plane begins at a multiple of this many bytes, and so ends the buffer: one `vec4<u32>`.
const PLANE_ALIGN: u64 = 16;

/// About how many bytes a splitter holds back before it writes.
const BATCH_BYTES: usize = 1 << 20;

/// Where the planes of a tensor lie in its GPU buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneLayout {
    /// The tensor's type.
    pub ty: QuantType,
    /// Blocks in the tensor.
    pub blocks: u64,
    /// Byte offset of each plane of [`QuantType::planes`], a multiple of 16.
    pub offsets: Vec<u64>,
    /// Bytes of the buffer, a multiple of 16.
    pub total_bytes: u64,
}

impl PlaneLayout {
    /// The layout of a tensor of so many elements; a partial last block counts as a whole one.
    pub fn new(ty: QuantType, elements: u64) -> Self {
        let blocks = elements.div_ceil(ty.block_len() as u64);
        let mut end = 0u64;
        let mut offsets = Vec::with_capacity(ty.planes().len());
        for plane in ty.planes() {
            offsets.push(end);
            let bytes = blocks.saturating_mul(plane.bytes_per_block as u64);
            end = end.saturating_add(bytes).checked_next_multiple_of(PLANE_ALIGN).unwrap_or(u64::MAX - 15);
        }
        Self { ty, blocks, offsets, total_bytes: end }
    }
}

/// Takes bytes for the GPU buffer: a byte offset and the bytes, both multiples of four.
pub type WritePlane<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<()>;

/// Turns the file bytes of one tensor, in chunks of any size, into writes of the GPU buffer that it fills, alone or with
/// others.
///
/// It writes every byte of every plane, rounded up to four; the gaps before a plane's 16-byte boundary stay as the
/// buffer was. About 1 MiB waits in it at most. After an error it must not be used again.
pub struct PlaneSplitter {
    layout: PlaneLayout,
    /// Bytes of the file taken so far, and to be taken in all.
    taken: u64,
    total: u64,
    /// The start of a block (of a word, where there is one plane) whose end has not arrived.
    partial: Vec<u8>,
    /// What waits to be written, per plane: always the same number of blocks.
    staged: Vec<Vec<u8>>,
    staged_blocks: usize,
    /// Where the next block to be written lies. Even until `finish`, so that planes of two bytes per block are written in
    /// words.
    next_block: u64,
    /// Where its bytes begin, where there is one plane.
    start: u64,
    batch_blocks: usize,
}

impl PlaneSplitter {
    /// A splitter for a tensor of so many elements, with the buffer to itself.
    pub fn new(ty: QuantType, elements: u64) -> Self {
        Self::part(PlaneLayout::new(ty, elements), 0, elements)
    }

    /// A splitter for a tensor of so many elements whose blocks are those from `first` on of `layout`. All tensors of it
    /// but the last must be an even number of blocks and a multiple of four bytes, as whole heads are: 32 rows and more.
    pub fn part(layout: PlaneLayout, first: u64, elements: u64) -> Self {
        let ty = layout.ty;
        Self {
            taken: 0,
            total: ty.bytes_for(elements),
            partial: Vec::with_capacity(ty.block_bytes().max(4)),
            staged: vec![Vec::new(); layout.offsets.len()],
            staged_blocks: 0,
            next_block: first,
            start: first * ty.block_bytes() as u64,
            batch_blocks: (BATCH_BYTES / ty.block_bytes()) & !1,
            layout,
        }
    }

    /// Where the planes go.
    pub fn layout(&self) -> &PlaneLayout {
        &self.layout
    }

    /// Bytes of the tensor that have not arrived.
    pub fn left(&self) -> u64 {
        self.total - self.taken
    }

    /// Takes the next bytes of the tensor. [`ErrorCode::InvalidTensor`] if they are more than it has.
    pub fn push(&mut self, bytes: &[u8], write: WritePlane<'_>) -> Result<()> {
        if bytes.len() as u64 > self.left() {
            return Err(Error::new(
                ErrorCode::InvalidTensor,
                format!(
                    "{} bytes arrived for a {} tensor of {} bytes",
                    self.taken.saturating_add(bytes.len() as u64),
                    self.layout.ty.name(),
                    self.total
                ),
            ));
        }
        if self.layout.offsets.len() == 1 { self.pass(bytes, write) } else { self.split(bytes, write) }
    }

    /// Writes what is left, the tail of a plane padded with zeros to four bytes.
    /// [`ErrorCode::TruncatedFile`] if bytes of the tensor are missing.
    pub fn finish(&mut self, write: WritePlane<'_>) -> Result<()> {
        if self.left() > 0 {
            return Err(Error::new(
                ErrorCode::TruncatedFile,
                format!(
                    "a {} tensor of {} bytes ended after {}; download the file again",
                    self.layout.ty.name(),
                    self.total,
                    self.taken
                ),
            ));
        }
        if self.layout.offsets.len() > 1 {
            return self.flush(write);
        }
        if !self.partial.is_empty() {
            let at = self.start + self.taken - self.partial.len() as u64;
            self.partial.resize(4, 0);
            write(at, &self.partial)?;
            self.partial.clear();
        }
        Ok(())
    }

    /// One plane: the file's bytes are the buffer's, and only words cut by a chunk's end have to wait.
    fn pass(&mut self, mut bytes: &[u8], write: WritePlane<'_>) -> Result<()> {
        if !self.partial.is_empty() {
            self.fill_partial(&mut bytes, 4);
            if self.partial.len() < 4 {
                return Ok(());
            }
            write(self.start + self.taken - 4, &self.partial)?;
            self.partial.clear();
        }
        let (words, rest) = bytes.split_at(bytes.len() & !3);
        if !words.is_empty() {
            write(self.start + self.taken, words)?;
        }
        self.partial.extend_from_slice(rest);
        self.taken += bytes.len() as u64;
        Ok(())
    }

    /// Several planes: blocks are taken apart into `staged` and written a batch at a time.
    fn split(&mut self, mut bytes: &[u8], write: WritePlane<'_>) -> Result<()> {
        let size = self.layout.ty.block_bytes();
        if !self.partial.is_empty() {
            self.fill_partial(&mut bytes, size);
            if self.partial.len() < size {
                return Ok(());
            }
            let mut block = std::mem::take(&mut self.partial);
            self.stage(&block, write)?;
            block.clear();
            self.partial = block;
        }
        let (blocks, rest) = bytes.split_at(bytes.len() / size * size);
        for batch in blocks.chunks(self.batch_blocks * size) {
            self.stage(batch, write)?;
        }
        self.partial.extend_from_slice(rest);
        self.taken += bytes.len() as u64;
        Ok(())
    }

    /// Moves bytes to `partial` until it has `size` or they end.
    fn fill_partial(&mut self, bytes: &mut &[u8], size: usize) {
        let (head, rest) = bytes.split_at(bytes.len().min(size - self.partial.len()));
        self.partial.extend_from_slice(head);
        self.taken += head.len() as u64;
        *bytes = rest;
    }

    /// Takes whole blocks apart, writing whenever a batch is full.
    fn stage(&mut self, mut blocks: &[u8], write: WritePlane<'_>) -> Result<()> {
        let size = self.layout.ty.block_bytes();
        while !blocks.is_empty() {
            let room = self.batch_blocks - self.staged_blocks;
            let (now, later) = blocks.split_at(blocks.len().min(room * size));
            for (plane, staged) in self.layout.ty.planes().iter().zip(&mut self.staged) {
                staged.reserve(now.len() / size * plane.bytes_per_block);
                for block in now.chunks_exact(size) {
                    staged.extend_from_slice(&block[plane.start..plane.start + plane.bytes_per_block]);
                }
            }
            self.staged_blocks += now.len() / size;
            if self.staged_blocks == self.batch_blocks {
                self.flush(write)?;
            }
            blocks = later;
        }
        Ok(())
    }

    /// Writes the staged blocks. Only the last batch of a tensor can be odd, so only it is ever padded.
    fn flush(&mut self, write: WritePlane<'_>) -> Result<()> {
        if self.staged_blocks == 0 {
            return Ok(());
        }
        let planes = self.layout.ty.planes().iter().zip(&self.layout.offsets).zip(&mut self.staged);
        for ((plane, offset), staged) in planes {
            staged.resize(staged.len().next_multiple_of(4), 0);
            write(offset + self.next_block * plane.bytes_per_block as u64, staged)?;
            staged.clear();
        }
        self.next_block += self.staged_blocks as u64;
        self.staged_blocks = 0;
        Ok(())
    }
}
