//! Prints, as one JSON object, what each kernel of a step costs on this adapter by the number of rows, and the whole step
//! beside it, and what sampling adds; needs no model file.
//! `cargo run --example kernel_bench --features reference -- SHAPE TYPE [LAYERS [POSITION]]`: a shape and a type of
//! support/shapes.rs, such as `llama-3.2-1b Q4_0`; all layers by default; rows begin at POSITION, 256 by default.
//! EMBERGRAM_TUNING is `cpu` or `gpu` to force a tuning. Optimisation hardly matters: the device does the work.
//!
//! Up to 16 rows are decoding's, each with an output; more are a prompt's, of which the last one has an output. All times are
//! medians of interleaved rounds in microseconds; a kernel's is that of one dispatch, over all its dispatches in a step, by the
//! device's clock where it has one. GB/s counts a matrix once, however many tiles of rows read it.

#[path = "support/shapes.rs"]
mod shapes;

use std::time::{Duration, Instant};

use embergram::config::SamplingParams;
use embergram::gpu::Plan;
use embergram::program::{Batch, CORRUPTED, Capacity, Row, Runner};
use embergram::sample::{Sampler, TokenCounts};
use serde_json::{Map, Value, json};

const ROWS: [usize; 8] = [1, 2, 4, 6, 8, 16, 64, 256];
/// Most rows of a step of decoding.
const DECODE: usize = 16;
/// As many rounds as there is time for, between these.
const ROUNDS: std::ops::Range<usize> = 3..40;
const PATIENCE: Duration = Duration::from_secs(20);
const BLOCK: usize = 16;

/// What was measured of a step over so many rows.
#[derive(Default)]
struct Times {
    wall: Vec<f64>,
    device: Vec<f64>,
    /// By kernel.
    kernels: Vec<Vec<f64>>,
}

fn rows(n: usize, position: u32) -> Vec<Row> {
    let prompt = n > DECODE;
    let row = |i: usize| Row {
        token: 100 + i as u32,
        slot: 0,
        position: position + i as u32,
        output: !prompt || i + 1 == n,
        prompt,
    };
    (0..n).map(row).collect()
}

fn median(times: &mut [f64]) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// Whether each tile gives the bits that one row alone gives.
async fn tiles(plan: &mut Plan) -> Map<String, Value> {
    let mut agree = Map::new();
    for tile in plan.tiles() {
        let differs = plan.check_tile(tile).await.unwrap();
        plan.set_single_kernel_path(false);
        agree.insert(tile.to_string(), json!(!differs));
    }
    agree
}

async fn measure(plan: &mut Plan, position: u32) -> Vec<Times> {
    let counts: Vec<usize> = ROWS.into_iter().filter(|n| *n <= plan.capacity.rows).collect();
    let kernels = plan.kernels().len();
    let mut times: Vec<Times> = counts.iter().map(|_| Times::default()).collect();
    let mut begin = Instant::now();
    let mut round = 0;
    while round <= ROUNDS.start || round <= ROUNDS.end && begin.elapsed() < PATIENCE {
        for (n, times) in counts.iter().zip(&mut times) {
            let rows = rows(*n, position);
            let start = Instant::now();
            let output = plan.run_rows(&rows, false).await.unwrap();
            let wall = start.elapsed().as_secs_f64();
            assert!(!output.tokens.contains(&CORRUPTED), "the noise left the range of floats");
            let dispatches = plan.kernel_seconds(&rows).await.unwrap();
            // The first round compiles and warms up.
            if round == 0 {
                continue;
            }
            times.wall.push(wall);
            times.device.extend(output.device_seconds);
            times.kernels.resize(kernels, Vec::new());
            dispatches.into_iter().for_each(|(kernel, seconds)| times.kernels[kernel].push(seconds));
        }
        if round == 0 {
            begin = Instant::now();
        }
        round += 1;
    }
    times
}

/// Microseconds that sampling adds to steps of these numbers of rows, for each way: by the device, by its clock and the wall's; and
/// by the sampler, logits read back and all.
async fn draws(plan: &mut Plan, position: u32, vocab: usize) -> Vec<Value> {
    let plain = SamplingParams::default();
    let ways = [
        ("temperature", plain.clone()),
        ("min_p 0.05", SamplingParams { min_p: 0.05, ..plain.clone() }),
        ("top_k 50", SamplingParams { top_k: 50, ..plain.clone() }),
        ("top_p 0.9", SamplingParams { top_p: 0.9, ..plain.clone() }),
        ("top_k 50, top_p 0.9", SamplingParams { top_k: 50, top_p: 0.9, ..plain }),
    ];
    let (mut sampler, counts) = (Sampler::default(), TokenCounts::default());
    let mut all = Vec::new();
    for n in [1, 6] {
        let greedy = Batch { rows: rows(n, position), ..Batch::default() };
        let read_back = Batch { logits: (0..n).collect(), ..greedy.clone() };
        for (way, params) in &ways {
            let draw = |output: u32| params.draw(output, position + output, 7);
            let drawn = Batch { draws: (0..n as u32).map(draw).collect(), ..greedy.clone() };
            let mut times = [(); 3].map(|()| Times::default());
            for round in 0..ROUNDS.end {
                for (batch, times) in [&greedy, &drawn, &read_back].into_iter().zip(&mut times) {
                    let start = Instant::now();
                    let mut output = plan.step(batch).await.unwrap();
                    for (row, logits) in (0..).zip(output.logits.chunks_exact_mut(vocab)) {
                        sampler.sample(logits, params, &counts, 7, position + row, None, None);
                    }
                    if round > 0 {
                        times.wall.push(start.elapsed().as_secs_f64());
                        times.device.extend(output.device_seconds);
                    }
                }
            }
            let [greedy, device, sampler] = times.map(|mut t| (median(&mut t.wall), median(&mut t.device)));
            let more = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| ((a - b) * 1e7).round() / 10.0);
            all.push(json!({
                "rows": n, "draw": way, "device_us": more(device.1, greedy.1), "wall_us": more(device.0, greedy.0),
                "sampler_wall_us": more(sampler.0, greedy.0),
            }));
        }
    }
    all
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: kernel_bench SHAPE TYPE [LAYERS [POSITION]]";
    let (shape, ty) = (arguments.next().expect(usage), arguments.next().expect(usage));
    let mut number = || arguments.next().map(|text| text.parse::<u32>().expect(usage));
    let shape = shapes::shape(&shape);
    let layers = number().unwrap_or(shape.layers);
    let position = number().unwrap_or(256);
    pollster::block_on(async {
        let gpu = shapes::open().await.unwrap();
        let most = ROWS[ROWS.len() - 1];
        let positions = (position as usize + most).next_multiple_of(BLOCK);
        let capacity =
            Capacity { rows: most, outputs: DECODE, slots: 1, positions, blocks: positions / BLOCK, block_size: BLOCK };
        let mut plan = shapes::plan(&gpu, shape, shapes::weight_type(&ty), layers, capacity, true).unwrap();
        let agree = tiles(&mut plan).await;
        let wrong = plan.known_answer(0).await.unwrap();
        let mut times = measure(&mut plan, position).await;
        let draws = draws(&mut plan, position, shape.vocab as usize).await;
        let kernels = plan.kernels();
        let us = |seconds: Option<f64>| seconds.map(|s| (s * 1e8).round() / 100.0);
        let one = (median(&mut times[0].wall), median(&mut times[0].device));
        let ratio = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| (a / b * 1000.0).round() / 1000.0);
        let steps = ROWS.iter().zip(&mut times).map(|(n, times)| {
            let (wall, device) = (median(&mut times.wall), median(&mut times.device));
            let by_kernel = kernels.iter().zip(&mut times.kernels).map(|(kernel, seconds)| {
                let seconds = median(seconds);
                let gigabytes =
                    seconds.filter(|_| kernel.bytes > 0).map(|s| (kernel.bytes as f64 / s / 1e7).round() / 100.0);
                json!({
                    "kernel": kernel.name, "dispatches": kernel.dispatches, "us": us(seconds), "GB/s": gigabytes,
                    "us_per_step": us(seconds.map(|s| s * kernel.dispatches as f64)),
                })
            });
            json!({
                "rows": n, "role": if *n > DECODE { "prompt" } else { "decode" }, "rounds": times.wall.len(),
                "wall_us": us(wall), "device_us": us(device),
                "wall_cost": ratio(wall, one.0), "device_cost": ratio(device, one.1),
                "kernels": by_kernel.collect::<Vec<_>>(),
            })
        });
        let steps: Vec<_> = steps.collect();
        let weights: u64 = kernels.iter().map(|kernel| kernel.dispatches as u64 * kernel.bytes).sum();
        let reads: Vec<_> = kernels
            .iter()
            .map(|kernel| json!({ "kernel": kernel.name, "weights": kernel.weights, "bytes": kernel.bytes }))
            .collect();
        let report = json!({
            "adapter": gpu.adapter.name, "driver": gpu.adapter.driver_info, "backend": gpu.adapter.backend.to_string(),
            "subgroup": [gpu.adapter.subgroup_min_size, gpu.adapter.subgroup_max_size],
            "tuning": format!("{:?}", gpu.tuning), "shape": shape.name, "type": ty, "layers": layers, "position": position,
            "dispatches": plan.launches(), "weight_bytes": weights, "device_clock": one.1.is_some(),
            "tiles_agree_bit_for_bit": agree, "wrong_kernel": wrong, "reads": reads, "steps": steps, "draws": draws,
        });
        println!("{report}");
    });
}
