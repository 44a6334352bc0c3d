//! Logits with a NaN end the sequence whose they are, and no other. One token's embedding is NaN here, so that a sequence is
//! sound until it has that token.

mod common;
mod support;

use common::{counter, finish, gpu, params, tokens};
use embergram::ErrorCode;
use embergram::config::LlmConfig;
use embergram::engine::SequenceOutput;
use embergram::llm::{Llm, LlmLoader, Prompt};
use embergram::metrics::FinishReason;
use serde_json::{Value, json};

fn load(corrupt: Option<u32>) -> Llm {
    let corrupt = corrupt.map(|token| token.to_string());
    let mut args = vec!["--type", "F32", "--untied"];
    args.extend(corrupt.iter().flat_map(|token| ["--corrupt", token]));
    let config = json!({ "max_model_len": 128, "max_num_seqs": 4, "max_num_batched_tokens": 32 });
    let mut loader = LlmLoader::new(&gpu(), LlmConfig::from_json(&config).unwrap()).unwrap();
    loader.read(&support::model(&args)[..]).unwrap();
    loader.finish().unwrap()
}

fn prompt(first: u32) -> Prompt {
    tokens(&(0..20).map(|i| 259 + (first + i * 7) % 60).collect::<Vec<_>>())
}

fn run(llm: &mut Llm, prompt: &Prompt, more: Value) -> SequenceOutput {
    let mut p = json!({ "temperature": 0, "max_tokens": 24, "ignore_eos": true });
    p.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let ids = llm.add(prompt, &params(p)).unwrap();
    finish(llm, &ids).remove(0)
}

fn is_corrupted(output: &SequenceOutput) -> bool {
    let code = output.error.as_ref().map(|e| e.code);
    output.finish_reason == Some(FinishReason::Error) && code == Some(ErrorCode::CorruptedLogits)
}

#[test]
fn a_nan_ends_its_own_sequence_with_an_error_and_no_other() {
    let mut sound = load(None);
    let whole = run(&mut sound, &prompt(1), json!({}));
    // Where the model first says something that was not in the prompt, some tokens on.
    let Prompt::Tokens(known) = prompt(1) else { unreachable!() };
    let new =
        |i: &usize| !known.contains(&whole.token_ids[*i]) && !whole.token_ids[..*i].contains(&whole.token_ids[*i]);
    let at = (4..20).find(new).expect("the tiny model says something new");
    let corrupt = whole.token_ids[at];
    let mut llm = load(Some(corrupt));

    // Greedily on the GPU, greedily and sampled on the CPU, with drafts and without: the same tokens, up to the NaN.
    let speculation =
        json!({ "method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 1, "prompt_lookup_max": 2 });
    for (turn, config) in [None, Some(speculation)].into_iter().enumerate() {
        llm.set_speculation(config.map(|c| embergram::speculate::SpeculativeConfig::from_json(&c).unwrap()));
        for more in [json!({}), json!({ "logprobs": 2 }), json!({ "temperature": 0.01, "seed": 1, "top_k": 1 })] {
            let output = run(&mut llm, &prompt(1), more.clone());
            assert!(is_corrupted(&output), "{more}: {output:?}");
            assert_eq!(output.token_ids, whole.token_ids[..=at], "{more}");
            assert!(whole.text.starts_with(&output.text));
            assert_eq!(output.logprobs.map(|l| l.len()), more.get("logprobs").map(|_| at + 1));
        }
        let expected = 3 * (turn as u64 + 1);
        assert_eq!(counter(&llm, "vllm:corrupted_requests", None), expected);
        assert_eq!(counter(&llm, "vllm:request_success", Some("error")), expected);
    }

    // A prompt with it, beside others that are sound; and again in the blocks that it left.
    let mut bad = known.clone();
    bad[3] = corrupt;
    let others: Vec<Prompt> =
        (2..40).map(prompt).filter(|p| !matches!(p, Prompt::Tokens(t) if t.contains(&corrupt))).collect();
    let alone: Vec<_> = others.iter().map(|p| run(&mut sound, p, json!({ "max_tokens": 3 }))).collect();
    for (round, (others, alone)) in others.chunks(2).zip(alone.chunks(2)).enumerate() {
        let p = params(json!({ "temperature": 0, "max_tokens": 3, "ignore_eos": true }));
        let ids: Vec<u64> =
            std::iter::once(&tokens(&bad)).chain(others).flat_map(|t| llm.add(t, &p).unwrap()).collect();
        let outputs = finish(&mut llm, &ids);
        assert!(is_corrupted(&outputs[0]) && outputs[0].token_ids.is_empty(), "{:?}", outputs[0]);
        assert_eq!(outputs[0].metrics.as_ref().unwrap().num_cached_tokens, 0, "what a NaN filled serves nobody");
        for (output, alone) in outputs[1..].iter().zip(alone) {
            if !alone.token_ids[..2].contains(&corrupt) {
                assert_eq!(output.token_ids, alone.token_ids, "round {round}");
            }
        }
    }
    assert_eq!(counter(&llm, "vllm:request_success", Some("abort")), 0);
}
