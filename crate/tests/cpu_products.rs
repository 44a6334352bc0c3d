//! Every type's products on the CPU against the weights that the file's blocks stand for.

mod cpu;

use std::cell::RefCell;
use std::rc::Rc;

use cpu::step;
use embergram::cpu::{CpuRunner, Kernels, NativeKernels, SharedKernels, reserve};
use embergram::format::quant::{PanelLayout, PanelWriter, QuantType, dequantize};
use embergram::program::{
    Activation, Batch, BlockEntry, Buffer, Capacity, Matrix, Numerics, Op, Parameter, Part, Precision, Program, Row,
    Runner, Scales, Shape, Softcaps,
};

const D: usize = 256;
const FF: usize = 768;
/// Not a multiple of four.
const VOCAB: usize = 30;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between -1 and 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Blocks with any quants, and with floats and scales of a usual size.
fn blocks(ty: QuantType, elements: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..ty.bytes_for(elements as u64)).map(|_| random.next() as u8).collect();
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        let half = |v: f32| half::f16::from_f32(v).to_le_bytes();
        match ty {
            QuantType::F32 => block.copy_from_slice(&(random.float() * 0.1).to_le_bytes()),
            QuantType::F16 => block.copy_from_slice(&half(random.float() * 0.1)),
            QuantType::BF16 => block.copy_from_slice(&half::bf16::from_f32(random.float() * 0.1).to_le_bytes()),
            QuantType::Q6_K => block[208..210].copy_from_slice(&half(random.float() * 1e-4)),
            QuantType::Q4_K | QuantType::Q5_K => {
                block[..2].copy_from_slice(&half(random.float() * 1e-3));
                block[2..4].copy_from_slice(&half(random.float() * 1e-3));
            }
            QuantType::Q4_1 | QuantType::Q5_1 => {
                block[..2].copy_from_slice(&half(random.float() * 1e-2));
                block[2..4].copy_from_slice(&half(random.float() * 1e-1));
            }
            QuantType::Q8_0 => block[..2].copy_from_slice(&half(random.float() * 1e-3)),
            QuantType::Q4_0 | QuantType::Q5_0 => block[..2].copy_from_slice(&half(random.float() * 1e-2)),
        }
    }
    bytes
}

/// A matrix in the kernels' memory, and its values.
fn matrix(
    kernels: &mut dyn Kernels,
    ty: QuantType,
    (rows, inner): (usize, usize),
    random: &mut Random,
) -> (Parameter<u32>, Vec<f32>) {
    let bytes = blocks(ty, rows * inner, random);
    let layout = PanelLayout::new(ty, inner as u64, rows as u64);
    let words = reserve(kernels, layout.total_bytes, "a matrix").unwrap();
    let mut writer = PanelWriter::part(&layout, 0, (rows * inner) as u64);
    let mut write = |at: u64, data: &[u8]| {
        kernels.write(words + at as u32, data);
        Ok(())
    };
    let piece = 1 + random.next() as usize % 5000;
    bytes.chunks(piece).for_each(|bytes| writer.push(bytes, &mut write).unwrap());
    writer.finish(&mut write).unwrap();
    let mut values = Vec::new();
    dequantize(ty, &bytes, &mut values).unwrap();
    let described = Matrix { ty, first: 0, rows, planes: vec![0] };
    (Parameter { parts: vec![Part { words, matrices: vec![described], vector: None }] }, values)
}

fn product(values: &[f32], x: &[f64]) -> Vec<f64> {
    values.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum()).collect()
}

/// Activations as multiples of a step of eight bits, 32 of them alike.
fn of_eight_bits(x: Vec<f64>) -> Vec<f64> {
    let quantised = |block: &[f64]| {
        let step = block.iter().fold(0.0f64, |most, v| most.max(v.abs())) / 127.0;
        block.iter().map(|v| (v / step).round_ties_even() * step).collect::<Vec<_>>()
    };
    x.chunks(32).flat_map(quantised).collect()
}

#[test]
fn products_are_those_of_the_weights() {
    QuantType::ALL.into_iter().for_each(|ty| products(ty, Precision::Full, |x| x, 1e-5));
}

/// Beside activations of eight bits in doubles. Here and there one is rounded to the other side of a half.
#[test]
fn fast_products_are_those_of_the_weights_and_eight_bits() {
    for ty in QuantType::ALL {
        match ty.is_float() {
            true => products(ty, Precision::Fast, |x| x, 1e-5),
            false => products(ty, Precision::Fast, of_eight_bits, 5e-3),
        }
    }
}

fn products(ty: QuantType, precision: Precision, activations: impl Fn(Vec<f64>) -> Vec<f64>, tolerance: f64) {
    let seed = QuantType::ALL.iter().position(|other| *other == ty).unwrap();
    let mut random = Random(seed as u64);
    let shared: SharedKernels = Rc::new(RefCell::new(NativeKernels::new(1 + seed as u32 % 3)));
    let mut kernels = shared.borrow_mut();
    let (table, embedding) = matrix(&mut *kernels, ty, (VOCAB, D), &mut random);
    let (gate, gates) = matrix(&mut *kernels, ty, (FF, D), &mut random);
    let (up, ups) = matrix(&mut *kernels, ty, (FF, D), &mut random);
    let (down, downs) = matrix(&mut *kernels, ty, (D, FF), &mut random);
    let (output, outputs) = matrix(&mut *kernels, ty, (VOCAB, D), &mut random);
    let gains: Vec<f32> = (0..D).map(|_| 1.0 + 0.1 * random.float()).collect();
    let words = reserve(&mut *kernels, (D * 4) as u64, "a gain").unwrap();
    kernels.write(words, bytemuck::cast_slice(&gains));
    let vector = Some(Matrix { ty: QuantType::F32, first: 0, rows: D, planes: vec![0] });
    let norm = Parameter { parts: vec![Part { words, matrices: Vec::new(), vector }] };

    let shape = Shape {
        layers: 1,
        d: D,
        ff: FF,
        heads: 4,
        kv_heads: 1,
        head_dim: 64,
        vocab: VOCAB,
        eps: 1e-5,
        activation: Activation::Silu,
        scales: Scales { logits: 0.5, ..Scales::plain(64) },
        softcaps: Softcaps::default(),
    };
    let ops = vec![
        Op::Embed { table: &table },
        Op::GateUp { norm: Some(&norm), gate: &gate, up: &up },
        Op::Project { from: Buffer::Inner, weights: &down, to: Buffer::Residual },
        Op::Logits { norm: &norm, output: &output },
        Op::Argmax,
    ];
    drop(kernels);
    let program = Program { shape, ropes: 0, ops };
    let capacity = Capacity { rows: 64, outputs: 64, slots: 1, positions: 64, blocks: 4, block_size: 16 };
    let mut runner =
        CpuRunner::new(&shared, &program, capacity, Numerics { precision, ..Numerics::default() }).unwrap();
    let tables = (0..4).map(|index| BlockEntry { slot: 0, index, block: index }).collect();
    pollster::block_on(runner.step(&Batch { tables, ..Batch::default() })).unwrap();

    let normed = |x: &[f64]| -> Vec<f64> {
        let inverse = 1.0 / (x.iter().map(|v| v * v).sum::<f64>() / D as f64 + 1e-5).sqrt();
        x.iter().zip(&gains).map(|(v, gain)| v * inverse * f64::from(*gain)).collect()
    };
    let expected = |token: usize| -> Vec<f64> {
        let mut x: Vec<f64> = embedding[token * D..][..D].iter().map(|v| f64::from(*v)).collect();
        let n = activations(normed(&x));
        let inner = product(&gates, &n).into_iter().zip(product(&ups, &n));
        let inner: Vec<f64> = inner.map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
        x.iter_mut().zip(product(&downs, &activations(inner))).for_each(|(x, v)| *x += v);
        product(&outputs, &activations(normed(&x))).into_iter().map(|v| v * 0.5).collect()
    };
    for prompt in [false, true] {
        for count in [1, 2, 7, 8, 33] {
            let row = |i: u32| Row { token: i % VOCAB as u32, slot: 0, position: i, output: true, prompt };
            let rows: Vec<Row> = (0..count).map(row).collect();
            let made = step(&mut runner, &rows);
            for ((logits, row), best) in made.logits.chunks(VOCAB).zip(&rows).zip(made.tokens) {
                let expected = expected(row.token as usize);
                let largest = expected.iter().fold(0.0f64, |most, v| most.max(v.abs()));
                for (ours, right) in logits.iter().zip(&expected) {
                    let off = (f64::from(*ours) - right).abs() / largest;
                    assert!(
                        off < tolerance,
                        "{ty:?}, {precision:?}, prompt: {prompt}, {count} rows: {ours} for {right}"
                    );
                }
                let token = (0..VOCAB).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
                assert_eq!(best as usize, token, "{ty:?}");
            }
        }
    }
}
