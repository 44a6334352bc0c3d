//! The operations of a program, for one row, in arithmetic that no driver compiles. Of a product's outputs some are computed.

use std::collections::BTreeMap;
use std::ops::Range;

use half::f16;

use super::{Known, P, Reads};
use crate::format::quant::{QuantType, dequantize};
use crate::gpu::record::Memory;
use crate::gpu::weights::DeviceWords;
use crate::program::{Activation, Buffer, CORRUPTED, Matrix, Part, QkNorm, Row, Shape, Then};

/// What an output may be off by, of the sum of its terms' sizes. Rounding is far below; a term that is taken twice, or not at
/// all, is above unless it is one of thousands.
const TOLERANCE: f64 = 2e-4;
/// What it may be off by where all its terms are nothing.
const LEAST: f64 = 1e-9;
/// Outputs of a matrix that are computed, or times four.
const SAMPLES: usize = 8;

/// Says of all that was read whether an operation is right.
pub type Check = Box<dyn FnOnce(&[u8]) -> bool>;

/// Where what a device has at a time will lie.
#[derive(Clone)]
pub struct State {
    pub activations: BTreeMap<Buffer, Range<usize>>,
    pub squares: BTreeMap<Buffer, Range<usize>>,
    pub gained: Range<usize>,
    pub cache: Option<Range<usize>>,
    pub logits: Range<usize>,
    pub sampled: Range<usize>,
}

/// What the operations are computed with.
pub struct Reference<'a> {
    pub shape: Shape,
    pub memory: &'a Memory,
    /// Whether keys and values are kept as halves.
    pub half_cache: bool,
    /// Whether products take bytes.
    pub fast: bool,
    pub row: Row,
}

/// Values as bytes and a scale for each 32, as shaders/quantize.wgsl makes them.
fn as_bytes(values: &[f64]) -> Vec<f64> {
    let of_32 = |values: &[f64]| {
        let most = values.iter().fold(0f32, |most, v| most.max((*v as f32).abs()));
        let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
        let value = |v: &f64| f64::from((*v as f32 * inverse).round_ties_even()) * f64::from(most / 127.0);
        values.iter().map(value).collect::<Vec<_>>()
    };
    values.chunks(32).flat_map(of_32).collect()
}

/// A number, and the size of what it is the sum of.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    value: f64,
    size: f64,
}

impl Sum {
    fn of(terms: impl IntoIterator<Item = f64>) -> Self {
        terms.into_iter().fold(Self::default(), |sum, term| sum.plus(Self::exactly(term)))
    }

    fn exactly(value: f64) -> Self {
        Self { value, size: value.abs() }
    }

    fn plus(self, other: Self) -> Self {
        Self { value: self.value + other.value, size: self.size + other.size }
    }

    fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, size: self.size * factor.abs() }
    }

    /// What came through a driver's exponential, which may be a short polynomial.
    fn coarse(self) -> Self {
        Self { size: self.size * 10.0, ..self }
    }

    /// Whether a device's number is it.
    fn is(self, got: f64) -> bool {
        // A NaN is not.
        (got - self.value).abs() <= TOLERANCE * self.size + LEAST
    }
}

fn floats(bytes: &[u8], at: &Range<usize>) -> Vec<f64> {
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[at.clone()]);
    values.into_iter().map(f64::from).collect()
}

/// A matrix's row, as its planes will lie.
struct Weights {
    ty: QuantType,
    planes: Vec<Range<usize>>,
}

impl Weights {
    fn values(&self, bytes: &[u8]) -> Vec<f64> {
        let specs = self.ty.planes();
        let blocks = self.planes[0].len() / specs[0].bytes_per_block;
        let mut file = vec![0; blocks * self.ty.block_bytes()];
        for (spec, plane) in specs.iter().zip(&self.planes) {
            let parts = bytes[plane.clone()].chunks_exact(spec.bytes_per_block);
            for (block, part) in file.chunks_exact_mut(self.ty.block_bytes()).zip(parts) {
                block[spec.start..spec.start + part.len()].copy_from_slice(part);
            }
        }
        let mut values = Vec::new();
        dequantize(self.ty, &file, &mut values).expect("whole blocks");
        values.into_iter().map(f64::from).collect()
    }

    fn dot(&self, x: &[f64], bytes: &[u8]) -> Sum {
        Sum::of(self.values(bytes).iter().zip(x).map(|(w, x)| w * x))
    }
}

/// Some of so many things: the first, the last, and others between.
fn samples(count: usize) -> Vec<usize> {
    let mut some: Vec<usize> = (0..SAMPLES).map(|i| i * (count - 1) / (SAMPLES - 1)).collect();
    some.dedup();
    some
}

/// One over the root mean square.
fn factor(x: &[f64], eps: f32) -> f64 {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    (mean + f64::from(eps)).sqrt().recip()
}

/// x over its root mean square, times the gain.
fn normed(x: &[f64], gain: &[f64], eps: f32) -> Vec<f64> {
    let factor = factor(x, eps);
    x.iter().zip(gain).map(|(x, gain)| x * factor * gain).collect()
}

/// Four values of a head as neighbours turn, by cosine and sine of each two.
fn turned(v: [Sum; 4], turns: &[f64]) -> [Sum; 4] {
    let pair = |a: Sum, b: Sum, cos: f64, sin: f64| [a.times(cos).plus(b.times(-sin)), a.times(sin).plus(b.times(cos))];
    let ([a, b], [c, d]) = (pair(v[0], v[1], turns[0], turns[1]), pair(v[2], v[3], turns[2], turns[3]));
    [a, b, c, d]
}

fn capped(sum: Sum, cap: Option<f32>) -> Sum {
    match cap.map(f64::from) {
        Some(cap) => Sum { value: cap * (sum.value / cap).tanh(), ..sum }.coarse(),
        None => sum,
    }
}

fn all(wanted: &[Sum], got: &[f64]) -> bool {
    wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| wanted.is(*got))
}

impl Reference<'_> {
    /// What holds an operation to what the device had before and has after it.
    pub fn check(&self, op: &Known, gain: Option<&P>, before: &State, after: &State, reads: &mut Reads) -> Check {
        let check = self.check_op(op, before, after, reads);
        let writes =
            matches!(op, Known::Embed { .. } | Known::Project { to: Buffer::Residual, .. } | Known::AddNormed { .. });
        let Some(gain) = gain.filter(|_| writes).and_then(|gain| self.vector(gain, reads)) else { return check };
        let (x, gained) = (after.activations[&Buffer::Residual].clone(), after.gained.clone());
        Box::new(move |bytes| {
            let products =
                floats(bytes, &x).into_iter().zip(floats(bytes, &gain)).map(|(x, gain)| Sum::exactly(x * gain));
            check(bytes) && all(&products.collect::<Vec<_>>(), &floats(bytes, &gained))
        })
    }

    fn check_op(&self, op: &Known, before: &State, after: &State, reads: &mut Reads) -> Check {
        match op {
            Known::Embed { table } => self.embed(table, after, reads),
            Known::Qkv { norm, weights, then, .. } => self.qkv(*norm, weights, *then, (before, after), reads),
            Known::QkNorm { gains, over, rope, .. } => self.qk_norm(gains, *over, *rope, (before, after), reads),
            Known::Attention { window, .. } => self.attention(*window, before, after),
            Known::Project { from, weights, to } => self.project(*from, weights, *to, (before, after), reads),
            Known::AddNormed { gain } => self.add_normed(gain, before, after, reads),
            Known::GateUp { norm, gate, up } => self.gate_up(*norm, [gate, up], (before, after), reads),
            Known::Logits { output } => self.logits(output, (before, after), reads),
            Known::Argmax => argmax(after),
        }
    }

    /// A row of the matrices of a part, one below the other.
    fn weights(&self, part: &Part<DeviceWords>, mut row: usize, width: usize, reads: &mut Reads) -> Weights {
        let holds = |matrix: &&Matrix| {
            let here = row < matrix.rows;
            row -= if here { 0 } else { matrix.rows };
            here
        };
        let matrix = part.matrices.iter().find(holds).expect("a row of the part");
        let blocks = width / matrix.ty.block_len();
        let plane = |(spec, start): (&crate::format::quant::PlaneSpec, &u32)| {
            let bytes = blocks * spec.bytes_per_block;
            reads.want(part.words.place(), *start as usize * 4 + row * bytes, bytes)
        };
        let planes = matrix.ty.planes().iter().zip(&matrix.planes).map(plane).collect();
        Weights { ty: matrix.ty, planes }
    }

    /// A row of a parameter in parts.
    fn row_of(&self, parameter: &P, row: usize, width: usize, reads: &mut Reads) -> Weights {
        let part =
            parameter.parts.iter().rev().find(|part| part.matrices[0].first <= row).expect("a part with the row");
        self.weights(part, row - part.matrices[0].first, width, reads)
    }

    /// The vector of a parameter: gains, or a bias.
    fn vector(&self, parameter: &P, reads: &mut Reads) -> Option<Range<usize>> {
        let part = parameter.whole();
        let vector = part.vector.as_ref()?;
        Some(reads.want(part.words.place(), vector.planes[0] as usize * 4, vector.rows * 4))
    }

    /// Cosines and sines of the row's position.
    fn turns(&self, rope: Option<usize>, reads: &mut Reads) -> Option<Range<usize>> {
        let bytes = self.shape.head_dim * 4;
        Some(reads.want(self.memory.ropes[rope?].place(), self.row.position as usize * bytes, bytes))
    }

    /// The residual stream as a product takes it: its writer multiplied with the gain. Operations between may have been left
    /// out, so the gain may be another norm's.
    fn input(&self, is_normed: bool, before: &State, weights: &[&P]) -> impl Fn(&[u8]) -> Vec<f64> + use<> {
        let (x, gained) = (before.activations[&Buffer::Residual].clone(), before.gained.clone());
        let (eps, taken) = (self.shape.eps, self.taken(weights));
        move |bytes| {
            let x = floats(bytes, &x);
            let factor = factor(&x, eps);
            match is_normed {
                true => taken(floats(bytes, &gained)).into_iter().map(|v| v * factor).collect(),
                false => taken(x),
            }
        }
    }

    /// Values as a product with these weights takes them.
    fn taken(&self, weights: &[&P]) -> impl Fn(Vec<f64>) -> Vec<f64> + use<> {
        let mut matrices = weights.iter().flat_map(|weights| &weights.parts).flat_map(|part| &part.matrices);
        let fast = self.fast && matrices.all(|matrix| !matrix.ty.is_float());
        move |values| if fast { as_bytes(&values) } else { values }
    }

    fn embed(&self, table: &P, after: &State, reads: &mut Reads) -> Check {
        let (scale, d) = (f64::from(self.shape.scales.embedding), self.shape.d);
        let weights = self.row_of(table, self.row.token as usize, d, reads);
        let after = after.clone();
        Box::new(move |bytes| {
            let wanted: Vec<Sum> = weights.values(bytes).iter().map(|w| Sum::exactly(w * scale)).collect();
            all(&wanted, &floats(bytes, &after.activations[&Buffer::Residual]))
                && squares(&after, Buffer::Residual, bytes)
        })
    }

    fn qkv(
        &self,
        is_normed: bool,
        weights: &P,
        then: Then,
        (before, after): (&State, &State),
        reads: &mut Reads,
    ) -> Check {
        let shape = self.shape;
        let part = weights.whole();
        let x = self.input(is_normed, before, &[weights]);
        let bias = self.vector(weights, reads);
        let (rope, raw) = match then {
            Then::Rotate(rope) => (rope, false),
            Then::Norm => (None, true),
        };
        let turns = self.turns(rope, reads);
        // Fours of q, of k and of v.
        let (q, kv) = (shape.q_d() / 4, shape.kv_d() / 4);
        let fours = samples(q).into_iter().chain(samples(kv).into_iter().flat_map(|i| [q + i, q + kv + i]));
        let rows: Vec<(usize, [Weights; 4])> =
            fours.map(|four| (four, [0, 1, 2, 3].map(|j| self.weights(part, four * 4 + j, shape.d, reads)))).collect();
        let (at, half, after) = (self.row.position as usize, self.half_cache, after.clone());
        let kept = move |v: [Sum; 4]| if half { v.map(Sum::coarse) } else { v };
        Box::new(move |bytes| {
            let (x, bias) = (x(bytes), bias.map(|bias| floats(bytes, &bias)));
            let (query, cache) = (
                floats(bytes, &after.activations[&if raw { Buffer::RawQueryKey } else { Buffer::Query }]),
                Cache::of(&after, half, bytes),
            );
            rows.iter().all(|(four, rows)| {
                let output = |j: usize| {
                    let bias = bias.as_ref().map_or(0.0, |bias| bias[four * 4 + j]);
                    rows[j].dot(&x, bytes).plus(Sum::exactly(bias))
                };
                let v = [0, 1, 2, 3].map(output);
                if *four >= q + kv {
                    return all(&kept(v), &cache.values(at, shape.kv_d())[(four - q - kv) * 4..][..4]);
                }
                let first = four * 4 % shape.head_dim;
                let v = turns.as_ref().map_or(v, |turns| turned(v, &floats(bytes, turns)[first..first + 4]));
                match *four >= q && !raw {
                    true => all(&kept(v), &cache.keys(at, shape.kv_d())[(four - q) * 4..][..4]),
                    false => all(&v, &query[four * 4..][..4]),
                }
            })
        })
    }

    fn qk_norm(
        &self,
        gains: &P,
        over: QkNorm,
        rope: Option<usize>,
        (before, after): (&State, &State),
        reads: &mut Reads,
    ) -> Check {
        let shape = self.shape;
        let gains = self.vector(gains, reads).expect("gains are a vector");
        let turns = self.turns(rope, reads);
        let half = self.half_cache;
        let (at, raw, after) =
            (self.row.position as usize, before.activations[&Buffer::RawQueryKey].clone(), after.clone());
        Box::new(move |bytes| {
            let (raw, gains) = (floats(bytes, &raw), floats(bytes, &gains));
            let (query, cache) = (floats(bytes, &after.activations[&Buffer::Query]), Cache::of(&after, half, bytes));
            let widths = match over {
                QkNorm::Head => [shape.head_dim; 2],
                QkNorm::Whole => [shape.q_d(), shape.kv_d()],
            };
            let (q, k) = raw.split_at(shape.q_d());
            let (q_gain, k_gain) = gains.split_at(widths[0]);
            [(q, q_gain, query), (k, k_gain, cache.keys(at, shape.kv_d()).to_vec())].into_iter().zip(widths).all(
                |((raw, gain, got), width)| {
                    let values: Vec<f64> =
                        raw.chunks_exact(width).flat_map(|raw| normed(raw, gain, shape.eps)).collect();
                    let fours = values.chunks_exact(4).enumerate();
                    let wanted = fours.flat_map(|(four, v)| {
                        let v = [0, 1, 2, 3].map(|j| Sum::exactly(v[j]));
                        let first = four * 4 % shape.head_dim;
                        let v = turns.as_ref().map_or(v, |turns| turned(v, &floats(bytes, turns)[first..first + 4]));
                        if half { v.map(Sum::coarse) } else { v }
                    });
                    all(&wanted.collect::<Vec<_>>(), &got)
                },
            )
        })
    }

    fn attention(&self, window: Option<usize>, before: &State, after: &State) -> Check {
        let shape = self.shape;
        let last = self.row.position as usize;
        let first = window.map_or(0, |window| (last + 1).saturating_sub(window));
        let (query, half, after) = (before.activations[&Buffer::Query].clone(), self.half_cache, after.clone());
        Box::new(move |bytes| {
            let (query, cache) = (floats(bytes, &query), Cache::of(&after, half, bytes));
            let width = shape.head_dim;
            let wanted = query.chunks_exact(width).enumerate().flat_map(|(head, q)| {
                let own = head / (shape.heads / shape.kv_heads) * width;
                let of = |places: &[f64]| places[own..own + width].to_vec();
                let score = |at: usize| {
                    let score = Sum::of(q.iter().zip(of(cache.keys(at, shape.kv_d()))).map(|(q, k)| q * k));
                    capped(score.times(f64::from(shape.scales.attention)), shape.softcaps.attention).value
                };
                let scores: Vec<f64> = (first..=last).map(score).collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let shares: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
                let total: f64 = shares.iter().sum();
                let values: Vec<Vec<f64>> = (first..=last).map(|at| of(cache.values(at, shape.kv_d()))).collect();
                (0..width)
                    .map(|i| Sum::of(shares.iter().zip(&values).map(|(share, v)| share / total * v[i])).coarse())
                    .collect::<Vec<_>>()
            });
            all(&wanted.collect::<Vec<_>>(), &floats(bytes, &after.activations[&Buffer::Attended]))
        })
    }

    fn project(
        &self,
        from: Buffer,
        weights: &P,
        to: Buffer,
        (before, after): (&State, &State),
        reads: &mut Reads,
    ) -> Check {
        let width = from.width(&self.shape);
        let outputs: Vec<usize> = samples(self.shape.d / 4).into_iter().flat_map(|i| i * 4..i * 4 + 4).collect();
        let rows: Vec<(usize, Weights)> =
            outputs.into_iter().map(|i| (i, self.weights(weights.whole(), i, width, reads))).collect();
        let (adds, taken) = (to == Buffer::Residual, self.taken(&[weights]));
        let scale = if adds { f64::from(self.shape.scales.residual) } else { 1.0 };
        let (x, old, after) = (before.activations[&from].clone(), before.activations[&to].clone(), after.clone());
        Box::new(move |bytes| {
            let (x, old, got) = (taken(floats(bytes, &x)), floats(bytes, &old), floats(bytes, &after.activations[&to]));
            let right = |(i, row): &(usize, Weights)| {
                let sum = row.dot(&x, bytes).times(scale);
                if adds { sum.plus(Sum::exactly(old[*i])) } else { sum }.is(got[*i])
            };
            rows.iter().all(right) && squares(&after, to, bytes)
        })
    }

    fn add_normed(&self, gain: &P, before: &State, after: &State, reads: &mut Reads) -> Check {
        let gain = self.vector(gain, reads).expect("a gain is a vector");
        let (eps, scale) = (self.shape.eps, f64::from(self.shape.scales.residual));
        let (before, after) = (before.clone(), after.clone());
        Box::new(move |bytes| {
            let [x, branch] = [Buffer::Residual, Buffer::Branch].map(|name| floats(bytes, &before.activations[&name]));
            let branch = normed(&branch, &floats(bytes, &gain), eps);
            let wanted: Vec<Sum> = x.iter().zip(branch).map(|(x, b)| Sum::of([*x, b * scale])).collect();
            all(&wanted, &floats(bytes, &after.activations[&Buffer::Residual]))
                && squares(&after, Buffer::Residual, bytes)
        })
    }

    fn gate_up(
        &self,
        is_normed: bool,
        matrices: [&P; 2],
        (before, after): (&State, &State),
        reads: &mut Reads,
    ) -> Check {
        let Shape { d, ff, activation, .. } = self.shape;
        let x = self.input(is_normed, before, &matrices);
        let rows: Vec<(usize, [Weights; 2])> = samples(ff)
            .into_iter()
            .map(|i| (i, matrices.map(|matrix| self.weights(matrix.whole(), i, d, reads))))
            .collect();
        let after = after.activations[&Buffer::Inner].clone();
        Box::new(move |bytes| {
            let (x, got) = (x(bytes), floats(bytes, &after));
            rows.iter().all(|(i, [gate, up])| {
                let (gate, up) = (gate.dot(&x, bytes), up.dot(&x, bytes));
                let v = gate.value;
                let active = match activation {
                    Activation::Silu => v / (1.0 + (-v).exp()),
                    Activation::GeluTanh => 0.5 * v * (1.0 + (0.797_884_560_8 * (v + 0.044_715 * v.powi(3))).tanh()),
                };
                // Either is nowhere steeper than 1.13.
                let size = 1.13 * gate.size * up.value.abs() + active.abs() * up.size;
                Sum { value: active * up.value, size }.coarse().is(got[*i])
            })
        })
    }

    fn logits(&self, output: &P, (before, after): (&State, &State), reads: &mut Reads) -> Check {
        let Shape { d, scales, softcaps, .. } = self.shape;
        let x = self.input(true, before, &[output]);
        let of = |part: &Part<DeviceWords>| {
            let Matrix { first, rows, .. } = part.matrices[0];
            samples(rows).into_iter().map(move |i| first + i)
        };
        let tokens: Vec<usize> = output.parts.iter().flat_map(of).collect();
        let rows: Vec<(usize, Weights)> = tokens.into_iter().map(|i| (i, self.row_of(output, i, d, reads))).collect();
        let after = after.logits.clone();
        Box::new(move |bytes| {
            let (x, got) = (x(bytes), floats(bytes, &after));
            let right = |(i, row): &(usize, Weights)| {
                capped(row.dot(&x, bytes).times(f64::from(scales.logits)), softcaps.logits).is(got[*i])
            };
            rows.iter().all(right)
        })
    }
}

/// The largest logit has the token, or the first of them.
fn argmax(after: &State) -> Check {
    let after = after.clone();
    Box::new(move |bytes| {
        let logits = floats(bytes, &after.logits);
        let best = logits.iter().enumerate().fold(0, |best, (i, logit)| if *logit > logits[best] { i } else { best });
        let wanted = if logits.iter().all(|logit| logit.is_finite()) { best as u32 } else { CORRUPTED };
        bytemuck::pod_collect_to_vec::<u8, u32>(&bytes[after.sampled.clone()])[0] == wanted
    })
}

/// Whether the sums of squares beside an activation are its own.
fn squares(after: &State, name: Buffer, bytes: &[u8]) -> bool {
    let wanted = floats(bytes, &after.activations[&name])
        .chunks_exact(4)
        .map(|v| Sum::of(v.iter().map(|v| v * v)))
        .collect::<Vec<_>>();
    all(&wanted, &floats(bytes, &after.squares[&name]))
}

/// A block of a layer's cache: keys of its positions, then values.
struct Cache(Vec<f64>);

impl Cache {
    fn of(state: &State, half: bool, bytes: &[u8]) -> Self {
        let at = state.cache.as_ref().expect("an operation on the cache");
        if !half {
            return Self(floats(bytes, at));
        }
        let halves: Vec<u16> = bytemuck::pod_collect_to_vec(&bytes[at.clone()]);
        Self(halves.into_iter().map(|bits| f16::from_bits(bits).to_f64()).collect())
    }

    fn keys(&self, position: usize, width: usize) -> &[f64] {
        &self.0[position * width..][..width]
    }

    fn values(&self, position: usize, width: usize) -> &[f64] {
        &self.0[self.0.len() / 2 + position * width..][..width]
    }
}
