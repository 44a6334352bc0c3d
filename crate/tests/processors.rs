//! Logits processors change what is sampled, whatever is drafted, and nothing that is told of the model's own logits.

mod common;

use std::future::ready;
use std::pin::Pin;

use common::lossless::speculation;
use common::{On, finish, params, tokens};
use embergram::engine::SequenceOutput;
use embergram::llm::Llm;
use embergram::metrics::FinishReason;
use embergram::sample::LogitsProcessor;
use embergram::{Error, ErrorCode, Result};
use serde_json::json;

/// Lets each third token, and none that the output has already, be sampled.
struct Thirds;

impl LogitsProcessor for Thirds {
    fn process<'a>(
        &'a self,
        prompt: &'a [u32],
        output: &'a [u32],
        logits: &'a mut [f32],
    ) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>> {
        assert_eq!(prompt, [300, 301, 300, 301]);
        (0..).zip(&mut *logits).filter(|(id, _)| id % 3 != 0).for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
        // Drafts repeat, and so does this text where it may: every other token is free.
        for id in output.iter().skip(1).step_by(2) {
            logits[*id as usize] -= 0.25;
        }
        Box::pin(ready(Ok(())))
    }
}

/// Fails after so many tokens.
struct Fails(usize);

impl LogitsProcessor for Fails {
    fn process<'a>(
        &'a self,
        _: &'a [u32],
        output: &'a [u32],
        _: &'a mut [f32],
    ) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>> {
        let failed = Error::new(ErrorCode::InvalidParams, "it failed");
        Box::pin(ready(if output.len() < self.0 { Ok(()) } else { Err(failed) }))
    }
}

fn load(on: On) -> Llm {
    on.load("EMBERGRAM_TINY_MODEL", json!({ "max_model_len": 96, "max_num_seqs": 4 }))
}

fn run(llm: &mut Llm, depth: u32, temperature: f32) -> [SequenceOutput; 2] {
    llm.set_speculation(speculation(json!(depth)));
    let prompt = tokens(&[300, 301, 300, 301]);
    let own =
        params(json!({ "temperature": temperature, "seed": 3, "max_tokens": 40, "ignore_eos": true, "logprobs": 1 }));
    let ids =
        [llm.add_processed(&prompt, &own, vec![Box::new(Thirds)]).unwrap(), llm.add(&prompt, &own).unwrap()].concat();
    finish(llm, &ids).try_into().unwrap()
}

#[test]
fn they_change_their_own_request_alone_and_the_same_with_drafts() {
    for on in [On::Cpu(1), On::Gpu] {
        let mut llm = load(on);
        for temperature in [0.0, 0.7] {
            let [processed, plain] = run(&mut llm, 0, temperature);
            assert!(processed.token_ids.iter().all(|id| id % 3 == 0), "{:?}", processed.token_ids);
            assert!(plain.token_ids.iter().any(|id| id % 3 != 0));
            // The first token's row is the same, and so is what is told of the model's likeliest.
            let best = |output: &SequenceOutput| {
                let first = output.logprobs.as_ref().unwrap()[0].iter().map(|l| l.token).collect::<Vec<_>>();
                first.into_iter().find(|token| token.rank == 1).unwrap()
            };
            assert_eq!(best(&processed), best(&plain));
            let [drafted, also_plain] = run(&mut llm, 4, temperature);
            assert_eq!((drafted.token_ids, drafted.logprobs), (processed.token_ids, processed.logprobs));
            assert_eq!(also_plain.token_ids, plain.token_ids);
            let speculation = drafted.metrics.unwrap().speculative_decoding.unwrap();
            assert!(speculation.num_draft_tokens > 0, "nothing was drafted on {on:?}");
        }
    }
}

#[test]
fn one_that_fails_ends_its_sequence() {
    let mut llm = load(On::Cpu(1));
    let own = params(json!({ "temperature": 0, "max_tokens": 12, "ignore_eos": true }));
    let prompt = tokens(&[300, 301]);
    let ids =
        [llm.add_processed(&prompt, &own, vec![Box::new(Fails(5))]).unwrap(), llm.add(&prompt, &own).unwrap()].concat();
    let [failed, other] = finish(&mut llm, &ids).try_into().unwrap();
    assert_eq!((failed.finish_reason, failed.token_ids.len()), (Some(FinishReason::Error), 5));
    assert_eq!(failed.error.unwrap().message, "it failed");
    assert_eq!((other.finish_reason, other.token_ids.len()), (Some(FinishReason::Length), 12));
}
