//! The WGSL plan on the machine's Vulkan adapter with the real model: vLLM's greedy tokens, and row independence.
//! `EMBERGRAM_MODEL` names the GGUF; `npm test` sets it.

use std::io::Read;

use embergram::gpu::plan::Capacity;
use embergram::gpu::{Gpu, Plan, Row, Tuning};
use embergram::model::Loader;

const BLOCK: usize = 16;
const VOCAB: usize = 49152;

/// The plan in the adapter's own tuning or in this one, with slot s owning the blocks s * n .. (s + 1) * n.
async fn plan(rows: usize, slots: usize, positions: usize, tuning: Option<Tuning>) -> Plan {
    let path = std::env::var("EMBERGRAM_MODEL").expect("EMBERGRAM_MODEL names the SmolLM2 GGUF; `npm test` sets it");
    let mut gpu = Gpu::open().await.unwrap();
    gpu.tuning = tuning.unwrap_or(gpu.tuning);
    eprintln!("adapter: {}", gpu.adapter.name);
    let mut loader = Loader::new(&gpu);
    let mut file = std::fs::File::open(path).unwrap();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut chunk).unwrap();
        if n == 0 {
            break;
        }
        loader.push(&chunk[..n]).unwrap();
    }
    let (config, weights, _) = loader.finish().unwrap();
    let per_slot = positions.div_ceil(BLOCK);
    let capacity = Capacity { rows, outputs: rows, slots, positions, blocks: slots * per_slot, block_size: BLOCK };
    let plan = Plan::new(&gpu, &config, &weights, capacity).unwrap();
    for slot in 0..slots {
        for i in 0..per_slot {
            plan.set_block(slot, i, (slot * per_slot + i) as u32);
        }
    }
    plan
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn row(sequences: &[Vec<u32>], slot: usize, position: usize, output: bool) -> Row {
    Row { token: sequences[slot][position], slot: slot as u32, position: position as u32, output }
}

/// The row at `position` of sequence 0 gives the same bits alone and in any company up to `most`.
async fn assert_independent(plan: &mut Plan, sequences: &[Vec<u32>], position: usize, most: usize) {
    let probe = row(sequences, 0, position, true);
    let alone = plan.step(&[probe], true).await.unwrap().logits;
    assert_eq!(alone.len(), VOCAB);
    assert!(alone.iter().all(|v| v.is_finite()) && alone.iter().any(|v| *v != alone[0]));
    for company in 1..=most {
        let mut rows: Vec<Row> = vec![probe];
        if company % 2 == 0 {
            rows.extend((0..company).map(|i| row(sequences, 0, position + 1 + i, true)));
        } else {
            rows.extend((0..company).map(|i| row(sequences, 1 + i % 4, position / 2 + i / 4, true)));
            rows.swap(0, company * 2 / 3);
        }
        let at = rows.iter().position(|r| *r == probe).unwrap();
        let logits = plan.step(&rows, true).await.unwrap().logits;
        let same = logits[at * VOCAB..(at + 1) * VOCAB].iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "a row's logits changed among {company} others");
    }
}

#[test]
fn greedy_tokens_are_vllms_and_rows_are_independent() {
    pollster::block_on(async {
        let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/vllm_golden.json")).unwrap();
        let golden: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let prompts = golden["runs"]["0"]["prompts"].as_array().unwrap();
        let expected: Vec<Vec<u32>> = prompts.iter().map(|p| ids(&p["output_token_ids"])).collect();
        let mut sequences: Vec<Vec<u32>> = prompts.iter().map(|p| ids(&p["prompt_token_ids"])).collect();
        let starts: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let mut plan = plan(32, prompts.len(), 256, None).await;

        // Prefill prompt by prompt, in chunks.
        for slot in 0..sequences.len() {
            let rows: Vec<Row> = (0..starts[slot]).map(|i| row(&sequences, slot, i, i + 1 == starts[slot])).collect();
            let mut last = Vec::new();
            for chunk in rows.chunks(32) {
                last = plan.step(chunk, false).await.unwrap().tokens;
            }
            sequences[slot].push(last[0]);
        }
        // Decode all prompts in the same steps, each until its recorded length.
        loop {
            let live: Vec<usize> =
                (0..sequences.len()).filter(|i| sequences[*i].len() - starts[*i] < expected[*i].len()).collect();
            if live.is_empty() {
                break;
            }
            let rows: Vec<Row> = live.iter().map(|i| row(&sequences, *i, sequences[*i].len() - 1, true)).collect();
            let tokens = plan.step(&rows, false).await.unwrap().tokens;
            for (i, token) in live.iter().zip(tokens) {
                sequences[*i].push(token);
            }
        }
        for i in 0..prompts.len() {
            assert_eq!(sequences[i][starts[i]..], expected[i], "prompt {}", prompts[i]["name"]);
        }
        assert_eq!(expected.iter().map(Vec::len).sum::<usize>(), 532);

        // The same row alone, with drafts of its own slot behind it, and among other sequences: the same bits.
        assert_independent(&mut plan, &sequences, 40, 20).await;
        assert!(!plan.check_rows().await.unwrap());
    });
}

/// The recorded prompts and outputs, each as one sequence.
fn golden_sequences() -> Vec<Vec<u32>> {
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/vllm_golden.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let prompts = golden["runs"]["0"]["prompts"].as_array().unwrap();
    prompts.iter().map(|p| [ids(&p["prompt_token_ids"]), ids(&p["output_token_ids"])].concat()).collect()
}

#[test]
fn both_tunings_agree_and_each_keeps_rows_independent() {
    pollster::block_on(async {
        let sequences = golden_sequences();
        let mut logits = Vec::new();
        for tuning in [Tuning::Cpu, Tuning::Gpu] {
            let mut plan = plan(8, sequences.len(), 128, Some(tuning)).await;
            // Past 64 positions, where the attention of the GPU tuning comes to its second stretch.
            let mut last = Vec::new();
            for slot in 0..sequences.len() {
                let end = if slot == 0 { 72 } else { 24 };
                let rows: Vec<Row> = (0..end).map(|i| row(&sequences, slot, i, slot == 0 && i >= 64)).collect();
                for chunk in rows.chunks(8) {
                    let step = plan.step(chunk, true).await.unwrap();
                    last = if step.logits.is_empty() { last } else { step.logits };
                }
            }
            assert_eq!(last.len(), 8 * VOCAB);
            logits.push(last);
            assert_independent(&mut plan, &sequences, 20, 7).await;
            assert_independent(&mut plan, &sequences, 66, 1).await;
            assert!(!plan.check_rows().await.unwrap());
        }
        let far = logits[0].iter().zip(&logits[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        eprintln!("largest difference between the tunings: {far:e}");
        assert!(far > 0.0 && far < 1e-3, "the tunings differ by {far}");
    });
}
