//! Real models of other architectures against vLLM's recordings: prompts to ids, tokens, text and speculation's counters.
//! `EMBERGRAM_QWEN2` and `EMBERGRAM_GEMMA3` name their files; `npm test` sets them. The CPU generates them whole. The adapter
//! generates the first tokens of one prompt, and all with `EMBERGRAM_FULL=1`.

mod common;
mod golden;
mod recorded;

use common::On;
use recorded::{assert_as_recorded, speculation};

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
