//! What products cost, by format and number of rows, on one thread:
//! `cargo run --release -p embergram-kernels --example bench`.
//!
//! Weights are unpacked once for all rows of a tile, so more rows cost less than as many single ones. The ceiling is what a loop
//! of nothing but the multiplications and additions reaches, with twelve sums in registers.

use std::alloc::{Layout, alloc_zeroed};
use std::hint::black_box;
use std::time::Instant;

use embergram_kernels::format::Format;
use embergram_kernels::step::{Kind, Matrix, Op, Shape, Step};
use embergram_kernels::threads::Host;
use embergram_kernels::{Memory, run, scratch_bytes};

const INNER: usize = 576;
const ROWS: usize = 1536;
const MOST: usize = 96;

/// One thread waits for nobody.
struct Alone;

impl Host for Alone {
    fn wait(&self, _: &std::sync::atomic::AtomicU32, _: u32) {}
    fn notify(&self, _: &std::sync::atomic::AtomicU32) {}
}

/// Memory, and where its free part begins.
struct Room {
    memory: Memory,
    end: usize,
}

impl Room {
    fn take(&mut self, bytes: usize) -> u32 {
        let at = self.end.next_multiple_of(64);
        self.end = at + bytes;
        assert!(self.end <= 1 << 26, "the benchmark's memory is full");
        at as u32
    }

    fn put<T: bytemuck::Pod>(&mut self, values: &[T]) -> u32 {
        let at = self.take(size_of_val(values));
        // SAFETY: it was just taken.
        unsafe { self.memory.get::<T>(at).copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        at
    }
}

/// The least seconds of so many turns.
fn least(turns: usize, mut f: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..turns).map(time).fold(f64::INFINITY, f64::min)
}

/// Multiply-adds per second with nothing else to do.
fn ceiling() -> f64 {
    const TURNS: usize = 1_000_000;
    let (x, w) = (black_box([1.000_1f32; 4]), black_box([0.999_9f32; 4]));
    let seconds = least(20, || {
        let mut sums = [[0.0f32; 4]; 12];
        for _ in 0..TURNS {
            for sum in &mut sums {
                for lane in 0..4 {
                    sum[lane] += x[lane] * w[lane];
                }
            }
        }
        black_box(sums);
    });
    (TURNS * 48) as f64 / seconds
}

fn main() {
    let layout = Layout::from_size_align(1 << 26, 64).expect("a layout");
    // SAFETY: its size is not zero. The process ends with it.
    let base = unsafe { alloc_zeroed(layout) };
    println!("ceiling: {:.1} G multiply-adds/s", ceiling() / 1e9);
    let quants = |format: &Format| format.has_scale();
    let full = Format::ALL.into_iter().flat_map(|format| [(format, 0, false), (format, 0, true)]);
    // With activations of eight bits rows of both roles are alike.
    let fast = Format::ALL.into_iter().filter(quants).map(|format| (format, 1, false));
    for (format, fast, prompt) in full.chain(fast) {
        let rows: &[u32] = match (prompt, fast) {
            (true, _) => &[1, 6, 24, 96],
            (false, 0) => &[1, 2, 3, 4, 5, 6, 7, 8],
            _ => &[1, 2, 4, 6, 8, 24, 96],
        };
        let mut one = 0.0;
        for &count in rows {
            let mut room = Room { memory: Memory::at(base), end: 64 };
            let memory = room.memory;
            let shape =
                Shape { d: INNER as u32, ff: ROWS as u32, heads: 1, kv_heads: 1, head_dim: 64, ..Shape::default() };
            let step = Step { fast, ..step(&mut room, format, shape, count, prompt) };
            let at = room.put(&[step]);
            let seconds = least(60, || {
                // SAFETY: the counter is the step's, and the step is as `step.rs` says.
                unsafe {
                    *memory.get::<u32>(step.counters) = 0;
                    run(memory, at, 0, 1, &Alone);
                }
            });
            one = if count == 1 { seconds } else { one };
            let weights = (INNER * ROWS) as f64;
            println!(
                "{format:?} {} {count:2} rows: {:5.2} G weights/s, {:5.2} G multiply-adds/s, c({count})/c(1) {:.2}",
                ["decode", "prompt", "fast"][if fast == 1 { 2 } else { usize::from(prompt) }],
                weights / seconds / 1e9,
                weights * f64::from(count) / seconds / 1e9,
                seconds / one
            );
        }
    }
}

/// A step of one product.
fn step(room: &mut Room, format: Format, shape: Shape, count: u32, prompt: bool) -> Step {
    let bytes = format.bundle_bytes(INNER) * ROWS / 16;
    // Small floats wherever one begins; any quants.
    let weights: Vec<f32> = (0..bytes / 4).map(|i| (i * 7919 % 1000) as f32 / 1000.0).collect();
    let x: Vec<f32> = (0..MOST * INNER).map(|i| (i * 104_729 % 1000) as f32 / 1000.0).collect();
    let matrix = Matrix { format: format as u32, rows: ROWS as u32, at: room.put(&weights), bias: 8.0 };
    let op = Op {
        kind: Kind::GateUp as u32,
        input: room.put(&x),
        inner: INNER as u32,
        output: room.take(MOST * ROWS * 4),
        matrices: 1,
        matrix: [matrix; 3],
        ..Op::default()
    };
    let scratch_bytes = scratch_bytes(&shape, 64) as u32;
    Step {
        shape,
        ops: room.put(&[op]),
        op_count: 1,
        counters: room.put(&[0u32; 16]),
        control: room.put(&[0u32; 16]),
        scratch: room.take(scratch_bytes as usize),
        scratch_bytes,
        rows: count,
        decode_rows: if prompt { 0 } else { count },
        ..Step::default()
    }
}
