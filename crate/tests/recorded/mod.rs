//! The engine with a real model against a recording: tokens, text and counters.

use embergram::llm::{Llm, Prompt};
use embergram::speculate::SpeculativeConfig;
use serde_json::{Value, json};

use crate::common::{On, counter, metric, params};
use crate::golden;

/// vLLM's counters after the recorded steps so far, as it counts them.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    drafts: usize,
    draft_tokens: usize,
    accepted: usize,
    per_position: Vec<usize>,
    generated: usize,
}

impl Counts {
    /// Adds the steps of one prompt that bring its first `tokens` tokens.
    fn add(&mut self, prompt: &golden::Prompt, tokens: usize) {
        let mut left = tokens;
        for step in &prompt.steps {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(step.sampled.len());
            let accepted = step.sampled.len().saturating_sub(1);
            self.drafts += usize::from(!step.draft.is_empty());
            self.draft_tokens += step.draft.len();
            self.accepted += accepted;
            self.per_position[..accepted].iter_mut().for_each(|n| *n += 1);
        }
        self.generated += tokens;
    }

    /// What the engine counted.
    fn of(llm: &Llm) -> Self {
        let value = |name: &str| counter(llm, name, None) as usize;
        let per_position = metric(llm, "vllm:spec_decode_num_accepted_tokens_per_pos", None)["values"].clone();
        Self {
            drafts: value("vllm:spec_decode_num_drafts"),
            draft_tokens: value("vllm:spec_decode_num_draft_tokens"),
            accepted: value("vllm:spec_decode_num_accepted_tokens"),
            per_position: serde_json::from_value(per_position).unwrap(),
            generated: value("vllm:generation_tokens"),
        }
    }
}

pub fn speculation(run: &golden::Run) -> Option<SpeculativeConfig> {
    run.config.get("speculative_config").map(|json| SpeculativeConfig::from_json(json).unwrap())
}

/// Generates a recorded run, each of its outputs to at most `most` tokens: tokens, text and counters are the recorded ones.
pub async fn assert_as_recorded(on: On, variable: &str, name: &str, run: &golden::Run, most: usize) -> Llm {
    let options = json!({
        // As in vLLM a prompt is one step, which one of its counts is of.
        "max_model_len": run.max_model_len, "max_num_batched_tokens": 1024,
        "speculative_config": run.config.get("speculative_config"),
    });
    let mut llm = on.load(variable, options);
    let mut expected =
        Counts { per_position: vec![0; speculation(run).unwrap().num_speculative_tokens], ..Default::default() };
    let greedy = params(json!({ "temperature": 0, "max_tokens": run.max_tokens.min(most) }));
    for prompts in run.prompts.chunks(if run.mode == "batch" { run.prompts.len() } else { 1 }) {
        let together: Vec<Prompt> = prompts.iter().map(|p| Prompt::Tokens(p.prompt_token_ids.clone())).collect();
        let outputs = llm.generate(&together, &greedy).await.unwrap();
        for (prompt, output) in prompts.iter().zip(outputs.iter().flatten()) {
            let name = format!("{name}, {}", prompt.name);
            let tokens = &prompt.output_token_ids[..prompt.output_token_ids.len().min(most)];
            assert_eq!(output.token_ids, tokens, "{name}");
            match tokens.len() == prompt.output_token_ids.len() {
                true => assert_eq!(output.text, prompt.text, "{name}"),
                false => assert!(prompt.text.starts_with(&output.text), "{name}: {}", output.text),
            }
            expected.add(prompt, tokens.len());
        }
        assert_eq!(Counts::of(&llm), expected, "{name}, {}", prompts[0].name);
    }
    if most < run.max_tokens {
        return llm;
    }
    // These do not depend on the size of a block, as prefix hits do.
    let whole = ["vllm:prompt_tokens", "vllm:inter_token_latency_seconds", "vllm:iteration_tokens_total"];
    let of_whole = |m: &&Value| whole.contains(&m["name"].as_str().unwrap());
    for recorded in run.metrics.iter().filter(of_whole) {
        let ours = metric(&llm, recorded["name"].as_str().unwrap(), None);
        assert_eq!((ours.get("value"), ours.get("count")), (recorded.get("value"), recorded.get("count")), "{name}");
    }
    llm
}
