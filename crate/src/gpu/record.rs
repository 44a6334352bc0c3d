//! A program's operations as recorded dispatches.

use std::collections::BTreeMap;

use burn_wgpu::wgpu;

use super::kernel::{AttentionShare, Constant, Kernel, MatrixKey, matrices};
use super::recorder::{Grid, Over, Recorder, reads, writes};
use super::tuning::{CHANGE_SIZE, PARTS};
use super::{Gpu, weights::DeviceWords};
use crate::Result;
use crate::program::{Buffer, Op, Parameter, Program, Shape, Then};

/// What a program's operations read and write besides parameters.
pub(super) struct Memory {
    /// Activations, and for those that are normed the sums of squares.
    pub activations: BTreeMap<Buffer, wgpu::Buffer>,
    pub squares: BTreeMap<Buffer, wgpu::Buffer>,
    /// The residual stream times the gain of the norm that follows.
    pub gained: wgpu::Buffer,
    /// What products take as bytes, where they do (`Precision::Fast`).
    pub bytes: Option<wgpu::Buffer>,
    /// Each layer's keys and values, of the blocks that have memory.
    pub kv: Vec<wgpu::Buffer>,
    /// How attention is shared out on GPUs, and the splits of its rows (shaders/attention_gpu.wgsl).
    pub splits: Option<(AttentionShare, wgpu::Buffer)>,
    /// Rotary tables.
    pub ropes: Vec<DeviceWords>,
    pub logits: wgpu::Buffer,
    /// The best token of each part of the vocabulary.
    pub bests: wgpu::Buffer,
    pub sampled: wgpu::Buffer,
    /// What becomes of logits before that (shaders/adjust.wgsl).
    pub changes: wgpu::Buffer,
    /// What is sampled by noise, and how (shaders/draw.wgsl).
    pub draws: wgpu::Buffer,
}

/// Records all operations, and last what samples in place of greedy; says of each operation where its dispatches end.
///
/// # Errors
/// `adapter_too_small` where the adapter's limits are below what a kernel binds or runs.
pub(super) fn record(
    r: &mut Recorder<'_>,
    gpu: &Gpu,
    program: &Program<'_, Parameter<DeviceWords>>,
    memory: &Memory,
) -> Result<Vec<usize>> {
    let of = Record { gpu, shape: &program.shape, memory };
    let mut ends = Vec::with_capacity(program.ops.len());
    for (i, op) in program.ops.iter().enumerate() {
        of.op(r, op, next_norm(&program.ops[i + 1..]))?;
        ends.push(r.dispatches.len());
    }
    let Memory { logits, sampled, draws, .. } = memory;
    r.dispatch(Kernel::Draw, Over::Draws, Grid::Each(1), &[reads(draws), reads(logits), writes(sampled)])?;
    Ok(ends)
}

/// The gain of the norm that the residual stream goes through next, if it is normed.
pub(super) fn next_norm<'a, P>(ops: &[Op<'a, P>]) -> Option<&'a P> {
    ops.iter().find_map(|op| match *op {
        Op::Qkv { norm, .. } | Op::GateUp { norm, .. } => Some(norm),
        Op::Logits { norm, .. } => Some(Some(norm)),
        _ => None,
    })?
}

struct Record<'a> {
    gpu: &'a Gpu,
    shape: &'a Shape,
    memory: &'a Memory,
}

impl Record<'_> {
    /// `gain` is of the norm that follows, for who writes the residual stream.
    fn op(
        &self,
        r: &mut Recorder<'_>,
        op: &Op<'_, Parameter<DeviceWords>>,
        gain: Option<&Parameter<DeviceWords>>,
    ) -> Result<()> {
        let Shape { d, ff, scales, softcaps, .. } = *self.shape;
        let Memory { activations, squares, gained, kv, ropes, logits, bests, sampled, changes, .. } = self.memory;
        let (x, x_squares) = (&activations[&Buffer::Residual], &squares[&Buffer::Residual]);
        // What a product takes of the residual stream, and what its writer binds besides.
        let residual = |normed: bool| if normed { gained } else { x };
        let taken = |taken: &wgpu::Buffer, normed: bool| {
            if normed { vec![reads(taken), reads(x_squares)] } else { vec![reads(taken)] }
        };
        let next = || gain.iter().flat_map(|gain| [reads(&gain.whole().words), writes(gained)]);
        match *op {
            Op::Embed { table } => {
                for part in &table.parts {
                    let scale = Constant::factor(scales.embedding);
                    let kernel = Kernel::Embed { w: matrices(&[part]), scale, gain: gain.is_some() };
                    let bindings: Vec<_> = [reads(&part.words), writes(x), writes(x_squares), reads(sampled)]
                        .into_iter()
                        .chain(next())
                        .collect();
                    r.dispatch(kernel, Over::Rows, Grid::Each((d / 32).div_ceil(16)), &bindings)?;
                }
                Ok(())
            }
            Op::Qkv { layer, norm, weights, then } => {
                let part = weights.whole();
                let w = matrices(&[part]);
                let (rope, raw) = match then {
                    Then::Rotate(rope) => (rope, false),
                    Then::Norm => (None, true),
                };
                let grid = Grid::Product(w.iter().map(|m| m.rows / 4).collect());
                let (input, fast) = self.input(r, residual(norm.is_some()), d, &w)?;
                let mut bindings = taken(input, norm.is_some());
                bindings.extend(rope.map(|rope| reads(&ropes[rope])));
                let query = if raw { Buffer::RawQueryKey } else { Buffer::Query };
                bindings.extend([writes(&activations[&query]), writes(&kv[layer]), reads(&part.words)]);
                let bias = part.vector.as_ref().map(|bias| bias.planes[0] / 4);
                let kernel =
                    Kernel::Qkv { inner: d, w, fast, norm: norm.is_some(), bias, rotates: rope.is_some(), raw };
                r.dispatch(kernel, Over::Rows, grid, &bindings)
            }
            Op::QkNorm { layer, gains, over, rope } => {
                let (raw, query) = (&activations[&Buffer::RawQueryKey], &activations[&Buffer::Query]);
                let mut bindings = vec![reads(raw), reads(&gains.whole().words), writes(query), writes(&kv[layer])];
                bindings.extend(rope.map(|rope| reads(&ropes[rope])));
                let kernel = Kernel::QkNorm { rotates: rope.is_some(), by_head: over.is_by_head() };
                r.dispatch(kernel, Over::Rows, Grid::Flat(self.shape.heads + self.shape.kv_heads, 32), &bindings)
            }
            Op::Attention { layer, window } => {
                let (query, cache) = (&activations[&Buffer::Query], &kv[layer]);
                let out = &activations[&Buffer::Attended];
                let Some((share, parts)) = &self.memory.splits else {
                    let (kernel, grid) = self.attention(window);
                    return r.dispatch(kernel, Over::Rows, grid, &[reads(query), reads(cache), writes(out)]);
                };
                let each = self.shape.heads / share.head_count;
                let attention = |prompt| Kernel::AttentionGpu { window, prompt, share: *share };
                let bindings = [reads(query), reads(cache), writes(out), writes(parts)];
                r.dispatch(attention(false), Over::Rows, Grid::Splits(each), &bindings)?;
                let merge = Grid::Merge((self.shape.heads * share.lanes).div_ceil(64));
                let kernel = Kernel::AttentionMerge { window, share: *share };
                r.dispatch(kernel, Over::Rows, merge, &[reads(parts), writes(out)])?;
                r.dispatch(attention(true), Over::Rows, Grid::Prompts(each), &[reads(query), reads(cache), writes(out)])
            }
            Op::Project { from, weights, to } => {
                let part = weights.whole();
                let inner = from.width(self.shape);
                let adds = to == Buffer::Residual;
                let scale = if adds { Constant::factor(scales.residual) } else { None };
                let gain = adds && gain.is_some();
                let w = matrices(&[part]);
                let (input, fast) = self.input(r, &activations[&from], inner, &w)?;
                let kernel = Kernel::Project { inner, w, fast, adds, scale, gain };
                let mut bindings =
                    vec![reads(input), reads(&part.words), writes(&activations[&to]), writes(&squares[&to])];
                bindings.extend(next().filter(|_| adds));
                r.dispatch(kernel, Over::Rows, Grid::Product(vec![d / 4]), &bindings)
            }
            Op::AddNormed { gain: branch_gain } => {
                let branch = [reads(&activations[&Buffer::Branch]), reads(&squares[&Buffer::Branch])];
                let residual = [reads(&branch_gain.whole().words), writes(x), writes(x_squares)];
                let bindings: Vec<_> = branch.into_iter().chain(residual).chain(next()).collect();
                let kernel = Kernel::AddNormed { scale: Constant::factor(scales.residual), gain: gain.is_some() };
                r.dispatch(kernel, Over::Rows, Grid::Each((d / 32).div_ceil(16)), &bindings)
            }
            Op::GateUp { norm, gate, up } => {
                let (gate, up) = (gate.whole(), up.whole());
                let w = matrices(&[gate, up]);
                let (input, fast) = self.input(r, residual(norm.is_some()), d, &w)?;
                let mut bindings = taken(input, norm.is_some());
                bindings.extend([reads(&gate.words), reads(&up.words), writes(&activations[&Buffer::Inner])]);
                let activation = self.shape.activation.name();
                let kernel = Kernel::GateUp { inner: d, w, fast, norm: norm.is_some(), activation };
                r.dispatch(kernel, Over::Rows, Grid::Product(vec![ff / 2]), &bindings)
            }
            Op::Logits { output, .. } => {
                let (input, fast) = self.input(r, gained, d, &matrices(&output.parts.iter().collect::<Vec<_>>()))?;
                for part in &output.parts {
                    let w = matrices(&[part]);
                    let grid = Grid::Product(w.iter().map(|m| m.rows.div_ceil(4)).collect());
                    let cap = softcaps.logits.map(Constant);
                    let kernel = Kernel::Logits { inner: d, w, fast, scale: Constant::factor(scales.logits), cap };
                    let bindings = [reads(input), reads(x_squares), reads(&part.words), writes(logits)];
                    r.dispatch(kernel, Over::Outputs, grid, &bindings)?;
                }
                Ok(())
            }
            Op::Argmax => {
                let changed = Grid::Flat(1, CHANGE_SIZE);
                r.dispatch(Kernel::Adjust, Over::Changes, changed, &[reads(changes), writes(logits)])?;
                // Sixteen parts share a workgroup where a part is one invocation.
                let groups = Grid::Each(if self.gpu.tuning.part_size() > 1 { PARTS } else { PARTS / 16 });
                r.dispatch(Kernel::ArgmaxPart, Over::Outputs, groups, &[reads(logits), writes(bests)])?;
                r.dispatch(Kernel::Argmax, Over::Outputs, Grid::Each(1), &[reads(bests), writes(sampled)])
            }
        }
    }

    /// What a product with these matrices reads of activations: bytes, which are made here, or what there is; and whether bytes.
    fn input<'b>(
        &'b self,
        r: &mut Recorder<'_>,
        from: &'b wgpu::Buffer,
        inner: usize,
        w: &[MatrixKey],
    ) -> Result<(&'b wgpu::Buffer, bool)> {
        match &self.memory.bytes {
            Some(bytes) if w.iter().all(MatrixKey::is_quantised) => {
                let grid = Grid::Flat(inner / 32, 64);
                r.dispatch(Kernel::Quantize { inner }, Over::Rows, grid, &[reads(from), writes(bytes)])?;
                Ok((bytes, true))
            }
            _ => Ok((from, false)),
        }
    }

    /// The attention for CPU adapters: a subgroup for each key-value head, or else an invocation for each head.
    fn attention(&self, window: Option<usize>) -> (Kernel, Grid) {
        let Shape { heads, kv_heads, head_dim, .. } = *self.shape;
        let subgroup = self.gpu.subgroup as usize;
        if subgroup > 0 && (head_dim / 4).is_multiple_of(subgroup) {
            return (Kernel::AttentionSubgroup { window }, Grid::Each(kv_heads));
        }
        (Kernel::AttentionAlone { window }, Grid::Flat(heads, 8))
    }
}
