//! What becomes of the outputs of products.

use crate::cache;
use crate::math::{capped, gelu, silu};
use crate::run::Context;
use crate::step::Kind;
use crate::vector::F32x4;

/// Outputs in scratch memory: of one matrix, or of gate and up.
#[derive(Clone, Copy)]
pub(crate) struct Outputs {
    /// The first panel's four of the first row.
    pub of: [*mut f32; 2],
    /// From a panel to the next, in f32.
    pub panel: usize,
    /// From a row to the next.
    pub row: usize,
}

/// Finishes the outputs of `count` panels from `first` on, counted over all matrices, and of rows `row ..`.
///
/// # Safety
/// As [`run`](crate::run).
pub(crate) unsafe fn finish(
    context: &Context,
    (first, count): (usize, usize),
    (row, rows): (usize, usize),
    outputs: Outputs,
) {
    let kind = Kind::ALL[context.op.kind as usize];
    for p in 0..count {
        for t in 0..rows {
            let at = p * outputs.panel + t * outputs.row;
            let (panel, row) = (first + p, row + t);
            unsafe {
                let v = F32x4::load(outputs.of[0].add(at));
                match kind {
                    Kind::Qkv => qkv(context, panel, row, v),
                    Kind::GateUp => gate_up(context, panel, row, v, F32x4::load(outputs.of[1].add(at))),
                    Kind::Logits => logits(context, panel, row, v),
                    _ => project(context, panel, row, v, kind == Kind::ProjectAdd),
                }
            }
        }
    }
}

/// The rotation of four values of a head, two pairs of neighbours, at a position.
///
/// # Safety
/// The table has the position.
pub(crate) unsafe fn rotate(context: &Context, v: F32x4, quad: usize, position: usize) -> F32x4 {
    let head_dim = context.step.shape.head_dim as usize;
    let at = position * head_dim + quad * 4 % head_dim;
    let [cos_a, sin_a, cos_b, sin_b] =
        unsafe { F32x4::load(context.memory.get::<f32>(context.op.rope).add(at)) }.lanes();
    let [x, y, z, w] = v.lanes();
    F32x4::new([x * cos_a - y * sin_a, x * sin_a + y * cos_a, z * cos_b - w * sin_b, z * sin_b + w * cos_b])
}

unsafe fn qkv(context: &Context, panel: usize, row: usize, v: F32x4) {
    let (op, shape) = (context.op, &context.step.shape);
    let q_d = (shape.heads * shape.head_dim) as usize;
    let kv_d = (shape.kv_heads * shape.head_dim) as usize;
    let at = panel * 4;
    let v = if op.bias == 0 { v } else { v + unsafe { F32x4::load(context.memory.get::<f32>(op.bias).add(at)) } };
    unsafe {
        if at >= q_d + kv_d {
            return cache::store(context, (row, true), at - q_d - kv_d, v);
        }
        if op.flag == 1 {
            return v.store(context.line(op.output, row, q_d + kv_d).add(at));
        }
        let position = context.word(context.step.positions, row) as usize;
        let turned = if op.rope == 0 { v } else { rotate(context, v, panel, position) };
        match at < q_d {
            true => turned.store(context.line(op.output, row, q_d).add(at)),
            false => cache::store(context, (row, false), at - q_d, turned),
        }
    }
}

unsafe fn project(context: &Context, panel: usize, row: usize, v: F32x4, adds: bool) {
    let shape = &context.step.shape;
    let to = context.line(context.op.output, row, shape.d as usize).wrapping_add(panel * 4);
    unsafe {
        let v = if adds { F32x4::load(to) + F32x4::splat(shape.scales[1]) * v } else { v };
        v.store(to);
    }
}

unsafe fn gate_up(context: &Context, panel: usize, row: usize, gate: F32x4, up: F32x4) {
    let shape = &context.step.shape;
    let to = context.line(context.op.output, row, shape.ff as usize).wrapping_add(panel * 4);
    let gated = if shape.gelu == 1 { gelu(gate) } else { silu(gate) };
    unsafe { (gated * up).store(to) };
}

unsafe fn logits(context: &Context, panel: usize, output: usize, v: F32x4) {
    let shape = &context.step.shape;
    let (vocab, cap) = (shape.vocab as usize, shape.caps[1]);
    let v = F32x4::splat(shape.scales[3]) * v;
    let v = if cap == 0.0 { v } else { capped(v, cap) };
    let to = context.line(context.op.output, output, vocab).wrapping_add(panel * 4);
    // The last panel may have less than four tokens.
    match vocab - panel * 4 {
        4.. => unsafe { v.store(to) },
        left => v.lanes()[..left].iter().enumerate().for_each(|(i, v)| unsafe { *to.add(i) = *v }),
    }
}
