//! From a GGUF's bytes, as they arrive, to parameters on the GPU. No tensor is ever whole in memory.

use std::collections::HashMap;
use std::io::Read;

use super::ModelConfig;
use crate::format::gguf::{DataCursor, Header, Parser};
use crate::format::quant::{PlaneLayout, PlaneSplitter, QuantType};
use crate::gpu::{Gpu, weights::DeviceWords};
use crate::{Error, ErrorCode, Result};

/// Llama 3's scaling of the rotary frequencies: a factor for each pair.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Most bytes of tensors that wait to be submitted.
const MAX_QUEUED: usize = 32 << 20;

/// One matrix or vector inside a [`DeviceWords`]: its type and where its planes start, in words.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The file's type, kept on the GPU.
    pub ty: QuantType,
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

/// All parameters, by the name of the GGUF tensor; `blk.N.attn_qkv` holds q, k and v.
pub struct Weights {
    parameters: HashMap<String, Parameter>,
    /// `rope_freqs.weight`, if the file has it: one factor for each pair.
    pub rope_factors: Option<Vec<f32>>,
}

impl Weights {
    /// The parameter of this name, which [`Loader`] has checked to be there.
    pub fn get(&self, name: &str) -> &Parameter {
        &self.parameters[name]
    }

    /// The memory of all parameters, to be kept while something is bound to it.
    pub fn words(&self) -> Vec<DeviceWords> {
        self.parameters.values().map(|p| p.words.clone()).collect()
    }

    /// The output projection: its own, or the tied embedding.
    pub fn output(&self) -> &Parameter {
        self.parameters.get("output").unwrap_or_else(|| self.get("token_embd"))
    }
}

/// Where a tensor's bytes go.
struct Target {
    parameter: String,
    /// Its start in the parameter's memory.
    base: u64,
    ty: QuantType,
    elements: u64,
}

/// The tensor whose bytes arrive.
struct Current {
    tensor: usize,
    splitter: PlaneSplitter,
}

enum State {
    Header(Parser),
    Data { cursor: DataCursor, targets: HashMap<usize, Target>, current: Option<Current>, header: Header },
}

/// Takes a GGUF file piece by piece.
pub struct Loader {
    gpu: Gpu,
    state: State,
    parameters: HashMap<String, Parameter>,
    rope_bytes: Option<(usize, Vec<u8>)>,
    config: Option<ModelConfig>,
    /// Bytes that wait on the queue.
    queued: usize,
}

/// A parameter's name, and its tensors, each with its shape, innermost first.
type Planned = (String, Vec<(String, [usize; 2])>);

/// All parameters of a model, layer by layer: a header may claim more layers than a list of them could be held for.
fn plan(config: &ModelConfig, header: &Header) -> impl Iterator<Item = Planned> {
    let ModelConfig { d, ff, vocab, layers, .. } = *config;
    let (q_d, kv_d) = (config.q_d(), config.kv_d());
    let one = |name: String, inner, outer| (name.clone(), vec![(format!("{name}.weight"), [inner, outer])]);
    let mut ends = vec![one("token_embd".into(), d, vocab), one("output_norm".into(), d, 1)];
    if header.tensors.iter().any(|t| t.name == "output.weight") {
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
fn find(header: &Header, index: &HashMap<&str, usize>, name: &str, shape: [usize; 2]) -> Result<usize> {
    let invalid = |message: String| Err(Error::new(ErrorCode::InvalidTensor, message));
    let Some(&i) = index.get(name) else {
        return invalid(format!("tensor '{name}' is missing; a llama model must have it"));
    };
    let tensor = &header.tensors[i];
    let padded: Vec<u64> = tensor.shape.iter().copied().chain([1, 1]).take(tensor.shape.len().max(2)).collect();
    if padded[..2] != shape.map(|n| n as u64) || padded[2..].iter().any(|n| *n != 1) {
        return invalid(format!("tensor '{name}' has shape {:?}; the metadata calls for {shape:?}", tensor.shape));
    }
    if shape[1] == 1 && tensor.ty != QuantType::F32 {
        let message = format!("tensor '{name}' is {}; norms and rope_freqs must be F32", tensor.ty.name());
        return Err(Error::new(ErrorCode::UnsupportedQuantization, message));
    }
    Ok(i)
}

impl Loader {
    /// A loader that uploads to this device.
    pub fn new(gpu: &Gpu) -> Self {
        Self {
            gpu: gpu.clone(),
            state: State::Header(Parser::new()),
            parameters: HashMap::new(),
            rope_bytes: None,
            config: None,
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
            let header = parser.into_header()?;
            self.allocate(header)?;
        }
        // What is written to a queue is held until something is submitted.
        self.queued += bytes.len();
        if self.queued > MAX_QUEUED {
            self.queued = 0;
            self.gpu.queue.submit([]);
        }
        let Self { gpu, state, parameters, rope_bytes, .. } = self;
        let State::Data { cursor, targets, current, header } = state else { unreachable!("the header is complete") };
        cursor.push(bytes, &mut |tensor, offset, piece| {
            if let Some((index, rope)) = rope_bytes
                && *index == tensor
            {
                rope.extend_from_slice(piece);
            }
            let Some(target) = targets.get(&tensor) else { return Ok(()) };
            let words = &parameters[&target.parameter].words;
            let mut write = |offset: u64, data: &[u8]| {
                words.write(gpu, target.base + offset, data);
                Ok(())
            };
            // Tensors come one after another, so one splitter waits at a time: what it holds back is about 1 MiB.
            let current = match current {
                Some(current) if current.tensor == tensor => current,
                _ => current.insert(Current { tensor, splitter: PlaneSplitter::new(target.ty, target.elements) }),
            };
            current.splitter.push(piece, &mut write)?;
            match offset + piece.len() as u64 == header.tensors[tensor].size {
                true => current.splitter.finish(&mut write),
                false => Ok(()),
            }
        })
    }

    fn allocate(&mut self, header: Header) -> Result<()> {
        let config = ModelConfig::from_metadata(&header.metadata)?;
        let index: HashMap<&str, usize> =
            header.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        // Everything is checked before any memory is taken.
        let mut found: Vec<(String, Vec<usize>)> = Vec::new();
        for (parameter, tensors) in plan(&config, &header) {
            let tensors = tensors.iter().map(|(name, shape)| find(&header, &index, name, *shape));
            found.push((parameter, tensors.collect::<Result<_>>()?));
        }
        if index.contains_key(ROPE_FREQS) {
            self.rope_bytes = Some((find(&header, &index, ROPE_FREQS, [config.head_dim / 2, 1])?, Vec::new()));
        }
        let mut targets = HashMap::new();
        for (parameter, tensors) in found {
            let mut matrices = Vec::new();
            let mut bytes = 0u64;
            for i in tensors {
                let (ty, elements) = (header.tensors[i].ty, header.tensors[i].elements());
                let layout = PlaneLayout::new(ty, elements);
                matrices.push(Matrix { ty, planes: layout.offsets.iter().map(|o| ((bytes + o) / 4) as u32).collect() });
                targets.insert(i, Target { parameter: parameter.clone(), base: bytes, ty, elements });
                bytes += layout.total_bytes.next_multiple_of(16);
            }
            let words = DeviceWords::empty(&self.gpu, bytes, &format!("tensor '{parameter}'"))?;
            self.parameters.insert(parameter, Parameter { words, matrices });
        }
        let cursor = DataCursor::new(&header);
        self.config = Some(config);
        self.state = State::Data { cursor, targets, current: None, header };
        Ok(())
    }

    /// Ends the file: everything that it promised has arrived.
    ///
    /// # Errors
    /// `truncated_file` when it has not.
    pub fn finish(self) -> Result<(ModelConfig, Weights, Header)> {
        let State::Data { cursor, header, .. } = self.state else {
            return Err(Error::new(
                ErrorCode::TruncatedFile,
                "the file ends inside its header; download it again".to_string(),
            ));
        };
        cursor.finish()?;
        let config = self.config.expect("set with the header");
        let rope_factors: Option<Vec<f32>> = self.rope_bytes.map(|(_, bytes)| bytemuck::pod_collect_to_vec(&bytes));
        if let Some(factor) = rope_factors.iter().flatten().find(|f| !f.is_finite() || **f <= 0.0) {
            let message = format!("{ROPE_FREQS} holds {factor}; its factors must be positive");
            return Err(Error::new(ErrorCode::InvalidTensor, message));
        }
        Ok((config, Weights { parameters: self.parameters, rope_factors }, header))
    }
}
