//! The Llama architecture as a burn `Module`, its forward pass in burn's own operations: the reference that the plan is
//! held to. Whole sequences, no cache, weights as f32.

use std::collections::HashMap;
use std::io::Read;

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear, RmsNorm, RotaryEncoding, RotaryEncodingConfig};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::ModelConfig;
use crate::format::gguf::{DataCursor, Parser, TensorInfo};
use crate::format::quant::dequantize;
use crate::{Error, ErrorCode, Result};

/// A Llama model.
#[derive(Module, Debug)]
pub struct Llama {
    /// `token_embd`
    pub embedding: Embedding,
    /// `blk.N`
    pub blocks: Vec<Block>,
    /// `output_norm`
    pub norm: RmsNorm,
    /// `output`; without it the embedding's rows are the output's.
    pub output: Option<Linear>,
    rotary: RotaryEncoding,
}

/// A transformer block.
#[derive(Module, Debug)]
pub struct Block {
    /// Before the attention.
    pub attn_norm: RmsNorm,
    /// Attention over the sequence.
    pub attention: Attention,
    /// Before the feed-forward.
    pub ffn_norm: RmsNorm,
    /// SwiGLU: `down(silu(gate(x)) * up(x))`.
    pub gate: Linear,
    /// See `gate`.
    pub up: Linear,
    /// See `gate`.
    pub down: Linear,
}

/// Grouped-query attention with rotary positions.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[d, heads * head_dim]`
    pub q: Linear,
    /// `[d, kv_heads * head_dim]`
    pub k: Linear,
    /// `[d, kv_heads * head_dim]`
    pub v: Linear,
    /// `[heads * head_dim, d]`
    pub output: Linear,
    heads: usize,
    kv_heads: usize,
}

impl Llama {
    /// The model of a GGUF file, every weight dequantised. Holds the whole file in memory. Its rotary table covers
    /// `positions`.
    ///
    /// # Errors
    /// As [`super::Reader::push`]; `invalid_file` when the source cannot be read.
    pub fn read(mut source: impl Read, positions: usize, device: &Device) -> Result<Self> {
        let mut file = Vec::new();
        source
            .read_to_end(&mut file)
            .map_err(|e| Error::new(ErrorCode::InvalidFile, format!("cannot be read: {e}")))?;
        let mut parser = Parser::new();
        let start = parser.push(&file)?;
        let header = parser.into_header()?;
        let config = ModelConfig::from_metadata(&header.metadata)?;
        let mut bytes = vec![Vec::new(); header.tensors.len()];
        let mut cursor = DataCursor::new(&header);
        cursor.push(&file[start..], &mut |tensor, _, piece| {
            bytes[tensor].extend_from_slice(piece);
            Ok(())
        })?;
        cursor.finish()?;
        let infos = header.tensors.iter().zip(bytes).map(|(info, bytes)| (info.name.as_str(), (info, bytes)));
        Tensors { device, config: &config, tensors: infos.collect() }.llama(positions)
    }

    /// Logits of every position of one sequence: `[tokens, vocab]` f32.
    pub fn forward(&self, tokens: &[u32]) -> Tensor<2> {
        let weight = self.embedding.weight.val();
        let device = weight.device();
        let ids: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens.len()]), &device);
        let mut x = weight.clone().select(0, ids);
        for block in &self.blocks {
            x = x.clone() + block.attention.forward(block.attn_norm.forward(x), &self.rotary);
            let h = block.ffn_norm.forward(x.clone());
            x = x + block.down.forward(silu(block.gate.forward(h.clone())) * block.up.forward(h));
        }
        let x = self.norm.forward(x);
        match &self.output {
            Some(output) => output.forward(x),
            None => x.matmul(weight.transpose()),
        }
    }
}

impl Attention {
    /// `[tokens, d]` to `[tokens, d]`; each position attends to itself and those before.
    fn forward(&self, x: Tensor<2>, rotary: &RotaryEncoding) -> Tensor<2> {
        let [tokens, _] = x.dims();
        // [tokens, heads * head_dim] to [heads, tokens, head_dim].
        let split = |y: Tensor<2>, heads: usize| {
            let [_, width] = y.dims();
            y.reshape([tokens, heads, width / heads]).swap_dims(0, 1)
        };
        let q = rotary.forward(split(self.q.forward(x.clone()), self.heads));
        let k = rotary.forward(split(self.k.forward(x.clone()), self.kv_heads));
        let v = split(self.v.forward(x), self.kv_heads);
        let [_, _, head_dim] = q.dims();
        // Each key and value head serves a run of query heads.
        let shared = |y: Tensor<3>| {
            let group = self.heads / self.kv_heads;
            y.unsqueeze_dim::<4>(1).repeat_dim(1, group).reshape([self.heads, tokens, head_dim])
        };
        let scores = q.matmul(shared(k).swap_dims(1, 2)) / (head_dim as f32).sqrt();
        let later = Tensor::<2, Bool>::tril_mask([tokens, tokens], 0, &scores.device());
        let scores = scores.mask_fill(later.unsqueeze(), f32::MIN);
        let attended = softmax(scores, 2).matmul(shared(v));
        self.output.forward(attended.swap_dims(0, 1).reshape([tokens, self.heads * head_dim]))
    }
}

/// The tensors of a file by name, each with its bytes.
struct Tensors<'a> {
    device: &'a Device,
    config: &'a ModelConfig,
    tensors: HashMap<&'a str, (&'a TensorInfo, Vec<u8>)>,
}

impl Tensors<'_> {
    fn llama(&self, positions: usize) -> Result<Llama> {
        let ModelConfig { d, vocab, head_dim, rope_base, .. } = *self.config;
        let factors = match self.tensors.contains_key("rope_freqs.weight") {
            true => Some(self.tensor("rope_freqs.weight", [head_dim / 2])?),
            false => None,
        };
        let rotary = RotaryEncodingConfig { max_sequence_length: positions, d_model: head_dim, theta: rope_base };
        let scale = |frequencies: Tensor<1>| match &factors {
            Some(factors) => frequencies / factors.clone(),
            None => frequencies,
        };
        Ok(Llama {
            embedding: Embedding { weight: Param::from_tensor(self.tensor("token_embd.weight", [vocab, d])?) },
            blocks: (0..self.config.layers).map(|i| self.block(i)).collect::<Result<_>>()?,
            norm: self.norm("output_norm")?,
            output: match self.tensors.contains_key("output.weight") {
                true => Some(self.linear("output", d, vocab)?),
                false => None,
            },
            rotary: rotary.init_with_frequency_scaling(scale, self.device),
        })
    }

    fn block(&self, i: usize) -> Result<Block> {
        let ModelConfig { d, ff, heads, kv_heads, .. } = *self.config;
        let (q_d, kv_d) = (self.config.q_d(), self.config.kv_d());
        let name = |n: &str| format!("blk.{i}.{n}");
        Ok(Block {
            attn_norm: self.norm(&name("attn_norm"))?,
            attention: Attention {
                q: self.linear(&name("attn_q"), d, q_d)?,
                k: self.linear(&name("attn_k"), d, kv_d)?,
                v: self.linear(&name("attn_v"), d, kv_d)?,
                output: self.linear(&name("attn_output"), q_d, d)?,
                heads,
                kv_heads,
            },
            ffn_norm: self.norm(&name("ffn_norm"))?,
            gate: self.linear(&name("ffn_gate"), d, ff)?,
            up: self.linear(&name("ffn_up"), d, ff)?,
            down: self.linear(&name("ffn_down"), ff, d)?,
        })
    }

    fn norm(&self, name: &str) -> Result<RmsNorm> {
        let gamma = Param::from_tensor(self.tensor(&format!("{name}.weight"), [self.config.d])?);
        Ok(RmsNorm { gamma, epsilon: self.config.eps.into() })
    }

    /// GGUF has an output's weights side by side, burn an input's.
    fn linear(&self, name: &str, inner: usize, outer: usize) -> Result<Linear> {
        let weight = self.tensor(&format!("{name}.weight"), [outer, inner])?.transpose();
        Ok(Linear { weight: Param::from_tensor(weight), bias: None })
    }

    fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>> {
        let invalid = |message: String| Error::new(ErrorCode::InvalidTensor, message);
        let (info, bytes) = self
            .tensors
            .get(name)
            .ok_or_else(|| invalid(format!("tensor '{name}' is missing; a llama model must have it")))?;
        let mut values = Vec::new();
        dequantize(info.ty, bytes, &mut values)?;
        if values.len() != shape.iter().product::<usize>() {
            return Err(invalid(format!(
                "tensor '{name}' has shape {:?}; the metadata calls for {shape:?}",
                info.shape
            )));
        }
        Ok(Tensor::from_data(TensorData::new(values, shape), self.device))
    }
}
