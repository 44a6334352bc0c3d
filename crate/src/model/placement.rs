//! Where the bytes of a file's tensors go: the parameters, the memory that each gets, and for each tensor its runs of rows.

use std::collections::HashMap;

use super::ModelConfig;
use super::decoder::{Decoder, Halves, Piece, Spec};
use crate::format::gguf::TensorInfo;
use crate::format::quant::{PlaneLayout, PlaneSplitter, QuantType};
use crate::program::{Matrix, Memory, Parameter, Part};
use crate::{Error, ErrorCode, Result};

/// A file's tensors by name.
pub(super) type Index<'a> = HashMap<&'a str, &'a TensorInfo>;

/// Where a run of a tensor's rows goes.
pub(super) struct Target<W> {
    words: W,
    /// Where its bytes begin in the tensor.
    pub start: u64,
    /// The matrix that it is a part of, and where that starts in the memory.
    matrix: PlaneLayout,
    base: u64,
    /// Its first block in the matrix.
    first: u64,
    elements: u64,
    /// The order of its rows, and the bytes of each.
    halves: Option<(Halves, usize)>,
}

/// The parameters, and by the name of each tensor its targets, in the order of their bytes.
pub(super) struct Placement<W> {
    pub decoder: Decoder<Parameter<W>>,
    pub targets: HashMap<String, Vec<Target<W>>>,
}

/// A spec, and the type of each of its pieces' tensors.
type Found = (Spec, Vec<QuantType>);

impl<W: Clone> Placement<W> {
    /// Checks that the tensors are those of a model of this shape, then takes memory for them.
    ///
    /// # Errors
    /// `invalid_tensor` for a missing tensor or one of the wrong shape, `unsupported_quantization` for a vector that is not
    /// F32; `adapter_too_small` when a parameter does not fit the memory.
    pub fn new(memory: &impl Memory<Words = W>, config: &ModelConfig, index: &Index) -> Result<Self> {
        let tied = !index.contains_key("output.weight");
        let found: Decoder<Found> = Decoder::new(config, tied, |spec| {
            let find = |piece: &Piece| find(index, &piece.tensor, piece.shape, config.arch).map(|tensor| tensor.ty);
            let types = spec.pieces.iter().map(find).collect::<Result<_>>()?;
            Ok((spec, types))
        })?;
        let mut targets: HashMap<String, Vec<Target<W>>> = HashMap::new();
        let decoder = found.try_map(|(spec, types)| match spec.splits {
            true => in_parts(memory, &spec, types[0], &mut targets),
            false => together(memory, &spec, &types, &mut targets),
        })?;
        for targets in targets.values_mut() {
            targets.sort_by_key(|target| target.start);
        }
        Ok(Self { decoder, targets })
    }
}

/// The tensor of this name, which must be there in this shape; a vector must be F32.
pub(super) fn find<'a>(index: &Index<'a>, name: &str, shape: [usize; 2], arch: &str) -> Result<&'a TensorInfo> {
    let invalid = |message: String| Err(Error::new(ErrorCode::InvalidTensor, message));
    let Some(&tensor) = index.get(name) else {
        return invalid(format!("tensor '{name}' is missing; a {arch} model must have it"));
    };
    let padded: Vec<u64> = tensor.shape.iter().copied().chain([1, 1]).take(tensor.shape.len().max(2)).collect();
    if padded[..2] != shape.map(|n| n as u64) || padded[2..].iter().any(|n| *n != 1) {
        return invalid(format!("tensor '{name}' has shape {:?}; the metadata calls for {shape:?}", tensor.shape));
    }
    if shape[1] == 1 && tensor.ty != QuantType::F32 {
        let message = format!("tensor '{name}' is {}; norms, biases and rotary factors must be F32", tensor.ty.name());
        return Err(Error::new(ErrorCode::UnsupportedQuantization, message));
    }
    Ok(tensor)
}

/// Where planes start in memory whose matrix begins at byte `base`, in words.
fn planes(matrix: &PlaneLayout, base: u64) -> Vec<u32> {
    matrix.offsets.iter().map(|o| ((base + o) / 4) as u32).collect()
}

/// Values in each of its rows.
fn width(piece: &Piece) -> usize {
    if piece.is_vector() { 1 } else { piece.shape[0] }
}

/// One piece of memory for all of a spec; neighbours of one type are one matrix in it.
fn together<M: Memory>(
    memory: &M,
    spec: &Spec,
    types: &[QuantType],
    targets: &mut HashMap<String, Vec<Target<M::Words>>>,
) -> Result<Parameter<M::Words>>
where
    M::Words: Clone,
{
    let mut part = (Vec::new(), None);
    let mut base = 0;
    let mut waiting = Vec::new();
    let pieces: Vec<_> = spec.pieces.iter().zip(types).collect();
    for same in pieces.chunk_by(|a, b| a.1 == b.1 && a.0.is_vector() == b.0.is_vector()) {
        let ty = *same[0].1;
        let rows = same.iter().map(|(piece, _)| piece.rows.len()).sum();
        let matrix = PlaneLayout::new(ty, same.iter().map(|(piece, _)| (piece.rows.len() * width(piece)) as u64).sum());
        let described = Matrix { ty, first: 0, rows, planes: planes(&matrix, base) };
        match same[0].0.is_vector() {
            true => part.1 = Some(described),
            false => part.0.push(described),
        }
        let mut first = 0;
        for (piece, _) in same {
            let elements = (piece.rows.len() * width(piece)) as u64;
            waiting.push((*piece, ty, matrix.clone(), base, first, elements));
            first += elements / ty.block_len() as u64;
        }
        base += matrix.total_bytes;
    }
    let words = memory.allocate(base, &format!("parameter '{}'", spec.name))?;
    for (piece, ty, matrix, base, first, elements) in waiting {
        let start = ty.bytes_for((piece.rows.start * width(piece)) as u64);
        let halves = piece.halves.map(|halves| (halves, ty.bytes_for(width(piece) as u64) as usize));
        let target = Target { words: words.clone(), start, matrix, base, first, elements, halves };
        targets.entry(piece.tensor.clone()).or_default().push(target);
    }
    let (matrices, vector) = part;
    Ok(Parameter { parts: vec![Part { words, matrices, vector }] })
}

/// As few pieces of memory for one tensor as its limit allows.
fn in_parts<M: Memory>(
    memory: &M,
    spec: &Spec,
    ty: QuantType,
    targets: &mut HashMap<String, Vec<Target<M::Words>>>,
) -> Result<Parameter<M::Words>>
where
    M::Words: Clone,
{
    let piece = &spec.pieces[0];
    let (width, rows) = (piece.shape[0] as u64, piece.shape[1] as u64);
    let count = PlaneLayout::new(ty, width * rows).total_bytes.div_ceil(memory.limit());
    // Products make four outputs at a time.
    let each = rows.div_ceil(count).next_multiple_of(4);
    let mut parts = Vec::new();
    for first in (0..rows).step_by(each as usize) {
        let rows = each.min(rows - first);
        let matrix = PlaneLayout::new(ty, rows * width);
        let words = memory.allocate(matrix.total_bytes, &format!("a part of tensor '{}'", piece.tensor))?;
        let matrices = vec![Matrix { ty, first: first as usize, rows: rows as usize, planes: planes(&matrix, 0) }];
        parts.push(Part { words: words.clone(), matrices, vector: None });
        let start = ty.bytes_for(first * width);
        let target = Target { words, start, matrix, base: 0, first: 0, elements: rows * width, halves: None };
        targets.entry(piece.tensor.clone()).or_default().push(target);
    }
    Ok(Parameter { parts })
}

/// Writes a target's bytes as they arrive.
pub(super) struct Writer {
    splitter: PlaneSplitter,
    heads: Option<HeadRows>,
}

impl Writer {
    pub fn new<W>(target: &Target<W>) -> Self {
        let Target { matrix, first, elements, halves, .. } = target;
        let splitter = PlaneSplitter::part(matrix.clone(), *first, *elements);
        Self { splitter, heads: halves.map(|(halves, row_bytes)| HeadRows { halves, row_bytes, head: Vec::new() }) }
    }

    /// Bytes of the target that have not arrived.
    pub fn left(&self) -> u64 {
        self.splitter.left() - self.heads.as_ref().map_or(0, |heads| heads.head.len() as u64)
    }

    /// Takes the next bytes, at most [`left`](Self::left); the last ones finish the target.
    pub fn push<M: Memory>(&mut self, memory: &M, target: &Target<M::Words>, bytes: &[u8]) -> Result<()> {
        let mut write = |offset: u64, data: &[u8]| {
            memory.write(&target.words, target.base + offset, data);
            Ok(())
        };
        match &mut self.heads {
            None => self.splitter.push(bytes, &mut write)?,
            Some(heads) => heads.push(bytes, |rows| self.splitter.push(rows, &mut write))?,
        }
        if self.left() == 0 {
            self.splitter.finish(&mut write)?;
        }
        Ok(())
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
