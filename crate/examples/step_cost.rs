//! Prints the cost of a step by rows, c(R)/c(1), as one JSON object: medians of interleaved rounds on this adapter.
//! Before it, the seconds of each kernel for one row and for six, by the device's clock where it has one.
//! `cargo run --release --example step_cost -- MODEL.gguf [kernels]`; `kernels` stops after those. EMBERGRAM_TUNING is
//! `cpu` or `gpu` to force a tuning.

use std::time::Instant;

use embergram::gpu::{Gpu, Tuning};
use embergram::llm::weights::WeightLoader;
use embergram::program::{BlockEntry, Capacity, Row, Runner};

const ROWS: [usize; 6] = [1, 2, 4, 6, 8, 16];
const ROUNDS: usize = 7;

fn main() {
    let path = std::env::args().nth(1).expect("usage: step_cost MODEL.gguf");
    pollster::block_on(async {
        let mut gpu = Gpu::open().await.unwrap();
        match std::env::var("EMBERGRAM_TUNING").as_deref() {
            Ok("cpu") => gpu.tuning = Tuning::Cpu,
            Ok("gpu") => gpu.tuning = Tuning::Gpu,
            _ => {}
        }
        let mut loader = WeightLoader::new(&gpu, None);
        loader.read(std::fs::File::open(path).unwrap()).unwrap();
        let model = loader.finish().unwrap();
        let capacity = Capacity { rows: 16, outputs: 16, slots: 1, positions: 256, blocks: 16, block_size: 16 };
        let mut plan = model.runner(&gpu, capacity).unwrap();
        (0..16).for_each(|i| plan.set_block(BlockEntry { slot: 0, index: i as u32, block: i as u32 }));
        let rows = |n: usize| -> Vec<Row> {
            let row = |position| Row { token: position, slot: 0, position, output: true, prompt: false };
            (100..100 + n as u32).map(row).collect()
        };
        // By kernel, each dispatch on its own: where the time goes.
        let names: Vec<_> = plan.kernels().into_iter().map(|kernel| kernel.name).collect();
        for n in [1, 6] {
            let mut sums = std::collections::BTreeMap::new();
            for round in 0..4 {
                plan.run_rows(&rows(n), false).await.unwrap();
                for (kernel, seconds) in plan.kernel_seconds(&rows(n)).await.unwrap() {
                    *sums.entry(&names[kernel]).or_insert(0.0) += if round > 0 { seconds / 3.0 } else { 0.0 };
                }
            }
            println!("{}", serde_json::json!({ "rows": n, "seconds": sums }));
        }
        if std::env::args().nth(2).as_deref() == Some("kernels") {
            return;
        }
        let mut times = vec![Vec::new(); ROWS.len()];
        // The first round warms up.
        for round in 0..=ROUNDS {
            for (n, times) in ROWS.iter().zip(&mut times) {
                let start = Instant::now();
                plan.run_rows(&rows(*n), false).await.unwrap();
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
            "adapter": gpu.adapter.name, "dispatches": plan.launches(), "seconds_1": medians[0], "cost": cost,
        });
        println!("{report}");
    });
}
