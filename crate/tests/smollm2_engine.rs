//! The engine with the real model: text in, vLLM's tokens and vLLM's speculation counters out.
//! `EMBERGRAM_MODEL` names the GGUF; `npm test` sets it.

use embergram::ErrorCode;
use embergram::config::{LlmConfig, SamplingParams};
use embergram::gpu::Gpu;
use embergram::llm::{Llm, LlmLoader, Prompt};
use embergram::metrics::FinishReason;
use embergram::speculate::SpeculativeConfig;
use serde_json::{Value, json};

async fn load(config: Value) -> Llm {
    let path = std::env::var("EMBERGRAM_MODEL").expect("EMBERGRAM_MODEL names the SmolLM2 GGUF; `npm test` sets it");
    let gpu = Gpu::open().await.unwrap();
    let mut loader = LlmLoader::new(gpu, LlmConfig::from_json(&config).unwrap()).unwrap();
    loader.read(std::fs::File::open(path).unwrap()).unwrap();
    loader.finish().unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn metric(llm: &Llm, name: &str) -> Value {
    let all = serde_json::to_value(llm.metrics()).unwrap();
    all.as_array().unwrap().iter().find(|m| m["name"] == name).unwrap_or_else(|| panic!("no metric {name}")).clone()
}

fn golden() -> Value {
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/vllm_golden.json")).unwrap();
    serde_json::from_slice(&file).unwrap()
}

#[test]
fn speculation_gives_vllms_tokens_and_counters_and_a_chat_reuses_its_prefix() {
    pollster::block_on(async {
        let mut llm = load(json!({
            "max_model_len": 2048, "max_num_seqs": 4, "max_num_batched_tokens": 96,
            "speculative_config": {
                "method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 2, "prompt_lookup_max": 4,
            },
        }))
        .await;
        let golden = golden();
        let run = &golden["runs"]["5"];
        let params = |p: Value| SamplingParams::from_json(&p).unwrap();
        for prompt in run["prompts"].as_array().unwrap() {
            let name = &prompt["name"];
            let tokens = ids(&prompt["prompt_token_ids"]);
            let greedy = params(json!({ "temperature": 0, "max_tokens": 128 }));
            let outputs = llm.generate(&[Prompt::Tokens(tokens)], &greedy).await.unwrap();
            let output = &outputs[0][0];
            assert_eq!(output.token_ids, ids(&prompt["output_token_ids"]), "{name}");
            assert_eq!(output.text, prompt["text"].as_str().unwrap(), "{name}");
        }
        // Prefix blocks of 16 give hits where the recording's blocks of 128 gave none; these do not depend on them.
        for recorded in run["metrics"].as_array().unwrap() {
            let name = recorded["name"].as_str().unwrap();
            if name.starts_with("vllm:spec_decode") || name == "vllm:generation_tokens" || name == "vllm:prompt_tokens"
            {
                let ours = metric(&llm, name);
                assert_eq!(ours.get("value"), recorded.get("value"), "{name}");
                assert_eq!(ours.get("values"), recorded.get("values"), "{name}");
            }
            if ["vllm:inter_token_latency_seconds", "vllm:iteration_tokens_total"].contains(&name) {
                assert_eq!(metric(&llm, name)["count"], recorded["count"], "{name}");
            }
        }
        let hits = metric(&llm, "vllm:prefix_cache_hits")["value"].as_u64().unwrap();
        assert_eq!(hits, 16, "the two chats share their system message: one whole block of it");

        // Sampled, in a batch, with and without speculation: the same tokens.
        let texts = ["Once upon a time", "One, two, one, two, one, two,", "The capital of France is"];
        let prompts: Vec<Prompt> = texts.iter().map(|t| Prompt::Text(t.to_string())).collect();
        let sampled = params(json!({
            "temperature": 0.8, "top_k": 40, "seed": 7, "max_tokens": 12, "repetition_penalty": 1.1, "n": 2,
        }));
        let with = llm.generate(&prompts, &sampled).await.unwrap();
        llm.set_speculation(None::<SpeculativeConfig>);
        let without = llm.generate(&prompts, &sampled).await.unwrap();
        for (a, b) in with.iter().flatten().zip(without.iter().flatten()) {
            assert_eq!((&a.token_ids, &a.text, a.finish_reason), (&b.token_ids, &b.text, b.finish_reason));
        }
        assert_ne!(with[0][0].token_ids, with[0][1].token_ids, "sequence i samples with seed + i");

        // Bad input is refused with its code, and the engine goes on.
        let greedy = params(json!({ "temperature": 0, "max_tokens": 4, "stop": ["Paris"] }));
        for (prompt, code) in [
            (vec![], ErrorCode::InvalidPrompt),
            (vec![49152], ErrorCode::InvalidPrompt),
            (vec![1; 2048], ErrorCode::PromptTooLong),
        ] {
            let error = llm.generate(&[Prompt::Tokens(prompt)], &greedy).await.unwrap_err();
            assert_eq!(error.code, code, "{error}");
        }
        let output = llm.generate(&prompts[2..], &greedy).await.unwrap().remove(0).remove(0);
        assert_eq!(output.finish_reason, Some(FinishReason::Stop), "{output:?}");
        assert!(!output.text.contains("Paris"), "{output:?}");
    });
}
