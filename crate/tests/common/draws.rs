//! What a device samples is what the sampler on the CPU makes of the same logits.

use embergram::config::SamplingParams;
use embergram::engine::changes;
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
        SamplingParams { temperature: 0.8, top_k: 40, top_p: 0.9, min_p: 0.02, ..default.clone() },
        SamplingParams { temperature: 0.0, repetition_penalty: 1.7, ..default.clone() },
        SamplingParams { frequency_penalty: 0.4, presence_penalty: -0.9, top_p: 0.9, ..default.clone() },
        SamplingParams {
            temperature: 0.0,
            logit_bias: [(7, 100.0), (300, 3.0)].into(),
            min_tokens: 9,
            ..default.clone()
        },
        SamplingParams {
            temperature: 0.7,
            top_k: 20,
            top_p: 0.8,
            repetition_penalty: 1.05,
            logit_bias: [(9, -100.0), (270, 100.0), (271, 101.0)].into(),
            bad_words_token_ids: vec![vec![271]],
            ..default
        },
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
    let mut sampler = Sampler::new([259, 260, 261, 262]);
    let eos = [259, 260, 261, 262];
    let greedy = SamplingParams { temperature: 0.0, ..Default::default() };
    let nothing = TokenCounts::default();
    let mut counts = TokenCounts::new(&[261, 300, 5]);
    [262, 262, 270, 300].iter().for_each(|token| counts.push(*token));
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
            // Some stay as they are.
            let chosen = |output: &u32| output % 5 != 4;
            let changed = |output: u32| changes((output, vocab), &params, &counts, &[], &eos);
            let mut batch = Batch {
                rows: (0..ROWS).map(row).collect(),
                logits: (0..outputs as usize).collect(),
                ..Batch::default()
            };
            let logits = plan.step(&batch).await.unwrap().logits;
            batch.logits.clear();
            batch.changes = (0..outputs).filter(chosen).flat_map(changed).collect();
            batch.draws = (0..outputs).filter(chosen).filter(|_| !params.is_greedy()).map(draw).collect();
            let tokens = plan.step(&batch).await.unwrap().tokens;
            assert_eq!(tokens.len(), outputs as usize);
            for (output, (logits, token)) in (0..).zip(logits.chunks_exact(vocab).zip(&tokens)) {
                let (params, counts) = if chosen(&output) { (&params, &counts) } else { (&greedy, &nothing) };
                let place = draw(output).position;
                let sampled = sampler.sample(&mut logits.to_vec(), params, counts, seed, place, None, None);
                assert_eq!(*token, sampled.token, "output {output} of step {step}, {params:?}");
            }
        }
    }
}
