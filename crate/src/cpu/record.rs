//! A program's operations as the kernels' descriptors.

use std::collections::BTreeMap;

use embergram_kernels::step::{self, Kind};

use crate::program::{Activation, Buffer, Matrix, Op, Parameter, Part, Program, QkNorm, Shape, Then};

/// Where the activations and tables lie that operations name.
pub(super) struct Memory {
    pub activations: BTreeMap<Buffer, u32>,
    pub ropes: Vec<u32>,
    pub logits: u32,
}

/// The model's sizes and constants.
pub(super) fn shape(shape: &Shape) -> step::Shape {
    let Shape { d, ff, heads, kv_heads, head_dim, vocab, eps, activation, scales, softcaps, .. } = *shape;
    step::Shape {
        d: d as u32,
        ff: ff as u32,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        head_dim: head_dim as u32,
        vocab: vocab as u32,
        gelu: u32::from(activation == Activation::GeluTanh),
        eps,
        scales: [scales.embedding, scales.residual, scales.attention, scales.logits],
        caps: [softcaps.attention.unwrap_or(0.0), softcaps.logits.unwrap_or(0.0)],
    }
}

/// All operations. Parameters are the offsets of their buffers.
pub(super) fn record(program: &Program<'_, Parameter<u32>>, memory: &Memory) -> Vec<step::Op> {
    program.ops.iter().map(|op| descriptor(op, &program.shape, memory)).collect()
}

fn matrix(part: &Part<u32>, matrix: &Matrix) -> step::Matrix {
    let (format, bias) = matrix.ty.panels();
    step::Matrix { format: format as u32, rows: matrix.rows as u32, at: part.words + matrix.planes[0] * 4, bias }
}

/// Where a parameter's vector lies; 0 without one.
fn vector(parameter: &Parameter<u32>) -> u32 {
    let part = parameter.whole();
    part.vector.as_ref().map_or(0, |vector| part.words + vector.planes[0] * 4)
}

/// The matrices of these parameters, one after another.
fn matrices(parameters: &[&Parameter<u32>]) -> (u32, [step::Matrix; 3]) {
    let mut all = [step::Matrix::default(); 3];
    let parts = parameters.iter().flat_map(|parameter| &parameter.parts);
    let mut count = 0;
    for (to, of) in all.iter_mut().zip(parts.flat_map(|part| part.matrices.iter().map(|m| matrix(part, m)))) {
        *to = of;
        count += 1;
    }
    (count, all)
}

fn descriptor(op: &Op<'_, Parameter<u32>>, shape: &Shape, memory: &Memory) -> step::Op {
    let Memory { activations, ropes, logits } = memory;
    let at = |buffer: Buffer| activations[&buffer];
    let residual = at(Buffer::Residual);
    let reads = |kind: Kind, buffer: Buffer| step::Op {
        kind: kind as u32,
        input: activations[&buffer],
        inner: buffer.width(shape) as u32,
        ..step::Op::default()
    };
    let gain = |norm: Option<&Parameter<u32>>| norm.map_or(0, vector);
    let table = |rope: Option<usize>| rope.map_or(0, |rope| ropes[rope]);
    match *op {
        Op::Embed { table } => {
            let (matrices, matrix) = matrices(&[table]);
            step::Op { kind: Kind::Embed as u32, output: residual, matrices, matrix, ..step::Op::default() }
        }
        Op::Qkv { layer, norm, weights, then } => {
            let (matrices, matrix) = matrices(&[weights]);
            let (rope, output, flag) = match then {
                Then::Rotate(rope) => (table(rope), at(Buffer::Query), 0),
                Then::Norm => (0, at(Buffer::RawQueryKey), 1),
            };
            let (gain, bias) = (gain(norm), vector(weights));
            let layer = layer as u32;
            step::Op { layer, output, gain, bias, rope, flag, matrices, matrix, ..reads(Kind::Qkv, Buffer::Residual) }
        }
        Op::QkNorm { layer, gains, over, rope } => step::Op {
            layer: layer as u32,
            output: at(Buffer::Query),
            gain: vector(gains),
            rope: table(rope),
            flag: u32::from(over == QkNorm::Whole),
            ..reads(Kind::QkNorm, Buffer::RawQueryKey)
        },
        Op::Attention { layer, window } => step::Op {
            layer: layer as u32,
            output: at(Buffer::Attended),
            window: window.map_or(0, |window| u32::try_from(window).unwrap_or(u32::MAX)),
            ..reads(Kind::Attention, Buffer::Query)
        },
        Op::Project { from, weights, to } => {
            let (matrices, matrix) = matrices(&[weights]);
            let kind = if to == Buffer::Residual { Kind::ProjectAdd } else { Kind::Project };
            step::Op { output: at(to), matrices, matrix, ..reads(kind, from) }
        }
        Op::AddNormed { gain } => {
            step::Op { output: residual, gain: vector(gain), ..reads(Kind::AddNormed, Buffer::Branch) }
        }
        Op::GateUp { norm, gate, up } => {
            let (matrices, matrix) = matrices(&[gate, up]);
            let output = at(Buffer::Inner);
            step::Op { output, gain: gain(norm), matrices, matrix, ..reads(Kind::GateUp, Buffer::Residual) }
        }
        Op::Logits { norm, output } => {
            let (matrices, matrix) = matrices(&[output]);
            let gain = vector(norm);
            step::Op { output: *logits, gain, matrices, matrix, ..reads(Kind::Logits, Buffer::Residual) }
        }
        Op::Argmax => step::Op { kind: Kind::Argmax as u32, input: *logits, ..step::Op::default() },
    }
}
