//! Where every byte of a model's files goes: checked and laid out by the headers alone, before any memory is taken.

use std::collections::HashMap;

use super::ModelConfig;
use crate::error::{Error, ErrorCode, Result, excerpt};
use crate::format::gguf::TensorInfo;
use crate::format::quant::{PlaneLayout, QuantType};

/// Llama 3's scaling of the rotary frequencies: a factor for each pair.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// Parameters that may lie in several buffers, each with a run of their rows: those of a vocabulary's size, which alone
/// outgrow what an adapter binds at once (128 MiB on many phones) and what one dispatch can multiply.
const IN_PARTS: [&str; 2] = ["token_embd", "output"];

/// What one buffer of a parameter may hold at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a binding.
    pub bytes: u64,
    /// Rows of a matrix that one dispatch can multiply with; a multiple of four.
    pub rows: u64,
}

/// A matrix or vector inside a buffer, of one tensor or of several of one type, one below the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// The file's type, kept on the GPU.
    pub ty: QuantType,
    /// Its first row, where it is a part of a tensor.
    pub first: usize,
    /// Its rows, which are outputs of a product.
    pub rows: usize,
    /// Start of each plane (format/quant.rs), in 32-bit words, a multiple of four.
    pub planes: Vec<u32>,
}

/// A buffer that a parameter needs; one in parts has several, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferLayout {
    /// The parameter's name: that of its tensor without `.weight`, or `blk.N.attn_qkv`.
    pub parameter: String,
    /// Its size.
    pub bytes: u64,
    /// What lies in it.
    pub matrices: Vec<Matrix>,
}

/// Where a tensor's bytes go, or a run of them.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Which of [`Layout::buffers`].
    pub buffer: usize,
    /// Where its bytes begin in the tensor.
    pub start: u64,
    /// The matrix that it is a part of, and where that starts in the buffer.
    pub matrix: PlaneLayout,
    pub base: u64,
    /// Its first block in the matrix.
    pub first: u64,
    pub elements: u64,
}

/// What becomes of a tensor.
#[derive(Clone, Debug, Default)]
pub(super) enum Use {
    /// Nothing: no parameter takes it.
    #[default]
    None,
    /// The factors of the rotary frequencies, which the CPU reads.
    RopeFactors,
    /// It goes to buffers, in the order of its bytes.
    Buffers(Vec<Target>),
}

/// The parameters of a model, and the way of every tensor into them.
#[derive(Debug, Default)]
pub struct Layout {
    /// All buffers.
    pub buffers: Vec<BufferLayout>,
    /// By part of the file, and tensor of the part.
    pub(super) uses: Vec<Vec<Use>>,
}

/// A parameter's name, and its tensors, each with its shape, innermost first.
type Planned = (String, Vec<(String, [usize; 2])>);

/// All parameters of a model, layer by layer: a header may claim more layers than a list of them could be held for.
fn plan(config: &ModelConfig, has_output: bool) -> impl Iterator<Item = Planned> {
    let ModelConfig { d, ff, vocab, layers, .. } = *config;
    let (q_d, kv_d) = (config.q_d(), config.kv_d());
    let one = |name: String, inner, outer| (name.clone(), vec![(format!("{name}.weight"), [inner, outer])]);
    let mut ends = vec![one("token_embd".into(), d, vocab), one("output_norm".into(), d, 1)];
    if has_output {
        ends.push(one("output".into(), d, vocab));
    }
    let layer = move |i: usize| {
        let name = |n: &str| format!("blk.{i}.{n}");
        let qkv = [("attn_q", q_d), ("attn_k", kv_d), ("attn_v", kv_d)];
        let qkv = qkv.map(|(n, outer)| (name(&format!("{n}.weight")), [d, outer])).to_vec();
        let mut all = vec![(name("attn_qkv"), qkv)];
        let others = [
            ("attn_norm", d, 1),
            ("attn_output", q_d, d),
            ("ffn_norm", d, 1),
            ("ffn_gate", d, ff),
            ("ffn_up", d, ff),
            ("ffn_down", ff, d),
        ];
        all.extend(others.map(|(n, inner, outer)| one(name(n), inner, outer)));
        all
    };
    ends.into_iter().chain((0..layers).flat_map(layer))
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

/// A tensor of this name, which must have this shape; a vector must be F32.
fn check(tensor: &TensorInfo, shape: [usize; 2]) -> Result<()> {
    let name = &tensor.name;
    let padded: Vec<u64> = tensor.shape.iter().copied().chain([1, 1]).take(tensor.shape.len().max(2)).collect();
    if padded[..2] != shape.map(|n| n as u64) || padded[2..].iter().any(|n| *n != 1) {
        return invalid(format!("tensor '{name}' has shape {:?}; the metadata calls for {shape:?}", tensor.shape));
    }
    if shape[1] == 1 && tensor.ty != QuantType::F32 {
        let message = format!("tensor '{name}' is {}; norms and rope_freqs must be F32", tensor.ty.name());
        return Err(Error::new(ErrorCode::UnsupportedQuantization, message));
    }
    Ok(())
}

/// Where planes start in a buffer whose matrix begins at byte `base`, in words.
fn planes(matrix: &PlaneLayout, base: u64) -> Vec<u32> {
    matrix.offsets.iter().map(|o| ((base + o) / 4) as u32).collect()
}

/// A tensor and its place: part of the file, and index in the part.
type Placed<'a> = (&'a TensorInfo, (usize, usize));

impl Layout {
    /// The layout of the tensors of all parts of a file.
    ///
    /// # Errors
    /// `invalid_tensor` for one that is missing, of another shape than the metadata calls for, or not used by any
    /// parameter; `invalid_file` for one that is there twice; `unsupported_quantization` for a vector that is not F32.
    pub fn new(config: &ModelConfig, parts: &[&[TensorInfo]], limits: Limits) -> Result<Self> {
        let mut index: HashMap<&str, Placed> = HashMap::new();
        for (part, tensors) in parts.iter().enumerate() {
            for (i, tensor) in tensors.iter().enumerate() {
                if let Some((_, (first, _))) = index.insert(&tensor.name, (tensor, (part, i))) {
                    let (name, first, part) = (excerpt(&tensor.name), first + 1, part + 1);
                    let message = format!("tensor '{name}' is in part {first} of the model and in part {part}");
                    return Err(Error::new(ErrorCode::InvalidFile, message));
                }
            }
        }
        let mut layout = Self::default();
        layout.uses.extend(parts.iter().map(|tensors| vec![Use::None; tensors.len()]));
        for (parameter, tensors) in plan(config, index.contains_key("output.weight")) {
            let mut found = Vec::with_capacity(tensors.len());
            for (name, shape) in tensors {
                let Some(&placed) = index.get(name.as_str()) else {
                    return invalid(format!("tensor '{name}' is missing; a llama model must have it"));
                };
                check(placed.0, shape)?;
                found.push(placed);
            }
            match IN_PARTS.contains(&parameter.as_str()) {
                true => layout.in_parts(parameter, found[0], limits),
                false => layout.together(parameter, &found),
            }
        }
        if let Some((tensor, (part, i))) = index.get(ROPE_FREQS) {
            check(tensor, [config.head_dim / 2, 1])?;
            layout.uses[*part][*i] = Use::RopeFactors;
        }
        let unused = |(_, (part, i)): &&Placed| matches!(layout.uses[*part][*i], Use::None);
        // The same one in each run.
        let unused = index.values().filter(unused).filter(|(tensor, _)| !is_harmless(&tensor.name));
        match unused.min_by_key(|(_, place)| *place) {
            Some((tensor, _)) => invalid(format!(
                "tensor '{}' is in the file, but a llama model has no use for it: what the file computes is not what the \
                 engine would",
                excerpt(&tensor.name)
            )),
            None => Ok(layout),
        }
    }

    /// How many runs of bytes fill the buffers.
    pub(super) fn targets(&self) -> usize {
        let count = |using: &Use| if let Use::Buffers(targets) = using { targets.len() } else { 0 };
        self.uses.iter().flatten().map(count).sum()
    }

    /// One buffer for these tensors; neighbours of one type are one matrix in it.
    fn together(&mut self, parameter: String, tensors: &[Placed]) {
        let mut matrices = Vec::new();
        let mut base = 0;
        for same in tensors.chunk_by(|(a, _), (b, _)| a.ty == b.ty) {
            let ty = same[0].0.ty;
            let matrix = PlaneLayout::new(ty, same.iter().map(|(tensor, _)| tensor.elements()).sum());
            let rows = same.iter().map(|(tensor, _)| tensor.elements() / tensor.shape[0]).sum::<u64>() as usize;
            matrices.push(Matrix { ty, first: 0, rows, planes: planes(&matrix, base) });
            let mut first = 0;
            for (tensor, (part, i)) in same {
                let elements = tensor.elements();
                let buffer = self.buffers.len();
                let target = Target { buffer, start: 0, matrix: matrix.clone(), base, first, elements };
                self.uses[*part][*i] = Use::Buffers(vec![target]);
                first += elements / ty.block_len() as u64;
            }
            base += matrix.total_bytes;
        }
        self.buffers.push(BufferLayout { parameter, bytes: base, matrices });
    }

    /// As few buffers for this tensor as the limits allow.
    fn in_parts(&mut self, parameter: String, (tensor, (part, i)): Placed, limits: Limits) {
        let (ty, width, rows) = (tensor.ty, tensor.shape[0], tensor.elements() / tensor.shape[0]);
        let bytes = PlaneLayout::new(ty, tensor.elements()).total_bytes;
        let parts = bytes.div_ceil(limits.bytes).max(rows.div_ceil(limits.rows));
        // Products make four outputs at a time.
        let each = rows.div_ceil(parts).next_multiple_of(4);
        let mut targets = Vec::new();
        for first in (0..rows).step_by(each as usize) {
            let rows = each.min(rows - first);
            let (elements, start) = (rows * width, ty.bytes_for(first * width));
            let matrix = PlaneLayout::new(ty, elements);
            let matrices = vec![Matrix { ty, first: first as usize, rows: rows as usize, planes: planes(&matrix, 0) }];
            let (buffer, bytes) = (self.buffers.len(), matrix.total_bytes);
            self.buffers.push(BufferLayout { parameter: parameter.clone(), bytes, matrices });
            targets.push(Target { buffer, start, matrix, base: 0, first: 0, elements });
        }
        self.uses[part][i] = Use::Buffers(targets);
    }
}
