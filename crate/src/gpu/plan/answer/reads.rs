//! Pieces of many buffers, copied into one that is mapped once.

use std::ops::Range;

use burn_wgpu::wgpu;

/// A piece on its way.
pub struct Piece {
    from: wgpu::Buffer,
    start: u64,
    bytes: u64,
    at: u64,
}

impl Piece {
    pub fn copy(&self, encoder: &mut wgpu::CommandEncoder, to: &wgpu::Buffer) {
        encoder.copy_buffer_to_buffer(&self.from, self.start, to, self.at, self.bytes);
    }
}

/// Collects what is wanted.
#[derive(Default)]
pub struct Reads {
    copies: Vec<Piece>,
    bytes: u64,
}

impl Reads {
    /// Where bytes of a buffer will lie, those from `offset` on behind where a memory begins in it.
    pub fn want(&mut self, (buffer, base): (&wgpu::Buffer, u64), offset: usize, bytes: usize) -> Range<usize> {
        let wanted = base + offset as u64;
        // Copies are of whole words.
        let start = wanted & !3;
        let (at, copied) = (self.bytes, (wanted + bytes as u64).next_multiple_of(4) - start);
        self.copies.push(Piece { from: buffer.clone(), start, bytes: copied, at });
        self.bytes += copied;
        let first = (at + wanted - start) as usize;
        first..first + bytes
    }

    /// What was wanted since it was last asked.
    pub fn take(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.copies)
    }

    /// The size of all of it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
