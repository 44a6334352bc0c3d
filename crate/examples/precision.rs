//! What `precision: "fast"` does to a model: the Kullback-Leibler divergence of its next-token distributions from those of `"full"`,
//! over the positions of recorded prompts and answers, as one JSON object.
//! `cargo run --features reference --example precision -- MODEL.gguf tests/golden/vllm_golden.json`

use embergram::cpu::NativeKernels;
use embergram::llm::Cpu;
use embergram::llm::backend::Backend;
use embergram::llm::weights::WeightLoader;
use embergram::program::{Batch, BlockEntry, Capacity, Numerics, Precision, Row, Runner};

const POSITIONS: usize = 512;
const BLOCK: usize = 16;
/// Rows per step.
const ROWS: usize = 32;

/// The logits of each text's positions, one text after another.
fn logits(path: &str, texts: &[Vec<u32>], precision: Precision) -> Vec<Vec<f32>> {
    let cpu = Cpu::new(NativeKernels::new(1));
    let mut loader = WeightLoader::new(&cpu, None);
    loader.read(std::fs::File::open(path).expect("the model's file")).expect("a model");
    let model = loader.finish().expect("a whole model");
    let blocks = POSITIONS / BLOCK;
    let capacity = Capacity { rows: ROWS, outputs: ROWS, slots: 1, positions: POSITIONS, blocks, block_size: BLOCK };
    let numerics = Numerics { precision, ..Numerics::default() };
    let program = model.parameters.program(&model.config);
    let mut runner = cpu.runner(&program, capacity, numerics).expect("memory for the model");
    runner.set_ropes(&model.ropes.tables(POSITIONS));
    let mut tables: Vec<BlockEntry> =
        (0..blocks as u32).map(|index| BlockEntry { slot: 0, index, block: index }).collect();
    let mut all = Vec::new();
    for text in texts {
        let row = |(position, token): (usize, &u32)| Row {
            token: *token,
            slot: 0,
            position: position as u32,
            output: true,
            prompt: true,
        };
        let rows: Vec<Row> = text.iter().take(POSITIONS).enumerate().map(row).collect();
        for rows in rows.chunks(ROWS) {
            let batch = Batch {
                rows: rows.to_vec(),
                tables: std::mem::take(&mut tables),
                logits: (0..rows.len()).collect(),
                ..Batch::default()
            };
            let made = pollster::block_on(runner.step(&batch)).expect("a step");
            all.extend(made.logits.chunks(model.config.vocab).map(<[f32]>::to_vec));
        }
    }
    all
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().fold(f64::MIN, |most, v| most.max(f64::from(*v)));
    let sum: f64 = logits.iter().map(|v| (f64::from(*v) - most).exp()).sum();
    logits.iter().map(|v| f64::from(*v) - most - sum.ln()).collect()
}

/// The divergence of `fast` from `full`, and whether both have the same most likely token.
fn compare(full: &[f32], fast: &[f32]) -> (f64, bool) {
    let (p, q) = (log_softmax(full), log_softmax(fast));
    let best = |v: &[f64]| (0..v.len()).max_by(|a, b| v[*a].total_cmp(&v[*b]));
    (p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum(), best(&p) == best(&q))
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(recording)) = (arguments.next(), arguments.next()) else {
        panic!("usage: precision MODEL.gguf RECORDING.json");
    };
    let recording = std::fs::read(recording).expect("the recording");
    let recording: serde_json::Value = serde_json::from_slice(&recording).expect("JSON");
    let ids = |of: &serde_json::Value| -> Vec<u32> {
        of.as_array().into_iter().flatten().filter_map(|id| id.as_u64().map(|id| id as u32)).collect()
    };
    let prompts = recording["runs"]["0"]["prompts"].as_array().expect("prompts");
    let text =
        |prompt: &serde_json::Value| [ids(&prompt["prompt_token_ids"]), ids(&prompt["output_token_ids"])].concat();
    let texts: Vec<Vec<u32>> = prompts.iter().map(text).collect();
    let (full, fast) = (logits(&model, &texts, Precision::Full), logits(&model, &texts, Precision::Fast));
    let compared: Vec<(f64, bool)> = full.iter().zip(&fast).map(|(full, fast)| compare(full, fast)).collect();
    let count = compared.len() as f64;
    let report = serde_json::json!({
        "positions": compared.len(),
        "mean_divergence": compared.iter().map(|(divergence, _)| divergence).sum::<f64>() / count,
        "max_divergence": compared.iter().fold(0.0f64, |most, (divergence, _)| most.max(*divergence)),
        "same_best_token": compared.iter().filter(|(_, same)| *same).count() as f64 / count,
    });
    println!("{report}");
}
