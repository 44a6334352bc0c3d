//! Real models of other architectures against vLLM's recordings: prompts to ids, tokens, text and speculation's counters.
//! `EMBERGRAM_QWEN2` and `EMBERGRAM_GEMMA3` name their files; `npm test` sets them. The CPU generates them whole. The adapter
//! generates the first tokens of one prompt, and all with `EMBERGRAM_FULL=1`.

mod common;
mod golden;
mod recorded;

use common::{On, params};
use embergram::engine::Logprob;
use embergram::llm::Prompt;
use recorded::{assert_as_recorded, speculation};
use serde_json::{Value, json};

/// Tokens that the adapter generates by default.
const TOKENS: usize = 8;

fn is_as_recorded(variable: &str, model: &str, some: &str) {
    pollster::block_on(async {
        for (name, mut run) in golden::runs(model) {
            // Those without speculation have the same tokens.
            if speculation(&run).is_none() {
                continue;
            }
            let llm = assert_as_recorded(On::Cpu(2), variable, &name, &run, usize::MAX).await;
            for prompt in &run.prompts {
                let Some(text) = &prompt.prompt else { continue };
                let ids = llm.tokenize(text).unwrap();
                assert_eq!(ids, prompt.prompt_token_ids, "{name}, {}", prompt.name);
            }
            drop(llm);
            let most = if common::full() { usize::MAX } else { TOKENS };
            run.prompts.retain(|prompt| common::full() || golden::named() || prompt.name == some);
            assert!(!run.prompts.is_empty());
            assert_as_recorded(On::Gpu, variable, &name, &run, most).await;
        }
    });
}

#[test]
fn qwen2_is_as_vllm_recorded_it() {
    is_as_recorded("EMBERGRAM_QWEN2", "qwen2", "umlaut");
}

/// Gemma's windows are 512 positions wide: the long prompt crosses them.
#[test]
fn gemma3_is_as_vllm_recorded_it() {
    is_as_recorded("EMBERGRAM_GEMMA3", "gemma3", "umlaut");
}

/// How likely the prompt's tokens are, as vLLM's server told it of an echoed prompt.
#[test]
fn a_prompt_is_as_likely_as_vllm_recorded_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/vllm_server.json");
    let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let exchanges = recorded["exchanges"].as_array().unwrap();
    let echo =
        exchanges.iter().find(|exchange| exchange["name"] == "completion echo logprobs").expect("it is recorded");
    let answer: Value = serde_json::from_str(echo["response"]["body"].as_str().unwrap()).unwrap();
    let mut llm = On::Cpu(2).load("EMBERGRAM_QWEN2", json!({ "max_model_len": 64 }));
    let p = params(json!({ "temperature": 0, "max_tokens": 3, "logprobs": 2, "prompt_logprobs": 2 }));
    let ids = llm.add(&Prompt::Text(echo["request"]["body"]["prompt"].as_str().unwrap().into()), &p).unwrap();
    let output = common::finish(&mut llm, &ids).remove(0);
    let choice = &answer["choices"][0];
    assert_eq!(format!("The sky is{}", output.text), choice["text"].as_str().unwrap());
    let scores = output.prompt_logprobs.expect("they were asked for");
    let expected = choice["prompt_logprobs"].as_array().unwrap();
    assert_eq!(scores.len(), expected.len() - 1);
    for (step, expected) in scores.iter().zip(&expected[1..]) {
        assert_eq!(step.len(), expected.as_object().unwrap().len());
        for Logprob { token, decoded_token } in step {
            let theirs = &expected[token.token_id.to_string()];
            assert_eq!(theirs["decoded_token"], decoded_token.as_str());
            assert_eq!(theirs["rank"], token.rank);
            assert!(
                (theirs["logprob"].as_f64().unwrap() - f64::from(token.logprob)).abs() < 1e-3,
                "{token:?}, {theirs}"
            );
        }
    }
}
