//! Where every layer has a window, blocks of the KV cache behind it serve others, and nobody's tokens change.

use embergram::config::{LlmConfig, SamplingParams};
use embergram::cpu::NativeKernels;
use embergram::llm::{Cpu, LlmLoader};
use embergram::metrics::Value;
use embergram::{Llm, Prompt};
use serde_json::json;

/// Its window is 16.
const MISTRAL: &[u8] = include_bytes!(concat!(env!("EMBERGRAM_CONVERTED"), "/mistral.gguf"));
const BLOCK: usize = 8;
/// Tokens of a prompt and its output, several windows of the tiny Mistral.
const LENGTH: usize = 120;

/// The tiny Mistral with room for so many blocks.
fn load(blocks: usize) -> Llm {
    // Three layers of two heads of 24, keys and values.
    let bytes = blocks * BLOCK * 3 * 2 * 2 * 24 * 4;
    let config = json!({
        "max_model_len": 128, "block_size": BLOCK, "kv_cache_memory_bytes": bytes, "max_num_batched_tokens": 16,
        "generation_config": "vllm",
    });
    let config = LlmConfig::from_json(&config).unwrap();
    let mut loader = LlmLoader::new(&Cpu::new(NativeKernels::new(1)), config).unwrap();
    loader.push(MISTRAL).unwrap();
    loader.finish().unwrap()
}

fn prompts() -> Vec<Prompt> {
    (0..6u32).map(|i| Prompt::Tokens((0..40).map(|t| (t * 7 + i * 13) % 90 + 3).collect())).collect()
}

fn params() -> SamplingParams {
    SamplingParams { temperature: 0.0, max_tokens: Some(LENGTH - 40), ignore_eos: true, ..Default::default() }
}

/// The most of the cache that was in use, and the most sequences at a time.
async fn run(llm: &mut Llm) -> (Vec<Vec<u32>>, f64, f64) {
    let ids: Vec<u64> = prompts().iter().map(|prompt| llm.add(prompt, &params()).unwrap()[0]).collect();
    let mut tokens = vec![Vec::new(); ids.len()];
    let (mut used, mut running) = (0f64, 0f64);
    while llm.is_busy() {
        for output in llm.step().await.unwrap() {
            tokens[ids.iter().position(|id| *id == output.id).unwrap()].extend(output.token_ids);
        }
        let gauge = |name| match llm.metrics().get(name).unwrap().value {
            Value::Gauge(value) => value,
            _ => panic!("{name} is no gauge"),
        };
        used = used.max(gauge("vllm:kv_cache_usage_perc"));
        running = running.max(gauge("vllm:num_requests_running"));
    }
    (tokens, used, running)
}

#[test]
fn blocks_behind_the_window_serve_others() {
    pollster::block_on(async {
        let alone = async |prompt: &Prompt| {
            let outputs = load(64).generate(std::slice::from_ref(prompt), &params()).await.unwrap();
            outputs[0][0].token_ids.clone()
        };
        let mut expected = Vec::new();
        for prompt in &prompts() {
            expected.push(alone(prompt).await);
        }
        // Room for two sequences of the greatest length, were nothing given back.
        let whole = LENGTH.div_ceil(BLOCK);
        let (tokens, used, running) = run(&mut load(2 * whole)).await;
        assert_eq!(tokens, expected);
        assert!(running >= 3.0, "at most {running} sequences ran at a time");
        assert!(used < 1.0, "the cache was full");
    });
}
