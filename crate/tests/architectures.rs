//! Every architecture against `transformers`: tiny models whose logits it computed in float32 (tests/golden/models), in both
//! tunings, and the reference in burn's operations against the same.

mod common;
mod support;

use burn::tensor::{Device, DeviceKind};
use embergram::gpu::plan::Capacity;
use embergram::gpu::{Gpu, Plan, Row, Tuning};
use embergram::model::Loader;
use embergram::model::reference::Reference;
use serde::Deserialize;

const BLOCK: usize = 8;
const NAMES: [&str; 9] = ["llama3", "mistral", "qwen2", "qwen3", "gemma3", "phi3", "smollm3", "granite", "olmo2"];

/// What `transformers` said.
#[derive(Deserialize)]
struct Golden {
    token_ids: Vec<u32>,
    logits_last: Vec<f32>,
    logits_argmax: Vec<u32>,
    /// Twelve tokens that were given, and what it said to them.
    greedy_from_first_12: Vec<u32>,
}

fn golden(name: &str) -> Golden {
    let path = format!("{}/../tests/golden/models/{name}/golden.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The largest difference of two rows of logits, relative to the largest logit.
fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().all(|v| v.is_finite()));
    let largest = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    ours.iter().zip(theirs).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs())) / largest
}

/// The plan of a file, one slot with its blocks in descending order.
fn plan(gpu: &Gpu, file: &[u8], positions: usize) -> Plan {
    let mut loader = Loader::new(gpu.clone());
    loader.read(file).unwrap();
    let model = loader.finish().unwrap();
    let blocks = positions.div_ceil(BLOCK);
    let capacity = Capacity { rows: 8, outputs: 8, slots: 1, positions, blocks, block_size: BLOCK };
    let plan = Plan::new(gpu, &model.program(positions), capacity).unwrap();
    (0..blocks).for_each(|i| plan.set_block(0, i, (blocks - 1 - i) as u32));
    plan
}

fn row(position: usize, token: u32) -> Row {
    Row { token, slot: 0, position: position as u32, output: true }
}

#[test]
fn plans_give_the_logits_and_tokens_of_transformers() {
    pollster::block_on(async {
        let mut gpu = Gpu::open().await.unwrap();
        for name in NAMES {
            let (file, golden) = (support::converted(name), golden(name));
            for tuning in [Tuning::Cpu, Tuning::Gpu] {
                gpu.tuning = tuning;
                let mut plan = plan(&gpu, &file, 64);
                let rows: Vec<Row> = golden.token_ids.iter().enumerate().map(|(i, t)| row(i, *t)).collect();
                let (mut best, mut last) = (Vec::new(), Vec::new());
                for rows in rows.chunks(8) {
                    let step = plan.step(rows, true).await.unwrap();
                    best.extend(step.tokens);
                    last = step.logits[step.logits.len() - golden.logits_last.len()..].to_vec();
                }
                let difference = difference(&last, &golden.logits_last);
                eprintln!("{name}, {tuning:?}: {difference:e}");
                assert!(difference < 1e-4, "{name}, {tuning:?}: {difference:e}");
                assert_eq!(best, golden.logits_argmax, "{name}, {tuning:?}");

                plan.step(&rows[..8], false).await.unwrap();
                let mut token = *plan.step(&rows[8..12], false).await.unwrap().tokens.last().unwrap();
                let mut greedy = golden.token_ids[..12].to_vec();
                greedy.push(token);
                for position in 12..golden.greedy_from_first_12.len() - 1 {
                    token = plan.step(&[row(position, token)], false).await.unwrap().tokens[0];
                    greedy.push(token);
                }
                assert_eq!(greedy, golden.greedy_from_first_12, "{name}, {tuning:?}");
            }
        }
    });
}

#[test]
fn the_reference_gives_the_logits_of_transformers() {
    for name in NAMES {
        let (file, golden) = (support::converted(name), golden(name));
        let n = golden.token_ids.len();
        let model = Reference::read(&file[..], n, &Device::wgpu(DeviceKind::DefaultDevice)).unwrap();
        let logits: Vec<f32> = model.forward(&golden.token_ids).into_data().try_to_vec().unwrap();
        let difference = difference(&logits[logits.len() - golden.logits_last.len()..], &golden.logits_last);
        eprintln!("{name}: {difference:e}");
        assert!(difference < 1e-4, "{name}: {difference:e}");
    }
}

#[test]
fn rows_do_not_depend_on_their_company() {
    for name in NAMES {
        let file = support::converted(name);
        for tuning in [Tuning::Cpu, Tuning::Gpu] {
            let mut gpu = common::gpu();
            gpu.tuning = tuning;
            let rounds = if common::full() { 50 } else { 2 };
            pollster::block_on(common::rows::any_grouping_gives_the_same_logits(&gpu, &file, rounds));
        }
    }
}

#[test]
fn drafts_change_no_token() {
    for name in NAMES {
        let file = support::converted(name);
        let mut llm = common::read(&file[..], common::lossless::config());
        let drafts = pollster::block_on(common::lossless::drafts_change_no_token(&mut llm, 40, 3..320));
        eprintln!("{name}: {drafts:?}");
        assert!(drafts.accepted >= 100 && drafts.rejected() >= 100, "{name}: too few to tell: {drafts:?}");
    }
}
