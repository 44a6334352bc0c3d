//! The tiny models of `models.rs` on the plan.

mod models;

use embergram::format::QuantType;
use embergram::gpu::{Gpu, Plan};
use embergram::llm::weights::{Model, WeightLoader};
use embergram::program::{BlockEntry, Capacity, Row};
pub use models::{ALL, Golden, Tiny, difference};

const BLOCK: usize = 8;

/// The model as a GGUF.
pub fn of_gguf(gpu: &Gpu, tiny: &Tiny) -> Model<Gpu> {
    let mut loader = WeightLoader::new(gpu, None);
    loader.read(tiny.file).unwrap();
    loader.finish().unwrap()
}

/// The model as the folder it is.
pub fn of_folder(gpu: &Gpu, tiny: &Tiny, quantization: Option<QuantType>) -> Model<Gpu> {
    let mut loader = WeightLoader::new(gpu, quantization);
    loader.reader().folder(&serde_json::from_str(tiny.config).unwrap()).unwrap();
    loader.read(tiny.safetensors).unwrap();
    loader.finish().unwrap()
}

/// The plan of a model, one slot with its blocks in descending order.
fn plan(gpu: &Gpu, model: &Model<Gpu>, positions: usize) -> Plan {
    let blocks = positions.div_ceil(BLOCK);
    let capacity = Capacity { rows: 8, outputs: 8, slots: 1, positions, blocks, block_size: BLOCK };
    let plan = model.runner(gpu, capacity).unwrap();
    (0..blocks).for_each(|i| plan.set_block(BlockEntry { slot: 0, index: i as u32, block: (blocks - 1 - i) as u32 }));
    plan
}

fn row(position: usize, token: u32) -> Row {
    Row { token, slot: 0, position: position as u32, output: true, prompt: position < 12 }
}

/// The last position's logits, relative to `transformers`', and every position's best token.
async fn logits(plan: &mut Plan, golden: &Golden) -> (f32, Vec<u32>) {
    let rows: Vec<Row> = golden.token_ids.iter().enumerate().map(|(i, t)| row(i, *t)).collect();
    let (mut best, mut last) = (Vec::new(), Vec::new());
    for rows in rows.chunks(8) {
        let step = plan.run_rows(rows, true).await.unwrap();
        best.extend(step.tokens);
        last = step.logits[step.logits.len() - golden.logits_last.len()..].to_vec();
    }
    (difference(&last, &golden.logits_last), best)
}

/// The difference of the last position's logits.
pub async fn last_difference(gpu: &Gpu, tiny: &Tiny, model: &Model<Gpu>) -> f32 {
    logits(&mut plan(gpu, model, 64), &tiny.golden()).await.0
}

/// The last position's logits within 1e-4 of the largest, every position's best token, and the greedy tokens. Gives the
/// logits' difference.
pub async fn gives_the_logits_and_tokens_of_transformers(gpu: &Gpu, tiny: &Tiny, model: &Model<Gpu>) -> f32 {
    let (golden, what) = (tiny.golden(), format!("{}, {:?}", tiny.name, gpu.tuning));
    let mut plan = plan(gpu, model, 64);
    let (difference, best) = logits(&mut plan, &golden).await;
    assert!(difference < 1e-4, "{what}: {difference:e}");
    assert_eq!(best, golden.logits_argmax, "{what}");

    let rows: Vec<Row> = golden.token_ids.iter().enumerate().map(|(i, t)| row(i, *t)).collect();
    plan.run_rows(&rows[..8], false).await.unwrap();
    let mut token = *plan.run_rows(&rows[8..12], false).await.unwrap().tokens.last().unwrap();
    let mut greedy = golden.token_ids[..12].to_vec();
    greedy.push(token);
    for position in 12..golden.greedy_from_first_12.len() - 1 {
        token = plan.run_rows(&[row(position, token)], false).await.unwrap().tokens[0];
        greedy.push(token);
    }
    assert_eq!(greedy, golden.greedy_from_first_12, "{what}");
    difference
}
