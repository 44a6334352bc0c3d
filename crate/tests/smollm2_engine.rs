//! The engine with the real model: tokens in, vLLM's tokens and vLLM's speculation counters out.
//! `EMBERGRAM_MODEL` names the GGUF; `npm test` sets it. The CPU generates all recorded runs whole. A software adapter takes
//! half a second per step, so it generates the first tokens of one run, and all with `EMBERGRAM_FULL=1`.

mod common;
mod golden;
mod recorded;

use common::{On, counter, params};
use embergram::ErrorCode;
use embergram::llm::{Llm, Prompt};
use embergram::metrics::FinishReason;
use golden::Run;
use recorded::{assert_as_recorded, speculation};
use serde_json::json;

/// Tokens of each recorded output that the adapter generates by default.
const TOKENS: usize = 12;

#[test]
fn the_cpu_gives_vllms_tokens_and_counters() {
    is_as_recorded_and_goes_on(On::Cpu(2), |_| true, usize::MAX);
}

#[test]
fn the_adapter_gives_vllms_tokens_and_counters() {
    match common::full() {
        true => is_as_recorded_and_goes_on(On::Gpu, |_| true, usize::MAX),
        false => {
            let one = |run: &Run| speculation(run).unwrap().num_speculative_tokens == 5 && run.max_model_len == 2048;
            is_as_recorded_and_goes_on(On::Gpu, |run| one(run) && run.mode != "batch", TOKENS);
        }
    }
}

/// Recorded runs; then a chat that reuses its prefix, sampling with and without speculation, and bad input.
fn is_as_recorded_and_goes_on(on: On, wanted: impl Fn(&Run) -> bool, most: usize) {
    pollster::block_on(async {
        let mut runs = golden::runs("smollm2");
        runs.retain(|(_, run)| speculation(run).is_some() && wanted(run));
        let mut last = None;
        for (name, run) in &runs {
            // One model at a time.
            drop(last.take());
            last = Some(assert_as_recorded(on, "EMBERGRAM_MODEL", name, run, most).await);
        }
        let mut llm = last.expect("a recording with speculation");

        // The same chat again: its whole blocks are there, and the tokens are the same.
        let again = &runs[runs.len() - 1].1.prompts[0];
        let hits = |llm: &Llm| counter(llm, "vllm:prefix_cache_hits", None) as usize;
        let before = hits(&llm);
        let greedy = params(json!({ "temperature": 0, "max_tokens": 4 }));
        let outputs = llm.generate(&[Prompt::Tokens(again.prompt_token_ids.clone())], &greedy).await.unwrap();
        assert_eq!(outputs[0][0].token_ids, again.output_token_ids[..4]);
        assert_eq!(hits(&llm) - before, (again.prompt_token_ids.len() - 1) / 16 * 16);

        // Sampled, in a batch, with and without speculation: the same tokens.
        let texts = ["Once upon a time", "One, two, one, two, one, two,", "The capital of France is"];
        let prompts: Vec<Prompt> = texts.iter().map(|t| Prompt::Text(t.to_string())).collect();
        let sampled = params(json!({
            "temperature": 0.8, "top_k": 40, "seed": 7, "max_tokens": 12, "repetition_penalty": 1.1, "n": 2,
        }));
        let with = llm.generate(&prompts, &sampled).await.unwrap();
        llm.set_speculation(None);
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
            (vec![1; llm.info().max_model_len], ErrorCode::PromptTooLong),
        ] {
            let error = llm.generate(&[Prompt::Tokens(prompt)], &greedy).await.unwrap_err();
            assert_eq!(error.code, code, "{error}");
        }
        let output = llm.generate(&prompts[2..], &greedy).await.unwrap().remove(0).remove(0);
        assert_eq!(output.finish_reason, Some(FinishReason::Stop), "{output:?}");
        assert!(!output.text.contains("Paris"), "{output:?}");
    });
}
