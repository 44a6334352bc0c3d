//! Real models on the CPU runner: the tokens that vLLM's float32 gave for the recorded prompts, greedy. By default the first of
//! each; `EMBERGRAM_FULL=1` makes it all.

mod cpu;

use cpu::{load, set_blocks, step};
use embergram::program::{CacheType, Capacity, Row};
use serde::Deserialize;

#[derive(Deserialize)]
struct Recording {
    runs: std::collections::BTreeMap<String, Run>,
}

#[derive(Deserialize)]
struct Run {
    prompts: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    name: String,
    prompt_token_ids: Vec<u32>,
    output_token_ids: Vec<u32>,
}

/// The model that this variable names gives the recording's tokens; prompts in chunks of 64 rows.
fn gives_the_recorded_tokens(variable: &str, recording: &str) {
    let path = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names a GGUF; `npm test` sets it"));
    let file = std::fs::read(path).unwrap();
    let most = if std::env::var("EMBERGRAM_FULL").is_ok() { usize::MAX } else { 24 };
    let recording: Recording = serde_json::from_str(recording).unwrap();
    let positions = 512;
    let capacity = Capacity { rows: 64, outputs: 8, slots: 1, positions, blocks: positions / 16, block_size: 16 };
    let mut runner = load(&file, None, None, (2, 1 << 20), positions).runner(capacity, CacheType::F32);
    set_blocks(&mut runner);
    for Recorded { name, prompt_token_ids: prompt, output_token_ids: output } in &recording.runs["0"].prompts {
        let output = &output[..output.len().min(most)];
        if prompt.len() + output.len() > positions {
            continue;
        }
        let row = |(i, token): (usize, &u32)| Row {
            token: *token,
            slot: 0,
            position: i as u32,
            output: i + 1 == prompt.len(),
            prompt: true,
        };
        let rows: Vec<Row> = prompt.iter().enumerate().map(row).collect();
        let mut token = rows.chunks(64).map(|rows| step(&mut runner, rows).tokens).last().unwrap()[0];
        let mut ours = vec![token];
        for position in prompt.len()..prompt.len() + output.len() - 1 {
            let row = Row { token, slot: 0, position: position as u32, output: true, prompt: false };
            token = step(&mut runner, &[row]).tokens[0];
            ours.push(token);
        }
        assert_eq!(ours, output, "{name}");
    }
}

#[test]
fn smollm2_gives_the_recorded_tokens() {
    gives_the_recorded_tokens("EMBERGRAM_MODEL", include_str!("../../tests/golden/vllm_golden.json"));
}

#[test]
fn qwen2_gives_the_recorded_tokens() {
    gives_the_recorded_tokens("EMBERGRAM_QWEN2", include_str!("../../tests/golden/vllm_qwen2.json"));
}

#[test]
fn gemma3_gives_the_recorded_tokens() {
    gives_the_recorded_tokens("EMBERGRAM_GEMMA3", include_str!("../../tests/golden/vllm_gemma3.json"));
}
