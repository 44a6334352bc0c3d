//! The CPU runner against `transformers`, and a row's bits against its company and the number of threads.

mod cpu;
#[path = "transformers/models.rs"]
mod models;

use cpu::{load, set_blocks, step};
use embergram::cpu::CpuRunner;
use embergram::format::QuantType;
use embergram::program::{CacheType, Capacity, Numerics, Precision, Row, Runner};
use models::{ALL, Tiny, difference};

const POSITIONS: usize = 64;

fn capacity(block_size: usize, slots: usize) -> Capacity {
    let blocks = slots * POSITIONS.div_ceil(block_size);
    Capacity { rows: 40, outputs: 40, slots, positions: POSITIONS, blocks, block_size }
}

fn of_gguf(tiny: &Tiny, threads: u32, capacity: Capacity, cache: CacheType) -> CpuRunner {
    let mut runner = load(tiny.file, None, None, (threads, 4099), POSITIONS)
        .runner(capacity, Numerics { cache, ..Numerics::default() });
    set_blocks(&mut runner);
    runner
}

fn row(position: usize, token: u32, prompt: bool) -> Row {
    Row { token, slot: 0, position: position as u32, output: true, prompt }
}

/// The last position's logits within 1e-4 of the largest, every position's best token, and the greedy tokens.
fn gives_the_logits_and_tokens_of_transformers(tiny: &Tiny, runner: &mut CpuRunner, prompt: bool, chunk: usize) -> f32 {
    let (golden, what) = (tiny.golden(), format!("{}, prompt: {prompt}", tiny.name));
    let rows: Vec<Row> = golden.token_ids.iter().enumerate().map(|(i, t)| row(i, *t, prompt)).collect();
    let (mut best, mut last) = (Vec::new(), Vec::new());
    for rows in rows.chunks(chunk) {
        let step = step(runner, rows);
        best.extend(step.tokens);
        last = step.logits[step.logits.len() - golden.logits_last.len()..].to_vec();
    }
    let difference = difference(&last, &golden.logits_last);
    assert!(difference < 1e-4, "{what}: {difference:e}");
    assert_eq!(best, golden.logits_argmax, "{what}");

    let mut token = *step(runner, &rows[..12]).tokens.last().unwrap();
    let mut greedy = golden.token_ids[..12].to_vec();
    greedy.push(token);
    for position in 12..golden.greedy_from_first_12.len() - 1 {
        token = step(runner, &[row(position, token, false)]).tokens[0];
        greedy.push(token);
    }
    assert_eq!(greedy, golden.greedy_from_first_12, "{what}");
    difference
}

#[test]
fn it_gives_the_logits_and_tokens_of_transformers() {
    for tiny in &ALL {
        for (threads, block_size, prompt, chunk) in
            [(1, 8, true, 40), (2, 16, true, 7), (3, 5, false, 8), (1, 1, false, 11)]
        {
            let mut runner = of_gguf(tiny, threads, capacity(block_size, 1), CacheType::F32);
            let difference = gives_the_logits_and_tokens_of_transformers(tiny, &mut runner, prompt, chunk);
            eprintln!("{}, {threads} threads: {difference:e}", tiny.name);
        }
        let mut folder = load(tiny.safetensors, Some(tiny.config), None, (2, 997), POSITIONS)
            .runner(capacity(8, 1), Numerics::default());
        set_blocks(&mut folder);
        gives_the_logits_and_tokens_of_transformers(tiny, &mut folder, true, 16);
    }
}

/// Eight bits change the logits a little, four bits more.
#[test]
fn folders_are_quantised_while_they_are_loaded() {
    for tiny in &ALL {
        let golden = tiny.golden();
        let of = |ty| {
            let loaded = load(tiny.safetensors, Some(tiny.config), Some(ty), (1, 1 << 16), POSITIONS);
            let mut runner = loaded.runner(capacity(8, 1), Numerics::default());
            set_blocks(&mut runner);
            let rows: Vec<Row> = golden.token_ids.iter().enumerate().map(|(i, t)| row(i, *t, true)).collect();
            let logits = rows.chunks(40).map(|rows| step(&mut runner, rows).logits).last().unwrap();
            difference(&logits[logits.len() - golden.logits_last.len()..], &golden.logits_last)
        };
        let (eight, four) = (of(QuantType::Q8_0), of(QuantType::Q4_0));
        assert!(1e-4 < eight && eight < 0.1 && eight < four, "{}: {eight:e}, {four:e}", tiny.name);
    }
}

/// Eleven bits of a key or a value are enough for three digits of a logit.
#[test]
fn a_cache_of_halves_changes_the_logits_a_little() {
    for tiny in &ALL {
        let golden = tiny.golden();
        let mut runner = of_gguf(tiny, 2, capacity(8, 1), CacheType::F16);
        let rows: Vec<Row> = golden.token_ids.iter().enumerate().map(|(i, t)| row(i, *t, false)).collect();
        let logits = rows.chunks(8).map(|rows| step(&mut runner, rows).logits).last().unwrap();
        let off = difference(&logits[logits.len() - golden.logits_last.len()..], &golden.logits_last);
        eprintln!("{}: {off:e}", tiny.name);
        assert!(1e-6 < off && off < 3e-3, "{}: {off:e}", tiny.name);
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|v| v.to_bits()).collect()
}

/// Every row of three sequences, whose first ten tokens are prompt, one row per step.
fn alone(runner: &mut CpuRunner, rows: &[Row]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| bits(&step(runner, &[*row]).logits)).collect()
}

/// A way to make a runner with so many threads and slots.
type Make<'a> = dyn Fn(u32, usize) -> CpuRunner + 'a;

#[test]
fn rows_are_the_same_bits_in_any_company_and_with_any_threads() {
    for tiny in &ALL {
        // Both kinds of cache, each for some.
        let cache = if tiny.name.len().is_multiple_of(2) { CacheType::F32 } else { CacheType::F16 };
        rows_are_alike(tiny, &|threads, slots| of_gguf(tiny, threads, capacity(8, slots), cache));
    }
}

/// Activations of eight bits: the matrices are quantised for it.
#[test]
fn fast_rows_are_the_same_bits_too() {
    for (i, tiny) in ALL.iter().enumerate() {
        let ty = [QuantType::Q4_0, QuantType::Q8_0][i % 2];
        let numerics = Numerics { precision: Precision::Fast, ..Numerics::default() };
        rows_are_alike(tiny, &|threads, slots| {
            let loaded = load(tiny.safetensors, Some(tiny.config), Some(ty), (threads, 4099), POSITIONS);
            let mut runner = loaded.runner(capacity(8, slots), numerics);
            set_blocks(&mut runner);
            runner
        });
    }
}

fn rows_are_alike(tiny: &Tiny, make: &Make) {
    let golden = tiny.golden();
    // By position, so that any run of them is a step: three slots' rows side by side.
    let tokens = &golden.token_ids[..24];
    let rows: Vec<Row> = (0..tokens.len())
        .flat_map(|position| {
            (0..3).map(move |slot| {
                let token = tokens[(position + slot as usize) % tokens.len()];
                Row { token, slot, position: position as u32, output: true, prompt: position < 10 }
            })
        })
        .collect();
    let expected = alone(&mut make(1, 3), &rows);
    let vocab = expected[0].len();
    for threads in [1, 2, 3] {
        let mut runner = make(threads, 3);
        let chunks: &[usize] = if threads == 1 { &[1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 40] } else { &[1, 5, 40] };
        for &chunk in chunks {
            let mut at = 0;
            for run in rows.chunks(chunk) {
                // Rows of one slot come one after another.
                let mut order: Vec<usize> = (0..run.len()).collect();
                order.sort_by_key(|i| run[*i].slot);
                let ordered: Vec<Row> = order.iter().map(|i| run[*i]).collect();
                let logits = step(&mut runner, &ordered).logits;
                for (place, logits) in order.iter().zip(logits.chunks(vocab)) {
                    let same = bits(logits) == expected[at + place];
                    assert!(same, "{}: row {} in chunks of {chunk}, {threads} threads", tiny.name, at + place);
                }
                at += run.len();
            }
        }
        runner.set_single_kernel_path(true);
        let logits = step(&mut runner, &rows[..5 * 3]).logits;
        for (row, logits) in logits.chunks(vocab).enumerate() {
            assert!(bits(logits) == expected[row], "{}: row {row} by the largest tile", tiny.name);
        }
    }
}
