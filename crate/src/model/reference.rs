//! The forward pass in burn's own operations: the reference that runners are held to. Whole sequences, no cache, every
//! weight dequantised to f32, heads that turn in the file's own order.

use std::collections::HashMap;
use std::io::Read;

use burn::tensor::activation::{gelu_approximate, silu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::config::{Divisors, Pairs, Rope};
use super::decoder::{Decoder, Layer, Piece, Spec};
use super::layout::Index;
use super::{ModelConfig, arch};
use crate::format::gguf::{DataCursor, Parser};
use crate::format::quant::dequantize;
use crate::program::{Activation, QkNorm};
use crate::{Error, ErrorCode, Result};

/// A model in burn's tensors.
pub struct Reference {
    config: ModelConfig,
    decoder: Decoder<Weights>,
    /// Divisors of the rotary frequencies, by tensor.
    divisors: HashMap<&'static str, Vec<f32>>,
    positions: usize,
    device: Device,
}

/// A parameter.
struct Weights {
    /// `[inner, outputs]`
    matrix: Option<Tensor<2>>,
    /// A gain, or the bias of the matrix.
    vector: Option<Tensor<1>>,
}

impl Weights {
    /// `[tokens, inner]` to `[tokens, outputs]`
    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let y = x.matmul(self.matrix.clone().expect("a product has a matrix"));
        match &self.vector {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        }
    }

    fn gain(&self) -> Tensor<1> {
        self.vector.clone().expect("a norm has a gain")
    }
}

impl Reference {
    /// The model of a GGUF file, which is held in memory whole; for sequences of up to `positions`.
    ///
    /// # Errors
    /// As [`super::Loader::push`]; `invalid_file` when the source cannot be read.
    pub fn read(mut source: impl Read, positions: usize, device: &Device) -> Result<Self> {
        let mut file = Vec::new();
        source
            .read_to_end(&mut file)
            .map_err(|e| Error::new(ErrorCode::InvalidFile, format!("cannot be read: {e}")))?;
        let mut parser = Parser::new();
        let start = parser.push(&file)?;
        let header = parser.into_header()?;
        let mut bytes = vec![Vec::new(); header.tensors.len()];
        let mut cursor = DataCursor::new(&header.tensors);
        cursor.push(&file[start..], &mut |tensor, _, piece| {
            bytes[tensor].extend_from_slice(piece);
            Ok(())
        })?;
        cursor.finish()?;
        let index = Index::new(vec![&header.tensors])?;
        let config = arch::read(&header.metadata, &|name| index.has(name))?;
        let values = |name: &str, shape| {
            let (info, (_, at)) = index.find(name, shape, config.arch)?;
            let mut values = Vec::new();
            dequantize(info.ty, &bytes[at], &mut values)?;
            Ok(values)
        };
        let tensors = config.ropes.iter().flat_map(|rope| rope.tensors().map(move |name| (name, rope.dims / 2)));
        let divisors = tensors.map(|(name, len)| Ok((name, values(name, [len, 1])?))).collect::<Result<_>>()?;
        let tied = !index.has("output.weight");
        let decoder = Decoder::new(&config, tied, |spec| weights(&spec, &values, device))?;
        Ok(Self { config, decoder, divisors, positions, device: device.clone() })
    }

    /// Logits of every position of one sequence: `[tokens, vocab]` f32.
    pub fn forward(&self, tokens: &[u32]) -> Tensor<2> {
        let Self { config, decoder, .. } = self;
        let x = self.hidden(tokens);
        let logits = decoder.output.as_ref().unwrap_or(&decoder.embedding).product(x) * config.scales.logits;
        capped(logits, config.softcaps.logits)
    }

    /// Hidden states of every position of one sequence, after the last norm: `[tokens, d]` f32.
    pub fn hidden(&self, tokens: &[u32]) -> Tensor<2> {
        let Self { config, decoder, .. } = self;
        let ids: Vec<i32> = tokens.iter().map(|t| *t as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens.len()]), &self.device);
        let table = decoder.embedding.matrix.clone().expect("a matrix");
        let mut x = table.select(1, ids).transpose() * config.scales.embedding;
        for (layer, shape) in decoder.layers.iter().zip(&config.layers) {
            let attended = self.attention(layer, self.norm(x.clone(), &layer.attn_norm), shape.rope, shape.window);
            x = x + self.norm(attended, &layer.attn_post_norm) * config.scales.residual;
            let inner = self.feed_forward(layer, self.norm(x.clone(), &layer.ffn_norm));
            x = x + self.norm(inner, &layer.ffn_post_norm) * config.scales.residual;
        }
        rms(x, decoder.norm.gain(), config.eps)
    }

    /// Normed where there is a gain.
    fn norm(&self, x: Tensor<2>, gain: &Option<Weights>) -> Tensor<2> {
        match gain {
            Some(gain) => rms(x, gain.gain(), self.config.eps),
            None => x,
        }
    }

    fn feed_forward(&self, layer: &Layer<Weights>, h: Tensor<2>) -> Tensor<2> {
        let gate = layer.ffn_gate.product(h.clone());
        let gate = match self.config.activation {
            Activation::Silu => silu(gate),
            Activation::GeluTanh => gelu_approximate(gate),
        };
        layer.ffn_down.product(gate * layer.ffn_up.product(h))
    }

    /// `[tokens, d]` to `[tokens, d]`; each position attends to itself and those before it in the window.
    fn attention(&self, layer: &Layer<Weights>, x: Tensor<2>, rope: Option<usize>, window: Option<usize>) -> Tensor<2> {
        let config = &self.config;
        let (heads, kv_heads, head_dim) = (config.heads, config.kv_heads, config.head_dim);
        let (q_d, kv_d) = (config.q_d(), config.kv_d());
        let [tokens, _] = x.dims();
        let qkv = layer.attn_qkv.product(x);
        let [mut q, mut k, v] =
            [(0, q_d), (q_d, kv_d), (q_d + kv_d, kv_d)].map(|(first, width)| qkv.clone().narrow(1, first, width));
        let gains = layer.qk_norm.as_ref().map(Weights::gain);
        if let (Some(gains), Some(QkNorm::Whole)) = (&gains, config.qk_norm) {
            q = rms(q, gains.clone().narrow(0, 0, q_d), config.eps);
            k = rms(k, gains.clone().narrow(0, q_d, kv_d), config.eps);
        }
        // [tokens, heads * head_dim] to [heads, tokens, head_dim].
        let split = |y: Tensor<2>, heads: usize| y.reshape([tokens, heads, head_dim]).swap_dims(0, 1);
        let (mut q, mut k, v) = (split(q, heads), split(k, kv_heads), split(v, kv_heads));
        if let (Some(gains), Some(QkNorm::Head)) = (gains, config.qk_norm) {
            q = rms(q, gains.clone().narrow(0, 0, head_dim), config.eps);
            k = rms(k, gains.narrow(0, head_dim, head_dim), config.eps);
        }
        if let Some(rope) = rope {
            (q, k) = (self.turned(q, &config.ropes[rope]), self.turned(k, &config.ropes[rope]));
        }
        // Each key and value head serves a run of query heads.
        let shared =
            |y: Tensor<3>| y.unsqueeze_dim::<4>(1).repeat_dim(1, heads / kv_heads).reshape([heads, tokens, head_dim]);
        let scores = capped(q.matmul(shared(k).swap_dims(1, 2)) * config.scales.attention, config.softcaps.attention);
        let mut hidden = Tensor::<2, Bool>::tril_mask([tokens, tokens], 0, &self.device);
        if let Some(window) = window {
            hidden = hidden.bool_or(Tensor::<2, Bool>::triu_mask([tokens, tokens], 1 - window as i64, &self.device));
        }
        let scores = scores.mask_fill(hidden.unsqueeze(), f32::MIN);
        let attended = softmax(scores, 2).matmul(shared(v));
        layer.attn_output.product(attended.swap_dims(0, 1).reshape([tokens, q_d]))
    }

    /// Heads `[heads, tokens, head_dim]` turned by their positions, in the file's order of pairs.
    fn turned(&self, x: Tensor<3>, rope: &Rope) -> Tensor<3> {
        let [heads, tokens, head_dim] = x.dims();
        let pairs = rope.dims / 2;
        let divisors = rope.divisors(self.positions).map(|divisors| match divisors {
            Divisors::Tensor(name) => &self.divisors[name],
            Divisors::Values(values) => values,
        });
        let angle = |position: usize, pair: usize| {
            let factor = divisors.map_or(1.0, |f| f64::from(f[pair])) * f64::from(rope.factor);
            position as f64 * f64::from(rope.base).powf(-2.0 * pair as f64 / rope.dims as f64) / factor
        };
        let table = |f: fn(f64) -> f64| {
            let all = (0..tokens).flat_map(|position| (0..pairs).map(move |pair| (position, pair)));
            let all: Vec<f32> = all.map(|(t, pair)| (f(angle(t, pair)) * f64::from(rope.magnitude)) as f32).collect();
            Tensor::<3>::from_data(TensorData::new(all, [1, tokens, pairs]), &self.device)
        };
        let (cos, sin) = (table(f64::cos), table(f64::sin));
        let turning = x.clone().narrow(2, 0, rope.dims);
        let [a, b] = match self.config.pairs {
            Pairs::Halves => [0, pairs].map(|first| turning.clone().narrow(2, first, pairs)),
            Pairs::Neighbours => {
                let two = turning.reshape([heads, tokens, pairs, 2]);
                [0, 1].map(|which| two.clone().narrow(3, which, 1).reshape([heads, tokens, pairs]))
            }
        };
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = b * cos + a * sin;
        let turned = match self.config.pairs {
            Pairs::Halves => Tensor::cat(vec![first, second], 2),
            Pairs::Neighbours => Tensor::stack::<4>(vec![first, second], 3).reshape([heads, tokens, rope.dims]),
        };
        match head_dim - rope.dims {
            0 => turned,
            rest => Tensor::cat(vec![turned, x.narrow(2, rope.dims, rest)], 2),
        }
    }
}

/// An RMS norm over the last dimension.
fn rms<const D: usize>(x: Tensor<D>, gain: Tensor<1>, eps: f32) -> Tensor<D> {
    let mean = (x.clone() * x.clone()).mean_dim(D - 1);
    x / (mean + eps).sqrt() * gain.unsqueeze()
}

fn capped<const D: usize>(x: Tensor<D>, cap: Option<f32>) -> Tensor<D> {
    match cap {
        Some(cap) => (x / cap).tanh() * cap,
        None => x,
    }
}

/// A parameter out of its tensors' values; GGUF has an output's weights side by side, burn an input's.
fn weights(spec: &Spec, values: &impl Fn(&str, [usize; 2]) -> Result<Vec<f32>>, device: &Device) -> Result<Weights> {
    let (vectors, matrices): (Vec<&Piece>, Vec<&Piece>) = spec.pieces.iter().partition(|piece| piece.is_vector());
    let rows = |pieces: &[&Piece]| {
        let mut all = Vec::new();
        for piece in pieces {
            let width = if piece.is_vector() { 1 } else { piece.shape[0] };
            all.extend_from_slice(
                &values(&piece.tensor, piece.shape)?[piece.rows.start * width..piece.rows.end * width],
            );
        }
        Ok::<_, Error>(all)
    };
    let matrix = matrices.first().map(|first| {
        let (values, inner) = (rows(&matrices)?, first.shape[0]);
        let shape = [values.len() / inner, inner];
        Ok::<_, Error>(Tensor::<2>::from_data(TensorData::new(values, shape), device).transpose())
    });
    let vector = rows(&vectors)?;
    let len = vector.len();
    Ok(Weights {
        matrix: matrix.transpose()?,
        vector: (len > 0).then(|| Tensor::from_data(TensorData::new(vector, [len]), device)),
    })
}
