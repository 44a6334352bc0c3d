//! A program's operations as recorded dispatches.

use std::collections::BTreeMap;

use burn_wgpu::wgpu;

use super::kernel::{Constant, Kernel, MatrixKey, Product, matrices};
use super::recorder::{Grid, Over, Recorder, reads, writes};
use super::{Gpu, Tuning, weights::DeviceWords};
use crate::Result;
use crate::program::{Buffer, Op, Parameter, Program, Shape, Then};

/// What a program's operations read and write besides parameters.
pub(super) struct Memory {
    /// Activations, and for those that are normed the sums of squares.
    pub activations: BTreeMap<Buffer, wgpu::Buffer>,
    pub squares: BTreeMap<Buffer, wgpu::Buffer>,
    /// Each layer's keys and values.
    pub kv: Vec<DeviceWords>,
    /// Rotary tables.
    pub ropes: Vec<DeviceWords>,
    pub logits: wgpu::Buffer,
    /// The best token of each part of the vocabulary.
    pub bests: wgpu::Buffer,
    pub sampled: wgpu::Buffer,
}

/// Records all operations; says of each where its dispatches end.
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
    let end = |op| of.op(r, op).map(|()| r.dispatches.len());
    program.ops.iter().map(end).collect()
}

struct Record<'a> {
    gpu: &'a Gpu,
    shape: &'a Shape,
    memory: &'a Memory,
}

impl Record<'_> {
    fn op(&self, r: &mut Recorder<'_>, op: &Op<'_, Parameter<DeviceWords>>) -> Result<()> {
        let Shape { d, ff, scales, softcaps, .. } = *self.shape;
        let Memory { activations, squares, kv, ropes, logits, bests, sampled } = self.memory;
        let (x, x_squares) = (&activations[&Buffer::Residual], &squares[&Buffer::Residual]);
        let product = |inner| Product::new(self.gpu.tuning, inner);
        match *op {
            Op::Embed { table } => {
                for part in &table.parts {
                    let kernel = Kernel::Embed { w: matrices(&[part]), scale: Constant::factor(scales.embedding) };
                    let bindings = [reads(&part.words), writes(x), writes(x_squares)];
                    r.dispatch(kernel, Over::Rows, Grid::Each((d / 32).div_ceil(16)), &bindings)?;
                }
                Ok(())
            }
            Op::Qkv { layer, norm, weights, then } => {
                let part = weights.whole();
                let (product, w) = (product(d), matrices(&[part]));
                let (rope, raw) = match then {
                    Then::Rotate(rope) => (rope, false),
                    Then::Norm => (None, true),
                };
                let grid = Grid::Tiles(product.workgroups(w.iter().map(|m| m.rows / 4)));
                let mut bindings = vec![reads(x)];
                bindings.extend(norm.iter().flat_map(|norm| [reads(x_squares), reads(&norm.whole().words)]));
                bindings.extend(rope.map(|rope| reads(&ropes[rope])));
                let query = if raw { Buffer::RawQueryKey } else { Buffer::Query };
                bindings.extend([writes(&activations[&query]), writes(&kv[layer]), reads(&part.words)]);
                let bias = part.vector.as_ref().map(|bias| bias.planes[0] / 4);
                let kernel = Kernel::Qkv { product, w, norm: norm.is_some(), bias, rotates: rope.is_some(), raw };
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
                let bindings =
                    [reads(&activations[&Buffer::Query]), reads(&kv[layer]), writes(&activations[&Buffer::Attended])];
                let (kernel, grid) = self.attention(window);
                r.dispatch(kernel, Over::Rows, grid, &bindings)
            }
            Op::Project { from, weights, to } => {
                let part = weights.whole();
                let product = product(from.width(self.shape));
                let adds = to == Buffer::Residual;
                let scale = if adds { Constant::factor(scales.residual) } else { None };
                let kernel = Kernel::Project { product, w: matrices(&[part]), adds, scale };
                let bindings =
                    [reads(&activations[&from]), reads(&part.words), writes(&activations[&to]), writes(&squares[&to])];
                r.dispatch(kernel, Over::Rows, Grid::Tiles(product.workgroups([d / 4])), &bindings)
            }
            Op::AddNormed { gain } => {
                let branch = [reads(&activations[&Buffer::Branch]), reads(&squares[&Buffer::Branch])];
                let bindings: Vec<_> =
                    branch.into_iter().chain([reads(&gain.whole().words), writes(x), writes(x_squares)]).collect();
                let kernel = Kernel::AddNormed { scale: Constant::factor(scales.residual) };
                r.dispatch(kernel, Over::Rows, Grid::Each((d / 32).div_ceil(16)), &bindings)
            }
            Op::GateUp { norm, gate, up } => {
                let (gate, up) = (gate.whole(), up.whole());
                let (product, w) = (product(d), matrices(&[gate, up]));
                let mut bindings = vec![reads(x)];
                bindings.extend(norm.iter().flat_map(|norm| [reads(x_squares), reads(&norm.whole().words)]));
                bindings.extend([reads(&gate.words), reads(&up.words), writes(&activations[&Buffer::Inner])]);
                let activation = self.shape.activation.name();
                let kernel = Kernel::GateUp { product, w, norm: norm.is_some(), activation };
                r.dispatch(kernel, Over::Rows, Grid::Tiles(product.workgroups([ff / 2])), &bindings)
            }
            Op::Logits { norm, output } => {
                for part in &output.parts {
                    let (product, w) = (product(d), matrices(&[part]));
                    let grid = Grid::Tiles(product.workgroups(w.iter().map(|m: &MatrixKey| m.rows.div_ceil(4))));
                    let cap = softcaps.logits.map(Constant);
                    let kernel = Kernel::Logits { product, w, scale: Constant::factor(scales.logits), cap };
                    let gain = &norm.whole().words;
                    let bindings = [reads(x), reads(x_squares), reads(gain), reads(&part.words), writes(logits)];
                    r.dispatch(kernel, Over::Outputs, grid, &bindings)?;
                }
                Ok(())
            }
            Op::Argmax => {
                let groups = Grid::Each(self.gpu.tuning.parts() / 16);
                r.dispatch(Kernel::ArgmaxPart, Over::Outputs, groups, &[reads(logits), writes(bests)])?;
                r.dispatch(Kernel::Argmax, Over::Outputs, Grid::Each(1), &[reads(bests), writes(sampled)])
            }
        }
    }

    /// The attention that suits the adapter: on GPUs a workgroup for each head, on CPU adapters a subgroup for each key-value
    /// head, or else an invocation for each head.
    fn attention(&self, window: Option<usize>) -> (Kernel, Grid) {
        let Shape { heads, kv_heads, head_dim, .. } = *self.shape;
        let lanes = head_dim / 4;
        match self.gpu.tuning {
            Tuning::Gpu => {
                let threads = lanes.next_multiple_of(64);
                (Kernel::AttentionGpu { window, threads, subs: threads / lanes }, Grid::Each(heads))
            }
            Tuning::Cpu if self.gpu.subgroup > 0 && lanes.is_multiple_of(self.gpu.subgroup as usize) => {
                (Kernel::AttentionSubgroup { window }, Grid::Each(kv_heads))
            }
            Tuning::Cpu => (Kernel::AttentionAlone { window }, Grid::Flat(heads, 8)),
        }
    }
}
