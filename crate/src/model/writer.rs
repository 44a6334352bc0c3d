//! A tensor's rows on their way into memory: converted where memory keeps another type, heads put in order, split into planes
//! or gathered to panels.

use super::decoder::Halves;
use super::layout::{Place, Target};
use crate::Result;
use crate::format::quant::{Converter, PanelWriter, PlaneSplitter, WritePlane};

/// How rows become what memory keeps.
enum Packer {
    Planes(Box<PlaneSplitter>),
    Panels(PanelWriter),
}

impl Packer {
    fn push(&mut self, rows: &[u8], write: WritePlane<'_>) -> Result<()> {
        match self {
            Self::Planes(splitter) => splitter.push(rows, write),
            Self::Panels(writer) => writer.push(rows, write),
        }
    }

    fn finish(&mut self, write: WritePlane<'_>) -> Result<()> {
        match self {
            Self::Planes(splitter) => splitter.finish(write),
            Self::Panels(writer) => writer.finish(write),
        }
    }
}

/// Takes the bytes of one target as they arrive.
pub(super) struct Writer {
    packer: Packer,
    converter: Option<Converter>,
    heads: Option<HeadRows>,
    /// Bytes of the file that have not arrived.
    left: u64,
}

impl Writer {
    pub fn new(target: &Target) -> Self {
        let Target { matrix, first, elements, halves, from, offset, .. } = target;
        Self {
            packer: match matrix {
                Place::Planes(planes) => {
                    Packer::Planes(Box::new(PlaneSplitter::part(planes.clone(), *first, *elements)))
                }
                Place::Panels(panels) => Packer::Panels(PanelWriter::part(panels, *first, *elements)),
            },
            converter: Converter::new(*from, matrix.ty(), *offset),
            heads: halves.map(|(halves, row_bytes)| HeadRows { halves, row_bytes, head: Vec::new() }),
            left: from.bytes_for(*elements),
        }
    }

    /// Bytes of the file that have not arrived.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes the next bytes, at most [`left`](Self::left); the last ones finish the target.
    pub fn push(&mut self, bytes: &[u8], write: WritePlane<'_>) -> Result<()> {
        self.left -= bytes.len() as u64;
        let Self { packer, converter, heads, .. } = self;
        let mut split = |rows: &[u8]| packer.push(rows, write);
        let mut order = |rows: &[u8]| match heads {
            Some(heads) => heads.push(rows, &mut split),
            None => split(rows),
        };
        match converter {
            Some(converter) => converter.push(bytes, order)?,
            None => order(bytes)?,
        }
        if self.left == 0 { self.packer.finish(write) } else { Ok(()) }
    }
}

/// Gives the rows of each head in the order in which those that turn together are neighbours.
struct HeadRows {
    halves: Halves,
    row_bytes: usize,
    /// What has arrived of the current head.
    head: Vec<u8>,
}

impl HeadRows {
    fn push(&mut self, mut bytes: &[u8], mut give: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let size = self.halves.head_dim * self.row_bytes;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(size - self.head.len()));
            self.head.extend_from_slice(now);
            bytes = later;
            if self.head.len() == size {
                let row = |at: usize| {
                    let start = self.halves.source(at) * self.row_bytes;
                    &self.head[start..start + self.row_bytes]
                };
                let ordered: Vec<u8> = (0..self.halves.head_dim).flat_map(row).copied().collect();
                self.head.clear();
                give(&ordered)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_head_become_neighbours_however_the_bytes_come() {
        // Two heads of six rows of two bytes; the first four rows of each turn.
        let bytes: Vec<u8> = (0..24).collect();
        for piece in [1, 3, 5, 24] {
            let halves = Halves { head_dim: 6, dims: 4 };
            let mut heads = HeadRows { halves, row_bytes: 2, head: Vec::new() };
            let mut out = Vec::new();
            for bytes in bytes.chunks(piece) {
                heads.push(bytes, |rows| Ok(out.extend_from_slice(rows))).unwrap();
            }
            let head = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11];
            let expected: Vec<u8> = head.into_iter().chain(head.map(|b| b + 12)).collect();
            assert_eq!(out, expected, "pieces of {piece}");
        }
    }
}
