//! From a GGUF's bytes, as they arrive, to parameters on the GPU. No tensor is ever whole in memory.

use std::collections::HashMap;
use std::io::Read;

use super::ModelConfig;
use crate::format::gguf::{DataCursor, Header, Parser, TensorInfo};
use crate::format::quant::{PlaneLayout, PlaneSplitter, QuantType};
use crate::gpu::{Gpu, weights::DeviceWords};
use crate::{Error, ErrorCode, Result};

/// Llama 3's scaling of the rotary frequencies: a factor for each pair.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Parameters that may lie in several buffers, each with a run of their rows: those of a vocabulary's size, which alone
/// outgrow what an adapter binds at once (128 MiB on many phones).
const IN_PARTS: [&str; 2] = ["token_embd", "output"];

/// Most bytes of tensors that wait to be submitted.
const MAX_QUEUED: usize = 32 << 20;

/// A matrix or vector inside a [`DeviceWords`], of one tensor or of several of one type, one below the other.
#[derive(Clone, Debug)]
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

/// A buffer with one matrix, or with several that one kernel reads.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The device memory.
    pub words: DeviceWords,
    /// What lies in it.
    pub matrices: Vec<Matrix>,
}

/// All parameters, by the name of the GGUF tensor; `blk.N.attn_qkv` holds q, k and v: neighbours of one type are one matrix,
/// so that one piece of a kernel serves them.
pub struct Weights {
    parameters: HashMap<String, Vec<Parameter>>,
    /// `rope_freqs.weight`, if the file has it: one factor for each pair.
    pub rope_factors: Option<Vec<f32>>,
}

impl Weights {
    /// The parameter of this name, which [`Loader`] has checked to be there.
    pub fn get(&self, name: &str) -> &Parameter {
        &self.parameters[name][0]
    }

    /// The memory of all parameters, to be kept while something is bound to it.
    pub fn words(&self) -> Vec<DeviceWords> {
        self.parameters.values().flatten().map(|p| p.words.clone()).collect()
    }

    /// The embedding, in parts of its rows.
    pub fn embedding(&self) -> &[Parameter] {
        &self.parameters["token_embd"]
    }

    /// The output projection, in parts of its rows: its own, or the tied embedding.
    pub fn output(&self) -> &[Parameter] {
        self.parameters.get("output").map_or_else(|| self.embedding(), Vec::as_slice)
    }
}

/// Where a tensor's bytes go, or a run of them.
struct Target {
    parameter: String,
    /// Which part of the parameter, and where its bytes begin in the tensor.
    part: usize,
    start: u64,
    /// The matrix that it is a part of, and where that starts in the parameter's memory.
    matrix: PlaneLayout,
    base: u64,
    /// Its first block in the matrix.
    first: u64,
    elements: u64,
}

/// The target that bytes arrive for, one of its tensor's.
struct Current {
    target: usize,
    splitter: PlaneSplitter,
}

enum State {
    Header(Parser),
    Data { cursor: DataCursor, tensors: Vec<TensorInfo>, current: Option<Current> },
}

/// Takes a GGUF file piece by piece; or a split one, part by part, after the headers of all parts but the first.
pub struct Loader {
    gpu: Gpu,
    state: State,
    /// The tensors of the further parts, and how many parts these are.
    further: (usize, Vec<TensorInfo>),
    /// The header of a further part while it arrives.
    announced: Parser,
    /// By the name of the tensor, in the order of its bytes.
    targets: HashMap<String, Vec<Target>>,
    parameters: HashMap<String, Vec<Parameter>>,
    rope_bytes: Option<Vec<u8>>,
    /// The first part's, with what it says of the model.
    header: Option<(ModelConfig, Header)>,
    /// Bytes that wait on the queue.
    queued: usize,
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

/// The tensor of this name, which must be there in this shape; a vector must be F32.
fn find<'a>(index: &HashMap<&str, &'a TensorInfo>, name: &str, shape: [usize; 2]) -> Result<&'a TensorInfo> {
    let invalid = |message: String| Err(Error::new(ErrorCode::InvalidTensor, message));
    let Some(&tensor) = index.get(name) else {
        return invalid(format!("tensor '{name}' is missing; a llama model must have it"));
    };
    let padded: Vec<u64> = tensor.shape.iter().copied().chain([1, 1]).take(tensor.shape.len().max(2)).collect();
    if padded[..2] != shape.map(|n| n as u64) || padded[2..].iter().any(|n| *n != 1) {
        return invalid(format!("tensor '{name}' has shape {:?}; the metadata calls for {shape:?}", tensor.shape));
    }
    if shape[1] == 1 && tensor.ty != QuantType::F32 {
        let message = format!("tensor '{name}' is {}; norms and rope_freqs must be F32", tensor.ty.name());
        return Err(Error::new(ErrorCode::UnsupportedQuantization, message));
    }
    Ok(tensor)
}

/// Where planes start in a buffer whose matrix begins at byte `base`, in words.
fn planes(matrix: &PlaneLayout, base: u64) -> Vec<u32> {
    matrix.offsets.iter().map(|o| ((base + o) / 4) as u32).collect()
}

impl Loader {
    /// A loader that uploads to this device.
    pub fn new(gpu: &Gpu) -> Self {
        Self {
            gpu: gpu.clone(),
            state: State::Header(Parser::new()),
            further: (0, Vec::new()),
            announced: Parser::new(),
            targets: HashMap::new(),
            parameters: HashMap::new(),
            rope_bytes: None,
            header: None,
            queued: 0,
        }
    }

    /// Takes a whole source, such as an open file, in pieces of 1 MiB.
    ///
    /// # Errors
    /// `invalid_file` when the source cannot be read; else as [`Self::push`].
    pub fn read(&mut self, mut source: impl Read) -> Result<()> {
        let mut piece = vec![0; 1 << 20];
        loop {
            match source.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(n) => self.push(&piece[..n])?,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let message = format!("the model file cannot be read: {e}");
                    return Err(Error::new(ErrorCode::InvalidFile, message));
                }
            }
        }
    }

    /// Takes the next bytes of the file, in pieces of any size.
    ///
    /// # Errors
    /// Whatever the parser finds wrong; `invalid_tensor` for a missing tensor or one of the wrong shape;
    /// `adapter_too_small` when a tensor does not fit the adapter.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        if let State::Header(parser) = &mut self.state {
            let used = parser.push(bytes)?;
            bytes = &bytes[used..];
            if parser.header().is_none() {
                return Ok(());
            }
            let State::Header(parser) = std::mem::replace(&mut self.state, State::Header(Parser::new())) else {
                unreachable!("the state was just matched")
            };
            let mut header = parser.into_header()?;
            let cursor = DataCursor::new(&header);
            let tensors = std::mem::take(&mut header.tensors);
            if self.header.is_none() {
                self.allocate(header, &tensors)?;
            }
            self.state = State::Data { cursor, tensors, current: None };
        }
        // What is written to a queue is held until something is submitted.
        self.queued += bytes.len();
        if self.queued > MAX_QUEUED {
            self.queued = 0;
            self.gpu.queue.submit([]);
        }
        let Self { gpu, state, targets, parameters, rope_bytes, .. } = self;
        let State::Data { cursor, tensors, current } = state else { unreachable!("the header is complete") };
        cursor.push(bytes, &mut |tensor, mut offset, mut piece| {
            let name = &tensors[tensor].name;
            if let Some(rope) = rope_bytes
                && name == ROPE_FREQS
            {
                rope.extend_from_slice(piece);
            }
            let Some(targets) = targets.get(name) else { return Ok(()) };
            while !piece.is_empty() {
                // Targets come one after another, so one splitter waits at a time: what it holds back is about 1 MiB.
                let Current { target, splitter } = match current {
                    Some(current) if current.splitter.left() > 0 => current,
                    _ => {
                        let starts = |t: &Target| t.start == offset;
                        let target = targets.iter().position(starts).expect("the targets cover the tensor");
                        let Target { matrix, first, elements, .. } = &targets[target];
                        let splitter = PlaneSplitter::part(matrix.clone(), *first, *elements);
                        current.insert(Current { target, splitter })
                    }
                };
                let Target { parameter, part, base, .. } = &targets[*target];
                let words = &parameters[parameter][*part].words;
                let mut write = |offset: u64, data: &[u8]| {
                    words.write(gpu, base + offset, data);
                    Ok(())
                };
                let (now, later) = piece.split_at((piece.len() as u64).min(splitter.left()) as usize);
                splitter.push(now, &mut write)?;
                if splitter.left() == 0 {
                    splitter.finish(&mut write)?;
                }
                (offset, piece) = (offset + now.len() as u64, later);
            }
            Ok(())
        })
    }

    /// Takes bytes from the beginning of a further part of a split file, until its header is complete: then it gives true,
    /// and the next call begins the part after it. All of them come before the first [`push`](Self::push), since a
    /// parameter may need tensors of several parts.
    pub fn announce(&mut self, bytes: &[u8]) -> Result<bool> {
        self.announced.push(bytes)?;
        let complete = self.announced.header().is_some();
        if complete {
            let header = std::mem::take(&mut self.announced).into_header()?;
            self.further.0 += 1;
            self.further.1.extend(header.tensors);
        }
        Ok(complete)
    }

    /// Ends one part of a split file; the bytes of the next follow, from its beginning.
    ///
    /// # Errors
    /// `truncated_file` when something is missing of the part.
    pub fn next_part(&mut self) -> Result<()> {
        self.check_part()?;
        self.state = State::Header(Parser::new());
        match self.further.0.checked_sub(1) {
            Some(left) => self.further.0 = left,
            None => return Err(Error::new(ErrorCode::InvalidFile, "more parts arrive than were announced")),
        }
        Ok(())
    }

    fn check_part(&self) -> Result<()> {
        match &self.state {
            State::Data { cursor, .. } => cursor.finish(),
            State::Header(_) => {
                let message = "the file ends inside its header; download it again";
                Err(Error::new(ErrorCode::TruncatedFile, message))
            }
        }
    }

    fn allocate(&mut self, header: Header, tensors: &[TensorInfo]) -> Result<()> {
        let config = ModelConfig::from_metadata(&header.metadata)?;
        let parts = header.metadata.opt_u32("split.count")?.unwrap_or(1).max(1) as usize;
        if parts != self.further.0 + 1 || header.metadata.opt_u32("split.no")?.unwrap_or(0) != 0 {
            let message = format!(
                "the model is split into {parts} files, and {} were given; give all of them, the first one first",
                self.further.0 + 1
            );
            return Err(Error::new(ErrorCode::InvalidFile, message));
        }
        let further = std::mem::take(&mut self.further.1);
        let index: HashMap<&str, &TensorInfo> =
            tensors.iter().chain(&further).map(|tensor| (tensor.name.as_str(), tensor)).collect();
        // Everything is checked before any memory is taken.
        let mut found: Vec<(String, Vec<&TensorInfo>)> = Vec::new();
        for (parameter, tensors) in plan(&config, index.contains_key("output.weight")) {
            let tensors = tensors.iter().map(|(name, shape)| find(&index, name, *shape));
            found.push((parameter, tensors.collect::<Result<_>>()?));
        }
        if index.contains_key(ROPE_FREQS) {
            find(&index, ROPE_FREQS, [config.head_dim / 2, 1])?;
            self.rope_bytes = Some(Vec::new());
        }
        for (parameter, tensors) in found {
            match IN_PARTS.contains(&parameter.as_str()) {
                true => self.allocate_in_parts(&parameter, tensors[0])?,
                false => self.allocate_together(&parameter, &tensors)?,
            }
        }
        self.header = Some((config, header));
        Ok(())
    }

    /// One buffer for these tensors; neighbours of one type are one matrix in it.
    fn allocate_together(&mut self, parameter: &str, tensors: &[&TensorInfo]) -> Result<()> {
        let mut matrices = Vec::new();
        let mut base = 0;
        for same in tensors.chunk_by(|a, b| a.ty == b.ty) {
            let ty = same[0].ty;
            let matrix = PlaneLayout::new(ty, same.iter().map(|tensor| tensor.elements()).sum());
            let rows = same.iter().map(|tensor| tensor.elements() / tensor.shape[0]).sum::<u64>() as usize;
            matrices.push(Matrix { ty, first: 0, rows, planes: planes(&matrix, base) });
            let mut first = 0;
            for tensor in same {
                let (parameter, matrix, elements) = (parameter.to_string(), matrix.clone(), tensor.elements());
                let target = Target { parameter, part: 0, start: 0, matrix, base, first, elements };
                self.targets.insert(tensor.name.clone(), vec![target]);
                first += elements / ty.block_len() as u64;
            }
            base += matrix.total_bytes;
        }
        let words = DeviceWords::empty(&self.gpu, base, &format!("tensor '{parameter}'"))?;
        self.parameters.insert(parameter.to_string(), vec![Parameter { words, matrices }]);
        Ok(())
    }

    /// As few buffers for this tensor as the adapter's bindings allow.
    fn allocate_in_parts(&mut self, parameter: &str, tensor: &TensorInfo) -> Result<()> {
        let (ty, width, rows) = (tensor.ty, tensor.shape[0], tensor.elements() / tensor.shape[0]);
        let parts = PlaneLayout::new(ty, tensor.elements()).total_bytes.div_ceil(self.gpu.binding_limit);
        // Products make four outputs at a time.
        let each = rows.div_ceil(parts).next_multiple_of(4);
        for (part, first) in (0..rows).step_by(each as usize).enumerate() {
            let (rows, parameter) = (each.min(rows - first), parameter.to_string());
            let (elements, start) = (rows * width, ty.bytes_for(first * width));
            let matrix = PlaneLayout::new(ty, elements);
            let words = DeviceWords::empty(&self.gpu, matrix.total_bytes, &format!("a part of tensor '{parameter}'"))?;
            let matrices = vec![Matrix { ty, first: first as usize, rows: rows as usize, planes: planes(&matrix, 0) }];
            self.parameters.entry(parameter.clone()).or_default().push(Parameter { words, matrices });
            let target = Target { parameter, part, start, matrix, base: 0, first: 0, elements };
            self.targets.entry(tensor.name.clone()).or_default().push(target);
        }
        Ok(())
    }

    /// Ends the file: everything that it promised has arrived. Gives the shape of the model, its parameters, and the
    /// first part's header without its tensors.
    ///
    /// # Errors
    /// `truncated_file` when it has not.
    pub fn finish(self) -> Result<(ModelConfig, Weights, Header)> {
        self.check_part()?;
        if self.further.0 > 0 {
            let message = format!("{} parts of the split model are missing; give all of them", self.further.0);
            return Err(Error::new(ErrorCode::TruncatedFile, message));
        }
        let (config, header) = self.header.expect("the first header is complete");
        let rope_factors: Option<Vec<f32>> = self.rope_bytes.map(|bytes| bytemuck::pod_collect_to_vec(&bytes));
        if let Some(factor) = rope_factors.iter().flatten().find(|f| !f.is_finite() || **f <= 0.0) {
            let message = format!("{ROPE_FREQS} holds {factor}; its factors must be positive");
            return Err(Error::new(ErrorCode::InvalidTensor, message));
        }
        Ok((config, Weights { parameters: self.parameters, rope_factors }, header))
    }
}
