//! Prints the cost of a step by rows, c(R)/c(1), as one JSON object: medians of interleaved rounds on this adapter.
//! `cargo run --release --example step_cost -- MODEL.gguf`

use std::time::Instant;

use embergram::gpu::plan::Capacity;
use embergram::gpu::{Gpu, Plan, Row};
use embergram::model::Loader;

const ROWS: [usize; 6] = [1, 2, 4, 6, 8, 16];
const ROUNDS: usize = 7;

fn main() {
    let path = std::env::args().nth(1).expect("usage: step_cost MODEL.gguf");
    pollster::block_on(async {
        let gpu = Gpu::open().await.unwrap();
        let mut loader = Loader::new(&gpu);
        loader.read(std::fs::File::open(path).unwrap()).unwrap();
        let (config, weights, _) = loader.finish().unwrap();
        let capacity = Capacity { rows: 16, outputs: 16, slots: 1, positions: 256, blocks: 16, block_size: 16 };
        let mut plan = Plan::new(&gpu, &config, &weights, capacity).unwrap();
        (0..16).for_each(|i| plan.set_block(0, i, i as u32));
        let mut times = vec![Vec::new(); ROWS.len()];
        // The first round warms up.
        for round in 0..=ROUNDS {
            for (rows, times) in ROWS.iter().zip(&mut times) {
                let rows: Vec<Row> = (100..100 + *rows as u32)
                    .map(|position| Row { token: position, slot: 0, position, output: true })
                    .collect();
                let start = Instant::now();
                plan.step(&rows, false).await.unwrap();
                if round > 0 {
                    times.push(start.elapsed().as_secs_f64());
                }
            }
        }
        let medians: Vec<f64> = times
            .iter_mut()
            .map(|t| {
                t.sort_by(f64::total_cmp);
                t[t.len() / 2]
            })
            .collect();
        let cost: serde_json::Map<_, _> =
            ROWS.iter().zip(&medians).map(|(r, m)| (r.to_string(), (m / medians[0]).into())).collect();
        let report = serde_json::json!({
            "adapter": gpu.adapter.name, "dispatches": plan.dispatches(), "seconds_1": medians[0], "cost": cost,
        });
        println!("{report}");
    });
}
