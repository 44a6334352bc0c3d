//! Operations on single rows.

use crate::cache;
use crate::finish::rotate;
use crate::format::Format;
use crate::prompt;
use crate::run::Context;
use crate::unpack;
use crate::vector::{F32x4, U32x4, inverse_sqrt};

/// In place of a token: the row's logits hold a NaN or an infinity.
const CORRUPTED: u32 = u32::MAX;

/// Calls `each` for the rows that this thread takes.
fn rows(context: &Context, count: u32, mut each: impl FnMut(usize)) {
    loop {
        let row = context.pieces.take();
        if row >= count as usize {
            return;
        }
        each(row);
    }
}

/// `1 / sqrt(mean(x^2) + eps)` of `count` values, a multiple of four.
unsafe fn inverse_norm(x: *const f32, count: usize, eps: f32) -> f32 {
    let mut sums = [F32x4::splat(0.0); 4];
    for i in 0..count / 4 {
        let v = unsafe { F32x4::load(x.add(i * 4)) };
        sums[i % 4] = v * v + sums[i % 4];
    }
    let sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    inverse_sqrt(sum.sum() / count as f32 + eps)
}

/// `to = x / sqrt(mean(x^2) + eps) * gain`
///
/// # Safety
/// Each has so many values, a multiple of four.
pub(crate) unsafe fn normed(x: *const f32, gain: *const f32, count: usize, eps: f32, to: *mut f32) {
    let inverse = F32x4::splat(unsafe { inverse_norm(x, count, eps) });
    for i in (0..count).step_by(4) {
        unsafe { (F32x4::load(x.add(i)) * inverse * F32x4::load(gain.add(i))).store(to.add(i)) };
    }
}

/// # Safety
/// As [`run`](crate::run).
pub(crate) unsafe fn embed(context: &Context) {
    let (op, shape) = (context.op, &context.step.shape);
    let (matrix, d) = (&op.matrix[0], shape.d as usize);
    let format = Format::of(matrix.format);
    let four = context.own(context.scratch.weights);
    rows(context, context.step.rows, |row| unsafe {
        let token = context.word(context.step.tokens, row) as usize;
        let panel = context.memory.get::<u8>(matrix.at).wrapping_add(format.panel_at(token / 4, d));
        let to = context.line(op.output, row, d);
        // A row's weights lie among those of its panel: all four are unpacked.
        for first in (0..d).step_by(prompt::DEPTH) {
            let count = prompt::DEPTH.min(d - first);
            unpack::weights((format, matrix.bias), panel, (first, count), four);
            for k in 0..count {
                *to.add(first + k) = shape.scales[0] * *four.add(k * unpack::OUTPUTS + token % 4);
            }
        }
    });
}

/// # Safety
/// As [`run`](crate::run).
pub(crate) unsafe fn add_normed(context: &Context) {
    let (op, shape) = (context.op, &context.step.shape);
    let d = shape.d as usize;
    let scale = F32x4::splat(shape.scales[1]);
    rows(context, context.step.rows, |row| unsafe {
        let (branch, to) = (context.line(op.input, row, d), context.line(op.output, row, d));
        let line = context.own(context.scratch.row);
        normed(branch, context.memory.get(op.gain), d, shape.eps, line);
        for i in (0..d).step_by(4) {
            (F32x4::load(to.add(i)) + scale * F32x4::load(line.add(i))).store(to.add(i));
        }
    });
}

/// # Safety
/// As [`run`](crate::run).
pub(crate) unsafe fn qk_norm(context: &Context) {
    let (op, shape) = (context.op, &context.step.shape);
    let head = shape.head_dim as usize;
    let (q_d, kv_d) = (shape.heads as usize * head, shape.kv_heads as usize * head);
    let whole = op.flag == 1;
    rows(context, context.step.rows, |row| unsafe {
        let raw = context.line(op.input, row, q_d + kv_d);
        let position = context.word(context.step.positions, row) as usize;
        let gain = context.memory.get::<f32>(op.gain);
        let line = context.own(context.scratch.row);
        let query = context.line(op.output, row, q_d);
        let key_gain = gain.add(if whole { q_d } else { head });
        for (from, width, gain, is_key) in [(raw, q_d, gain, false), (raw.add(q_d), kv_d, key_gain, true)] {
            let at_once = if whole { width } else { head };
            for at in (0..width).step_by(at_once) {
                normed(from.add(at), gain, at_once, shape.eps, line);
                for i in (0..at_once).step_by(4) {
                    let v = F32x4::load(line.add(i));
                    let turned = if op.rope == 0 { v } else { rotate(context, v, (at + i) / 4, position) };
                    match is_key {
                        true => cache::store(context, (row, false), at + i, turned),
                        false => turned.store(query.add(at + i)),
                    }
                }
            }
        }
    });
}

/// The largest logit's token, the lowest id on ties; [`CORRUPTED`] where a logit is none.
///
/// # Safety
/// As [`run`](crate::run).
pub(crate) unsafe fn argmax(context: &Context) {
    let vocab = context.step.shape.vocab as usize;
    rows(context, context.step.outputs, |output| unsafe {
        let logits = context.line(context.op.input, output, vocab);
        *context.memory.get::<u32>(context.step.sampled).add(output) = best(logits, vocab);
    });
}

unsafe fn best(logits: *const f32, vocab: usize) -> u32 {
    let (sign, finite) = (U32x4::splat(0x7fff_ffff), U32x4::splat(0x7f7f_ffff));
    let mut corrupted = U32x4::splat(0);
    // Each lane's best, and its place.
    let (mut best, mut at) = (F32x4::splat(f32::MIN), U32x4::splat(0));
    let mut ids = U32x4::new([0, 1, 2, 3]);
    for i in 0..vocab / 4 {
        let v = unsafe { F32x4::load(logits.add(i * 4)) };
        corrupted = corrupted | (v.bits() & sign).above(finite);
        let better = v.above(best);
        best = better.select(v.bits(), best.bits()).as_f32();
        at = better.select(ids, at);
        ids = ids.plus(U32x4::splat(4));
    }
    let mut is_corrupted = corrupted.lanes().iter().any(|lane| *lane != 0);
    let (mut value, mut token) = (f32::MIN, u32::MAX);
    let mut compare = |v: f32, id: u32| {
        if v > value || (v == value && id < token) {
            (value, token) = (v, id);
        }
    };
    for (v, id) in best.lanes().into_iter().zip(at.lanes()) {
        compare(v, id);
    }
    for id in vocab / 4 * 4..vocab {
        let v = unsafe { *logits.add(id) };
        is_corrupted |= v.to_bits() & 0x7fff_ffff > 0x7f7f_ffff;
        compare(v, id as u32);
    }
    if is_corrupted { CORRUPTED } else { token }
}
