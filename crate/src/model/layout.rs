//! Where every byte of a model's files goes: checked and laid out by the headers alone, before any memory is taken.

use std::collections::HashMap;

use super::ModelConfig;
use super::decoder::{Decoder, Halves, Piece, Spec};
use crate::error::{Error, ErrorCode, Result, excerpt};
use crate::format::gguf::TensorInfo;
use crate::format::quant::{PanelLayout, PlaneLayout, QuantType};
use crate::program::{Matrix, Parameter, Part};

/// What one buffer of a parameter may hold at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a binding.
    pub bytes: u64,
    /// Rows of a matrix that one dispatch can multiply with; a multiple of four.
    pub rows: u64,
}

/// How a runner keeps matrices.
#[derive(Clone, Copy, Debug)]
pub enum Arrangement {
    /// As planes, in buffers within these limits.
    Planes(Limits),
    /// As panels, in bundles of sixteen rows, each parameter in one buffer.
    Panels,
}

/// Where a matrix or a vector lies in its buffer, from where it starts.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Planes(PlaneLayout),
    Panels(PanelLayout),
}

impl Place {
    /// The place of so many rows of this width. A vector, whose rows are single values, has one plane.
    fn new(arrangement: Arrangement, ty: QuantType, width: u64, rows: u64) -> Self {
        match arrangement {
            Arrangement::Panels if width > 1 => Self::Panels(PanelLayout::new(ty, width, rows)),
            _ => Self::Planes(PlaneLayout::new(ty, width * rows)),
        }
    }

    /// Its size, a multiple of 16.
    fn bytes(&self) -> u64 {
        match self {
            Self::Planes(planes) => planes.total_bytes,
            Self::Panels(panels) => panels.total_bytes,
        }
    }

    /// Where its planes start, or its panels, in words of a buffer in which it starts at byte `base`.
    fn words(&self, base: u64) -> Vec<u32> {
        match self {
            Self::Planes(planes) => planes.offsets.iter().map(|o| ((base + o) / 4) as u32).collect(),
            Self::Panels(_) => vec![(base / 4) as u32],
        }
    }

    /// The file's type of its values as it keeps them.
    pub fn ty(&self) -> QuantType {
        match self {
            Self::Planes(planes) => planes.ty,
            Self::Panels(panels) => panels.ty,
        }
    }
}

/// A buffer that a parameter needs.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferLayout {
    /// What messages call it: a tensor's name, or `blk.N.attn_qkv`.
    pub parameter: String,
    /// Its size.
    pub bytes: u64,
}

/// Where a run of a tensor's rows goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Which of [`Layout::buffers`].
    pub buffer: usize,
    /// Where its bytes begin in the tensor.
    pub start: u64,
    /// The file's type.
    pub from: QuantType,
    /// Added to every value.
    pub offset: f32,
    /// The matrix that it is a part of, and where that starts in the buffer.
    pub matrix: Place,
    pub base: u64,
    /// Its first block in the matrix.
    pub first: u64,
    pub elements: u64,
    /// The order of its rows, and the bytes of each as memory keeps them.
    pub halves: Option<(Halves, usize)>,
}

/// What becomes of a tensor.
#[derive(Clone, Debug, Default)]
pub(super) enum Use {
    /// Nothing: no parameter takes it.
    #[default]
    None,
    /// Divisors of the rotary frequencies, which the CPU reads.
    Divisors(&'static str),
    /// It goes to buffers, in the order of its bytes.
    Buffers(Vec<Target>),
}

/// The parameters of a model, and the way of every tensor into them.
#[derive(Debug)]
pub struct Layout {
    /// The parameters, each with the index of its buffers.
    pub decoder: Decoder<Parameter<usize>>,
    /// All buffers.
    pub buffers: Vec<BufferLayout>,
    /// By part of the file, and tensor of the part.
    pub(super) uses: Vec<Vec<Use>>,
}

/// Whether a tensor says nothing that the metadata does not: the rotary frequencies themselves, which old converters left
/// in. llama.cpp passes them over too.
fn is_harmless(name: &str) -> bool {
    let rest = name.strip_prefix("blk.").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    matches!(rest, Some(".attn_rot_embd" | ".attn_rot_embd.weight" | ".attn_rot_embd.inv_freq"))
}

fn invalid<T>(message: String) -> Result<T> {
    Err(Error::new(ErrorCode::InvalidTensor, message))
}

/// A tensor and its place: part of the file, and index in the part.
type Placed<'a> = (&'a TensorInfo, (usize, usize));

/// The tensors of all parts of a file.
pub(super) struct Index<'a> {
    parts: Vec<&'a [TensorInfo]>,
    by_name: HashMap<&'a str, Placed<'a>>,
}

impl<'a> Index<'a> {
    /// # Errors
    /// `invalid_file` for a tensor that is there twice.
    pub fn new(parts: Vec<&'a [TensorInfo]>) -> Result<Self> {
        let mut by_name: HashMap<&str, Placed> = HashMap::new();
        for (part, &tensors) in parts.iter().enumerate() {
            for (i, tensor) in tensors.iter().enumerate() {
                if let Some((_, (first, _))) = by_name.insert(&tensor.name, (tensor, (part, i))) {
                    let (name, first, part) = (excerpt(&tensor.name), first + 1, part + 1);
                    let message = format!("tensor '{name}' is in part {first} of the model and in part {part}");
                    return Err(Error::new(ErrorCode::InvalidFile, message));
                }
            }
        }
        Ok(Self { parts, by_name })
    }

    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The tensor of this name, which must be there in this shape; a vector must be of floats.
    ///
    /// # Errors
    /// `invalid_tensor`, `unsupported_quantization`.
    pub fn find(&self, name: &str, shape: [usize; 2], arch: &str) -> Result<Placed<'a>> {
        let Some(&placed) = self.by_name.get(name) else {
            return invalid(format!("tensor '{name}' is missing; a {arch} model must have it"));
        };
        let tensor = placed.0;
        let padded: Vec<u64> = tensor.shape.iter().copied().chain([1, 1]).take(tensor.shape.len().max(2)).collect();
        if padded[..2] != shape.map(|n| n as u64) || padded[2..].iter().any(|n| *n != 1) {
            return invalid(format!("tensor '{name}' has shape {:?}; the metadata calls for {shape:?}", tensor.shape));
        }
        if shape[1] == 1 && !tensor.ty.is_float() {
            let message =
                format!("tensor '{name}' is {}; norms, biases and rotary factors must be floats", tensor.ty.name());
            return Err(Error::new(ErrorCode::UnsupportedQuantization, message));
        }
        Ok(placed)
    }
}

impl Layout {
    /// The layout of the tensors of all parts of a file; `quantization` is the type that memory keeps float matrices in.
    ///
    /// # Errors
    /// `invalid_tensor` for one that is missing, of another shape than the metadata calls for, or not used by any
    /// parameter; `unsupported_quantization` for a vector that is not of floats.
    pub(super) fn new(
        config: &ModelConfig,
        index: &Index,
        arrangement: Arrangement,
        quantization: Option<QuantType>,
    ) -> Result<Self> {
        let uses = index.parts.iter().map(|tensors| vec![Use::None; tensors.len()]).collect();
        let mut planner = Planner { config, index, arrangement, quantization, buffers: Vec::new(), uses };
        for rope in &config.ropes {
            for name in rope.tensors() {
                let (tensor, (part, i)) = index.find(name, [rope.dims / 2, 1], config.arch)?;
                if tensor.ty != QuantType::F32 {
                    return invalid(format!("tensor '{name}' is {}; rotary factors must be F32", tensor.ty.name()));
                }
                planner.uses[part][i] = Use::Divisors(name);
            }
        }
        let tied = !index.has("output.weight");
        let decoder = Decoder::new(config, tied, |spec| planner.parameter(&spec))?;
        let Planner { buffers, mut uses, .. } = planner;
        for using in uses.iter_mut().flatten() {
            if let Use::Buffers(targets) = using {
                targets.sort_by_key(|target| target.start);
            }
        }
        let unused = |(_, (part, i)): &&Placed| matches!(uses[*part][*i], Use::None);
        // The same one in each run.
        let unused = index.by_name.values().filter(unused).filter(|(tensor, _)| !is_harmless(&tensor.name));
        match unused.min_by_key(|(_, place)| *place) {
            Some((tensor, _)) => invalid(format!(
                "tensor '{}' is in the file, but a {} model has no use for it: what the file computes is not what the engine \
                 would",
                excerpt(&tensor.name),
                config.arch
            )),
            None => Ok(Self { decoder, buffers, uses }),
        }
    }

    /// Weights that the buffers hold.
    pub fn elements(&self) -> u64 {
        let of = |using: &Use| match using {
            Use::Buffers(targets) => targets.iter().map(|target| target.elements).sum(),
            _ => 0,
        };
        self.uses.iter().flatten().map(of).sum()
    }

    /// How many runs of bytes fill the buffers.
    pub(super) fn targets(&self) -> usize {
        let count = |using: &Use| if let Use::Buffers(targets) = using { targets.len() } else { 0 };
        self.uses.iter().flatten().map(count).sum()
    }
}

/// A piece of a parameter, with its tensor and the type that memory keeps it in.
struct Found<'a> {
    piece: &'a Piece,
    tensor: &'a TensorInfo,
    place: (usize, usize),
    ty: QuantType,
}

impl Found<'_> {
    /// Values in each of its rows.
    fn width(&self) -> usize {
        if self.piece.is_vector() { 1 } else { self.piece.shape[0] }
    }

    fn elements(&self) -> u64 {
        (self.piece.rows.len() * self.width()) as u64
    }
}

struct Planner<'a> {
    config: &'a ModelConfig,
    index: &'a Index<'a>,
    arrangement: Arrangement,
    quantization: Option<QuantType>,
    buffers: Vec<BufferLayout>,
    uses: Vec<Vec<Use>>,
}

impl Planner<'_> {
    fn parameter(&mut self, spec: &Spec) -> Result<Parameter<usize>> {
        let found = spec.pieces.iter().map(|piece| {
            let (tensor, place) = self.index.find(&piece.tensor, piece.shape, self.config.arch)?;
            let ty = match (piece.is_vector(), self.quantization) {
                (true, _) => QuantType::F32,
                // Rows of other lengths stay as they are.
                (false, Some(ty)) if tensor.ty.is_float() && piece.shape[0].is_multiple_of(ty.block_len()) => ty,
                (false, _) => tensor.ty,
            };
            Ok(Found { piece, tensor, place, ty })
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        Ok(if spec.splits { self.in_parts(&found[0]) } else { self.together(&spec.name, &found) })
    }

    fn send(&mut self, found: &Found, target: Target) {
        let using = &mut self.uses[found.place.0][found.place.1];
        match using {
            Use::Buffers(targets) => targets.push(target),
            _ => *using = Use::Buffers(vec![target]),
        }
    }

    /// One buffer for all pieces; neighbours of one type are one matrix in it.
    fn together(&mut self, name: &str, pieces: &[Found]) -> Parameter<usize> {
        let mut part = Part { words: self.buffers.len(), matrices: Vec::new(), vector: None };
        let mut base = 0;
        let arrangement = self.arrangement;
        let joins = |found: &Found| match arrangement {
            Arrangement::Panels if !found.piece.is_vector() => PanelLayout::joins(found.piece.rows.len()),
            _ => true,
        };
        let same = |a: &Found, b: &Found| a.ty == b.ty && a.piece.is_vector() == b.piece.is_vector() && joins(a);
        for same in pieces.chunk_by(same) {
            let ty = same[0].ty;
            let rows = same.iter().map(|found| found.piece.rows.len()).sum();
            let matrix = Place::new(self.arrangement, ty, same[0].width() as u64, rows as u64);
            let described = Matrix { ty, first: 0, rows, planes: matrix.words(base) };
            match same[0].piece.is_vector() {
                true => part.vector = Some(described),
                false => part.matrices.push(described),
            }
            let mut first = 0;
            for found in same {
                let Found { piece, tensor, .. } = found;
                let target = Target {
                    buffer: part.words,
                    start: tensor.ty.bytes_for((piece.rows.start * found.width()) as u64),
                    from: tensor.ty,
                    offset: piece.offset,
                    matrix: matrix.clone(),
                    base,
                    first,
                    elements: found.elements(),
                    halves: piece.halves.map(|halves| (halves, ty.bytes_for(found.width() as u64) as usize)),
                };
                self.send(found, target);
                first += found.elements() / ty.block_len() as u64;
            }
            base += matrix.bytes();
        }
        self.buffers.push(BufferLayout { parameter: name.into(), bytes: base });
        Parameter { parts: vec![part] }
    }

    /// As few buffers for this tensor as the limits allow.
    fn in_parts(&mut self, found: &Found) -> Parameter<usize> {
        let Found { piece, tensor, ty, .. } = *found;
        let (width, rows) = (piece.shape[0] as u64, piece.shape[1] as u64);
        let count = match self.arrangement {
            Arrangement::Planes(limits) => {
                let bytes = PlaneLayout::new(ty, width * rows).total_bytes;
                bytes.div_ceil(limits.bytes).max(rows.div_ceil(limits.rows))
            }
            Arrangement::Panels => 1,
        };
        // Products make four outputs at a time.
        let each = rows.div_ceil(count).next_multiple_of(4);
        let mut parts = Vec::new();
        for first in (0..rows).step_by(each as usize) {
            let rows = each.min(rows - first);
            let matrix = Place::new(self.arrangement, ty, width, rows);
            let matrices = vec![Matrix { ty, first: first as usize, rows: rows as usize, planes: matrix.words(0) }];
            let buffer = self.buffers.len();
            parts.push(Part { words: buffer, matrices, vector: None });
            self.buffers.push(BufferLayout { parameter: piece.tensor.clone(), bytes: matrix.bytes() });
            let (start, from) = (tensor.ty.bytes_for(first * width), tensor.ty);
            let (base, elements) = (0, rows * width);
            let target = Target { buffer, start, from, offset: 0.0, matrix, base, first: 0, elements, halves: None };
            self.send(found, target);
        }
        Parameter { parts }
    }
}
