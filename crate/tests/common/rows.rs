//! Row independence: whatever rows share a step, a row's logits are the same to the last bit.

use embergram::gpu::Gpu;
use embergram::llm::backend::Backend;
use embergram::llm::weights::{Model, WeightLoader};
use embergram::program::{BlockEntry, CacheType, Capacity, Numerics, Precision, Row};

use super::random::Random;

const SLOTS: usize = 8;
const LENGTH: usize = 40;
const BLOCK: usize = 8;
const ROWS: usize = 32;
/// Positions of a prompt, whose rows may be a role of their own.
const PROMPT: usize = 12;

/// Computes eight sequences one row per step, and then again `rounds` times in random groupings: chunks of a prompt, a token
/// with up to seven drafts behind it, several sequences together.
pub async fn any_grouping_gives_the_same_logits(gpu: &Gpu, file: &[u8], rounds: u64, precision: Precision) {
    let mut loader = WeightLoader::new(gpu, None);
    loader.push(file).unwrap();
    let model = loader.finish().unwrap();
    let vocab = model.config.vocab;
    let blocks = SLOTS * LENGTH / BLOCK;
    let capacity = Capacity { rows: ROWS, outputs: ROWS, slots: SLOTS, positions: LENGTH, blocks, block_size: BLOCK };
    let mut plan = model.runner_with(gpu, capacity, Numerics { precision, ..Numerics::default() }).unwrap();
    for block in 0..blocks {
        plan.set_block(BlockEntry { slot: (block % SLOTS) as u32, index: (block / SLOTS) as u32, block: block as u32 });
    }
    let mut random = Random(7);
    let tokens: Vec<[u32; LENGTH]> = (0..SLOTS).map(|_| [(); LENGTH].map(|()| random.below(vocab) as u32)).collect();
    let row = |slot: usize, position: usize| Row {
        token: tokens[slot][position],
        slot: slot as u32,
        position: position as u32,
        output: true,
        prompt: position < PROMPT,
    };

    let mut alone = [(); SLOTS].map(|()| Vec::new());
    for (slot, alone) in alone.iter_mut().enumerate() {
        for position in 0..LENGTH {
            alone.push(plan.run_rows(&[row(slot, position)], true).await.unwrap());
        }
    }
    for round in 0..rounds {
        let mut done = [0; SLOTS];
        while done.iter().any(|n| *n < LENGTH) {
            let mut rows = Vec::new();
            for _ in 0..1 + random.below(SLOTS) {
                let slot = random.below(SLOTS);
                let wanted = *random.pick(&[1, 1, 2, 4, 6, 8, 16]);
                let taken = wanted.min(LENGTH - done[slot]).min(ROWS - rows.len());
                rows.extend((done[slot]..done[slot] + taken).map(|position| row(slot, position)));
                done[slot] += taken;
            }
            if rows.is_empty() {
                continue;
            }
            let step = plan.run_rows(&rows, true).await.unwrap();
            for (i, r) in rows.iter().enumerate() {
                let expected = &alone[r.slot as usize][r.position as usize];
                let got = &step.logits[i * vocab..(i + 1) * vocab];
                let same = expected.logits.iter().zip(got).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "round {round}: row {i} of {} ({r:?}) differs from the same row alone", rows.len());
                assert_eq!(expected.tokens[0], step.tokens[i]);
            }
        }
    }
}

/// The logits of a text's rows, taken in steps of 1, 2, 4, 6 and 8 rows.
pub async fn logits(gpu: &Gpu, file: &[u8], length: usize) -> Vec<f32> {
    let mut loader = WeightLoader::new(gpu, None);
    loader.push(file).unwrap();
    let model = loader.finish().unwrap();
    let capacity = Capacity { rows: 8, outputs: 8, slots: 1, positions: length, blocks: 1, block_size: length };
    let mut plan = model.runner(gpu, capacity).unwrap();
    plan.set_block(BlockEntry { slot: 0, index: 0, block: 0 });
    let vocab = model.config.vocab as u32;
    let row = |i: u32| Row { token: i * 37 % vocab, slot: 0, position: i, output: true, prompt: i < 3 };
    let (mut logits, mut at) = (Vec::new(), 0);
    for count in [1, 2, 4, 6, 8].into_iter().cycle() {
        let rows: Vec<Row> = (at..length as u32).take(count).map(row).collect();
        if rows.is_empty() {
            return logits;
        }
        at += rows.len() as u32;
        logits.extend(plan.run_rows(&rows, true).await.unwrap().logits);
    }
    unreachable!("the text ends")
}

/// The logits of rows of decoding after 250 and after 777 positions, six at a time; each row has the same bits alone.
pub async fn long_context(gpu: &Gpu, model: &Model<Gpu>, cache: CacheType) -> Vec<f32> {
    const BLOCKS: usize = 50;
    let capacity = Capacity { rows: 64, outputs: 8, slots: 1, positions: 16 * BLOCKS, blocks: BLOCKS, block_size: 16 };
    let mut plan = model.runner_with(gpu, capacity, Numerics { cache, ..Numerics::default() }).unwrap();
    (0..BLOCKS as u32).for_each(|i| plan.set_block(BlockEntry { slot: 0, index: i, block: BLOCKS as u32 - 1 - i }));
    let vocab = model.config.vocab as u32;
    let row = |i: u32| Row { token: i * i * 7 % vocab, slot: 0, position: i, output: false, prompt: true };
    let (mut logits, mut at) = (Vec::new(), 0);
    for end in [250, 777] {
        let prompt: Vec<Row> = (at..end).map(row).collect();
        for chunk in prompt.chunks(60) {
            plan.run_rows(chunk, false).await.unwrap();
        }
        at = end;
        let decode = |i| Row { output: true, prompt: false, ..row(i) };
        // Across the edge of a split, too.
        for _ in 0..3 {
            let rows: Vec<Row> = (at..at + 6).map(decode).collect();
            let together = plan.run_rows(&rows, true).await.unwrap().logits;
            for (row, among) in rows.iter().zip(together.chunks(vocab as usize)) {
                let alone = plan.run_rows(&[*row], true).await.unwrap().logits;
                let same = alone.iter().zip(among).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{row:?} differs from the same row alone");
            }
            logits.extend(together);
            at += 6;
        }
    }
    logits
}
