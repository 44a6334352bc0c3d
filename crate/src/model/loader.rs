//! From a GGUF's bytes, as they arrive, to parameters on the GPU. No tensor is ever whole in memory.

use std::collections::HashMap;

use super::ModelConfig;
use crate::format::gguf::{DataCursor, Header, Parser};
use crate::format::quant::{PlaneLayout, PlaneSplitter, QuantType};
use crate::gpu::{Gpu, weights::DeviceWords};
use crate::{Error, ErrorCode, Result};

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

struct Target {
    parameter: String,
    base: u64,
    splitter: PlaneSplitter,
}

enum State {
    Header(Parser),
    Data { cursor: DataCursor, targets: HashMap<usize, Target>, header: Header },
}

/// Takes a GGUF file piece by piece.
pub struct Loader {
    gpu: Gpu,
    state: State,
    parameters: HashMap<String, Parameter>,
    rope_bytes: Option<(usize, Vec<u8>)>,
    config: Option<ModelConfig>,
}

/// The tensors of one parameter, each with its shape, innermost first.
fn plan(config: &ModelConfig, header: &Header) -> Vec<(String, Vec<(String, [usize; 2])>)> {
    let ModelConfig { d, ff, vocab, .. } = *config;
    let (q_d, kv_d) = (config.q_d(), config.kv_d());
    let one = |name: &str, inner, outer| (name.to_string(), vec![(format!("{name}.weight"), [inner, outer])]);
    let mut all = vec![one("token_embd", d, vocab), one("output_norm", d, 1)];
    if header.tensors.iter().any(|t| t.name == "output.weight") {
        all.push(one("output", d, vocab));
    }
    for i in 0..config.layers {
        let name = |n: &str| format!("blk.{i}.{n}");
        all.push((
            name("attn_qkv"),
            vec![
                (name("attn_q.weight"), [d, q_d]),
                (name("attn_k.weight"), [d, kv_d]),
                (name("attn_v.weight"), [d, kv_d]),
            ],
        ));
        for (n, inner, outer) in [
            ("attn_norm", d, 1),
            ("attn_output", q_d, d),
            ("ffn_norm", d, 1),
            ("ffn_gate", d, ff),
            ("ffn_up", d, ff),
            ("ffn_down", ff, d),
        ] {
            all.push(one(&name(n), inner, outer));
        }
    }
    all
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
        let Self { gpu, state, parameters, rope_bytes, .. } = self;
        let State::Data { cursor, targets, .. } = state else { unreachable!("the header is complete") };
        cursor.push(bytes, &mut |tensor, _, piece| {
            if let Some((index, rope)) = rope_bytes
                && *index == tensor
            {
                rope.extend_from_slice(piece);
            }
            let Some(target) = targets.get_mut(&tensor) else { return Ok(()) };
            let words = &parameters[&target.parameter].words;
            target.splitter.push(piece, &mut |offset, data| {
                words.write(gpu, target.base + offset, data);
                Ok(())
            })
        })
    }

    fn allocate(&mut self, header: Header) -> Result<()> {
        let config = ModelConfig::from_metadata(&header.metadata)?;
        let index: HashMap<&str, usize> =
            header.tensors.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let mut targets = HashMap::new();
        for (parameter, tensors) in plan(&config, &header) {
            let mut matrices = Vec::new();
            let mut bytes = 0u64;
            for (name, shape) in &tensors {
                let i = *index.get(name.as_str()).ok_or_else(|| {
                    Error::new(
                        ErrorCode::InvalidTensor,
                        format!("tensor '{name}' is missing; a llama model must have it"),
                    )
                })?;
                let tensor = &header.tensors[i];
                let found: Vec<usize> = tensor.shape.iter().map(|n| *n as usize).collect();
                let trimmed: Vec<usize> = found.iter().copied().chain([1, 1]).take(found.len().max(2)).collect();
                if trimmed[..2] != *shape || trimmed[2..].iter().any(|n| *n != 1) {
                    return Err(Error::new(
                        ErrorCode::InvalidTensor,
                        format!("tensor '{name}' has shape {found:?}; the metadata calls for {shape:?}"),
                    ));
                }
                if shape[1] == 1 && tensor.ty != QuantType::F32 {
                    return Err(Error::new(
                        ErrorCode::UnsupportedQuantization,
                        format!("norm '{name}' is {}; norms must be F32", tensor.ty.name()),
                    ));
                }
                let elements = (shape[0] * shape[1]) as u64;
                let layout = PlaneLayout::new(tensor.ty, elements);
                matrices.push(Matrix {
                    ty: tensor.ty,
                    planes: layout.offsets.iter().map(|o| ((bytes + o) / 4) as u32).collect(),
                });
                let splitter = PlaneSplitter::new(tensor.ty, elements);
                targets.insert(i, Target { parameter: parameter.clone(), base: bytes, splitter });
                bytes += layout.total_bytes.next_multiple_of(16);
            }
            let words = DeviceWords::empty(&self.gpu, bytes, &format!("tensor '{parameter}'"))?;
            self.parameters.insert(parameter, Parameter { words, matrices });
        }
        self.rope_bytes = index.get("rope_freqs.weight").map(|i| (*i, Vec::new()));
        let cursor = DataCursor::new(&header);
        self.config = Some(config);
        self.state = State::Data { cursor, targets, header };
        Ok(())
    }

    /// Ends the file: everything that it promised has arrived.
    ///
    /// # Errors
    /// `truncated_file` when it has not.
    pub fn finish(self) -> Result<(ModelConfig, Weights, Header)> {
        let State::Data { cursor, mut targets, header } = self.state else {
            return Err(Error::new(
                ErrorCode::TruncatedFile,
                "the file ends inside its header; download it again".to_string(),
            ));
        };
        cursor.finish()?;
        for target in targets.values_mut() {
            let words = &self.parameters[&target.parameter].words;
            target.splitter.finish(&mut |offset, data| {
                words.write(&self.gpu, target.base + offset, data);
                Ok(())
            })?;
        }
        let config = self.config.expect("set with the header");
        let rope_factors = match self.rope_bytes {
            Some((_, bytes)) if bytes.len() == config.head_dim * 2 => Some(bytemuck::pod_collect_to_vec(&bytes)),
            Some((_, bytes)) => {
                return Err(Error::new(
                    ErrorCode::InvalidTensor,
                    format!("rope_freqs.weight has {} bytes; {} F32 are needed", bytes.len(), config.head_dim / 2),
                ));
            }
            None => None,
        };
        Ok((config, Weights { parameters: self.parameters, rope_factors }, header))
    }
}
