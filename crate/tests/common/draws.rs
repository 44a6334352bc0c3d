//! What a device samples is what the sampler on the CPU makes of the same logits.

use embergram::config::SamplingParams;
use embergram::gpu::{Gpu, Plan};
use embergram::llm::weights::WeightLoader;
use embergram::program::{Batch, BlockEntry, Capacity, Row, Runner};
use embergram::sample::{Sampler, TokenCounts};

const ROWS: u32 = 16;
/// Steps for each set of parameters.
const STEPS: u32 = 4;

/// Every way to draw, and mixtures.
fn all_params() -> Vec<SamplingParams> {
    let default = SamplingParams::default();
    vec![
        default.clone(),
        SamplingParams { temperature: 0.01, ..default.clone() },
        SamplingParams { temperature: 0.6, min_p: 0.08, ..default.clone() },
        SamplingParams { min_p: 1.0, ..default.clone() },
        SamplingParams { temperature: 2.0, top_k: 1, ..default.clone() },
        SamplingParams { top_k: 5, ..default.clone() },
        SamplingParams { temperature: 1.5, top_k: 4000, ..default.clone() },
        SamplingParams { top_p: 1e-6, ..default.clone() },
        SamplingParams { top_p: 0.5, ..default.clone() },
        SamplingParams { temperature: 3.0, top_p: 0.95, ..default.clone() },
        SamplingParams { temperature: 0.8, top_k: 40, top_p: 0.9, min_p: 0.02, ..default },
    ]
}

/// On the tiny model.
pub async fn the_device_draws_what_the_sampler_would(gpu: &Gpu, file: &[u8]) {
    let mut loader = WeightLoader::new(gpu, None);
    loader.push(file).unwrap();
    let model = loader.finish().unwrap();
    let rows = ROWS as usize;
    let capacity = Capacity { rows, outputs: rows, slots: 1, positions: 64, blocks: 4, block_size: 16 };
    let mut plan = model.runner(gpu, capacity).unwrap();
    (0..4).for_each(|i| plan.set_block(BlockEntry { slot: 0, index: i, block: i }));
    let words: Vec<u32> = (0..ROWS + STEPS).map(|i| 259 + i * 7 % 90).collect();
    assert_draws(&mut plan, &words, model.config.vocab).await;
}

/// On any model: one of its sequences has these tokens, and slot 0 room for them.
pub async fn assert_draws(plan: &mut Plan, tokens: &[u32], vocab: usize) {
    let mut sampler = Sampler::default();
    let counts = TokenCounts::default();
    let greedy = SamplingParams { temperature: 0.0, ..Default::default() };
    for params in all_params() {
        for step in 0..STEPS {
            let row = |i: u32| Row {
                token: tokens[(step + i) as usize],
                slot: 0,
                position: step + i,
                output: i != 3,
                prompt: false,
            };
            let seed = 0x1234_5678_9abc_def0 ^ u64::from(step) << 40;
            let draw = |output: u32| params.draw(output, 100 * step + output, seed);
            let outputs = ROWS - 1;
            let batch = Batch {
                rows: (0..ROWS).map(row).collect(),
                logits: (0..outputs as usize).collect(),
                // Some stay greedy.
                draws: (0..outputs).filter(|output| output % 5 != 4).map(draw).collect(),
                ..Batch::default()
            };
            let made = plan.step(&batch).await.unwrap();
            assert_eq!(made.tokens.len(), outputs as usize);
            for (output, (logits, token)) in (0..).zip(made.logits.chunks_exact(vocab).zip(&made.tokens)) {
                let draw = batch.draws.iter().find(|draw| draw.output == output);
                let (params, seed, position) = draw.map_or((&greedy, 0, 0), |draw| (&params, draw.seed, draw.position));
                let sampled = sampler.sample(&mut logits.to_vec(), params, &counts, seed, position, None, None);
                assert_eq!(*token, sampled.token, "output {output} of step {step}, {params:?}");
            }
        }
    }
}
